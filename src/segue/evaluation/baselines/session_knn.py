"""Session-kNN: what stands near the last items of a history in the sessions most like the history."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.data.sequences.sequences import Sequences
from segue.data.sequences.transition_counts import PAIRS, TIE, age, highest, known_events, recent, shares
from segue.evaluation.baselines.contract import Baseline, FromBaseline, Grid, above_zero
from segue.shapes import Floats, Rows, Times

#: Sessions, the latest, that are compared for each item of a history.
SESSIONS = 1000
#: Places beyond so many times `near` are not read.
REACH = 4


@dataclass(frozen=True)
class SessionKNN(Baseline):
    """Score an item by its places in the sessions most like the history; a session is the events of a user.

    `likeness(n) = 2^(-age(n) / fresh) / sqrt(events of n) * sum of 2^(-lag / half_life)` over the last `window` items
    of the history that are in session n, lag steps back; age is the share of the log that is later than n.
    `score(y) = sum over the `neighbours` most alike of likeness(n) * sum over the places p of y in n of
    2^(-|p - p*| / near)`, where p* is the last place of the latest item of the history that is in n. Places further
    away than 4 near are not read, and an item is looked for in its latest 1,000 sessions.

    Args:
        neighbours: how many sessions add to a score.
        near: the distance in events from p* at which a place counts half.
        fresh: the age, a share of the log, at which a session counts half; infinite for no decay.
        window: how many items of a history are looked for.
        half_life: the lag in items at which an item of the history counts half.

    Raises:
        ArgumentError: a setting is not above 0.

    Source: STAN (Garg et al. 2019) with halving in place of exponents; the latest sessions of an item as in V-SKNN
    (Ludewig, Jannach 2018). The age is counted from the end of the log: from the time of the request it would be
    larger by the same for all sessions.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 3]), np.array([1, 2, 3], np.int32))
        >>> fitted = SessionKNN(near=1.0).fit(log, 4)
        >>> (fitted.score([np.array([1], np.int32)]) * 3**.5).round(2).tolist()    # 2 stands next to 1, 3 one further
        [[-inf, 1.0, 0.5, 0.25]]
    """

    neighbours: int = 200
    near: float = 4.0
    fresh: float = np.inf
    window: int = 5
    half_life: float = 2.0

    title: ClassVar[str] = "session-kNN"
    word: ClassVar[str] = "session-knn"
    grid: ClassVar[Grid] = {
        "near": (1.0, 2.0, 4.0, 8.0, 16.0),
        "half_life": (0.5, 1.0, 2.0, 4.0, 8.0),
        "neighbours": (50, 100, 200, 500, 1000),
        "fresh": (0.02, 0.1, 0.5, np.inf),
        "window": (2, 5, 10, 20),
    }
    reading: ClassVar[frozenset[str]] = frozenset({"window", "half_life"})

    def __post_init__(self) -> None:
        above_zero(self, "neighbours", "near", "fresh", "window", "half_life")

    @classmethod
    def operations(cls, events: int, n_items: int) -> float:
        """Return about how much work a trial is: the places near 2,000 queries, and an index of the events."""
        return 20.0 * events + 2e8

    def count(self, sequences: Sequences, n_items: int, features: Floats | None = None) -> "SessionIndex":
        """Index the sessions by item. O(events log events) time."""
        known = known_events(sequences, n_items)
        ages = age(known)
        ends = known.offsets[1:][known.lengths > 0] - 1
        youth = np.zeros(len(known))
        youth[known.lengths > 0] = ages[ends]
        filled = np.flatnonzero(known.lengths > 0)
        filled = filled[np.argsort(-youth[filled], kind="stable")] if known.times is not None else filled
        sessions, old = known.select(filled), youth[filled]
        session = np.repeat(np.arange(len(sessions)), sessions.lengths)
        keys = session * n_items + sessions.items
        distinct, from_end = np.unique(keys[::-1], return_index=True)
        places = len(keys) - 1 - from_end - sessions.offsets[distinct // n_items]
        shape = (n_items, max(len(sessions), 1))
        held = np.ones(len(distinct), np.float32), (distinct % n_items, distinct // n_items)
        holders = _latest(sparse.coo_array(held, shape=shape).tocsr())
        popularity = shares(known.items, n_items, total=TIE)
        return SessionIndex(popularity, sessions.items, sessions.offsets, distinct, places, holders, old)

    def of_counts(self, counts: "SessionIndex") -> "SessionNeighbours":
        """Weigh the sessions by their age. O(items of the sessions)."""
        lengths = np.maximum(np.diff(counts.offsets), 1)
        weights = (np.exp2(-counts.ages / self.fresh) / np.sqrt(lengths)).astype(np.float32)
        held = counts.holders
        worth = weights[held.indices] if len(weights) else held.data
        holders = sparse.csr_array((worth, held.indices, held.indptr), shape=held.shape)
        return SessionNeighbours(self, counts, holders)


class SessionIndex(NamedTuple):
    """The sessions of a log by item; the session that ended last comes last.

    Args:
        popularity: float32[item], small beside the likenesses.
        items: int32[event], session after session.
        offsets: int64[session + 1].
        keys: int64[held], sorted: session times the length of a score row plus an item of the session.
        places: int64[held], the last place of that item in its session.
        holders: sparse float32[item, session], 1 where a session holds the item.
        ages: float64[session], a share of the log.
    """

    popularity: Floats
    items: Rows
    offsets: Times
    keys: Times
    places: Times
    holders: sparse.csr_array
    ages: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SessionNeighbours(FromBaseline):
    """Fitted session-kNN.

    An empty history, or a history of items that no session holds, is scored by popularity alone.

    Args:
        baseline: the settings it was fitted with, or is read by.
        index: the sessions by item.
        holders: sparse float32[item, session], what a session that holds the item is worth.
    """

    baseline: SessionKNN
    index: SessionIndex
    holders: sparse.csr_array

    def score(self, histories: Sequence[Rows]) -> Floats:
        """Return float32[query, item]; see `Fitted.score`.

        Cost: O(query x (window x 1,000 + neighbours x near + item)).
        """
        n_items, reach = len(self.index.popularity), self._reach
        step = max(1, PAIRS // max(n_items, self.baseline.neighbours * (2 * reach + 1)))
        blocks = [self._block(histories[begin : begin + step]) for begin in range(0, len(histories), step)]
        return np.concatenate([*blocks, np.zeros((0, n_items), np.float32)])

    @property
    def _reach(self) -> int:
        longest = int(np.diff(self.index.offsets).max(initial=1))
        return int(min(np.ceil(REACH * self.baseline.near), longest - 1))

    def _block(self, histories: Sequence[Rows]) -> Floats:
        n_items, settings = len(self.index.popularity), self.baseline
        lags = recent(histories, n_items, settings.window, settings.half_life, once=True)
        alike = highest(lags @ self.holders, settings.neighbours)
        query = np.repeat(np.arange(len(histories)), np.diff(alike.indptr))
        around = np.arange(-self._reach, self._reach + 1)
        begins = self.index.offsets[alike.indices]
        at = begins + self._matched(query, alike.indices, histories)
        place = at[:, None] + around
        inside = (place >= begins[:, None]) & (place < self.index.offsets[alike.indices + 1][:, None])
        weights = np.where(inside, alike.data[:, None] * np.exp2(-np.abs(around) / settings.near), 0.0)
        cells = (
            query[:, None] * n_items + self.index.items[np.where(inside, place, 0)] if len(self.index.items) else place
        )
        size = len(histories) * n_items
        sums = np.bincount(cells.ravel(), weights.ravel(), minlength=size).reshape(len(histories), n_items)
        scores: Floats = (sums + self.index.popularity).astype(np.float32)
        scores[:, 0] = -np.inf
        return scores

    def _matched(self, query: Times, session: Rows, histories: Sequence[Rows]) -> NDArray[np.int64]:
        """Return int64[pair], the last place in each session of the latest item of the history that it holds."""
        window = self.baseline.window
        tails = np.zeros((len(histories), window), np.int64)  # the latest item first
        for row, history in zip(tails, histories, strict=True):
            known = np.asarray(history)[np.asarray(history) != 0][: -window - 1 : -1]
            row[: len(known)] = known
        place, open_pairs = np.zeros(len(query), np.int64), np.arange(len(query))
        for lag in range(window):
            keys = session[open_pairs].astype(np.int64) * len(self.index.popularity) + tails[query[open_pairs], lag]
            at = np.minimum(np.searchsorted(self.index.keys, keys), max(len(self.index.keys) - 1, 0))
            found = self.index.keys[at] == keys if len(self.index.keys) else np.zeros(0, bool)
            place[open_pairs[found]] = self.index.places[at[found]]
            open_pairs = open_pairs[~found]
        return place

    def read_by(self, baseline: Baseline) -> "SessionNeighbours":
        """Return the same index, histories read by other settings. O(1)."""
        assert isinstance(baseline, SessionKNN)
        return replace(self, baseline=baseline)


def _latest(holders: sparse.csr_array) -> sparse.csr_array:
    """Return the last entries of each row, `SESSIONS` at most; sessions stand in the order of their ends."""
    holders.sort_indices()
    ends = np.repeat(holders.indptr[1:], np.diff(holders.indptr))
    keep = np.arange(len(ends)) >= ends - SESSIONS
    before = np.concatenate([[0], np.cumsum(keep)])
    return sparse.csr_array((holders.data[keep], holders.indices[keep], before[holders.indptr]), shape=holders.shape)
