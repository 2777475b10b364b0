"""The simple models that a trained one must beat, tuned as fairly as it.

    Popularity         what most events were about
    RecentPopularity   the same, old events counting less
    DecayedMarkov      what followed the last few items, sooner counting more
    ItemKNN            what the users of the last few items used as well

Knows: sequences of rows, and sparse counts of them.
Does not know: networks, bundles, or how a query is made from a log. Each baseline is a frozen dataclass
of settings; `fit` counts once and gives a `Fitted`, which scores any history, a new user's included.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.data.sequences import Sequences
from segue.errors import ArgumentError
from segue.measure.metrics import ndcg
from segue.measure.ranks import target_ranks
from segue.shapes import Floats, Rows

Grid = Mapping[str, tuple[Any, ...]]

#: Pairs of events counted at once: about 100 MB of temporaries.
_PAIRS = 2**23
#: Popularity beside counts: orders what the counts leave level, and all else when they are empty.
_TIE = 1e-6


@runtime_checkable
class Baseline(Protocol):
    """Settings of a model without gradients: `fit` learns from sequences what `Fitted.score` needs.

    A baseline is a frozen dataclass that can be made without arguments; `grid` names, for each setting
    worth tuning, the values to try.
    """

    # Says that it is a dataclass, so that its settings can be listed and replaced.
    __dataclass_fields__: ClassVar[dict[str, Any]]
    title: ClassVar[str]
    grid: ClassVar[Grid]

    def fit(self, sequences: Sequences, n_items: int) -> "Fitted":
        """Return the fitted baseline.

        Args:
            sequences: the events to learn from; rows 0 (*unknown*) are left out.
            n_items: the length of a score row, row 0 included.

        Raises:
            ArgumentError: a row of the sequences is not below `n_items`.
        """
        ...


@dataclass(frozen=True, eq=False)
class Fitted:
    """A baseline that has learnt: what is recent in a history times pairs, plus popularity.

    `score(y) = sum over the last `window` items x of the history, lag steps back, of
    2^(-lag / half_life) * pairs[x, y], plus popularity[y]`.

    With an empty history, or one of unknown items only, popularity is all there is.

    Args:
        baseline: the settings it was fitted with.
        popularity: float32[item], small beside `pairs` where both are used.
        pairs: sparse float32[item, item], or None for a baseline that looks at no history.
        window: how many items of the history count; None for all.
        half_life: the lag in items at which an item counts half; infinite for no decay.
    """

    baseline: Baseline
    popularity: Floats
    pairs: sparse.csr_array | None = None
    window: int | None = None
    half_life: float = np.inf

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self.baseline)

    @property
    def name(self) -> str:
        """The name for a report, with the settings."""
        settings = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        return f"{self.baseline.title} ({settings})" if settings else self.baseline.title

    def score(self, histories: Sequence[Rows]) -> Floats:
        """Return the score of every item for each history; higher is better.

        Items of the history are scored like all others: whether they may be shown is the caller's choice.

        Args:
            histories: for each query int32[event], vocabulary rows, oldest first; rows 0 are ignored.

        Returns:
            float32[query, item], dense; column 0 (*unknown*) is -inf.

        Raises:
            ArgumentError: a row of a history is negative or not a column of the scores.

        Cost: O(query x (item + window x pairs of an item)); give blocks of queries for a large catalogue.
        """
        n_items = len(self.popularity)
        if self.pairs is None:
            scores = np.tile(self.popularity, (len(histories), 1))
        else:
            scores = (_recent(histories, n_items, self.window, self.half_life) @ self.pairs).toarray()
            scores += self.popularity
        scores[:, 0] = -np.inf
        return scores


@dataclass(frozen=True)
class Popularity:
    """Score an item by its number of events, whatever the history.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann", "bob"]), np.array([0, 2, 4]), np.array([1, 2, 2, 2], np.int32))
        >>> Popularity().fit(log, 4).score([np.array([], np.int32)]).tolist()
        [[-inf, 0.25, 0.75, 0.0]]
    """

    title: ClassVar[str] = "popularity"
    grid: ClassVar[Grid] = {}

    def fit(self, sequences: Sequences, n_items: int) -> Fitted:
        """Count. O(events)."""
        return Fitted(self, _shares(_known(sequences, n_items).items, n_items))


@dataclass(frozen=True)
class RecentPopularity:
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
    grid: ClassVar[Grid] = {"half_life": (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)}

    def __post_init__(self) -> None:
        _above_zero(self.title, half_life=self.half_life)

    def fit(self, sequences: Sequences, n_items: int) -> Fitted:
        """Count with decay. O(events log events)."""
        known = _known(sequences, n_items)
        weights = np.exp2(-_age(known) / self.half_life)
        return Fitted(self, _shares(known.items, n_items, weights=weights))


@dataclass(frozen=True)
class DecayedMarkov:
    """Score an item by how often it followed the last items of the history, sooner counting more.

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
    smoothing: float = _TIE

    title: ClassVar[str] = "decayed Markov"
    grid: ClassVar[Grid] = {
        "norm": (0.0, 0.5, 0.75, 1.0),
        "half_life": (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0),
        "window": (1, 3, 5, 10, 20, 40),
        "smoothing": (_TIE, 0.1, 0.5),
    }

    def __post_init__(self) -> None:
        _above_zero(self.title, window=self.window, half_life=self.half_life, smoothing=self.smoothing)
        _not_negative(self.title, norm=self.norm)

    def fit(self, sequences: Sequences, n_items: int) -> Fitted:
        """Count pairs. O(events x window) time; memory for the distinct pairs and one block."""
        known = _known(sequences, n_items)
        counts = _followers(known, n_items, self.window, self.half_life)
        sums = np.maximum(counts.sum(axis=1), np.finfo(np.float32).tiny)
        pairs = sparse.csr_array(sparse.diags_array(sums**-self.norm) @ counts, dtype=np.float32)
        popularity = _shares(known.items, n_items, total=self.smoothing)
        return Fitted(self, popularity, pairs, self.window, self.half_life)


@dataclass(frozen=True)
class ItemKNN:
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
    grid: ClassVar[Grid] = {
        "window": (1, 3, 5, 10, 20, None),
        "shrinkage": (0.0, 10.0, 50.0),
        "neighbours": (20, 50, 100, 200, 500),
    }

    def __post_init__(self) -> None:
        _above_zero(self.title, neighbours=self.neighbours, window=1 if self.window is None else self.window)
        _not_negative(self.title, shrinkage=self.shrinkage)

    def fit(self, sequences: Sequences, n_items: int) -> Fitted:
        """Count common users. O(sum over users of (items of the user)^2) time."""
        known = _known(sequences, n_items)
        used = sparse.csr_array(
            (np.ones(len(known.items), np.float32), known.items, known.offsets), shape=(len(known), n_items)
        )
        used.sum_duplicates()
        used.data[:] = 1
        pairs = _nearest(used, self.neighbours, self.shrinkage)
        return Fitted(self, _shares(known.items, n_items, total=_TIE), pairs, self.window)


#: Every baseline, in the order of a report.
BASELINES: tuple[type[Baseline], ...] = (Popularity, RecentPopularity, DecayedMarkov, ItemKNN)


def tuned(
    kind: type[Baseline],
    sequences: Sequences,
    n_items: int,
    *,
    exclude_seen: bool = False,
    grid: Grid | None = None,
    trials: int | None = None,
    max_queries: int = 2000,
) -> Fitted:
    """Return a baseline fitted with the settings that rank the last training event of each user best.

    Each user's last event is held out; the rest is learnt, and the settings with the highest NDCG@10
    of the held-out events win. One setting is varied at a time, from the defaults on, until a whole
    round changes nothing. The winner is fitted on all of `sequences`. No test event is looked at.

    Args:
        kind: the class of the baseline.
        sequences: the training events.
        n_items: the length of a score row, row 0 included.
        exclude_seen: whether items of the history are left out of the lists; take what the report uses.
        grid: the values to try for each setting; None for the class's own.
        trials: at most so many settings are tried, a number and not a time, so that every machine finds
            the same; None takes `trials_worth(...)`, fewer the larger the log and the catalogue are.
        max_queries: at most so many users, spread evenly over the log, are ranked in a trial.

    Returns:
        The fitted winner; its `settings` and `name` say what was found.

    Raises:
        ArgumentError: the grid names a setting that is not there, or a row is not below `n_items`.

    Cost: a fit and a scoring per trial, and one fit more.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 6]), np.array([1, 1, 1, 2, 2, 1], np.int32))
        >>> tuned(RecentPopularity, log, 3, grid={"half_life": (0.1, 10.0)}).settings
        {'half_life': 10.0}
    """
    grid = kind.grid if grid is None else grid
    best = kind()
    names = {field.name for field in fields(best)}
    if not set(grid) <= names:
        raise ArgumentError(
            f"{kind.title}, grid: expected settings among {sorted(names)}, came {sorted(grid)}. Leave the others out."
        )
    train, histories, targets = _held_out(_known(sequences, n_items), max_queries)
    if grid and len(targets):
        if trials is None:
            trials = trials_worth(len(train.items), len(targets) * n_items)
        trial = _trial(train, histories, targets, n_items, exclude_seen)
        best = _climb(best, grid, trial, trials)
    return best.fit(sequences, n_items)


def _trial(
    train: Sequences, histories: list[Rows], targets: Rows, n_items: int, exclude_seen: bool
) -> Callable[[Baseline], float]:
    """Return the function that gives the NDCG@10 of settings on held-out events."""
    step = max(1, _PAIRS // n_items)

    def block_ndcg(fitted: Fitted, block: slice) -> NDArray[np.float64]:
        scores = fitted.score(histories[block])
        if exclude_seen:
            for row, history in zip(scores, histories[block], strict=True):
                row[history] = -np.inf
        return ndcg(target_ranks(scores, targets[block]), k=10)

    def trial(baseline: Baseline) -> float:
        fitted = baseline.fit(train, n_items)
        blocks = [slice(begin, begin + step) for begin in range(0, len(targets), step)]
        return float(np.concatenate([block_ndcg(fitted, block) for block in blocks]).mean())

    return trial


def trials_worth(events: int, scores: int) -> int:
    """Return how many settings are tried: some seconds' worth, from 8 to 60.

    Args:
        events: learnt in a trial.
        scores: given in a trial, questions times items.

    Example:
        >>> trials_worth(99_000, 943 * 1683), trials_worth(1_000_000, 2000 * 3417), trials_worth(10**7, 2 * 10**8)
        (60, 60, 8)
    """
    return min(max(round(2e9 / (20 * events + scores)), 8), 60)


def _climb(best: Baseline, grid: Grid, trial: Callable[[Baseline], float], trials: int) -> Baseline:
    """Vary one setting at a time, keep what is better, until nothing changes or the trials are used up."""
    tried = {best: trial(best)}
    before = None
    while before != best:
        before = best
        for name, values in grid.items():
            for candidate in (replace(best, **{name: value}) for value in values):
                if candidate not in tried and len(tried) < trials:
                    tried[candidate] = trial(candidate)
            best = max(tried, key=tried.__getitem__)  # of equals the one tried first
    return best


def _held_out(known: Sequences, max_queries: int) -> tuple[Sequences, list[Rows], Rows]:
    """Return all but each user's last event, and some users' histories and last items."""
    ends = known.offsets[1:]
    keep = np.ones(len(known.items), bool)
    keep[ends[known.lengths > 0] - 1] = False
    train = known.keep(keep)
    users = np.flatnonzero(known.lengths > 1)
    if len(users) > max_queries:
        users = users[np.linspace(0, len(users) - 1, max_queries).astype(np.int64)]
    histories = [known.items[known.offsets[user] : ends[user] - 1] for user in users]
    return train, histories, known.items[ends[users] - 1]


def _known(sequences: Sequences, n_items: int) -> Sequences:
    """Check the rows and return the events of known items only."""
    items = sequences.items
    if items.size and not 0 <= items.min() <= items.max() < n_items:
        raise ArgumentError(
            f"sequences: expected rows from 0 to {n_items - 1}, came {items.min()} to {items.max()}. "
            "n_items is the length of a score row, row 0 included: give the size of the vocabulary."
        )
    return sequences.keep(items > 0)


def _age(sequences: Sequences) -> NDArray[np.float64]:
    """Return float64[event], 0 to 1: the share of later events of the log; without times, of the user."""
    if sequences.times is not None:
        ordered = np.sort(sequences.times)
        return 1 - np.searchsorted(ordered, sequences.times, side="right") / max(len(ordered), 1)
    lengths = np.repeat(sequences.lengths, sequences.lengths)
    ends = np.repeat(sequences.offsets[1:], sequences.lengths)
    return (ends - 1 - np.arange(len(ends))) / np.maximum(lengths, 1)


def _shares(items: Rows, n_items: int, *, weights: NDArray[np.float64] | None = None, total: float = 1.0) -> Floats:
    """Return float32[item], each item's share of the events or of their weights, adding up to `total`."""
    sums = np.bincount(items, weights=weights, minlength=n_items)
    return (sums * (total / max(sums.sum(), np.finfo(np.float64).tiny))).astype(np.float32)


def _recent(histories: Sequence[Rows], n_items: int, window: int | None, half_life: float) -> sparse.csr_array:
    """Return sparse float32[query, item]: how much each item of each history counts."""
    tails = [np.asarray(history)[np.asarray(history) != 0][-(window or 0) :] for history in histories]
    rows = np.concatenate([*tails, np.zeros(0, np.int32)])
    if rows.size and not 0 < rows.min() <= rows.max() < n_items:
        raise ArgumentError(
            f"histories: expected rows from 0 to {n_items - 1}, came {rows.min()} to {rows.max()}. "
            "Take the rows from the vocabulary that the baseline was fitted with."
        )
    lengths = np.array([len(tail) for tail in tails], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    lags = np.repeat(offsets[1:], lengths) - 1 - np.arange(len(rows))
    weights = np.exp2(-lags / half_life).astype(np.float32)
    return sparse.csr_array((weights, rows, offsets), shape=(len(tails), n_items))


def _followers(known: Sequences, n_items: int, window: int, half_life: float) -> sparse.csr_array:
    """Return sparse float64[item, item]: the decayed count of the second after the first.

    A product of two sparse matrices that both have the events in the middle: which item an event is
    of, and which items follow it within the window.
    """
    total = sparse.csr_array((n_items, n_items), dtype=np.float64)
    ends = np.repeat(known.offsets[1:], known.lengths)
    step = max(1, _PAIRS // window)
    for begin in range(0, len(ends), step):
        events = np.arange(begin, min(begin + step, len(ends)))
        followers = np.minimum(window, ends[events] - 1 - events)
        offsets = np.concatenate([[0], np.cumsum(followers)])
        distance = np.arange(offsets[-1]) - np.repeat(offsets[:-1], followers) + 1
        later = known.items[np.repeat(events, followers) + distance]
        shape = (len(events), n_items)
        after = sparse.csr_array((np.exp2(-(distance - 1) / half_life), later, offsets), shape=shape)
        of = sparse.csr_array((np.ones(shape[0]), known.items[events], np.arange(shape[0] + 1)), shape=shape)
        total = total + of.T.tocsr() @ after
    return total


def _nearest(used: sparse.csr_array, neighbours: int, shrinkage: float) -> sparse.csr_array:
    """Return sparse float32[item, item]: each item's nearest, from used[user, item] of ones."""
    n_items = used.shape[1]
    by_item = used.T.tocsr()
    norms = np.sqrt(np.diff(by_item.indptr)).astype(np.float32)
    # Blocks of items with about as many pairs each, so that few users of many items cost few blocks.
    pairs = np.cumsum(np.minimum(by_item @ np.diff(used.indptr), n_items))
    begins = np.flatnonzero(np.diff(pairs // _PAIRS, prepend=-1))
    kept: list[sparse.csr_array] = []
    for begin, end in zip(begins, [*begins[1:], n_items], strict=True):
        common = by_item[begin:end] @ used
        of = begin + np.repeat(np.arange(common.shape[0]), np.diff(common.indptr))
        common.data /= norms[of] * norms[common.indices] + np.float32(shrinkage)
        common.data[of == common.indices] = 0
        kept.append(_highest(common, neighbours))
    return sparse.vstack(kept, format="csr")


def _highest(matrix: sparse.csr_array, count: int) -> sparse.csr_array:
    """Return a matrix with the `count` highest values above 0 of each row, of equals the first columns."""
    matrix.sort_indices()
    keep = matrix.data > 0
    for begin, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        if end - begin > count:
            values = matrix.data[begin:end]
            cut = np.partition(values, -count)[-count]
            level = np.flatnonzero(values == cut)
            keep[begin:end] &= values >= cut
            keep[begin + level[count - np.count_nonzero(values > cut) :]] = False
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    return sparse.csr_array((matrix.data[keep], matrix.indices[keep], kept_before[matrix.indptr]), shape=matrix.shape)


def _above_zero(title: str, **settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise ArgumentError(f"{title}, {name}: expected a number above 0, came {value}. Raise it.")


def _not_negative(title: str, **settings: float) -> None:
    for name, value in settings.items():
        if not value >= 0:
            raise ArgumentError(f"{title}, {name}: expected 0 or more, came {value}. Raise it.")
