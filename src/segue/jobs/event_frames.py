"""Stored events as tables, and the rows of a log as events to store."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from segue.data.log.events import Events
from segue.data.values.plain import json_of
from segue.errors import ColumnError
from segue.store.events import Event, StoredEvent

ROLES = ("user", "item", "time", "id", "rating", "type")
#: The column of an export that holds the context as JSON.
CONTEXT = "context"
_BLOCK = 50_000


@dataclass(frozen=True)
class LogEvents:
    """The rows of a log as events to store, in the order of its file; other columns are context.

    The events are made anew each time they are iterated, a block at a time. A column "context" of
    texts holds JSON objects, as `segue export` writes them. Empty values are left out.

    Raises:
        ColumnError: while iterating, where a text in "context" is no JSON object.

    Example:
        >>> table = pl.DataFrame({"user": ["ann"], "item": ["17"], "time": [5], "device": ["tv"]})
        >>> [(event.user, event.time, event.context) for event in LogEvents(Events(table))]
        [('ann', 5, {'device': 'tv'})]
    """

    log: Events

    def __iter__(self) -> Iterator[Event]:
        log = self.log
        names = [name for name in log.table.columns if name not in ROLES]
        filed = None if log.places is None else log.places.arg_sort()
        for begin in range(0, len(log), _BLOCK):
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


def export_frame(events: Sequence[StoredEvent]) -> pl.DataFrame:
    """Return events with all that was sent: the roles with times in UTC, and context as JSON text.

    Example:
        >>> event = StoredEvent("ann", "17", 5_000_000, None, None, "buy", {"page": 2}, 1, 5_000_000)
        >>> export_frame([event]).row(0)[-2:]
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


def log_frame(events: Sequence[StoredEvent]) -> pl.DataFrame:
    """Return events as columns of a log: `user`, `item`, `time`, `place`, and others where given.

    Each part of the context is a column. Texts, booleans and numbers keep their type; everything
    else, and a column of mixed types, becomes text. A part with the name of a role is left out.

    Example:
        >>> sent = [("x", {"page": 1}), ("y", {"page": 2.5, "tags": ["a"]})]
        >>> events = [StoredEvent("ann", item, 5, None, None, None, context, 1, 5) for item, context in sent]
        >>> log_frame(events).select("item", "page", "tags").rows()
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
    types = {type(value) for value in values if value is not None}
    for allowed, dtype in (({str}, pl.String), ({bool}, pl.Boolean), ({int}, pl.Int64), ({int, float}, pl.Float64)):
        if types <= allowed and all(not isinstance(v, int) or abs(v) < 2**63 for v in values):
            return pl.Series(values, dtype=dtype)
    return pl.Series([v if v is None or isinstance(v, str) else _json(v) for v in values], dtype=pl.String)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _plain(value: Any) -> Any:
    """Return a value of a table as a JSON value; None for a number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int | Mapping):
        return value
    return [_plain(part) for part in value] if isinstance(value, list) else str(value)


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json_of(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ColumnError(
            f'{where}: expected the column "context" to hold objects of JSON, came {text[:40]!r}. '
            "Rename the column, or leave it out of the file."
        )
    return value
