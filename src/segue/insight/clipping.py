"""Gradient clipping, in a recurrence whose gradient explodes.

A small network learns the copy task by plain gradient descent, with and without clipping: an
adaptive optimiser hides how long a gradient was.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from segue.data.log import synthetic
from segue.insight.gradients import with_gain
from segue.model.backend import draw_normal
from segue.model.cells import Cell
from segue.shapes import Rows

WIDTH, USERS, CUES, FILLERS = 32, 64, 4, 2


@dataclass(frozen=True)
class Descent:
    """A run, update by update; it ends where the loss becomes NaN or infinite.

    Args:
        loss: mean cross-entropy in nats.
        before: length of the gradient of all weights, before clipping.
        after: length after clipping.
        clip: the greatest length allowed; None clips nothing.
    """

    loss: tuple[float, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    clip: float | None


class _Weights(NamedTuple):
    cell: Any
    items: Any  # [V, d]
    readout: Any  # [d, V]


def descend(
    cell: Cell,
    *,
    clip: float | None,
    gain: float = 1.0,
    lag: int = 10,
    rate: float = 0.1,
    updates: int = 200,
    seed: int = 0,
) -> Descent:
    """Learn the copy task by gradient descent, `w <- w - rate g`, and record the length of each gradient.

    Args:
        clip: a longer gradient is scaled down to this length; its direction stays.
        gain: scales the recurrent matrix at the beginning.
        lag: of the copy task; the backward pass goes through all five rounds of it.
        rate: of learning.
        updates: at most.
        seed: of weights and task.

    Source: Pascanu, Mikolov and Bengio (2013), algorithm 1.
    """
    rng = np.random.default_rng(seed)
    items = _items(lag, seed)
    params = cell.init(rng, WIDTH)
    weights = _Weights(
        params if gain == 1.0 else with_gain(params, gain),
        rng.standard_normal((CUES + FILLERS + 1, WIDTH), dtype=np.float32),
        draw_normal(rng, (WIDTH, CUES + FILLERS + 1), WIDTH**-0.5),
    )
    clipper = optax.identity() if clip is None else optax.clip_by_global_norm(clip)

    def loss_of(weights: _Weights) -> Array:
        start = cell.start(weights.cell, USERS)
        inputs = cell.lift(weights.cell, weights.items[items[:-1]])
        _, y = cell.scan(weights.cell, start, inputs, jnp.zeros(items[:-1].shape, bool), start)
        losses: Array = optax.softmax_cross_entropy_with_integer_labels(y @ weights.readout, items[1:])
        return losses.mean()

    @jax.jit
    def update(weights: _Weights) -> tuple[_Weights, Array, Array, Array]:
        loss, gradient = jax.value_and_grad(loss_of)(weights)
        used, _ = clipper.update(gradient, clipper.init(weights))
        moved = jax.tree.map(lambda w, g: w - rate * g, weights, used)
        return moved, loss, _length(gradient), _length(used)

    weights, notes = jax.tree.map(jnp.asarray, weights), []
    for _ in range(updates):
        weights, *lengths = update(weights)
        if not np.isfinite(lengths).all():
            break
        notes.append([float(value) for value in lengths])
    loss, before, after = zip(*notes, strict=True) if notes else ((), (), ())
    return Descent(loss, before, after, clip)


def _length(gradient: _Weights) -> Array:
    """Return the length of all gradients as one vector."""
    length: Array = jnp.linalg.norm(ravel_pytree(gradient)[0])
    return length


def _items(lag: int, seed: int) -> Rows:
    """Return int32[T, user]: the copy task, users side by side."""
    shop = synthetic.copy(lag=lag, items=CUES, fillers=FILLERS, users=USERS, seed=seed)
    return shop.events["item"].str.slice(1).cast(int).to_numpy().reshape(-1, USERS).astype(np.int32)
