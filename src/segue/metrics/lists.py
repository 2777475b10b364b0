"""Metrics of lists beside accuracy: what they cover, how new, varied, surprising and popular their items are.

A list is a row of vocabulary rows, best first; row 0 fills the places of a short list and is never counted. The metrics
of one list return a number per query, the metrics of all lists together one number.
"""

import numpy as np
from numpy.typing import NDArray

from segue.errors import ArgumentError
from segue.metrics.metrics import PerQuery
from segue.metrics.several_targets import Relevance

#: Features at hand at once: 64 MB.
_FEATURES = 2**24


def coverage(top: NDArray[np.integer], *, n_items: int) -> float:
    """Return the share of the catalogue that appears in at least one list.

    Row 0 fills short lists and is not counted.

    Args:
        top: int[query, k], vocabulary rows.
        n_items: the length of a score row, row 0 included.

    Raises:
        ArgumentError: the catalogue is empty, or a row is beyond it.

    Source: Ge, Delgado-Battenfeld, Jannach 2010, "catalog coverage".

    Example:
        >>> coverage(np.array([[1, 2], [1, 0]]), n_items=5)
        0.5
    """
    return float(np.count_nonzero(np.unique(_rows(top, n_items, "coverage", "a score row"))) / (n_items - 1))


def novelty(top: NDArray[np.integer], *, counts: NDArray[np.integer]) -> PerQuery:
    """Return how surprising the items of each list are, in bits.

    The mean over the list of `-log2 p(item)`, where p is the item's share of the events with one
    added to each item, so that an item without events has a finite value. Row 0 is skipped; a list
    with nothing in it is worth 0.

    Args:
        top: int[query, k], vocabulary rows.
        counts: int[item], the events of each item in the log that was learnt; entry 0 is not used.

    Raises:
        ArgumentError: a row of `top` has no entry in `counts`.

    Source: Vargas, Castells 2011, mean self-information.

    Example:
        >>> novelty(np.array([[1, 2], [2, 0]]), counts=np.array([0, 5, 1])).tolist()
        [1.207518749639422, 2.0]
    """
    top = _rows(top, len(counts), "novelty", "counts")
    smoothed = counts[1:] + 1.0
    bits = np.concatenate([[0.0], -np.log2(smoothed / smoothed.sum())])
    return _mean_of_list(bits, top)


def gini(top: NDArray[np.integer], *, n_items: int) -> float:
    """Return how unequally the items of the catalogue are shown, from 0 (all alike) to near 1 (one item alone).

    `sum over places i of (2 i - n - 1) * shown_i / (n * sum of shown)`, over the `n = n_items - 1` items,
    sorted by how often they are shown, the rarest first. Lists with nothing in them are worth 0.

    Args:
        top: int[query, k], vocabulary rows.
        n_items: the length of a score row, row 0 included.

    Raises:
        ArgumentError: the catalogue is empty, or a row is beyond it.

    Source: Fleder, Hosanagar 2009; the sum over sorted values of Dixon et al. 1987.

    Example:
        >>> gini(np.array([[1, 2], [3, 4]]), n_items=5), gini(np.array([[1], [1]]), n_items=5)
        (0.0, 0.75)
    """
    top = _rows(top, n_items, "gini", "a score row")
    shown, n = np.sort(np.bincount(top.ravel(), minlength=n_items)[1:]), n_items - 1
    return float((2 * np.arange(1, n + 1) - n - 1) @ shown / (n * max(int(shown.sum()), 1)))


def diversity(top: NDArray[np.integer], *, features: NDArray[np.floating]) -> PerQuery:
    """Return how unlike each other the items of each list are: the mean of `1 - cosine` over all pairs.

    An item without features (a row of zeros) is like none. A list with fewer than two items is worth 0.

    Args:
        top: int[query, k], vocabulary rows.
        features: float[item, m]; row 0 is not read.

    Raises:
        ArgumentError: a row of `top` has no row in `features`.

    Cost: O(query x k x m): the sum over all pairs is that of the squared length of the summed unit vectors.

    Source: Ziegler et al. 2005 (intra-list similarity), as `1 - similarity`.

    Example:
        >>> features = np.array([[0, 0], [1, 0], [2, 0], [0, 1]])
        >>> diversity(np.array([[1, 2, 0], [1, 3, 0], [1, 2, 3]]), features=features).round(3).tolist()
        [0.0, 1.0, 0.667]
    """
    features = np.asarray(features, np.float64)
    top = _rows(top, len(features), "diversity", "features")
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.divide(features, lengths, out=np.zeros(features.shape), where=lengths > 0)
    unit[0] = 0
    some, values = unit.any(axis=1), np.zeros(len(top))
    step = max(1, _FEATURES // max(top.shape[1] * features.shape[1], 1))
    for begin in range(0, len(top), step):
        block = top[begin : begin + step]
        twice = (unit[block].sum(axis=1) ** 2).sum(axis=1) - some[block].sum(axis=1)
        count = (block > 0).sum(axis=1)
        pairs = count * (count - 1)
        values[begin : begin + step] = np.where(pairs > 0, 1 - twice / np.maximum(pairs, 1), 0.0)
    return values


def serendipity(top: NDArray[np.integer], *, found: Relevance, expected: NDArray[np.integer]) -> PerQuery:
    """Return the share of the k places that hold a target which a simple model does not list.

    `hits that are not in the expected list / k`.

    Args:
        top: int[query, k], vocabulary rows.
        found: the hits of the same lists, from `relevance`.
        expected: int[query, m] or int[1, m], the lists of a simple model, such as the most popular items.

    Raises:
        ArgumentError: the shapes do not fit together.

    Source: Ge, Delgado-Battenfeld, Jannach 2010, section 3.2, usefulness as a hit.

    Example:
        >>> from segue.metrics.several_targets import relevance
        >>> top, targets = np.array([[1, 2], [3, 1]]), np.array([1, 2, 3])
        >>> found = relevance(top, offsets=np.array([0, 2, 3]), targets=targets)
        >>> serendipity(top, found=found, expected=np.array([[1]])).tolist()    # item 1 surprises nobody
        [0.5, 0.5]
    """
    top, expected = np.asarray(top), np.asarray(expected)
    if found.hits.shape != top.shape or expected.ndim != 2 or len(expected) not in (1, len(top)):
        raise ArgumentError(
            f"serendipity: expected hits of the shape of the lists and expected lists for each query or for all, came "
            f"lists {top.shape}, hits {found.hits.shape} and expected lists {expected.shape}. Make the hits of these "
            "lists by relevance."
        )
    known = (top[:, :, None] == expected[:, None, :]).any(axis=2)
    return (found.hits & ~known).mean(axis=1)


def popularity_bias(top: NDArray[np.integer], *, counts: NDArray[np.integer]) -> PerQuery:
    """Return how much more popular the items of each list are than the items that users took, as a share.

    `mean over the list of counts[item] / (sum of counts^2 / sum of counts) - 1`: the divisor is the mean
    popularity over all events. 0: as popular as what users take; .5: half as popular again; -1: without an event.

    Args:
        top: int[query, k], vocabulary rows.
        counts: int[item], the events of each item in the log that was learnt; entry 0 is not used.

    Raises:
        ArgumentError: a row of `top` has no entry in `counts`, or no item has an event.

    Source: Abdollahpouri et al. 2020 (popularity lift), all users as one group; its numerator is the average
    recommendation popularity of Yin et al. 2012.

    Example:
        >>> popularity_bias(np.array([[1], [2]]), counts=np.array([0, 3, 1])).round(3).tolist()    # the mean is 2.5
        [0.2, -0.6]
    """
    top, events = _rows(top, len(counts), "popularity_bias", "counts"), np.asarray(counts, np.float64).copy()
    events[0] = 0
    if not events.sum() > 0:
        raise ArgumentError("popularity_bias: expected counts with events, came none. Count the log that was learnt.")
    return _mean_of_list(events, top) * (events.sum() / (events @ events)) - 1


def _mean_of_list(values: NDArray[np.float64], top: NDArray[np.integer]) -> PerQuery:
    """Return the mean value over the items of each list; entry 0 of the values is 0."""
    return values[top].sum(axis=1) / np.maximum((top > 0).sum(axis=1), 1)


def _rows(top: NDArray[np.integer], n_items: int, what: str, of: str) -> NDArray[np.integer]:
    """Check that the lists hold rows of a catalogue, and give the lists back."""
    top = np.asarray(top)
    if n_items < 2 or top.ndim != 2 or (top.size and not 0 <= top.min() <= top.max() < n_items):
        raise ArgumentError(
            f"{what}: expected lists[query, k] of rows below {n_items}, the length of {of}, came shape {top.shape}, "
            f"rows {top.min(initial=0)} to {top.max(initial=0)}. Use the same vocabulary that made the lists."
        )
    return top
