"""One update: from a window of events to new weights.

Knows: input dropout (`dropout`), drawn negatives (`negatives`), seen items (`seen_mask`), the
losses (`losses`), AdamW (`optimiser`), row-sparse tables (`sparse_rows`); `update` puts them
together as one pure function.
Does not know: where windows come from, epochs, files.
"""
