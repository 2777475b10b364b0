"""A log prepared for many machines: clean events in a folder, users hashed into buckets.

Knows: the files of such a folder, their digests, the bucket of a user.
Does not know: how a log is read and cleaned (`segue.data.log`), who prepares it
(`segue.jobs.prepare`).

To read a folder:

    prepared = open_prepared("plays.prepared")       # manifest: a path or an address
    for number in range(prepared.buckets):
        events = bucket_events(prepared, number)     # Events of some users, in the order of the log
    vocabulary = Vocabulary(items_of(prepared)["item"])   # with "count"; order of first appearance

`open_prepared` is in `manifest`, `items_of` in `items`, `bucket_events` in
`segue.data.log.events`. A user is in one bucket, so each user's history is whole there.
`read_events(folder)` returns the same `Events` as `read_events(log)`.

The folder holds:

    prepared.json                    the manifest, written last: columns, runs, digests of all parts
    items/RUN.parquet                item, count, and the time and place of its first event
    buckets/0007/RUN.parquet         the events of bucket 7 that a run prepared, in order

Each run of `segue prepare` adds one file to each bucket. Its columns are those of `Events`, and
`segue.place`, the order of the log: the number of the file, then of the row. Files that the
manifest does not name do not count.
"""
