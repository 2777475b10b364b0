"""Ratings by hand: scales, what is refused and in which words, the verbs, the route."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

import segue
from segue.cli import app as cli
from segue.data.log.rating_columns import ends_of, inspect_ratings
from segue.data.log.rating_scale import Scale, scale_of
from segue.errors import ArgumentError, ColumnError, ConfigError, DataError, EvaluationError
from segue.serve.app import make_app
from segue.serve.live.service import Service
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import rated_log, small_rater, small_recommender

NOW = 1_700_000_000.0


def log(ratings):
    rows = {"user": ["a", "b"] * len(ratings), "item": ["x"] * 2 * len(ratings)}
    return segue.read_events(pl.DataFrame(rows | {"rating": [*ratings, *ratings]}, strict=False), time="none")


def test_half_stars_are_steps_and_measurements_are_not():
    assert scale_of(log([0.5, 1.0, 5.0])).levels == (0.5, 1.0, 5.0)
    assert scale_of(log([1.0, 4.0]), "0:5").levels == (0.0, 1.0, 4.0, 5.0)
    measured = np.linspace(0, 100, 40).tolist()
    many = scale_of(log(measured))
    assert many.levels == (0.0, 100.0)
    assert not many.has_steps
    assert not many.outside(np.float32([101])).any()
    for closed in (scale_of(log(measured), "0:100"), scale_of(log([0.0, 1.0]))):
        assert closed.outside(np.float32([-1, 0, 101, np.nan])).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("ratings", "declared", "error", "words"),
    [
        ([3.0, 3.0], "", DataError, "expected ratings that differ, all 4 are 3"),
        ([None, None], "", DataError, "expected ratings to learn from, found none in 4 rows"),
        ([1.0, 9.0], "1:5", DataError, "expected ratings from 1 to 5, came 9 by user b of item x"),
        ([1.0, 2.0], "five", ConfigError, "expected lowest:highest, came"),
        ([1.0, 2.0], "5:1", ConfigError, "expected lowest:highest, came"),
    ],
)
def test_ratings_that_cannot_be_learnt_are_refused(ratings, declared, error, words):
    with pytest.raises(error, match=words):
        scale_of(log(ratings), declared)


def test_text_among_ratings_is_named_with_its_row():
    table = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "rating": ["4", "good"]})
    with pytest.raises(ColumnError, match=r'row 2: rating "good" is not a number.*--rating-col none'):
        segue.read_events(table, time="none")


def test_the_task_is_guessed_from_what_there_is():
    assert inspect_ratings(log([1.0, 2.0]).table).predicted
    assert not inspect_ratings(log([1.0, 1.0]).table).predicted
    assert not inspect_ratings(log([1.0, None, None, 2.0, None]).table).predicted
    assert not inspect_ratings(rated_log().table.drop("rating")).predicted


STARS = [1.0, 3.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("ratings", "predicted", "said"),
    [
        (STARS * 20, True, "1 to 5, 4 steps, mean 3.6: predicted beside the next item"),
        ([*STARS * 20, 1e12], True, "2 far outside 1 to 5 count as the nearer end"),
        ([*STARS * 20, -1e9, 1e30], True, "4 far outside 1 to 5 count as the nearer end"),
        ([0.0] * 300 + [1.0], True, "0 to 1, 2 steps"),
        ([5.0] * 300 + [1.0, 2.0], True, "1 to 5, 3 steps"),
        (np.random.default_rng(0).normal(50, 20, 400).clip(0, 100).tolist(), True, "values, mean"),
        (np.random.default_rng(0).lognormal(9, 2, 400).round().tolist(), False, "a quantity with a heavy tail"),
        ((np.random.default_rng(0).pareto(1.2, 400) + 1).tolist(), False, "a quantity with a heavy tail"),
        ([None, None], False, "no row has a number"),
        ([2.0] * 9, False, "all are equal"),
    ],
)
def test_a_quantity_is_not_taken_for_a_rating_and_outliers_are_told(ratings, predicted, said):
    found = inspect_ratings(log(ratings).table)
    assert found.predicted is predicted
    assert said in found.text
    assert said in str(segue.inspect(log(ratings)))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_outliers_are_found_on_any_scale_and_count_as_the_nearer_end(scale):
    ratings = np.float32([*STARS * 40, 1e12]) * np.float32(scale)
    assert ends_of(ratings) == pytest.approx((1.0 * scale, 5.0 * scale))
    found = Scale.fit(ratings)
    assert not found.closed
    assert found.highest == pytest.approx(5.0 * scale)
    assert found.standardise(ratings)[-1] == pytest.approx((5.0 * scale - found.mean) / found.unit, rel=1e-4)
    assert np.abs(found.encode(ratings)).max() < 3


def test_rows_without_a_rating_are_noted_and_no_targets():
    said = []
    settings = {"train.task": "rating", "train.epochs": 1, "model.width": 8}
    rec = segue.train(rated_log(events=120), config=settings, say=said.append)
    assert any("rows have none and are no targets" in line for line in said)
    assert rec.params.rating.tables.count.sum() < 120


def test_a_model_of_next_items_says_that_it_has_no_ratings():
    rec = small_recommender()
    with pytest.raises(ArgumentError, match="expected a model that learnt ratings"):
        rec.predict_rating(rec.start(), "001")
    with pytest.raises(ArgumentError, match="expected a model that learnt ratings"):
        segue.evaluate_ratings(rec, rated_log())


def test_a_rating_that_is_no_number_is_refused_where_it_is_given():
    rec = small_rater()
    state = rec.start()
    for wrong in (float("nan"), None, "4,5", [4]):
        with pytest.raises(ArgumentError, match=r"rating of 001: expected 1 to 5, came .*\. Give a number\."):
            rec.rated(state, "001", wrong)
    for wrong in ("4,5", "", [4]):
        with pytest.raises(ArgumentError, match=r"came .*\. Give a number, or None where there is no rating\."):
            rec.observe(state, "001", rating=wrong)
    assert rec.observe(state, "001", rating=float("nan")).count == rec.observe(state, "001").count == 1


def test_ratings_outside_the_scale_are_refused_where_they_would_count():
    rec = small_rater()
    with pytest.raises(ArgumentError, match=r"rating of 001: expected 1 to 5, came 9"):
        rec.rated(rec.start(), "001", 9)
    wrong = segue.read_events(pl.DataFrame({"user": ["u"], "item": ["001"], "time": [1], "rating": [9.0]}))
    for reading in (rec.encode, lambda log: segue.evaluate_ratings(rec, log)):
        with pytest.raises(DataError, match=r"expected ratings from 1 to 5.*came 9 by user u of item 001\. Correct"):
            reading(wrong)
    none = segue.Events(rated_log().table.with_columns(rating=pl.lit(None, pl.Float32)))
    with pytest.raises(EvaluationError, match="expected held-out ratings, found none in 60 rows"):
        segue.evaluate_ratings(rec, none)
    for rating in (99, 0.5, float("inf")):
        with pytest.raises(ArgumentError, match=rf"rating of 001: expected 1 to 5, came {rating:g}\. Correct it, or"):
            rec.observe(rec.start(), "001", rating=rating)
    assert rec.observe(rec.start(), "001").count == rec.observe(rec.start(), "001", rating=5).count == 1
    assert small_recommender().observe(small_recommender().start(), "001", rating=99).count == 1  # it has no scale


def test_the_state_moves_with_ratings_and_the_shared_value_beside_it():
    rec = small_rater()
    plain = rec.params.rating
    head = plain._replace(weight=np.abs(plain.weight), preference=plain.preference * 0, user=plain.user * 0)
    rec = replace(rec, params=rec.params._replace(rating=head._replace(kindred=plain.kindred * 0)))
    kind, harsh = rec.start(), rec.start()
    for item in ("001", "002", "003"):
        kind, harsh = rec.observe(kind, item, rating=5), rec.observe(harsh, item, rating=1)
    assert rec.predict_rating(kind, "004") > rec.predict_rating(harsh, "004") + 0.5
    shared = rec.shared()
    for _ in range(20):
        shared = rec.observe_shared(shared, rec.rated(harsh, "004", 5))
    assert rec.predict_rating(harsh, "004", shared=shared) > rec.predict_rating(harsh, "004")
    other = rec.predict_rating(harsh, "005", shared=shared) - rec.predict_rating(harsh, "005")
    assert 0 <= other < rec.predict_rating(harsh, "004", shared=shared) - rec.predict_rating(harsh, "004")
    assert rec.predict_rating(kind, "never met") == pytest.approx(rec.predict_rating(kind, "nor this"))


def test_scales_hold_what_lies_outside():
    assert Scale((1.0, 5.0), 3.0).encode(np.float32([9, np.nan])).tolist() == [[2.0, 1.0], [0.0, 0.0]]


@pytest.fixture(name="films", scope="module")
def a_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    rated_log(events=400, users=20, seconds=4000, missing=0.0).table.write_csv(folder / "log.csv")
    settings = ["--set", "train.epochs=1", "--set", "model.width=8", "--hold-out", "time:0.2", "--task", "rating"]
    done = CliRunner().invoke(cli.app, ["train", str(folder / "log.csv"), "-o", str(folder / "b.segue"), *settings])
    assert done.exit_code == 0, done.output
    return folder


def run(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_verbs_train_measure_and_rate(films):
    found = run("evaluate", films / "b.segue", films / "log.csv", "--task", "rating", "--json")
    report = json.loads(found.stdout.splitlines()[-1])
    assert {name.partition(" (")[0] for name in report["models"]} == {
        "segue", "global mean", "biases", "running biases", "biased factors"
    }  # fmt: skip
    assert sum(line["ratings"] for line in report["calibration"]) == 80
    assert run("evaluate", films / "b.segue", films / "log.csv", "--json").stdout == found.stdout
    assert run("evaluate", films / "b.segue", films / "log.csv", "--at-event").exit_code == 2
    rated = json.loads(run("rate", films / "b.segue", "--item", "003", "--history", "001=5,002", "--json").stdout)
    told = run("rate", films / "b.segue", "--item", "003", "--history", "001=5,002").stderr
    assert told == "seen without a rating (write ITEM=RATING): 002\n"
    rec = segue.load(films / "b.segue")
    state = rec.observe(rec.observe(rec.start(), "001", rating=5), "002")
    assert rated["rating"] == pytest.approx(rec.predict_rating(state, "003"), abs=1e-5)
    assert [step["rating"] for step in rated["shares"]] == [1, 2, 3, 4, 5]
    of_user = run("rate", films / "b.segue", "--item", "003", "--user", "u1", "--events", films / "log.csv")
    assert "standard deviation" in of_user.stdout
    assert run("rate", films / "b.segue", "--item", "003").exit_code == 2
    wrong = run("rate", films / "b.segue", "--item", "003", "--history", "001=five")
    assert 'expected ITEM=RATING, came "001=five"' in str(wrong.exception)
    outside = run("rate", films / "b.segue", "--item", "003", "--history", "001=99")
    assert "rating of 001: expected 1 to 5, came 99. Correct it" in str(outside.exception)
    pl.DataFrame({"user": ["u1"], "item": ["001"], "time": [1], "rating": [7]}).write_csv(films / "high.csv")
    for verb in (["rate", "--item", "003", "--user", "u1"], ["recommend", "--user", "u1"]):
        refused = run(verb[0], films / "b.segue", *verb[1:], "--events", films / "high.csv")
        assert "expected ratings from 1 to 5 as in training, came 7 by user u1 of item 001" in str(refused.exception)


def test_the_server_says_what_a_user_would_think(tmp_path):
    rec, store = small_rater(), SqliteStore(tmp_path / "s.db")
    service = Service(rec, store, clock=lambda: NOW)
    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        client.post("/v1/events", json={"user": "u1", "item": "001", "rating": 5, "time": NOW - 60})
        said = client.get("/v1/ratings", params={"user": "u1", "item": "002"}).json()
        state = rec.observe(rec.start(), "001", rating=5, time=NOW - 60)
        shared = rec.observe_shared(rec.shared(), rec.rated(rec.start(), "001", 5, at=NOW - 60))
        assert said["rating"] == pytest.approx(rec.predict_rating(state, "002", at=NOW, shared=shared), abs=1e-5)
        assert (said["count"], said["known"], len(said["shares"])) == (1, True, 5)
        new = client.get("/v1/ratings", params={"user": "nobody", "item": "never met"}).json()
        foretold = rec.predict_rating(rec.start(), "never met", at=NOW, shared=shared)
        assert new["rating"] == pytest.approx(foretold, abs=1e-5)
        assert not new["known"]
        assert client.get("/v1/ratings", params={"user": "u1"}).status_code == 422
        high = {"user": "u1", "item": "001", "rating": 99}
        for path, body in (
            ("/v1/events", high),
            ("/v1/events?recommend=3", high),
            ("/v1/events", {"events": [high | {"rating": 5}, high]}),
            ("/v1/recommend", {"history": [{"item": "001", "rating": 99}]}),
        ):
            refused = client.post(path, json=body)
            assert refused.status_code == 422, (path, refused.text)
            assert refused.json()["detail"].startswith("rating of 001: expected 1 to 5, came 99. Correct it, or")
        assert client.get("/v1/ratings", params={"user": "u1", "item": "002"}).json()["count"] == 1
    service.close()
    store.close()
    plain = SqliteStore(tmp_path / "plain.db")
    service = Service(small_recommender(), plain, clock=lambda: NOW)
    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        refused = client.get("/v1/ratings", params={"user": "u1", "item": "002"})
        assert refused.status_code == 422
        assert "expected a model that learnt ratings" in refused.json()["detail"]
    service.close()
    plain.close()
