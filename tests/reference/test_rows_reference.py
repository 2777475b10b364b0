"""Updates that touch some rows against a twin that computes every row at every step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import polars as pl

from segue.config import Config, ExperimentConfig, ModelConfig, TrainConfig
from segue.data.sequences.batches import Batches
from segue.data.sequences.sequences import Sequences
from segue.model.cells import make_cell
from segue.model.network import Network
from segue.training.update.losses import Candidates, softmax_cross_entropy
from segue.training.update.negatives import Sampler
from segue.training.update.optimiser import kept_share, make_optimiser
from segue.training.update.sparse_rows import Learnt
from segue.training.update.update import NO_ITEM_DATA, Carried, Run, Update, begin, loss_of, settled, update

ROWS = 60
CONFIG = Config(
    model=ModelConfig(width=8, dropout=0.1),
    train=TrainConfig(batch_size=2, bptt_steps=3, negatives=5, weight_decay=0.5, learning_rate=0.005),
    experiment=ExperimentConfig(weight_average=0.9),
)
NETWORK = Network(make_cell("linear"), ROWS, 8, 1)


def windows():
    rng = np.random.default_rng(0)
    items = rng.integers(1, ROWS, 120).astype(np.int32)
    log = Sequences(pl.Series([str(u) for u in range(12)]), np.arange(0, 121, 10), items)
    sampler = Sampler.of(np.bincount(items), ROWS, CONFIG.train.negatives)
    for number, batch in enumerate(Batches(log, 2, 3, seed=0).windows(0)):
        yield number, batch, sampler.sample(batch, sampler.draw((0, number), sampler.count))


@partial(jax.jit, static_argnums=0)
def dense_update(config, run, batch, candidates, touched, seed, rate):
    grad = jax.value_and_grad(partial(loss_of, NETWORK, config), has_aux=True)
    (_, carried), gradient = grad(
        run.learnt.params, Carried(run.memory, run.carried), batch, candidates, NO_ITEM_DATA, seed
    )
    change, optimiser = make_optimiser(config.train).update(gradient, run.learnt.optimiser, run.learnt.params)
    old = run.learnt.params
    params = jax.tree.map(lambda weights, delta: weights - rate * delta, old, change)
    decayed = old.items * (1 - rate * config.train.weight_decay)
    params = params._replace(
        items=jnp.where(touched[:, None], params.items, decayed), bias=jnp.where(touched, params.bias, old.bias)
    )
    kept = kept_share(config.experiment.weight_average, run.now.step.astype(jnp.float32))
    average = jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, run.learnt.average, params)
    return Run(Learnt(params, average, optimiser), carried.memory, None, run.now._replace(step=run.now.step + 1))


def test_updates_of_touched_rows_are_the_dense_twin():
    sparse = begin(NETWORK, CONFIG)
    dense = sparse._replace(touched=None)
    one = jax.jit(partial(update, NETWORK, CONFIG))
    for number, batch, sampled in windows():
        seed, rate = np.uint32(number), np.float32(0.005 / (1 + 0.1 * number))
        sparse, _ = one(sparse, Update(sampled, seed, rate))
        real = sampled.rows[sampled.rows < ROWS]
        touched = np.isin(np.arange(ROWS), real)
        assert 0 < touched.sum() < ROWS
        candidates = Candidates(
            sampled.rows[sampled.candidates], sampled.log_expected, sampled.target_log_expected.reshape(-1)
        )
        dense = dense_update(CONFIG, dense, batch, candidates, touched, seed, rate)
    sparse = settled(sparse)
    for ours, twin in zip(jax.tree.leaves(sparse.learnt), jax.tree.leaves(dense.learnt), strict=True):
        np.testing.assert_allclose(ours, twin, atol=1e-6)
    moments = optax.tree_utils.tree_get(sparse.learnt.optimiser, "mu")
    assert float(jnp.abs(moments.items).max()) > 0


def plain(query, items, bias, targets, weights, candidates, hidden):
    """Each position alone: the target and the candidates that are neither the target nor hidden."""
    total = 0.0
    for n, target in enumerate(targets):
        others = [s for s, row in enumerate(candidates.rows) if row not in (target, 0) and not hidden[n, s]]
        logits = [query[n] @ items[target] + bias[target] - candidates.target_log_expected[n]]
        logits += [
            query[n] @ items[candidates.rows[s]] + bias[candidates.rows[s]] - candidates.log_expected[s] for s in others
        ]
        total += weights[n] * (jax.nn.logsumexp(jnp.stack(logits)) - logits[0])
    return total


def test_sampled_loss_and_gradient_are_the_plain_formula():
    rng = np.random.default_rng(0)
    query, items = (jnp.asarray(rng.standard_normal((n, 5), dtype=np.float32)) for n in (12, 11))
    bias = jnp.asarray(rng.standard_normal(11, dtype=np.float32))
    targets = rng.integers(1, 11, 12).astype(np.int32)
    weights = rng.integers(0, 2, 12).astype(np.float32)
    drawn = Candidates(
        np.array([3, 3, 7, 1, 0], np.int32),
        rng.standard_normal(5, dtype=np.float32),
        rng.standard_normal(12, dtype=np.float32),
    )
    hidden = rng.random((12, 5)) < 0.4
    wanted = jax.value_and_grad(plain, (0, 1, 2))(query, items, bias, targets, weights, drawn, hidden)
    for chunk in (4, 12):
        ours = jax.value_and_grad(softmax_cross_entropy, (0, 1, 2))
        got = ours(query, items, bias, targets, weights, drawn, hidden, chunk)
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
        for a, b in zip(got[1], wanted[1], strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)


def test_expected_counts_are_what_many_draws_hold():
    items = np.repeat(np.arange(1, 6), [1, 4, 9, 16, 25]).astype(np.int32)
    sampler = Sampler.of(np.bincount(items), 6, 3000)
    cells = np.zeros((1, 1), np.int32)
    batch = next(Batches(Sequences(pl.Series(["a"]), np.array([0, 55]), items), 1, 1, 0).windows(0))
    sampled = sampler.sample(batch._replace(items=cells, targets=cells + 1), sampler.draw((0, 0), 3000))
    counts = np.bincount(sampled.rows[sampled.candidates], minlength=6)
    expected = np.exp(sampler.log_expected(np.arange(6, dtype=np.int32)))
    np.testing.assert_allclose(expected[1:], 3000 * np.arange(1, 6) / 15, rtol=1e-5)
    np.testing.assert_allclose(counts[1:], expected[1:], rtol=0.15)
    assert counts[0] == 0
