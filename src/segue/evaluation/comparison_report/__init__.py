"""The report of one or several models as plain numbers and as one page that needs nothing else.

Knows: the ranks and lists of models on the same held-out events, and what a page and a gate make of
them.
Does not know: how a model ranks, or how it was trained.

The path: `compared` holds ranks and lists. `pairs`, `slices`, `lists` and `cases` turn them into
numbers; `numbers` puts these into one dictionary, that of `report.json`. `page` and `figures` show
the dictionary, `gate` compares it with a condition, and `report` is what callers hold.
"""
