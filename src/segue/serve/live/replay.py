"""A user's state, read from the store or rebuilt from the log.

Knows: that the log is the truth: where to begin a replay, and which snapshots to leave along the way.
Does not know: lists, requests, which model should answer.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from segue.errors import ArgumentError, ConflictError
from segue.recommend.batch import Happened, observe_long, observe_rated, state_from_bytes, state_to_bytes
from segue.recommend.ratings import Rated
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.store.base import Head, Snapshot, Store
from segue.store.events import END, START, Event, Position, StoredEvent

logger = logging.getLogger("segue.serve")
#: Events between two snapshots; the store thins them towards the past.
SPACING = 256
PAGE = 2_000
#: How many events back one may be left out to see what would be, and pages that are read to begin there.
REACH, PAGES = 1_000, 2


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A state that holds all events, snapshots met on the way to it, and what events on it add to the shared value.

    Args:
        state: after the last event.
        snapshots: on the way.
        rated: by `seq` of the events replayed.
    """

    state: State
    snapshots: tuple[Snapshot, ...] = ()
    rated: Mapping[int, Rated] = field(default_factory=dict)


def read_state(rec: Recommender, head: Head) -> State | None:
    """Return the stored state of a head, whether it holds all events or not; None where there is none, or no whole one.

    The log is the truth: a state whose bytes are damaged is said in the log of the process, and made anew.
    """
    return None if head.state is None else _whole(rec, head.state.data)


def current_stored(rec: Recommender, head: Head) -> State | None:
    """Return the state that holds all events of a user, where no replay is needed; None where one is."""
    if head.fresh:
        return read_state(rec, head)
    return None if head.count else rec.start()


def state_at(rec: Recommender, begin: Snapshot | None) -> tuple[State, Position | None]:
    """Return the state that a replay of a user begins from, and the place of its last event.

    Where there is no snapshot, or no whole one, that is the state before the first event.
    """
    state = None if begin is None else _whole(rec, begin.data)
    return (rec.start(), None) if begin is None or state is None else (state, begin.position)


def _whole(rec: Recommender, body: bytes) -> State | None:
    try:
        return state_from_bytes(rec, body)
    except ArgumentError as error:
        logger.warning("A stored state is made anew from the log: %s", error)
        return None


def to_replay(rec: Recommender, store: Store, head: Head, before: int | None = None) -> tuple[Snapshot | None, int]:
    """Return the snapshot that a rebuild begins from, and how many events come after it.

    Args:
        rec: the model.
        store: with the log.
        head: of the user.
        before: a time in microseconds, when an event of that time is to be put in place.
    """
    at = END if before is None else Position.after(before)
    found = store.snapshot(head.user, rec.fingerprint, at=at) if head.count >= SPACING else None
    return found, head.count - (found.count if found else 0)


def rebuild(
    rec: Recommender, store: Store, head: Head, new: Sequence[Event] = (), *, begin: Snapshot | None = None
) -> Rebuilt:
    """Replay a user's events, and new ones in their places, from a snapshot on.

    Args:
        rec: the model.
        store: with the log.
        head: of the user.
        new: events that are not in the log yet, in the order of arrival.
        begin: where to begin; None at the user's first event.

    Cost: O(events after the snapshot), read in pages.
    """
    state, after = state_at(rec, begin)
    waiting = _in_places(new, head)
    snapshots: list[Snapshot] = []
    rated: dict[int, Rated] = {}
    while True:
        page = store.events(head.user, after=after, limit=PAGE)
        line: list[Happened] = []
        for kept in page:
            while waiting and waiting[0][0] < kept.place:
                line.append(waiting.pop(0)[1])
            line.append(kept)
        if len(page) < PAGE:
            line += (event for _, event in waiting)
        state = _along(rec, state, line, snapshots, rated)
        if len(page) < PAGE:
            return Rebuilt(state, tuple(snapshots), rated)
        after = page[-1].position


def state_before(rec: Recommender, store: Store, head: Head, edge: Position) -> State:
    """Return the state of a user before the event at a position.

    Raises:
        ConflictError: no state was kept within `PAGES` pages of events before it, as of a log that was imported.

    Cost: O(events after the last snapshot before it): of an event n back, at most 2 n, or the first spacing.
    """
    found = None
    if head.count >= SPACING:
        found = store.snapshot(head.user, rec.fingerprint, at=Position(edge.place, edge.seq - 1))
    state = rec.start() if found is None else state_from_bytes(rec, found.data)
    after = None if found is None else found.position
    for _ in range(PAGES):
        page = store.events(head.user, after=after, limit=PAGE)
        older = [event for event in page if event.position < edge]
        state = observe_long(rec, state, older)
        if len(older) < len(page) or not page:
            return state
        after = page[-1].position
    raise ConflictError(
        f"explain: expected a state kept within {PAGES * PAGE:,} events before the event, there is none. "
        f"A state is kept at every {SPACING} ingested events. Name later events."
    )


def without(rec: Recommender, store: Store, head: Head, left_out: frozenset[int]) -> State:
    """Return the state of a user who never did some events (by `seq`).

    Raises:
        ArgumentError: one is not among the last `REACH` events of the user.
        ConflictError: see `state_before`.

    Cost: O(events since the first of them), and that of `state_before`; the history before costs nothing.
    """
    events: list[StoredEvent] = []
    for limit in (len(left_out), 10 * len(left_out), REACH):
        events = store.events(head.user, limit=min(limit, REACH), backwards=True)[::-1]
        absent = left_out - {event.seq for event in events}
        if not absent:
            break
    if absent:
        raise ArgumentError(
            f"without: expected numbers (seq) of the last {REACH:,} events of the user, came {min(absent)}. "
            "Take them from GET /v1/users/{user}."
        )
    first = next((n for n, event in enumerate(events) if event.seq in left_out), len(events))
    begin = events[first].position if first < len(events) else END
    return observe_long(
        rec, state_before(rec, store, head, begin), [event for event in events[first:] if event.seq not in left_out]
    )


def snapshot_after(rec: Recommender, state: State) -> tuple[Snapshot, ...]:
    """Return the snapshot that is due at a state, if one is."""
    if state.count == 0 or state.count % SPACING:
        return ()
    return (Snapshot(rec.fingerprint, state.count, state_to_bytes(state)),)


def is_late(event: Event, head: Head) -> bool:
    """Say whether an event belongs before the last one of its user."""
    return event.time is not None and head.last is not None and event.time < head.last.place


def _in_places(new: Sequence[Event], head: Head) -> list[tuple[int, Event]]:
    """Return events in their places, as the store puts them: one without a time stands behind all before it."""
    latest = head.last.place if head.last else START.place
    found: list[tuple[int, Event]] = []
    for event in new:
        place = latest if event.time is None else event.time
        found.append((place, event))
        latest = max(latest, place)
    return sorted(found, key=lambda one: one[0])


def _along(
    rec: Recommender, state: State, line: Sequence[Happened], snapshots: list[Snapshot], rated: dict[int, Rated]
) -> State:
    """Observe a line of events, leaving a snapshot at every `SPACING` of them, and what those that are kept add."""
    at = 0
    while at < len(line):
        count = min(SPACING - state.count % SPACING, len(line) - at)
        some = line[at : at + count]
        state, found = observe_rated(rec, state, some)
        pairs = zip(some, found, strict=True)
        rated |= {event.seq: one for event, one in pairs if one is not None and isinstance(event, StoredEvent)}
        at += count
        snapshots += snapshot_after(rec, state)
    return state
