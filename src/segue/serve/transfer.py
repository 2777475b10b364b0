"""Many events at a time, into a store and out of it.

Knows: batches, where an import stopped, how a log and a store say the same.
Does not know: what a store is made of.
"""

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from segue.data.events import Events
from segue.errors import DataError
from segue.serve.events import Event, StoredEvent
from segue.serve.store import Conflict, Duplicate, Forgotten, Outcome, Store, Write, Written


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an import.

    Args:
        position: events of the source that are done, over all runs.
        written: new events of this run.
        known: events of this run that the store had, under the same ids.
        refused: events of this run that conflict with others, or that were erased on request.
    """

    position: int
    written: int = 0
    known: int = 0
    refused: int = 0


def import_events(
    store: Store, events: Iterable[Event], *, source: str, client: str = "import", batch: int = 5000
) -> Imported:
    """Put historic events into a store, and go on where an earlier run stopped.

    The position in the source is committed with the events, so that after a crash none is missing and none
    is twice. States of the users become outdated, and are rebuilt by replay.

    Args:
        store: where to.
        events: all of the source, in its order; those done before are passed over.
        source: a name of the source, under which the position is kept.
        client: the ids of the events are its own.
        batch: events in a transaction.
    """
    name = f"import:{source}"
    done = int(store.get_value(name) or b"0")
    report = Imported(done)
    rest = itertools.islice(events, done, None)
    while some := list(itertools.islice(rest, batch)):
        position = report.position + len(some)
        writes = list(_writes(some, client))
        outcomes = store.commit(writes, values={name: b"%d" % position})
        report = _add(report, zip(writes, outcomes, strict=True), position)
    return report


def export(store: Store, *, after: int = 0, batch: int = 5000) -> Iterator[list[StoredEvent]]:
    """Give all events in the order of arrival, in batches, behind a `seq`.

    Example:
        >>> [event.item for events in export(store, after=last) for event in events]  # doctest: +SKIP
    """
    while events := store.log(after=after, limit=batch):
        yield events
        after = events[-1].seq


_ROLES = ("user", "item", "time", "id", "rating", "type")
_SCHEMA = {
    "user": pl.String,
    "item": pl.String,
    "time": pl.Int64,
    "id": pl.String,
    "rating": pl.Float32,
    "type": pl.String,
    "context": pl.String,
}


def told_by(log: Events) -> Iterator[Event]:
    """Give the events of a log as they would have been sent, in its order.

    Example:
        >>> log = Events(pl.DataFrame({"user": ["a"], "item": ["x"], "time": [5], "device": ["tv"]}))
        >>> [(event.item, event.time, event.context) for event in told_by(log)]
        [('x', 5, {'device': 'tv'})]
    """
    others = [name for name in log.table.columns if name not in _ROLES]
    for row in log.as_text().iter_rows(named=True):
        context = {name: row[name] for name in others if row[name] is not None}
        yield Event(**{name: row[name] for name in _ROLES if name in row}, context=context)


def table_of(store: Store) -> pl.DataFrame:
    """Return all events of a store in the order of arrival; `context` is JSON, null where there is none.

    Cost: memory for the table, and a batch.
    """
    parts = [
        pl.DataFrame(
            [
                (e.user, e.item, e.time, e.id, e.rating, e.type, json.dumps(dict(e.context)) if e.context else None)
                for e in events
            ],
            schema=_SCHEMA,
            orient="row",
        )
        for events in export(store)
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=_SCHEMA)


def events_of(store: Store, source: str = "store") -> Events:
    """Return the log of a store: by time, events of one time in the order of arrival; context as columns.

    Where no event has a time the order of arrival is the order; those without a time among others stand at the
    time of their user's event before them.

    Raises:
        DataError: the store holds no events.
    """
    table = table_of(store)
    if not table.height:
        raise DataError(f"{source}: expected a store with events, it holds none. Tell or import some first.")
    contexts = table["context"].drop_nulls()
    names = (
        sorted({name for text in contexts.unique() for name in json.loads(text)} - set(_ROLES)) if len(contexts) else []
    )
    parsed = [json.loads(text) if text else {} for text in table["context"].to_list()] if names else []
    columns = [pl.Series(name, [_cell(one.get(name)) for one in parsed], pl.String) for name in names]
    table = table.drop("context").with_columns(columns)
    table = table.drop([name for name in ("id", "rating", "type", "time") if table[name].null_count() == table.height])
    if "time" in table.columns:
        table = table.with_columns(pl.col("time").forward_fill().over("user").fill_null(pl.col("time").min()))
        table = table.sort("time", maintain_order=True)
    return Events(table, source)


def _cell(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


def is_store(address: str | Path) -> bool:
    """Say whether an address names a store: a server, or an SQLite file."""
    if store_address(address) is not None:
        return True
    path = Path(address)
    if not path.is_file() or os.path.getsize(path) < 16:
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


def store_address(address: str | Path) -> str | None:
    """Return the address of a server, whole again after it was taken for a path; None for a path.

    Example:
        >>> store_address(Path("valkey://host:6379/0")), store_address("log.csv")
        ('valkey://host:6379/0', None)
    """
    found = re.fullmatch(r"(valkeys?|rediss?):/{1,2}(.+)", str(address))
    return f"{found[1]}://{found[2]}" if found else None


def _writes(events: Iterable[Event], client: str) -> Iterator[Write]:
    """Give one write for each run of events of a user without ids, and for each event with one."""
    numbered = enumerate(events)
    for (user, _), run in itertools.groupby(numbered, key=lambda one: (one[1].user, one[1].id and one[0])):
        yield Write(user, None, tuple(event for _, event in run), client=client)


def _add(report: Imported, done: Iterable[tuple[Write, Outcome]], position: int) -> Imported:
    written, known, refused = report.written, report.known, report.refused
    for write, outcome in done:
        size = len(write.events)
        written += size * isinstance(outcome, Written)
        known += size * isinstance(outcome, Duplicate)
        refused += size * isinstance(outcome, Conflict | Forgotten)
    return Imported(position, written, known, refused)
