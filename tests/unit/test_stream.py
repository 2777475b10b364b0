"""The report of a stream: planted shops with known numbers, what it refuses, what it says."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.cli.app import app
from segue.data.log.split import split_after
from segue.errors import ArgumentError, EvaluationError
from segue.evaluation.online.decayed_counts import OnlinePopularity, OnlineSum
from segue.evaluation.online.neighbours import OnlineItemKNN
from segue.evaluation.online.stream_log import HOUR, StreamLog
from segue.evaluation.online.tuning import MOST, tuned_baselines, validation_begin
from segue.metrics.bootstrap import bootstrap_means, paired_bootstrap
from tests_support import small_recommender


def shop(hours=40, an_hour=10):
    """Each hour a new item comes, and all take it, each time another user; the first two days items are known."""
    n = np.arange(hours * an_hour)
    item = [f"{h:03d}" if h < 12 else f"new{h}" for h in n // an_hour]
    seconds = n // an_hour * 3600 + (n % an_hour) * 300.0
    return segue.read_events(pl.DataFrame({"user": [f"u{x}" for x in n], "item": item, "time": seconds}))


def test_in_a_shop_of_new_items_recent_popularity_wins_with_the_known_number():
    """Of ten events with an item, nine come after somebody took it, and no other item is as recent."""
    rec, log = small_recommender(), shop()
    train, test = split_after(log, int(log.table["time"][199]))
    report = segue.evaluate_stream(rec, test, train=train)
    name = report.best_baseline
    assert name.startswith("recent popularity")
    assert report.rows[name]["hr@10"].mean == pytest.approx(0.9)
    assert 0.8 < report.rows[name]["ndcg@10"].mean <= 0.9
    assert report.rows["segue"]["hr@10"].mean == 0 and report.unknown_targets == len(test) == 200
    assert report.improvement.high < 0 and "The model is worse." in str(report)
    ages = {one.name: one for one in report.ages}
    assert ages["new, all"].queries == ages["new, < 1 h"].queries == 200 and ages["trained"].queries == 0
    assert [one.queries for one in report.hours] == [10] * 20
    assert report.hours[3].models[name]["hr@10"] == pytest.approx(0.9)
    assert any("20 targets were never met before by anybody" in note for note in report.notes)


def test_ages_and_hours_hold_every_event_once():
    rng = np.random.default_rng(0)
    n = 600
    table = {
        "user": [f"u{x}" for x in rng.integers(0, 30, n)],
        "item": [f"{x:03d}" for x in rng.integers(0, 8, n) + np.arange(n) // 60],
        "time": np.sort(rng.integers(0, 100 * 3600, n)),
    }
    log = segue.read_events(pl.DataFrame(table))
    train, test = split_after(log, int(log.table["time"][300]))
    report = segue.evaluate_stream(small_recommender(), test, train=train, baselines=[OnlinePopularity()])
    parts, every = report.ages[:-1], report.ages[-1]
    assert sum(one.queries for one in parts) == sum(one.queries for one in report.hours) == len(test)
    assert sum(one.queries for one in parts[1:]) == every.queries > 0
    assert len(report.hours) <= 48
    for metric in ("hr@10", "ndcg@10", "mrr@10"):
        for name, row in report.rows.items():
            mean = sum(one.queries * one.models[name][metric] for one in parts) / len(test)
            assert mean == pytest.approx(row[metric].mean) and row[metric].low <= mean <= row[metric].high


def test_no_test_event_is_read_while_settings_are_tuned():
    rng = np.random.default_rng(1)
    user, item, time = rng.integers(0, 20, 900), rng.integers(0, 25, 900), np.sort(rng.integers(0, 50 * HOUR, 900))
    tuned = [
        tuned_baselines(StreamLog.of(user, np.where(np.arange(900) < 600, item, other), time), 600, exclude_seen=True)
        for other in (item, rng.integers(0, 25, 900))
    ]
    assert tuned[0] == tuned[1] and len(tuned[0]) == 5


def test_a_planted_half_life_is_found():
    """The item of the hour needs a short memory; a favourite that comes at any time needs a long one."""
    n, rng = np.arange(4000), np.random.default_rng(0)
    hour = n // 20
    for item, short in ((hour, True), ((rng.random(4000) ** 3 * 50).astype(int), False)):
        log = StreamLog.of(n, item, n * (HOUR // 20))
        popularity = tuned_baselines(log, 4000, exclude_seen=True)[0]
        assert (popularity.half_life <= 2) == short


def test_validation_is_the_last_part_and_begins_with_a_moment():
    time = np.repeat(np.arange(100), 10)
    log = StreamLog.of(np.zeros(1000), np.zeros(1000), time)
    assert validation_begin(log, 1000) == 900 and validation_begin(log, 996) == 890
    assert validation_begin(log, 0) == 0
    many = StreamLog.of(np.zeros(MOST * 11), np.zeros(MOST * 11), np.arange(MOST * 11))
    assert validation_begin(many, MOST * 11) == MOST * 10


def test_means_have_the_interval_of_the_paired_bootstrap():
    rng = np.random.default_rng(2)
    a, b, user = rng.random(300), rng.random(300), rng.integers(0, 40, 300)
    means = bootstrap_means(np.stack([a, b, a - b], axis=1), groups=user)
    pair = paired_bootstrap(a, b, groups=user)
    assert (means[2].mean, means[2].low, means[2].high) == pytest.approx((pair.mean, pair.low, pair.high))
    assert means[0].mean == pytest.approx(a.mean()) and means[0].low < a.mean() < means[0].high
    with pytest.raises(ArgumentError, match="NaN"):
        bootstrap_means([[np.nan], [1.0]], groups=[0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda train, test: (train, test.with_table(test.table[:0])), "came none"),
        (lambda train, test: (train, test.with_table(test.table.drop("time"))), "the log has none"),
        (lambda train, test: (test, test), "later than all training events"),
    ],
)
def test_what_is_no_stream_is_refused(change, message):
    log = shop()
    train, test = change(*split_after(log, int(log.table["time"][99])))
    with pytest.raises(EvaluationError, match=message):
        segue.evaluate_stream(small_recommender(), test, train=train)


@pytest.mark.parametrize("wrong", [OnlinePopularity(0), OnlineSum(weight=0), OnlineItemKNN(window=0)])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ArgumentError, match="expected"):
        wrong.start(StreamLog.of([0, 1], [0, 1], [0, 1]), 1, exclude_seen=False)


def test_the_verb_prints_a_table_or_one_object(tmp_path):
    rng = np.random.default_rng(0)
    rows = {"user": rng.integers(0, 9, 200), "item": [f"{x:03d}" for x in rng.integers(0, 12, 200)]}
    pl.DataFrame(rows | {"time": 1_700_000_000 + np.arange(200) * 600}).write_csv(tmp_path / "log.csv")
    log = segue.read_events(tmp_path / "log.csv")
    rec = small_recommender()
    rec.facts["range"] = log.table["time"][[0, 149]].to_list()
    rec.save(tmp_path / "m.segue")
    words = ["evaluate", str(tmp_path / "m.segue"), str(tmp_path / "log.csv"), "--stream"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0 and "NDCG@10 by hour of the stream" in shown.stdout and "session-kNN" in shown.stdout
    assert "Tuning online baseline 3 of 5" in shown.stderr
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["queries"] == 50 and len(found["models"]) == 6
    assert set(found["models"]["segue"]) == set(found["intervals"]["segue"]) == {"hr@10", "ndcg@10", "mrr@10"}
    assert CliRunner().invoke(app, [*words, "--at-event"]).exit_code == 2
