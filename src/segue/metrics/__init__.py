"""Metrics: pure functions of arrays, used by training, evaluation and serving alike.

    ranks.py       the rank of a target among all items, and how ties count
    metrics.py     metrics of ranks, lists and ratings
    bootstrap.py   confidence intervals of differences
    comparison.py  whether one model may take the place of another
    coordinate_search.py  the best settings of a simple model, one setting at a time

The path through it: scores become ranks, ranks become a number per query, and numbers a mean with
its interval.

Knows: scores, rows, ranks.
Does not know: models, logs, reports.
"""
