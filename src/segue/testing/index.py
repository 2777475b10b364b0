"""What every index must do, as a test class."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from segue.errors import ArgumentError
from segue.recommend.index.exact import Index
from segue.shapes import Floats, Rows


class IndexContract(ABC):
    """What every index must do: derive a test class and write `make`."""

    #: The share of the exact best rows that must be found.
    recall = 1.0

    @abstractmethod
    def make(self, vectors: Floats, bias: Floats, hidden: Rows, folder: Path) -> Index:
        """Return an index of these rows that never returns row 0 nor `hidden`, the last rows."""

    @pytest.fixture
    def rows(self) -> tuple[Floats, Floats]:
        """Vectors and bias; rows 7 and 9 are alike, row 0 would be the best of all."""
        rng = np.random.default_rng(3)
        vectors, bias = rng.normal(0, 1, (700, 8)).astype(np.float32), rng.normal(0, 1, 700).astype(np.float32)
        vectors[7] *= 4
        vectors[9], bias[9], bias[0] = vectors[7], bias[7], 99
        return vectors, bias

    @pytest.fixture
    def index(self, rows: tuple[Floats, Floats], tmp_path: Path) -> Index:
        """An index whose last three rows are hidden."""
        return self.make(*rows, np.arange(697, 700, dtype=np.int32), tmp_path)

    @pytest.fixture
    def queries(self) -> Floats:
        """Many queries; the last looks for row 7."""
        return np.random.default_rng(4).normal(0, 1, (300, 8)).astype(np.float32)

    def test_the_best_rows_come_first(self, index: Index, rows: tuple[Floats, Floats], queries: Floats) -> None:
        top, best = index.search(queries, 20), slow_search(*rows, queries, 20, hidden=range(697, 700))
        assert top.rows.dtype == np.int32 and top.scores.dtype == np.float32
        shares = [np.isin(a, b).mean() for a, b in zip(best, top.rows, strict=True)]
        assert np.mean(shares) >= self.recall
        if self.recall == 1:
            assert top.rows.tolist() == best.tolist()
        exact = np.take_along_axis(queries @ rows[0].T + rows[1], top.rows, axis=1)
        np.testing.assert_allclose(top.scores, exact, atol=1e-5)
        assert (np.diff(top.scores, axis=1) <= 0).all()

    def test_one_query_is_answered_as_many(self, index: Index, queries: Floats) -> None:
        for k in (1, 5):
            whole = index.search(queries, k)
            for query in (0, 299):
                assert index.search(queries[query : query + 1], k).rows.tolist() == [whole.rows[query].tolist()]
        assert index.search(queries[:0], 3).rows.shape == (0, 3)

    def test_equal_scores_are_ordered_by_row(self, index: Index, rows: tuple[Floats, Floats]) -> None:
        assert index.search(20 * rows[0][7:8], 2).rows.tolist() == [[7, 9]]

    def test_row_0_and_hidden_rows_are_never_found(self, index: Index, queries: Floats) -> None:
        top = index.search(queries, 800)
        assert sorted(top.rows[0, :696].tolist()) == list(range(1, 697))
        assert not top.rows[:, 696:].any() and (top.scores[:, 696:] == -np.inf).all()

    def test_what_is_left_out_does_not_shorten_a_list(
        self, index: Index, rows: tuple[Floats, Floats], queries: Floats
    ) -> None:
        best = slow_search(*rows, queries, 120, hidden=range(697, 700))
        seen = [row[: query % 110] for query, row in enumerate(best)]
        top = index.search(queries, 10, excluded=seen)
        shares = [np.isin(a[len(b) :][:10], c).mean() for a, b, c in zip(best, seen, top.rows, strict=True)]
        assert top.rows.all() and np.mean(shares) >= self.recall
        assert not any(np.isin(a, b).any() for a, b in zip(seen, top.rows, strict=True))

    def test_only_what_is_allowed_is_found(self, index: Index, queries: Floats) -> None:
        for few in (np.arange(700) % 2 == 1, np.isin(np.arange(700), (0, 3, 5, 699)), np.zeros(700, bool)):
            top = index.search(queries, 5, allowed=few)
            expected = min(5, int(few[1:697].sum()))
            assert few[top.rows[top.rows > 0]].all() and ((top.rows > 0).sum(axis=1) == expected).all()

    def test_rows_that_come_later_are_found(self, index: Index, rows: tuple[Floats, Floats], queries: Floats) -> None:
        vectors = np.concatenate([rows[0], 50 * queries[:1], 60 * queries[:1]])
        more = index.over(vectors, np.append(rows[1], np.zeros(2, np.float32)), rows_of(697, 698, 699, 701))
        assert more.search(queries[:1], 1).rows.tolist() == [[700]]
        assert more.search(queries[:1], 1, excluded=[rows_of(700)]).rows.tolist() == [
            index.search(queries[:1], 1).rows[0].tolist()
        ]

    def test_parallel_searches_answer_as_one(self, index: Index, queries: Floats) -> None:
        alone = index.search(queries, 5).rows.tolist()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: index.search(queries, 5).rows.tolist(), range(4)))
        assert answers == [alone] * 4

    def test_arguments_that_do_not_fit_are_refused(self, index: Index, queries: Floats) -> None:
        with pytest.raises(ArgumentError, match=r"expected k of at least 1, came 0. Ask for 1 row or more"):
            index.search(queries, 0)
        with pytest.raises(ArgumentError, match=r"expected queries of shape \[q, 8\], came \[300, 2\]. Give a row"):
            index.search(queries[:, :2], 1)
        with pytest.raises(ArgumentError, match=r"expected allowed of shape \[700\], came \[2\]. Give a truth"):
            index.search(queries, 1, allowed=np.ones(2, bool))
        with pytest.raises(ArgumentError, match=r"for each of 300 queries, came 1. Give an empty array"):
            index.search(queries, 1, excluded=[np.zeros(0, np.int32)])


def rows_of(*rows: int) -> Rows:
    """Return rows as an array."""
    return np.array(rows, np.int32)


def slow_search(vectors: Floats, bias: Floats, queries: Floats, k: int, hidden: Iterable[int]) -> Rows:
    """Return int32[q, k], the best rows by a whole sort."""
    scores = queries @ vectors.T + bias
    scores[:, [0, *hidden]] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)
