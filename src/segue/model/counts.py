"""What followed what, mixed with what the network says.

Knows: decayed counts of pairs as shares, the last items of a user, a log-linear mixture of the two scores.
Does not know: how the shares are counted and the weight is found (`segue.training.fusion`), ids, policies.

A network of fixed width says in few numbers what comes next, and generalises; counts of pairs remember each
pair that was met, and nothing else. Their product, each raised to a power, is better than either:

    score = scale * (network + weight * log(share + smoothing * popularity))
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.shapes import Floats, Rows

#: Items of a user that are kept for this, the newest last; 0 where there is none, or where it is unknown.
RECENT = 20


class Counts(NamedTuple):
    """Pairs of items as a sparse matrix by rows, and how much they say.

    Args:
        offsets: int64[V + 1], where the pairs of each row begin.
        rows: int32[n], the second item of each pair.
        shares: float32[n], of the events after the first, that of the second; decayed by distance.
        popularity: float32[V], above 0, each item's share of all events.
        decay: float32[RECENT], how much the last items count, the newest last.
        weight: float32[], of the log of the share.
        smoothing: float32[], of popularity beside the shares.
        scale: float32[], of the sum, so that the scores stay log-odds.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    shares: NDArray[np.float32]
    popularity: NDArray[np.float32]
    decay: NDArray[np.float32]
    weight: np.float32
    smoothing: np.float32
    scale: np.float32


def nothing_recent(users: int) -> Rows:
    """Return int32[user, RECENT]: the last items of users who have done nothing."""
    return np.zeros((users, RECENT), np.int32)


def pushed(recent: Rows, rows: Rows) -> Rows:
    """Return the last items after one more of each user.

    Args:
        recent: int32[user, RECENT].
        rows: int32[user].

    Example:
        >>> pushed(np.arange(20, dtype=np.int32)[None], np.int32([77]))[0, -3:].tolist()
        [18, 19, 77]
    """
    return np.concatenate([recent[:, 1:], rows[:, None]], axis=1)


def followed(counts: Counts, recent: Rows) -> Floats:
    """Return float32[user, V]: the share of each item among what followed the last items, 0 where none did.

    Args:
        counts: the pairs.
        recent: int32[user, RECENT]; rows that the counts do not know say nothing.

    Cost: O(users x (V + RECENT x pairs of an item)).
    """
    size = len(counts.popularity)
    known = (recent > 0) & (recent < size)
    weights = np.where(known, counts.decay, np.float32(0))
    ends = np.arange(len(recent) + 1) * RECENT
    last = sparse.csr_array((weights.ravel(), np.where(known, recent, 0).ravel(), ends), shape=(len(recent), size))
    pairs = sparse.csr_array((counts.shares, counts.rows, counts.offsets), shape=(size, size))
    found: Floats = (last @ pairs).toarray()
    found /= np.maximum(found.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return found


def mixed(counts: Counts, scores: Floats, shares: Floats) -> Floats:
    """Return float32[user, V or more]: the network's scores mixed with what followed the last items.

    Args:
        counts: the weight of the pairs.
        scores: float32[user, V or more], of the network; items added since the counts count as the rarest.
        shares: float32[user, V], see `followed`.
    """
    rarest = counts.smoothing * counts.popularity[1:].min()
    expected = np.full(scores.shape, rarest, np.float32)
    expected[:, : shares.shape[1]] = shares + counts.smoothing * counts.popularity
    mixture = counts.scale * (scores + counts.weight * np.log(expected))
    return mixture.astype(np.float32, copy=False)
