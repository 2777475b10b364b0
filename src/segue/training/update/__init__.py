"""One update of the weights: from a window of events to new weights."""
