"""law: a rating by scan is that by steps; same-second ratings are blind; sharing and forgetting cancel."""

from dataclasses import replace

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import segue
from segue.data.log.rating_scale import Scale
from segue.evaluation.ratings import predict_ratings, rating_queries
from segue.model.backend import leaves
from segue.model.heads import RatingHead
from segue.recommend.batch import observe_each, observe_long, score_each, state_from_bytes, state_to_bytes
from segue.recommend.ratings import Rated, outputs_at
from segue.store.events import Event
from tests_support import rated_log, small_rater, small_recommender

BOTH = pytest.mark.parametrize(("loss", "task"), [("squared", "both"), ("ordinal", "both"), ("squared", "rating")])


def observed(rec, rows):
    state = rec.start()
    for row in rows:
        state = rec.observe(state, row["item"], time=row["time"] / 1e6, rating=row["rating"])
    return state


@BOTH
def test_law_scan_predicts_as_steps(loss, task):
    rec, log = small_rater(loss=loss, task=task), rated_log()
    states = rec.encode(log)
    for user in states.users:
        rows = log.table.filter(pl.col("user") == user).rows(named=True)
        state, scanned = observed(rec, rows), states.of(user)
        events = [Event("", row["item"], row["time"], None, row["rating"], None, {}) for row in rows]
        long = observe_long(rec, rec.start(), events)
        for other in (scanned, long, state_from_bytes(rec, state_to_bytes(state))):
            np.testing.assert_allclose(other.memory.output, state.memory.output, atol=2e-5)
            assert other.memory.output.dtype == np.float32
        one, two = (rec.rating_distribution(s, "003", at=50) for s in (state, scanned))
        np.testing.assert_allclose(one[:2], two[:2], atol=1e-4)
        assert sum(one.shares.values()) == pytest.approx(1, abs=1e-4)
        assert sum(step * share for step, share in one.shares.items()) == pytest.approx(one.mean, abs=1e-4)
        assert 1 <= one.mean <= 5


LEVELS = st.lists(st.integers(-50, 50), min_size=3, max_size=25, unique=True).map(sorted)


@given(LEVELS, st.sampled_from([0.01, 0.5, 1.0, 1000.0]), st.floats(-0.2, 1.2), st.floats(1e-3, 3))
def test_law_shares_have_the_mean_and_the_deviation_that_are_said(levels, unit, place, wide):
    steps = np.array(levels) * unit
    width, ends = steps[-1] - steps[0], (steps[0] + 0.01 * (steps[1] - steps[0]), steps[-1] - 0.01 * np.diff(steps)[-1])
    latent, spread = np.float32([steps[0] + place * width]), np.float32([wide * width])
    head = RatingHead(Scale(tuple(steps.tolist()), float(steps.mean())), 4)
    mean, deviation, shares = (array[0] for array in head.distribution((), latent, spread))
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert shares.min() >= 0
    assert shares @ steps == pytest.approx(mean, abs=1e-4 * width)
    assert np.sqrt(shares @ (steps - mean) ** 2) == pytest.approx(deviation, abs=1e-3 * width)
    assert mean == pytest.approx(np.clip(latent[0], *ends), abs=1e-4 * width)
    assert steps[0] <= mean <= steps[-1]
    rising = np.diff(np.log(np.maximum(shares, 1e-30)))
    assert np.count_nonzero(np.diff(np.sign(rising[np.abs(rising) > 1e-4]))) <= 1  # one hill, no valley


@given(st.floats(0.1, 0.9), st.floats(0.05, 3))
def test_law_a_deviation_that_the_scale_permits_is_said(place, wide):
    steps = (1.0, 2.0, 3.0, 4.0, 5.0)
    mean, head = np.float32([1 + 4 * place]), RatingHead(Scale(steps, 3.0), 4)
    widest = head.distribution((), mean, np.float32([9])).deviation
    least = np.sqrt((mean % 1) * (1 - mean % 1))
    found = head.distribution((), mean, np.float32([wide])).deviation
    assert found == pytest.approx(np.clip(wide, least, widest), abs=0.06)  # at the least a little more
    if least + 0.06 < wide < widest:
        assert found == pytest.approx(wide, abs=1e-4)


@pytest.mark.parametrize(
    ("scale", "mean", "deviation"),
    [
        (Scale((0.0, 1.0), 0.5), [0.01, 0.8, 0.99], [0.0995, 0.4, 0.0995]),  # a thumb up or down
        (Scale((0.0, 1.0), 0.5, closed=False), [0.0, 0.8, 1.0], [0.9, 0.9, 0.9]),  # measurements
    ],
)
def test_without_steps_mean_and_deviation_are_within_the_scale(scale, mean, deviation):
    found = RatingHead(scale, 4).distribution((), np.float32([-1, 0.8, 9]), np.float32([0.9, 0.9, 0.9]))
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)
    np.testing.assert_allclose(found.deviation, deviation, atol=1e-4)
    assert found.shares.size == 0


def test_law_many_users_step_as_one():
    rec = small_rater()
    states = [rec.start(), rec.observe(rec.start(), "001", time=3, rating=2)]
    events = [Event("", "004", 9_000_000, None, rating, None, {}) for rating in (5.0, None)]
    for now, before, event in zip(observe_each(rec, states, events), states, events, strict=True):
        alone = rec.observe(before, "004", time=9, rating=event.rating)
        np.testing.assert_allclose(now.memory.output, alone.memory.output, atol=1e-5)


def test_law_jax_computes_what_numpy_does():
    rec, rng = small_rater(), np.random.default_rng(0)
    read = rng.normal(size=(5, rec.network.read_width)).astype(np.float32)
    from segue.model.heads import ItemSide

    side = ItemSide(rec.params.rating.tables.bias[:5], rec.params.items[:5])
    gaps = np.float32([0, 1, 1e5, np.nan, 7])
    read[:, rec.network.width :] = np.abs(read[:, rec.network.width :])
    ours = rec.network.rate(rec.params, read, gaps, side)
    theirs = jax.jit(rec.network.rate)(rec.params, read, gaps, side)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_law_ratings_of_one_second_are_blind_to_each_other():
    rec, log = small_rater(), rated_log(missing=0.0, seconds=8)
    _, test = segue.split_by_time(log, test=0.6)

    def predicted(table):
        part = test.with_table(table, history=test.history)
        asked = rating_queries(rec, part, None, "all")
        found = predict_ratings(rec, asked)[0]
        keys = zip(asked.users.tolist(), asked.times.tolist(), asked.rows.tolist(), strict=True)
        return dict(zip(keys, found.tolist(), strict=True))

    last = test.table["time"].max()
    changed = test.table.with_columns(
        pl.when(pl.col("time") == last).then(pl.col("rating") % 5 + 1).otherwise("rating")
    )
    shuffled = test.table.sample(fraction=1, shuffle=True, seed=1).sort("time", maintain_order=True)
    plain = predicted(test.table)
    assert changed["rating"].to_list() != test.table["rating"].to_list()
    assert predicted(changed) == pytest.approx(plain, abs=1e-5)
    # What came earlier does matter: in which order one second was written does not, but for what reads after it.
    first = test.table["time"].min()
    again = predicted(shuffled)
    assert {k: v for k, v in again.items() if k[1] == first} == pytest.approx(
        {k: v for k, v in plain.items() if k[1] == first}, abs=1e-5
    )
    early = test.table.with_columns(pl.when(pl.col("time") == first).then(pl.col("rating") % 5 + 1).otherwise("rating"))
    assert predicted(early) != pytest.approx(plain, abs=1e-3)


def test_law_forgetting_undoes_sharing_to_the_bit():
    rec, rng = small_rater(), np.random.default_rng(4)
    start = rec.shared()
    events = [Rated(int(rng.integers(0, 12)), float(rng.normal())) for _ in range(50)]
    shared = start
    for event in events:
        shared = rec.observe_shared(shared, event)
    kept = shared
    for place in rng.permutation(50):
        shared = rec.forget_shared(shared, events[place])
    assert kept.every.number == sum(tally.number for tally in kept.items.values()) == 50
    assert shared == start == ({}, (0, 0))
    state = rec.start()
    assert rec.predict_rating(state, "003", shared=start) == rec.predict_rating(state, "003")


def test_law_saved_and_loaded_predicts_the_same(tmp_path):
    rec = small_rater(loss="ordinal")
    rec.save(tmp_path / "b")
    again = segue.load(tmp_path / "b")
    assert again.fingerprint == rec.fingerprint
    assert again.network == rec.network
    rows = [{"item": "003", "time": 1, "rating": 4.5}, {"item": "zz", "time": 9, "rating": None}]
    assert again.rating_distribution(observed(again, rows), "001", at=9) == rec.rating_distribution(
        observed(rec, rows), "001", at=9
    )


def test_law_a_network_without_ratings_is_as_it_was():
    rec = small_recommender()
    assert rec.params.rating == ()
    assert rec.network.read_width == rec.network.width
    assert not [path for path, _ in leaves(rec.params) if path.startswith("rating")]


def test_outputs_at_the_end_are_the_states_of_users():
    rec, log = small_rater(), rated_log()
    sequences, states = rec.sequences(log), rec.encode(log)
    users = np.arange(len(sequences))
    ends = outputs_at(rec, sequences, users, sequences.offsets[1:])
    np.testing.assert_allclose(ends, states.memory.output, atol=1e-6)
    starts = outputs_at(rec, sequences, users, sequences.offsets[:-1])
    np.testing.assert_allclose(starts, np.repeat(rec.start().memory.output, len(users), axis=0), atol=1e-5)


def test_law_lists_do_not_read_the_ledger():
    rec = small_rater()
    states = [rec.start(), rec.observe(rec.start(), "001", time=3, rating=2)]
    scores = score_each(rec, states, [None, None])[:, 1:]
    for row, state in zip(scores, states, strict=True):
        np.testing.assert_allclose(row, rec.score(state)[0], atol=1e-5)
    shifted = states[1].memory.output.copy()
    shifted[:, rec.network.width :] += 9.0
    other = replace(states[1], memory=states[1].memory._replace(output=shifted))
    np.testing.assert_array_equal(rec.score(other), rec.score(states[1]))
