"""From a file or table to a sorted table of events: every row is read, checked and counted here."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl

from segue.data.log.columns import (
    NONE,
    ROLES,
    ColumnChoice,
    candidates,
    choose_columns,
    find_column,
    hints_by_position,
    hints_by_type,
    option_of,
)
from segue.data.log.findings import Intake
from segue.data.log.sources import Reading, Source, open_source, without_words
from segue.data.values.ids import CleanIds, check_ids, clean_ids, seems_missing, text_of_ids
from segue.data.values.times import TimeRule, iso, other_units, unit_of
from segue.errors import ColumnError, DataError, TimeParseError, listed

_Read = TypeVar("_Read")
_SAMPLE = 1_000
#: The share of ratings that may be no numbers.
_FEW = 0.25
#: The fields of `Reading` that a model keeps.
_OPTIONS = ("time_format", "header", "sep", "encoding", "missing")


class Log(NamedTuple):
    """A log that was read: the table, its name in messages, notes, the places of the rows."""

    table: pl.DataFrame
    source: str
    intake: Intake
    places: pl.Series | None


def read_log(source: object, requested: Mapping[str, str | None], reading: Reading, like: Mapping[str, Any]) -> Log:
    """Return the events of a source in order; see `segue.data.log.events.read_events`.

    Args:
        source: a path or a table.
        requested: role -> the column's name, "none", or None to guess.
        reading: how the file is written.
        like: how an earlier log was read (`reading_to_dict`). It fills what `reading` leaves open.
            Where the source cannot be read so, only columns and missing words are taken from it.
    """
    return read_alike(lambda reading, like: _read(open_log(source, requested, reading, like), requested), reading, like)


def read_alike(read: Callable[[Reading, Mapping[str, Any]], _Read], reading: Reading, like: Mapping[str, Any]) -> _Read:
    """Return what `read` makes of a reading that an earlier log fills, or of the earlier log's columns alone."""
    try:
        return read(filled_from(reading, like), like)
    except DataError:
        columns = {name: like[name] for name in ("columns", "context", "missing") if name in like}
        if filled_from(reading, columns) != filled_from(reading, like):  # this file may be written in another way
            with contextlib.suppress(DataError):
                return read(filled_from(reading, columns), columns)
        raise


def reading_to_dict(
    reading: Reading, columns: Mapping[str, str], context: Sequence[str], requested: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return how a log was read as plain values, which a model keeps to read the next log alike.

    `columns` maps a role to its column, or to "none" where the role was declined.

    Example:
        >>> reading_to_dict(Reading(sep=";"), {"user": "u", "item": "i"}, ["shop"], {"time": "none", "user": None})
        {'columns': {'user': 'u', 'item': 'i', 'time': 'none'}, 'context': ['shop'], 'sep': ';'}
    """
    declined = {role: NONE for role, name in requested.items() if name == NONE and role not in columns}
    fields: dict[str, Any] = {"columns": {**columns, **declined}}
    if context:
        fields["context"] = list(context)
    for name in _OPTIONS:
        value = getattr(reading, name)
        if value is not None and value != ():
            fields[name] = list(value) if isinstance(value, tuple) else value
    return fields


def filled_from(reading: Reading, like: Mapping[str, Any]) -> Reading:
    """Return a reading whose open options are those of an earlier log.

    Example:
        >>> reading = filled_from(Reading(sep=","), {"sep": ";", "time_format": "ms", "columns": {"user": "u"}})
        >>> reading.sep, reading.time_format
        (',', 'ms')
    """
    open_options = [name for name in _OPTIONS if name in like and getattr(reading, name) in (None, ())]
    return replace(reading, **{name: like[name] for name in open_options})


def open_log(
    source: object, requested: Mapping[str, str | None], reading: Reading, like: Mapping[str, Any]
) -> "OpenLog":
    """Return an opened log with the columns to read; the arguments are those of `read_log`."""
    opened = open_source(source, reading)
    with opened.explained():
        schema = opened.frame.collect_schema()
    hints = _hints(opened, schema, reading, like)
    chosen = choose_columns(schema.names(), requested, source=opened.name, hints=hints, known=like.get("columns"))
    context = _context(reading.context, schema.names(), opened.name)
    context += [name for name in like.get("context", ()) if name in schema.names() and name not in context]
    frame = without_words(opened.frame, [*chosen.columns.values(), *context], chosen.columns, reading.missing)
    absent = [name for name in like.get("context", ()) if name not in schema.names()]
    notes = [f"context: {opened.name} has no column {name}, it is unknown." for name in absent]
    opened = replace(opened, frame=frame, notes=(*opened.notes, *notes))
    for role in ("user", "item"):
        with opened.explained():
            check_ids(frame, chosen.columns[role], source=opened.name, role=role)
    return OpenLog(opened, chosen, context, schema, reading)


class OpenLog(NamedTuple):
    """An opened log, and the columns to read."""

    source: Source
    chosen: ColumnChoice
    context: list[str]
    schema: pl.Schema
    reading: Reading

    def column(self, role: str) -> tuple[pl.Expr, pl.DataType]:
        """Return the column of a role and its type; texts are trimmed, null where empty."""
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


def _context(requested: tuple[str, ...], names: list[str], source: str) -> list[str]:
    columns = [find_column(name, names, source=source, option=option_of("context")) for name in requested]
    clash = next((name for name in columns if name in ROLES), None)
    if clash is not None:
        raise ColumnError(
            f'{source}: expected context columns with names of their own, "{clash}" is the name of a role. Rename it.'
        )
    return columns


def time_rule(log: OpenLog) -> TimeRule | None:
    """Return how the times of a log are read, guessed from its first rows; None without times.

    Raises:
        ColumnError: the column cannot hold times.
        TimeParseError: the column seems to hold years.
    """
    if "time" not in log.chosen.columns:
        return None
    name, source = log.chosen.columns["time"], log.source
    kind = log.schema[name]
    if not (kind in (pl.String, pl.Datetime, pl.Date, pl.Null, pl.Categorical) or kind.is_numeric()):
        raise ColumnError(
            f'{source.name}: expected times as numbers, text or dates, column "{name}" has type {kind}. '
            f"Cast it, or give {option_of('time')} another column."
        )
    column, _ = log.column("time")
    with source.explained():
        present = source.frame.select(time=column).filter(pl.col("time").is_not_null())
        # The first rows are quick to read; a log that begins without times is searched further.
        sample = source.frame.select(time=column).head(_SAMPLE).collect().drop_nulls()
        sample = sample if sample.height else present.head(_SAMPLE).collect()
    rule = TimeRule.guess(sample["time"], log.reading.time_format)
    if rule.unit == "YYYY":
        raise TimeParseError(
            f'{source.name}: expected times, column "{name}" seems to hold years, such as {sample["time"][0]}. '
            'Give --time-format "%Y" if these are years, --time-format s if they count seconds, or another column '
            f"with {option_of('time')}."
        )
    return rule


def _plan(
    log: OpenLog, rule: TimeRule | None, trimmed: bool, ids: pl.DataType | type[pl.DataType]
) -> dict[str, pl.Expr]:
    """Return role -> expression, null where a value is missing or unreadable.

    Few logs have blanks around their numbers: they are removed (`trimmed`) once one is unreadable.
    """
    plan = {}
    for role, name in log.chosen.columns.items():
        column, kind = log.column(role)
        if kind == pl.String and log.schema[name] == pl.String and role in ("time", "rating") and not trimmed:
            column = pl.col(name)
        if role in ("user", "item"):
            # Categorical codes sort and encode in a third of the memory of texts.
            plan[role] = text_of_ids(pl.col(name), log.schema[name]).cast(ids)
        elif role == "time" and rule is not None:
            plan[role] = rule.microseconds(column, kind)
        elif role == "rating":
            number = column.cast(pl.Float32, strict=False)
            plan[role] = pl.when(number.is_finite()).then(number)
        else:
            plan[role] = column.cast(pl.String)
    return plan


def settled(
    logs: Sequence[OpenLog],
    rule: TimeRule | None,
    gather: Callable[[list[dict[str, pl.Expr]]], tuple[_Read, list[Mapping[str, int]]]],
    *,
    ids: pl.DataType | type[pl.DataType] = pl.Categorical,
    trimmed: bool = False,
) -> tuple[_Read, TimeRule | None, list[str]]:
    """Gather the rows of files; where values are null, check whether they are missing or unreadable.

    Args:
        logs: the files of a log.
        rule: how to read times.
        gather: called with role -> expression of each file; returns what it gathered, and the nulls by role of each
            file. It is called again where other expressions read more.
        ids: the type of user and item ids.

    Returns:
        What was gathered, the rule that was used, notes.
    """
    plans = [_plan(log, rule, trimmed, ids) for log in logs]
    gathered, nulls = gather(plans)
    notes = []
    for role in ("time", "rating"):
        for log, plan, missing in zip(logs, plans, nulls, strict=True):
            fault = _fault(log, role, plan[role]) if missing.get(role) else None
            if fault is None:
                continue
            if not trimmed:
                return settled(logs, rule, gather, ids=ids, trimmed=True)
            if role == "time" and rule is not None and (wider := rule.widened()):
                return settled(logs, wider, gather, ids=ids, trimmed=trimmed)
            if role == "time" or fault.bad > _FEW * fault.present:
                raise _unreadable(log, role, fault, rule)
            notes.append(
                f"{f'{log.source.name}, ' * (len(logs) > 1)}{role}: {fault.bad:,} of {fault.present:,} values are no "
                f'numbers, the first is "{fault.text}" in row {fault.row:,}; they count as missing.'
            )
    return gathered, rule, notes


def cleaned(table: pl.DataFrame, missing: Sequence[str]) -> tuple[pl.DataFrame, dict[str, CleanIds]]:
    """Return rows with clean ids, and by role how the ids were."""
    clean = {role: clean_ids(table[role], missing) for role in ("user", "item")}
    return table.with_columns(each.ids.alias(role) for role, each in clean.items()), clean


def complete(table: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the rows with user, item and time, and reason -> rows that were left out."""
    dropped = {}
    for role in ("user", "item", "time"):
        if role in table.columns and (missing := table[role].null_count()):
            dropped[f"no {role}"] = missing
            table = table.filter(pl.col(role).is_not_null())
    return table, dropped


class _Fault(NamedTuple):
    """Unreadable values: their number, the number of present values, and the first of them."""

    bad: int
    present: int
    row: int
    text: str


def _fault(log: OpenLog, role: str, expression: pl.Expr) -> _Fault | None:
    values = log.source.frame.select(raw=log.column(role)[0], read=expression).with_row_index("row")
    bad = pl.col("read").is_null()
    first = values.filter(pl.col("raw").is_not_null()).select(
        count=bad.sum(), present=pl.len(), row=pl.col("row").filter(bad).first(), text=pl.col("raw").filter(bad).first()
    )
    count, present, row, text = first.collect().row(0)
    return _Fault(count, present, row + 1, str(text)) if count else None


def _unreadable(log: OpenLog, role: str, fault: _Fault, rule: TimeRule | None) -> DataError:
    where, text = f"{log.source.name}, row {fault.row:,}: ", fault.text
    words = f' If "{text}" means a missing value, give missing= (--missing).' * seems_missing(text)
    header = " Is the first line a header? Say header=True (--header)." * (
        fault.row == 1 and log.reading.header is False
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
    if rule is not None and rule.kind == "digits":
        return TimeParseError(
            f'{where}time "{text}" is not a date written as {rule.unit}, as the others seem to be. Correct it, or give '
            f"--time-format s if these are no dates and count seconds.{words}"
        )
    if rule is not None and not rule.guessed:
        form = f'written as "{rule.formats[0]}"' if rule.formats else f"in epoch {rule.unit}"
        return TimeParseError(
            f'{where}time "{text}" is not a timestamp {form}. Give another --time-format.{words}{header}'
        )
    return TimeParseError(
        f'{where}time "{text}" is not a timestamp. Give --time-format, or ISO 8601, or epoch seconds.{words}{header}'
    )


def _read(log: OpenLog, requested: Mapping[str, str | None]) -> Log:
    """Read all rows, leave out and count incomplete rows, sort the others by time."""
    source, columns = log.source, log.chosen.columns

    def collect(plans: list[dict[str, pl.Expr]]) -> tuple[pl.DataFrame, list[Mapping[str, int]]]:
        with source.explained():
            context = {name: pl.col(name) for name in log.context}
            table = source.frame.select(**plans[0], **context).collect(engine="streaming")
        return table, [{role: table[role].null_count() for role in plans[0]}]

    table, rule, unread = settled([log], time_rule(log), collect)
    table, clean = cleaned(table, log.reading.missing)
    notes = [*source.notes, *log.chosen.notes, *unread, *clean["user"].notes("user"), *clean["item"].notes("item")]
    rows = table.height
    table, dropped = complete(table)
    check_some(source.name, columns, rows, table.height, dropped)
    late, places = 0, None
    if rule is not None and not table["time"].is_sorted():
        late = count_late(table["time"])[0]
        # The streaming engine sorts in half the time; later steps want one chunk.
        numbered = table.lazy().with_row_index("row").sort("time", maintain_order=True)
        table = numbered.collect(engine="streaming").rechunk()
        places, table = table["row"], table.drop("row")
    if rule is not None:
        notes += mixed_units([log], table["time"], rule)
    intake = Intake(
        rows=rows,
        columns=columns,
        guessed=log.chosen.guessed,
        time=rule.words if rule else "",
        dropped=dropped,
        out_of_order=late,
        notes=tuple(notes),
        reading=reading_to_dict(log.reading, columns, log.context, requested),
    )
    return Log(table, source.name, intake, places)


def check_some(source: str, columns: Mapping[str, str], rows: int, kept: int, dropped: Mapping[str, int]) -> None:
    """Do nothing if rows of a log were kept.

    Raises:
        DataError: the log has no rows, or each was left out.
    """
    if not rows:
        raise DataError(f"{source}: expected rows of events, it has a header but no rows. Check its export.")
    if not kept:
        reasons = ", ".join(f"{count:,} with {why}" for why, count in dropped.items())
        raise DataError(
            f"{source}: expected events, every row was left out ({reasons}). "
            f"Check the columns: {', '.join(f'{role} = {name}' for role, name in columns.items())}."
        )


def mixed_units(logs: Sequence[OpenLog], times: pl.Series, rule: TimeRule) -> list[str]:
    """Return a note on times in another unit; raise TimeParseError if the unit was guessed.

    Args:
        logs: the files of the log.
        times: of all rows, ascending.
    """
    others = other_units(times) if rule.is_epoch else times.clear()
    if not len(others):
        return []
    for log in logs:
        column, kind = log.column("time")
        rows = log.source.frame.select(raw=column, time=rule.microseconds(column, kind)).with_row_index("row")
        for row, text, time in rows.filter(pl.col("time") == others[0]).head(1).collect().rows():
            note = (
                f'row {row + 1:,}: time "{text}" differs from others by a factor of 1,000 or more: read in '
                f"{rule.unit}, as they are, it is {iso(time)}; {len(others):,} of {len(times):,} rows are such"
            )
            if rule.guessed:
                raise TimeParseError(f"{log.source.name}, {note}. Write all times in one unit.")
            return [f"{note}."]
    return []


def count_late(time: pl.Series, latest: int = np.iinfo(np.int64).min, *, block: int = 1 << 20) -> tuple[int, int]:
    """Return the rows that are earlier than a row above them, without a copy of the column, and the latest time.

    `latest` is that of the rows above.
    """
    late = 0
    for start in range(0, len(time), block):
        part = time.slice(start, block).to_numpy()
        highest = np.maximum(np.maximum.accumulate(part), latest)
        late += int(np.count_nonzero(part < highest))
        latest = int(highest[-1])
    return late, latest
