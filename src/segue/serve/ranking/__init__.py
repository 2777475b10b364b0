"""Lists and ranks of a server, by model.

The path: `list_requests` takes the requests of a batch, and has `segue.recommend.lists` make the lists in one product
with the ranks; `event_ranks` finds where new events stood, `online_metrics` sums up. `types` are requests and answers.
Does not know: HTTP, stores, where a state comes from.
"""
