"""Recommendations for all users of a prepared log: a Parquet file for each bucket, in a folder.

Buckets are made by an engine, in any order and on any machine; the bytes are the same. A file that
is there is whole, so an interrupted run goes on with the other buckets.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
from threadpoolctl import threadpool_limits

from segue.data.features.catalogue import Profiles
from segue.data.log.events import bucket_events
from segue.data.prepared.manifest import Prepared
from segue.data.prepared.parts import digest_of, table_bytes
from segue.data.values.times import microseconds
from segue.errors import DataError
from segue.folders import DataFolder
from segue.jobs.batch_recommend import (
    EVERYTHING,
    SCHEMA,
    Allowed,
    BatchReport,
    allowed_by,
    batches_of_log,
    job_of,
    lists_of,
)
from segue.jobs.engines import Engine, LocalEngine
from segue.recommend.arguments import check_count
from segue.recommend.index.approximate import open_index
from segue.recommend.lists.options import ListOptions
from segue.recommend.recommender import Recommender, Time

#: What the lists are made of, written first; and the digests of all files, written last.
JOB, LISTS = "job.json", "lists.json"


def recommend_buckets(
    rec: Recommender,
    prepared: Prepared,
    out: str | Path,
    *,
    k: int = 10,
    at: Time = None,
    profiles: Profiles | None = None,
    choice: ListOptions = EVERYTHING,
    index: Path | None = None,
    engine: Engine | None = None,
    report: Callable[[int, int], None] | None = None,
) -> BatchReport:
    """Write the lists of all users of a prepared log into a folder, a file for each bucket.

    The lists are those of `segue.jobs.batch_recommend.recommend_all`. `NNNN.parquet` holds the
    lists of bucket NNNN, and `lists.json` the digest of each file; only a finished run has it.
    Lists of another model, log or options that are in the folder are removed.

    Args:
        rec: makes the lists.
        prepared: the log, from `open_prepared`.
        out: the folder, a path or an address.
        k, at, profiles, choice: as for `recommend_all`.
        index: the path of the model whose index each process opens; None scores all items.
        engine: where the buckets are made; None is this process.
        report: called after each bucket with the buckets done and the buckets in all.

    Raises:
        ArgumentError: k is below 1, or the filter does not fit.
        DataError: a bucket is damaged, or the folder cannot be written or holds other files.

    Cost: O(events x network + users x items) over all processes; memory of a bucket in each.
    """
    check_count(k, "recommend: expected k")
    now, folder = microseconds(at, "at"), DataFolder(str(out))
    held = allowed_by(rec, choice, now)
    job = job_of(rec, k, now, prepared.digest, choice, held) | {"index": index is not None}
    kept = _kept(folder, json.dumps(job).encode(), prepared.buckets)
    left = [number for number in range(prepared.buckets) if number not in kept]
    work = partial(_lister, rec, index, prepared, folder, k, now, held, profiles)
    digests, users = {number: digest_of(folder.read(_name(number))) for number in kept}, 0
    for number, result in (engine or LocalEngine()).map(work, left):
        done = json.loads(result)
        digests[number], users = done["digest"], users + done["users"]
        if report:
            report(len(digests), prepared.buckets)
    folder.write(
        LISTS, json.dumps({**job, "files": {_name(number): digests[number] for number in sorted(digests)}}).encode()
    )
    return BatchReport(users, sum(part.users for run in prepared.runs for part in run.parts) - users)


def _name(number: int) -> str:
    return f"{number:04}.parquet"


def _kept(folder: DataFolder, job: bytes, buckets: int) -> list[int]:
    """Return the buckets that an earlier run of this job finished; files of another job are removed.

    Raises:
        DataError: the folder holds other files.
    """
    names = [name for name in folder.names() if not name.startswith(".") and not name.endswith(".part")]
    if not names:
        folder.write(JOB, job)
        return []
    if JOB not in names:
        raise DataError(
            f"{folder}: expected a new folder, or one of lists, found {names[0]} and no {JOB}. Give another with -o."
        )
    if folder.read(JOB) == job:
        return [number for number in range(buckets) if _name(number) in names]
    for name in [LISTS, *(name for name in names if name.endswith(".parquet"))]:  # first what calls them whole
        folder.remove(name)
    folder.write(JOB, job)
    return []


def _lister(
    rec: Recommender,
    index: Path | None,
    prepared: Prepared,
    folder: DataFolder,
    k: int,
    now: int | None,
    held: Allowed,
    profiles: Profiles | None,
) -> Callable[[int], bytes]:
    """Return a function that writes the lists of a bucket, and returns their digest and users as JSON."""
    rec = rec if index is None else rec.with_index(open_index(rec, index)[0])

    def make(number: int) -> bytes:
        log = bucket_events(prepared, number)
        tables = [pl.DataFrame(schema=SCHEMA)]
        with threadpool_limits(1, "blas"):  # the order of sums, and so the bytes, must not depend on the machine
            for batch in batches_of_log(rec, log, log.users.to_list(), profiles):
                tables.append(lists_of(rec, batch, k, now, rec.vocabulary.ids, held))
        content = table_bytes(pl.concat(tables))
        folder.write(_name(number), content)
        return json.dumps({"digest": digest_of(content), "users": len(log.users)}).encode()

    return make
