"""Offline work on a store: import and export of logs, lists for all users, retraining.

Knows: stores, logs, recommenders, and how long work is resumed after a crash.
Does not know: HTTP; how a store keeps events; how a list is made.

The path: `import_export` puts a log into a store and reads the log back (`event_frames` turns
events into tables). `retrain` trains on that log and publishes the model if it is not worse.
`batch_recommend` writes the lists of all users to a file (`resumable_parquet`). `tune` searches
settings on a log.
"""
