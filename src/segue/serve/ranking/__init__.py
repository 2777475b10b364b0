"""From a user's state to a list of items.

The path: `list_requests` takes the requests of a batch; `candidates` chooses the rows to score, scores
them, and excludes seen items, excluded ids, filtered items and what `item_filters` holds back (stock,
blocks); `rerank` applies pins, boosts, diversity and exploration; `event_ranks` finds where new events
stood. `types` are requests and answers.
Does not know: HTTP, stores, where a state comes from.
"""
