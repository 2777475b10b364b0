"""The event log: reading it, checking it, and the one shape in which the rest of Segue takes it.

Knows: users, items, times, and what is wrong with a row.
Does not know: vocabularies, sequences, networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl

from segue.data.columns import (
    TimeRule,
    choose_columns,
    find_column,
    hints_by_position,
    hints_by_type,
    option_of,
)
from segue.data.findings import Findings, Intake, inspect_table, iso
from segue.data.sources import Reading, Source, open_source
from segue.errors import ColumnError, DataError, TimeParseError

__all__ = ["Events", "Findings", "Intake", "Reading", "inspect", "read_events"]

_SAMPLE = 1_000
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
        places: int64[event], where each row stood in the log that part and history were cut from, or None.

    Raises:
        ColumnError: a column is missing, has another type, or has an id or time without a value.
        DataError: the rows are not in the order of time.

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
    reading: Reading | None = None,
) -> Events:
    """Read a log of events, check it, and put it in order.

    Columns that are not named are guessed from their names, or by position and content in a file without
    a header; the guess is kept in `events.intake`. Ids are text, exactly as they stood: `007` stays `007`,
    64-bit integers stay whole. A column of floats, which pandas makes of integers with gaps, is read as the
    whole numbers that it holds: 17.0 is "17". Times are epoch seconds, milliseconds, microseconds or
    nanoseconds (by magnitude), ISO 8601, dates, a given format, or a column of dates; no zone means UTC.
    Rows without a user, item or time are left out, counted and reported; everything else that cannot be
    read is an error. Rows are counted from 1, the header not counted.

    Args:
        source: a path (CSV, TSV, NDJSON, each also .gz or .zst; Parquet) or a Polars, pandas or Arrow table.
        user, item: the columns' names.
        time: the column's name, or "none" for a log without times: the order of the rows is then the order.
        rating, type, id: the columns' names, or "none" to leave a column out that would be guessed.
        reading: how the file is written, where that is unusual.

    Returns:
        The events in the order of time; rows of equal time stay in the order of the file.

    Raises:
        DataError: the file is missing, empty, damaged, of an unknown kind or encoding, or no row is left.
        ColumnError: a column is not found, doubled, or holds what it cannot hold.
        TimeParseError: a time cannot be read; the message names the row and the text.
        ArgumentError: `source` is neither a path nor a table.

    Cost: O(events log events); memory about twice the result while it is sorted.

    Example:
        >>> table = pl.DataFrame({"userId": ["007", "b"], "sku": ["x", "y"], "ts": [1700000060, 1700000000]})
        >>> log = read_events(table)
        >>> log.table["user"].to_list(), log.intake.columns["item"], log.intake.out_of_order
        (['b', '007'], 'sku', 1)
    """
    reading = reading or _PLAIN
    opened = open_source(source, reading)
    asked = {"user": user, "item": item, "time": time, "rating": rating, "type": type, "id": id}
    with opened.explained():
        schema = opened.frame.collect_schema()
        sample = opened.frame.head(_SAMPLE).collect() if not reading.header else None
    hints = hints_by_type(schema) if sample is None else hints_by_position(sample)
    columns = choose_columns(schema.names(), asked, source=opened.name, hints=hints)
    context = _context(reading.context, schema.names(), opened.name)
    for role in ("user", "item"):
        _check_ids(opened, columns[role], schema[columns[role]], role)
    rule = _time_rule(opened, columns["time"], schema, reading) if "time" in columns else None
    plan = _plan(columns, schema, rule)
    table, rule = _collected(opened, plan, columns, context, rule)
    return _in_order(table, opened, columns, asked, rule)


def _context(wanted: tuple[str, ...], names: list[str], source: str) -> list[str]:
    found = [find_column(name, names, source=source, option=option_of("context")) for name in wanted]
    clash = next((name for name in found if name in ("user", "item", "time", "rating", "type", "id")), None)
    if clash is not None:
        raise ColumnError(
            f'{source}: expected context columns with names of their own, "{clash}" is the name of a role. Rename it.'
        )
    return found


def _check_ids(source: Source, name: str, kind: pl.DataType, role: str) -> None:
    if kind.is_nested() or kind.is_temporal() or kind.is_decimal() or kind in (pl.Binary, pl.Object):
        raise ColumnError(
            f'{source.name}: expected {role} ids as text or whole numbers, column "{name}" has type {kind}. '
            f"Cast it to text, or give {option_of(role)} another column."
        )
    if kind.is_float():
        column = pl.col(name)
        bad = column.is_infinite() | (column != column.round()) | (column.abs() >= 2**53)
        rows = source.frame.select(name).with_row_index("row").filter(bad).head(1).collect()
        if rows.height:
            raise ColumnError(
                f"{source.name}, row {rows['row'][0] + 1:,}: expected {role} ids as text or whole numbers "
                f'below 2**53, column "{name}" holds {rows[name][0]}. Cast it to text before.'
            )


def _time_rule(source: Source, name: str, schema: pl.Schema, reading: Reading) -> TimeRule:
    kind = schema[name]
    if not (kind in (pl.String, pl.Datetime, pl.Date, pl.Null, pl.Categorical) or kind.is_numeric()):
        raise ColumnError(
            f'{source.name}: expected times as numbers, text or dates, column "{name}" has type {kind}. '
            f"Cast it, or give {option_of('time')} another column."
        )
    column = pl.col(name)
    with source.explained():
        present = source.frame.select(time=column).filter(_present(pl.col("time"), kind))
        # The first rows alone are quick to get; only a log that begins without times is searched further.
        sample = source.frame.select(time=column).head(_SAMPLE).filter(_present(pl.col("time"), kind)).collect()
        sample = sample if sample.height else present.head(_SAMPLE).collect()
    return TimeRule.guess(sample["time"], reading.time_format)


def _present(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if kind.is_float():
        return column.is_not_null() & column.is_not_nan()
    return column.is_not_null() & (column.cast(pl.String) != "") if kind == pl.String else column.is_not_null()


def _plan(columns: Mapping[str, str], schema: pl.Schema, rule: TimeRule | None) -> dict[str, pl.Expr]:
    """Return role -> expression; null where the source has no value or one that cannot be read."""
    plan = {}
    for role, name in columns.items():
        column, kind = pl.col(name), schema[name]
        if role in ("user", "item"):
            text = column.cast(pl.Int64, strict=False) if kind.is_float() else column
            text = text.cast(pl.String)
            # Codes in place of text: a log is sorted and encoded at a third of the memory.
            plan[role] = pl.when(text != "").then(text).cast(pl.Categorical)
        elif role == "time" and rule is not None:
            plan[role] = rule.microseconds(column)
        elif role == "rating":
            number = column.cast(pl.Float32, strict=False)
            plan[role] = pl.when(number.is_finite()).then(number)
        else:
            plan[role] = column.cast(pl.String)
    return plan


def _collected(
    source: Source,
    plan: dict[str, pl.Expr],
    columns: Mapping[str, str],
    context: list[str],
    rule: TimeRule | None,
) -> tuple[pl.DataFrame, TimeRule | None]:
    """Run the plan; where values are missing, look whether they were missing or could not be read."""
    with source.explained():
        table = source.frame.select(**plan, **{name: pl.col(name) for name in context}).collect(engine="streaming")
    for role in ("time", "rating"):
        fault = role in plan and table[role].null_count() and _first_fault(source, columns[role], plan[role])
        if fault and role == "time" and rule is not None and (wider := rule.widened()):
            wide_plan = plan | {"time": wider.microseconds(pl.col(columns["time"]))}
            return _collected(source, wide_plan, columns, context, wider)
        if fault:
            raise _unreadable(source, role, *fault, rule)
    return table, rule


def _first_fault(source: Source, name: str, expression: pl.Expr) -> tuple[int, str] | None:
    kind = source.frame.collect_schema()[name]
    both = source.frame.select(raw=pl.col(name), read=expression).with_row_index("row")
    fault = both.filter(_present(pl.col("raw"), kind) & pl.col("read").is_null()).head(1).collect()
    return (int(fault["row"][0]) + 1, str(fault["raw"][0])) if fault.height else None


def _unreadable(source: Source, role: str, row: int, text: str, rule: TimeRule | None) -> DataError:
    where = f"{source.name}, row {row:,}: "
    if role == "rating":
        return ColumnError(
            f'{where}rating "{text}" is not a number. Correct it, give {option_of(role)} another column, '
            "or leave ratings out with --rating-col none."
        )
    if rule is not None and not rule.guessed:
        wanted = f'written as "{rule.formats[0]}"' if rule.formats else f"in epoch {rule.unit}"
        return TimeParseError(f'{where}time "{text}" is not a timestamp {wanted}. Give another --time-format.')
    return TimeParseError(
        f'{where}time "{text}" is not a timestamp. Give --time-format, or ISO 8601, or epoch seconds.'
    )


def _in_order(
    table: pl.DataFrame,
    source: Source,
    columns: Mapping[str, str],
    asked: Mapping[str, str | None],
    rule: TimeRule | None,
) -> Events:
    """Leave out and count what is incomplete, sort what is left."""
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
    late = 0
    if "time" in columns and not table["time"].is_sorted():
        late = _count_late(table["time"])
        # The streaming engine sorts in half the time; all that comes after is faster on whole columns.
        table = table.lazy().sort("time", maintain_order=True).collect(engine="streaming").rechunk()
    intake = Intake(
        rows=rows,
        columns=columns,
        guessed=tuple(role for role in columns if asked[role] is None),
        time=rule.words if rule else "",
        dropped=dropped,
        out_of_order=late,
    )
    return Events(table, source.name, intake)


def _count_late(time: pl.Series, *, block: int = 1 << 20) -> int:
    """Count the rows that are earlier than a row above them, block by block: no second column is held."""
    late, latest = 0, np.iinfo(np.int64).min
    for start in range(0, len(time), block):
        part = time.slice(start, block).to_numpy()
        highest = np.maximum(np.maximum.accumulate(part), latest)
        late += int(np.count_nonzero(part < highest))
        latest = highest[-1]
    return late
