"""`Events`, the log as all of Segue takes it, and `read_events`, which reads it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from segue.addresses import shown
from segue.data.log.event_table import read_log
from segue.data.log.findings import Findings, Intake, inspect_table
from segue.data.log.prepared_log import prepared_log
from segue.data.log.sources import Reading
from segue.data.prepared.manifest import Prepared, is_prepared, open_prepared
from segue.data.values.ids import ids_of
from segue.data.values.times import EARLIEST, LATEST, iso
from segue.errors import ArgumentError, ColumnError, DataError

__all__ = ["Events", "Findings", "Intake", "Reading", "inspect", "read_events"]

_PLAIN = Reading()
_IDS = (pl.Categorical, pl.String)


@dataclass(frozen=True, eq=False)
class Events:
    """A log in order: by time, rows of equal time in the order of the file.

    `read_events` makes it; a table that already has these columns can be given directly.

    Args:
        table: `user` and `item` (text: Categorical or String), `time` (Int64, microseconds since
            1970 in UTC; absent in a log without times), and where the log has them `rating`
            (Float32, null where missing), `type` and `id` (String) and context columns.
        source: what messages and reports call the log.
        intake: how the log was read.
        history: the earlier events of the users of a test part, see `segue.data.log.split`.
        places: int[event], the place of each row in the file, or in the log that a part and its
            history were cut from; None where the rows are in that order.

    Raises:
        ColumnError: a column is missing, has another type, or has an id or time without a value.
        DataError: the rows are not in the order of time, or a time is not in microseconds.

    Example:
        >>> log = Events(pl.DataFrame({"user": ["ann", "bob"], "item": ["17", "007"], "time": [0, 5]}))
        >>> len(log), log.has_times
        (2, True)
        >>> log
        Events(table: 2 events, 1970-01-01T00:00:00Z to 1970-01-01T00:00:00.000005Z)
    """

    table: pl.DataFrame
    source: str = "table"
    intake: Intake = field(default_factory=Intake)
    history: "Events | None" = None
    places: pl.Series | None = None

    def __post_init__(self) -> None:
        expected: Mapping[str, tuple[object, ...]] = {"user": _IDS, "item": _IDS, "time": (pl.Int64,)}
        for name, kinds in expected.items():
            if name not in self.table.columns:
                if name == "time":
                    continue
                raise ColumnError(
                    f'{self.source}: expected a column "{name}", found {", ".join(self.table.columns)}. '
                    "Use read_events, which finds and renames columns."
                )
            column = self.table[name]
            if column.dtype not in kinds or column.null_count():
                wanted = " or ".join(str(kind) for kind in kinds)
                raise ColumnError(
                    f"{self.source}: expected {name} as {wanted} without nulls, came {column.dtype} "
                    f"with {column.null_count():,} nulls. Use read_events, which converts it."
                )
        if self.has_times and not self.table["time"].is_sorted():
            raise DataError(
                f"{self.source}: expected rows in the order of time, some are earlier than the row above. "
                'Sort them (table.sort("time", maintain_order=True)) or use read_events.'
            )
        if self.has_times and len(self) and not EARLIEST <= self.table["time"][0] <= self.table["time"][-1] <= LATEST:
            raise DataError(
                f"{self.source}: expected times in microseconds since 1970, from year 1 to year 9999, came "
                f"{self.table['time'][0]:,} to {self.table['time'][-1]:,}. Use read_events, which finds the unit."
            )

    def __len__(self) -> int:
        return self.table.height

    def __repr__(self) -> str:
        span = ", no times"
        if self.has_times:
            time = self.table["time"]
            span = f", {iso(time[0])} to {iso(time[-1])}" if len(self) else ""
        return f"Events({self.source}: {len(self):,} events{span})"

    @property
    def has_times(self) -> bool:
        """Whether the events have times."""
        return "time" in self.table.columns

    @property
    def users(self) -> pl.Series:
        """The distinct user ids as text, in order of first appearance. Cost: O(events)."""
        return self.table["user"].unique(maintain_order=True).cast(pl.String)

    @cached_property
    def findings(self) -> Findings:
        """What the log holds, counted at the first use. Cost: O(events)."""
        return inspect_table(self.table, source=self.source, intake=self.intake)

    def as_text(self) -> pl.DataFrame:
        """Return the table with ids as plain String columns, to join with other tables."""
        return self.table.with_columns(pl.col("user", "item").cast(pl.String))

    def with_table(
        self,
        table: pl.DataFrame,
        *notes: str,
        history: "Events | None" = None,
        places: pl.Series | None = None,
    ) -> "Events":
        """Return a part of this log: its rows, and notes on how they were chosen."""
        return replace(self, table=table, intake=self.intake.part(table.height, *notes), history=history, places=places)

    def joined_with_history(self) -> "Events":
        """Return history and rows as one log, in order; at equal times the history comes first.

        Example:
            >>> log = Events(pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"], "time": [1, 2]}))
            >>> later = log.with_table(log.table[1:], history=log.with_table(log.table[:1]))
            >>> later.joined_with_history().table["item"].to_list()
            ['x', 'y']
        """
        return self if self.history is None else self.joined_with_marks()[0]

    def joined_with_marks(self) -> tuple["Events", pl.Series]:
        """Return history and rows as one log, in order, and bool[event], false for history.

        Where both have `places`, these are the order. Otherwise the order is that of time; at equal
        times, and in a log without times, the history comes first.

        Example:
            >>> log = Events(pl.DataFrame({"user": ["a"] * 3, "item": ["x", "y", "z"]}))
            >>> before = log.with_table(log.table[1:2], places=pl.Series([1]))
            >>> part = log.with_table(log.table[::2], history=before, places=pl.Series([0, 2]))
            >>> joined, is_row = part.joined_with_marks()
            >>> joined.table["item"].to_list(), is_row.to_list()
            (['x', 'y', 'z'], [True, False, True])
        """
        if self.history is None:
            return self, pl.repeat(True, len(self), dtype=pl.Boolean, eager=True)
        same = {"user": self.table["user"].dtype, "item": self.table["item"].dtype}
        earlier = self.history.joined_with_history()
        is_row = pl.Series(np.arange(len(earlier) + len(self)) >= len(earlier))
        table = pl.concat([earlier.table.cast(same), self.table], how="diagonal")  # type: ignore[arg-type]
        key = table["time"] if self.has_times else None
        if self.places is not None and earlier.places is not None:
            key = pl.concat([earlier.places, self.places])
        if key is not None:
            order = key.to_frame("key").with_row_index().sort("key", maintain_order=True)["index"]
            table, is_row = table[order], is_row[order]
        return self.with_table(table, "history and later rows together"), is_row


def inspect(events: Events) -> Findings:
    """Return what a log holds and what was dropped, for people (`str`) and machines (`to_dict`).

    Raises:
        ArgumentError: `events` is a path or a table that was not read.

    Cost: O(events) time and memory at the first call, O(1) after.

    Example:
        >>> log = read_events(pl.DataFrame({"user": [1, 1, 2], "item": [5, 5, 7], "time": [0, 60, 60]}))
        >>> findings = inspect(log)
        >>> findings.users, findings.items, findings.repeats
        (2, 2, 1)
    """
    return as_events(events, "inspect").findings


def as_events(given: object, name: str) -> Events:
    """Return an argument that must be a log.

    Args:
        name: what messages call the function.

    Raises:
        ArgumentError: the argument is a path, a table or anything else.
    """
    if isinstance(given, Events):
        return given
    raise ArgumentError(
        f"{name}: expected events, came {type(given).__name__}. Read the log first: segue.read_events(path or table)."
    )


def read_events(
    source: object,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    rating: str | None = None,
    type: str | None = None,
    id: str | None = None,
    missing: Iterable[str] | None = None,
    reading: Reading | None = None,
    like: Mapping[str, Any] | None = None,
) -> Events:
    """Read a log of events, check it, and put it in order.

    Columns are guessed from their names, or by position and content in a file without a header,
    unless they are named here; `events.intake` says what was guessed.

    Ids are text without the blanks around them: `007` stays `007`, 64-bit integers stay whole. A
    column of floats, which pandas makes of integers with gaps, is whole numbers: 17.0 is "17", NaN
    is missing.

    Times are epoch seconds, milliseconds, microseconds or nanoseconds (by magnitude), ISO 8601, a
    column of dates, whole numbers that write dates (20240131), or a given format; no zone means UTC.

    Rows without a user, item or time are left out, counted and reported. A few ratings that are no
    numbers count as missing and are reported. All else that cannot be read is an error. Rows count
    from 1, without the header.

    Args:
        source: a path (CSV, TSV, NDJSON, each also .gz or .zst; Parquet), or a table of Polars,
            pandas or Arrow; or a folder that `segue prepare` wrote, by path or address, which takes
            no other arguments.
        user, item: the columns' names.
        time: the column's name, or "none" for a log without times, whose rows are in order.
        rating, type, id: the columns' names, or "none" to leave a column out that would be guessed.
        missing: words that mean a missing value, such as "NULL"; None takes those of `reading`.
        reading: how the file is written, where that is unusual.
        like: how an earlier log was read, as a model keeps it in `rec.facts["reading"]`. It fills
            the arguments that are left out, where the source has such columns.

    Returns:
        The events in the order of time; rows of equal time stay in the order of the file.

    Raises:
        DataError: the file is missing, empty, damaged, of an unknown kind or encoding, or no row
            is left.
        ColumnError: a column is missing, doubled, or of a wrong type.
        TimeParseError: a time cannot be read, or is in another unit than the others; the message
            names the row and the text.
        ArgumentError: `source` is neither a path nor a table, or a prepared folder with columns.

    Cost: O(events log events); memory about twice the result while it is sorted.

    Example:
        >>> table = pl.DataFrame({"userId": ["007", "b"], "sku": ["x", "y"], "ts": [1700000060, 1700000000]})
        >>> log = read_events(table)
        >>> log.table["user"].to_list(), log.intake.columns["item"], log.intake.out_of_order
        (['b', '007'], 'sku', 1)
    """
    reading = reading or _PLAIN
    reading = reading if missing is None else replace(reading, missing=tuple(ids_of(missing, "missing")))
    requested = {"user": user, "item": item, "time": time, "rating": rating, "type": type, "id": id}
    if is_prepared(source):
        given = [name for name, column in requested.items() if column is not None] + ["reading"] * (reading != _PLAIN)
        if given:
            raise ArgumentError(
                f"{shown(str(source))}: expected no options for columns, a prepared folder has its own; came one for "
                f"{given[0]}. Leave it out."
            )
        log = prepared_log(open_prepared(str(source)))
    else:
        log = read_log(source, requested, reading, like or {})
    return Events(log.table, log.source, log.intake, places=log.places)


def bucket_events(prepared: Prepared, number: int) -> Events:
    """Return the events of the users in one bucket of a prepared folder, in the order of the log.

    Their `places` order the events of several buckets.

    Args:
        prepared: from `open_prepared`.
        number: from 0 to `prepared.buckets` - 1; a bucket may have no events.

    Raises:
        DataError: a file of the bucket is missing or damaged.

    Cost: O(events of the bucket) time and memory.
    """
    log = prepared_log(prepared, number)
    return Events(log.table, log.source, log.intake, places=log.places)
