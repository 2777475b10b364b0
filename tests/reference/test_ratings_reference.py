"""Slow and obvious against fast: the evaluation, event by event in the order of time; the head in float64."""

import numpy as np
import polars as pl
import pytest
from scipy import optimize

import segue
from segue.evaluation.baselines.rating_baselines import Ratings, Size, biased_factors, running_biases
from segue.evaluation.ratings import predict_ratings, rating_queries
from segue.model.heads import DECAYS
from segue.model.rating_distribution import shares_of
from tests_support import rated_log, small_rater


def slowly(rec, test, reads):
    """Return (user, time, item, prediction) of each held-out rating, walking through time second by second."""
    history, found, shared, states = test.history.table, [], rec.shared(), {}
    held = test.table.with_columns(held=True)
    rows = pl.concat(
        [
            history.with_columns(held=False).cast({"user": pl.String, "item": pl.String}),
            held.cast({"user": pl.String, "item": pl.String}),
        ]
    )
    for _, moment in rows.group_by("time", maintain_order=True):
        before, given = dict(states), []
        for row in moment.rows(named=True):
            state = before.get(row["user"], rec.start())
            if row["held"] and row["rating"] is not None:
                using = shared if reads == "all" else None
                mean = rec.predict_rating(state, row["item"], at=row["time"] / 1e6, shared=using)
                found.append((row["user"], row["time"], row["item"], mean))
                given.append(rec.rated(state, row["item"], row["rating"], at=row["time"] / 1e6))
        for row in moment.rows(named=True):
            if not row["held"] or reads == "all":
                state = states.get(row["user"], rec.start())
                states[row["user"]] = rec.observe(state, row["item"], time=row["time"] / 1e6, rating=row["rating"])
        for event in given:
            shared = rec.observe_shared(shared, event)
    return found


@pytest.mark.parametrize("reads", ["all", "history"])
def test_evaluation_is_the_walk_through_time(reads):
    rec, log = small_rater(), rated_log(events=90)
    _, test = segue.split_by_time(log, test=0.5)
    asked = rating_queries(rec, test, None, reads)
    fast = predict_ratings(rec, asked, shared=reads == "all")[0]
    slow = slowly(rec, test, reads)
    assert len(slow) == len(fast) == test.table["rating"].count()
    users = asked.sequences.users
    keys = [(users[int(u)], int(t)) for u, t in zip(asked.users, asked.times, strict=True)]
    for key in set(keys):
        ours = sorted(value for at, value in zip(keys, fast.tolist(), strict=True) if at == key)
        theirs = sorted(value for user, time, _, value in slow if (user, time) == key)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_head_is_its_equation():
    rec, p = small_rater(), small_rater().params.rating
    events = [("003", 5.0), ("007", None), ("003", 2.0)]
    state = rec.start()
    sums, counts, taste = np.zeros(3), np.zeros(3), np.zeros(8)
    for item, rating in events:
        row = rec.vocabulary.row(item)
        state = rec.observe(state, item, rating=rating)
        x, n = 0.0, 0.0
        if rating is not None:
            x, n = np.float16(rating - 3.5) - float(p.tables.bias[row]), 1.0
        sums, counts = sums * DECAYS + x, counts * DECAYS + n
        taste = taste + x * rec.params.items[row].astype(float) * 8**0.5
    row = rec.vocabulary.row("004")
    output = rec.network.query(rec.params, state.memory.output, np.float32([np.nan]))[0].astype(float)
    wanted = output @ p.preference + taste / (counts[0] + np.exp(p.shrink[3])) @ p.kindred + p.taste
    latent = 3.5 + p.tables.bias[row] + p.offset[0] + output @ p.user + wanted @ rec.params.items[row] * 8**0.5
    latent += (sums / (counts + np.exp(p.shrink[:3]))) @ p.weight
    assert rec.predict_rating(state, "004") == pytest.approx(np.clip(latent, 1, 5), abs=1e-3)


@pytest.mark.parametrize("loss", ["squared", "ordinal"])
def test_what_is_said_of_a_rating_is_its_equation(loss):
    rec = small_rater(loss=loss)
    p, state = rec.params.rating, rec.observe(rec.start(), "003", rating=2.0)
    output = rec.network.query(rec.params, state.memory.output, np.float32([np.nan]))[0].astype(float)
    spread = np.exp(output @ p.spread + p.spread_offset[0])
    latent = float(rec.rated(state, "004", 3.0).residual) * -1 + 3.0
    found = rec.rating_distribution(state, "004")
    assert [*found.shares] == [1, 2, 3, 4, 5]
    if loss == "ordinal":
        cuts = np.array([1.5, 2.5, 3.5, 4.5]) + p.cuts
        shares = np.maximum(np.diff([0.0, *(1 / (1 + np.exp((latent - cuts) / spread))), 1.0]), 0)
    else:
        shares = flattest(np.clip(latent, 1.01, 4.99), spread, np.arange(1.0, 6.0))
    np.testing.assert_allclose([*found.shares.values()], shares, atol=1e-4)
    mean = sum(share * step for step, share in found.shares.items())
    variance = sum(share * (step - mean) ** 2 for step, share in found.shares.items())
    assert (found.mean, found.deviation) == pytest.approx((mean, variance**0.5), abs=1e-4)
    assert found.mean == pytest.approx(np.clip(latent, 1.01, 4.99) if loss == "squared" else shares @ np.arange(1, 6))


def flattest(mean, deviation, steps):
    """The shares of most entropy with a mean and at most a deviation, by a general solver."""
    away = steps - mean
    held = [
        {"type": "eq", "fun": lambda p: [p.sum() - 1, p @ away]},
        {"type": "ineq", "fun": lambda p: deviation**2 - p @ away**2},
    ]
    begin, bounds = np.full(len(steps), 1 / len(steps)), [(1e-9, 1)] * len(steps)
    options = {"ftol": 1e-12, "maxiter": 500}
    found = optimize.minimize(
        lambda p: p @ np.log(p), begin, bounds=bounds, constraints=held, method="SLSQP", options=options
    )
    assert found.success
    return found.x


@pytest.mark.parametrize(("mean", "deviation"), [(4.55, 1.59), (4.55, 0.6), (3.0, 0.9), (3.0, 9.0), (1.2, 0.5)])
def test_shares_are_the_flattest(mean, deviation):
    steps = (1.0, 2.0, 3.0, 4.0, 5.0)
    found = shares_of(np.array([mean]), np.array([deviation]), steps)
    np.testing.assert_allclose(found.shares[0], flattest(mean, deviation, np.array(steps)), atol=1e-4)


def test_running_biases_by_hand():
    train = Ratings(np.array([0, 0]), np.array([0, 1]), np.array([4.0, 2.0]), np.array([1, 2]))
    test = Ratings(np.array([0, 0]), np.array([0, 0]), np.array([5.0, 1.0]), np.array([3, 3]))
    # 4 comes first, from a mean of 0: user and item have 4. Then 2, from mean 4 and user 4 / 2: user 4 + 2 - 4.
    user = (4.0 - 2.0) / (2 + 1)
    item = 4.0 / (1 + 1)
    found = running_biases(train, test, Size(1, 2), user=1, item=1, kept=1.0)
    assert found.tolist() == pytest.approx([3.0 + user + item] * 2)  # blind to each other


def test_factors_find_a_product():
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(40, 2)), rng.normal(size=(30, 2))
    where = np.argwhere(rng.random((40, 30)) < 0.7)
    ratings = Ratings(where[:, 0], where[:, 1], 3 + (users @ items.T)[where[:, 0], where[:, 1]], np.arange(len(where)))
    cut = len(where) * 9 // 10
    order = rng.permutation(len(where))
    train, test = ratings.rows(order[:cut]), ratings.rows(order[cut:])
    found = biased_factors(train, test, Size(40, 30), rank=4, ridge=0.1, rounds=20)
    assert np.sqrt(np.mean((found - test.rating) ** 2)) < 0.3 * test.rating.std()
