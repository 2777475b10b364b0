"""Ratings whose best error is known: most of it is reached, noise stays at its spread, next items are not disturbed."""

import numpy as np
import polars as pl
import pytest

import segue
from segue.evaluation.ratings import evaluate_ratings
from segue.model.backend import leaves

QUICK = {
    "train.task": "rating",
    "model.width": 16,
    "model.depth": 1,
    "model.dropout": 0.1,
    "train.epochs": 16,
    "train.batch_size": 16,
    "train.learning_rate": 0.01,
    "experiment.weight_average": 0.99,
}


def films(*, users=300, length=24, items=40, own=0.8, liking=0.6, noise=0.5, seed=0):
    """Ratings = 3 + the user's bias + the item's + the user's liking of its kind + noise."""
    rng = np.random.default_rng(seed)
    bias, of_item = rng.normal(0, own, users), rng.normal(0, 0.5, items)
    kinds, likes = np.arange(items) % 2 * 2 - 1, rng.normal(0, liking, users)
    user = np.tile(np.arange(users), length)
    item = np.concatenate([rng.integers(0, items, users) for _ in range(length)])
    rating = 3 + bias[user] + of_item[item] + likes[user] * kinds[item] + rng.normal(0, noise, len(user))
    table = pl.DataFrame({"user": user, "item": item, "time": np.arange(len(user)) * 60, "rating": rating})
    return segue.read_events(table)


def test_new_users_are_rated_near_the_best():
    train, test = segue.split_users(films(), share=0.2)
    rec = segue.train(train, config=QUICK)
    late = test.with_table(test.table.filter(pl.int_range(pl.len()).over("user") >= 12))
    late = late.with_table(
        late.table, history=test.with_table(test.table.filter(pl.int_range(pl.len()).over("user") < 12))
    )
    report = evaluate_ratings(rec, late, train=train)
    rows = {name.partition(" (")[0]: row["rmse"] for name, row in report.rows.items()}
    assert rows["segue"] < 0.7  # the noise alone is .5; two unknown numbers from 12 to 23 ratings cost some
    assert rows["segue"] < 0.8 * rows["running biases"]
    assert rows["running biases"] < rows["biases"]
    assert report.coverage["90 %"] == pytest.approx(0.9, abs=0.06)
    assert report.improvement.low > 0


def test_noise_has_the_error_of_its_spread():
    train, test = segue.split_by_time(films(own=0, liking=0, noise=0.7), test=0.2)
    usual = {"train.task": "rating", "model.width": 16, "train.epochs": 6}
    report = evaluate_ratings(segue.train(train, config=usual), test)
    assert report.rows["segue"]["rmse"] == pytest.approx(0.7, rel=0.06)


def test_the_next_item_is_predicted_as_if_there_were_no_ratings():
    log, settings = films(users=60, length=10), {"train.epochs": 1, "model.width": 8, "model.dropout": 0.2}
    both = segue.train(log, config=settings)
    plain = segue.train(log, config=settings | {"train.task": "next"})
    assert (both.config.train.task, plain.network.rating) == ("both", None)
    kept = dict(leaves(both.params._replace(rating=())))
    fresh = dict(leaves(plain.params))
    assert kept.keys() == fresh.keys()
    for name, weights in fresh.items():
        np.testing.assert_allclose(kept[name], weights, atol=1e-5, err_msg=name)
    assert np.abs(both.params.rating.weight - 1 / 3).max() > 1e-4  # and the head has learnt
    state, other = both.observe(both.start(), "3", rating=4), plain.observe(plain.start(), "3", rating=4)
    np.testing.assert_allclose(both.score(state), plain.score(other), atol=1e-4)
    without = segue.Events(log.table.drop("rating"))
    assert segue.train(without, config=settings).config.train.task == "next"


@pytest.mark.parametrize("loss", ["squared", "ordinal"])
def test_both_tasks_learn_on_one_state(loss):
    log = films(users=60, length=12)
    stars = log.with_table(log.table.with_columns(pl.col("rating").round().clip(1, 5)))
    rec = segue.train(
        stars, config={"train.task": "both", "train.rating_loss": loss, "train.epochs": 2, "model.width": 8}
    )
    state = rec.observe(rec.start(), "3", rating=5)
    found = rec.rating_distribution(state, "4")
    assert list(found.shares) == [1, 2, 3, 4, 5]
    assert len(rec.recommend(state, 3)) == 3
    assert {"ndcg@10", "rmse"} <= set(rec.facts["curve"][-1]["validation"])
