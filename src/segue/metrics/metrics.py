"""One pure function for each metric of ranks and of predicted ratings.

Metrics of queries return one number per query, so that means, intervals and comparisons (`bootstrap.py`) come from the
same array.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segue.errors import ArgumentError

PerQuery = NDArray[np.float64]


def hit_rate(ranks: NDArray[np.floating], *, k: int) -> PerQuery:
    """Return 1 for each query whose target is among the first k, else 0.

    `hit@k = [rank <= k]`; rank k itself is a hit.

    Args:
        ranks: float[query], 1 is the best.
        k: the length of the list, at least 1.

    Returns:
        float64[query].

    Raises:
        ArgumentError: `k` is below 1, or a rank is below 1.

    Source: Cremonesi, Koren, Turrin 2010, section 3.1 (there "recall").

    Example:
        >>> hit_rate(np.array([1., 10., 11.]), k=10).tolist()
        [1.0, 1.0, 0.0]
    """
    return (_ranks(ranks, k) <= k).astype(np.float64)


def precision(ranks: NDArray[np.floating], *, k: int) -> PerQuery:
    """Return the share of the k places that hold the target: `hit@k / k`.

    With one target it can be no more than 1 / k.

    Example:
        >>> precision(np.array([2., 6.]), k=5).tolist()
        [0.2, 0.0]
    """
    return hit_rate(ranks, k=k) / k


def recall(ranks: NDArray[np.floating], *, k: int) -> PerQuery:
    """Return the share of the targets that the k places hold: with one target, `hit@k`.

    Example:
        >>> recall(np.array([2., 6.]), k=5).tolist()
        [1.0, 0.0]
    """
    return hit_rate(ranks, k=k)


def f1(ranks: NDArray[np.floating], *, k: int) -> PerQuery:
    """Return the harmonic mean of precision and recall: with one target, `2 hit@k / (k + 1)`.

    Source: van Rijsbergen 1979, chapter 7.

    Example:
        >>> f1(np.array([2., 6.]), k=3).tolist()
        [0.5, 0.0]
    """
    return 2 * hit_rate(ranks, k=k) / (k + 1)


def ndcg(ranks: NDArray[np.floating], *, k: int) -> PerQuery:
    """Return the discounted gain of the target's place, 0 beyond k.

    `ndcg@k = [rank <= k] / log2(rank + 1)`: the best possible list has it first and is worth 1.

    Source: Järvelin, Kekäläinen 2002, with one relevant item and binary gain.

    Example:
        >>> ndcg(np.array([1., 3., 11.]), k=10).tolist()
        [1.0, 0.5, 0.0]
    """
    return hit_rate(ranks, k=k) / np.log2(_ranks(ranks, k) + 1)


def mrr(ranks: NDArray[np.floating], *, k: int) -> PerQuery:
    """Return the reciprocal rank of the target, 0 beyond k: `mrr@k = [rank <= k] / rank`.

    Source: Voorhees 1999 (TREC-8 question answering), cut at k.

    Example:
        >>> mrr(np.array([1., 4., 11.]), k=10).tolist()
        [1.0, 0.25, 0.0]
    """
    return hit_rate(ranks, k=k) / _ranks(ranks, k)


def mean_average_precision(ranks: NDArray[np.floating], *, k: int) -> PerQuery:
    """Return the average precision at k of each query; with one target it equals `mrr`.

    The precision at the only hit is 1 / rank, and there is one hit to average over.

    Example:
        >>> mean_average_precision(np.array([4.]), k=10).tolist()
        [0.25]
    """
    return mrr(ranks, k=k)


def auc(ranks: NDArray[np.floating], *, n_items: int) -> PerQuery:
    """Return the share of the other items that stand below the target: `(items - rank) / (items - 1)`.

    The area under the ROC curve of a query with one target: the chance that the target stands above an
    item drawn from the others. Ranks that take ties in the middle (`ties="mean"`) give half for an equal.

    Args:
        ranks: float[query], 1 is the best.
        n_items: the length of a score row, row 0 included, so that there are `n_items - 1` items.

    Raises:
        ArgumentError: there is one item only, or a rank is below 1 or beyond the items.

    Source: Hanley, McNeil 1982; per query as in Rendle et al. 2009.

    Example:
        >>> auc(np.array([1., 3., 5.]), n_items=6).tolist()
        [1.0, 0.5, 0.0]
    """
    items, ranks = n_items - 1, _ranks(ranks, 1)
    if items < 2 or (ranks > items).any():
        raise ArgumentError(
            f"auc: expected two items or more and ranks up to their number, came {items} items and ranks up to "
            f"{ranks.max(initial=0)}. n_items is the length of a score row, row 0 included."
        )
    return (items - ranks) / (items - 1)


def rmse(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Return the root of the mean squared error of ratings.

    Args:
        predicted: float[rating].
        actual: float[rating].

    Raises:
        ArgumentError: there is nothing to compare, the lengths differ, or a value is NaN.

    Source: Bennett, Lanning 2007 (the Netflix Prize).

    Example:
        >>> rmse([3., 4.], [3., 2.])
        1.4142135623730951
    """
    return float(np.sqrt(np.mean(_errors(predicted, actual) ** 2)))


def mae(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Return the mean absolute error of ratings; arguments and errors as in `rmse`.

    Example:
        >>> mae([3., 4.], [3., 2.])
        1.0
    """
    return float(np.mean(np.abs(_errors(predicted, actual))))


#: The rows of a next-item report, in the order in which they are printed.
NEXT_ITEM = {
    "hr": hit_rate,
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": mean_average_precision,
}


def next_item_metrics(ranks: NDArray[np.floating], ks: Sequence[int] = (5, 10, 20)) -> dict[str, float]:
    """Return the rows of a next-item report: the mean over queries of each metric at each k.

    Args:
        ranks: float[query], 1 is the best.
        ks: the lengths of list to report.

    Returns:
        A value for `hr@k`, `precision@k`, `recall@k`, `ndcg@k`, `mrr@k` and `map@k`, for each k in
        turn.

    Raises:
        ArgumentError: there is no query, a rank is below 1, or a k is below 1.

    Example:
        >>> for name, value in next_item_metrics(np.array([1., 3., 30.]), ks=(10,)).items():
        ...     print(name, round(value, 3))
        hr@10 0.667
        precision@10 0.067
        recall@10 0.667
        ndcg@10 0.5
        mrr@10 0.444
        map@10 0.444
    """
    if not np.size(ranks):
        raise ArgumentError("ranks: expected at least one query, came none. Check the split that made them.")
    return {f"{name}@{k}": float(metric(ranks, k=k).mean()) for k in ks for name, metric in NEXT_ITEM.items()}


def _ranks(ranks: NDArray[np.floating], k: int) -> NDArray[np.floating]:
    """Check ranks and k, and give the ranks back."""
    ranks = np.asarray(ranks)
    if k < 1 or not (ranks >= 1).all():
        raise ArgumentError(
            f"expected k and every rank to be 1 or more, came k {k} and lowest rank "
            f"{ranks.min(initial=np.inf)}. Rank 1 is the best: take the ranks from target_ranks."
        )
    return ranks


def _errors(predicted: ArrayLike, actual: ArrayLike) -> NDArray[np.float64]:
    """Return predicted minus actual in float64, after checking that they can be compared."""
    guesses, truth = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if guesses.shape != truth.shape or not guesses.size or np.isnan(guesses).any() or np.isnan(truth).any():
        raise ArgumentError(
            f"ratings: expected two equally long lists of numbers, came shapes {guesses.shape} and {truth.shape} "
            f"with {np.isnan(guesses).sum() + np.isnan(truth).sum()} NaN. Leave out events without a rating."
        )
    return guesses - truth
