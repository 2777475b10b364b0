"""Recent popularity, decayed transition counts, and the sum of both, online.

Knows: counts that halve with time. Does not know: sessions, models.

A count is kept as if all of it had happened at one time, the base. An event at `t` adds

    2^((t - base) / half_life)

So no count changes while time passes, and counts of one time compare as they are. Before the powers
grow too large, the base moves and all counts are multiplied once.

Source: Ji et al. 2020, "A re-visit of the popularity baseline in recommender systems"; the
sequential rules of Ludewig, Jannach 2018, with time in place of distance.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from segue.errors import ArgumentError
from segue.evaluation.online.contract import MISS, OnlineBaseline
from segue.evaluation.online.stream_log import HOUR, StreamLog
from segue.shapes import Times

Numbers = NDArray[np.float64]

#: Half-lives in hours, from six minutes to ten years.
HALF_LIVES = (0.1, 0.25, 0.5, 1.0, 2.0, 6.0, 24.0, 72.0, 168.0, 720.0, 8760.0, 87600.0)
#: The power of two at which the base moves: far from the end of float64.
_FAR = 400.0


class _Clock:
    """The weight of an event, as a multiple of one at the base."""

    def __init__(self, log: StreamLog, begin: int, half_life: float) -> None:
        if not half_life > 0:
            raise ArgumentError(f"half_life: expected hours above 0, came {half_life}. Raise it.")
        self.half_life, self.base = half_life * HOUR, int(log.times[max(begin - 1, 0)])

    def weight(self, time: int) -> float:
        """Return the weight of an event at a time, a microsecond since 1970."""
        return float(2.0 ** min((time - self.base) / self.half_life, 1000.0))

    def weights(self, times: Times) -> Numbers:
        """Return float64[event]."""
        weights: Numbers = np.exp2((times - self.base) / self.half_life)
        return weights

    def moved(self, time: int) -> float | None:
        """Move the base to a time if it is far; return what all counts are multiplied by, else None."""
        if time - self.base <= _FAR * self.half_life:
            return None
        factor, self.base = self.weight(2 * self.base - time), time
        return factor


class _PopularityCounts:
    """How often each item was met, old events counting less: float64[item], dense."""

    def __init__(self, log: StreamLog, begin: int, half_life: float) -> None:
        self.clock = _Clock(log, begin, half_life)
        weights = self.clock.weights(log.times[:begin])
        self.values: Numbers = np.bincount(log.items[:begin], weights, log.n_items).astype(np.float64)
        self.total = float(weights.sum())

    def learn(self, item: int, time: int) -> None:
        if (factor := self.clock.moved(time)) is not None:
            self.values *= factor
            self.total *= factor
        weight = self.clock.weight(time)
        self.values[item] += weight
        self.total += weight


class _Row:
    """The followers of one item: items and their counts, side by side, with room for more."""

    __slots__ = ("counts", "items", "places", "size", "total")

    def __init__(self, items: Times, counts: Numbers) -> None:
        self.items, self.counts, self.size = items, counts, len(items)
        self.total = float(counts.sum())
        self.places = dict(zip(items.tolist(), range(len(items)), strict=True))

    def add(self, item: int, weight: float) -> None:
        place = self.places.get(item)
        if place is None:
            place = self.places[item] = self.size
            if place == len(self.items):
                room = np.zeros(max(4, place), np.int64)
                self.items, self.counts = np.append(self.items, room), np.append(self.counts, room)
            self.items[place], self.counts[place] = item, 0.0
            self.size += 1
        self.counts[place] += weight
        self.total += weight


class _FollowerCounts:
    """How often each item came right after each other, old pairs counting less: a sparse row for each item."""

    def __init__(self, log: StreamLog, begin: int, half_life: float) -> None:
        self.clock = _Clock(log, begin, half_life)
        weights = self.clock.weights(log.times[:begin])
        kept = (log.before[:begin] >= 0) & (weights > 0)
        first, second = log.before[:begin][kept], log.items[:begin][kept]
        pairs, inverse = np.unique(first * log.n_items + second, return_inverse=True)
        counts: Numbers = np.bincount(inverse, weights[kept], len(pairs)).astype(np.float64)
        firsts, begins = np.unique(pairs // log.n_items, return_index=True)
        ends = np.append(begins, len(pairs))[1:].tolist()
        self.rows: dict[int, _Row] = {}
        for item, low, high in zip(firsts.tolist(), begins.tolist(), ends, strict=True):
            self.rows[item] = _Row(pairs[low:high] % log.n_items, counts[low:high])

    def learn(self, before: int, item: int, time: int) -> None:
        if before < 0:
            return
        if (factor := self.clock.moved(time)) is not None:
            for row in self.rows.values():
                row.counts *= factor
                row.total *= factor
        if before not in self.rows:
            self.rows[before] = _Row(np.zeros(0, np.int64), np.zeros(0))
        self.rows[before].add(item, self.clock.weight(time))


@dataclass(frozen=True)
class OnlinePopularity(OnlineBaseline):
    """Score an item by its events so far, each halved for every half-life that has passed since.

    Args:
        half_life: in hours, above 0.

    Cost: one comparison with all items for each query.
    """

    half_life: float = 6.0

    title: ClassVar[str] = "recent popularity"
    grid: ClassVar = {"half_life": HALF_LIVES}

    def start(self, log: StreamLog, begin: int, *, exclude_seen: bool) -> "_PopularityReader":
        """Count the events before a place. O(events)."""
        return _PopularityReader(log, exclude_seen, _PopularityCounts(log, begin, self.half_life))


@dataclass
class _PopularityReader:
    log: StreamLog
    exclude_seen: bool
    counts: _PopularityCounts

    def rank(self, event: int) -> float:
        values, item = self.counts.values, self.log.items.item(event)
        goal = values.item(item)
        if goal <= 0 or (self.exclude_seen and self.log.repeated[event]):
            return MISS
        seen = self.log.seen(event) if self.exclude_seen else None
        return float(np.count_nonzero(values >= goal) - _among(values, seen, goal))

    def learn(self, event: int) -> None:
        self.counts.learn(self.log.items.item(event), self.log.times.item(event))


@dataclass(frozen=True)
class OnlineTransitions(OnlineBaseline):
    """Score an item by how often it came right after the user's last item, old pairs counting less.

    Args:
        half_life: in hours, above 0.

    Cost: one comparison with the followers of the last item for each query; memory of the pairs that were met.
    """

    half_life: float = 24.0

    title: ClassVar[str] = "transitions"
    grid: ClassVar = {"half_life": HALF_LIVES}

    def start(self, log: StreamLog, begin: int, *, exclude_seen: bool) -> "_TransitionReader":
        """Count the pairs before a place. O(events log events)."""
        return _TransitionReader(log, exclude_seen, _FollowerCounts(log, begin, self.half_life))


@dataclass
class _TransitionReader:
    log: StreamLog
    exclude_seen: bool
    counts: _FollowerCounts

    def rank(self, event: int) -> float:
        row = self.counts.rows.get(self.log.last.item(event))
        place = None if row is None else row.places.get(self.log.items.item(event))
        if row is None or place is None or (self.exclude_seen and self.log.repeated[event]):
            return MISS
        counts, goal = row.counts[: row.size], row.counts.item(place)
        if goal <= 0:
            return MISS
        rank = np.count_nonzero(counts >= goal)
        if self.exclude_seen:
            places = [row.places[item] for item in self.log.seen(event).tolist() if item in row.places]
            rank -= np.count_nonzero(counts[places] >= goal) if places else 0
        return float(rank)

    def learn(self, event: int) -> None:
        log = self.log
        self.counts.learn(log.before.item(event), log.items.item(event), log.times.item(event))


@dataclass(frozen=True)
class OnlineSum(OnlineBaseline):
    """Score an item by its share of the last item's transitions, plus `weight` times that of recent events.

        score(y) = followers(x, y) / (sum over y of followers(x, y) + 1)
                   + weight * events(y) / (sum over y of events(y))

    where x is the user's last item, and both counts decay.

    Args:
        popularity_half_life: in hours, above 0.
        transition_half_life: in hours, above 0.
        weight: of recent popularity, above 0.

    Cost: one comparison with all items for each query.
    """

    popularity_half_life: float = 6.0
    transition_half_life: float = 24.0
    weight: float = 0.3

    title: ClassVar[str] = "transitions + recent popularity"
    grid: ClassVar = {
        "weight": (0.03, 0.1, 0.3, 1.0, 3.0),
        "popularity_half_life": HALF_LIVES,
        "transition_half_life": HALF_LIVES,
    }

    def start(self, log: StreamLog, begin: int, *, exclude_seen: bool) -> "_SumReader":
        """Count events and pairs before a place. O(events log events)."""
        if not self.weight > 0:
            raise ArgumentError(f"{self.title}, weight: expected a number above 0, came {self.weight}. Raise it.")
        popularity = _PopularityCounts(log, begin, self.popularity_half_life)
        followers = _FollowerCounts(log, begin, self.transition_half_life)
        return _SumReader(log, exclude_seen, popularity, followers, self.weight)


@dataclass
class _SumReader:
    log: StreamLog
    exclude_seen: bool
    popularity: _PopularityCounts
    followers: _FollowerCounts
    weight: float

    def rank(self, event: int) -> float:
        log, values, item = self.log, self.popularity.values, self.log.items.item(event)
        share = values.item(item)
        if share <= 0 or (self.exclude_seen and log.repeated[event]):
            return MISS
        seen = log.seen(event) if self.exclude_seen else None
        row = self.followers.rows.get(log.last.item(event))
        if row is None:
            return float(np.count_nonzero(values >= share) - _among(values, seen, share))
        # Where an item has no share of the followers, its popularity alone decides: one comparison for all of these.
        factor = self.weight / self.popularity.total
        scale = 1.0 / (row.total + self.followers.clock.weight(log.times.item(event)))
        items, place = row.items[: row.size], row.places.get(item)
        scores = row.counts[: row.size] * scale + factor * values[items]
        goal = factor * share if place is None else scores.item(place)
        edge = share if place is None else _least(goal, factor)
        rank = np.count_nonzero(values >= edge) - np.count_nonzero(values[items] >= edge)
        rank += np.count_nonzero(scores >= goal) - _among(values, seen, edge)
        if seen is not None:
            places = [row.places[each] for each in seen.tolist() if each in row.places]
            if places:
                rank -= np.count_nonzero(scores[places] >= goal) - np.count_nonzero(values[items[places]] >= edge)
        return float(rank)

    def learn(self, event: int) -> None:
        log = self.log
        item, time = log.items.item(event), log.times.item(event)
        self.popularity.learn(item, time)
        self.followers.learn(log.before.item(event), item, time)


def _least(goal: float, factor: float) -> float:
    """Return the least number whose product with the factor is at least the goal, so that ties stay ties."""
    edge = goal / factor
    while factor * edge < goal:
        edge = math.nextafter(edge, math.inf)
    while edge > 0 and factor * (below := math.nextafter(edge, 0.0)) >= goal:
        edge = below
    return edge


def _among(values: Numbers, seen: Times | None, edge: float) -> int:
    """Return how many seen items are at least at an edge."""
    return 0 if seen is None else int(np.count_nonzero(values[seen] >= edge))
