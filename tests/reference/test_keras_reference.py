"""Each classical cell against the layer of Keras with the same weights: every output, every gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.model.activations import LEAK
from segue.model.cells import GRU, LSTM, SimpleRNN

WIDTH, LANES, LENGTH = 6, 3, 11


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    # Both are read once, while Keras is imported. Its home is a file of defaults, which would override the float32.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        keras = pytest.importorskip("keras")
    assert keras.backend.backend() == "jax"
    return keras


class Weights(NamedTuple):
    """What a layer of Keras holds, in its order."""

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray


def single_bias(params):
    return Weights(params.w_x, params.w_h, params.b)


def double_bias(params):
    """A GRU of Keras adds a second bias to the recurrent product; ours is its last third, inside the reset gate."""
    outside = np.zeros(2 * WIDTH, np.float32)
    return Weights(params.w_x, params.w_h, np.stack([params.b, np.concatenate([outside, params.b_n])]))


def simple_rnn(activation):
    def build(keras, **settings):
        functions = {"leaky_relu": lambda x: keras.activations.leaky_relu(x, negative_slope=LEAK)}
        return keras.layers.SimpleRNN(WIDTH, activation=functions.get(activation, activation), **settings)

    return build


CASES = [
    (SimpleRNN("tanh"), simple_rnn("tanh"), single_bias),
    (SimpleRNN("relu"), simple_rnn("relu"), single_bias),
    (SimpleRNN("leaky_relu"), simple_rnn("leaky_relu"), single_bias),
    (GRU(), lambda keras, **settings: keras.layers.GRU(WIDTH, reset_after=True, **settings), double_bias),
    (LSTM(), lambda keras, **settings: keras.layers.LSTM(WIDTH, **settings), single_bias),
]


@pytest.mark.parametrize(("cell", "build", "copy"), CASES, ids=[str(cell) for cell, _, _ in CASES])
def test_cell_is_the_layer_of_keras(keras, cell, build, copy):
    rng = np.random.default_rng(7)
    params = cell.init(rng, WIDTH)
    params = type(params)(*(a + rng.normal(0, 0.2, a.shape).astype(np.float32) for a in params))
    x = jnp.asarray(rng.standard_normal((LENGTH, LANES, WIDTH), dtype=np.float32))
    share = rng.standard_normal(x.shape, dtype=np.float32)  # of each output in the scalar
    none = jnp.zeros((LENGTH, LANES), bool)

    def ours(params):
        start = cell.start(params, LANES)
        _, y = cell.scan(params, start, cell.lift(params, x), none, start)
        return (y * share).sum(), y

    layer = build(keras, return_sequences=True, dtype="float32")
    layer.build((LANES, LENGTH, WIDTH))
    layer.set_weights(copy(params))
    rest = [variable.value for variable in layer.non_trainable_variables]

    def theirs(weights):
        y, _ = layer.stateless_call(list(weights), rest, x.swapaxes(0, 1))
        y = y.swapaxes(0, 1)
        return (y * share).sum(), y

    (_, y), gradient = jax.value_and_grad(ours, has_aux=True)(jax.tree.map(jnp.asarray, params))
    (_, expected_y), expected = jax.value_and_grad(theirs, has_aux=True)(jax.tree.map(jnp.asarray, copy(params)))

    np.testing.assert_allclose(y, expected_y, atol=1e-5, rtol=1e-5)
    bias = expected.bias if copy is single_bias else expected.bias[0]
    wanted = {"w_x": expected.kernel, "w_h": expected.recurrent, "b": bias}
    if copy is double_bias:
        wanted["b_n"] = expected.bias[1, 2 * WIDTH :]
    assert set(wanted) == set(params._fields)
    for name, value in wanted.items():
        np.testing.assert_allclose(getattr(gradient, name), value, atol=1e-4, rtol=1e-4, err_msg=name)
