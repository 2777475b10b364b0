"""Reports of several models: their numbers, what is noise, the page, and the conditions that fail a run."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.cli.app import app
from segue.data.log.split import digest, split_last
from segue.data.sequences.sequences import encode, item_vocabulary
from segue.errors import ArgumentError, EvaluationError
from segue.evaluation.baselines.counting import Popularity
from segue.evaluation.comparison_report import report, slices
from segue.evaluation.comparison_report.gate import condition_of, failures
from segue.evaluation.comparison_report.pairs import between
from segue.evaluation.held_out import held_out_by_all
from segue.metrics import calibration_error
from segue.model_file import with_fingerprint
from tests_support import (
    ITEMS,
    USERS,
    described_log,
    described_recommender,
    rated_log,
    read_catalogue,
    small_rater,
    small_recommender,
)

RING = [f"i{n:02d}" for n in range(12)]
BAD = 'A "film" <script>alert(1)</script> & more'


class Follows:
    """A fitted baseline that knows the ring: after item n comes item n + 1."""

    name = "ring"

    def __init__(self, vocabulary):
        self.next = np.roll(vocabulary.rows(RING), -1)
        self.row = {int(row): place for place, row in enumerate(vocabulary.rows(RING))}
        self.size = vocabulary.size

    def score(self, histories):
        scores = np.zeros((len(histories), self.size), np.float32)
        for line, history in zip(scores, histories, strict=True):
            line[self.next[self.row[int(history[-1])]]] = 1.0
        return scores


def ring_rows(users=60, events=8):
    rng = np.random.default_rng(4)
    begins = rng.integers(0, 12, users)
    rows = [(f"u{u:02d}", RING[(begins[u] + n) % 12], 1000 * n + u) for n in range(events) for u in range(users)]
    return pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")


@pytest.fixture(name="ring", scope="module")
def a_report_of_two_copies_beside_a_planted_better_one():
    log = segue.read_events(ring_rows())
    train, test = split_last(log)
    vocabulary = item_vocabulary(train)
    rec = small_recommender(vocabulary)
    titles = pl.DataFrame({"item": vocabulary.ids, "title": [BAD, *("film " + vocabulary.ids[1:])]})
    rec = with_fingerprint(replace(rec, catalogue=read_catalogue(titles, vocabulary)))
    baselines = {"ring (planted)": Follows(vocabulary)}
    two = segue.evaluate({"mine": rec, "copy": rec}, test, train=train, baselines=baselines, log=log, cases=8)
    return rec, train, test, baselines, two


def test_two_copies_are_noise_and_a_planted_better_one_is_not(ring):
    *_, two = ring
    pairs = two.to_dict()["pairs"]
    copies, better = between(pairs, "mine", "copy"), between(pairs, "ring (planted)", "mine")
    assert (copies["mean"], copies["noise"], copies["p_holm"]) == (0.0, True, 1.0)
    assert not better["noise"] and better["low"] > 0 and between(pairs, "mine", "ring (planted)")["high"] < 0
    assert two.verdict.startswith("ring, a baseline, is better than all 2 others, by more than noise (NDCG@10 1.0000")
    alone = segue.evaluate([ring[0], ring[0]], ring[2], cases=0)
    assert "model 1 has the best mean" in alone.verdict and "from model 2 may be noise" in alone.verdict


def test_the_numbers_are_those_of_the_report_of_one_model(ring):
    rec, train, test, baselines, two = ring
    one = segue.evaluate(rec, test, train=train, baselines=baselines)
    numbers = json.loads(json.dumps(two.to_dict()))
    for name, other in (("mine", "segue"), ("copy", "segue"), ("ring (planted)", "ring (planted)")):
        assert numbers["models"][name]["metrics"] == pytest.approx(one.rows[other])
        for metric, ends in numbers["models"][name]["intervals"].items():
            assert ends["mean"] == pytest.approx(one.rows[other][metric])
            assert ends["low"] <= ends["mean"] <= ends["high"]
        for metric in ("hr", "ndcg", "mrr"):
            assert numbers["curves"][metric][name][9] == pytest.approx(one.rows[other][f"{metric}@10"])
    assert two.to_frame().filter(model="mine")["ndcg@10"].item() == pytest.approx(one.rows["segue"]["ndcg@10"])
    assert one.to_frame()["model"].to_list() == ["segue", "ring (planted)"]
    assert [case["models"]["ring (planted)"]["rank"] for case in numbers["cases"]] == [1] * 8
    assert numbers["data"]["cut"]["after"] == (test.table["time"] > train.table["time"][-1]).sum()


def test_slices_add_up_and_attributes_count_the_events_that_have_them(monkeypatch):
    monkeypatch.setattr(slices, "LEAST", 2)
    log = described_log(rows=400)
    train, test = segue.split_by_time(log, test=0.3)
    rec = described_recommender(train)
    beside = {"popularity": Popularity().fit(encode(train, rec.vocabulary), rec.vocabulary.size)}
    numbers = segue.evaluate([rec], test, train=train, baselines=beside, users=USERS).to_dict()
    ways = {way["by"]: way["rows"] for way in numbers["slices"]}
    whole, mean = 0, numbers["models"]["model 1"]["metrics"]["ndcg@10"]
    for by in ("events of the user before", "target seen before", "event: type", "item: price", "user: sex"):
        parts = [(row["queries"], row["models"]["model 1"]["mean"]) for row in ways[by]]
        if sum(queries for queries, _ in parts) == len(test):  # slices of one user are left out
            assert sum(queries * each for queries, each in parts) / len(test) == pytest.approx(mean), by
            whole += 1
    assert whole >= 3
    of = ITEMS.select("item", pl.col("kind").str.split("|")).explode("kind")
    counts = dict(test.as_text().join(of, on="item").filter(pl.col("kind") != "")["kind"].value_counts().iter_rows())
    assert {row["slice"]: row["queries"] for row in ways["item: kind"] if row["slice"] in counts} == counts
    assert {row["slice"] for row in ways["event: device"]} >= {"tv", "pc", "phone"}


def test_calibration_is_that_of_the_shares_of_the_scores(ring):
    rec, _, test, _, two = ring
    logs, chances, hits = [], [], []
    for row in test.table.to_dicts():
        state = rec.start()
        for event in test.history.table.filter(pl.col("user") == row["user"]).to_dicts():
            state = rec.observe(state, event["item"], time=event["time"] / 1e6)
        scores = {item.item: item.score for item in rec.recommend(state, k=12)}
        total = np.log(np.sum(np.exp(list(scores.values()))))
        logs.append(scores[row["item"]] - total)
        chances += [np.exp(score - total) for score in list(scores.values())[:10]]
        hits += [item == row["item"] for item in list(scores)[:10]]
    found = two.to_dict()["calibration"]["mine"]
    assert found["log_loss"] == pytest.approx(-np.mean(logs), rel=1e-4)
    assert found["error"] == pytest.approx(calibration_error(chances, hits), rel=1e-3)


class Page(HTMLParser):
    """What a page holds: its links, its words, its elements."""

    def __init__(self, text):
        super().__init__()
        self.links, self.words, self.elements, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_asks_for_nothing_and_shows_the_numbers(ring):
    *_, two = ring
    text = two.to_html()
    page = Page(text)
    assert page.links and all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not re.findall(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", text)
    assert "default-src 'none'" in text and page.elements.count("script") == 1
    assert not {"img", "link", "iframe", "object"} & set(page.elements) and page.elements.count("svg") >= 5
    assert len(page.ids) == len(set(page.ids))
    shown = " ".join(page.words)
    assert BAD in shown and "<script>alert" not in text
    assert two.verdict in shown
    for each in two.to_dict()["models"].values():
        ends = each["intervals"]["ndcg@10"]
        assert f"{ends['mean']:.4f}" in shown and f"{ends['low']:.4f} to {ends['high']:.4f}" in shown


def test_a_page_of_one_report_and_what_has_no_page(ring, monkeypatch):
    rec, _, test, *_ = ring
    one = segue.evaluate(rec, test, cases=0)
    assert "nothing stands beside it" in one.to_html()
    with pytest.raises(EvaluationError, match="a table without ranks"):
        replace(one, details=None).to_html()
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r'pip install "segue\[plot\]"'):
        one.to_html()
    with pytest.raises(ArgumentError, match="expected recommenders, came str"):
        segue.evaluate(["films.segue"], test)
    with pytest.raises(ArgumentError, match="came model 2, which learnt ratings alone"):
        segue.evaluate([rec, small_rater(task="rating")], test)


def test_ratings_are_compared_by_their_squared_errors():
    log = rated_log(users=12, events=400)
    train, test = segue.split_by_time(log, test=0.3)
    mine, other = small_rater(), small_rater(seed=8)
    found = segue.evaluate_ratings({"mine": mine, "copy": mine, "other": other}, test, train=train)
    numbers = json.loads(json.dumps(found.to_dict()))
    rows = {name: row["metrics"] for name, row in numbers["models"].items()}
    assert len(rows) > 3
    for name, rec in (("mine", mine), ("copy", mine), ("other", other)):
        assert rows[name] == pytest.approx(segue.evaluate_ratings(rec, test).rows["segue"])
        assert numbers["models"][name]["intervals"]["rmse"]["mean"] == pytest.approx(rows[name]["rmse"])
    best = min(rows, key=lambda name: rows[name]["rmse"])
    assert found.verdict.startswith(best.partition(" (")[0])
    copies, pair = between(numbers["pairs"], "mine", "copy"), between(numbers["pairs"], "mine", best)
    assert copies["noise"] and copies["mean"] == 0.0
    assert pair["mean"] == pytest.approx(rows[best]["rmse"] ** 2 - rows["mine"]["rmse"] ** 2)
    mse = rows["mine"]["rmse"] ** 2
    rows = next(way["rows"] for way in numbers["slices"] if way["by"] == "events of the user before")
    squares = sum(row["queries"] * row["models"]["mine"]["mean"] ** 2 for row in rows)
    assert sum(row["queries"] for row in rows) == numbers["queries"]
    assert squares / numbers["queries"] == pytest.approx(mse)
    page = Page(found.to_html())
    assert "squared error lower by" in " ".join(page.words) and "catalogue" not in page.ids
    assert not failures([condition_of("rmse < 0")], found.rows) and failures([condition_of("rmse > 0")], found.rows)


def test_conditions_compare_with_numbers_baselines_and_an_earlier_report(ring, tmp_path):
    *_, two = ring
    rows, kept = two.rows, tmp_path / "report.json"
    two.write(kept)
    value = rows["mine"]["ndcg@10"]
    ends = two.to_dict()["models"]["mine"]["intervals"]["ndcg@10"]
    for text, holds in (
        (f"ndcg@10 < {value + 0.01}", True),
        (f"ndcg@10<{value - 0.01}", False),
        (f"ndcg@10 > {value - 0.01}", True),
        ("ndcg@10 < baseline", True),
        ("ndcg@10 > baseline", False),
        (f"ndcg@10 < {kept}", False),
    ):
        assert bool(failures([condition_of(text)], rows)) is holds, text
    (why,) = failures([condition_of(f"ndcg@10 < {kept}")], {"mine": {"ndcg@10": ends["low"] - 1e-6}})
    assert f"below the 95 % confidence interval of {kept}, {ends['low']:.4f} to {ends['high']:.4f}" in why
    assert not failures([condition_of(f"ndcg@10 < {kept}")], {"mine": {"ndcg@10": ends["low"]}})
    beside = {"mine": {"hr@10": 0.5, "rmse": 0.9}, "a": {"hr@10": 0.4, "rmse": 0.8}, "b": {"hr@10": 0.6, "rmse": 1.0}}
    assert "best baseline, b, 0.6" in failures([condition_of("hr@10 < baseline")], beside)[0]
    assert "best baseline, a, 0.8" in failures([condition_of("rmse > baseline")], beside)[0]
    for text, message in (
        ("ndcg@10", "expected a condition"),
        ("ndcg@10 < no.json", "expected a number, baseline, or the report.json"),
        (f"auc < {kept}", "which has hr@5"),
    ):
        with pytest.raises(ArgumentError, match=message):
            condition_of(text)
    for text, wanted in (("auc < 1", rows), ("ndcg@10 < baseline", {"mine": rows["mine"]})):
        with pytest.raises(ArgumentError, match="--fail-if"):
            failures([condition_of(text)], wanted)


def test_the_command_line_writes_a_report_and_exits_3_where_a_condition_holds(tmp_path, monkeypatch):
    ring_rows(users=20).write_parquet(tmp_path / "log.parquet")
    log = segue.read_events(tmp_path / "log.parquet")
    train, test = split_last(log)
    ids = item_vocabulary(train)
    facts = {"hold_out": "last:1", "hold_out_digest": digest(test)}
    recs = {
        name: with_fingerprint(replace(small_recommender(ids, seed=seed), facts=facts))
        for name, seed in (("a", 5), ("b", 6))
    }
    for name, rec in recs.items():
        rec.save(tmp_path / f"{name}.segue")
    beside = {"ring": Follows(ids)}
    measure = segue.evaluate
    monkeypatch.setattr(segue, "evaluate", lambda *of, **how: measure(*of, **{**how, "baselines": beside}))

    def run(*words, models=("a", "b")):
        paths = [str(tmp_path / f"{name}.segue") for name in models]
        return CliRunner().invoke(app, ["evaluate", *paths, str(tmp_path / "log.parquet"), *words])

    page = tmp_path / "report.html"
    failed = run("--report", str(page), "--fail-if", "ndcg@10 < baseline", "--report-users", "3")
    assert failed.exit_code == 3 and "below the best baseline, ring, 1.0000" in failed.output
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert list(numbers["models"]) == ["a", "b", "ring"] and numbers["verdict"] in failed.output
    for name, rec in recs.items():
        assert numbers["models"][name]["metrics"] == pytest.approx(measure(rec, test).rows["segue"])
    assert "films.segue" not in page.read_text() and numbers["verdict"] in page.read_text()
    assert len(numbers["cases"]) == 3
    one = run("--fail-if", "ndcg@10 < 0", models=("a",))
    assert one.exit_code == 0 and "Improvement over the best baseline" in one.output
    assert run("--stream").exit_code == 2 and run("--task", "rating").exit_code == 1
    facts = {"a": facts, "other": {"hold_out": "last:2", "hold_out_digest": "x"}}
    with pytest.raises(EvaluationError, match="other with --hold-out last:2 and a with --hold-out last:1"):
        held_out_by_all(facts, log)
    ranges = {"old": {"range": [0, 3_000_000_000]}, "new": {"range": [0, 5_000_000_000]}}
    assert len(held_out_by_all(ranges, log).test) == (log.table["time"] > 5_000_000_000).sum()
