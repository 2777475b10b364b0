"""Small ordinary logs with no option: the loss ends no higher than it began, no answer is worse than a simple one."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segue
from segue.data.log.events import Events
from segue.evaluation.ratings import evaluate_ratings


def random_stars(*, users=50, each=6, items=12, seed=3):
    """Ratings drawn by chance on items that follow each other in a ring: nothing to learn of the ratings."""
    rng = np.random.default_rng(seed)
    user, place = np.repeat(np.arange(users), each), np.tile(np.arange(each), users)
    return pl.DataFrame(
        {
            "user": [f"u{u}" for u in user],
            "item": [f"i{(u + j) % items}" for u, j in zip(user, place, strict=True)],
            "time": 1_700_000_000 + 60 * place + user,
            "rating": rng.integers(1, 6, users * each).astype(float),
        }
    )


def trained(table, **options):
    said: list[str] = []
    rec = segue.train(segue.read_events(table), say=said.append, config=options)
    losses = [row["loss"] for row in rec.facts["curve"]]
    return rec, losses, said


def asked(rec, item="i3"):
    state = rec.start()
    for liked in ("i0", "i1", "i2"):
        state = rec.observe(state, liked, rating=rec.network.rating.scale.highest)
    return rec.rating_distribution(state, item)


@pytest.mark.parametrize("task", [None, "rating"])
def test_ratings_by_chance_are_learnt_without_divergence_and_answered_by_the_simple_model(task):
    rec, losses, said = trained(random_stars(), **({"train.task": task} if task else {}))
    assert losses[-1] <= losses[0]
    assert max(losses) < 2 * losses[0]
    assert any("moving biases of users and items predict" in line for line in said)
    found = asked(rec)
    assert 2 < found.mean < 4.2
    assert 1 < found.deviation < 2
    assert not rec.params.rating.preference.any()


def test_answers_move_with_the_scale_of_the_ratings():
    """Ratings times a thousand and more are predicted as a thousand times as much, with the same weights."""
    table = random_stars(users=40)
    options = {"train.epochs": 3, "experiment.norm": "clip", "train.precision": "float32"}
    plain = asked(trained(table, **options)[0])
    large = asked(trained(table.with_columns(rating=pl.col("rating") * 1000 + 70), **options)[0])
    assert large.mean == pytest.approx(1000 * plain.mean + 70, rel=1e-3)
    assert large.deviation == pytest.approx(1000 * plain.deviation, rel=1e-2)
    assert list(large.shares.values()) == pytest.approx(list(plain.shares.values()), abs=2e-3)


def test_a_quantity_with_a_heavy_tail_is_learnt_where_it_is_asked_for():
    rng = np.random.default_rng(5)
    table = random_stars(users=30).with_columns(rating=pl.Series(rng.lognormal(9, 2, 180).round()))
    rec, losses, said = trained(table, **{"train.task": "both", "train.epochs": 4})
    assert losses[-1] <= losses[0]
    assert any("lie far outside and count as the nearer end" in line for line in said)
    highest = rec.network.rating.scale.highest
    assert highest < table["rating"].max()
    assert 0 < asked(rec).mean < highest


def test_a_quantity_with_a_heavy_tail_is_not_predicted_unless_asked():
    rng = np.random.default_rng(5)
    table = random_stars(users=20).with_columns(rating=pl.Series(rng.lognormal(9, 2, 120).round()))
    rec, losses, said = trained(table, **{"train.epochs": 2})
    assert rec.network.rating is None
    assert any("a quantity with a heavy tail" in line and "--task both would" in line for line in said)
    assert np.isfinite(losses).all()
    state = rec.observe(rec.start(), "i0", rating=1e30)
    assert all(np.isfinite(item.score) for item in rec.recommend(state, k=5))


def test_one_outlier_among_stars_counts_as_the_highest_star():
    table = random_stars(users=30)
    wild = table.with_columns(rating=pl.when(pl.arange(pl.len()) == 100).then(1e12).otherwise("rating"))
    rec, losses, said = trained(wild, **{"train.epochs": 3})
    assert losses[-1] <= losses[0]
    assert any("1 to 5, 5 steps" in line and "1 lie far outside" in line for line in said)
    assert 1 <= asked(rec).mean <= 5
    train, test = segue.split_last(segue.read_events(wild))
    report = evaluate_ratings(rec, Events(test.table, "test", test.intake, test.history), train=train)
    assert report.rows["segue"]["rmse"] < 3


@given(
    users=st.integers(3, 60),
    items=st.integers(2, 20),
    each=st.integers(2, 9),
    kind=st.sampled_from(["two", "skewed", "constant but one", "tiny", "huge", "halves"]),
    gap=st.sampled_from([0, 1, 86_400, 86_400 * 365 * 3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=2, derandomize=True)
def test_law_the_loss_ends_no_higher_than_it_began(users, items, each, kind, gap, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=users * each)
    ratings = {
        "two": (drawn > 0).astype(float),
        "skewed": np.clip(np.round(4.4 + drawn), 1, 5),
        "constant but one": np.where(np.arange(len(drawn)) == 1, 1.0, 5.0),
        "tiny": 1e-6 * drawn,
        "huge": 1e9 * drawn,
        "halves": np.round(2 * drawn) / 2,
    }[kind]
    place = np.tile(np.arange(each), users)
    table = random_stars(users=users, each=each, items=items, seed=seed)
    table = table.with_columns(rating=pl.Series(ratings), time=pl.Series(1_500_000_000 + gap * place))
    rec, losses, _ = trained(table, **{"train.epochs": 6})
    assert np.isfinite(losses).all()
    assert losses[-1] <= losses[0] + 2 / np.sqrt(len(table))  # what two means over a pass differ by chance
    if rec.network.rating is not None:
        found, scale = asked(rec), rec.network.rating.scale
        assert scale.lowest <= found.mean <= scale.highest
