"""From a user's state to a list of items, in Python and on a server alike.

The path: `options` says what list is wanted; `candidates` chooses the rows to score, scores them, and hides seen items,
excluded ids, what a filter does not let pass and what `item_filters` holds back (stock, blocks); `rerank` applies pins,
boosts, diversity and exploration. `explain` says what each event did for a score.
Does not know: HTTP, stores, where a state comes from.
"""
