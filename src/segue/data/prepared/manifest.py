"""`Prepared`, the manifest of a prepared folder: how the log was read, and the digest of each part."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from segue.addresses import is_server
from segue.data.values.plain import json_of, one_line, whole
from segue.errors import DataError
from segue.folders import DataFolder

FORMAT = 1
MANIFEST = "prepared.json"
#: The buckets of a new folder; a bucket fits into the memory of a worker.
BUCKETS = 64


class BucketPart(NamedTuple):
    """What a run added to a bucket: its events, their users, and the SHA-256 of the file."""

    events: int
    users: int
    digest: str


class SourceFile(NamedTuple):
    """A file of the log: its name, the SHA-256 of its bytes, and its rows."""

    name: str
    digest: str
    rows: int


@dataclass(frozen=True)
class PreparedRun:
    """What one run of `segue prepare` read and wrote.

    Args:
        name: of the files of the run.
        sources: the files that were read, in order.
        dropped: reason -> rows left out.
        out_of_order: rows that are earlier than a row above them, in this run or before.
        notes: decisions on the files, a sentence each.
        span: the earliest and the latest time, None without times.
        items: the SHA-256 of the table of items.
        parts: one for each bucket.
    """

    name: str
    sources: tuple[SourceFile, ...]
    dropped: dict[str, int]
    out_of_order: int
    notes: tuple[str, ...]
    span: tuple[int, int] | None
    items: str
    parts: tuple[BucketPart, ...]


@dataclass(frozen=True)
class Prepared:
    """A prepared folder; `open_prepared` returns it. All but `folder` is in the manifest.

    Args:
        folder: where the files are.
        buckets: the number of buckets.
        columns: role -> column of the log.
        guessed: the roles whose column was guessed.
        context: further columns with their types.
        reading: how to read the next log alike; see `segue.data.log.event_table.reading_to_dict`.
        rule: how times are read, as plain values; None without times.
        time: the same in words.
        runs: the runs that made the folder, in order.
    """

    folder: DataFolder
    buckets: int
    columns: dict[str, str]
    guessed: tuple[str, ...]
    context: dict[str, str]
    reading: dict[str, Any]
    rule: dict[str, Any] | None
    time: str
    runs: tuple[PreparedRun, ...]

    @property
    def source(self) -> str:
        """What messages and models call the log."""
        return name_of([source.name for run in self.runs for source in run.sources])

    @property
    def events(self) -> int:
        """The number of events."""
        return sum(part.events for run in self.runs for part in run.parts)

    @property
    def rows(self) -> int:
        """The rows of the log, with those that were left out."""
        return sum(source.rows for run in self.runs for source in run.sources)

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        """The files of the log, in order."""
        return tuple(source for run in self.runs for source in run.sources)

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> rows left out by all runs."""
        total: Counter[str] = Counter()
        for run in self.runs:
            total.update(run.dropped)
        return dict(total)

    @property
    def events_of_buckets(self) -> list[int]:
        """The number of events of each bucket."""
        return [sum(run.parts[number].events for run in self.runs) for number in range(self.buckets)]

    @cached_property
    def digest(self) -> str:
        """A text that differs where the folder holds something else: the SHA-256 of the manifest."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def span(self) -> tuple[int, int] | None:
        """The earliest and the latest time, None without times."""
        spans = [run.span for run in self.runs if run.span is not None]
        return (min(span[0] for span in spans), max(span[1] for span in spans)) if spans else None

    def to_json(self) -> bytes:
        """Return the manifest."""
        fields = {name: value for name, value in asdict(self).items() if name != "folder"}
        return json.dumps({"format": FORMAT, **fields}, ensure_ascii=False, separators=(",", ":")).encode()


def name_of(names: list[str]) -> str:
    """Return what messages call a log of several files.

    Example:
        >>> name_of(["a.csv"]), name_of(["a.csv", "b.csv", "c.csv"])
        ('a.csv', 'a.csv and 2 more')
    """
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def part_name(bucket: int, run: str) -> str:
    """Return the name of the file with the events of a bucket that a run prepared."""
    return f"buckets/{bucket:04}/{run}.parquet"


def items_name(run: str) -> str:
    """Return the name of the file with the items of a run."""
    return f"items/{run}.parquet"


def is_prepared(source: object) -> bool:
    """Return whether a source is a folder that `segue prepare` wrote, or an address of one.

    An address counts without a look at it: `open_prepared` says what is wrong there.
    """
    if not isinstance(source, str | Path):
        return False
    path = DataFolder(str(source)).path
    return not is_server(source) if path is None else (path / MANIFEST).is_file()


def open_prepared(folder: str | Path) -> Prepared:
    """Return the manifest of a prepared folder.

    Args:
        folder: its path, or an address such as s3://bucket/plays.

    Raises:
        DataError: the folder does not answer, holds no manifest, or one that is invalid or newer.

    Cost: O(runs x buckets).
    """
    where = DataFolder(str(folder))
    if not where.has(MANIFEST):
        raise DataError(
            f"{where}: expected a folder that segue prepare wrote, found no {MANIFEST}. "
            "Check the path; an unfinished run has none: run segue prepare again."
        )
    try:
        return _prepared(where, json_of(where.read(MANIFEST)))
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{where}: expected the manifest of a prepared folder, {MANIFEST} is invalid: {one_line(error)}. "
            "Prepare the log again into another folder."
        ) from None


def _prepared(folder: DataFolder, fields: Any) -> Prepared:
    found: Mapping[str, Any] = TypeAdapter(dict[str, Any]).validate_python(fields)
    if whole(found["format"], "format") > FORMAT:
        raise DataError(
            f"{folder}: expected a prepared folder of format {FORMAT}, came format {found['format']}. Update Segue."
        )
    runs = TypeAdapter(tuple[PreparedRun, ...]).validate_python(found["runs"])
    buckets = whole(found["buckets"], "buckets", 1, 100_000)
    if not runs or len({run.name for run in runs}) < len(runs) or any(len(run.parts) != buckets for run in runs):
        raise ValueError(f"runs: expected {buckets:,} parts in each of at least one run, names that differ")
    names = ("columns", "guessed", "context", "reading", "rule", "time")
    return TypeAdapter(Prepared).validate_python(
        {"folder": folder, "buckets": buckets, "runs": runs} | {name: found[name] for name in names}
    )
