"""Trends: what everybody does now, which moves every list between two trainings.

Knows: which events count (`moves`), the counts as a value (`trends`), how counts become scores
(`ranker`). Does not know: the model, states, stores.

The path: the events of a user become moves, moves are added to the counts, a request asks the
counts for candidates, and the ranker scores them.
"""
