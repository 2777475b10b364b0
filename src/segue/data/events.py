"""The event log: reading it, checking it, and the one shape in which the rest of Segue takes it.

Knows: users, items, times, and what is wrong with a row.
Does not know: vocabularies, sequences, networks.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from segue.data.columns import (
    Chosen,
    candidates,
    choose_columns,
    find_column,
    hints_by_position,
    hints_by_type,
    listed,
    option_of,
)
from segue.data.findings import Findings, Intake, inspect_table, iso
from segue.data.ids import check_ids, ids_of, seems_missing, settle, text_of_ids
from segue.data.recalling import kept, recalled
from segue.data.sources import Reading, Source, open_source, without_words
from segue.data.times import EARLIEST, LATEST, TimeRule, other_units, unit_of
from segue.errors import ColumnError, DataError, TimeParseError

__all__ = ["Events", "Findings", "Intake", "Reading", "inspect", "read_events"]

_SAMPLE = 1_000
#: Up to this share of ratings may be no numbers.
_FEW = 0.25
_PLAIN = Reading()
_IDS = (pl.Categorical, pl.String)


@dataclass(frozen=True, eq=False)
class Events:
    """A log in order: by time, rows of equal time as they stood in the file.

    `read_events` makes it; a table that already has this shape can be given directly.

    Args:
        table: `user` and `item` (text: Categorical or String), `time` (Int64, microseconds since 1970 in
            UTC; absent in a log without times), and where the log has them `rating` (Float32, null where
            missing), `type` and `id` (String) and context columns.
        source: what messages and reports call the log.
        intake: what was noted while it was read.
        history: what the users of a test part did before, see `segue.data.split`.
        places: int[event], where each row stood in the file, or in the log that part and history were cut from; None
            where that is their order.

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
        """Whether the log says when things happened."""
        return "time" in self.table.columns

    @property
    def users(self) -> pl.Series:
        """The distinct user ids as text, in the order in which they first appear. Cost: O(events)."""
        return self.table["user"].unique(maintain_order=True).cast(pl.String)

    @cached_property
    def findings(self) -> Findings:
        """What the log holds, counted at the first call. Cost: O(events)."""
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
        """Return a part of this log: other rows, the same source, and notes on how they were chosen."""
        return replace(self, table=table, intake=self.intake.part(table.height, *notes), history=history, places=places)

    def joined_with_history(self) -> "Events":
        """Return history and own rows as one log, in order; at equal times history stands first.

        Example:
            >>> log = Events(pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"], "time": [1, 2]}))
            >>> later = log.with_table(log.table[1:], history=log.with_table(log.table[:1]))
            >>> later.joined_with_history().table["item"].to_list()
            ['x', 'y']
        """
        return self if self.history is None else self.joined_with_marks()[0]

    def joined_with_marks(self) -> tuple["Events", pl.Series]:
        """Return history and own rows as one log, in order, and bool[event]: which rows are its own.

        Where both know their `places`, these are the order. Otherwise time is, and at equal times, or in a
        log without times, history stands first.

        Example:
            >>> log = Events(pl.DataFrame({"user": ["a"] * 3, "item": ["x", "y", "z"]}))
            >>> before = log.with_table(log.table[1:2], places=pl.Series([1]))
            >>> part = log.with_table(log.table[::2], history=before, places=pl.Series([0, 2]))
            >>> joined, own = part.joined_with_marks()
            >>> joined.table["item"].to_list(), own.to_list()
            (['x', 'y', 'z'], [True, False, True])
        """
        if self.history is None:
            return self, pl.repeat(True, len(self), dtype=pl.Boolean, eager=True)
        same = {"user": self.table["user"].dtype, "item": self.table["item"].dtype}
        earlier = self.history.joined_with_history()
        own = pl.Series(np.arange(len(earlier) + len(self)) >= len(earlier))
        table = pl.concat([earlier.table.cast(same), self.table], how="diagonal")  # type: ignore[arg-type]
        key = table["time"] if self.has_times else None
        if self.places is not None and earlier.places is not None:
            key = pl.concat([earlier.places, self.places])
        if key is not None:
            order = key.to_frame("key").with_row_index().sort("key", maintain_order=True)["index"]
            table, own = table[order], own[order]
        return self.with_table(table, "history and later rows together"), own


def inspect(events: Events) -> Findings:
    """Return what a log holds and what was dropped, for people (`str`) and machines (`to_dict`).

    Cost: O(events) time and memory at the first call, O(1) after.

    Example:
        >>> log = read_events(pl.DataFrame({"user": [1, 1, 2], "item": [5, 5, 7], "time": [0, 60, 60]}))
        >>> found = inspect(log)
        >>> found.users, found.items, found.repeats
        (2, 2, 1)
    """
    return events.findings


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

    Columns that are not named are guessed from their names, or by position and content in a file without
    a header; the guess is kept in `events.intake`. Ids are text, as they stood but for blanks around them: `007`
    stays `007`, 64-bit integers stay whole. A column of floats, which pandas makes of integers with gaps, is read as
    the whole numbers that it holds: 17.0 is "17", NaN is missing. Times are epoch seconds, milliseconds,
    microseconds or nanoseconds (by magnitude), ISO 8601, dates, whole numbers that write dates (20240131), a given
    format, or a column of dates; no zone means UTC. Rows without a user, item or time are left out, counted and
    reported. Of ratings, a few that are no numbers are missing, counted and reported. Everything else that cannot be
    read is an error. Rows are counted from 1, the header not counted.

    Args:
        source: a path (CSV, TSV, NDJSON, each also .gz or .zst; Parquet) or a Polars, pandas or Arrow table.
        user, item: the columns' names.
        time: the column's name, or "none" for a log without times: the order of the rows is then the order.
        rating, type, id: the columns' names, or "none" to leave a column out that would be guessed.
        missing: words that stand where a value is missing, such as "NULL"; None takes those of `reading`.
        reading: how the file is written, where that is unusual.
        like: how a log was read before: what `rec.facts["reading"]` of a model keeps. What is not said here is as it
            was then, where the source has such columns.

    Returns:
        The events in the order of time; rows of equal time stay in the order of the file.

    Raises:
        DataError: the file is missing, empty, damaged, of an unknown kind or encoding, or no row is left.
        ColumnError: a column is not found, doubled, or holds what it cannot hold.
        TimeParseError: a time cannot be read, or is of another unit than the others; the message names the row and
            the text.
        ArgumentError: `source` is neither a path nor a table.

    Cost: O(events log events); memory about twice the result while it is sorted.

    Example:
        >>> table = pl.DataFrame({"userId": ["007", "b"], "sku": ["x", "y"], "ts": [1700000060, 1700000000]})
        >>> log = read_events(table)
        >>> log.table["user"].to_list(), log.intake.columns["item"], log.intake.out_of_order
        (['b', '007'], 'sku', 1)
    """
    said = reading or _PLAIN
    said = said if missing is None else replace(said, missing=tuple(ids_of(missing, "missing")))
    asked = {"user": user, "item": item, "time": time, "rating": rating, "type": type, "id": id}
    like = like or {}
    try:
        return _read(source, asked, recalled(said, like), like)
    except DataError:
        known = {name: like[name] for name in ("columns", "context", "missing") if name in like}
        if recalled(said, known) != recalled(said, like):  # this file may be written in another way
            with contextlib.suppress(DataError):
                return _read(source, asked, recalled(said, known), known)
        raise


def _read(source: object, asked: Mapping[str, str | None], reading: Reading, like: Mapping[str, Any]) -> Events:
    opened = open_source(source, reading)
    with opened.explained():
        schema = opened.frame.collect_schema()
    hints = _hints(opened, schema, reading, like)
    chosen = choose_columns(schema.names(), asked, source=opened.name, hints=hints, known=like.get("columns"))
    context = _context(reading.context, schema.names(), opened.name)
    context += [name for name in like.get("context", ()) if name in schema.names() and name not in context]
    frame = without_words(opened.frame, [*chosen.columns.values(), *context], chosen.columns, reading.missing)
    raw = _Raw(replace(opened, frame=frame), chosen, context, schema, reading)
    for role in ("user", "item"):
        with opened.explained():
            check_ids(frame, chosen.columns[role], source=opened.name, role=role)
    return _in_order(raw, *_collected(raw, _time_rule(raw)), asked)


class _Raw(NamedTuple):
    """A log that was opened, and what is to be read of it."""

    source: Source
    chosen: Chosen
    context: list[str]
    schema: pl.Schema
    reading: Reading

    def column(self, role: str) -> tuple[pl.Expr, pl.DataType]:
        """Return the column of a role and its type; categories and texts as trimmed texts, null where empty."""
        name = self.chosen.columns[role]
        column, kind = pl.col(name), self.schema[name]
        if kind in (pl.String, pl.Categorical, pl.Enum):
            text = column.cast(pl.String).str.strip_chars()
            return pl.when(text != "").then(text), pl.String()
        return column.fill_nan(None) if kind.is_float() else column, kind


def _hints(source: Source, schema: pl.Schema, reading: Reading, like: Mapping[str, Any]) -> dict[str, str]:
    if reading.header is not False and candidates(schema.names(), "time"):
        return {}
    with source.explained():
        sample = source.frame.head(_SAMPLE).collect()
    if reading.header is not False:
        return hints_by_type(sample)
    first = [str(value) for value in sample.row(0)] if sample.height else []
    if like.get("header") is False and candidates(first, "user") and candidates(first, "item"):
        raise ColumnError(
            f"{source.name}: expected no names of columns, the first line has some: {listed(first)}. "
            "Say header=True (--header)."
        )
    return hints_by_position(sample)


def _context(wanted: tuple[str, ...], names: list[str], source: str) -> list[str]:
    found = [find_column(name, names, source=source, option=option_of("context")) for name in wanted]
    clash = next((name for name in found if name in ("user", "item", "time", "rating", "type", "id")), None)
    if clash is not None:
        raise ColumnError(
            f'{source}: expected context columns with names of their own, "{clash}" is the name of a role. Rename it.'
        )
    return found


def _time_rule(raw: _Raw) -> TimeRule | None:
    if "time" not in raw.chosen.columns:
        return None
    name, source = raw.chosen.columns["time"], raw.source
    kind = raw.schema[name]
    if not (kind in (pl.String, pl.Datetime, pl.Date, pl.Null, pl.Categorical) or kind.is_numeric()):
        raise ColumnError(
            f'{source.name}: expected times as numbers, text or dates, column "{name}" has type {kind}. '
            f"Cast it, or give {option_of('time')} another column."
        )
    column, _ = raw.column("time")
    with source.explained():
        present = source.frame.select(time=column).filter(pl.col("time").is_not_null())
        # The first rows alone are quick to get; only a log that begins without times is searched further.
        sample = source.frame.select(time=column).head(_SAMPLE).collect().drop_nulls()
        sample = sample if sample.height else present.head(_SAMPLE).collect()
    rule = TimeRule.guess(sample["time"], raw.reading.time_format)
    if rule.unit == "YYYY":
        raise TimeParseError(
            f'{source.name}: expected times, column "{name}" seems to hold years, such as {sample["time"][0]}. '
            'Give --time-format "%Y" if these are years, --time-format s if they count seconds, or another column '
            f"with {option_of('time')}."
        )
    return rule


def _plan(raw: _Raw, rule: TimeRule | None) -> dict[str, pl.Expr]:
    """Return role -> expression; null where the source has no value or one that cannot be read."""
    plan = {}
    for role, name in raw.chosen.columns.items():
        column, kind = raw.column(role)
        if role in ("user", "item"):
            # Codes in place of text: a log is sorted and encoded at a third of the memory.
            plan[role] = text_of_ids(pl.col(name), raw.schema[name]).cast(pl.Categorical)
        elif role == "time" and rule is not None:
            plan[role] = rule.microseconds(column, kind)
        elif role == "rating":
            number = column.cast(pl.Float32, strict=False)
            plan[role] = pl.when(number.is_finite()).then(number)
        else:
            plan[role] = column.cast(pl.String)
    return plan


def _collected(raw: _Raw, rule: TimeRule | None) -> tuple[pl.DataFrame, TimeRule | None, list[str]]:
    """Run the plan; where values are missing, look whether they were missing or could not be read."""
    plan = _plan(raw, rule)
    with raw.source.explained():
        columns = {name: pl.col(name) for name in raw.context}
        table = raw.source.frame.select(**plan, **columns).collect(engine="streaming")
    notes = [*raw.source.notes, *raw.chosen.notes]
    for role in ("time", "rating"):
        fault = _fault(raw, role, plan[role]) if role in plan and table[role].null_count() else None
        if fault is None:
            continue
        if role == "time" and rule is not None and (wider := rule.widened()):
            return _collected(raw, wider)
        if role == "time" or fault.bad > _FEW * fault.present:
            raise _unreadable(raw, role, fault, rule)
        notes.append(
            f'{role}: {fault.bad:,} of {fault.present:,} values are no numbers, the first is "{fault.text}" in row '
            f"{fault.row:,}; they count as missing."
        )
    for role in ("user", "item"):
        settled = settle(table[role], raw.reading.missing)
        table = table.with_columns(settled.ids.alias(role))
        notes += settled.notes(role)
    return table, rule, notes


class _Fault(NamedTuple):
    """Values that are there and cannot be read: how many, of how many, the first."""

    bad: int
    present: int
    row: int
    text: str


def _fault(raw: _Raw, role: str, expression: pl.Expr) -> _Fault | None:
    values = raw.source.frame.select(raw=raw.column(role)[0], read=expression).with_row_index("row")
    bad = pl.col("read").is_null()
    first = values.filter(pl.col("raw").is_not_null()).select(
        count=bad.sum(), present=pl.len(), row=pl.col("row").filter(bad).first(), text=pl.col("raw").filter(bad).first()
    )
    count, present, row, text = first.collect().row(0)
    return _Fault(count, present, row + 1, str(text)) if count else None


def _unreadable(raw: _Raw, role: str, fault: _Fault, rule: TimeRule | None) -> DataError:
    where, text = f"{raw.source.name}, row {fault.row:,}: ", fault.text
    words = f' If "{text}" stands where none is known, give missing= (--missing).' * seems_missing(text)
    header = " Is the first line a header? Say header=True (--header)." * (
        fault.row == 1 and raw.reading.header is False
    )
    if role == "rating":
        return ColumnError(
            f'{where}rating "{text}" is not a number. Correct it, give {option_of(role)} another column, '
            f"or leave ratings out with --rating-col none.{words}{header}"
        )
    if rule is not None and rule.is_epoch and rule.guessed and unit_of(text) not in ("", rule.unit):
        return TimeParseError(
            f'{where}time "{text}" is not a timestamp in {rule.unit}, as the others are: it seems to count '
            f"{unit_of(text)}. Write all times in one unit.{words}"
        )
    if rule is not None and not rule.guessed:
        wanted = f'written as "{rule.formats[0]}"' if rule.formats else f"in epoch {rule.unit}"
        return TimeParseError(
            f'{where}time "{text}" is not a timestamp {wanted}. Give another --time-format.{words}{header}'
        )
    return TimeParseError(
        f'{where}time "{text}" is not a timestamp. Give --time-format, or ISO 8601, or epoch seconds.{words}{header}'
    )


def _in_order(
    raw: _Raw,
    table: pl.DataFrame,
    rule: TimeRule | None,
    notes: list[str],
    asked: Mapping[str, str | None],
) -> Events:
    """Leave out and count what is incomplete, sort what is left."""
    source, columns = raw.source, raw.chosen.columns
    if not table.height:
        raise DataError(f"{source.name}: expected rows of events, it has a header but no rows. Check its export.")
    rows, dropped = table.height, {}
    for role in ("user", "item", "time"):
        if role in columns and (missing := table[role].null_count()):
            dropped[f"no {role}"] = missing
            table = table.filter(pl.col(role).is_not_null())
    if not table.height:
        reasons = ", ".join(f"{count:,} with {why}" for why, count in dropped.items())
        raise DataError(
            f"{source.name}: expected events, every row was left out ({reasons}). "
            f"Check the columns: {', '.join(f'{role} = {name}' for role, name in columns.items())}."
        )
    late, places = 0, None
    if rule is not None and not table["time"].is_sorted():
        late = _count_late(table["time"])
        # The streaming engine sorts in half the time; all that comes after is faster on whole columns.
        numbered = table.lazy().with_row_index("row").sort("time", maintain_order=True)
        table = numbered.collect(engine="streaming").rechunk()
        places, table = table["row"], table.drop("row")
    if rule is not None and rule.is_epoch:
        notes = notes + _mixed_units(raw, table["time"], rule)
    intake = Intake(
        rows=rows,
        columns=columns,
        guessed=raw.chosen.guessed,
        time=rule.words if rule else "",
        dropped=dropped,
        out_of_order=late,
        notes=tuple(notes),
        reading=kept(raw.reading, columns, raw.context, asked),
    )
    return Events(table, source.name, intake, places=places)


def _mixed_units(raw: _Raw, times: pl.Series, rule: TimeRule) -> list[str]:
    """Return what is to be said of times in another unit than most.

    Raises:
        TimeParseError: there are some, and nobody said what the unit is.
    """
    others = other_units(times)
    if not len(others):
        return []
    column, kind = raw.column("time")
    found = raw.source.frame.select(raw=column, time=rule.microseconds(column, kind)).with_row_index("row")
    row, text, _ = found.filter(pl.col("time") == others[0]).head(1).collect().row(0)
    said = (
        f'row {row + 1:,}: time "{text}" differs from others by a factor of 1,000 or more: read in {rule.unit}, '
        f"as they are, it is {iso(others[0])}; {len(others):,} of {len(times):,} rows are such"
    )
    if rule.guessed:
        raise TimeParseError(f"{raw.source.name}, {said}. Write all times in one unit.")
    return [f"{said}."]


def _count_late(time: pl.Series, *, block: int = 1 << 20) -> int:
    """Count the rows that are earlier than a row above them, block by block: no second column is held."""
    late, latest = 0, np.iinfo(np.int64).min
    for start in range(0, len(time), block):
        part = time.slice(start, block).to_numpy()
        highest = np.maximum(np.maximum.accumulate(part), latest)
        late += int(np.count_nonzero(part < highest))
        latest = highest[-1]
    return late
