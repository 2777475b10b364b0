"""Loops of the server: a step through a block, the blend, the best of a line, ranks.

Each loop runs in C where there is a compiler, without the lock of the interpreter, and else in the
pure twin here or at its caller; both compute the same (laws). C checks nothing, so every array is
checked here first.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.config import Norm
from segue.errors import ArgumentError
from segue.kernels import build
from segue.metrics.ranks import target_ranks
from segue.shapes import Bools, Floats, Rows

#: Columns of a panel of weights, as in `serving_loops.c`.
_COLUMNS = 32
#: Longest list that C keeps by insertion; longer ones are sorted.
_INSERTED = 256


class TopK(NamedTuple):
    """The highest scores of each line, best first, of equals the first; -infinity fills up.

    Args:
        places: int64[line, k].
        scores: float[line, k].
        found: int64[line], scores above -infinity, at most k.
    """

    places: NDArray[np.int64]
    scores: Floats
    found: NDArray[np.int64]


class Best(NamedTuple):
    """The best of one line, best first: places and their scores."""

    places: list[int]
    scores: list[float]


def top_k(scores: Floats, k: int) -> TopK:
    """Return the k highest scores of each line; -infinity is left out.

    Args:
        scores: float32[line, n], line after line in memory.
        k: at least 1.

    Raises:
        ArgumentError: the scores are not in one piece of memory, or k is below 1.

    Cost: O(lines x n), and O(k) for each score that enters the list.

    Example:
        >>> top_k(np.float32([[1, 3, -np.inf, 3], [-np.inf, -np.inf, 2, -np.inf]]), 2).places.tolist()
        [[1, 3], [2, 0]]
    """
    if scores.ndim != 2 or k < 1:
        raise _unfit("scores of two axes and a count from 1", scores, f", and {k}")
    loops = build.serving()
    if loops is None or k > _INSERTED:
        return pure_top_k(scores, k)
    lines, size = scores.shape
    top = TopK(np.zeros((lines, k), np.int64), np.full((lines, k), -np.inf, np.float32), np.empty(lines, np.int64))
    loops.segue_best(_at(scores), *_sizes(lines, size, k), *(_at(part) for part in top))
    return top


def pure_top_k(scores: NDArray[np.floating], k: int) -> TopK:
    """Do what `top_k` does, of numbers of any precision."""
    lines, size = scores.shape
    edges = np.maximum(_edges(scores, k), np.finfo(scores.dtype).min)
    places = np.flatnonzero(scores >= edges[:, None])
    line, values = places // size, scores.ravel()[places]
    places -= line * size
    order = np.lexsort((places, -values, line))
    number = np.arange(len(order)) - np.searchsorted(line, line)  # places of the same line before
    order, number = order[number < k], number[number < k]
    top = TopK(
        np.zeros((lines, k), np.int64),
        np.full((lines, k), -np.inf, scores.dtype),
        np.bincount(line[order], minlength=lines),
    )
    top.places[line[order], number], top.scores[line[order], number] = places[order], values[order]
    return top


def best(scores: Floats, count: int) -> list[Best]:
    """Return the result of `top_k` as lists, one for each line, without places of -infinity.

    Example:
        >>> best(np.float32([[1, 3, -np.inf, 3], [-np.inf, -np.inf, 2, -np.inf]]), 2)
        [Best(places=[1, 3], scores=[3.0, 3.0]), Best(places=[2], scores=[2.0])]
    """
    columns = zip(*(part.tolist() for part in top_k(scores, count)), strict=True)
    return [Best(places[:found], values[:found]) for places, values, found in columns]


def leave_out(scores: Floats, excluded: Sequence[Rows] = (), *, allowed: Bools | None = None) -> Floats:
    """Set what no list may hold to -infinity, in place, and return the scores.

    Args:
        scores: float32[line, row], all rows of the catalogue; row 0 is always left out.
        excluded: for each line the rows to leave out, such as the seen items; empty leaves out
            nothing.
        allowed: bool[row], what a list may hold; None allows all.

    Example:
        >>> leave_out(np.float32([[9, 1, 2], [9, 3, 4]]), [np.int32([2]), np.int32([])]).tolist()
        [[-inf, 1.0, -inf], [-inf, 3.0, 4.0]]
    """
    scores[:, 0] = -np.inf
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    if len(excluded):
        for line, rows in zip(scores, excluded, strict=True):
            line[rows] = -np.inf
    return scores


def ranks_and_log_sums(scores: Floats, places: NDArray[np.integer]) -> tuple[NDArray[np.float64], Floats]:
    """Return for each line the rank of one place, ties against it, and `log(sum(exp(line)))`.

    Args:
        scores: float32[line, n], line after line in memory. The first place of a line is never
            ranked, and -infinity adds nothing to the sum.
        places: int[line], each with a score above -infinity.

    Returns:
        float64[line], float32[line].

    Raises:
        ArgumentError: a score is NaN, or a place is outside the line.

    Cost: O(lines x n).

    Example:
        >>> ranks, sums = ranks_and_log_sums(np.float32([[-np.inf, 0, 0, 1]]), np.array([2]))
        >>> ranks.tolist(), round(float(sums[0]), 3)
        ([3.0], 1.551)
    """
    columns = np.ascontiguousarray(places, np.int64)
    inside = scores.ndim == 2 and columns.shape == scores.shape[:1]
    if not inside or (len(columns) and not 0 <= columns.min() <= columns.max() < scores.shape[1]):
        raise _unfit("a place inside each line of scores", scores)
    loops = build.serving()
    if loops is None:
        return pure_ranks_and_log_sums(scores, places)
    ranks, sums = np.empty(len(scores), np.int64), np.empty(len(scores), np.float32)
    loops.segue_ranks(_at(scores), *_sizes(*scores.shape), _at(columns), _at(ranks), _at(sums))
    if np.isnan(sums).any():
        return target_ranks(scores, places), sums  # which says of what question
    return ranks.astype(np.float64), sums


def pure_ranks_and_log_sums(scores: Floats, places: NDArray[np.integer]) -> tuple[NDArray[np.float64], Floats]:
    """Do what `ranks_and_log_sums` does."""
    return target_ranks(scores, places), log_sums(scores)


def log_sums(scores: Floats) -> Floats:
    """Return float32[line]: log(sum(exp(line))), to which -infinity adds nothing."""
    top = np.maximum(scores.max(axis=1), np.float32(-1e30))
    powers = np.exp(scores - top[:, None])
    sums = powers @ np.ones(scores.shape[1], np.float32)  # in a third of the time of a sum by lines
    total: Floats = np.log(np.maximum(sums, np.float32(1e-30))) + top
    return total


#: The norms by their numbers in `serving_loops.c`.
NORMS: dict[Norm, int] = {False: 0, True: 1, "clip": 2}


class BlockStep:
    """One event of several users through a block whose constants are put together, in C.

    Args:
        weights: float32 arrays in the order of `Block` in `serving_loops.c`.

    Raises:
        ArgumentError: their shapes do not fit each other.
    """

    def __init__(self, loops: ctypes.CDLL, weights: Sequence[Floats]) -> None:
        self.loops = loops
        d, past, inside = len(weights[1]), len(weights[2]), len(weights[9])
        shapes = [(d, 2 * d), (d,), (past,), (d,), (d, 2 * d), (2 * d,), (d,), (d, d), (d, 2 * inside), (inside, d)]
        if [w.shape for w in weights] != shapes or past % d or any(w.dtype != np.float32 for w in weights):
            raise _unfit(f"weights of a block of width {d}", weights[0])
        self.width, self.past, self.inside = d, past, inside
        self.weights = [_panels(array) if array.ndim == 2 else np.ascontiguousarray(array) for array in weights]
        self._block = (ctypes.c_void_p * len(self.weights))(*(array.ctypes.data for array in self.weights))

    def __call__(self, before: Floats, x: Floats, after: Floats, norm: Norm) -> None:
        """Read a state, write the next state, and change x in place.

        Args:
            before: float32[B, n], parts of consecutive lines: the last inputs, newest first, then
                the state of the cell.
            x: float32[B, d], line after line.
            after: as `before`, with the same distance between lines.
            norm: what each part does with a vector first.

        Raises:
            ArgumentError: the arrays lie otherwise in memory.
            MemoryError: there is no memory to work in.
        """
        users, d = x.shape
        wanted, stride = (users, self.past + self.width), before.strides[0]
        alike = before.shape == after.shape == wanted and before.strides == after.strides and d == self.width
        lines = stride % 4 == 0 and stride >= 4 * wanted[1] and before.strides[1] == 4
        if not (alike and lines and before.dtype == after.dtype == np.float32):
            raise _unfit(f"states of shape {list(wanted)} in lines", before)
        sizes = _sizes(users, d, self.past, self.inside, NORMS[norm])
        places = ctypes.c_void_p(before.ctypes.data), ctypes.c_void_p(after.ctypes.data)
        if not self.loops.segue_step(self._block, *places, *_sizes(stride // 4), _at(x), *sizes):
            raise MemoryError


def _panels(weights: Floats) -> Floats:
    """Return a matrix cut into panels of `_COLUMNS` columns, the last filled with zeros."""
    inside, width = weights.shape
    filled = np.zeros((inside, -(-width // _COLUMNS) * _COLUMNS), np.float32)
    filled[:, :width] = weights
    return np.ascontiguousarray(filled.reshape(inside, -1, _COLUMNS).swapaxes(0, 1))


class _Transitions(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("offsets", "rows", "shares", "popularity", "decay", "habit_decay")),
        *((name, ctypes.c_int64) for name in ("size", "counted", "reach", "recent")),
        *((name, ctypes.c_float) for name in ("weight", "smoothing", "habit", "scale", "rarest")),
    )


class BlendLoop:
    """The blend of a network's scores with transition counts, in C.

    Args:
        pairs: offsets int64[V + 1], rows int32[n] and shares float32[n] of the pairs.
        popularity: float32[V].
        decays: float32[REACH] and float32[RECENT], how much the last items count for transitions
            and for repeats.
        counted: rows that were counted; the others were added later.
        numbers: weight, smoothing, habit, scale and the log for a row that was not counted.

    Raises:
        ArgumentError: the arrays do not fit each other, or a pair leads out of them.

    Cost: O(pairs), once.
    """

    def __init__(
        self,
        loops: ctypes.CDLL,
        pairs: tuple[NDArray[np.int64], Rows, Floats],
        popularity: Floats,
        decays: tuple[Floats, Floats],
        counted: int,
        numbers: Sequence[float],
    ) -> None:
        self.loops = loops
        # Kept while C points there.
        self.arrays = [np.ascontiguousarray(array) for array in (*pairs, popularity, *decays)]
        size, kinds = len(popularity), (np.int64, np.int32, *[np.float32] * 4)
        whole = all(part.dtype == kind and part.ndim == 1 for part, kind in zip(self.arrays, kinds, strict=True))
        if not (whole and pairs_fit(*pairs, size) and 0 <= counted <= size and len(decays[0]) <= len(decays[1])):
            raise _unfit("pairs of rows that are there, with a share each", popularity)
        sizes = (size, counted, *map(len, decays))
        self._transitions = _Transitions(
            *(array.ctypes.data for array in self.arrays), *map(int, sizes), *map(float, numbers)
        )

    def __call__(self, scores: Floats, recent: Rows) -> None:
        """Blend scores float32[user, n] in place with the last items int32[user, RECENT].

        Raises:
            ArgumentError: there are fewer rows than counted, or shapes do not fit.
        """
        recent = np.ascontiguousarray(recent, np.int32)
        wide = scores.ndim == 2 and scores.shape[1] >= self._transitions.size and scores.flags.writeable
        if not wide or recent.shape != (len(scores), self._transitions.recent):
            raise _unfit(f"scores of {self._transitions.size} rows or more, and the last items of each user", scores)
        room = np.empty(self._transitions.size, np.float32)
        counts, (lines, width) = ctypes.byref(self._transitions), scores.shape
        self.loops.segue_blend(counts, _at(recent), *_sizes(lines), _at(scores), *_sizes(width), _at(room))


def pairs_fit(offsets: NDArray[np.int64], rows: Rows, shares: Floats, size: int) -> bool:
    """Say whether pairs fit a number of rows: offsets rise to the number of pairs, rows exist.

    Cost: O(pairs).

    Example:
        >>> offsets, rows, shares = np.array([0, 0, 2]), np.int32([0, 1]), np.float32([0.5, 0.5])
        >>> pairs_fit(offsets, rows, shares, 2), pairs_fit(offsets, rows + np.int32(1), shares, 2)
        (True, False)
    """
    if len(offsets) != size + 1 or offsets[0] != 0 or offsets[-1] != len(rows) or len(rows) != len(shares):
        return False
    rises = bool((offsets[1:] >= offsets[:-1]).all())
    return rises and (not len(rows) or bool(rows.min() >= 0 and rows.max() < size))


def _at(array: NDArray[np.generic]) -> ctypes.c_void_p:
    if not (array.flags.c_contiguous and array.flags.aligned and array.dtype in (np.float32, np.int32, np.int64)):
        raise _unfit("numbers of 4 or 8 bytes in one piece of memory", array)
    return ctypes.c_void_p(array.ctypes.data)


def _unfit(wanted: str, came: NDArray[np.generic], beside: str = "") -> ArgumentError:
    given = f"{came.dtype}{list(came.shape)}{beside}"
    return ArgumentError(f"loops: expected {wanted}, came {given}. Give arrays of one model and its states.")


def _sizes(*numbers: int) -> tuple[ctypes.c_int64, ...]:
    return tuple(map(ctypes.c_int64, numbers))


def _edges(scores: NDArray[np.floating], count: int) -> NDArray[np.floating]:
    """Return float[line]: a score that at least `count` of its line reach, and few more.

    It is the `count`-th highest maximum of groups; maxima of every n-th score are fast to take.
    """
    lines, size = scores.shape
    block = max(1, size // (16 * count))
    groups = size // block
    if groups <= count:
        return np.full(lines, -np.inf, scores.dtype)
    tops = scores[:, : groups * block].reshape(lines, block, groups).max(axis=1)
    edges: NDArray[np.floating] = np.partition(tops, groups - count, axis=1)[:, groups - count]
    return edges
