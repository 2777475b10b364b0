"""Contract tests, for parts that are made outside of Segue too.

Knows: what every store, every index and every cell must do. Needs pytest, and JAX for cells.
Does not know: how one is made; that is the one method to write.

    class TestMyStore(StoreContract):
        def open_store(self, folder):
            return MyStore(folder / "store")
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segue.errors import ArgumentError
from segue.model.backend import leaves, map_tree
from segue.model.cells import Cell
from segue.recommend.index import Index
from segue.serve.contract import StoreContract
from segue.shapes import Array, Bools, Floats, Rows, Tree

__all__ = ["CellContract", "IndexContract", "StoreContract"]


class IndexContract(ABC):
    """What every index must do: derive a test class from it and write `make`."""

    #: The share of the exact best rows that must be found.
    recall = 1.0

    @abstractmethod
    def make(self, vectors: Floats, bias: Floats, hidden: Rows, folder: Path) -> Index:
        """Return an index of these rows, of which row 0 and `hidden`, at the end, are never to be found."""

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
        found, best = index.search(queries, 20), slow_search(*rows, queries, 20, hidden=range(697, 700))
        assert found.rows.dtype == np.int32 and found.scores.dtype == np.float32
        shares = [np.isin(a, b).mean() for a, b in zip(best, found.rows, strict=True)]
        assert np.mean(shares) >= self.recall
        if self.recall == 1:
            assert found.rows.tolist() == best.tolist()
        own = np.take_along_axis(queries @ rows[0].T + rows[1], found.rows, axis=1)
        np.testing.assert_allclose(found.scores, own, atol=1e-5)
        assert (np.diff(found.scores, axis=1) <= 0).all()

    def test_one_query_is_answered_as_many(self, index: Index, queries: Floats) -> None:
        for k in (1, 5):
            whole = index.search(queries, k)
            for query in (0, 299):
                assert index.search(queries[query : query + 1], k).rows.tolist() == [whole.rows[query].tolist()]
        assert index.search(queries[:0], 3).rows.shape == (0, 3)

    def test_equal_scores_are_ordered_by_row(self, index: Index, rows: tuple[Floats, Floats]) -> None:
        assert index.search(20 * rows[0][7:8], 2).rows.tolist() == [[7, 9]]

    def test_row_0_and_hidden_rows_are_never_found(self, index: Index, queries: Floats) -> None:
        found = index.search(queries, 800)
        assert sorted(found.rows[0, :696].tolist()) == list(range(1, 697))
        assert not found.rows[:, 696:].any() and (found.scores[:, 696:] == -np.inf).all()

    def test_what_is_left_out_does_not_shorten_a_list(
        self, index: Index, rows: tuple[Floats, Floats], queries: Floats
    ) -> None:
        best = slow_search(*rows, queries, 120, hidden=range(697, 700))
        seen = [found[: query % 110] for query, found in enumerate(best)]
        found = index.search(queries, 10, excluded=seen)
        shares = [np.isin(a[len(b) :][:10], c).mean() for a, b, c in zip(best, seen, found.rows, strict=True)]
        assert found.rows.all() and np.mean(shares) >= self.recall
        assert not any(np.isin(a, b).any() for a, b in zip(seen, found.rows, strict=True))

    def test_only_what_is_allowed_is_found(self, index: Index, queries: Floats) -> None:
        for few in (np.arange(700) % 2 == 1, np.isin(np.arange(700), (0, 3, 5, 699)), np.zeros(700, bool)):
            found = index.search(queries, 5, allowed=few)
            expected = min(5, int(few[1:697].sum()))
            assert few[found.rows[found.rows > 0]].all() and ((found.rows > 0).sum(axis=1) == expected).all()

    def test_rows_that_come_later_are_found(self, index: Index, rows: tuple[Floats, Floats], queries: Floats) -> None:
        vectors = np.concatenate([rows[0], 50 * queries[:1], 60 * queries[:1]])
        more = index.over(vectors, np.append(rows[1], np.zeros(2, np.float32)), rows_of(697, 698, 699, 701))
        assert more.search(queries[:1], 1).rows.tolist() == [[700]]
        assert more.search(queries[:1], 1, excluded=[rows_of(700)]).rows.tolist() == [
            index.search(queries[:1], 1).rows[0].tolist()
        ]

    def test_parallel_searches_answer_as_one(self, index: Index, queries: Floats) -> None:
        alone = index.search(queries, 5).rows.tolist()
        answers: list[list[list[int]]] = []
        threads = [
            threading.Thread(target=lambda: answers.append(index.search(queries, 5).rows.tolist())) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
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


class CellContract:
    """What every cell must do: derive a test class from it and write `make_cell`."""

    #: What a cell of the test is made for: its width, and how many lanes are read.
    width, lanes = 6, 3

    def make_cell(self) -> Cell:
        """Return a cell that can have `width` units; the same each time."""
        raise NotImplementedError

    @pytest.fixture
    def cell(self) -> Cell:
        """The cell of the test."""
        return self.make_cell()

    @pytest.mark.parametrize(("seed", "steps"), [(0, 1), (1, 2), (2, 7), (3, 20)])
    def test_a_scan_is_its_steps_and_a_reset_is_a_start(self, cell: Cell, seed: int, steps: int) -> None:
        params, x, state, start, reset = self.setting(cell, seed, steps)
        before = x.copy()
        got = cell.scan(params, state, cell.lift(params, x), reset, start)
        close(got, stepped(cell, params, x, state, start, reset))
        np.testing.assert_array_equal(x, before)
        assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for _, leaf in leaves(got))
        assert got[1].shape == x.shape

    def test_numpy_is_jax_and_every_weight_has_a_gradient(self, cell: Cell) -> None:
        import jax
        import jax.numpy as jnp

        params, x, state, _, reset = self.setting(cell, 7, 20)
        share = np.random.default_rng(0).standard_normal(x.shape, dtype=np.float32)

        def run(params: Any, x: Array, state: Tree, reset: Array) -> Any:
            start = cell.start(params, self.lanes)
            end, y = cell.scan(params, state, cell.lift(params, x), reset, start)
            return (y * share).sum(), (end, y)

        arrays = map_tree(jnp.asarray, (params, x, state, reset))
        (_, theirs), gradient = jax.jit(jax.value_and_grad(run, has_aux=True))(*arrays)
        close(run(params, x, state, reset)[1], map_tree(np.asarray, theirs))
        for path, leaf in leaves(gradient):
            assert np.isfinite(leaf).all() and np.any(leaf), path

    def test_one_seed_gives_one_set_of_weights_and_equal_cells_are_equal(self, cell: Cell) -> None:
        one, same, other = (cell.init(np.random.default_rng(seed), self.width) for seed in (1, 1, 2))
        close(one, same, tolerance=0)
        assert any((a != b).any() for (_, a), (_, b) in zip(leaves(one), leaves(other), strict=True))
        assert cell == copy(cell) and hash(cell) == hash(copy(cell))

    def setting(self, cell: Cell, seed: int, steps: int) -> tuple[Any, Floats, Tree, Tree, Bools]:
        """Return weights, inputs, a state, a start and resets, all drawn."""
        rng = np.random.default_rng(seed)

        def moved(tree: Tree, by: float) -> Tree:
            return map_tree(lambda a: a + rng.normal(0, by, a.shape).astype(np.float32), tree)

        params = moved(cell.init(rng, self.width), 0.1)
        x = rng.standard_normal((steps, self.lanes, self.width), dtype=np.float32)
        state, start = (moved(cell.start(params, self.lanes), 1.0) for _ in range(2))
        return params, x, state, start, rng.random((steps, self.lanes)) < 0.3


def stepped(cell: Cell, params: Any, x: Floats, state: Tree, start: Tree, reset: Bools) -> tuple[Tree, Floats]:
    """Scan by the words of the contract: one lane, one step at a time."""
    outputs = np.zeros_like(x)
    lanes = []
    for lane in range(x.shape[1]):
        at = map_tree(lambda a, lane=lane: a[lane : lane + 1], state)
        for t in range(len(x)):
            if reset[t, lane]:
                at = map_tree(lambda a, lane=lane: a[lane : lane + 1], start)
            inputs = map_tree(lambda a: a[0], cell.lift(params, x[t : t + 1, lane : lane + 1]))
            at, y = cell.step(params, at, inputs)
            outputs[t, lane] = y[0]
        lanes.append(at)
    return map_tree(lambda *parts: np.concatenate(parts), *lanes), outputs


def close(a: Tree, b: Tree, tolerance: float = 1e-5) -> None:
    """Assert that two trees of arrays are equal within a tolerance."""
    for (path, left), (_, right) in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(left, right, atol=tolerance, rtol=tolerance, err_msg=path)


def rows_of(*rows: int) -> Rows:
    """Return rows as an array."""
    return np.array(rows, np.int32)


def slow_search(vectors: Floats, bias: Floats, queries: Floats, k: int, hidden: Iterable[int]) -> Rows:
    """Return int32[q, k], the best rows by a whole sort."""
    scores = queries @ vectors.T + bias
    scores[:, [0, *hidden]] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)
