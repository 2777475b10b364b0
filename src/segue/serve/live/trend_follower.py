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
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from segue.kernels.trend_loops import BUCKETS, OF_ITEM, OF_PAIR
from segue.recommend.recommender import Recommender
from segue.serve.live.background import Background
from segue.serve.ranking.types import TrendStatus
from segue.shapes import Times
from segue.store.base import Store, change_value
from segue.store.events import START, Position, StoredEvent
from segue.trends.moves import RECENT, Moves, Trail
from segue.trends.ranker import item_key
from segue.trends.trends import Trends

#: Seconds between two looks at the log, of a store of one process and of one that others write to.
FOLLOWED, SHARED = 0.2, 0.5
#: Events that are read at a time.
PAGE = 1000
#: Users whose last events are kept in memory; those of others are read from the store.
USERS = 20_000
#: Events of a user in memory: an event that comes late by the events beyond `RECENT` needs no read.
KEPT = RECENT + 10
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
    """One event as the counts take it: to be added, or with a sign of -1 removed."""

    key: int
    before: tuple[int, ...]
    time: int
    sign: int


@dataclass(slots=True)
class _LastEvents:
    """The last events of a user that were counted, oldest first, and whether there are no others."""

    keys: list[int]
    times: list[int]
    whole: bool

    def insert(self, key: int, time: int) -> list[_Step]:
        """Put an event in its place, and return how that moves the counts: those after it count anew."""
        at = bisect_right(self.times, time)
        begin, later = max(0, at - RECENT), slice(at, at + RECENT)
        before, keys, times = (self.keys[begin:at], self.times[begin:at]), self.keys[later], self.times[later]
        steps = _pushed(Trail(*before), keys, times, -1) if keys else []
        steps += _pushed(Trail(*before), [key, *keys], [time, *times], 1)
        self.keys.insert(at, key)
        self.times.insert(at, time)
        if len(self.keys) > KEPT:
            del self.keys[0], self.times[0]
            self.whole = False
        return steps


class TrendReplay:
    """The trends of a store's log, up to a place in it. For one thread.

    Args:
        store: with the log.
        shortest: the shortest half-life, in microseconds.

    `trends.lines()` is what a replay of the whole log would give, at the time of the newest event that was read.
    """

    def __init__(self, store: Store, shortest: int) -> None:
        self.trends, self.past, self.events = Trends(shortest), store.past_version(), 0
        self.caught_up = False
        self._store = store
        self._users: OrderedDict[str, _LastEvents] = OrderedDict()
        marks = _marks(store.get_value(_VALUE))
        self.seq, self._latest = _begin(marks, shortest)
        self._marked = marks[-1].seq if marks else 0

    def step(self, limit: int = PAGE) -> bool:
        """Count the next page of the log, and return whether its end is reached.

        Cost: O(events); of a user who is not in memory, and of a late event, up to `RECENT` events are read.
        """
        page = self._store.log(after=self.seq, limit=limit)
        timed = [event for event in page if event.time is not None]
        try:
            steps = [step for event in timed for step in self._steps(event)]
        except BaseException:  # nothing was counted, all is read again
            self._users.clear()
            raise
        if timed:
            moves, signs = _moves(steps)
            self.trends.add(moves, {event.item for event in timed}, signs)
            self._latest = max(self._latest, *(event.place for event in timed))
            self.events += len(timed)
        if page:
            self.seq = page[-1].seq
        self._mark()
        self.caught_up |= len(page) < limit
        return len(page) < limit

    def take_over(self, other: "TrendReplay") -> None:
        """Go on in place of another replay, whose readers read the counts of this one from now on."""
        if other.trends.newest is not None:  # both count at one time, although the newest event may be gone
            self.trends.advance(other.trends.newest)
        other.trends.take_over(self.trends)
        self.trends, self.events = other.trends, other.events

    def _steps(self, event: StoredEvent) -> list[_Step]:
        """Return how an event moves the counts; one before others of its user changes what these count."""
        known = self._users.pop(event.user, None) or self._last(event)
        at = bisect_right(known.times, event.place)  # of one time, what came first is first
        if at < len(known.times) and at < RECENT and not known.whole:  # and the user is read again with the next event
            return self._around(event).insert(item_key(event.item), event.place)
        self._users[event.user] = known
        if len(self._users) > USERS:
            self._users.popitem(last=False)
        return known.insert(item_key(event.item), event.place)

    def _last(self, event: StoredEvent) -> _LastEvents:
        """Return the last events of a user that arrived before one."""
        found = _counted(self._store, event, None, KEPT)
        return _last_events(found, whole=len(found) < KEPT)

    def _around(self, event: StoredEvent) -> _LastEvents:
        """Return what lies around the place of an event of what arrived before it."""
        earlier = _counted(self._store, event, event.position, RECENT)
        return _last_events(
            earlier + _counted(self._store, event, event.position, RECENT, backwards=False), whole=False
        )

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
    """The trends of a server, which follow the log of its store from the first model with a ranker on.

    Args:
        store: with the log.
        full: is called where a model meets more unknown items than it has rows for, to bind it anew.
        clock: seconds, for the pace.
    """

    def __init__(
        self, store: Store, full: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._full, self._clock = store, full, clock
        self._replays: dict[int, TrendReplay] = {}
        self._anew: dict[int, tuple[float, TrendReplay]] = {}  # with when it began
        self._not_before: dict[int, float] = {}
        self._bound: WeakValueDictionary[int, Recommender] = WeakValueDictionary()
        self._lock, self._turned = threading.Lock(), threading.Condition()
        self._begun = self._done = 0
        self._open = self._running = self._closed = False
        self._at_end = clock()
        self.thread = Background("segue-trends", self.turn, every=FOLLOWED if store.exclusive else SHARED)

    def start(self) -> None:
        """Begin to follow, now or with the first model that has a ranker."""
        with self._lock:
            self._open = True
            self._run()

    def _run(self) -> None:
        """Start the thread where there is something to follow, once."""
        if self._open and self._replays and not self._running:
            self._running = True
            self.thread.start()

    def bound(self, rec: Recommender) -> Recommender:
        """Return a model whose lists follow the trends; one without a ranker as it is.

        The counts of a half-life that no model had before begin here, and answer while they catch up with the log.

        Cost: O(items x width) for a model that was not bound before.
        """
        if rec.ranker is None:
            return rec
        with self._lock:
            found = self._bound.get(id(rec))  # which keeps `rec`, so the number stands for it
            if found is None or _full(found):
                found = self._bound[id(rec)] = rec.with_trends(self._trends(int(rec.ranker.shortest)))
        return found

    def _trends(self, shortest: int) -> Trends:
        if shortest not in self._replays:
            self._replays[shortest] = TrendReplay(self._store, shortest)
            self._run()
        return self._replays[shortest].trends

    def status(self, rec: Recommender) -> TrendStatus | None:
        """Return where the trends of a model stand; None for a model without."""
        replay = self._replays.get(int(rec.ranker.shortest)) if rec.ranker else None
        if replay is None:
            return None
        sizes = replay.trends.table.sizes
        behind = self._clock() - self._at_end
        return TrendStatus(replay.trends.shortest / 1e6, replay.events, replay.caught_up, behind, *sizes)

    def wait(self, seconds: float) -> bool:
        """Wait until all that is in the log now is counted; return whether it is."""
        with self._turned:
            wanted = self._begun + 1
            self.thread.hurry()
            return self._turned.wait_for(lambda: self._done >= wanted or not self._replays, seconds)

    def turn(self) -> None:
        """Read the log to its end."""
        with self._turned:
            self._begun = begun = self._begun + 1
        with self._lock:
            followed = self._in_use()
        while not self._closed and sum(self._step(one) for one in followed) < len(followed):
            pass
        self._at_end = self._clock()
        with self._lock:
            full = any(_full(rec) for rec in self._bound.values())
        if full:
            self._full()
        with self._turned:
            self._done = begun
            self._turned.notify_all()

    def _in_use(self) -> list[int]:
        """Return the half-lives of the models at hand, and let the counts of others go."""
        used = {int(rec.ranker.shortest) for rec in self._bound.values() if rec.ranker}
        for shortest in self._replays.keys() - used:
            self._replays.pop(shortest)
            self._anew.pop(shortest, None)
        return list(self._replays)

    def _step(self, shortest: int) -> bool:
        """Read a page, and return whether all is read."""
        past, live = self._store.past_version(), self._replays[shortest]
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


def _full(rec: Recommender) -> bool:
    """Return whether a model has no row left for an item that it does not know."""
    return rec.live is not None and rec.live.vocabulary.full


def _begin(marks: list[Mark], shortest: int) -> Mark:
    """Return the last mark before which no event counts any more, by the newest event that is known."""
    if not marks:
        return Mark()
    width = shortest * max(*OF_ITEM, *OF_PAIR)
    oldest = (marks[-1].latest // width - BUCKETS + 1) * width
    return next((mark for mark in reversed(marks) if mark.latest < oldest), Mark())


def _marks(value: bytes | None) -> list[Mark]:
    return msgspec.json.decode(value, type=list[Mark]) if value else []


def _last_events(events: Sequence[StoredEvent], *, whole: bool) -> _LastEvents:
    return _LastEvents([item_key(one.item) for one in events], [one.place for one in events], whole)


def _pushed(trail: Trail, keys: Sequence[int], times: Sequence[int], sign: int) -> list[_Step]:
    return [_Step(*trail.push(key, time), time, sign) for key, time in zip(keys, times, strict=True)]


def _moves(steps: list[_Step]) -> tuple[Moves, Times]:
    keys, before, times, signs = zip(*steps, strict=True)
    moves = Moves(np.array(keys, np.int64), np.array(before, np.int64), np.array(times, np.int64))
    return moves, np.array(signs, np.int64)


def _counted(
    store: Store, event: StoredEvent, edge: Position | None, most: int, *, backwards: bool = True
) -> list[StoredEvent]:
    """Return events with a time of an event's user that arrived before the event, in their order.

    Args:
        store: with the log.
        event: whose user, and before whose arrival.
        edge: the events before this position, or after it; None for the last ones.
        most: how many.
        backwards: those before the edge, which are nearest.
    """
    found: list[StoredEvent] = []
    limit = most + 2
    while True:
        page = store.events(event.user, after=edge, limit=limit, backwards=backwards)
        found += [one for one in page if one.time is not None and one.seq < event.seq]
        if len(found) >= most or len(page) < limit or (backwards and page[-1].place == START.place):
            return found[:most][:: -1 if backwards else 1]
        edge, limit = page[-1].position, 500
