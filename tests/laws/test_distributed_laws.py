"""Laws of training by several workers, simulated in one process."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from segue.config import Config, ExperimentConfig, ModelConfig, TrainConfig
from segue.data.sequences.batches import Batches
from segue.data.sequences.sequences import Sequences
from segue.kernels import build
from segue.model.cells import make_cell
from segue.model.network import Network
from segue.training.distributed.call import AXIS, WorkerCall, averaged, learn, rows_for_all
from segue.training.distributed.exchange import Exchange
from segue.training.distributed.parts import balanced, room, route
from segue.training.distributed.worker import WorkerTrainer
from segue.training.trainer import Trainer, fit
from segue.training.update.negatives import Sampler
from segue.training.update.sparse_rows import tables_of
from segue.training.update.update import NO_ITEM_DATA, Update, begin, begin_with, settled, update_many
from segue.training.validation import Validation

ROWS, UPDATES, LANES, STEPS, DRAWN = 61, 3, 2, 3, 5
CONFIG = Config(
    model=ModelConfig(width=8, dropout=0.1),
    train=TrainConfig(batch_size=LANES, bptt_steps=STEPS, negatives=DRAWN, weight_decay=0.5, learning_rate=0.005,
                      seed=3, precision="float32", epochs=2, seen_as_negatives=True, task="next"),
    experiment=ExperimentConfig(weight_average=0.9),
)  # fmt: skip
NETWORK = Network(make_cell("linear"), ROWS, 8, 1)


def log_of(seed, users=12, events=10):
    items = np.random.default_rng(seed).integers(1, ROWS, users * events).astype(np.int32)
    return Sequences(pl.Series(range(users)), np.arange(0, users * events + 1, events), items)


def updates_of(seed):
    """The updates of one call, with rows of the catalogue."""
    log = log_of(seed)
    sampler = Sampler.of(np.bincount(log.items), ROWS, DRAWN)
    windows = [next(Batches(log, LANES, STEPS, seed=n).windows(0)) for n in range(UPDATES)]
    sampled = [sampler.sample(window, sampler.draw((seed, n), DRAWN)) for n, window in enumerate(windows)]
    return [Update(one, np.uint32(9 * n), np.float32(0.005 / (1 + n))) for n, one in enumerate(sampled)]


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def simulated(function, workers):
    """A function of one worker for all workers at once; the loops in C know no such axis."""
    return jax.jit(jax.vmap(function, axis_name=AXIS, axis_size=workers, in_axes=(0, 0)))


@pytest.fixture(autouse=True)
def pure(monkeypatch):
    monkeypatch.setattr(build, "available", lambda: False)  # these settings are of no other test


@pytest.fixture(autouse=True, scope="module")
def quickly_compiled():
    """Compile without optimisations: each program here runs a few times."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def begun(workers):
    """The runs of workers that own the table by rows, as if they had learnt for a while."""

    def later(run):
        return run._replace(now=run.now._replace(step=run.now.step + 7))

    shards = [jax.tree.map(jnp.asarray, NETWORK.init(CONFIG.train.seed, worker, workers)) for worker in range(workers)]
    own = stack([later(begin_with(NETWORK, CONFIG, shard)) for shard in shards])
    return own, later(begin(NETWORK, CONFIG))


@pytest.mark.parametrize("same", [False, True])
def test_law_a_call_of_workers_is_the_mean_of_what_each_would_learn_alone(same):
    seeds = [0, 0, 0] if same else [0, 1, 2]
    workers, runs = 3, None
    runs, whole = begun(workers)
    many = [updates_of(seed) for seed in seeds]
    alone = [
        settled(update_many(NETWORK, CONFIG, jax.tree.map(np.array, whole), stack(each), np.int32(UPDATES))[0])
        for each in many
    ]
    space = room(UPDATES, LANES * STEPS, LANES, UPDATES * DRAWN, workers)
    calls, touched = [], np.zeros((workers, ROWS), bool)
    for worker, each in enumerate(many):
        way = route([new.window.rows for new in each], ROWS, workers, space)
        placed = [new._replace(window=new.window._replace(rows=at)) for new, at in zip(each, way.places, strict=True)]
        calls.append(WorkerCall(stack(placed), way.rows, NO_ITEM_DATA, np.float32([worker]), np.float32([1])))
        rows = np.concatenate([new.window.rows for new in each])
        touched[worker, rows[rows < ROWS]] = True
    assert same or (0 < touched.all(0).sum() < touched.any(0).sum() < ROWS)  # some by all, some by one, some by none
    together, heard = simulated(lambda run, call: learn(NETWORK, CONFIG, run, call, np.int32(UPDATES)), workers)(
        runs, stack(calls)
    )
    assert heard.largest[0] == 2 and heard.summed[0] == 3
    share = touched / np.maximum(touched.sum(0), 1)
    share[:, ~touched.any(0)] = 1 / workers  # as if nobody had come by
    done = jax.vmap(settled)(together)
    for ours, theirs in zip(
        tables_of(done.learnt), zip(*(tables_of(run.learnt) for run in alone), strict=True), strict=True
    ):
        for name in ("items", "bias"):
            wanted = sum(
                np.asarray(getattr(one, name)) * part.reshape(-1, *[1] * (getattr(one, name).ndim - 1))
                for one, part in zip(theirs, share, strict=True)
            )
            got = np.stack(getattr(ours, name))
            for row in range(ROWS):
                np.testing.assert_allclose(got[row % workers, row // workers], wanted[row], atol=2e-6, err_msg=name)
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *(run.learnt.params.blocks for run in alone))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, np.stack([b] * workers), atol=2e-6),
                 done.learnt.params.blocks, mean)  # fmt: skip


def test_law_rows_are_fetched_from_their_owners():
    runs, whole = begun(3)
    rows = np.array([7, 0, 60, 7], np.int32)
    items, bias = simulated(lambda params, _: rows_for_all(params, rows), 3)(runs.learnt.params, np.zeros(3))
    for got in items:
        np.testing.assert_array_equal(got, whole.learnt.params.items[rows])
    np.testing.assert_array_equal(bias[0], whole.learnt.params.bias[rows])


@pytest.mark.parametrize("negatives", [0, DRAWN])
def test_law_one_worker_trains_as_one_process(negatives):
    config = replace(CONFIG, train=replace(CONFIG.train, negatives=negatives))
    log = log_of(0, users=30)
    validation = Validation(log.select(np.arange(9)), exclude_seen=True)
    plain = Trainer(NETWORK, config, log, validation)
    wanted = fit(plain)
    exchange = Exchange(jax.make_mesh((1,), (AXIS,)), 0)
    one = WorkerTrainer(NETWORK, config, log, validation, exchange=exchange)
    if negatives:
        draws = plain.sampler.draw
        one._sampled = lambda batch, step: one.sampler.sample(batch, draws((3, step), DRAWN))
    got = fit(one)
    assert [row.validation["ndcg@10"] for row in got.curve] == pytest.approx(
        [row.validation["ndcg@10"] for row in wanted.curve], abs=1e-6
    )
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), got.params, wanted.params)


def test_law_parts_hold_about_as_many_events_and_each_user_once():
    events = np.random.default_rng(0).pareto(1.1, 500).astype(np.int64)
    parts = balanced(events, 4)
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    sums = [events[part].sum() for part in parts]
    assert max(sums) <= max(events.max(), 1.01 * events.sum() / 4)


def test_law_rows_beyond_the_room_are_read_as_nothing():
    way = route([np.arange(9, dtype=np.int32)], items=8, workers=2, room=2)
    assert way.rows.tolist() == [[0, 1], [0, 1]]
    assert way.places[0].tolist() == [0, 2, 1, 3, 8, 9, 10, 11, 12]
    assert np.unique(way.places[0]).size == 9


def test_averages_are_means():
    runs, _ = begun(2)
    moved = runs._replace(learnt=runs.learnt._replace(average=jax.tree.map(lambda a: a + np.arange(2.0).reshape(
        2, *[1] * (a.ndim - 1)).astype(np.float32), runs.learnt.average)))  # fmt: skip
    got = simulated(lambda run, _: averaged(run), 2)(moved, np.zeros(2))
    np.testing.assert_allclose(got.start[0], np.mean(moved.learnt.average.start, axis=0), atol=1e-6)
    np.testing.assert_allclose(got.start[0], got.start[1])
