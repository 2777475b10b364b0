"""Counts of what everybody does now, by item and by pair of items, in buckets of time.

A number of 64 bits stands for an item (`item_key`), 0 for none. A count is a whole number in a
bucket of time. Adding commutes, so the order of events does not matter, and an event that was added
can be removed exactly. The value of a count at a time `now` is

    value = sum over buckets of n * 2^-(age of the middle of the bucket / half-life)

over the last `BUCKETS` buckets, each one half-life wide. There are `TIERS` half-lives.

`TrendLoops` counts in C, `PureTrends` is its twin for machines without a compiler; both compute the
same (a law).
"""

import ctypes
import math
import threading
import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from segue.errors import ArgumentError
from segue.kernels import build
from segue.kernels.serving_loops import TopK
from segue.shapes import Floats, Rows, Times

#: Half-lives of the counts, buckets of each, and items before an event that make a pair with its item.
TIERS, BUCKETS, LAST = 5, 4, 3
#: The half-lives, in the shortest one. Of a pair, three tiers count what came next, two what came soon after.
OF_ITEM, OF_PAIR = (1, 6, 24, 144, 864), (6, 72, 288, 72, 864)
#: Numbers that describe a candidate; how many candidates are popular items, and followers of each last item.
FEATURES, POPULAR, FOLLOWERS = 12, 80, (40, 20, 20)
#: Candidates at most. Items and pairs that are counted at most, unless a caller says otherwise.
MOST, ITEMS, PAIRS = 512, 1 << 20, 1 << 22
#: Units of a hidden layer of a ranker, at most.
WIDEST = 64
_SECOND, _MISSING = 1_000_000, 64


class TrendCandidates(NamedTuple):
    """Candidates of several requests, and what describes each.

    Args:
        keys: int64[request, n], 0 fills up.
        features: float32[request, n, FEATURES]: logs of the values of the item in each tier, of the
            pairs with the last item, of the shares of pairs with the last items (next, soon), and
            of the values of the last item in two tiers.
    """

    keys: Times
    features: Floats


class Asked(NamedTuple):
    """Requests for lists.

    Args:
        times: int64[request], microseconds since 1970.
        last: int64[request, LAST], the keys of the user's last items, newest first.
        gaps: float32[request], seconds since the user's last event; NaN unknown.
        counts: int64[request], events of the user.
        recent: int64[request, n], the keys of more of the last items, newest first; None where
            lists hold no seen items.
    """

    times: Times
    last: Times
    gaps: Floats
    counts: Times
    recent: Times | None


class RowTable(NamedTuple):
    """Rows of a model by keys, by open addressing.

    Args:
        keys: int64[2^n], 0 for a free place.
        rows: int32[2^n], the row of the key at each place.
        row_keys: int64[row], the key of each row, 0 where it is not known.
    """

    keys: Times
    rows: Rows
    row_keys: Times

    @classmethod
    def empty(cls, rows: int) -> "RowTable":
        """Return a table without a key, for so many rows."""
        places = 1 << max(10, (2 * rows).bit_length())
        return cls(np.zeros(places, np.int64), np.zeros(places, np.int32), np.zeros(rows, np.int64))

    def put(self, key: int, row: int) -> None:
        """Note the row of a key that has none yet."""
        at, last = _mixed(key) & (len(self.keys) - 1), len(self.keys) - 1
        while self.keys[at] not in (0, key):
            at = (at + 1) & last
        self.rows[at], self.row_keys[row] = row, key
        self.keys[at] = key


def _mixed(key: int) -> int:
    x = key & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 31)) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    return x ^ (x >> 29)


class _Ranker(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("w_1", "b_1", "w_2", "b_2", "w_3", "linear")),
        ("hidden", ctypes.c_int64),
        *((name, ctypes.c_float) for name in ("others", "unknown")),
    )


class _RowMap(ctypes.Structure):
    _fields_ = (
        ("keys", ctypes.c_void_p), ("rows", ctypes.c_void_p), ("size", ctypes.c_int64), ("row_keys", ctypes.c_void_p),
    )  # fmt: skip


class TrendTable(Protocol):
    """Counts of what everybody does, changed in place."""

    def add(self, keys: Times, before: Times, times: Times, signs: Times) -> None:
        """Add events, or remove events that were added.

        Args:
            keys: int64[event], of the items; 0 is left out.
            before: int64[event, LAST], the items before, newest first, 0 for none.
            times: int64[event], microseconds since 1970.
            signs: int64[event], 1 to add and -1 to remove.

        Cost: O(events).
        """

    def candidates(self, times: Times, last: Times, also: Times) -> TrendCandidates:
        """Return items that may come next.

        Args:
            times: int64[request], microseconds since 1970, not before the events that were added.
            last: int64[request, LAST], the last items of each user, newest first, 0 for none.
            also: int64[request, n], candidates in any case, 0 for none.

        Cost: O(requests x candidates); each second O(items), for the most popular ones.
        """

    def lines(self) -> Times:
        """Return int64[n, 5], the counts in force: first item of a pair or 0, item, tier, bucket, count; sorted."""

    def copy(self) -> Self:
        """Return counts of their own. Cost: O(counts)."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Items and pairs that are counted, and the memory of the counts in bytes; 0 where nobody measures."""


def trend_table(shortest: int, *, items: int = ITEMS, pairs: int = PAIRS) -> "TrendLoops | PureTrends":
    """Return empty counts.

    Args:
        shortest: the shortest half-life, in microseconds.
        items, pairs: that are counted at most; the least recent are let go first.

    Raises:
        ArgumentError: the half-life is below a second.

    Example:
        >>> table = trend_table(60_000_000)
        >>> one, none = np.array([7]), np.zeros((1, LAST), np.int64)
        >>> table.add(one, none, np.array([0]), np.array([1]))
        >>> table.lines()[0].tolist()
        [0, 7, 0, 0, 1]
    """
    if shortest < _SECOND:
        raise ArgumentError(f"trends: expected a half-life of a second or more, came {shortest} us. Raise it.")
    loops = build.trends()
    return PureTrends(shortest, items, pairs) if loops is None else TrendLoops(loops, shortest, items, pairs)


class TrendLoops:
    """Counts in C. Every method may be called from any thread."""

    def __init__(self, loops: ctypes.CDLL, shortest: int, items: int, pairs: int, *, table: int | None = None) -> None:
        loops.segue_trends_new.restype = loops.segue_trends_copy.restype = ctypes.c_void_p
        loops.segue_trends_lines.restype = loops.segue_trends_add.restype = ctypes.c_int64
        loops.segue_trends_follow.restype = ctypes.c_int64
        self._loops, self.shortest, self._most = loops, shortest, (items, pairs)
        self._lock = threading.Lock()
        self._table = table or loops.segue_trends_new(*map(ctypes.c_int64, (shortest, items, pairs)))
        if not self._table:
            raise MemoryError
        weakref.finalize(self, loops.segue_trends_free, ctypes.c_void_p(self._table))

    def add(self, keys: Times, before: Times, times: Times, signs: Times) -> None:
        """Add or remove events; see `TrendTable.add`."""
        arrays = _checked(len(keys), keys, before, times, signs)
        with self._lock:
            if not self._loops.segue_trends_add(self._at, ctypes.c_int64(len(keys)), *map(_pointer, arrays)):
                raise MemoryError

    def candidates(self, times: Times, last: Times, also: Times) -> TrendCandidates:
        """Return items that may come next; see `TrendTable.candidates`."""
        times, last = _checked(len(times), times, last)
        also, room = np.ascontiguousarray(also, np.int64), _room(also)
        keys = np.zeros((len(times), room), np.int64)
        features = np.zeros((len(times), room, FEATURES), np.float32)
        found = np.zeros(len(times), np.int64)
        sizes = [ctypes.c_int64(number) for number in (len(times), also.shape[1], room)]
        with self._lock:
            self._loops.segue_trends_candidates(
                self._at, sizes[0], _pointer(times), _pointer(last), _pointer(also), *sizes[1:],
                _pointer(keys), _pointer(features), _pointer(found),
            )  # fmt: skip
        most = int(found.max(initial=1))
        return TrendCandidates(keys[:, :most], features[:, :most])

    def follow(
        self,
        asked: "Asked",
        scores: Floats,
        best: TopK,
        rows: "RowTable",
        ranker: Sequence[Floats],
        numbers: tuple[float, float],
        *,
        whole: bool = True,
    ) -> tuple[int, Times]:
        """Order the candidates of requests anew, in place; see `segue.recommend.lists.live_scores`.

        Args:
            asked: the requests.
            scores: float32[request, row], all rows.
            best: the best rows of each request by these scores.
            rows: the rows of keys, and the keys of rows.
            ranker: weights and biases of two layers, the last weights, the linear weights.
            numbers: what is added for all candidates, and the score of an unknown candidate.
            whole: whether to stop where a candidate has no row; else such candidates are left out.

        Returns:
            How many requests are done, and of the next one the keys of candidates without a row.
        """
        times, last = _checked(len(scores), asked.times, asked.last)
        hidden = len(ranker[1])
        fit = scores.flags.c_contiguous and scores.dtype == np.float32 and scores.shape[1] == len(rows.row_keys)
        if not fit or best.places.shape[1] > MOST - sum(FOLLOWERS) - POPULAR or hidden > WIDEST:
            raise ArgumentError(f"trends: expected float32 scores of {len(rows.row_keys)} rows, came {scores.shape}.")
        gaps, counts = np.ascontiguousarray(asked.gaps, np.float32), np.ascontiguousarray(asked.counts, np.int64)
        recent = None if asked.recent is None else np.ascontiguousarray(asked.recent, np.int64)
        weights = _Ranker(*(array.ctypes.data for array in ranker), hidden, *numbers)
        table = _RowMap(rows.keys.ctypes.data, rows.rows.ctypes.data, len(rows.keys), rows.row_keys.ctypes.data)
        missing, size = np.zeros(_MISSING, np.int64), ctypes.c_int64
        with self._lock:
            done = self._loops.segue_trends_follow(
                self._at, size(len(scores)), _pointer(times), _pointer(last), _pointer(gaps), _pointer(counts),
                None if recent is None else _pointer(recent), size(0 if recent is None else recent.shape[1]),
                _pointer(scores), size(scores.shape[1]), _pointer(best.places), _pointer(best.found),
                size(best.places.shape[1]), ctypes.byref(table), ctypes.byref(weights), _pointer(missing),
                size(_MISSING if whole else 0),
            )  # fmt: skip
        return int(done), missing[missing != 0]

    def lines(self) -> Times:
        """Return the counts in force; see `TrendTable.lines`."""
        with self._lock:
            lines = np.zeros((self._loops.segue_trends_lines(self._at, None), 5), np.int64)
            self._loops.segue_trends_lines(self._at, _pointer(lines))
        return _sorted(lines)

    def copy(self) -> "TrendLoops":
        """Return counts of their own. Cost: O(counts)."""
        with self._lock:
            table = self._loops.segue_trends_copy(self._at)
        if not table:
            raise MemoryError
        return TrendLoops(self._loops, self.shortest, *self._most, table=table)

    @property
    def bytes(self) -> int:
        """The memory of the counts."""
        return self.sizes[2]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Items, pairs and bytes; see `TrendTable.sizes`."""
        sizes = np.zeros(4, np.int64)
        with self._lock:
            self._loops.segue_trends_sizes(self._at, _pointer(sizes))
        return int(sizes[0]), int(sizes[1]), int(sizes[3])

    @property
    def _at(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._table)


class PureTrends:
    """Counts in Python: what `TrendLoops` computes, slowly."""

    def __init__(self, shortest: int, items: int, pairs: int) -> None:
        self.shortest, self._most = shortest, (items, pairs)
        self._counts: dict[tuple[int, int], dict[tuple[int, int], int]] = {}  # (0, item) and pairs, by (tier, bucket)
        self._followers: defaultdict[int, list[int]] = defaultdict(list)
        self._newest = -(2**62)

    def add(self, keys: Times, before: Times, times: Times, signs: Times) -> None:
        """Add or remove events; see `TrendTable.add`."""
        arrays = _checked(len(keys), keys, before, times, signs)
        for key, previous, time, sign in zip(*(array.tolist() for array in arrays), strict=True):
            if sign > 0:
                self._newest = max(self._newest, time)
            if key == 0:
                continue
            self._add((0, key), OF_ITEM, range(TIERS), time, sign)
            for place, first in enumerate(previous):
                if first not in (0, key):
                    self._add((first, key), OF_PAIR, range(3 if place else 0, TIERS), time, sign)
        if len(self._counts) > sum(self._most):
            self._let_go()

    def _add(self, pair: tuple[int, int], scales: tuple[int, ...], tiers: range, time: int, sign: int) -> None:
        counts = self._counts.get(pair)
        if counts is None:
            if sign < 0:
                return
            counts = self._counts[pair] = {}
            if pair[0]:
                self._followers[pair[0]].append(pair[1])
        for tier in tiers:
            bucket = time // (self.shortest * scales[tier])
            counts[tier, bucket] = max(0, counts.get((tier, bucket), 0) + sign)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Items, pairs and 0; see `TrendTable.sizes`."""
        items = sum(not first for first, _ in self._counts)
        return items, len(self._counts) - items, 0

    def _let_go(self) -> None:
        """Drop what counts nothing any more, then the least recent."""
        for pair in [pair for pair in self._counts if not self._in_force(pair)]:
            del self._counts[pair]
        newest = {pair: max(bucket for tier, bucket in counts if tier == 4) for pair, counts in self._counts.items()}
        for least in sorted(newest, key=lambda pair: newest[pair])[: max(0, len(newest) - sum(self._most) * 3 // 4)]:
            del self._counts[least]
        self._followers.clear()
        for first, key in self._counts:
            if first:
                self._followers[first].append(key)

    def _in_force(self, pair: tuple[int, int]) -> list[tuple[int, int, int]]:
        scales = OF_PAIR if pair[0] else OF_ITEM
        return [
            (tier, bucket, n)
            for (tier, bucket), n in self._counts[pair].items()
            if n and self._newest // (self.shortest * scales[tier]) - bucket < BUCKETS
        ]

    def _value(self, pair: tuple[int, int], tier: int, now: int) -> float:
        width: int = self.shortest * (OF_PAIR if pair[0] else OF_ITEM)[tier]
        value, at = 0.0, now // width
        for (one, bucket), n in self._counts.get(pair, {}).items():
            if one == tier and at - bucket < BUCKETS:
                value += n * 2.0 ** -max(0.0, (now % width) / width + max(0, at - bucket) - 0.5)
        return value

    def candidates(self, times: Times, last: Times, also: Times) -> TrendCandidates:
        """Return items that may come next; see `TrendTable.candidates`."""
        times, last = _checked(len(times), times, last)
        room = _room(also)
        keys = np.zeros((len(times), room), np.int64)
        features = np.zeros((len(times), room, FEATURES), np.float32)
        for n, (now, before, wanted) in enumerate(zip(times.tolist(), last.tolist(), also.tolist(), strict=True)):
            chosen = [key for key in wanted if key]
            for first, most in zip(before, FOLLOWERS, strict=True):
                likely = {
                    key: self._value((first, key), 1, now) + self._value((first, key), 3, now) / 4
                    for key in reversed(self._followers.get(first, []))
                }
                chosen += _highest(likely, most)
            popular = {
                key: self._value((0, key), 1, now) + self._value((0, key), 3, now) / 24
                for first, key in self._counts
                if not first
            }
            chosen = list(dict.fromkeys([*chosen, *_highest(popular, POPULAR)]))[:room]
            keys[n, : len(chosen)] = chosen
            for place, key in enumerate(chosen):
                features[n, place] = self._features(key, before, now)
        most = max(1, int((keys != 0).sum(axis=1).max(initial=1)))
        return TrendCandidates(keys[:, :most], features[:, :most])

    def _features(self, key: int, last: list[int], now: int) -> list[float]:
        values = [self._value((0, key), tier, now) for tier in range(TIERS)]
        following = [self._value((last[0], key), tier, now) if last[0] else 0.0 for tier in range(3)]
        shares = [
            sum(self._value((first, key), tier, now) / (3 + self._value((0, first), 3, now)) for first in last if first)
            for tier in (1, 3)
        ]
        of_last = [self._value((0, last[0]), tier, now) if last[0] else 0.0 for tier in (1, 3)]
        logs = [math.log(value + 0.05) for value in (*values, *following)]
        return [*logs, *(math.log(share + 0.001) for share in shares), *(math.log(value + 0.05) for value in of_last)]

    def lines(self) -> Times:
        """Return the counts in force; see `TrendTable.lines`."""
        lines = [(*pair, *line) for pair in self._counts for line in self._in_force(pair)]
        return _sorted(np.array(lines, np.int64).reshape(-1, 5))

    def copy(self) -> "PureTrends":
        """Return counts of their own. Cost: O(counts)."""
        other = PureTrends(self.shortest, *self._most)
        other._counts = {pair: dict(counts) for pair, counts in self._counts.items()}
        other._followers = defaultdict(list, {key: list(keys) for key, keys in self._followers.items()})
        other._newest = self._newest
        return other


def _highest(values: dict[int, float], most: int) -> list[int]:
    ranked = sorted(values, key=lambda key: -values[key])
    return [key for key in ranked[:most] if values[key] > 0]


def _room(also: Times) -> int:
    room = int(also.shape[1]) + sum(FOLLOWERS) + POPULAR
    if room > MOST:
        raise ArgumentError(f"trends: expected at most {MOST} candidates, came {room}. Ask for fewer.")
    return room


def _checked(count: int, *arrays: Times) -> list[Times]:
    """Return arrays that C may read: int64[count] or int64[count, LAST], line after line."""
    for array in arrays:
        if array.shape not in ((count,), (count, LAST)):
            raise ArgumentError(f"trends: expected {count} lines, came {list(array.shape)}. Give arrays of one length.")
    return [np.ascontiguousarray(array, np.int64) for array in arrays]


def _sorted(lines: Times) -> Times:
    return lines[np.lexsort(lines.T[::-1])]


def _pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
