"""From a log to arrays: events, vocabularies, sequences, batches, splits."""
