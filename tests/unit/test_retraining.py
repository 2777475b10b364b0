"""A candidate is published where events exclude a loss beyond the tolerance, and not where they cannot decide."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.cli import store as cli_store
from segue.cli.app import app
from segue.data.sequences.sequences import item_vocabulary
from segue.errors import ArgumentError, ColumnError, ConfigError
from segue.jobs import retrain as retraining
from segue.metrics.comparison import compare
from segue.training.budget import Budget
from tests_support import small_rater, small_recommender


def hits(rng, queries, share):
    """NDCG@10 of single targets, a share of them within the first ten."""
    rank = rng.integers(1, 11, queries)
    return np.where(rng.random(queries) < share, 1 / np.log2(rank + 1), 0.0)


def compared(new, old, users=None, tolerance=0.05):
    users = np.arange(len(new)) if users is None else users
    return compare(new, old, users, tolerance * float(old.mean()))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["half as high", "half of the hits", "others"])
def test_half_the_score_on_50_events_is_never_published(share, kind):
    rng = np.random.default_rng(1)
    for _ in range(60):
        old, users = hits(rng, 50, share), rng.integers(0, 40, 50)
        kept = np.where(rng.random(50) < 0.5, old, 0.0)
        new = {"half as high": old / 2, "half of the hits": kept, "others": hits(rng, 50, share / 2)}[kind]
        comparison = compared(new, old, users)
        assert not comparison.excluded or new.mean() > old.mean()  # another sample may be the better one by chance


def test_an_equal_candidate_is_published_on_enough_events_and_the_number_is_predicted():
    rng = np.random.default_rng(2)
    published = {}
    for queries in (50, 5000):
        published[queries] = 0
        for _ in range(30):
            old = hits(rng, queries, 0.4)
            new = np.where(rng.random(queries) < 0.1, hits(rng, queries, 0.4), old)
            comparison = compared(new, old)
            published[queries] += comparison.excluded
            if queries == 50 and not comparison.worse:
                assert 100 <= comparison.needed < 100_000
    assert published[50] <= 2 and published[5000] == 30


def test_the_predicted_number_is_about_enough():
    rng = np.random.default_rng(3)
    old = hits(rng, 200, 0.4)
    new = np.where(rng.random(200) < 0.1, hits(rng, 200, 0.4), old)
    new += old.mean() - new.mean()  # alike
    comparison = compared(new, old)
    assert not comparison.excluded
    times = -(-comparison.needed // 200) * 2
    assert compared(np.tile(new, times), np.tile(old, times)).excluded


def test_what_decides_nothing_publishes_nothing():
    zeros, ones = np.zeros(50), np.ones(50)
    assert not compared(zeros, zeros).excluded  # nobody has a hit
    assert compared(zeros, zeros).needed is None
    single = np.zeros(50)
    single[3] = 1
    assert not compared(single, single).excluded  # a single shared hit is no proof
    assert not compared(ones, ones, np.zeros(50, int)).excluded  # a single user
    assert not compared(ones / 2, ones, np.arange(50) % 2).excluded
    assert compared(ones, ones / 2).excluded
    better = np.where(np.arange(50) % 2, 0.9, 0.0)
    unsure = compared(better, np.full(50, 0.4))
    assert unsure.difference.mean > 0 > unsure.difference.low
    assert not unsure.excluded and not unsure.worse and unsure.needed > 100
    nothing = compared(np.where(np.arange(500) % 9, 0.0, 1.0), np.zeros(500))
    assert nothing.margin == 0 and nothing.excluded  # any hit is more than none


LOG = pl.DataFrame(
    {
        "user": [f"u{n % 40}" for n in range(1200)],
        "item": [f"i{n * 7 % 12}" for n in range(1200)],
        "time": range(1200),
        "type": ["view", "view", "buy"] * 400,
    }
)


@pytest.fixture(name="ready")
def a_folder_and_what_both_reach(tmp_path, monkeypatch):
    """Return a function that retrains where running and candidate reach some numbers, and what training was given."""
    log, given = segue.read_events(LOG), []
    ids = item_vocabulary(log)
    running, candidate = small_recommender(ids), small_recommender(ids, seed=9)
    asked = {"model.width": 8, "train.type_weights": "buy:3,refund:2"}
    replace(running, facts={"range": [0, 10**8], "asked": asked}).save(tmp_path / "a.segue")

    def train(events, **settings):
        given.append((events, settings))
        return candidate

    def retrain(new, old, log=log, **options):
        def scored(job, rec, test, rated):
            numbers = old if rec.fingerprint == running.fingerprint else new
            return np.resize(numbers, len(test)), test.table["user"].rank("dense").to_numpy()

        monkeypatch.setattr(retraining, "train", train)
        monkeypatch.setattr(retraining._Retraining, "_scored", scored)
        (tmp_path / "current").write_text("a.segue\n")
        return retraining.retrain(log, tmp_path, **options)

    retrain.given, retrain.folder = given, tmp_path
    return retrain


def test_it_says_what_is_not_excluded_and_how_many_events_would_decide(ready):
    new, old = [0.5, 0.0, 0.6, 0.2], [0.3, 0.5, 0.0, 0.6]
    done = ready(new, old)
    assert not done.published and (ready.folder / "current").read_text() == "a.segue\n"
    assert f"{done.questions} events of 40 users cannot decide whether the candidate is worse than a.segue" in done.why
    assert "a loss of 0.0175 NDCG@10 (tolerance 0.05) is not excluded" in done.why
    assert f"About {done.needed:,} new events would decide" in done.why and done.needed > done.questions
    assert json.loads(json.dumps(done.to_dict()))["tolerance"] == 0.05
    assert ready(new, old, tolerance=1.0).published  # all is tolerated
    worse = ready([0.1], [0.5])
    assert "is worse than a.segue, by more than noise" in worse.why and worse.needed is None
    assert "neither lists any of them among its first 10" in ready([0.0], [0.0]).why
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(ArgumentError, match=r"--tolerance: expected a share from 0 to 1"):
            ready(new, old, tolerance=share)


def test_the_tolerance_of_ratings_is_a_share_of_the_error(tmp_path, monkeypatch):
    log = segue.read_events(LOG.with_columns(rating=pl.lit(3.0), item=pl.col("item").str.replace("i", "00")))
    rec = replace(small_rater(task="rating"), facts={"range": [0, 10**8]})
    rec.save(tmp_path / "a.segue")
    monkeypatch.setattr(retraining, "train", lambda *_, **__: replace(rec, fingerprint="new"))
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, 1200)
    for rise, published in ((1.03, True), (1.07, False)):

        def scored(job, rec, test, rated, rise=rise):
            error = rise if rec.fingerprint == "new" else 1.0
            return -((2 * error) ** 2) + noise[: len(test)] * (error - 1), np.arange(len(test)) % 40

        monkeypatch.setattr(retraining._Retraining, "_scored", scored)
        done = retraining.retrain(log, tmp_path, tolerance=0.06)
        assert done.published is published, done
        assert done.rmse == pytest.approx((2 * rise, 2.0), rel=1e-2)


def test_the_command_line_takes_a_tolerance_and_exits_3(tmp_path, monkeypatch):
    segue.read_events(LOG).as_text().write_parquet(tmp_path / "log.parquet")
    run, store, given = CliRunner(), str(tmp_path / "s.db"), []
    assert run.invoke(app, ["import", str(tmp_path / "log.parquet"), "--store", store]).exit_code == 0

    def retrain(log, folder, **options):
        given.append(options["tolerance"])
        return retraining.RetrainReport(False, "why")

    monkeypatch.setattr(cli_store, "retrain_and_publish", retrain)
    verb = ["retrain", "--store", store, "--models", str(tmp_path)]
    assert run.invoke(app, verb).exit_code == run.invoke(app, [*verb, "--tolerance", "0.2"]).exit_code == 3
    assert given == [0.05, 0.2]
    assert run.invoke(app, [*verb, "--tolerance", "1.5"]).exit_code == 2


def test_a_weight_of_a_type_is_kept_for_a_log_that_has_it(ready):
    said = []
    assert ready([0.5], [0.5], say=said.append).published
    assert "train.type_weights: table has no event of refund; the weight is kept for later logs." in said
    for _, settings in ready.given:
        assert settings["config"].train.type_weights == "buy:3.0"
        assert settings["facts"]["asked"] == {"model.width": 8, "train.type_weights": "buy:3,refund:2"}
    with pytest.raises(ColumnError, match=r"the log has none.*--set train\.type_weights="):
        ready([0.5], [0.5], log=segue.read_events(LOG.drop("type")))
    assert ready([0.5], [0.5], log=segue.read_events(LOG.drop("type")), config={"train.type_weights": ""}).published
    with pytest.raises(ConfigError, match=r'expected types of table \(view, buy\), came "bought". Did you mean buy\?'):
        ready([0.5], [0.5], config={"train.type_weights": "bought:3"})


def test_a_type_that_came_with_the_newest_events_is_no_mistake(ready):
    late = LOG.with_columns(type=pl.when(pl.col("time") > 1150).then(pl.lit("gift")).otherwise("type"))
    assert ready([0.5], [0.5], log=segue.read_events(late), config={"train.type_weights": "gift:2"}).published
    candidate, final = (settings["config"].train.type_weights for _, settings in ready.given)
    assert (candidate, final) == ("", "gift:2.0")


def test_a_retraining_shares_its_time_and_does_not_keep_it_for_the_next(ready, monkeypatch):
    ready([0.5], [0.5], minutes=4)
    assert [settings["config"].train.minutes for _, settings in ready.given] == [2, 2]
    assert all("train.minutes" not in settings["facts"]["asked"] for _, settings in ready.given)
    ready.given.clear()
    clock = iter([0.0, 0.0, 150.0])  # the candidate and the comparison took two minutes and a half
    monkeypatch.setattr(retraining, "Budget", lambda seconds: Budget(seconds, clock=lambda: next(clock)))
    ready([0.5], [0.5], minutes=4)
    assert [settings["config"].train.minutes for _, settings in ready.given] == [2, 1.5]


def test_a_condition_holds_a_model_back_the_first_of_a_folder_too(ready):
    assert ready([0.5], [0.5], fail_if=["ndcg@10 < 0"]).published
    failed = ready([0.5], [0.5], fail_if=["ndcg@10 < 1", "hr@10 < 0"])
    assert not failed.published and failed.why.startswith("Failed: ndcg@10 < 1: ndcg@10 of segue is 0.")
    assert (ready.folder / "current").read_text() == "a.segue\n"
    for path in (*ready.folder.glob("*.segue"), ready.folder / "current"):
        path.unlink()
    log = segue.read_events(LOG)
    assert not retraining.retrain(log, ready.folder, fail_if=["ndcg@10 < 1"]).published
    assert retraining.retrain(log, ready.folder, fail_if=["ndcg@10 < 0"]).published
    with pytest.raises(ArgumentError, match="--fail-if: expected a condition"):
        retraining.retrain(log, ready.folder, fail_if=["better"])
