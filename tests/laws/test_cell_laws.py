"""law: a scan equals the steps, a reset equals a fresh start, NumPy equals JAX, for every cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.insight.gates import Watched
from segue.model.backend import leaves, map_tree
from segue.model.cells import CELLS, GRU, LSTM, Linear, LinearState, LSTMState, SimpleRNN, make_cell

EVERY = [make_cell(name) for name in CELLS] + [SimpleRNN("relu"), SimpleRNN("leaky_relu")]
WIDTH, LANES = 6, 3


def setting(cell, seed, steps):
    rng = np.random.default_rng(seed)
    params = map_tree(lambda a: a + rng.normal(0, 0.1, a.shape).astype(np.float32), cell.init(rng, WIDTH))
    x = rng.standard_normal((steps, LANES, WIDTH), dtype=np.float32)
    state = map_tree(lambda a: a + rng.normal(0, 1, a.shape).astype(np.float32), cell.start(params, LANES))
    start = map_tree(lambda a: a + rng.normal(0, 1, a.shape).astype(np.float32), cell.start(params, LANES))
    return params, x, state, start, rng.random((steps, LANES)) < 0.3


def stepped(cell, params, x, state, start, reset):
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


def close(a, b, tolerance=1e-5):
    for (path, left), (_, right) in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(left, right, atol=tolerance, rtol=tolerance, err_msg=path)


@pytest.mark.parametrize("cell", EVERY, ids=str)
@given(seed=st.integers(0, 2**16), steps=st.integers(1, 20))
@settings(max_examples=8, deadline=None)
def test_law_scan_is_step_and_reset_is_start(cell, seed, steps):
    params, x, state, start, reset = setting(cell, seed, steps)
    before = x.copy()
    got = cell.scan(params, state, cell.lift(params, x), reset, start)
    close(got, stepped(cell, params, x, state, start, reset))
    np.testing.assert_array_equal(x, before)
    assert all(leaf.dtype == np.float32 for _, leaf in leaves(got))


@pytest.mark.parametrize("steps", [3, 40])
@pytest.mark.parametrize("cell", EVERY, ids=str)
def test_law_numpy_is_jax(cell, steps):
    params, x, state, start, reset = setting(cell, 7, steps)
    ours = cell.scan(params, state, cell.lift(params, x), reset, start)

    @jax.jit
    def run(params, x, state, reset, start):
        return cell.scan(params, state, cell.lift(params, x), reset, start)

    arrays = map_tree(jnp.asarray, (params, x, state, reset, start))
    close(ours, map_tree(np.asarray, run(*arrays)))


def moved(cell, gates, params, state, inputs):
    """Return a cell's new state from its gates alone, by the equations of its docstring."""
    if isinstance(cell, GRU):
        x_n, h_n = inputs[:, 2 * WIDTH :], state @ params.w_h[:, 2 * WIDTH :]
        return gates.keep * state + (1 - gates.keep) * np.tanh(x_n + gates.reset * (h_n + params.b_n))
    if isinstance(cell, LSTM):
        candidate = np.tanh((inputs + state.h @ params.w_h)[:, 2 * WIDTH : 3 * WIDTH])
        c = gates.keep * state.c + gates.enter * candidate
        return LSTMState(gates.show * np.tanh(c), c)
    tail, c = cell.convolve(params, state.tail, inputs)
    return LinearState(tail, gates.keep * state.s + np.sqrt(1 - gates.keep**2) * gates.enter * c)


@pytest.mark.parametrize("cell", [GRU(), LSTM(), Linear()], ids=str)
def test_law_the_gates_are_those_that_a_step_uses(cell):
    params, x, state, _, _ = setting(cell, 3, 1)
    inputs = cell.lift(params, x)[0]
    gates = cell.gates(params, state, inputs)
    close(cell.step(params, state, inputs)[0], moved(cell, gates, params, state, inputs))
    for _, gate in leaves(gates):
        assert gate.shape == (LANES, WIDTH) and gate.dtype == np.float32 and (gate > 0).all() and (gate < 1).all()


@pytest.mark.parametrize("cell", EVERY, ids=str)
def test_law_a_watched_cell_is_the_cell(cell):
    params, x, _, _, reset = setting(cell, 4, 9)
    watched, state = Watched(cell), cell.start(params, LANES)
    seen = watched.start(params, LANES)
    ours, y = watched.scan(params, seen, watched.lift(params, x), reset, seen)
    theirs, expected = cell.scan(params, state, cell.lift(params, x), reset, state)
    close(ours.inner, theirs)
    close(y, expected)
