"""What a list was worth: pure functions of arrays, used by the trainer, the evaluator and the service alike.

    ranks.py                where an item stands among all items, and who decides between equal scores
    metrics.py              what a rank or a list is worth
    bootstrap.py            how sure a difference is
    comparison.py           whether one model may replace another
    coordinate_search.py    the best settings of a simple model, one setting at a time

Knows: scores, rows, ranks.
Does not know: models, logs, or where the numbers are printed.
"""
