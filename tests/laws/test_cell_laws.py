"""law: a scan equals the steps, a reset equals a fresh start, NumPy equals JAX, for every cell of Segue."""

import numpy as np
import pytest

from segue.insight.gates import Watched
from segue.model.backend import leaves
from segue.model.cells import CELLS, GRU, LSTM, Linear, LinearState, LSTMState, SimpleRNN, make_cell
from segue.testing import CellContract
from segue.testing.cells import close

LAWS = CellContract()
EVERY = [make_cell(name) for name in CELLS] + [SimpleRNN("relu"), SimpleRNN("leaky_relu")]


class TestEveryLawOfEveryCell(CellContract):
    @pytest.fixture(params=EVERY, ids=str)
    def cell(self, request):
        return request.param


def moved(cell, gates, params, state, inputs):
    """Return a cell's new state from its gates alone, by the equations of its docstring."""
    if isinstance(cell, GRU):
        x_n, h_n = inputs[:, 2 * LAWS.width :], state @ params.w_h[:, 2 * LAWS.width :]
        return gates.keep * state + (1 - gates.keep) * np.tanh(x_n + gates.reset * (h_n + params.b_n))
    if isinstance(cell, LSTM):
        candidate = np.tanh((inputs + state.h @ params.w_h)[:, 2 * LAWS.width : 3 * LAWS.width])
        c = gates.keep * state.c + gates.enter * candidate
        return LSTMState(gates.show * np.tanh(c), c)
    tail, c = cell.convolve(params, state.tail, inputs)
    return LinearState(tail, gates.keep * state.s + np.sqrt(1 - gates.keep**2) * gates.enter * c)


@pytest.mark.parametrize("cell", [GRU(), LSTM(), Linear()], ids=str)
def test_law_the_gates_are_those_that_a_step_uses(cell):
    params, x, state, _, _ = LAWS.setting(cell, 3, 1)
    inputs = cell.lift(params, x)[0]
    gates = cell.gates(params, state, inputs)
    close(cell.step(params, state, inputs)[0], moved(cell, gates, params, state, inputs))
    for _, gate in leaves(gates):
        assert (
            gate.shape == (LAWS.lanes, LAWS.width)
            and gate.dtype == np.float32
            and (gate > 0).all()
            and (gate < 1).all()
        )


@pytest.mark.parametrize("cell", EVERY, ids=str)
def test_law_a_watched_cell_is_the_cell(cell):
    params, x, _, _, reset = LAWS.setting(cell, 4, 9)
    watched, state = Watched(cell), cell.start(params, LAWS.lanes)
    seen = watched.start(params, LAWS.lanes)
    ours, y = watched.scan(params, seen, watched.lift(params, x), reset, seen)
    theirs, expected = cell.scan(params, state, cell.lift(params, x), reset, state)
    close(ours.inner, theirs)
    close(y, expected)
