"""Online baselines: each ranks an event from what is strictly earlier, then learns the event.

Knows: events as numbers in the order of time, counts that decay, windows of sessions, how settings
are tuned.
Does not know: models, ids, or the report.

The path: `stream_log` says of each event what is strictly earlier. `read_on` takes a baseline along
the log (`decayed_counts`, `neighbours` over a `session_window`). `tuning` does so on the last part
of the training events.
"""
