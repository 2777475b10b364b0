"""Work on a store beside its server: import and export of logs, lists for all users, retraining, streams.

Knows: stores, logs, recommenders, and how long work is resumed after a crash.
Does not know: how a store keeps events; how a list is made.

The path: `import_export` puts a log into a store and reads the log back (`event_frames` turns
events into tables). `retrain` trains on that log and publishes the model if it is not worse.
`batch_recommend` writes the lists of all users to a file (`resumable_parquet`). `tune` searches
settings on a log. `consume` puts the events of a stream into a store or a server; `kafka` is such a
stream.
"""
