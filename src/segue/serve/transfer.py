"""Many events at a time, into a store and out of it.

Knows: batches, where an import stopped, the log of a store as a table and as a file.
Does not know: what a store is made of; how a log is read from a file.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from segue.data.events import Events
from segue.data.findings import Intake
from segue.errors import ConflictError, DataError
from segue.serve.events import START, Event, StoredEvent
from segue.serve.parts import Parts
from segue.serve.store import Conflict, Duplicate, Forgotten, Outcome, Store, Write, Written, version_of
from segue.serve.tables import as_columns, as_rows, joined

#: Events in a table that is made at once.
_TABLE = 100_000
_KEPT = ("user", "item", "time", "place", "rating", "type")


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
    is twice; and with it a digest of the events before it, so that a source that grew at its end goes on, and
    one that changed before is refused. States of the users become outdated, and are rebuilt by replay.

    Args:
        store: where to.
        events: all of the source, in its order; those done before are passed over.
        source: a name of the source, under which the position is kept.
        client: the ids of the events are its own.
        batch: events in a transaction.

    Raises:
        DataError: the events done before are not the first of the source.
        ConflictError: another import under this name is under way.
    """
    name, rest = f"import:{source}", iter(events)
    value = store.get_value(name)
    kept = (value or b"0").split()
    report, sha = Imported(int(kept[0])), hashlib.sha256()
    for event in itertools.islice(rest, report.position):
        sha.update(event.digest)
    if len(kept) > 1 and sha.hexdigest() != kept[1].decode():
        raise DataError(
            f"{source}: expected to begin with the {report.position:,} events that were imported under this name, "
            "came others. If it is another source, give it another name (--source); events with ids that are "
            "there already are not doubled."
        )
    while some := list(itertools.islice(rest, batch)):
        position = report.position + len(some)
        for event in some:
            sha.update(event.digest)
        writes = list(_writes(some, client))
        version, value = version_of(value), f"{position} {sha.hexdigest()}".encode()
        try:
            outcomes = store.commit(writes, values={name: value}, versions={name: version})
        except ConflictError:
            raise ConflictError(
                f"{source}: expected to be the only import under this name, another one is under way. Nothing of it "
                "was written twice. Wait until it has ended, then run this again."
            ) from None
        report = _add(report, zip(writes, outcomes, strict=True), position)
    return report


def export(store: Store, *, after: int = 0, batch: int = 5000) -> Iterator[list[StoredEvent]]:
    """Give all events in the order of arrival, in batches, behind a `seq`; what arrives meanwhile is left out.

    Example:
        >>> [event.item for events in export(store, after=last) for event in events]  # doctest: +SKIP
    """
    newest = store.users(limit=1)
    while newest and (events := store.log(after=after, limit=batch)):
        after = events[-1].seq
        events = [event for event in events if event.seq <= newest[0].active]
        if events:
            yield events
        if after >= newest[0].active:
            break


def export_file(store: Store, out: Path) -> int:
    """Write all events to a Parquet file, and return how many: the roles, and context as JSON.

    The file that stood there is replaced when the new one is whole. `segue import` reads it.

    Raises:
        DataError: it cannot be written.

    Cost: O(events) time; memory of a batch.
    """
    parts, count = Parts(out, {"what": "export"}), 0
    parts.clear()
    try:
        for events in _batches(export(store), _TABLE):
            parts.add(as_rows(events))
            count += len(events)
        parts.finish(as_rows([]))
    finally:
        parts.clear()
    return count


def events_of(store: Store, *, source: str = "store", context: Iterable[str] | None = None) -> Events:
    """Return the log of a store, in the order of time, events of one time in the order of arrival.

    The log has times if one event has. An event without a time then has that of its user's latest event when it
    arrived; where there is none, it is left out and counted.

    Args:
        store: whose log; it may be one of `read_store`.
        source: what messages call it.
        context: columns to keep of what was sent as context; None keeps all.

    Raises:
        DataError: there are no events.

    Cost: O(events log events) time; memory about twice the table.
    """
    columns = [as_columns(events) for events in _batches(export(store), _TABLE)]
    if not columns:
        raise DataError(f"{source}: expected a store with events, it holds none. Import a log first: segue import.")
    table = joined(columns)
    if context is not None:
        table = table.drop([name for name in table.columns if name not in (*_KEPT, *context)])
    rows = table.height
    untimed = table["time"].null_count()
    if untimed == rows:
        table = table.drop("time")
    elif untimed:
        known = pl.col("place") != START.place
        table = table.filter(known).with_columns(time=pl.coalesce("time", "place"))
    lost = rows - table.height
    table = table.drop("place")
    if untimed < rows:
        table = table.sort("time", maintain_order=True)
    roles = {name: name for name in table.columns if name in _KEPT}
    note = f"{untimed - lost:,} events without a time stand at that of the event before"
    notes = (note,) if lost < untimed < rows else ()
    intake = Intake(rows, roles, dropped={"no time": lost} if lost else {}, notes=notes)
    return Events(table, source, intake)


def _batches(pages: Iterable[list[StoredEvent]], size: int) -> Iterator[list[StoredEvent]]:
    """Give pages put together, at least so many events at a time but for the last."""
    whole: list[StoredEvent] = []
    for page in pages:
        whole += page
        if len(whole) >= size:
            yield whole
            whole = []
    if whole:
        yield whole


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
