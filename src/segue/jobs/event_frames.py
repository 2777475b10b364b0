"""Kept events as tables, and the rows of a log as events to keep.

Knows: which columns a log has, what becomes of context.
Does not know: stores, files.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from segue.data.log.events import Events
from segue.data.values.plain import json_of
from segue.errors import ColumnError
from segue.store.events import Event, StoredEvent

ROLES = ("user", "item", "time", "id", "rating", "type")
#: Of an export: context stands in one column, as JSON.
CONTEXT = "context"
_BLOCK = 50_000


def told_by(log: Events, *, only: int | None = None) -> Iterable[Event]:
    """Return the rows of a log as events to keep, in the order of its file; context is what stands beside the roles.

    They are made anew each time that they are gone through, a block at a time. A column "context" of texts holds
    objects of JSON, as `segue export` writes them; empty values are left out.

    Args:
        log: a log.
        only: the first rows alone; None gives all.

    Raises:
        ColumnError: a text in "context" is no object of JSON.

    Example:
        >>> table = pl.DataFrame({"user": ["ann"], "item": ["17"], "time": [5], "device": ["tv"]})
        >>> [(event.user, event.time, event.context) for event in told_by(Events(table))]
        [('ann', 5, {'device': 'tv'})]
    """
    return _Told(log, only)


@dataclass(frozen=True)
class _Told:
    log: Events
    only: int | None

    def __iter__(self) -> Iterator[Event]:
        return _told(self.log, self.only)


def _told(log: Events, only: int | None) -> Iterator[Event]:
    names = [name for name in log.table.columns if name not in ROLES]
    filed = None if log.places is None else log.places.arg_sort()
    for begin in range(0, len(log) if only is None else only, _BLOCK):
        block = log.table.slice(begin, _BLOCK) if filed is None else log.table[filed.slice(begin, _BLOCK)]
        for number, row in enumerate(block.iter_rows(named=True), start=begin + 1):
            context = {name: _plain(row[name]) for name in names}
            if isinstance(context.get(CONTEXT), str):
                context |= _object(context.pop(CONTEXT), f"{log.source}, event {number:,}")
            yield Event(
                row["user"],
                row["item"],
                row.get("time"),
                row.get("id"),
                _plain(row.get("rating")),
                row.get("type"),
                {name: value for name, value in context.items() if value is not None},
            )


def as_rows(events: Sequence[StoredEvent]) -> pl.DataFrame:
    """Return events with all that was sent: the roles, and context as JSON text; time is a moment in UTC.

    Example:
        >>> as_rows([StoredEvent("ann", "17", 5_000_000, None, None, "buy", {"page": 2}, 1, 5_000_000)]).row(0)[-2:]
        ('buy', '{"page":2}')
    """
    columns: dict[str, pl.Series] = {
        "user": pl.Series([event.user for event in events], dtype=pl.String),
        "item": pl.Series([event.item for event in events], dtype=pl.String),
        "time": pl.Series([event.time for event in events], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
        "id": pl.Series([event.id for event in events], dtype=pl.String),
        "rating": pl.Series([event.rating for event in events], dtype=pl.Float64),
        "type": pl.Series([event.type for event in events], dtype=pl.String),
        CONTEXT: pl.Series([_json(event.context) if event.context else None for event in events], dtype=pl.String),
    }
    return pl.DataFrame(columns)


def as_columns(events: Sequence[StoredEvent]) -> pl.DataFrame:
    """Return events as a log has them: `user`, `item`, `time`, `place`, and where there are any, the rest.

    Each part of the context is a column: texts, truths and numbers as they are, all else, and columns of mixed
    kinds, as text. A part with the name of a role is left out.

    Example:
        >>> sent = [("x", {"page": 1}), ("y", {"page": 2.5, "tags": ["a"]})]
        >>> events = [StoredEvent("ann", item, 5, None, None, None, more, 1, 5) for item, more in sent]
        >>> as_columns(events).select("item", "page", "tags").rows()
        [('x', 1.0, None), ('y', 2.5, '["a"]')]
    """
    columns: dict[str, pl.Series] = {
        "user": pl.Series([event.user for event in events], dtype=pl.String).cast(pl.Categorical),
        "item": pl.Series([event.item for event in events], dtype=pl.String).cast(pl.Categorical),
        "time": pl.Series([event.time for event in events], dtype=pl.Int64),
        "place": pl.Series([event.place for event in events], dtype=pl.Int64),
    }
    if any(event.rating is not None for event in events):
        columns["rating"] = pl.Series([event.rating for event in events], dtype=pl.Float32)
    if any(event.type is not None for event in events):
        columns["type"] = pl.Series([event.type for event in events], dtype=pl.String)
    names = dict.fromkeys(name for event in events for name in event.context)
    for name in names:
        if name not in (*ROLES, "place"):
            columns[name] = _column([event.context.get(name) for event in events])
    return pl.DataFrame(columns)


def _column(values: Sequence[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    for several, dtype in (({str}, pl.String), ({bool}, pl.Boolean), ({int}, pl.Int64), ({int, float}, pl.Float64)):
        if kinds <= several and all(not isinstance(v, int) or abs(v) < 2**63 for v in values):
            return pl.Series(values, dtype=dtype)
    return pl.Series([v if v is None or isinstance(v, str) else _json(v) for v in values], dtype=pl.String)


def joined(tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return tables of `as_columns` as one; a column of several kinds becomes one of texts."""
    return pl.concat(tables, how="diagonal_relaxed")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _plain(value: Any) -> Any:
    """Return a value of a table as JSON can say it; None where it says nothing."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int | Mapping):
        return value
    return [_plain(one) for one in value] if isinstance(value, list) else str(value)


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json_of(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ColumnError(
            f'{where}: expected the column "context" to hold objects of JSON, came {text[:40]!r}. '
            "Rename the column, or leave it out of the file."
        )
    return found
