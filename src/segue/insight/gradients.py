"""The gradient of a loss with respect to earlier inputs: whether it vanishes. Needs JAX.

    lag        L = t - s:   how many steps back from the loss at step t the input x_s lies

A recurrence multiplies the gradient by one Jacobian d h_k / d h_{k-1} for each step; see
docs/method.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError
from segue.insight.spread import Spread, spread
from segue.model.backend import draw_normal
from segue.model.cells import Cell
from segue.model.encoder import encode_users, window_of
from segue.recommend.recommender import Recommender
from segue.shapes import Floats, Rows, Tree

#: Items that a bare cell chooses from.
CLASSES = 50


def last_loss(cell: Cell, params: Tree, x: Any, readout: Any, targets: Any) -> Any:
    """Return the sum over sequences of the cross-entropy at the last step, of a linear readout of the cell's output.

    Args:
        cell: read from its empty state.
        params: of the cell.
        x: float[T, B, d].
        readout: float[d, classes].
        targets: int[B].
    """
    xp = x.__array_namespace__()
    start = cell.start(params, x.shape[1])
    _, y = cell.scan(params, start, cell.lift(params, x), xp.zeros(x.shape[:2], dtype=bool), start)
    logits = y[-1] @ readout
    top = xp.max(logits, axis=1, keepdims=True)
    log_sum = xp.log(xp.sum(xp.exp(logits - top), axis=1)) + top[:, 0]
    return xp.sum(log_sum - logits[xp.arange(x.shape[1]), targets])


def input_gradients(cell: Cell, params: Tree, x: Floats, readout: Floats, targets: Rows) -> Floats:
    """Return float32[T, B, d]: the gradient of `last_loss` with respect to each input.

    Cost: a forward and a backward pass.
    """
    arrays = jax.tree.map(jnp.asarray, (params, x, readout, targets))

    def loss(x: Array) -> Array:
        result: Array = last_loss(cell, arrays[0], x, *arrays[2:])
        return result

    return np.asarray(jax.jit(jax.grad(loss))(arrays[1]))


def with_gain(params: Tree, gain: float) -> Tree:
    """Return the weights of a cell with its recurrent matrix scaled; fresh ones are orthogonal, of gain 1.

    Raises:
        ArgumentError: nothing in this cell multiplies the memory by a matrix.
    """
    if not hasattr(params, "w_h"):
        raise ArgumentError(
            f"gain: expected a cell with a recurrent matrix, came {type(params).__name__}. Leave its gain at 1."
        )
    return params._replace(w_h=params.w_h * np.float32(gain))


def gradient_by_lag(
    cell: Cell, *, width: int = 32, steps: int = 101, batch_size: int = 64, gain: float = 1.0, seed: int = 0
) -> Spread:
    """Return the length of the gradient of the last loss at each input, by lag, for a cell with fresh weights.

    Args:
        width: of the input and of the memory.
        steps: T; lags go from 0 to T - 1.
        batch_size: sequences of random inputs (normal, of variance 1), over which the spread is taken.
        gain: scales the recurrent matrix.
        seed: of weights, inputs and targets.

    Raises:
        ArgumentError: steps is below 1, or the cell has no recurrent matrix to scale.
    """
    if steps < 1:
        raise ArgumentError(f"gradient_by_lag: expected steps from 1, came {steps}. 100 show a gradient vanish.")
    rng = np.random.default_rng(seed)
    params = cell.init(rng, width)
    params = params if gain == 1.0 else with_gain(params, gain)
    x = rng.standard_normal((steps, batch_size, width), dtype=np.float32)
    readout = draw_normal(rng, (width, CLASSES), width**-0.5)
    gradient = input_gradients(cell, params, x, readout, rng.integers(0, CLASSES, batch_size).astype(np.int32))
    return spread(_lengths(gradient)[::-1])


def gradient_in_network(rec: Recommender, sequences: Sequences, *, longest: int = 50) -> Spread:
    """Return the same of a trained network alone: the last event of each user is the target, the rest was read.

    Args:
        sequences: histories, in its terms; users with fewer than `longest` + 2 events are left out.
        longest: lags go from 0 to this.

    Raises:
        ArgumentError: no user has so many events.

    Cost: one reading of the histories, and a backward pass over their last events.
    """
    users = np.flatnonzero(sequences.lengths >= longest + 2)
    if not len(users):
        raise ArgumentError(
            f"gradient_in_network: expected a user with {longest + 2} events or more, found none. Take a smaller lag."
        )
    histories = sequences.select(users)
    ends, steps = histories.offsets[1:] - 1, longest + 1
    early = np.arange(len(histories.items)) < np.repeat(ends - steps, histories.lengths)
    memory, _ = encode_users(rec.network, rec.params, histories.keep(early))
    position = np.arange(-steps, 0)[:, None] + histories.lengths
    window, _ = window_of(histories, np.arange(len(histories)), position)
    params, memory, window = jax.tree.map(jnp.asarray, (rec.params, memory, window))
    targets = jnp.asarray(histories.items[ends])

    def loss(x: Array) -> Array:
        _, output = rec.network.scan_inputs(params, memory, x, window)
        unknown = jnp.full(len(targets), jnp.nan)
        scores = rec.network.scores(params, rec.network.query(params, output[-1], unknown)).at[:, 0].set(-1e30)
        return -jnp.sum(jax.nn.log_softmax(scores)[jnp.arange(len(targets)), targets])

    gradient = np.asarray(jax.jit(jax.grad(loss))(rec.network.inputs(params, window)))
    return spread(_lengths(gradient)[::-1])


def _lengths(gradient: Floats) -> NDArray[np.float64]:
    """Return float64[T, B], the length of each vector: float32 would lose its square below 1e-19."""
    lengths: NDArray[np.float64] = np.linalg.norm(gradient.astype(np.float64), axis=-1)
    return lengths
