"""Each classical cell against the layer of Keras with the same weights: every output, every gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.interop import from_keras, keras_weights, to_keras
from segue.model.cells import GRU, LSTM, SimpleRNN

WIDTH, LANES, LENGTH = 6, 3, 11
CASES = [SimpleRNN("tanh"), SimpleRNN("relu"), SimpleRNN("leaky_relu"), GRU(), LSTM()]


@pytest.mark.parametrize("cell", CASES, ids=str)
def test_cell_is_the_layer_of_keras(keras, cell):
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

    layer = to_keras(cell, params, return_sequences=True)
    kind = {SimpleRNN: keras.layers.SimpleRNN, GRU: keras.layers.GRU, LSTM: keras.layers.LSTM}[type(cell)]
    assert type(layer) is kind
    rest = [variable.value for variable in layer.non_trainable_variables]

    def theirs(weights):
        y, _ = layer.stateless_call(list(weights), rest, x.swapaxes(0, 1))
        y = y.swapaxes(0, 1)
        return (y * share).sum(), y

    weights = jax.tree.map(jnp.asarray, keras_weights(cell, params))
    (_, y), gradient = jax.value_and_grad(ours, has_aux=True)(jax.tree.map(jnp.asarray, params))
    (_, expected_y), expected = jax.value_and_grad(theirs, has_aux=True)(weights)

    np.testing.assert_allclose(y, expected_y, atol=1e-5, rtol=1e-5)
    kernel, recurrent, bias = expected
    wanted = {"w_x": kernel, "w_h": recurrent, "b": bias}
    if isinstance(cell, GRU):  # of Keras's two biases ours has the outer one, and of the inner one its last third
        wanted |= {"b": bias[0], "b_n": bias[1, 2 * WIDTH :]}
    assert set(wanted) == set(params._fields)
    for name, value in wanted.items():
        np.testing.assert_allclose(getattr(gradient, name), value, atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_a_layer_of_keras_is_the_cell_taken_from_it(keras, kind, use_bias):
    rng = np.random.default_rng(3)
    layer = getattr(keras.layers, kind)(WIDTH, use_bias=use_bias, return_sequences=True, dtype="float32")
    layer.build((LANES, LENGTH, WIDTH))
    # Numbers everywhere: a GRU of Keras has a bias inside its first two gates, too, which must not be lost.
    layer.set_weights([rng.normal(0, 0.3, v.shape).astype(np.float32) for v in layer.weights])
    cell, params = from_keras(layer)
    x = rng.standard_normal((LENGTH, LANES, WIDTH), dtype=np.float32)
    start = cell.start(params, LANES)
    _, y = cell.scan(params, start, cell.lift(params, x), np.zeros((LENGTH, LANES), bool), start)
    np.testing.assert_allclose(np.asarray(layer(x.swapaxes(0, 1))).swapaxes(0, 1), y, atol=1e-5, rtol=1e-5)
    assert all(weights.dtype == np.float32 for weights in params)
