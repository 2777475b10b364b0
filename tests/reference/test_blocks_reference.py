"""A block against its equations, written out in float64 for one position at a time."""

import numpy as np
import pytest

from segue.model.backend import map_tree
from segue.model.blocks import init_block, scan_block
from segue.model.cells import SimpleRNN

STEPS, LANES, WIDTH = 5, 2, 6


def twin(params, x, norm):
    """Return what a block makes of one lane `x` [T, d], its cell a plain tanh recurrence."""

    def read(v, scale):
        if norm == "clip":
            return v * min(1.0, 8.0 / np.sqrt(np.mean(v * v))) * scale
        return v / np.sqrt(np.mean(v * v) + 1e-6) * scale if norm else v * scale

    h, made = np.zeros(WIDTH), []
    for v in x:
        branch, gate = np.split(read(v, params.norm) @ params.w_in, 2)
        h = np.tanh(branch @ params.cell.w_x + params.cell.b + h @ params.cell.w_h)
        gelu = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        v = v + (h * gelu) @ params.w_out
        a, b = np.split(read(v, params.feed_norm) @ params.w_up, 2)
        made.append(v + (a / (1 + np.exp(-a)) * b) @ params.w_down)
    return np.array(made)


@pytest.mark.parametrize("norm", [True, False, "clip"])
def test_a_block_computes_its_equations(norm):
    rng = np.random.default_rng(7)
    cell = SimpleRNN()
    params = init_block(rng, cell, width=WIDTH, expand=2, depth=2)
    params = map_tree(lambda a: a + rng.normal(0, 0.2, a.shape).astype(np.float32), params)
    x = rng.standard_normal((STEPS, LANES, WIDTH), dtype=np.float32)
    x[:, 0] *= 9.0  # longer than what is clipped
    start, none = cell.start(params.cell, LANES), np.zeros((STEPS, LANES), bool)
    _, y = scan_block(cell, params, start, x, none, None, norm)
    assert y.dtype == np.float32
    wide = map_tree(lambda a: a.astype(np.float64), params)
    for lane in range(LANES):
        np.testing.assert_allclose(y[:, lane], twin(wide, x[:, lane].astype(np.float64), norm), atol=2e-5)
