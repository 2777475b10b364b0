"""law: a window reads what was and asks for what comes; what is hidden is hidden, what is held out stays out."""

from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import polars as pl
import pytest

import segue
from segue.config import Config, ExperimentConfig, configure
from segue.data.features.feature_encoders import FeatureEncoders, encode_log
from segue.data.sequences.batches import Batches
from segue.data.sequences.sequences import Sequences, item_vocabulary
from segue.model.cells import make_cell
from segue.model.network import Network
from segue.training import blend
from segue.training.trainer import Trainer
from segue.training.update.seen_mask import hidden_classes
from segue.training.update.update import Carried, ItemData, drop_inputs, loss_of
from segue.training.validation import Validation
from tests_support import rated_log, small_rater, small_recommender

#: Nothing is hidden.
SHOWN = {
    "train.id_dropout": 0.0,
    **{f"experiment.{n}_dropout": 0.0 for n in ("item", "gap", "question", "event_feature", "profile")},
}


def marked(users=7, seed=0):
    """Sequences in which everything about an event says which event it is, and a profile whose it is."""
    lengths = np.random.default_rng(seed).integers(1, 9, users)
    number = np.arange(1, lengths.sum() + 1)
    return Sequences(
        pl.Series([f"u{user}" for user in range(users)]),
        np.concatenate([[0], np.cumsum(lengths)]),
        number.astype(np.int32),
        times=number * 3_000_000,
        ratings=number.astype(np.float32),
        details=number[:, None].astype(np.float16),
        weights=number.astype(np.float32),
        profiles=np.arange(1, users + 1, dtype=np.float32)[:, None],
    )


def test_law_a_window_reads_one_event_and_asks_for_the_next():
    log = marked()
    asked, owner = [], np.repeat(np.arange(1, len(log) + 1), log.lengths)
    for batch in Batches(log, lanes=2, steps=4, seed=3, rated=True).windows(0):
        real = batch.weights > 0
        first = batch.first & real
        np.testing.assert_array_equal(batch.details[..., 0], batch.items)
        np.testing.assert_array_equal(batch.items, np.where(batch.first, 0, batch.targets - 1))
        for name in ("weights", "ratings"):
            np.testing.assert_array_equal(getattr(batch, name)[real], batch.targets[real])
        np.testing.assert_array_equal(batch.query_details[real][:, 0], batch.targets[real])
        np.testing.assert_array_equal(batch.profiles[first][:, 0], owner[batch.targets[first] - 1])
        np.testing.assert_array_equal(batch.query_gaps[real & ~first], 3.0)
        asked += batch.targets[real].tolist()
    assert sorted(asked) == log.items.tolist()


def test_law_a_weight_is_that_of_the_event_whatever_the_order_of_the_log():
    rng = np.random.default_rng(2)
    users, kinds = rng.integers(0, 5, 60).astype(str), rng.integers(1, 4, 60).astype(str)
    log = segue.read_events(pl.DataFrame({"user": users, "item": kinds, "time": np.arange(60), "type": kinds}))
    vocabulary = item_vocabulary(log)
    weights = {"1": 1.0, "2": 2.0, "3": 3.0}
    sequences = encode_log(log, vocabulary, FeatureEncoders(), weight_of_type=weights)
    assert sequences.weights.tolist() == [weights[vocabulary.id(int(row))] for row in sequences.items]


HIDDEN = {
    "item": {"items": 0},
    "gap": {"gaps": np.nan},
    "question": {"query_gaps": np.nan, "query_details": 0},
    "event_feature": {"details": 0},
    "profile": {"profiles": 0},
}


@pytest.mark.parametrize("what", list(HIDDEN))
def test_law_what_is_hidden_is_that_and_nothing_else(what):
    batch = next(Batches(marked(40), lanes=8, steps=16, seed=1).windows(0))
    for rate in (0.999999, 0.4):
        hidden = drop_inputs(configure(SHOWN | {f"experiment.{what}_dropout": rate}).experiment, batch, np.uint32(9))
        for name, before in batch._asdict().items():
            if before is None or name not in HIDDEN[what]:
                assert before is None or np.array_equal(before, getattr(hidden, name), equal_nan=True)
                continue
            able = ~np.isnan(before) & (before != 0)
            gone = np.isclose(getattr(hidden, name), HIDDEN[what][name], equal_nan=True)[able]
            assert gone.mean() == 1 if rate > 0.9 else 0.1 < gone.mean() < 0.7


def test_law_hour_and_day_are_unknown_where_the_gap_is():
    batch = next(Batches(marked(40), lanes=8, steps=16, seed=1).windows(0))
    three = batch._replace(details=np.ones((16, 8, 3)), query_details=np.ones((16, 8, 3)))
    hidden = drop_inputs(ExperimentConfig(), three, np.uint32(9), (1, 2))
    for gaps, before, details in [
        (hidden.gaps, batch.gaps, hidden.details),
        (hidden.query_gaps, batch.query_gaps, hidden.query_details),
    ]:
        known = ~np.isnan(before)
        assert ((details[..., 1] == 0) == np.isnan(gaps))[known].all()
        assert (details[..., 0] == details[..., 2]).all()
        assert 0.02 < (details[..., 1] != details[..., 0]).mean() < 0.7


@pytest.mark.parametrize(("items", "negatives"), [(9, 0), (9, 6), (40, 6)])
def test_law_a_target_is_compared_with_what_a_list_may_hold(items, negatives):
    """Seen items are no classes, over windows and new users, for all items, drawn items and renumbered ones."""
    rng, users = np.random.default_rng(3), 30
    lengths = rng.integers(1, 14, users)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    log = Sequences(pl.Series(map(str, range(users))), offsets, rng.integers(1, items, offsets[-1]).astype(np.int32))
    train = {
        "seen_as_negatives": False,
        "negatives": negatives,
        "batch_size": 3,
        "bptt_steps": 4,
        "epochs": 1,
        "task": "next",
        "learning_rate": 0.01,
    }
    config = configure({f"train.{name}": value for name, value in train.items()} | {"model.width": 8})
    trainer = Trainer(Network(make_cell("gru"), items=items, width=8, depth=1), config, log)
    owner = np.repeat(np.arange(users), lengths)
    hidden_of_all = 0
    for number, (batch, places) in enumerate(trainer.batches.placed_windows(0)):
        new = trainer._update(batch, places[0], number, 0.0)
        classes = local = np.arange(items)
        if negatives:
            classes, local, batch = new.window.drawn, new.window.candidates, new.window.batch
        hidden = np.asarray(hidden_classes(new.before, batch, local))
        for t, lane in zip(*np.nonzero(batch.weights), strict=True):
            target = places[t, lane]
            had = set(log.items[offsets[owner[target]] : target].tolist()) - {int(log.items[target])}
            asked = classes > 0  # the unknown is no class anyway
            assert hidden[t, lane][asked].tolist() == [row in had for row in classes[asked].tolist()]
            hidden_of_all += len(had)
    assert hidden_of_all > 300
    assert (
        replace(trainer, config=replace(config, train=replace(config.train, seen_as_negatives=True))).histories is None
    )


def test_law_seen_items_are_not_pushed_down():
    rec = small_recommender()
    log = replace(marked(), items=(marked().items % 12 + 1).astype(np.int32), details=None, profiles=None)
    batch = next(Batches(log, lanes=1, steps=4, seed=3).windows(0))
    config = configure(SHOWN | {"model.dropout": 0.0}, base=Config(model=rec.config.model))
    before = np.ones((1, rec.network.items), bool)
    batch = batch._replace(first=np.zeros_like(batch.first))

    def gradient(before):
        carried = Carried(jax.tree.map(jax.numpy.asarray, rec.network.empty(rec.params, 1)), ())
        of = jax.grad(
            lambda p: loss_of(rec.network, config, p, carried, batch, None, ItemData(), np.uint32(5), before)[0]
        )
        return np.asarray(of(jax.tree.map(jax.numpy.asarray, rec.params)).bias)

    assert (gradient(None)[1:] != 0).all()
    assert not gradient(before).any()  # each target stands alone and cannot be missed


def loss(rec, network, settings):
    """Return the loss of a window as a compiled function of weights, window and what is known; nothing is dropped."""
    config = configure(settings | {"model.dropout": 0.0}, base=rec.config)

    def of(params, batch, known):
        memory = network.empty(params, batch.items.shape[1])
        return loss_of(network, config, params, Carried(memory, memory.output), batch, None, known, np.uint32(5))[0]

    return of


def test_law_an_item_whose_id_is_hidden_teaches_its_attributes_alone():
    rec = small_recommender()
    network = replace(rec.network, attributes=3)
    attributes = np.random.default_rng(1).normal(size=(network.items, 3)).astype(np.float32)
    log = replace(marked(), items=(marked().items % 12 + 1).astype(np.int32), details=None, profiles=None)
    batch = next(Batches(log, lanes=2, steps=3, seed=3).windows(0))
    learn = jax.jit(jax.grad(loss(rec, network, SHOWN | {"train.id_dropout": 0.5})))
    gradient = learn(network.init(0), batch, ItemData(attributes))
    hidden = np.asarray(gradient.bias) == 0
    assert 2 < hidden[1:].sum() < 10
    assert (np.asarray(gradient.items) == 0).all(axis=1).tolist() == hidden.tolist()
    assert all(np.abs(each).max() > 1e-6 for each in gradient.attributes)


def test_law_a_rating_is_not_learnt_from_one_of_the_same_moment():
    rec = small_rater(task="rating")
    noted = np.array([[0.5, 1], [1.5, 1], [-1.5, 1]], np.float16)
    of, known = jax.jit(loss(rec, rec.network, SHOWN)), ItemData(None, rec.params.rating.tables)
    for third, moves in ((2_000_000, False), (3_000_000, True)):
        times = np.array([1_000_000, 2_000_000, third])
        one = Sequences(pl.Series(["u"]), np.array([0, 3]), np.int32([1, 2, 3]), times, np.float32([4, 5, 2]), noted)
        losses = []
        for rating in (1.5, -2.5):  # of the second event, read at the position that asks for the third
            batch = next(Batches(one, 1, 3, 0, rated=True).windows(0))
            batch.details[2, 0, 0] = rating
            losses.append(float(of(rec.params, batch, known)))
        assert (abs(losses[0] - losses[1]) > 1e-4) == moves


def test_law_validation_makes_the_requests_of_a_server():
    rec = small_recommender()
    rng = np.random.default_rng(4)
    table = pl.DataFrame({"user": rng.integers(0, 5, 90).astype(str), "item": rng.choice(rec.items, 90)})
    log = segue.read_events(table, time="none")
    validation = Validation(rec.sequences(log), exclude_seen=True)
    answers = validation.answers(rec.network, rec.params)
    scores = blend.blend_scores(rec.counts, answers.scores(), answers.recent)
    hidden = answers.hidden(scores)
    for place, user in enumerate(validation.sequences.users):
        *before, last = table.filter(pl.col("user") == user)["item"]
        state = rec.observe_all(rec.start(), before)
        served = rec.score(state)[0]
        np.testing.assert_allclose(scores[place, 1:], served, atol=1e-4 * max(1.0, np.abs(served).max()))
        assert answers.targets[place] == rec.vocabulary.row(last)
        gone = set(np.flatnonzero(np.isneginf(hidden[place])))
        assert gone == ({0} | set(state.seen.to_rows().tolist())) - {rec.vocabulary.row(last)}


def test_law_the_rating_of_validation_is_predicted_from_strictly_earlier_events():
    rec, log = small_rater(task="rating"), rated_log(seconds=6, missing=0.0)
    found = Validation(rec.sequences(log), exclude_seen=False).measure(rec.network, rec.params)["rmse"]
    errors = []
    for rows in log.table.partition_by("user", maintain_order=True):
        state, last = rec.start(), rows.row(-1, named=True)
        for row in rows.filter(pl.col("time") < last["time"]).rows(named=True):
            state = rec.observe(state, row["item"], time=row["time"] / 1e6, rating=row["rating"])
        errors.append(rec.predict_rating(state, last["item"]) - last["rating"])
    assert found == pytest.approx(np.sqrt(np.mean(np.square(errors))), abs=1e-4)


def test_held_out_events_are_counted_nowhere(monkeypatch):
    log, seen = rated_log(users=12, events=120, missing=0.0), []
    left_out = blend.Blend(None, 0.0, 0.0, blend.BlendSettings())
    monkeypatch.setattr(blend, "tune_blend", lambda *given: seen.append(given) or left_out)
    settings = {"train.task": "both", "train.epochs": 1, "model.width": 8}
    rec = segue.train(log, config=settings)
    [(known, answers, size, *_)] = seen
    whole = rec.sequences(log)
    assert size == rec.vocabulary.size
    for user, (begin, end) in enumerate(pairwise(whole.offsets)):
        assert known.select(np.array([user])).items.tolist() == whole.items[begin : end - 1].tolist()
    assert answers.targets.tolist() == whole.items[whole.offsets[1:] - 1].tolist()
    assert rec.params.rating.tables.count.tolist() == np.bincount(known.items, minlength=size).tolist()
