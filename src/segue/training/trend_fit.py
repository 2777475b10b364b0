"""The ranker of trends, fitted on questions of a simulated stream, and what it gains on later ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from segue.metrics.metrics import ndcg
from segue.shapes import Bools, Floats, Times
from segue.trends.ranker import INPUTS, TrendRanker

#: Units of each hidden layer, questions of an update, updates, the highest learning rate, and the weight decay.
HIDDEN, BATCH, UPDATES, RATE, DECAY = 16, 128, 1_500, 3e-3, 1e-3
#: The last part of the questions, on which the gain is measured; questions that are needed for a fit.
LAST, LEAST = 0.2, 400


class Fit(NamedTuple):
    """A fitted ranker and its gain on questions later than those that it learnt.

    Args:
        ranker: None where the gain is no more than noise.
        live: NDCG@10 with the ranker.
        frozen: NDCG@10 of the model alone, on the same questions.
        error: the standard error of the difference.
    """

    ranker: TrendRanker | None
    live: float
    frozen: float
    error: float

    def __str__(self) -> str:
        scores = f"NDCG@10 on later events {self.frozen:.4f} frozen, {self.live:.4f} following the trends"
        return f"{'Lists follow the trends' if self.ranker else 'Trends are left out'}: {scores}."


class _Weights(NamedTuple):
    w_1: Array
    b_1: Array
    w_2: Array
    b_2: Array
    w_3: Array
    linear: Array


def fit_ranker(
    inputs: Floats,
    valid: Bools,
    targets: Times,
    frozen: NDArray[np.float64],
    shortest: int,
    *,
    seed: int,
    always: bool = False,
) -> Fit:
    """Return the ranker whose softmax over the candidates makes the taken ones likeliest, and its gain.

    Args:
        inputs: float32[question, n, INPUTS], in the order of time.
        valid: bool[question, n].
        targets: int64[question], the place of the item taken, -1 where it is not there.
        frozen: float64[question], the rank of the item by the model alone.
        shortest: the shortest half-life of the counts, in microseconds.
        seed: where the random numbers begin.
        always: keep the ranker whatever it gains.

    Cost: `UPDATES` of `BATCH` questions, some seconds.
    """
    cut = int(len(inputs) * (1 - LAST))
    learnt = np.flatnonzero(targets[:cut] >= 0)
    if len(learnt) < LEAST:
        return Fit(None, 0.0, 0.0, 0.0)
    ranker = _fitted(inputs, valid, targets, learnt, shortest, seed)
    live = ndcg(_ranks(ranker, inputs[cut:], valid[cut:], targets[cut:]), k=10)
    alone = ndcg(frozen[cut:], k=10)
    difference = live - alone
    error = float(difference.std() / len(difference) ** 0.5)
    kept = always or difference.mean() > 2 * error
    if kept:
        ranker = _fitted(inputs, valid, targets, np.flatnonzero(targets >= 0), shortest, seed)
    return Fit(ranker if kept else None, float(live.mean()), float(alone.mean()), error)


def _fitted(inputs: Floats, valid: Bools, targets: Times, learnt: Times, shortest: int, seed: int) -> TrendRanker:
    known = inputs[learnt][valid[learnt]]
    mean, deviation = known.mean(axis=0), known.std(axis=0) + 1e-3
    keys = jax.random.split(jax.random.key(seed), 2)
    zeros = jnp.zeros(HIDDEN)
    weights = _Weights(
        jax.random.normal(keys[0], (INPUTS, HIDDEN)) * INPUTS**-0.5, zeros,
        jax.random.normal(keys[1], (HIDDEN, HIDDEN)) * HIDDEN**-0.5, zeros, zeros, jnp.zeros(INPUTS),
    )  # fmt: skip
    schedule = optax.cosine_decay_schedule(RATE, UPDATES)
    optimiser = optax.adamw(schedule, weight_decay=DECAY)

    @jax.jit
    def update(weights: Any, state: Any, x: Array, some: Array, taken: Array) -> Any:
        gradient = jax.grad(_loss)(weights, x, some, taken)
        change, state = optimiser.update(gradient, state, weights)
        return optax.apply_updates(weights, change), state

    state: Any = optimiser.init(weights)
    rng = np.random.default_rng(seed)
    for _ in range(UPDATES):
        batch = rng.choice(learnt, BATCH)
        x = (inputs[batch] - mean) / deviation
        weights, state = update(weights, state, x, valid[batch], targets[batch])
    return _as_ranker(weights, mean, deviation, shortest, float((targets >= 0).mean()))


def _loss(weights: _Weights, x: Array, some: Array, taken: Array) -> Array:
    hidden = jax.nn.relu(jax.nn.relu(x @ weights.w_1 + weights.b_1) @ weights.w_2 + weights.b_2)
    scores = jnp.where(some, hidden @ weights.w_3 + x @ weights.linear, -1e9)
    own = jnp.take_along_axis(scores, taken[:, None], axis=1)[:, 0]
    return (jax.nn.logsumexp(scores, axis=1) - own).mean()


def _as_ranker(weights: _Weights, mean: Floats, deviation: Floats, shortest: int, found: float) -> TrendRanker:
    """Return the ranker that reads features as they come: the scaling is folded into the first weights."""
    w_1, b_1, w_2, b_2, w_3, linear = (np.asarray(part, np.float32) for part in weights)
    first = w_1 / deviation[:, None]
    odds = np.clip(np.log(max(found, 1e-3) / max(1 - found, 1e-3)), 0.0, 6.0)
    return TrendRanker(
        np.int64(shortest), first.astype(np.float32), (b_1 - mean @ first).astype(np.float32), w_2, b_2, w_3,
        (linear / deviation).astype(np.float32), np.float32(odds),
    )  # fmt: skip


def _ranks(ranker: TrendRanker, inputs: Floats, valid: Bools, targets: Times) -> NDArray[np.float64]:
    """Return float64[question], ranks among the candidates; infinite where the item is none of these."""
    scores = np.where(valid, ranker.scores(inputs), -np.inf)
    own = np.take_along_axis(scores, np.maximum(targets, 0)[:, None], axis=1)
    return np.where(targets >= 0, (scores >= own).sum(axis=1), np.inf)
