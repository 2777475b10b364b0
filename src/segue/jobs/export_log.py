"""Many events at a time, out of a store; `segue.jobs.import_log` is the way into one.

Knows: batches, the log of a store as a table and as a file.
Does not know: what a store is made of; how a log is read from a file.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from segue.data.log.events import Events
from segue.data.log.findings import Intake
from segue.errors import DataError
from segue.jobs.event_frames import as_columns, as_rows, joined
from segue.jobs.import_log import Imported, import_events
from segue.jobs.resumable_parquet import Parts
from segue.store.base import Store
from segue.store.events import START, StoredEvent

__all__ = ["Imported", "events_of", "export", "export_file", "import_events"]

#: Events in a table that is made at once.
_TABLE = 100_000
_KEPT = ("user", "item", "time", "place", "rating", "type")


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
    table, places = table.drop("place"), None
    if untimed < rows and not table["time"].is_sorted():
        table = table.with_row_index("row").sort("time", maintain_order=True)
        places, table = table["row"], table.drop("row")
    roles = {name: name for name in table.columns if name in _KEPT}
    note = f"{untimed - lost:,} events without a time stand at that of the event before"
    notes = (note,) if lost < untimed < rows else ()
    intake = Intake(rows, roles, dropped={"no time": lost} if lost else {}, notes=notes)
    return Events(table, source, intake, places=places)


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
