"""Metrics of queries with several targets, from the hits in each list.

For a query with one target each metric equals its namesake in `metrics.py`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.errors import ArgumentError
from segue.metrics.metrics import PerQuery


class Relevance(NamedTuple):
    """Which places of each list were right, for queries with any number of targets.

    Args:
        hits: bool[query, k]; whether the item at that place, best first, is a target of the query.
        relevant: int64[query]; how many different targets the query has.
    """

    hits: NDArray[np.bool_]
    relevant: NDArray[np.int64]


def relevance(top: NDArray[np.integer], *, offsets: NDArray[np.integer], targets: NDArray[np.integer]) -> Relevance:
    """Return which places of each list hold one of the query's targets.

    A target that stands twice counts once. Row 0 fills the places of a list that is shorter than k;
    it is never a hit, and a target of row 0 is not counted.

    Args:
        top: int[query, k], vocabulary rows, best first, each at most once in a list.
        offsets: int[query + 1]; the targets of query `q` are `targets[offsets[q]:offsets[q + 1]]`.
        targets: int[target], vocabulary rows.

    Returns:
        The hits and the number of different targets.

    Raises:
        ArgumentError: the shapes do not fit together, or a query has no target left.

    Cost: O(n log n) for n places and targets together.

    Example:
        >>> found = relevance(np.array([[5, 2, 7], [1, 4, 0]]),
        ...                   offsets=np.array([0, 2, 3]), targets=np.array([7, 5, 3]))
        >>> found.hits.tolist()
        [[True, False, True], [False, False, False]]
        >>> found.relevant.tolist()
        [2, 1]
    """
    top, offsets, targets = np.asarray(top), np.asarray(offsets), np.asarray(targets)
    if top.ndim != 2 or offsets.shape != (len(top) + 1,) or offsets[0] != 0 or offsets[-1] != len(targets):
        raise ArgumentError(
            f"expected top[query, k] and offsets[query + 1] from 0 to {len(targets)}, the number of targets, "
            f"came top of shape {top.shape} and offsets of shape {offsets.shape}. "
            "Give the targets of all queries back to back."
        )
    span = int(max(top.max(initial=0), targets.max(initial=0))) + 1
    query_of = np.repeat(np.arange(len(top)), np.diff(offsets))
    wanted = np.unique((query_of * span + targets)[targets > 0])  # one number per (query, item)
    relevant = np.bincount(wanted // span, minlength=len(top))
    if (relevant == 0).any():
        raise ArgumentError(
            f"query {np.argmin(relevant)}: expected at least one known target, came none. "
            "Leave such queries out and report their share."
        )
    shown = np.arange(len(top))[:, None] * span + top
    return Relevance(hits=np.isin(shown, wanted) & (top > 0), relevant=relevant)


def set_hit_rate(found: Relevance, *, k: int) -> PerQuery:
    """Return 1 for each query with at least one target among the first k, else 0.

    Args:
        found: the hits of each list and the number of targets of each query, from `relevance`.
        k: the length of the list, from 1 to the width of `found.hits`.

    Returns:
        float64[query].

    Raises:
        ArgumentError: `k` is below 1 or beyond the width of the lists.

    Example:
        >>> found = Relevance(np.array([[False, True], [False, False]]), np.array([3, 1]))
        >>> set_hit_rate(found, k=2).tolist()
        [1.0, 0.0]
    """
    return np.asarray(_hits(found, k).any(axis=1), np.float64)


def set_precision(found: Relevance, *, k: int) -> PerQuery:
    """Return the share of the k places that hold a target: `hits / k`.

    A list shorter than k counts as if its missing places were wrong.

    Example:
        >>> set_precision(Relevance(np.array([[True, False, True, False]]), np.array([5])), k=4).tolist()
        [0.5]
    """
    return _hits(found, k).mean(axis=1)


def set_recall(found: Relevance, *, k: int) -> PerQuery:
    """Return the share of a query's targets that the k places hold: `hits / targets`.

    A query with more than k targets cannot reach 1.

    Example:
        >>> set_recall(Relevance(np.array([[True, False, True, False]]), np.array([4])), k=4).tolist()
        [0.5]
    """
    return _hits(found, k).sum(axis=1) / found.relevant


def set_f1(found: Relevance, *, k: int) -> PerQuery:
    """Return the harmonic mean of precision and recall: `2 hits / (k + targets)`.

    Source: van Rijsbergen 1979, chapter 7.

    Example:
        >>> set_f1(Relevance(np.array([[True, False, True, False]]), np.array([4])), k=4).tolist()
        [0.5]
    """
    return 2 * _hits(found, k).sum(axis=1) / (k + found.relevant)


def set_ndcg(found: Relevance, *, k: int) -> PerQuery:
    """Return the discounted gain of the hits as a share of the best list's.

    `sum over places p of hit_p / log2(p + 1)`, divided by the same sum with hits at the first
    `min(k, targets)` places.

    Source: Järvelin, Kekäläinen 2002, binary gain.

    Example:
        >>> set_ndcg(Relevance(np.array([[False, True, True]]), np.array([2])), k=3).round(4).tolist()
        [0.6934]
    """
    worth = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(worth)[np.minimum(found.relevant, k) - 1]
    return (_hits(found, k) * worth).sum(axis=1) / best


def set_mrr(found: Relevance, *, k: int) -> PerQuery:
    """Return the reciprocal of the place of the first hit, 0 without one.

    Source: Voorhees 1999.

    Example:
        >>> set_mrr(Relevance(np.array([[False, True, True]]), np.array([2])), k=3).tolist()
        [0.5]
    """
    hits = _hits(found, k)
    return hits.any(axis=1) / (hits.argmax(axis=1) + 1)


def set_mean_average_precision(found: Relevance, *, k: int) -> PerQuery:
    """Return the mean, over the targets that fit in the list, of the precision at each hit.

    `sum over places p of hit_p * (hits up to p) / p`, divided by `min(k, targets)`; a target that is
    not found counts as 0.

    Source: Manning, Raghavan, Schütze 2008, section 8.4, cut at k.

    Example:
        >>> set_mean_average_precision(Relevance(np.array([[False, True, True]]), np.array([2])),
        ...                            k=3).round(4).tolist()
        [0.5833]
    """
    hits = _hits(found, k)
    at_place = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    return (hits * at_place).sum(axis=1) / np.minimum(found.relevant, k)


def set_auc(ranks: NDArray[np.floating], *, offsets: NDArray[np.integer], n_items: int) -> PerQuery:
    """Return the share of pairs of a target and another item in which the target stands higher.

    With R targets among N items, `1 - (sum of ranks - R (R + 1) / 2) / (R (N - R))`.

    Args:
        ranks: float[target], the rank of each target among all items, targets included; `target_ranks` with
            `ties="mean"` gives half for a pair of equals.
        offsets: int[query + 1]; the targets of query `q` are `ranks[offsets[q]:offsets[q + 1]]`.
        n_items: the length of a score row, row 0 included, so that there are `n_items - 1` items.

    Raises:
        ArgumentError: the shapes do not fit, or a query has no target or no other item.

    Source: Hanley, McNeil 1982, by the rank sum of Mann, Whitney 1947.

    Example:
        >>> set_auc(np.array([1., 3., 2.]), offsets=np.array([0, 2, 3]), n_items=5).tolist()
        [0.75, 0.6666666666666667]
    """
    ranks, offsets = np.asarray(ranks, np.float64), np.asarray(offsets)
    relevant, others = np.diff(offsets), n_items - 1 - np.diff(offsets)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(ranks) or (relevant < 1).any() or (others < 1).any():
        raise ArgumentError(
            f"auc: expected offsets from 0 to {len(ranks)}, the number of ranks, and for each query at least one "
            f"target and one other item, came offsets {offsets[:1]} to {offsets[-1:]} with {relevant.min(initial=0)} "
            f"targets at least among {n_items - 1} items. Leave other queries out and report their share."
        )
    sums = np.add.reduceat(ranks, offsets[:-1]) if len(relevant) else ranks
    return 1 - (sums - relevant * (relevant + 1) / 2) / (relevant * others)


def _hits(found: Relevance, k: int) -> NDArray[np.bool_]:
    """Check k and give the hits of the first k places."""
    if not 1 <= k <= found.hits.shape[1]:
        raise ArgumentError(
            f"k: expected 1 to {found.hits.shape[1]}, the width of the lists, came {k}. Ask for longer lists."
        )
    return found.hits[:, :k]
