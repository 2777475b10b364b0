"""Transition counts and repeat consumption, blended with the network's scores.

A network of fixed width generalises: it describes what comes next in few numbers. Transition counts
remember each pair of items in the log and nothing else. The product of both, each raised to a
power, ranks better than either (`segue.training.blend` counts the pairs and tunes the powers):

    score  = scale * (network + weight * log(share + smoothing * popularity))
    share  = (1 - habit) * share of what followed the last items + habit * share of the last items themselves

The second part serves repeat consumption: it is a cache of the user's own items (Kuhn, De Mori
1990, for words).
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.errors import ModelError
from segue.kernels import build
from segue.kernels.serving_loops import BlendLoop, pairs_fit
from segue.shapes import Floats, Rows

#: Last items that are kept of a user, the newest last; 0 for none or an unknown item.
RECENT = 100
#: How many of these are looked up in the transition counts.
REACH = 20
#: Items that the library's product sets up in the time in which one pair is sorted.
_SORTED = 16


@dataclass(frozen=True, eq=False)
class TransitionCounts:
    """Transition counts as a sparse matrix by rows, and the settings of the blend.

    Args:
        offsets: int64[V + 1], where the pairs of each row begin.
        rows: int32[n], the second item of each pair.
        shares: float32[n], how often the second followed the first, decayed by distance and made
            comparable.
        popularity: float32[V], above 0, each item's share of all events.
        decay: float32[REACH], how much the last items count, the newest last.
        weight: float32[], blend weight of the log of the share.
        smoothing: float32[], of popularity beside the shares.
        scale: float32[], of the sum, so that scores stay unnormalised log-probabilities.
        habit: float32[], from 0 to 1, the part of the share that is the last items themselves.
        habit_decay: float32[RECENT], how much each of these counts, the newest last.
        added: int64[], rows at the end that were added after counting; the other rows score as they
            did without.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    shares: NDArray[np.float32]
    popularity: NDArray[np.float32]
    decay: NDArray[np.float32]
    weight: np.float32
    smoothing: np.float32
    scale: np.float32
    habit: np.float32 = field(default_factory=lambda: np.float32(0))
    habit_decay: NDArray[np.float32] = field(default_factory=lambda: np.ones(RECENT, np.float32))
    added: np.int64 = field(default_factory=lambda: np.int64(0))

    @classmethod
    def kept(cls, arrays: Mapping[str, NDArray[np.generic]], items: int) -> "TransitionCounts":
        """Return the counts in the arrays of a file, by field, after a check of every number.

        Args:
            arrays: by the names of the fields; older files lack the last three.
            items: rows of the model; the counts know so many, or the first of them.

        Raises:
            ModelError: an array is missing, its type or shape does not fit the others, an offset or
                a row leads out of the arrays, or a number cannot come from counting.

        Cost: O(pairs + V).
        """
        _check_kinds(arrays)
        counts = cls(**{name: array[()] for name, array in arrays.items()})  # type: ignore[arg-type]
        size = len(counts.popularity)
        _check(2 <= size <= items, f"counts of 2 to {items:,} rows")
        fit = pairs_fit(counts.offsets, counts.rows, counts.shares, size)
        _check(fit, f"offsets that rise to the number of pairs, and rows from 0 to {size - 1:,}")
        _check((len(counts.decay), len(counts.habit_decay)) == (REACH, RECENT), f"decays of {REACH} and {RECENT}")
        _check(0 <= counts.added <= size - 2, f"at most {size - 2:,} added rows")
        numbers = (counts.shares, counts.popularity, counts.decay, counts.habit_decay)
        _check(all((part >= 0).all() and np.isfinite(part).all() for part in numbers), "finite shares from 0")
        mix = np.array([counts.weight, counts.smoothing, counts.scale, counts.habit])
        _check(bool(np.isfinite(mix).all()) and 0 <= counts.habit <= 1, "finite settings of the blend, a habit up to 1")
        least = np.finfo(np.float32).tiny
        _check(counts.smoothing * counts.popularity.min() >= least, "a popularity of each row above 0")
        _check((counts.habit_decay > 0).all(), "decays above 0")
        return counts

    @cached_property
    def pairs(self) -> sparse.csr_array:
        """The shares as a sparse matrix, [V, V]. Made once: making it reads every pair."""
        size = len(self.popularity)
        return sparse.csr_array((self.shares, self.rows, self.offsets), shape=(size, size))

    @cached_property
    def loop(self) -> BlendLoop | None:
        """The blend over all rows in C; None without a compiler."""
        loops = build.serving()
        if loops is None:
            return None
        pairs, decays = (self.offsets, self.rows, self.shares), (self.decay, self.habit_decay)
        numbers = (self.weight, self.smoothing, self.habit, self.scale, self.weight * np.log(self.rarest))
        counted = len(self.popularity) - int(self.added)
        return BlendLoop(loops, pairs, self.popularity, decays, counted, [float(number) for number in numbers])

    @cached_property
    def rarest(self) -> np.float32:
        """The least share of an item. Made once: making it reads every item."""
        return np.float32(self.smoothing * self.popularity[1:].min())

    @cached_property
    def unmet(self) -> NDArray[np.float32]:
        """float32[V]: added to the score of a row without a share. Made once, from every item."""
        unmet: NDArray[np.float32] = self.weight * np.log(self.smoothing * self.popularity)
        return unmet

    @cached_property
    def counted(self) -> NDArray[np.float32]:
        """float32[V]: 1 for a counted row, 0 for a row that was added later."""
        size = len(self.popularity)
        return (np.arange(size) < size - self.added).astype(np.float32)


#: The type and the axes of each array in a file.
_KINDS = {
    "offsets": (np.int64, 1), "rows": (np.int32, 1), "shares": (np.float32, 1), "popularity": (np.float32, 1),
    "decay": (np.float32, 1), "weight": (np.float32, 0), "smoothing": (np.float32, 0), "scale": (np.float32, 0),
    "habit": (np.float32, 0), "habit_decay": (np.float32, 1), "added": (np.int64, 0),
}  # fmt: skip


def _check_kinds(arrays: Mapping[str, NDArray[np.generic]]) -> None:
    needed = {field.name for field in fields(TransitionCounts)} - {"habit", "habit_decay", "added"}
    _check(needed <= arrays.keys() <= _KINDS.keys(), f"the arrays {', '.join(_KINDS)}")
    for name, array in arrays.items():
        kind, axes = _KINDS[name]
        _check(array.dtype == kind and array.ndim == axes, f"{name} of {np.dtype(kind)} with {axes} axes")


def _check(holds: bool | np.bool_, wanted: str) -> None:
    if not holds:
        raise ModelError(f"counts: expected {wanted}, came others. Take the model from its source again.")


def nothing_recent(users: int) -> Rows:
    """Return int32[user, RECENT]: the last items of users without events."""
    return np.zeros((users, RECENT), np.int32)


def pushed(recent: Rows, rows: Rows) -> Rows:
    """Return the last items of users, int32[user, RECENT], after one more item each, int32[user].

    Example:
        >>> pushed(np.arange(RECENT, dtype=np.int32)[None], np.int32([77]))[0, -3:].tolist()
        [98, 99, 77]
    """
    return np.concatenate([recent[:, 1:], rows[:, None]], axis=1)


def transition_shares(counts: TransitionCounts, recent: Rows) -> sparse.csr_array:
    """Return sparse float32[user, V]: each item's share of what followed the last items.

    Args:
        counts: the pairs.
        recent: int32[user, RECENT]; rows that were not counted add nothing.

    Cost: O(users x (RECENT + REACH x pairs of an item)).
    """
    followed = _product(_weighted(counts, recent[:, -REACH:], counts.decay), counts.pairs)
    followed = _divided(followed, followed @ counts.counted)
    if counts.habit == 0:
        return followed
    repeated = _weighted(counts, recent, counts.habit_decay)
    repeated = _divided(repeated, repeated.sum(axis=1))
    repeated.sum_duplicates()  # sorted rows are added up without reading the others
    followed.data *= 1 - counts.habit
    repeated.data *= counts.habit
    return followed + repeated


def _shares_at(shares: sparse.csr_array, rows: Rows) -> Floats:
    """Return float32[user, n]: the shares of given rows, int32[user, n]."""
    of_rows = np.zeros(rows.shape, np.float32)
    for user, (begin, end) in enumerate(itertools.pairwise(shares.indptr)):
        wanted, place = np.unique(rows[user], return_inverse=True)
        at = np.minimum(np.searchsorted(wanted, shares.indices[begin:end]), len(wanted) - 1)
        met = wanted[at] == shares.indices[begin:end]
        values = np.zeros(len(wanted), np.float32)
        values[at[met]] = shares.data[begin:end][met]
        of_rows[user] = values[place]
    return of_rows


def _weighted(counts: TransitionCounts, recent: Rows, decay: NDArray[np.float32]) -> sparse.csr_array:
    """Return sparse float32[user, V]: the last items of each user, weighted by their place."""
    size = len(counts.popularity)
    known = (recent > 0) & (recent < size)
    ends = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    weights = np.broadcast_to(decay, recent.shape)[known]
    return sparse.csr_array((weights, recent[known], ends), shape=(len(recent), size))


def _product(last: sparse.csr_array, pairs: sparse.csr_array) -> sparse.csr_array:
    """Return `last @ pairs` by a sort; many pairs go to scipy, whose cost grows with the catalogue."""
    users, size = last.shape[0], pairs.shape[1]
    begins = pairs.indptr[last.indices]
    lengths = pairs.indptr[last.indices + 1] - begins
    met = int(lengths.sum())
    if _SORTED * met > size:
        return last @ pairs
    places = np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(met)
    of_user = np.repeat(np.repeat(np.arange(users), np.diff(last.indptr)), lengths)
    cells, place = np.unique(of_user * size + pairs.indices[places], return_inverse=True)
    sums = np.bincount(place, np.repeat(last.data, lengths) * pairs.data[places], len(cells)).astype(np.float32)
    ends = np.searchsorted(cells, np.arange(users + 1) * size)
    return sparse.csr_array((sums, (cells % size).astype(np.int32), ends), shape=(users, size))


def _divided(matrix: sparse.csr_array, sums: Floats) -> sparse.csr_array:
    """Return the matrix with each row divided by its sum where that is not 0."""
    divisors = np.maximum(sums, np.finfo(np.float32).tiny)
    matrix.data /= np.repeat(divisors, np.diff(matrix.indptr)).astype(np.float32)
    return matrix


def likeliest(shares: sparse.csr_array, count: int) -> list[Rows]:
    """Return for each user at most `count` rows with the highest shares, in no order."""
    lists = []
    for begin, end in itertools.pairwise(shares.indptr):
        rows, values = shares.indices[begin:end], shares.data[begin:end]
        lists.append(rows if len(rows) <= count else rows[np.argpartition(-values, count)[:count]])
    return lists


def blend_scores(counts: TransitionCounts, scores: Floats, recent: Rows, rows: Rows | None = None) -> Floats:
    """Return the network's scores blended with the transition counts of the last items.

    Where all rows were scored in order, `scores` is changed in place.

    Cost: O(users x (n + RECENT + REACH x pairs of an item)).
    """
    if rows is None and counts.loop is not None:
        counts.loop(scores, recent)
        return scores
    return blend_shares(counts, scores, transition_shares(counts, recent), rows, out=scores)


def blend_shares(
    counts: TransitionCounts,
    scores: Floats,
    shares: sparse.csr_array,
    rows: Rows | None = None,
    *,
    out: Floats | None = None,
) -> Floats:
    """Return float32[user, n]: the network's scores blended with transition shares.

    Args:
        counts: with the settings of the blend.
        scores: float32[user, n], of the network.
        shares: sparse float32[user, V], see `transition_shares`.
        rows: the row of each score, int32[n] or int32[user, n]; None where all rows were scored in
            order. Rows that were added after counting count as the rarest.
        out: where the result may go where all rows were scored, such as `scores` itself.

    Cost: O(users x n), and where rows are given O(shares x log n) more; never O(V) then.
    """
    known = len(counts.popularity)
    if rows is None:  # most items have no share: what is added to their scores is the same for every user
        added = np.full(scores.shape[1] - known, counts.weight * np.log(counts.rarest), np.float32)
        user, row = np.repeat(np.arange(len(scores)), np.diff(shares.indptr)), shares.indices
        likely = shares.data + counts.smoothing * counts.popularity[row]
        met = scores[user, row] + counts.weight * np.log(likely)
        blended: Floats = np.add(scores, np.concatenate([counts.unmet, added]), out=out)
        blended[user, row] = met
    else:
        rows = np.broadcast_to(rows, scores.shape)
        prior = counts.smoothing * counts.popularity[np.where(rows < known, rows, 0)]
        likely = np.where(rows < known, _shares_at(shares, rows) + prior, counts.rarest)
        added = counts.weight * np.log(likely)
        blended = scores + added
    blended *= counts.scale
    return blended.astype(np.float32, copy=False)
