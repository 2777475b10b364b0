"""Each cell against its equations, written out in float64, a number at a time."""

import numpy as np
import pytest

from segue.model.cells import GRU, LSTM, Linear, SimpleRNN


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def simple(p, xs, f):
    h, out = np.zeros(p.w_h.shape[0]), []
    for x in xs:
        h = f(x @ p.w_x + h @ p.w_h + p.b)
        out.append(h)
    return out


def gru(p, xs):
    d = p.w_h.shape[0]
    h, out = np.zeros(d), []
    for x in xs:
        a, r_h = x @ p.w_x + p.b, h @ p.w_h
        z = sigmoid(a[:d] + r_h[:d])
        r = sigmoid(a[d : 2 * d] + r_h[d : 2 * d])
        n = np.tanh(a[2 * d :] + r * (r_h[2 * d :] + p.b_n))
        h = (1 - z) * n + z * h
        out.append(h)
    return out


def lstm(p, xs):
    d = p.w_h.shape[0]
    h, c, out = np.zeros(d), np.zeros(d), []
    for x in xs:
        total = x @ p.w_x + h @ p.w_h + p.b
        i, f, g, o = (total[k * d : (k + 1) * d] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return out


def linear(p, xs):
    d = len(p.decay)
    s, out = np.zeros(d), []
    for t in range(len(xs)):
        c = p.conv_bias + sum(p.conv[k] * xs[t - k] for k in range(len(p.conv)) if t >= k)
        g = sigmoid(c @ p.w_gates + p.b_gates)
        a = np.exp(-8 * np.log1p(np.exp(p.decay)) * g[:d])
        s = a * s + np.sqrt(1 - a**2) * g[d:] * c
        out.append(s)
    return out


TWINS = [
    (SimpleRNN("tanh"), lambda p, xs: simple(p, xs, np.tanh)),
    (SimpleRNN("relu"), lambda p, xs: simple(p, xs, lambda v: np.maximum(v, 0))),
    (SimpleRNN("leaky_relu"), lambda p, xs: simple(p, xs, lambda v: np.where(v > 0, v, 0.01 * v))),
    (GRU(), gru),
    (LSTM(), lstm),
    (Linear(), linear),
]


@pytest.mark.parametrize(("cell", "twin"), TWINS, ids=[str(cell) for cell, _ in TWINS])
def test_cell_is_its_equation(cell, twin):
    rng = np.random.default_rng(1)
    params = cell.init(rng, 5)
    params = type(params)(*(a + rng.normal(0, 0.2, a.shape).astype(np.float32) for a in params))
    x = rng.standard_normal((9, 2, 5), dtype=np.float32)
    none = np.zeros((9, 2), bool)
    start = cell.start(params, 2)
    _, y = cell.scan(params, start, cell.lift(params, x), none, start)
    exact = type(params)(*(a.astype(np.float64) for a in params))
    for lane in range(2):
        np.testing.assert_allclose(y[:, lane], twin(exact, x[:, lane].astype(np.float64)), atol=2e-6, rtol=1e-5)
