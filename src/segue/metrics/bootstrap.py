"""The confidence interval of a difference between two models."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segue.errors import ArgumentError

#: Users drawn at once: the temporaries of a block stay near 100 MB at most.
_BLOCK = 2**22


@dataclass(frozen=True)
class Interval:
    """A difference of means and its confidence interval.

    Args:
        mean: the difference on the queries as they are.
        low: the lower end of the interval.
        high: the upper end of the interval.
        share_above_zero: the share of the resampled differences that are above 0.
    """

    mean: float
    low: float
    high: float
    share_above_zero: float

    def over(self, name: str | None) -> dict[str, Any]:
        """Return plain values for JSON: the improvement over a model of that name."""
        return {"over": name, "mean": self.mean, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the difference `mean(a) - mean(b)` with its bootstrap interval over users.

    Both models answered the same queries, so queries are drawn in pairs. One user's queries depend
    on each other, so whole users are drawn: in each draw as many users as there are, with
    replacement. The difference of a draw is the mean over all queries of its users. The interval
    holds the middle `level` of the draws.

    Args:
        a: float[query], a metric of the first model.
        b: float[query], the same metric of the second model on the same queries.
        groups: int or text[query], the user of each query; None when each query has its own user.
        draws: how many times the users are drawn.
        seed: the same seed gives the same interval.
        level: the share of the draws inside the interval, between 0 and 1.

    Returns:
        The difference, the ends of the interval, and the share of draws above 0.

    Raises:
        ArgumentError: there is no query, the lengths differ, a value is NaN, `draws` is below 1, or
            `level` is not between 0 and 1.

    Cost: O(draws x users) time; memory bounded by 4 million users drawn at a time, or one draw.

    Source: Efron, Tibshirani 1993, chapter 13 (percentile interval); Sakai 2006 for paired use in
    retrieval.

    Example:
        >>> paired_bootstrap([1., 1., 0., 1.], [0., 0., 0., 1.], draws=500).mean
        0.5
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _check(first, second, groups, draws, level)
    sums, counts = _per_user(first - second, groups)
    users = len(sums)
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // users)
    differences = np.empty(draws)
    for begin in range(0, draws, step):
        rows = min(step, draws - begin)
        drawn = rng.integers(users, size=(rows, users))
        differences[begin : begin + rows] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        mean=float(sums.sum() / counts.sum()),
        low=float(low),
        high=float(high),
        share_above_zero=float(np.mean(differences > 0)),
    )


def bootstrap_means(
    columns: ArrayLike, *, groups: ArrayLike, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> list[Interval]:
    """Return the mean of each column with its bootstrap interval over users; each draw serves all columns.

    A difference of two columns, as a column of its own, has the interval of `paired_bootstrap`.

    Args:
        columns: float[query, m], metrics of models on the same queries.
        groups: int or text[query], the user of each query.
        draws: how many times the users are drawn.
        seed: the same seed gives the same intervals.
        level: the share of the draws inside an interval, between 0 and 1.

    Raises:
        ArgumentError: as `paired_bootstrap`.

    Cost: O(draws x users x m) time; memory as of `paired_bootstrap`.

    Example:
        >>> [one.mean for one in bootstrap_means([[1., 0.], [0., 0.]], groups=[0, 1], draws=100)]
        [0.5, 0.0]
    """
    values = np.atleast_2d(np.asarray(columns, np.float64))
    means = drawn_means(values.T, groups=groups, draws=draws, seed=seed, level=level)
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    above = (means > 0).mean(axis=0)
    return [Interval(*map(float, one)) for one in zip(values.mean(axis=0), *ends, above, strict=True)]


def drawn_means(
    columns: Iterable[ArrayLike], *, groups: ArrayLike, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> NDArray[np.float64]:
    """Return the mean of each column in each draw of users; a difference of two columns has the draws of a pair.

    Args:
        columns: float[query] each, metrics of models on the same queries; read one after the other.
        groups, draws, seed, level: as of `bootstrap_means`.

    Returns:
        float64[draw, column].

    Raises:
        ArgumentError: as `paired_bootstrap`.

    Cost: as of `bootstrap_means`.
    """
    _, user = np.unique(np.asarray(groups), return_inverse=True)
    totals = []
    for column in columns:
        values = np.asarray(column, np.float64)
        _check(values, values, groups, draws, level)
        totals.append(np.bincount(user, values))
    sums = np.stack([*totals, np.bincount(user)], axis=1)
    users, rng = len(sums), np.random.default_rng(seed)
    step = max(1, _BLOCK // users)
    means = np.empty((draws, sums.shape[1] - 1))
    for begin in range(0, draws, step):
        rows = min(step, draws - begin)
        cells = rng.integers(users, size=(rows, users)) + users * np.arange(rows)[:, None]
        drawn = np.bincount(cells.ravel(), minlength=rows * users).reshape(rows, users) @ sums
        means[begin : begin + rows] = drawn[:, :-1] / drawn[:, -1:]
    return means


def _per_user(
    differences: NDArray[np.float64], groups: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return float[user]: the sum of the differences and the number of queries of each user."""
    if groups is None:
        ones: NDArray[np.float64] = np.ones(len(differences))
        return differences, ones
    _, user = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.asarray(np.bincount(user, weights=differences), np.float64)
    return sums, np.bincount(user).astype(np.float64)


def _check(a: NDArray[np.float64], b: NDArray[np.float64], groups: ArrayLike | None, draws: int, level: float) -> None:
    shapes = {a.shape, b.shape} | (set() if groups is None else {np.asarray(groups).shape})
    if len(shapes) != 1 or a.ndim != 1 or not a.size:
        raise ArgumentError(
            f"bootstrap: expected one number per query in both arrays, and one group if given, came shapes "
            f"{sorted(shapes)}. Measure both models on the same queries."
        )
    if np.isnan(a).any() or np.isnan(b).any():
        query = int(np.argmax(np.isnan(a) | np.isnan(b)))
        raise ArgumentError(
            f"bootstrap, query {query}: expected a number, came NaN. Leave such queries out of both arrays."
        )
    if draws < 1 or not 0 < level < 1:
        raise ArgumentError(
            f"bootstrap: expected draws of 1 or more and a level between 0 and 1, came draws {draws} and "
            f"level {level}. The defaults are 2000 and .95."
        )
