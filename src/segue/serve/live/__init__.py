"""The service without HTTP: events in, states on, lists out.

`service` is the facade; `Service.ingest` is the way of an event. `ingest` plans a batch, `replay` reads
or rebuilds a state from the log, `rollout` says which model answers whom, `catalogue_overrides` keeps
changes of items and rules, `explain` gives reasons, `online_metrics` counts ranks.
Does not know: HTTP, how a store keeps its promises.
"""
