"""The best items for a query vector: the contract of every index, and the index that scores all items.

The score of a row is `query . vector + bias`. Row 0 is *unknown* and is never found. `segue.testing.IndexContract`
tests every promise of `Index`.
"""

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from segue.errors import ArgumentError
from segue.kernels.serving_loops import top_k
from segue.shapes import Bools, Floats, Rows, Times

#: Queries scored at one time, and the most scores in memory at one time in each thread.
QUERIES, SCORES = 256, 1 << 22
#: The most rows of a block: its scores for one query stay in the cache.
_BLOCK = 1 << 16
#: From so many scores on a second thread is faster.
_MANY = 1 << 19


class BestRows(NamedTuple):
    """The best rows of each query, best first; where there are fewer than k, row 0 with -inf fills up.

    Example:
        >>> BestRows(np.array([[3, 0]], np.int32), np.array([[1.5, -np.inf]], np.float32)).of(0)
        [(3, 1.5)]
    """

    rows: Rows  # int32[q, k]
    scores: Floats  # float32[q, k]

    @classmethod
    def nothing(cls, queries: int, k: int) -> "BestRows":
        """Return lists without rows."""
        return cls(np.zeros((queries, k), np.int32), np.full((queries, k), -np.inf, np.float32))

    def of(self, query: int) -> list[tuple[int, float]]:
        """Return the rows and scores of one query."""
        pairs = zip(self.rows[query].tolist(), self.scores[query].tolist(), strict=True)
        return [(row, score) for row, score in pairs if row]


class Index(Protocol):
    """Finds the rows with the highest scores. Every method may be called from several threads."""

    def search(
        self, queries: Floats, k: int, *, allowed: Bools | None = None, excluded: Sequence[Rows] | None = None
    ) -> BestRows:
        """Return the k best rows of each query, ties by row, the lower first.

        Args:
            queries: float32[q, d].
            k: how many; lists are shorter where fewer rows are allowed.
            allowed: bool[V], the rows that lists may hold; None allows each but row 0.
            excluded: for each query the rows to leave out; None leaves out nothing.

        Raises:
            ArgumentError: the arrays do not fit each other, or k is below 1.
        """
        ...

    def over(self, vectors: Floats, bias: Floats, hidden: Rows) -> "Index":
        """Return an index of more rows: the rows of this index, then new rows; `hidden` rows are never found."""
        ...


@dataclass(frozen=True, eq=False)
class ExactIndex(Index):
    """Scores every row, block by block, in threads.

    Args:
        vectors: float32[V, d].
        bias: float32[V].
        hidden: rows that are never found, as is row 0.
        threads: how many; None takes all cores.

    Cost: O(q x V x d) time; memory of 4 million scores for each thread.

    Example:
        >>> index = ExactIndex(np.float32([[9, 9], [1, 0], [0, 1], [1, 1]]), np.float32([9, 0, 0, -1]))
        >>> query = np.float32([[2, 1]])
        >>> index.search(query, 2).of(0)  # 1 and 3 both score 2
        [(1, 2.0), (3, 2.0)]
        >>> index.search(query, 2, excluded=[np.int32([1])]).of(0)
        [(3, 2.0), (2, 1.0)]
    """

    vectors: Floats
    bias: Floats
    hidden: Rows = field(default_factory=lambda: np.zeros(0, np.int32))
    threads: int | None = None

    def search(
        self, queries: Floats, k: int, *, allowed: Bools | None = None, excluded: Sequence[Rows] | None = None
    ) -> BestRows:
        """Return the k best rows of each query; see `Index.search`."""
        check(self.vectors, queries, k, allowed, excluded)
        return self.within(queries, k, range(1, len(self.vectors)), allowed=allowed, excluded=excluded)

    def within(
        self,
        queries: Floats,
        k: int,
        rows: range,
        *,
        allowed: Bools | None = None,
        excluded: Sequence[Rows] | None = None,
    ) -> BestRows:
        """Return the k best of a range of rows."""
        best = [BestRows.nothing(0, k)]
        for begin in range(0, len(queries), QUERIES):
            block = queries[begin : begin + QUERIES]
            pairs = pairs_of(None if excluded is None else excluded[begin : begin + QUERIES])
            parts = self._parts(rows, len(block))
            search = partial(self._part, block, k, allowed, pairs)
            best.append(_merged(list((self.pool.map if len(parts) > 1 else map)(search, parts)), k))
        return BestRows(*(np.concatenate(parts) for parts in zip(*best, strict=True)))

    def over(self, vectors: Floats, bias: Floats, hidden: Rows) -> "ExactIndex":
        """Return an index of more rows; see `Index.over`."""
        return replace(self, vectors=vectors, bias=bias, hidden=hidden)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields to pickle and copy: all but the threads."""
        return {name: value for name, value in vars(self).items() if name != "pool"}

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """The threads, kept because starting them costs more than a small search."""
        return ThreadPoolExecutor(self.threads or os.cpu_count() or 1)

    def _parts(self, rows: range, queries: int) -> list[range]:
        """Return the rows in as many pieces as threads are useful."""
        threads = min(self.threads or os.cpu_count() or 1, max(1, len(rows) * queries // _MANY))
        cuts = np.linspace(rows.start, max(rows.stop, rows.start), threads + 1).astype(int).tolist()
        return [range(a, b) for a, b in itertools.pairwise(cuts)]

    def _part(
        self, queries: Floats, k: int, allowed: Bools | None, pairs: tuple[Times, Times], rows: range
    ) -> BestRows:
        """Return the best of a range of rows, scored block by block."""
        step, best = max(4096, min(_BLOCK, SCORES // max(1, len(queries)))), BestRows.nothing(len(queries), k)
        for begin in range(rows.start, rows.stop, step):
            block = range(begin, min(begin + step, rows.stop))
            scores = self._scores(queries, allowed, pairs, block)
            block_best = best_columns(np.arange(block.start, block.stop, dtype=np.int32), scores, k)
            best = block_best if begin == rows.start else _merged([best, block_best], k)
        return best

    def _scores(self, queries: Floats, allowed: Bools | None, pairs: tuple[Times, Times], rows: range) -> Floats:
        """Return float32[q, n], the scores of a range of rows; `pairs` are those of `pairs_of`."""
        begin, end = rows.start, rows.stop
        scores: Floats = queries @ self.vectors[begin:end].T
        scores += self.bias[begin:end]
        if allowed is not None:
            scores[:, ~allowed[begin:end]] = -np.inf
        hidden = self.hidden[(self.hidden >= begin) & (self.hidden < end)]
        scores[:, hidden - begin] = -np.inf
        of_query, left_out = pairs
        a, b = np.searchsorted(left_out, (begin, end))
        scores[of_query[a:b], left_out[a:b] - begin] = -np.inf
        return scores


def _merged(parts: Sequence[BestRows], k: int) -> BestRows:
    """Return the best of parts, each of higher rows than those before."""
    if len(parts) == 1:
        return parts[0]
    rows, scores = (np.hstack(part) for part in zip(*parts, strict=True))
    return best_columns(rows, scores, k)


def best_columns(rows: Rows | None, scores: Floats, k: int) -> BestRows:
    """Return the k best of each query, from the scores of some rows; -inf is left out.

    Args:
        rows: int32[n], or int32[q, n]: of equal scores the first of a line is the better; None where all rows of the
            catalogue were scored, in order.
        scores: float32[q, n].
        k: how many.

    Example:
        >>> best_columns(np.int32([1, 2, 3]), np.float32([[0, 5, 5]]), 2).rows.tolist()
        [[2, 3]]
    """
    top = top_k(scores, k)
    if rows is None:  # short lists end with row 0 already
        return BestRows(top.places.astype(np.int32), top.scores)
    best = rows[top.places] if rows.ndim == 1 else np.take_along_axis(rows, top.places, axis=1)
    best[top.scores == -np.inf] = 0
    return BestRows(best, top.scores)


def side_by_side(lists: Sequence[Rows]) -> Rows:
    """Return int32[q, n]: lists of rows as one array, filled up with row 0.

    Example:
        >>> side_by_side([np.int32([3]), np.int32([1, 2])]).tolist()
        [[3, 0], [1, 2]]
    """
    filled = np.zeros((len(lists), max([1, *map(len, lists)])), np.int32)
    for line, rows in zip(filled, lists, strict=True):
        line[: len(rows)] = rows
    return filled


def pairs_of(excluded: Sequence[Rows] | None) -> tuple[Times, Times]:
    """Return the rows to leave out as pairs of query and row, in the order of rows."""
    if not excluded:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    query = np.repeat(np.arange(len(excluded)), [len(rows) for rows in excluded])
    row = np.concatenate([np.asarray(rows, np.int64) for rows in excluded])
    order = np.argsort(row, kind="stable")
    return query[order], row[order]


def check(vectors: Floats, queries: Floats, k: int, allowed: Bools | None, excluded: Sequence[Rows] | None) -> None:
    """Raise unless the arguments of a search fit each other."""
    if k < 1:
        raise ArgumentError(f"index: expected k of at least 1, came {k}. Ask for 1 row or more.")
    if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise ArgumentError(
            f"index: expected queries of shape [q, {vectors.shape[1]}], came {list(queries.shape)}. "
            "Give a row for each query, of the width of the model."
        )
    if allowed is not None and allowed.shape != (len(vectors),):
        raise ArgumentError(
            f"index: expected allowed of shape [{len(vectors)}], came {list(allowed.shape)}. "
            "Give a truth for each row of the catalogue, row 0 included."
        )
    if excluded is not None and len(excluded) != len(queries):
        raise ArgumentError(
            f"index: expected rows to exclude for each of {len(queries)} queries, came {len(excluded)}. "
            "Give an empty array where nothing is to be left out."
        )
