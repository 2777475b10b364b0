"""Weights of the classical cells, in the order and form of Keras and of Segue.

    Segue                    Keras                      weights of Keras
    SimpleRNN(activation)    SimpleRNN                  kernel, recurrent, bias [d]
    LSTM()                   LSTM                       kernel, recurrent, bias [4 d], gates i, f, g, o in both
    GRU()                    GRU(reset_after=True)      kernel, recurrent, bias [2, 3 d], gates z, r, n in both

The Keras GRU has a bias outside and a bias inside the product with the state. These differ only for
n, where the second is inside the reset gate; for z and r they are added. A GRU with
`reset_after=False` has another equation and cannot be converted.
"""

from typing import Any

import numpy as np

from segue.errors import ArgumentError
from segue.interop.library import keras_on_jax
from segue.model.activations import LEAK
from segue.model.cells import GRU, LSTM, Cell, GatedParams, GRUParams, SimpleRNN
from segue.shapes import Floats


def keras_weights(cell: Cell, params: Any) -> list[Floats]:
    """Return float32 weights for `set_weights` of the Keras layer with a cell's equation.

    Args:
        cell: `SimpleRNN`, `GRU` or `LSTM`.
        params: its parameters.

    Raises:
        ArgumentError: Keras has no layer with this equation.

    Example:
        >>> cell = GRU()
        >>> [w.shape for w in keras_weights(cell, cell.init(np.random.default_rng(0), 4))]
        [(4, 12), (4, 12), (2, 12)]
    """
    _check_classical(cell)
    if isinstance(cell, GRU):
        inside = np.zeros_like(params.b)
        inside[2 * len(params.b_n) :] = params.b_n
        return [np.array(params.w_x), np.array(params.w_h), np.stack([params.b, inside])]
    return [np.array(weights) for weights in params]


def params_of(cell: Cell, weights: list[Floats]) -> GatedParams | GRUParams:
    """Return a cell's parameters from weights in the order of Keras; a missing bias becomes 0."""
    kernel, recurrent = (np.array(each, np.float32) for each in weights[:2])
    if not isinstance(cell, GRU):
        bias = np.array(weights[2], np.float32) if len(weights) > 2 else np.zeros(kernel.shape[1], np.float32)
        return GatedParams(kernel, recurrent, bias)
    outside, inside = weights[2] if len(weights) > 2 else np.zeros((2, kernel.shape[1]), np.float32)
    inside_reset = np.arange(kernel.shape[1]) >= 2 * len(recurrent)
    bias = (outside + np.where(inside_reset, 0, inside)).astype(np.float32)
    return GRUParams(kernel, recurrent, bias, np.array(inside[inside_reset], np.float32))


def to_keras(cell: Cell, params: Any, **settings: Any) -> Any:
    """Return a Keras layer that computes what a cell computes, with the same weights.

    Args:
        cell: `SimpleRNN`, `GRU` or `LSTM`.
        params: its parameters, of width d.
        settings: of the layer, such as `return_sequences=True`.

    Returns:
        A built layer; it reads [batch, time, d], where Segue's scan reads [time, batch, d].

    Raises:
        ArgumentError: Keras has no layer with this equation, or is not installed.

    Example:
        >>> cell = LSTM()
        >>> params = cell.init(np.random.default_rng(0), 4)
        >>> layer = to_keras(cell, params, return_sequences=True)
        >>> x = np.random.default_rng(1).standard_normal((7, 2, 4), dtype=np.float32)
        >>> start = cell.start(params, 2)
        >>> _, y = cell.scan(params, start, cell.lift(params, x), np.zeros((7, 2), bool), start)
        >>> bool(np.allclose(np.asarray(layer(x.swapaxes(0, 1))).swapaxes(0, 1), y, atol=1e-5))
        True
    """
    weights = keras_weights(cell, params)
    layers, width = keras_on_jax().layers, len(params.w_h)
    settings = {"dtype": "float32"} | settings
    if isinstance(cell, SimpleRNN):
        leaky = cell.activation == "leaky_relu"
        activation = layers.LeakyReLU(negative_slope=LEAK) if leaky else cell.activation
        layer = layers.SimpleRNN(width, activation=activation, **settings)
    elif isinstance(cell, GRU):
        layer = layers.GRU(width, reset_after=True, **settings)
    else:
        layer = layers.LSTM(width, **settings)
    layer.build((None, None, width))
    layer.set_weights(weights)
    return layer


def from_keras(layer: Any) -> tuple[Cell, Any]:
    """Return the cell that computes what a Keras layer or cell computes, and its parameters.

    Args:
        layer: a built `SimpleRNN`, `GRU` or `LSTM`, or one of their cells, that reads as many
            numbers as it has units.

    Raises:
        ArgumentError: no cell of Segue has its equation; the message names the difference.

    Example:
        >>> cell = GRU()
        >>> params = cell.init(np.random.default_rng(0), 4)
        >>> again, same = from_keras(to_keras(cell, params))
        >>> again, all(bool((a == b).all()) for a, b in zip(params, same))
        (GRU(), True)
    """
    cell = segue_cell(layer)
    weights = [np.array(variable.value) for variable in layer.weights]
    if not weights or weights[0].shape[0] != weights[1].shape[0]:
        shapes = ", ".join(str(each.shape) for each in weights) or "none: it was not built"
        raise ArgumentError(
            f"from_keras: expected a layer that reads as many numbers as it has units, came weights {shapes}. "
            "A cell of Segue has one width."
        )
    return cell, params_of(cell, weights)


def segue_cell(layer: Any) -> Cell:
    """Return the cell with the equation of a Keras layer or cell; see `from_keras`."""
    layers, cell = keras_on_jax().layers, getattr(layer, "cell", layer)
    if getattr(layer, "go_backwards", False):
        raise _refused(cell, "it reads backwards", "A recommender reads forwards")
    if getattr(cell, "dropout", 0.0) or getattr(cell, "recurrent_dropout", 0.0):
        raise _refused(cell, "it has dropout of its own", "Leave it out; model.dropout acts around every cell")
    if type(cell) is layers.SimpleRNNCell:
        return SimpleRNN(_activation(cell))
    if type(cell) not in (layers.GRUCell, layers.LSTMCell):
        raise _refused(cell, "its class is another", "SimpleRNNCell, GRUCell and LSTMCell can be taken over")
    if _activation(cell) != "tanh" or cell.recurrent_activation is not keras_on_jax().activations.sigmoid:
        raise _refused(cell, "its activations are others", "Use tanh, and sigmoid for the gates")
    if type(cell) is layers.LSTMCell:
        return LSTM()
    if not cell.reset_after:
        raise _refused(cell, "its reset gate acts before the product", "Train it with reset_after=True")
    return GRU()


def _activation(cell: Any) -> str:
    activations = keras_on_jax().activations
    if cell.activation in (activations.tanh, activations.relu):
        return "tanh" if cell.activation is activations.tanh else "relu"
    if isinstance(cell.activation, keras_on_jax().layers.LeakyReLU) and cell.activation.negative_slope == LEAK:
        return "leaky_relu"
    advice = f"Use tanh, relu, or keras.layers.LeakyReLU(negative_slope={LEAK}); leaky_relu alone has another slope"
    raise _refused(cell, "its activation is another", advice)


def _check_classical(cell: Cell) -> None:
    if not isinstance(cell, SimpleRNN | GRU | LSTM):
        raise ArgumentError(f"to_keras: expected SimpleRNN, GRU or LSTM, came {cell}. Keras has no layer like it.")


def _refused(cell: Any, why: str, advice: str) -> ArgumentError:
    return ArgumentError(f"{type(cell).__name__}: expected an equation that a cell of Segue has, but {why}. {advice}.")
