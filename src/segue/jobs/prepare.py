"""A log of any size into a prepared folder, in the memory of a batch and of a bucket.

`prepare` opens the files and decides once how they are read, as `read_events` does. Then an engine
splits each file by buckets of users (`split_file`), and writes each bucket (`write_bucket`). The
manifest comes last: what a run left unfinished does not count.
"""

import hashlib
import io
import itertools
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from segue.data.log.columns import NONE, ROLES
from segue.data.log.event_table import (
    OpenLog,
    check_some,
    cleaned,
    complete,
    count_late,
    mixed_units,
    open_log,
    read_alike,
    reading_to_dict,
    settled,
    time_rule,
)
from segue.data.log.sources import Reading, open_source
from segue.data.prepared.items import count_items, merged_items
from segue.data.prepared.manifest import (
    BUCKETS,
    MANIFEST,
    BucketPart,
    Prepared,
    PreparedRun,
    SourceFile,
    items_name,
    name_of,
    open_prepared,
    part_name,
)
from segue.data.prepared.parts import PLACE, ROWS, bucket_numbers, bucket_table, digest_of, in_order, table_bytes
from segue.data.values.ids import CleanIds, merged_ids
from segue.data.values.times import EARLIEST, LATEST, TimeRule
from segue.errors import ArgumentError, ColumnError, DataError, listed
from segue.folders import DataFolder
from segue.jobs.engines import Engine, LocalEngine

#: Rows that are read at once.
_BATCH = 250_000
#: The key of what a file's reading noted.
_NOTED = -1
_BUCKET = "segue.bucket"
_IDS = ("user", "item")


class FileTask(NamedTuple):
    """A file to split: its number in the log, how it is read, role -> expression, the buckets."""

    number: int
    log: OpenLog
    plan: dict[str, pl.Expr]
    buckets: int


@dataclass
class FileNotes:
    """What the reading of a file counts, batch by batch: rows, nulls by role, rows left out, rows out of order."""

    number: int
    nulls: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    ids: dict[str, CleanIds] = field(default_factory=dict)
    rows: int = 0
    late: int = 0
    span: tuple[int, int] | None = None

    def cleaned(self, batch: pl.DataFrame, missing: Sequence[str]) -> pl.DataFrame:
        """Return the complete rows of a batch with clean ids, counted."""
        self.rows += batch.height
        self.nulls.update({role: batch[role].null_count() for role in ("time", "rating") if role in batch.columns})
        rows, clean = cleaned(batch, missing)
        so_far = [self.ids] if self.ids else []
        self.ids = {role: merged_ids([each[role] for each in (*so_far, clean)]) for role in _IDS}
        rows, dropped = complete(rows)
        self.dropped.update(dropped)
        if "time" in rows.columns and rows.height:
            earliest, latest = self.span or (LATEST, EARLIEST)
            late, latest = count_late(rows["time"], latest)
            self.late, self.span = self.late + late, (min(earliest, int(rows["time"].to_numpy().min())), latest)
        return rows


class WrittenBucket(NamedTuple):
    """A bucket that was written, and its items (`count_items`)."""

    bucket: int
    part: BucketPart
    items: pl.DataFrame


def prepare(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    requested: Mapping[str, str | None] | None = None,
    reading: Reading | None = None,
    buckets: int | None = None,
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> Prepared:
    """Prepare the files of a log, or add files to a prepared folder, and return the folder.

    `read_events(out)` then returns what `read_events` returns of one file that holds the rows of
    all, in the order given. Rows out of order are counted within a file. A file whose bytes were
    prepared before is left out.

    Args:
        sources: paths of files with the same columns.
        out: the folder, a path or an address; a folder that is there is added to.
        requested: role -> column, "none", or None to guess, as for `read_events`.
        reading: how the files are written.
        buckets: of a new folder; None takes 64. A bucket must fit into the memory of a worker.
        engine: where the work runs; None is this process. Every engine writes the same bytes.
        say: called with lines to show.

    Raises:
        DataError: a file cannot be read, or the folder cannot be written or holds other files.
        ColumnError: the files differ in their columns.
        TimeParseError: a time cannot be read.
        ArgumentError: no file is given, or other buckets than the folder has.

    Cost: O(events log events) time; memory of a batch, a bucket and the distinct items.
    """
    say, folder = say or (lambda text: None), DataFolder(str(out))
    before = open_prepared(out) if folder.has(MANIFEST) else None
    _check(sources, folder, before, buckets)
    files = _new_files(sources, before, say)
    if not files and before is not None:
        return before
    logs, head = _opened([*files.values()], requested or {}, reading or Reading(), before)
    head = head if before else replace(head, folder=folder, buckets=buckets or BUCKETS)
    name = f"{len(head.runs):05}-{digest_of(''.join(files).encode())[:12]}"
    gather = partial(_gather, head, name, logs, engine or LocalEngine())
    rule = time_rule(logs[0]) if before is None else TimeRule(**before.rule) if before.rule else None
    gathered, rule, unread = settled(logs, rule, gather, ids=pl.String)
    run = _run(head, name, logs, [*files], gathered, unread)
    made = replace(head, rule=asdict(rule) if rule else None, time=rule.words if rule else "", runs=(*head.runs, run))
    if rule is not None and (mixed := _mixed_units(made, logs, rule)):
        made = replace(made, runs=(*head.runs, replace(run, notes=(*run.notes, *mixed))))
    if folder.has(MANIFEST) and (before is None or open_prepared(out).digest != before.digest):
        raise DataError(f"{folder}: expected no other run meanwhile, {MANIFEST} has changed. Run segue prepare again.")
    folder.write(MANIFEST, made.to_json())
    return made


def split_file(task: FileTask) -> Iterator[tuple[int, bytes]]:
    """Yield bucket -> clean rows of a file as Arrow bytes, a batch after the other; at last the notes."""
    log, notes = task.log, FileNotes(task.number)
    context = {name: pl.col(name) for name in log.context}
    frame = log.source.frame.select(**task.plan, **context).with_row_index(PLACE)
    with log.source.explained():
        empty = frame.collect_schema().to_frame()
        batches = frame.collect_batches(chunk_size=_BATCH, maintain_order=True, engine="streaming")
        for batch in itertools.chain([empty], batches):
            rows = notes.cleaned(batch, log.reading.missing)
            place = pl.col(PLACE).cast(pl.Int64) + task.number * ROWS
            rows = rows.with_columns(place, pl.Series(_BUCKET, bucket_numbers(rows["user"], task.buckets)))
            if batch is empty:  # every bucket gets a file, with all columns
                yield from ((number, _piece(rows.drop(_BUCKET))) for number in range(task.buckets))
            for (number,), part in rows.partition_by(_BUCKET, as_dict=True, include_key=False).items():
                yield int(number), _piece(part)
    yield _NOTED, pickle.dumps(notes)


def write_bucket(folder: DataFolder, run: str, bucket: int, pieces: list[bytes]) -> bytes:
    """Write the events of a bucket, in order; return a pickled `WrittenBucket`, or the notes on all files."""
    if bucket == _NOTED:
        return pickle.dumps([pickle.loads(notes) for notes in pieces])
    table = in_order(pl.concat([pl.read_ipc(io.BytesIO(piece)) for piece in pieces]))
    content = table_bytes(table)
    folder.write(part_name(bucket, run), content)
    part = BucketPart(table.height, table["user"].n_unique(), digest_of(content))
    return pickle.dumps(WrittenBucket(bucket, part, count_items(table)))


def _check(sources: Sequence[str | Path], folder: DataFolder, before: Prepared | None, buckets: int | None) -> None:
    if not sources:
        raise ArgumentError("prepare: expected at least one log, came none. Name its files.")
    if buckets is not None and before is not None and buckets != before.buckets:
        raise ArgumentError(
            f"--buckets: expected the {before.buckets:,} of {folder}, came {buckets:,}. "
            "Leave it out to add to the folder, or prepare into another."
        )
    others = [] if before else [name for name in folder.names() if name not in ("buckets", "items")]
    if others or (folder.path is not None and folder.path.is_file()):
        raise DataError(
            f"{folder}: expected a new, empty or prepared folder, found {others[0] if others else 'a file'}. "
            "Give another with -o."
        )


def _new_files(sources: Sequence[str | Path], before: Prepared | None, say: Callable[[str], None]) -> dict[str, Path]:
    """Return digest -> path of the files that were not prepared before."""
    known, files = {source.digest for source in before.sources} if before else set(), dict[str, Path]()
    for path in map(Path, sources):
        if not path.is_file():
            open_source(path, Reading())  # says what is wrong with it
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest in known or digest in files:
            say(f"{path.name}: prepared before, the same bytes; left out.")
        else:
            files[digest] = path.absolute()
    return files


def _opened(
    paths: list[Path], requested: Mapping[str, str | None], reading: Reading, before: Prepared | None
) -> tuple[list[OpenLog], Prepared]:
    """Return the opened files, each with the columns of the first, and a folder without a run of them.

    Raises:
        ColumnError: a file lacks a column, or has one of another type.
    """
    logs, head, wanted = list[OpenLog](), before, requested
    for path in paths:
        if head is not None:
            wanted = {role: requested.get(role) or head.columns.get(role, NONE) for role in ROLES}
            reading = replace(reading, context=tuple(head.context))
        log = read_alike(partial(open_log, path, wanted), reading, head.reading if head else {})
        columns, context = dict(log.chosen.columns), {name: str(log.schema[name]) for name in log.context}
        if head is None:
            how = reading_to_dict(log.reading, columns, log.context, requested)
            head = Prepared(DataFolder(""), 1, columns, log.chosen.guessed, context, how, None, "", ())
        if columns.keys() != head.columns.keys() or context != head.context:
            raise ColumnError(
                f"{path.name}: expected the columns of the files before it, "
                f"{listed([*head.columns, *_typed(head.context)])}, came {listed([*columns, *_typed(context)])}. "
                "Name them alike, or prepare it into another folder."
            )
        logs.append(log)
    assert head is not None
    return logs, head


def _typed(context: Mapping[str, str]) -> list[str]:
    return [f"{name} ({kind})" for name, kind in context.items()]


class _Gathered(NamedTuple):
    """The notes on the files in order, and what was written."""

    notes: list[FileNotes]
    written: list[WrittenBucket]


def _gather(
    head: Prepared, run: str, logs: list[OpenLog], engine: Engine, plans: list[dict[str, pl.Expr]]
) -> tuple[_Gathered, list[Mapping[str, int]]]:
    tasks = [
        FileTask(len(head.sources) + number, log, plan, head.buckets)
        for number, (log, plan) in enumerate(zip(logs, plans, strict=True))
    ]
    notes, written = list[FileNotes](), list[WrittenBucket]()
    write = partial(write_bucket, head.folder, run)
    for result in map(pickle.loads, engine.map_reduce(split_file, tasks, write, head.buckets + 1)):
        if isinstance(result, WrittenBucket):
            written.append(result)
        else:
            notes += result
    notes.sort(key=lambda each: each.number)
    written.sort(key=lambda each: each.bucket)
    return _Gathered(notes, written), [each.nulls for each in notes]


def _run(
    head: Prepared, name: str, logs: list[OpenLog], digests: list[str], gathered: _Gathered, unread: list[str]
) -> PreparedRun:
    """Write the items of a run, and return the run.

    Raises:
        DataError: no row is left.
    """
    notes, dropped = gathered.notes, Counter[str]()
    for each in notes:
        dropped.update(each.dropped)
    names, rows = [log.source.name for log in logs], [each.rows for each in notes]
    check_some(name_of(names), head.columns, sum(rows), sum(part.events for _, part, _ in gathered.written), dropped)
    clean = {role: merged_ids([each.ids[role] for each in notes]) for role in _IDS}
    said = [note for log in logs for note in log.source.notes] + [note for log in logs for note in log.chosen.notes]
    said += [*unread, *clean["user"].notes("user"), *clean["item"].notes("item")]
    items = table_bytes(merged_items([each.items for each in gathered.written]))
    head.folder.write(items_name(name), items)
    spans = [each.span for each in notes if each.span is not None]
    return PreparedRun(
        name=name,
        sources=tuple(map(SourceFile, names, digests, rows)),
        dropped={why: dropped[why] for why in ("no user", "no item", "no time") if dropped[why]},
        out_of_order=sum(each.late for each in notes),
        notes=tuple(dict.fromkeys(said)),
        span=(min(span[0] for span in spans), max(span[1] for span in spans)) if spans else None,
        items=digest_of(items),
        parts=tuple(each.part for each in gathered.written),
    )


def _mixed_units(made: Prepared, logs: list[OpenLog], rule: TimeRule) -> list[str]:
    """Return a note on times in another unit; times that lie together need no second look."""
    if made.span is None or made.span[0] >= made.span[1] / 4:
        return []
    times = [bucket_table(made, number)["time"] for number in range(made.buckets)]  # eight bytes an event
    return mixed_units(logs, pl.concat(times).sort(), rule)


def _piece(rows: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.write_ipc(buffer, compression="lz4")
    return buffer.getvalue()
