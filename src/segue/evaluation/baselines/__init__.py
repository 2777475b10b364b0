"""Simple models that a trained model must beat, each with settings tuned on the training events.

Knows: sequences of rows, counts, features of items.
Does not know: networks, or how held-out events become queries.

The path: a `Baseline` (`contract`) is a frozen dataclass of settings. Its `count` reads the
log, and `of_counts` makes a `Fitted` of the counts, which scores any history. `tuning` finds the
settings; `separate_process` keeps a crash away from the report. `rating_baselines` predict ratings.
"""
