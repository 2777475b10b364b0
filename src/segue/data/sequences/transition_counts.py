"""Counts of users' items and of transitions between items, as sparse matrices."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError
from segue.shapes import Floats, Rows

#: Pairs of events counted at a time: about 100 MB of temporaries.
PAIRS = 2**23
#: The weight of popularity beside counts: it orders items of equal counts.
TIE = 1e-6


def known_events(sequences: Sequences, n_items: int) -> Sequences:
    """Return the events of known items; a row outside the vocabulary raises ArgumentError."""
    items = sequences.items
    if items.size and not 0 <= items.min() <= items.max() < n_items:
        raise ArgumentError(
            f"sequences: expected rows from 0 to {n_items - 1}, came {items.min()} to {items.max()}. "
            "n_items is the length of a score row, row 0 included: give the size of the vocabulary."
        )
    return sequences.keep(items > 0)


def age(sequences: Sequences) -> NDArray[np.float64]:
    """Return float64[event], the share of the log's (without times: the user's) later events."""
    if sequences.times is not None:
        ordered = np.sort(sequences.times)
        return 1 - np.searchsorted(ordered, sequences.times, side="right") / max(len(ordered), 1)
    lengths = np.repeat(sequences.lengths, sequences.lengths)
    ends = np.repeat(sequences.offsets[1:], sequences.lengths)
    return (ends - 1 - np.arange(len(ends))) / np.maximum(lengths, 1)


def shares(items: Rows, n_items: int, *, weights: NDArray[np.float64] | None = None, total: float = 1.0) -> Floats:
    """Return float32[item], each item's share of the events or their weights, times `total`."""
    sums = np.bincount(items, weights=weights, minlength=n_items)
    result: Floats = (sums * (total / max(sums.sum(), np.finfo(np.float64).tiny))).astype(np.float32)
    return result


def recent(
    histories: Sequence[Rows], n_items: int, window: int | None, half_life: float, *, once: bool = False
) -> sparse.csr_array:
    """Return sparse float32[query, item]: how much each item of each history counts.

    Args:
        histories: for each query int32[event], oldest first; rows 0 are left out.
        n_items: the number of columns.
        window: the number of last items of a history that count; None for all.
        half_life: the lag in items at which an item counts half.
        once: an item counts at its last place only; otherwise its places are summed.

    Example:
        >>> recent([np.array([2, 1, 0, 2])], 3, None, 1.0).toarray().tolist()
        [[0.0, 0.5, 1.25]]
        >>> recent([np.array([2, 1, 0, 2])], 3, None, 1.0, once=True).toarray().tolist()
        [[0.0, 0.5, 1.0]]
    """
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
    if once:
        query = np.repeat(np.arange(len(tails)), lengths)
        last = len(rows) - 1 - np.unique((query * n_items + rows)[::-1], return_index=True)[1]
        keep = np.sort(last)
        rows, weights, offsets = rows[keep], weights[keep], np.searchsorted(query[keep], np.arange(len(tails) + 1))
    result = sparse.csr_array((weights, rows, offsets), shape=(len(tails), n_items))
    result.sum_duplicates()
    return result


def used_by(known: Sequences, n_items: int) -> sparse.csr_array:
    """Return sparse float32[user, item]: 1 where the user has an event with the item."""
    used = sparse.csr_array(
        (np.ones(len(known.items), np.float32), known.items, known.offsets), shape=(len(known), n_items)
    )
    used.sum_duplicates()
    used.data[:] = 1
    return used


def followers(known: Sequences, n_items: int, window: int, half_life: float) -> sparse.csr_array:
    """Return sparse float64[item, item]: the decayed count of the second item after the first.

    This is the product of two sparse matrices over events: the item of each event, and the items
    that follow the event within the window.
    """
    total = sparse.csr_array((n_items, n_items), dtype=np.float64)
    ends = np.repeat(known.offsets[1:], known.lengths)
    step = max(1, PAIRS // window)
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


def blocks_of_items(by_item: sparse.csr_array, used: sparse.csr_array) -> list[tuple[int, int]]:
    """Return begin and end of blocks of items with about `PAIRS` pairs each.

    `used` is sparse float32[user, item] of ones, `by_item` its transpose.
    """
    pairs = np.cumsum(np.minimum(by_item @ np.diff(used.indptr), used.shape[1]))
    begins = np.flatnonzero(np.diff(pairs // PAIRS, prepend=-1)).tolist()
    return list(zip(begins, [*begins[1:], used.shape[1]], strict=True))


def nearest(used: sparse.csr_array, neighbours: int, shrinkage: float) -> sparse.csr_array:
    """Return sparse float32[item, item]: shrunken cosines with each item's nearest."""
    by_item = used.T.tocsr()
    norms = np.sqrt(np.diff(by_item.indptr)).astype(np.float32)
    blocks: list[sparse.csr_array] = []
    for begin, end in blocks_of_items(by_item, used):
        common = by_item[begin:end] @ used
        of = begin + np.repeat(np.arange(common.shape[0]), np.diff(common.indptr))
        common.data /= norms[of] * norms[common.indices] + np.float32(shrinkage)
        common.data[of == common.indices] = 0
        blocks.append(highest(common, neighbours))
    return sparse.vstack(blocks, format="csr")


def highest(matrix: sparse.csr_array, count: int) -> sparse.csr_array:
    """Return the `count` highest values above 0 of each row; of equal values, the first."""
    matrix.sort_indices()
    keep = matrix.data > 0
    for begin, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        if end - begin > count:
            values = matrix.data[begin:end]
            cut = np.partition(values, -count)[-count]
            level = np.flatnonzero(values == cut)
            keep[begin:end] &= values >= cut
            keep[begin + level[count - np.count_nonzero(values > cut) :]] = False
    count_before = np.concatenate([[0], np.cumsum(keep)])
    return sparse.csr_array((matrix.data[keep], matrix.indices[keep], count_before[matrix.indptr]), shape=matrix.shape)
