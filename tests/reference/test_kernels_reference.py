"""The compiled loops against the pure code they stand in for: values and gradients."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.config import configure
from segue.data.sequences.batches import Batch
from segue.errors import ArgumentError
from segue.kernels import build, training_loops
from segue.model import activations, blocks, cells
from segue.model.backend import product
from segue.model.cells import Linear, LinearState
from segue.model.network import Network
from segue.training.update import losses
from segue.training.update.losses import Candidates, softmax_cross_entropy
from segue.training.update.update import NO_ITEM_DATA, Carried, loss_of

pytestmark = pytest.mark.skipif(not build.available(), reason="no C compiler: the pure code is used")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def quickly_compiled():
    """Compile the pure code without optimisations: each program here runs once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def drawn(*shape, scale=1.0):
    return jnp.asarray(RNG.standard_normal(shape, dtype=np.float32) * np.float32(scale))


@pytest.fixture
def purely(monkeypatch):
    """Return a function that calls another without the compiled loops."""

    def call(function, *given):
        with monkeypatch.context() as patch:
            for module in (activations, blocks, cells, losses):
                patch.setattr(module, "compiled_loops", lambda array: None)
            return function(*given)

    return call


def agree(purely, function, *given, tolerance=2e-5):
    """Compare the values of a function, and the gradients of a fixed weighted sum of them by all float arguments."""
    floats = tuple(i for i, one in enumerate(given) if one.dtype == np.float32)
    shapes = jax.eval_shape(function, *given)
    weights = jax.tree.map(lambda leaf: drawn(*leaf.shape), shapes)

    def total(*given):
        found = function(*given)
        return sum(jnp.vdot(a, w) for a, w in zip(jax.tree.leaves(found), jax.tree.leaves(weights), strict=True))

    def both(*given):
        return function(*given), jax.grad(total, floats)(*given)

    def compiled(*given):
        return jax.jit(lambda *given: both(*given))(*given)  # traced anew, as the loops are patched away

    for ours, wanted in zip(jax.tree.leaves(compiled(*given)), jax.tree.leaves(purely(compiled, *given)), strict=True):
        np.testing.assert_allclose(
            ours, wanted, atol=tolerance * max(1.0, float(jnp.abs(wanted).max(initial=0.0))), rtol=1e-4
        )


@pytest.mark.parametrize("width", [1, 16, 37])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_what_has_no_neighbours_in_time(purely, width, scale):
    x, y = drawn(5, 3, width, scale=scale), drawn(5, 3, width)
    agree(purely, blocks.rms_norm, x, drawn(width))
    agree(purely, blocks.clipped, x, drawn(width))
    agree(purely, activations.geglu, x, y)
    agree(purely, activations.swiglu, drawn(5, 3, 2 * width, scale=scale))


@pytest.mark.parametrize(("taps", "width", "lanes"), [(1, 5, 3), (2, 16, 1), (4, 37, 21)])
def test_the_linear_recurrence(purely, taps, width, lanes):
    cell, steps = Linear(taps), 9
    params = jax.tree.map(jnp.asarray, cell.init(np.random.default_rng(1), width))
    reset = jnp.asarray(RNG.random((steps, lanes)) < 0.3)
    flat, tree = jax.tree.flatten(params)

    def outputs(x, tail, s, start_tail, start_s, *flat):
        state, start = LinearState(tuple(tail), s), LinearState(tuple(start_tail), start_s)
        return cell.scan(jax.tree.unflatten(tree, flat), state, x, reset, start)[1]

    tails = [drawn(taps - 1, lanes, width) for _ in range(2)]
    agree(
        purely, outputs, drawn(steps, lanes, width), tails[0], drawn(lanes, width), tails[1], drawn(lanes, width), *flat
    )

    def carried(x, tail, s):
        start = cell.start(params, lanes)
        return cell.scan(params, LinearState(tuple(tail), s), x, reset, start)[0]

    given = drawn(steps, lanes, width), tails[0], drawn(lanes, width)
    compiled = [jax.jit(lambda *given: carried(*given)) for _ in range(2)]  # the second is traced without the loops
    found, pure = compiled[0](*given), purely(compiled[1], *given)
    for ours, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(pure), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=2e-5)


@pytest.mark.parametrize(("width", "lanes"), [(1, 3), (37, 21)])
def test_the_gru(purely, width, lanes):
    cell, steps = cells.GRU(), 9
    params = jax.tree.map(jnp.asarray, cell.init(np.random.default_rng(1), width))
    reset = jnp.asarray(RNG.random((steps, lanes)) < 0.3)

    def outputs(inputs, state, start, w_h, b_n):
        return cell.scan(params._replace(w_h=w_h, b_n=b_n), state, inputs, reset, start)

    given = drawn(steps, lanes, 3 * width), drawn(lanes, width), drawn(lanes, width), params.w_h, drawn(width)
    agree(purely, outputs, *given)


def test_memory_that_hardly_decays_is_as_exact(purely):
    """Where 1 - a^2 is far below the rounding of a, both ways agree to a part in a thousand."""
    lanes, width = 4, 8
    gates, c = drawn(6, lanes, 2 * width) - 9.0, drawn(6, lanes, width)
    nothing, bias = jnp.zeros((lanes, width)), jnp.zeros(2 * width)
    decay, reset = jnp.full(width, 1e-3), jnp.zeros((6, lanes), bool)
    y = training_loops.linear(gates, bias, decay, c, nothing, reset, nothing)
    r, i = (1 / (1 + np.exp(-np.float64(part))) for part in np.split(np.asarray(gates), 2, axis=-1))
    log_a, s = -1e-3 * r, np.zeros((lanes, width))
    for t in range(6):
        s = np.exp(log_a[t]) * s + np.sqrt(-np.expm1(2 * log_a[t])) * i[t] * np.asarray(c[t], np.float64)
        np.testing.assert_allclose(y[t], s, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("scale", [0.1, 40.0])
def test_the_softmax(purely, sampled, hides, scale):
    targets, weights = jnp.asarray(RNG.integers(1, 23, 12), jnp.int32), jnp.asarray(RNG.integers(0, 2, 12), jnp.float32)
    candidates = Candidates(jnp.arange(1, 20, 2), drawn(10), drawn(12)) if sampled else None
    classes = candidates.rows if candidates else jnp.arange(23)
    hidden = jnp.asarray(RNG.random((12, len(classes))) < 0.5) & (classes != targets[:, None]) if hides else None

    def loss(query, items, bias):
        return softmax_cross_entropy(query, items, bias, targets, weights, candidates, hidden, 6)

    agree(purely, loss, drawn(12, 7, scale=scale), drawn(23, 7), drawn(23))


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 7, 33), (70, 96, 20)])
def test_products_of_rounded_numbers(shape):
    """Values and gradients are the products of the rounded factors; the right one is turned where the left is wide."""
    rows, width, columns = shape
    x, w, ahead = drawn(rows, width), drawn(width, columns), drawn(rows, columns)
    short = jnp.bfloat16
    x_, w_, ahead_ = (np.asarray(a.astype(short), np.float64) for a in (x, w, ahead))
    y, back = jax.vjp(product, x, w.astype(short))
    dx, dw = back(ahead)
    np.testing.assert_allclose(y, x_ @ w_, atol=1e-4)
    np.testing.assert_allclose(dx, ahead_ @ w_.T, atol=1e-4)
    np.testing.assert_allclose(np.asarray(dw, np.float32), x_.T @ ahead_, rtol=2**-8, atol=1e-4)
    np.testing.assert_allclose(training_loops.summed_over_rows(x, ahead, short), x_.T @ ahead_, atol=1e-4)
    np.testing.assert_allclose(product(x.reshape(rows, 1, width), w.astype(short))[:, 0], y)


def test_rounding_is_to_the_nearest_and_to_even():
    x = jnp.float32([[1.0, 1.00390625, 1.01171875, 1e30, -3.4e38, jnp.inf, jnp.nan, 1e-40]])
    turned = training_loops._transposed(x, jnp.bfloat16)
    np.testing.assert_array_equal(np.asarray(turned.astype(jnp.float32)), x.astype(jnp.bfloat16).T.astype(jnp.float32))


@pytest.mark.parametrize("cell", [cells.Linear(), cells.GRU(), cells.LSTM(), cells.SimpleRNN()])
def test_a_network_of_rounded_factors_learns_the_same(cell):
    """Loss and gradients of a window lie within the rounding of bfloat16 of those in float32, for every cell."""
    network = Network(cell, items=50, width=24, depth=2, norm=False)
    params = jax.tree.map(jnp.asarray, network.init(0))
    items = jnp.asarray(RNG.integers(1, 50, (6, 5)), jnp.int32)
    plain, nothing = jnp.zeros((6, 5)), jnp.zeros((6, 5), bool)
    begins = nothing.at[0].set(True)
    batch = Batch(items, plain, begins, begins, items, plain, jnp.ones((6, 5)))

    def learnt(precision):
        config = configure({"train.precision": precision, "model.dropout": 0.0, "train.task": "next"})
        carried = Carried(network.empty(params, 5), ())
        args = (carried, batch, None, NO_ITEM_DATA, jnp.uint32(0))
        found = jax.jit(jax.value_and_grad(lambda p: loss_of(network, config, p, *args)[0]))(params)
        return jax.tree.leaves(found)

    pairs = list(zip(learnt("bfloat16"), learnt("float32"), strict=True))
    for short, exact in pairs:
        assert short.dtype == np.float32
        assert np.linalg.norm(short - exact) <= 0.02 * np.linalg.norm(exact) + 1e-9
    assert any(np.any(short != exact) for short, exact in pairs)


def test_what_is_no_number_stays_visible():
    """A loop must not turn a lost run into one that looks well."""
    bad = drawn(2, 3, 8).at[0, 0, 0].set(jnp.nan)
    assert jnp.isnan(training_loops.swiglu(bad)[0, 0]).any()
    assert jnp.isnan(training_loops.rms_norm(bad, jnp.ones(8))[0, 0]).all()
    assert jnp.isnan(training_loops.clipped(bad, jnp.ones(8))[0, 0]).all()
    _, losses, _ = training_loops.softmax(
        bad[0], jnp.zeros(8), jnp.ones(3, jnp.int32), jnp.ones(3), jnp.zeros((3, 0), bool)
    )
    assert jnp.isnan(losses[0])
    assert jnp.isfinite(losses[1:]).all()


def test_sums_do_not_depend_on_threads():
    x, scale = drawn(64, 32, 24), drawn(24)
    gradient = jax.jit(jax.grad(lambda scale: jnp.sum(jnp.sin(blocks.rms_norm(x, scale)))))
    first = np.asarray(gradient(scale))
    for _ in range(20):
        np.testing.assert_array_equal(gradient(scale), first)


def test_without_a_compiler_there_is_no_library(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path))
    headers = jax.ffi.include_dir()
    assert build.compiled(build.TRAINING, headers, "no-such-compiler") is None
    assert build.compiled(build.TRAINING, headers, "false") is None
    assert build.compiled(build.TRAINING, str(tmp_path)) is None  # no headers there
    assert not [path for path in (tmp_path / "kernels").iterdir() if path.suffix != ".failed"]
    paths = [build.compiled(build.TRAINING, headers), build.compiled(build.SERVING)]
    assert None not in paths
    assert paths == [build.compiled(build.TRAINING, headers), build.compiled(build.SERVING)]
    assert paths[0] != paths[1]


def test_the_loops_can_be_turned_off():
    code = "from segue.kernels import build; print(build.available())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"SEGUE_KERNELS": "0"}
    )
    assert done.stdout.strip() == "False"


def test_shapes_that_do_not_fit_never_reach_c():
    x, scale, none = drawn(2, 3, 8), drawn(8), jnp.zeros((2, 3), bool)
    wrong = [
        lambda: training_loops.rms_norm(x, scale[:7]),
        lambda: training_loops.clipped(x, scale[:7]),
        lambda: training_loops.swiglu(x[..., :7]),
        lambda: training_loops.geglu(x, x[:1]),
        lambda: training_loops.convolve(x, drawn(3, 3, 8), none, drawn(2, 3, 8), drawn(4, 8), scale),
        lambda: training_loops.linear(drawn(2, 3, 16), drawn(16), scale, x, drawn(3, 8), none, drawn(2, 8)),
        lambda: training_loops.gru(drawn(2, 3, 24), drawn(8, 24), drawn(9), drawn(3, 8), none, drawn(3, 8)),
        lambda: training_loops.softmax(
            drawn(4, 9), drawn(8), jnp.zeros(4, jnp.int32), drawn(4), jnp.zeros((4, 0), bool)
        ),
        lambda: training_loops.softmax(
            drawn(4, 9), drawn(9), jnp.zeros(4, jnp.int16), drawn(4), jnp.zeros((4, 0), bool)
        ),
    ]
    for call in wrong:
        with pytest.raises(ArgumentError, match="Give weights and states of one network"):
            call()
    targets = jnp.int32([1, 9, -1])
    share, found, sums = training_loops.softmax(drawn(3, 9), drawn(9), targets, jnp.ones(3), jnp.zeros((3, 0), bool))
    assert jnp.isnan(found).tolist() == [False, True, True]
    assert not share[1:].any()
    assert jnp.isfinite(sums).all()
