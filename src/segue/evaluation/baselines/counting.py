"""The baselines that count.

    Popularity         what most events were about
    RecentPopularity   the same, old events counting less
    OwnPopularity      the items that the user repeats most, where seen items are allowed
    DecayedMarkov      the items that follow the last few items; closer pairs count more
    ItemKNN            what the users of the last few items also used

`count` counts once for many settings. `of_counts` gives a `Counted`, which scores any history, a new user's included.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.data.sequences.sequences import Sequences
from segue.data.sequences.transition_counts import (
    TIE,
    CommonUsers,
    age,
    followers,
    known_events,
    recent,
    shares,
    table_of_followers,
    used_by,
)
from segue.evaluation.baselines.contract import Baseline, FromBaseline, Grid, above_zero, not_negative
from segue.shapes import Floats, Rows

#: Columns of a table that are multiplied at once: 1 kB of a line.
PANEL = 256


@dataclass(frozen=True, eq=False)
class Counted(FromBaseline):
    """A fitted baseline: the recent items of a history times pairs of items, plus popularity.

    `score(y) = sum over the last `window` items x of the history, lag steps back, of
    2^(-lag / half_life) * pairs[x, y], plus popularity[y]`.

    An empty history, or a history of unknown items only, is scored by popularity alone.

    Args:
        baseline: the settings it was fitted with.
        popularity: float32[item], small beside `pairs` where both are used.
        pairs: float32[item, item], sparse or dense, or None for a baseline that reads no history.
        window: how many items of the history count; None for all.
        half_life: the lag in items at which an item counts half; infinite for no decay.
        once: whether a repeated item counts at its last place only.
    """

    baseline: Baseline
    popularity: Floats
    pairs: sparse.csr_array | Floats | None = None
    window: int | None = None
    half_life: float = np.inf
    once: bool = False

    def score(self, histories: Sequence[Rows]) -> Floats:
        """Return float32[query, item]; see `Fitted.score`.

        Cost: O(query x (item + window x pairs of an item)); give blocks of queries for a large catalogue.
        """
        n_items = len(self.popularity)
        if self.pairs is None:
            scores = np.tile(self.popularity, (len(histories), 1))
        else:
            lags = recent(histories, n_items, self.window, self.half_life, once=self.once)
            scores = _product(lags, self.pairs) if isinstance(self.pairs, np.ndarray) else (lags @ self.pairs).toarray()
            scores += self.popularity
        scores[:, 0] = -np.inf
        return scores

    def read_by(self, baseline: Baseline) -> "Counted":
        """Return the same counts, histories read by other settings. O(1)."""
        return replace(self, baseline=baseline, **{name: getattr(baseline, name) for name in baseline.reading})


def _product(lags: sparse.csr_array, table: Floats) -> Floats:
    """Return `lags @ table`; of long histories in panels of columns, which stay in the cache of the processor."""
    if lags.nnz < 8 * len(table):
        return lags @ table
    product = np.empty((lags.shape[0], table.shape[1]), np.float32)
    for begin in range(0, table.shape[1], PANEL):
        panel = slice(begin, begin + PANEL)
        product[:, panel] = lags @ np.ascontiguousarray(table[:, panel])
    return product


@dataclass(frozen=True)
class Popularity(Baseline):
    """Score an item by its number of events, whatever the history.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann", "bob"]), np.array([0, 2, 4]), np.array([1, 2, 2, 2], np.int32))
        >>> Popularity().fit(log, 4).score([np.array([], np.int32)]).tolist()
        [[-inf, 0.25, 0.75, 0.0]]
    """

    title: ClassVar[str] = "popularity"
    word: ClassVar[str] = "popularity"

    def count(self, sequences: Sequences, n_items: int, features: Floats | None = None) -> Floats:
        """Return float32[item], the share of each item in the events. O(events)."""
        return shares(known_events(sequences, n_items).items, n_items)

    def of_counts(self, counts: Floats) -> Counted:
        """Return the shares as scores."""
        return Counted(self, counts)


@dataclass(frozen=True)
class RecentPopularity(Baseline):
    """Score an item by its number of events, each halved for every `half_life` of the log that came later.

    The age of an event is the share of the log's events that are later than it; in a log without
    times, the share of its user's events that are later.

    Args:
        half_life: a share of the log, above 0.

    Raises:
        ArgumentError: `half_life` is not above 0.

    Source: Ji et al. 2020, "A re-visit of the popularity baseline in recommender systems" (DecayPop).
    """

    half_life: float = 0.1

    title: ClassVar[str] = "recent popularity"
    word: ClassVar[str] = "recent"
    grid: ClassVar[Grid] = {"half_life": (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)}

    def __post_init__(self) -> None:
        above_zero(self, "half_life")

    def count(
        self, sequences: Sequences, n_items: int, features: Floats | None = None
    ) -> tuple[Rows, NDArray[np.float64], int]:
        """Return the item and the age of each event, and the length of a score row. O(events log events)."""
        known = known_events(sequences, n_items)
        return known.items, age(known), n_items

    def of_counts(self, counts: tuple[Rows, NDArray[np.float64], int]) -> Counted:
        """Sum with decay. O(events)."""
        items, ages, n_items = counts
        return Counted(self, shares(items, n_items, weights=np.exp2(-ages / self.half_life)))


@dataclass(frozen=True)
class OwnPopularity(Baseline):
    """Score an item by how often the user had an event with it, recent events counting more; then by popularity.

    Args:
        half_life: the lag in events at which an event counts half.

    Raises:
        ArgumentError: `half_life` is not above 0.

    Source: Li et al. 2023, "A next basket recommendation reality check" (P-TopFreq, GP-TopFreq).

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 3]), np.array([1, 2, 3], np.int32))
        >>> OwnPopularity(half_life=1.0).fit(log, 4).score([np.array([2, 1, 1], np.int32)]).round(2).tolist()
        [[-inf, 1.5, 0.25, 0.0]]
    """

    half_life: float = 50.0

    title: ClassVar[str] = "own popularity"
    word: ClassVar[str] = "own"
    grid: ClassVar[Grid] = {"half_life": (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)}
    reading: ClassVar[frozenset[str]] = frozenset({"half_life"})
    repeats: ClassVar[bool] = True

    def __post_init__(self) -> None:
        above_zero(self, "half_life")

    def count(self, sequences: Sequences, n_items: int, features: Floats | None = None) -> Floats:
        """Return float32[item], small shares of the events. O(events)."""
        return shares(known_events(sequences, n_items).items, n_items, total=TIE)

    def of_counts(self, counts: Floats) -> Counted:
        """Pair each item with itself."""
        popularity = counts
        same = sparse.csr_array(sparse.diags_array((popularity > 0).astype(np.float32)))
        return Counted(self, popularity, same, None, self.half_life)


@dataclass(frozen=True)
class DecayedMarkov(Baseline):
    """Score an item by how often it followed the last items of the history, with closer pairs counting more.

    `count[x, y] = sum over events i of x and later events j of y of the same user, j - i <= window, of
    2^(-(j - i - 1) / half_life)`; `pairs[x, y] = count[x, y] / (sum over y of count[x, y])^norm`; an item
    `lag` steps back in the history counts `2^(-lag / half_life)`.

    Args:
        window: how many later events of a user follow an event, and how much of a history is read.
        half_life: the distance in events at which a pair counts half.
        norm: 0 keeps counts, so that frequent items of the history decide; 1 gives transition chances.
        smoothing: the weight of the items' popularity beside the pairs.

    Raises:
        ArgumentError: `window`, `half_life` or `smoothing` is not above 0, or `norm` is below 0.

    Source: the "sequential rules" of Ludewig, Jannach 2018, with exponential in place of 1 / distance.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 3]), np.array([1, 2, 3], np.int32))
        >>> fitted = DecayedMarkov(window=2, half_life=1.0, norm=0).fit(log, 4)
        >>> fitted.score([np.array([1], np.int32)]).round(2).tolist()    # 2 came next, 3 one later
        [[-inf, 0.0, 1.0, 0.5]]
    """

    window: int = 10
    half_life: float = 2.0
    norm: float = 0.5
    smoothing: float = TIE

    title: ClassVar[str] = "decayed Markov"
    word: ClassVar[str] = "markov"
    grid: ClassVar[Grid] = {
        "norm": (0.0, 0.5, 0.75, 1.0),
        "half_life": (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0),
        "window": (1, 3, 5, 10, 20, 40),
        "smoothing": (TIE, 0.1, 0.5),
    }

    def __post_init__(self) -> None:
        above_zero(self, "window", "half_life", "smoothing")
        not_negative(self, "norm")

    @property
    def counting(self) -> tuple[int, float]:
        """The window and the half-life."""
        return self.window, self.half_life

    def count(
        self, sequences: Sequences, n_items: int, features: Floats | None = None
    ) -> tuple[Rows, NDArray[np.float64] | sparse.csr_array]:
        """Count pairs. O(events x window) time; memory for the distinct pairs and one block."""
        known = known_events(sequences, n_items)
        table = table_of_followers(known, n_items, self.window, self.half_life)
        return known.items, followers(known, n_items, self.window, self.half_life) if table is None else table

    def of_counts(self, counts: tuple[Rows, NDArray[np.float64] | sparse.csr_array]) -> Counted:
        """Scale the pairs. O(pairs)."""
        items, pairs = counts
        scale = np.maximum(pairs.sum(axis=1), np.finfo(np.float32).tiny) ** -self.norm
        if isinstance(pairs, np.ndarray):
            scaled: Any = np.multiply(pairs, scale[:, None], out=np.empty(pairs.shape, np.float32), casting="same_kind")
        else:
            scaled = sparse.csr_array(sparse.diags_array(scale) @ pairs, dtype=np.float32)
        popularity = shares(items, pairs.shape[0], total=self.smoothing)
        return Counted(self, popularity, scaled, self.window, self.half_life)


@dataclass(frozen=True)
class ItemKNN(Baseline):
    """Score an item by its likeness to the last items of the history.

    `pairs[x, y] = users of both / (sqrt(users of x * users of y) + shrinkage)`, the cosine of the items'
    user sets, less sure the fewer users there are; the `neighbours` highest of each x are kept, and
    of equals those with the lower row.

    Args:
        neighbours: how many items are kept for each item.
        shrinkage: users added below the fraction line, 0 or more.
        window: how many items of a history are read; None for all.

    Raises:
        ArgumentError: `neighbours` or `window` is not above 0, or `shrinkage` is below 0.

    Source: Deshpande, Karypis 2004; the shrinkage of Bell, Koren 2007.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann", "bob"]), np.array([0, 2, 4]), np.array([1, 2, 1, 2], np.int32))
        >>> fitted = ItemKNN(shrinkage=2).fit(log, 4)
        >>> fitted.score([np.array([1], np.int32)]).round(2).tolist()    # 2 users / (2 + 2)
        [[-inf, 0.0, 0.5, 0.0]]
    """

    neighbours: int = 100
    shrinkage: float = 10.0
    window: int | None = None

    title: ClassVar[str] = "item-kNN"
    word: ClassVar[str] = "item-knn"
    grid: ClassVar[Grid] = {
        "window": (1, 3, 5, 10, 20, None),
        "shrinkage": (0.0, 10.0, 50.0),
        "neighbours": (20, 50, 100, 200, 500),
    }
    reading: ClassVar[frozenset[str]] = frozenset({"window"})

    def __post_init__(self) -> None:
        above_zero(self, "neighbours", *(("window",) if self.window is not None else ()))
        not_negative(self, "shrinkage")

    def count(self, sequences: Sequences, n_items: int, features: Floats | None = None) -> tuple[Floats, CommonUsers]:
        """Count common users. O(sum over users of (items of the user)^2) time."""
        known = known_events(sequences, n_items)
        return shares(known.items, n_items, total=TIE), CommonUsers.of(used_by(known, n_items))

    def of_counts(self, counts: tuple[Floats, CommonUsers]) -> Counted:
        """Keep the nearest of each item. O(pairs of items with common users)."""
        popularity, common = counts
        return Counted(self, popularity, common.nearest(self.neighbours, self.shrinkage), self.window)
