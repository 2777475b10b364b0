"""What every cell must do, as a test class. Needs JAX."""

from copy import copy
from typing import Any

import numpy as np
import pytest

from segue.model.backend import leaves, map_tree
from segue.model.cells import Cell
from segue.shapes import Array, Bools, Floats, Tree


class CellContract:
    """What every cell must do: derive a test class and write `make_cell`."""

    #: The width of the cell under test, and the lanes that are read.
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
        first, same, other = (cell.init(np.random.default_rng(seed), self.width) for seed in (1, 1, 2))
        close(first, same, tolerance=0)
        assert any((a != b).any() for (_, a), (_, b) in zip(leaves(first), leaves(other), strict=True))
        assert cell == copy(cell) and hash(cell) == hash(copy(cell))

    def setting(self, cell: Cell, seed: int, steps: int) -> tuple[Any, Floats, Tree, Tree, Bools]:
        """Return random weights, inputs, state, start and resets."""
        rng = np.random.default_rng(seed)

        def moved(tree: Tree, by: float) -> Tree:
            return map_tree(lambda a: a + rng.normal(0, by, a.shape).astype(np.float32), tree)

        params = moved(cell.init(rng, self.width), 0.1)
        x = rng.standard_normal((steps, self.lanes, self.width), dtype=np.float32)
        state, start = (moved(cell.start(params, self.lanes), 1.0) for _ in range(2))
        return params, x, state, start, rng.random((steps, self.lanes)) < 0.3


def stepped(cell: Cell, params: Any, x: Floats, state: Tree, start: Tree, reset: Bools) -> tuple[Tree, Floats]:
    """Scan as the contract says: lane by lane, step by step."""
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
