"""What everybody does now, counted from the store's log, for the models that answer.

Knows: the log is the truth and the counts are a cache of it, in memory alone. The counts are a function of the events
in the log, whatever the order of their arrival. A late event changes what its neighbours count. After an erasure or a
merge, by this server or another, all is counted anew beside the counts that answer, and takes their place.
Does not know: how counts become scores, who sends events.

The path: `TrendFollower` takes turns; in each a `TrendReplay` reads what is new of the log, a page at a time. A start
begins not at the first event but at a mark: a place in the log before which no event counts any more.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from segue.kernels.trend_loops import BUCKETS, LAST, OF_ITEM, OF_PAIR
from segue.serve.live.background import Background
from segue.store.base import Store, change_value
from segue.store.events import START, Position, StoredEvent
from segue.trends.moves import RECENT, Moves, Trail
from segue.trends.ranker import item_key
from segue.trends.trends import Trends

#: Seconds between two looks at the log, and events that are read at a time.
FOLLOWED, PAGE = 0.2, 1000
#: Users whose last events are kept in memory; those of others are read from the store.
USERS = 20_000
#: Events of the log between two marks.
MARKED = 100_000
#: The share of the time in which counts may be made anew, after erasures and merges.
ANEW = 0.1
_VALUE = "trends"


class Mark(NamedTuple):
    """A place in the log: no event up to this number is later than this time, in microseconds."""

    seq: int = 0
    latest: int = START.place


class _Step(NamedTuple):
    """One event as the counts take it."""

    key: int
    before: tuple[int, ...]
    time: int
    item: str
    seq: int


@dataclass(slots=True)
class _LastEvents:
    """The last events of a user that were counted, and the position of the last one."""

    trail: Trail
    last: Position


class TrendReplay:
    """The trends of a store's log, up to a place in it. For one thread.

    Args:
        store: with the log.
        shortest: the shortest half-life, in microseconds.

    `trends.lines()` is what a replay of the whole log would give, at the time of the newest event that was read.
    """

    def __init__(self, store: Store, shortest: int) -> None:
        self.trends, self.past, self.events = Trends(shortest), store.past_version(), 0
        self._store, self._pending = store, list[_Step]()
        self._users: OrderedDict[str, _LastEvents] = OrderedDict()
        marks = _marks(store.get_value(_VALUE))
        self.seq, self._latest = _begin(marks, shortest)
        self._marked = marks[-1].seq if marks else 0

    def step(self, limit: int = PAGE) -> bool:
        """Count the next page of the log, and return whether its end is reached.

        Cost: O(events); of a user who is not in memory, and of a late event, up to `RECENT` events are read.
        """
        page = self._store.log(after=self.seq, limit=limit)
        try:
            for event in page:
                self._take(event)
            self._flush()
        except BaseException:  # what was not counted is read again
            self._pending.clear()
            self._users.clear()
            raise
        if page:
            self.seq = page[-1].seq
        self._mark()
        return len(page) < limit

    def take_over(self, other: "TrendReplay") -> None:
        """Go on in place of another replay, whose readers read the counts of this one from now on."""
        if other.trends.newest is not None:  # both count at one time, although the newest event may be gone
            self.trends.advance(other.trends.newest)
        other.trends.take_over(self.trends)
        self.trends = other.trends

    def _take(self, event: StoredEvent) -> None:
        if event.time is None:
            return
        known = self._users.pop(event.user, None) or self._read(event)
        if event.position < known.last:
            self._flush()
            self._insert(event)  # and the user is read again with the next event
            return
        self._users[event.user] = known
        known.last = event.position
        self._pending.append(_step(known.trail, event))
        if len(self._users) > USERS:
            self._users.popitem(last=False)

    def _read(self, event: StoredEvent) -> _LastEvents:
        """Return the last events of a user that came before one."""
        recent = _counted(self._store, event, None)
        trail = Trail([item_key(one.item) for one in recent], [one.place for one in recent])
        return _LastEvents(trail, recent[-1].position if recent else START)

    def _insert(self, event: StoredEvent) -> None:
        """Count an event before others of its user, whose moves it changes."""
        earlier = _counted(self._store, event, event.position)
        later = _counted(self._store, event, event.position, backwards=False)

        def moves(line: list[StoredEvent]) -> list[_Step]:
            trail = Trail([item_key(one.item) for one in earlier], [one.place for one in earlier])
            return [_step(trail, one) for one in line]

        self.trends.remove(_moves(moves(later)))
        new = moves([event, *later])
        self.trends.add(_moves(new), [event.item])
        self.seq, self._latest, self.events = event.seq, max(self._latest, event.place), self.events + 1

    def _flush(self) -> None:
        """Count what is pending."""
        if not self._pending:
            return
        moves = _moves(self._pending)
        self.trends.add(moves, {step.item for step in self._pending})
        self.seq, self._latest = self._pending[-1].seq, max(self._latest, int(moves.times.max()))
        self.events += len(self._pending)
        self._pending.clear()

    def _mark(self) -> None:
        """Keep where the log stands now and then, so that a start need not read all of it."""
        if self.seq < self._marked + MARKED:
            return

        def marked(value: bytes | None) -> bytes:
            marks = _marks(value)
            if not marks or self.seq >= marks[-1].seq + MARKED:
                marks.append(Mark(self.seq, self._latest))
            return msgspec.json.encode(marks)

        self._marked = _marks(change_value(self._store, _VALUE, marked))[-1].seq


class TrendFollower:
    """The trends of a server, which follow the log of its store.

    Args:
        store: with the log.
        clock: seconds, for the pace.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._replays: dict[int, TrendReplay] = {}
        self._anew: dict[int, tuple[float, TrendReplay]] = {}  # with when it began
        self._not_before: dict[int, float] = {}
        self._lock, self._closed = threading.Lock(), False
        self._at_end = clock()
        self.thread = Background("segue-trends", self.turn, every=FOLLOWED)

    def trends(self, shortest: int) -> Trends:
        """Return the trends of a half-life in microseconds, which follow the log from now on."""
        with self._lock:
            if shortest not in self._replays:
                self._replays[shortest] = TrendReplay(self._store, shortest)
            return self._replays[shortest].trends

    def turn(self) -> None:
        """Read the log to its end."""
        with self._lock:
            shortest = list(self._replays)
        while not self._closed and sum(self._step(one) for one in shortest) < len(shortest):
            pass
        self._at_end = self._clock()

    def _step(self, shortest: int) -> bool:
        """Read a page, and return whether all is read."""
        past = self._store.past_version()
        live = self._replays[shortest]
        at_end = live.step()
        anew = self._anew.get(shortest)
        if anew is None and past != live.past and self._clock() >= self._not_before.get(shortest, 0.0):
            anew = self._anew[shortest] = self._clock(), TrendReplay(self._store, shortest)
        if anew is None:
            return at_end
        began, replay = anew
        if replay.step():
            replay.take_over(live)
            self._replays[shortest] = replay
            del self._anew[shortest]
            self._not_before[shortest] = self._clock() + (self._clock() - began) * (1 / ANEW - 1)
        return at_end and shortest not in self._anew

    def close(self) -> None:
        """Stop to follow."""
        self._closed = True
        self.thread.stop()


def _begin(marks: list[Mark], shortest: int) -> Mark:
    """Return the last mark before which no event counts any more, by the newest event that is known."""
    if not marks:
        return Mark()
    width = shortest * max(*OF_ITEM, *OF_PAIR)
    oldest = (marks[-1].latest // width - BUCKETS + 1) * width
    return next((mark for mark in reversed(marks) if mark.latest < oldest), Mark())


def _marks(value: bytes | None) -> list[Mark]:
    return msgspec.json.decode(value, type=list[Mark]) if value else []


def _step(trail: Trail, event: StoredEvent) -> _Step:
    return _Step(*trail.push(item_key(event.item), event.place), event.place, event.item, event.seq)


def _moves(steps: list[_Step]) -> Moves:
    keys, before, times, *_ = zip(*steps, strict=True) if steps else ((), (), ())
    return Moves(np.array(keys, np.int64), np.array(before, np.int64).reshape(-1, LAST), np.array(times, np.int64))


def _counted(store: Store, event: StoredEvent, edge: Position | None, *, backwards: bool = True) -> list[StoredEvent]:
    """Return up to `RECENT` events of an event's user with a time that arrived before it, in their order.

    Args:
        store: with the log.
        event: whose user, and before whose arrival.
        edge: the events before this position, or after it; None for the last ones.
        backwards: those before the edge, which are nearest.
    """
    found: list[StoredEvent] = []
    limit = RECENT + 2
    while True:
        page = store.events(event.user, after=edge, limit=limit, backwards=backwards)
        found += [one for one in page if one.time is not None and one.seq < event.seq]
        if len(found) >= RECENT or len(page) < limit or (backwards and page[-1].place == START.place):
            return found[:RECENT][:: -1 if backwards else 1]
        edge, limit = page[-1].position, 500
