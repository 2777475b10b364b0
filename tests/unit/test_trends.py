"""Trends from training to a list: a log that drifts gives a ranker, another one none, and files keep it."""

import pickle
from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest

import segue
from segue.config import configure
from segue.errors import ArgumentError, ConfigError, ModelError
from segue.evaluation.trend_questions import drift_of
from segue.recommend.index.approximate import exact_index
from segue.trends.ranker import TrendRanker
from tests_support import ITEMS, described_log, described_recommender, random_ranker, small_rater, small_recommender

QUICK = {
    "model.width": 8,
    "model.depth": 1,
    "train.epochs": 1,
    "model.transitions": False,
    "train.precision": "float32",
}
HOUR = 3_600


def news(events=6_000, *, drifts=True, seed=0):
    """Users click on one of four stories; with drift four new ones come each hour."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 30 * HOUR, events))
    stories = 4 * (times // HOUR) if drifts else 0
    item = stories + rng.choice(4, events, p=[0.7, 0.1, 0.1, 0.1])
    table = pl.DataFrame({"user": rng.integers(0, 400, events), "item": item, "time": times + 1_600_000_000})
    return segue.read_events(table.with_columns(pl.col("user", "item").cast(pl.String)))


@pytest.fixture(scope="module", name="trained")
def recommender_of_news():
    train, test = segue.split_by_time(news(7_000), test=0.2)
    said = []
    return segue.train(train, config=QUICK | {"train.repeats": "allow"}, say=said.append), train, test, said


def test_a_log_that_drifts_gives_a_ranker_that_finds_new_stories(trained):
    rec, train, test, said = trained
    assert rec.ranker is not None and any("drifts" in line for line in said)
    report = segue.evaluate_stream(rec, test, train=train, baselines=())
    live, frozen = (report.rows[name]["ndcg@10"].mean for name in ("segue", "segue_frozen"))
    known = 4 * [1.0]
    best = float(np.dot([0.7, 0.1, 0.1, 0.1], known / np.log2(np.arange(2, 6))))  # the four stories in order
    assert frozen < 0.1 < 0.9 * best < live <= best + 0.02
    assert report.gain is not None and report.gain.low > 0.5 and "the frozen model" in str(report)


def test_a_story_rises_for_others_with_its_first_clicks(trained):
    rec, *_ = trained
    trends = rec.trends()
    live, state, now = rec.with_trends(trends), rec.start(), 1_600_000_000 + 40 * HOUR
    for n in range(20):
        trends.observe(f"u{n}", "old story", time=now + n)
    before = [one.item for one in live.recommend(state, 3, at=now + 30)]
    for n in range(40):
        trends.observe(f"v{n}", "breaking", time=now + 31 + n)
    after = live.recommend(state, 3, at=now + 80)
    assert before[0] == "old story" and "breaking" not in before
    assert "breaking" in [one.item for one in after][:2] and "breaking" not in rec.vocabulary
    assert [one.item for one in rec.recommend(state, 3)] == [
        one.item for one in live.with_trends(None).recommend(state, 3)
    ]


@pytest.mark.parametrize("drifts", [True, False])
def test_only_a_log_that_drifts_is_found_to_drift(drifts):
    early, later = segue.split_by_time(news(6_000, drifts=drifts), test=0.1)
    drift = drift_of(early, later, exclude_seen=False)
    assert drift.found == drifts and drift.online > 0.5


@pytest.mark.parametrize("kind", ["one time", "all seen"])
def test_a_log_that_cannot_show_drift_is_trained_without(kind):
    n = 5_200
    time = [1_600_000_000] * n if kind == "one time" else range(1_600_000_000, 1_600_000_000 + n)
    table = pl.DataFrame(
        {"user": [f"u{k % 10}" for k in range(n)], "item": [f"i{k % 7}" for k in range(n)], "time": time}
    )
    log, wanted = segue.read_events(table), QUICK | {"train.repeats": "exclude"}
    rec = segue.train(log, config=wanted)
    assert rec.ranker is None
    if kind == "all seen":  # the model is what it would be without trends, to the last bit
        assert rec.fingerprint == segue.train(log, config=wanted | {"model.trends": "off"}).fingerprint


def test_a_model_without_a_ranker_says_so():
    with pytest.raises(ArgumentError, match=r"model.trends=on"):
        small_recommender().with_trends(segue.Trends(60_000_000))


def test_trends_need_times():
    table = pl.DataFrame({"user": ["a", "a", "b", "b"], "item": ["1", "2", "1", "2"]})
    log = segue.read_events(table, time="none")
    with pytest.raises(ConfigError, match=r"model.trends: expected a log with times"):
        segue.train(log, config=QUICK | {"model.trends": "on"})


def test_a_file_keeps_the_ranker(tmp_path):
    rec = replace(small_recommender(), ranker=random_ranker())
    rec.save(tmp_path / "m.segue")
    ranker = segue.load(tmp_path / "m.segue").ranker
    assert ranker is not None
    for field in fields(TrendRanker):
        assert np.array_equal(getattr(ranker, field.name), getattr(rec.ranker, field.name))


def test_a_recommender_with_trends_is_saved_and_pickled_without(tmp_path):
    rec = replace(small_recommender(), ranker=random_ranker())
    live = rec.with_trends(trends := rec.trends())
    trends.observe("ann", "new", time=1000.0)
    live.recommend(live.start(), 3)
    live.save(tmp_path / "m.segue")
    for other in (segue.load(tmp_path / "m.segue"), pickle.loads(pickle.dumps(live))):
        assert other.items == rec.items and other.live is None and other.ranker is not None
        assert other.recommend(other.start(), 3) == rec.recommend(rec.start(), 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("w_1", np.zeros((3, 4), np.float32)),
        ("b_2", np.full(4, np.nan, np.float32)),
        ("w_3", np.zeros(4, np.float64)),
        ("shortest", np.int64(5)),
        ("others", None),
    ],
)
def test_arrays_of_no_ranker_are_refused(name, value):
    ranker = random_ranker()
    arrays = {field.name: np.asarray(getattr(ranker, field.name)) for field in fields(TrendRanker)}
    assert TrendRanker.kept(arrays).w_1.shape == ranker.w_1.shape
    arrays = {key: array for key, array in arrays.items() if key != name} | (
        {} if value is None else {name: np.asarray(value)}
    )
    with pytest.raises(ModelError, match=r"trends: expected"):
        TrendRanker.kept(arrays)


def test_rows_for_unknown_items_run_out_and_grow():
    rec = replace(small_recommender(), ranker=random_ranker())
    live = rec.with_trends(trends := rec.trends())
    room = live.vocabulary.size - rec.vocabulary.size
    for n in range(2 * room):
        trends.observe(f"u{n}", f"new {n}", time=1000.0 + n / 100)
    live.live.meet(list(trends.names))
    assert live.vocabulary.full
    more = live.with_trends(trends)
    assert not more.vocabulary.full and {"new 0", f"new {2 * room - 1}"} <= set(more.items)


def test_the_setting_is_known():
    assert configure({"model.trends": "off"}).model.trends == "off"
    with pytest.raises(ConfigError, match="trends"):
        configure({"model.trends": "maybe"})


def test_a_recommender_with_trends_takes_an_index_and_items_and_scores_its_items():
    rec = replace(described_recommender(described_log()), ranker=random_ranker())
    live = rec.with_trends(trends := rec.trends())
    trends.observe("ann", "new", time=1000.0)
    assert "new" in [one.item for one in live.recommend(live.start(), 99)]
    indexed = live.with_index(exact_index(rec))
    assert indexed.index is not None and indexed.live is not None and indexed.live.trends is trends
    more = live.add_items(ITEMS.head(2).with_columns(item=pl.Series(["new", "other"])))
    assert {"new", "other"} <= set(more.items) and len(set(more.items)) == len(more.items)
    assert live.score(live.start()).shape == (1, len(live.items))


@pytest.mark.parametrize("make", [small_recommender, small_rater])
def test_lists_of_an_index_follow_the_trends_alike(make):
    rec = replace(make(), ranker=random_ranker())
    trends = rec.trends()
    for n in range(60):
        item = f"new {n % 4}" if n % 3 == 0 else f"{n % 12:03d}"
        trends.observe(f"u{n % 7}", item, time=1000.0 + 3 * n)
    state = rec.start()
    for item in ("001", "new 1", "004"):
        state = rec.observe(state, item, time=1200.0)
    lists = [
        one.with_trends(trends).recommend(state, 8, at=1300.0, repeats="exclude")
        for one in (rec, rec.with_index(exact_index(rec)))
    ]
    ids = [[item.item for item in one] for one in lists]
    assert ids[0] == ids[1] and any(id.startswith("new") for id in ids[0]) and "new 1" not in ids[0]
    scores = [[item.score for item in one] for one in lists]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
