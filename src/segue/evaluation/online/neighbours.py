"""Item-kNN and session-kNN over a sliding window of everybody's events.

Knows: sessions that share items. Does not know: models, or how events are ordered.

Source: item-kNN of Hidasi et al. 2016 (shrunk cosine to the last item); V-SKNN of Ludewig, Jannach
2018.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segue.errors import ArgumentError
from segue.evaluation.online.contract import MISS, OnlineBaseline
from segue.evaluation.online.session_window import LENGTH, SessionWindow
from segue.evaluation.online.stream_log import StreamLog
from segue.shapes import Times

#: Events in a window.
WINDOWS = (3_000.0, 10_000.0, 30_000.0, 100_000.0)
#: Sessions, the latest first, that are read for each item.
SESSIONS = 200
#: Items of the user's session, the latest first, from which session-kNN looks for neighbours.
ITEMS = 5
#: Likenesses are whole multiples of 1 / _UNIT, so that their sums are exact in any order.
_UNIT = 2.0**30


@dataclass(frozen=True)
class OnlineItemKNN(OnlineBaseline):
    """Score an item by the sessions that hold it beside the user's last item.

    `score(y) = sessions of x and y / (sessions of y + 20)^norm`, where x is the user's last item,
    and the sessions of both are among the last 200 of x in the window.

    Args:
        window: the number of events.
        norm: 0 counts, .5 is the cosine.
    """

    window: float = 30_000.0
    norm: float = 0.5

    title: ClassVar[str] = "item-kNN"
    grid: ClassVar = {"window": WINDOWS, "norm": (0.0, 0.25, 0.5)}

    def start(self, log: StreamLog, begin: int, *, exclude_seen: bool) -> "_ItemReader":
        """Read the last events before a place. O(window)."""
        return _ItemReader(log, exclude_seen, _filled(log, begin, self.window), self.norm)


@dataclass
class _SessionReader:
    log: StreamLog
    exclude_seen: bool
    window: SessionWindow

    def learn(self, event: int) -> None:
        self.window.learn(self.log.sessions.item(event), self.log.items.item(event))

    def without_seen(self, scores: NDArray[np.float64], event: int) -> None:
        if self.exclude_seen:
            scores[self.log.seen(event)] = 0.0


@dataclass
class _ItemReader(_SessionReader):
    norm: float

    def rank(self, event: int) -> float:
        last, item = self.log.last.item(event), self.log.items.item(event)
        if last < 0 or item == last:
            return MISS
        window = self.window
        slots = window.holding(last, SESSIONS, but=window.slot(self.log.last_sessions.item(event)))
        scores = _sums(window, slots, np.ones(len(slots)))
        scores[last] = 0.0
        self.without_seen(scores, event)
        if scores[item] <= 0:
            return MISS
        met = np.flatnonzero(scores > 0)
        likeness = scores[met] * (window.held[met] + 20.0) ** -self.norm
        return float(np.count_nonzero(likeness >= likeness[np.searchsorted(met, item)]))


@dataclass(frozen=True)
class OnlineSessionKNN(OnlineBaseline):
    """Score an item by the sessions most like the user's last session.

    `likeness(n) = sum of 1 / (1 + i) over shared items / sqrt(items of n)`, where i counts the
    user's items from the latest, 0 to 4, and n is among the last 200 sessions with the item;
    `score(y)` is the sum over the `neighbours` most like, of equals the latest.

    Args:
        window: the number of events.
        neighbours: the number of sessions.
    """

    window: float = 30_000.0
    neighbours: float = 100.0

    title: ClassVar[str] = "session-kNN"
    grid: ClassVar = {"window": WINDOWS, "neighbours": (30.0, 100.0, 300.0)}

    def start(self, log: StreamLog, begin: int, *, exclude_seen: bool) -> "_NeighbourReader":
        """Read the last events before a place. O(window)."""
        return _NeighbourReader(log, exclude_seen, _filled(log, begin, self.window), int(self.neighbours))


@dataclass
class _NeighbourReader(_SessionReader):
    neighbours: int

    def rank(self, event: int) -> float:
        window, item = self.window, self.log.items.item(event)
        own = window.slot(self.log.last_sessions.item(event))
        if own < 0:
            return MISS
        items = window.items_of(own)[: -ITEMS - 1 : -1].tolist()
        holding = [window.holding(each, SESSIONS, but=own) for each in items]
        weights = np.repeat(1.0 / np.arange(1, len(items) + 1), [len(slots) for slots in holding])
        slots, shared = np.unique(np.concatenate(holding), return_inverse=True)
        likeness = np.rint(np.bincount(shared, weights, len(slots)) / np.sqrt(window.lengths[slots]) * _UNIT)
        if len(slots) > self.neighbours:
            best = np.lexsort((-window.latest[slots], -likeness))[: self.neighbours]
            slots, likeness = slots[best], likeness[best]
        scores = _sums(window, slots, likeness)
        self.without_seen(scores, event)
        goal = scores[item]
        return float(np.count_nonzero(scores >= goal)) if goal > 0 else MISS


def _filled(log: StreamLog, begin: int, size: float) -> SessionWindow:
    """Return a window of the last events before a place."""
    if not size >= 1:
        raise ArgumentError(f"window: expected a number of events from 1, came {size}. Raise it.")
    window = SessionWindow(int(size), log.n_items)
    some = slice(max(0, begin - window.size), begin)
    for session, item in zip(log.sessions[some].tolist(), log.items[some].tolist(), strict=True):
        window.learn(session, item)
    return window


def _sums(window: SessionWindow, slots: Times, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[item]: the weights of the sessions that hold each item, added up."""
    sums = np.bincount(window.table[slots].ravel(), np.repeat(weights, LENGTH), window.empty + 1)
    return np.asarray(sums[:-1], np.float64)
