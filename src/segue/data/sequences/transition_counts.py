"""Counts of users' items and of transitions between items, as sparse matrices."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError
from segue.kernels.counting_loops import followers_table, highest_places, pure_highest_places
from segue.shapes import Floats, Rows

#: Pairs of events counted at a time: about 100 MB of temporaries.
PAIRS = 2**23
#: Cells of a table that is made of a matrix at most: 200 MB.
TABLE = 5000**2
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

    A small catalogue is counted in a table. In a large one, the counts are the product of two sparse matrices over
    events: the item of each event, and the items that follow the event within the window.

    Cost: O(events x window), and O(item^2) in a table.
    """
    table = table_of_followers(known, n_items, window, half_life)
    if table is not None:
        at = np.flatnonzero(table)
        rows = np.searchsorted(at, n_items * np.arange(n_items + 1))
        return sparse.csr_array((table.ravel()[at], at % n_items, rows), shape=table.shape)
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


def table_of_followers(known: Sequences, n_items: int, window: int, half_life: float) -> NDArray[np.float64] | None:
    """Return the same as a table, float64[item, item]; None for a catalogue that is large beside the log."""
    if n_items**2 > min(TABLE, 256 * len(known.items)):
        return None
    decay = np.exp2(-np.arange(min(window, int(known.lengths.max(initial=0)))) / half_life)
    return followers_table(known.items, known.offsets, n_items, decay)


def blocks_of_items(by_item: sparse.csr_array, used: sparse.csr_array) -> list[tuple[int, int]]:
    """Return begin and end of blocks of items with about `PAIRS` pairs each.

    `used` is sparse float32[user, item] of ones, `by_item` its transpose.
    """
    pairs = np.cumsum(np.minimum(by_item @ np.diff(used.indptr), used.shape[1]))
    begins = np.flatnonzero(np.diff(pairs // PAIRS, prepend=-1)).tolist()
    return list(zip(begins, [*begins[1:], used.shape[1]], strict=True))


class CommonUsers(NamedTuple):
    """How many users any two items have in common, a block of items after the other.

    Args:
        users: float32[item], the root of the number of users of each item.
        blocks: makes the counts, sparse float32[some, item], with the first item of each block.
    """

    users: Floats
    blocks: Callable[[], Iterable[tuple[int, sparse.csr_array]]]

    @classmethod
    def of(cls, used: sparse.csr_array) -> "CommonUsers":
        """Count the users of each pair; of many pairs, count anew for each use. `used` is of `used_by`."""
        by_item = used.T.tocsr()
        parts = blocks_of_items(by_item, used)

        def blocks() -> Iterator[tuple[int, sparse.csr_array]]:
            for begin, end in parts:
                common = by_item[begin:end] @ used
                common.sort_indices()
                yield begin, common

        kept = list(blocks()) if used.shape[1] ** 2 <= TABLE or len(parts) == 1 else None
        users = np.sqrt(np.diff(by_item.indptr)).astype(np.float32)
        return cls(users, blocks if kept is None else lambda: kept)

    def nearest(self, neighbours: int, shrinkage: float) -> sparse.csr_array:
        """Return sparse float32[item, item]: shrunken cosines with each item's nearest."""
        found: list[sparse.csr_array] = []
        for begin, common in self.blocks():
            of = begin + np.repeat(np.arange(common.shape[0]), np.diff(common.indptr))
            cosines = common.data / (self.users[of] * self.users[common.indices] + np.float32(shrinkage))
            cosines[of == common.indices] = 0
            shape = common.shape
            found.append(highest(sparse.csr_array((cosines, common.indices, common.indptr), shape=shape), neighbours))
        return sparse.vstack(found, format="csr")


def highest(matrix: sparse.csr_array, count: int) -> sparse.csr_array:
    """Return the `count` highest values above 0 of each row; of equal values, the first."""
    matrix.sort_indices()
    data, offsets = matrix.data, matrix.indptr.astype(np.int64)
    chosen = highest_places if data.dtype == np.float32 else pure_highest_places
    places, found = chosen(data, offsets, count)
    at = places + np.repeat(offsets[:-1], found)
    return sparse.csr_array((data[at], matrix.indices[at], _ends(found)), shape=matrix.shape)


def highest_of(values: Floats, count: int) -> sparse.csr_array:
    """Return the same of a table."""
    rows, width = values.shape
    places, found = highest_places(values.ravel(), width * np.arange(rows + 1), count)
    return sparse.csr_array(
        (values[np.repeat(np.arange(rows), found), places], places, _ends(found)), shape=values.shape
    )


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)])
