"""Many events at a time, into a store and out of it.

Knows: batches, and where an import stopped.
Does not know: what a store is made of; files of events.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
