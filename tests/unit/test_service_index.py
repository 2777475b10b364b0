"""A service whose lists come from an index: the lists, ranks and explanations of one that scores all items."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from segue.data.sequences.vocabulary import Vocabulary
from segue.model.backend import map_tree
from segue.model_file import save_model
from segue.recommend.index.approximate import build_index, exact_index, index_path, open_index
from segue.recommend.index.codes import Codes
from segue.recommend.lists.item_filters import Rule
from segue.serve.http.metrics import Metrics
from segue.serve.live import model_source
from segue.serve.live.model_source import open_model
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest, ListOptions
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import described_log, described_recommender, read_catalogue, small_recommender

NOW = 1_700_000_000
ITEMS = [f"{i:04d}" for i in range(1500)]


@pytest.fixture(name="rec", scope="module")
def a_recommender():
    rec = small_recommender(Vocabulary(pl.Series(ITEMS)), repeats="exclude")
    table = pl.DataFrame({"item": ITEMS, "title": ITEMS, "kind": ["a", "b", "c"] * 500, "size": [1, 2] * 750})
    return replace(rec, catalogue=read_catalogue(table, rec.vocabulary))


@pytest.fixture(name="model", scope="module")
def a_model(rec, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "b.segue"
    save_model(rec, path)
    build_index(rec, path)
    return path


@pytest.fixture(name="pair", params=["codes", "exact"])
def two_services(rec, model, tmp_path, request):
    """One that scores all items, one that asks an index."""
    found = rec.with_index(exact_index(rec)) if request.param == "exact" else open_model(model)[0]
    stores = [SqliteStore(tmp_path / name) for name in ("a", "b")]
    services = [Service(one, store, clock=lambda: NOW) for one, store in zip((rec, found), stores, strict=True)]
    yield services
    for service, store in zip(services, stores, strict=True):
        service.close()
        store.close()


def same_items(pair, options):
    exact, found = (service.recommend("ann", options).items for service in pair)
    if options.explore:  # what is drawn depends on each item of the pool, so the pool is compared
        pool = replace(options, explore=0.0, k=11 * options.k + 20)
        exact = [x for x in pair[0].recommend("ann", pool).items if x.item in {x.item for x in found}]
    assert len(exact) == len(found) > 0
    common = {x.item: x.score for x in exact}.keys() & {x.item for x in found}
    assert len(common) >= 0.9 * len(exact)
    scores = {x.item: x.score for x in exact}
    assert all(abs(scores[x.item] - x.score) < 1e-4 for x in found if x.item in scores)
    return found


QUESTIONS = [
    ListOptions(k=20),
    ListOptions(k=5, where={"kind": "b", "size": 2}),
    ListOptions(k=10, exclude=tuple(ITEMS[:300])),
    ListOptions(k=10, repeats="allow"),
    ListOptions(k=6, diversity=0.4),
    ListOptions(k=6, explore=0.5, seed=3),
]


def test_lists_are_those_of_scoring_everything(pair):
    draw = np.random.default_rng(0)
    events = [Event("ann", ITEMS[i], 1_000_000 * n) for n, i in enumerate(draw.integers(0, 1500, 30), 1000)]
    for service in pair:
        service.ingest([IngestRequest(tuple(events), "shop", ListOptions(k=3))])
    for options in QUESTIONS:
        same_items(pair, options)
    best = [x.item for x in pair[0].recommend("ann", ListOptions(k=40)).items]
    for service in pair:
        service.change_item(best[0], available=False)
        rules = [Rule("block", {"size": 2}), Rule("boost", {"kind": "c"}, by=3.0), Rule("boost", {"kind": "a"}, by=-2)]
        service.set_rules([*rules, Rule("pin", items=(ITEMS[1498], best[0]), name="of the day")])
    for options in QUESTIONS:
        shown = same_items(pair, replace(options, debug=True, where={}, exclude=()))
        assert shown[0].item == ITEMS[1498]
        assert all(int(x.item) % 2 == 0 and x.item != best[0] for x in shown)
    one, other = (service.explain("ann", item=ITEMS[7], last=4) for service in pair)
    assert [(p.event.item, p.change) for p in one.parts] == [
        (p.event.item, pytest.approx(p.change, abs=1e-4)) for p in other.parts
    ]


def test_live_quality_comes_from_candidates_and_a_sample(pair):
    draw = np.random.default_rng(1)
    for n in range(60):
        users = [f"u{u}" for u in draw.permutation(20)[:8]]
        told = [
            IngestRequest((Event(user, ITEMS[min(draw.geometric(0.01), 1499)], 1_000_000 * (1000 + n)),))
            for user in users
        ]
        for service in pair:
            service.ingest(told)
    exact, found = (service.metrics.snapshot() for service in pair)
    assert (exact["sampled"], found["sampled"]) == (False, True)
    one, other = exact["all"]["all"], found["all"]["all"]
    assert one["n"] == other["n"] == 480
    assert other["recall@10"] == pytest.approx(one["recall@10"], abs=0.005)
    assert other["mrr@10"] == pytest.approx(one["mrr@10"], abs=0.005)
    assert other["log_loss"] == pytest.approx(one["log_loss"], abs=0.01)


def test_the_sample_stands_for_all_other_items(pair, monkeypatch):
    monkeypatch.setattr("segue.recommend.fused_inference.SAMPLE", 200)
    test_live_quality_comes_from_candidates_and_a_sample(pair)


def test_a_sample_of_all_is_exact_where_the_hour_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("segue.serve.ranking.list_requests.DEFAULT", ListOptions(k=1))
    rec, found = described_recommender(described_log()), []
    rec = replace(rec, params=map_tree(lambda a: 0.4 * a, rec.params))  # no item is nearly certain
    for number, one in enumerate((rec, rec.with_index(exact_index(rec)))):
        store = SqliteStore(tmp_path / str(number))
        service = Service(one, store, clock=lambda: NOW)
        for hour in range(0, 240, 7):
            service.ingest([IngestRequest((Event("ann", f"{hour % 12:02d}", hour * 3_600_000_000),))])
        found.append(service.metrics.snapshot()["all"]["all"]["log_loss"])
        service.close()
        store.close()
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_prometheus_reads_the_recall_of_the_index_in_use(pair, model):
    kept = open_index(open_model(model)[0], model)[0].facts.recall
    for service in pair:
        coded = hasattr(service.rec.index, "codes")
        text = Metrics(service.online_metrics, service.index_recall).text().decode()
        [line] = [line for line in text.splitlines() if line.startswith("segue_index_recall ")]
        assert float(line.split()[1]) == (kept if coded else 1.0)


def test_an_index_that_does_not_fit_is_refused_and_said(rec, model, tmp_path, monkeypatch):
    opened, said = open_model(model)
    assert opened.index is not None and "recall@20" in said
    other = tmp_path / "b.segue"
    save_model(small_recommender(rec.vocabulary, seed=9), other)
    index_path(other).write_bytes(index_path(model).read_bytes())
    refused, said = open_model(other)
    assert refused.index is None and "of another model; all 1,500 items are scored" in said
    assert "segue index" in said
    monkeypatch.setattr(model_source, "EVERY", 1000)
    assert type(open_model(other)[0].index).__name__ == "ExactIndex"


def test_the_index_of_a_swapped_model_is_opened_and_changes_are_laid_over_it(rec, model, tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    service = Service(small_recommender(rec.vocabulary, seed=9), store, models=model.parent, clock=lambda: NOW)
    service.roll_out(model.name)
    assert service._rollout.wait()
    assert service.rec.index is not None and "recall@20" in service.status().lists
    assert service.rec.index.facts.fingerprint == service.rec.fingerprint
    service.change_item(ITEMS[3], attributes={"kind": "b"})
    assert service.rec.index is not None
    assert ITEMS[3] in [x.item for x in service.recommend("ann", ListOptions(k=600, where={"kind": "b"})).items]
    service.close()
    store.close()
    assert open_model(model)[0].index.facts.recall > 0.9


def test_a_crafted_index_never_reaches_faiss(rec, model, tmp_path):
    """What is wrong is found by what it says, for its digest is made anew; then all items are scored."""
    path = tmp_path / "b.segue"
    path.write_bytes(model.read_bytes())
    with safe_open(index_path(model), "numpy") as file:
        facts = json.loads(file.metadata()["facts"])
        arrays = {name: file.get_tensor(name) for name in Codes._fields}
    cells = arrays["cells"]

    def opened(**changed):
        parts = arrays | {name: part for name, part in changed.items() if name in arrays}
        known = facts | {"digest": Codes(**parts).digest}
        known |= {name: fact for name, fact in changed.items() if name not in arrays}
        parts = {name: np.ascontiguousarray(part) for name, part in parts.items()}
        save_file(parts, index_path(path), {"facts": json.dumps(known)})
        return open_index(rec, path)

    assert opened()[0] is not None
    wrong = [
        *({"cells": np.where(np.arange(len(cells)) == 3, far, cells)} for far in (-1, len(arrays["reach"]), 2**31 - 1)),
        {"cells": cells.astype(np.int64)},
        {"cells": cells[:-1]},
        {"codes": arrays["codes"][:, :-1]},
        {"codes": arrays["codes"][:-1]},
        {"books": arrays["books"][:, :8]},
        {"books": arrays["books"] * np.float32(np.nan)},
        {"centres": arrays["centres"][:-1]},
        {"reach": arrays["reach"][:0]},
        {"reach": np.float32(7)},
        {"rows": 10**12},
        {"rows": 0},
        {"width": -3},
        {"probes": 10**9},
        {"probes": 0},
        {"times": 10**9},
        {"recall": float("nan")},
        {"k": "many"},
        {"format": {}},
    ]
    for change in wrong:
        index, said = opened(**change)
        assert index is None, change
        assert "all 1,500 items are scored for each list" in said
        assert "Build it again: segue index" in said
    index, said = opened(format=2)  # of an older version, whose bytes faiss would have read
    assert index is None
    assert "expected format 3, it is of format 2" in said
    rng, whole = np.random.default_rng(0), index_path(model).read_bytes()
    for _ in range(100):
        data = bytearray(whole)
        for at in rng.integers(0, len(data) if rng.random() < 0.5 else 1500, 3):
            data[at] = rng.integers(256)
        index_path(path).write_bytes(data)
        found, _ = open_index(rec, path)
        assert found is None or len(found.search(rec.params.items[:2], 5).rows) == 2
