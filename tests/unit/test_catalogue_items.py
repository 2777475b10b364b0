"""Items of the catalogue that no event names are in the model from the start, by what they are."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.api import _with_all_items
from segue.cli.app import app
from segue.data.features.catalogue import read_items
from segue.recommend import new_items
from segue.recommend.new_items import grown, with_catalogue
from tests_support import random_counts

GENRES, ITEMS, USERS = 5, 50, 150
NAMES = [f"i{n}" for n in range(ITEMS)]
CATALOGUE = pl.DataFrame({"item": NAMES, "genre": [f"genre {n % GENRES}" for n in range(ITEMS)]})
#: A fifth of the items, some of every genre, in no event.
SILENT = {name for n, name in enumerate(NAMES) if n // GENRES % 5 == 4}
QUICK = {"model.width": 16, "model.depth": 1, "train.epochs": 8}


def liked(user):
    return user % GENRES


def shop():
    """Users who stay with one genre, now and then another."""
    rng, rows = np.random.default_rng(0), []
    able = [n for n, name in enumerate(NAMES) if name not in SILENT]
    for user in range(USERS):
        odds = np.array([(10.0 if n % GENRES == liked(user) else 0.3) / (1 + n // GENRES) ** 0.5 for n in able])
        chosen = rng.choice(able, 7, replace=False, p=odds / odds.sum())
        rows += [(f"u{user}", NAMES[n], 1000 * at + user) for at, n in enumerate(chosen)]
    table = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").sort("time")
    return segue.read_events(table)


def trained(log, catalogue=CATALOGUE, **settings):
    said = []
    return segue.train(log, catalogue=catalogue, config=QUICK | settings, say=said.append), said


@pytest.fixture(scope="module", name="both")
def with_and_without():
    train, test = segue.split_last(shop())
    return trained(train), trained(train, **{"train.items_without_events": False}), train, test


def test_they_are_told_listed_and_ranked_by_what_they_are(both):
    (rec, said), _, train, _ = both
    line = next(line for line in said if "without an event:" in line)
    assert line.startswith("table: 10 items without an event: 10 ranked by their attributes, 20.0% of all 50")
    assert set(rec.items) == set(NAMES) and rec.facts["items_without_events"] == 10
    assert rec.learnt == ITEMS - len(SILENT) + 1 and not len(rec.unreachable)
    states = rec.encode(train)
    first, shares, found = [], [], []
    for user in states.users:
        lines = rec.recommend(states.of(user), 10)
        silent = [line.item for line in lines if line.item in SILENT]
        own = [item for item in silent if int(item[1:]) % GENRES == liked(int(user[1:]))]
        first.append(lines[0].item in SILENT)
        shares.append(len(silent) / len(lines))
        found.append((len(own), len(silent)))
    own, silent = np.array(found).T
    assert (own > 0).mean() > 0.3  # who likes the genre gets one
    assert own.sum() > 0.9 * silent.sum()  # and not one of another
    assert np.mean(first) < 0.1 and 0.02 < np.mean(shares) < 0.4  # not all at the top


def test_known_items_are_found_about_as_well(both):
    (rec, _), (plain, _), _, test = both
    hits = [segue.evaluate(each, test).rows["segue"]["hr@10"] for each in (rec, plain)]
    assert set(plain.items) == set(NAMES) - SILENT
    assert hits[0] > 0.9 * hits[1] > 0.4
    protocol = segue.evaluate(rec, test).protocol
    assert "ranking of 50 items (10 of them without an event in training)" in protocol
    assert "without an event" not in segue.evaluate(plain, test).protocol


def test_a_saved_model_knows_them_and_states_are_the_same(both, tmp_path):
    (rec, _), _, train, _ = both
    rec.save(tmp_path / "m.segue")
    again = segue.load(tmp_path / "m.segue")
    assert again.fingerprint == rec.fingerprint and again.items == rec.items and again.learnt == rec.learnt
    state = rec.encode(train).of("u3")
    assert again.recommend(state, 10) == rec.recommend(state, 10)
    item = next(iter(SILENT))
    after = rec.observe(state, item)
    assert item not in [line.item for line in rec.recommend(after, ITEMS, repeats="exclude")]
    assert rec.labels(item) == [f"genre genre {int(item[1:]) % GENRES}"]
    assert rec.add_items(CATALOGUE) is rec
    shown = CliRunner().invoke(app, ["info", str(tmp_path / "m.segue"), "--json"])
    assert json.loads(shown.output) | {"items": 50, "items_without_events": 10} == json.loads(shown.output)


@pytest.mark.parametrize(
    ("catalogue", "settings", "words"),
    [
        (CATALOGUE, {"model.attributes": False}, "left out: no attributes of items are read"),
        (CATALOGUE.select("item"), {}, "left out: no attributes of items are read"),
        (CATALOGUE, {"train.items_without_events": False}, r"left out (train.items_without_events is false)"),
        (
            CATALOGUE.with_columns(genre=pl.when(~pl.col("item").is_in(list(SILENT))).then("genre")),
            {},
            "left out: nothing that was learnt is known of them",
        ),
    ],
)
def test_what_has_nothing_to_be_ranked_by_is_left_out_and_told(catalogue, settings, words):
    rec, said = trained(shop(), catalogue, **settings | {"train.epochs": 1})
    assert set(rec.items) == set(NAMES) - SILENT and rec.facts["items_without_events"] == 0
    assert [line for line in said if line.startswith("table: 10 items without an event") and words in line], said


def test_some_with_and_some_without_attributes():
    some = CATALOGUE.with_columns(genre=pl.when(pl.col("item") != "i20").then("genre"))
    assert "i20" in SILENT
    rec, said = trained(shop(), some, **{"train.epochs": 1, "model.transitions": False})
    assert "i20" not in rec.items and len(rec.items) == ITEMS - 1
    assert "9 ranked by their attributes, 18.4% of all 49" in said[-1]
    assert said[-1].endswith("; 1 left out, as nothing that was learnt is known of them.")


def test_ratings_of_them_are_predicted_and_there_is_no_list_to_lower_them_in():
    rated = shop().table.with_columns(rating=pl.int_range(pl.len()) % 5 + 1.0)
    rec, said = trained(segue.read_events(rated), **{"train.task": "rating", "train.epochs": 1})
    assert set(rec.items) == set(NAMES) and "lower" not in said[-1]
    assert 1 <= rec.predict_rating(rec.start(), "i20") <= 5


def test_a_retrained_model_keeps_them(tmp_path):
    log = shop()
    rec, _ = trained(segue.split_last(log)[0], **{"train.epochs": 1})
    rec.save(tmp_path / "a.segue")
    some = pl.DataFrame({"item": ["i0", "new"], "genre": ["genre 0", "genre 0"]})
    for items, more in ((None, set()), (some, {"new"})):
        (tmp_path / "current").write_text("a.segue\n")
        done = segue.jobs.retrain.retrain(log, tmp_path, catalogue=items, tolerance=1.0)
        assert done.published, done
        assert set(segue.load(tmp_path / done.model).items) == set(NAMES) | more


def test_they_are_lowered_as_far_as_validation_asks_and_no_further(both):
    (rec, _), (plain, _), train, _ = both
    sequences = rec.sequences(train)
    answers = segue.training.validation.Validation.sample(sequences, exclude_seen=True, seed=0).answers(
        plain.network, plain.params
    )
    lines, source, _ = read_items(CATALOGUE)
    more, said = with_catalogue(replace(plain, config=rec.config), lines, source, answers)
    high = plain.add_items(CATALOGUE)
    lower = high.params.bias[plain.vocabulary.size :] - more.params.bias[plain.vocabulary.size :]
    assert lower.std() < 1e-6 * max(10.0, lower[0]) and lower[0] > 0 and "lose no more than 2% NDCG" in said
    np.testing.assert_array_equal(more.params.items, high.params.items)

    def ndcg(rec):
        known = replace(answers, items=rec.params.items, bias=rec.params.bias)
        scores = known.hidden(rec.finished(known.scores(), known.recent, None))
        ranks = segue.metrics.ranks.target_ranks(scores, known.targets)
        return segue.metrics.metrics.ndcg(ranks, k=10).mean()

    before, after = ndcg(plain), ndcg(more)
    assert 0.96 * before < after < before and after >= 0.98 * before
    assert ndcg(high) < 0.98 * before


def test_a_catalogue_that_does_not_fit_is_left_out(both):
    _, (plain, _), _, _ = both
    wanted = replace(plain, config=replace(plain.config, train=replace(plain.config.train, items_without_events=True)))
    lines, source, _ = read_items(CATALOGUE)
    more, said = with_catalogue(wanted, lines, source, None, room=1e-9)
    assert more is wanted and "left out: about 0.0 GiB are needed for them, 0.0 are free" in said
    assert len(_with_all_items(wanted, lines, source, None, lambda _: None).items) == ITEMS


def test_very_many_alike_items_cost_no_more_than_is_said(monkeypatch):
    rng = np.random.default_rng(0)
    counts = random_counts(40, rng)
    items = np.concatenate([rng.normal(size=(40, 4)), np.repeat(rng.normal(size=(3, 4)), 200, axis=0)])
    items = items.astype(np.float32)
    plain = grown(counts, items)
    monkeypatch.setattr(new_items, "_PAIRS", 2000)
    monkeypatch.setattr(new_items, "_COMPARED", 600 * 20)
    few = grown(counts, items)
    assert len(few.shares) < len(counts.shares) + 4 * 2000 < len(plain.shares)
    assert few.popularity.shape == plain.popularity.shape == (640,)
    np.testing.assert_array_equal(few.pairs[:40, :40].toarray(), counts.pairs.toarray())
