"""What a small request may cost: nothing that it reads or copies grows with catalogue, history or changes."""

import json
import tracemalloc

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from segue.data.features.catalogue import Catalogue, read_items
from segue.data.features.table_encoder import TableEncoder
from segue.data.sequences.vocabulary import Vocabulary
from segue.data.values.lookup import Haystack, Postings
from segue.errors import ColumnError
from segue.recommend import batch
from segue.recommend.changed_items import ROWS
from segue.recommend.copy_on_write import Pages
from segue.recommend.index.blocked_matmul import Table
from segue.recommend.lists import explain
from segue.recommend.lists.item_filters import Rule
from segue.recommend.lists.item_search import search
from segue.serve.app import make_app
from segue.serve.live import replay
from segue.serve.live.replay import REACH
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest, ListOptions
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import described_log, described_recommender, small_recommender

SECOND = 1_000_000


@pytest.fixture(name="store")
def a_store(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    yield store
    store.close()


@pytest.fixture(name="counted")
def counter(monkeypatch):
    """Count the calls of what costs O(items)."""
    calls = {}

    def count(owner, name):
        inner = getattr(owner, name)
        known = inner.__func__ if isinstance(owner.__dict__[name], classmethod) else inner

        def counting(*args, **kwargs):
            calls[f"{owner.__name__}.{name}"] = calls.get(f"{owner.__name__}.{name}", 0) + 1
            return known(*args, **kwargs)

        monkeypatch.setattr(owner, name, classmethod(counting) if known is not inner else counting)

    for owner in (Postings, Haystack, Table, Pages):
        count(owner, "of")
    count(TableEncoder, "encode")
    count(TableEncoder, "encode_row")
    return calls


def served(rec, store):
    service = Service(rec, store)
    service.recommend("ann", ListOptions(3, 0))
    service.similar(rec.items[0])
    return service


def test_changes_lists_and_searches_lay_nothing_out_anew(store, counted):
    rec = described_recommender(described_log())
    service = served(rec, store)
    where = {"kind": ["a", "b"], "price": 2, "title": "red car 1"}
    service.set_rules([Rule("boost", {"kind": "a"}, by=1.0), Rule("block", {"price": 4})])
    service.change_item("00", attributes={"price": 3})
    service.recommend("ann", ListOptions(3, 0, where=where))
    counted.clear()
    for n in range(30):
        item = rec.items[n % len(rec.items)]
        service.change_item(item, available=n % 2 == 0, attributes={"price": n % 5, "kind": "abc"[n % 3]})
        service.recommend("ann", ListOptions(3, 0, where=where))
        search(service.rec, "car", limit=3)
        service.similar("03")
    assert counted == {"TableEncoder.encode_row": 60}  # of each change, what was and what is
    service.close()


def test_one_more_change_costs_the_same_beside_many(store, counted):
    rec = described_recommender(described_log())
    kept = {item: {"price": 1, "kind": "c"} for item in [*rec.items, *map(str, range(1000, 1200))]}
    store.put_value("items", json.dumps({"attributes": kept}).encode())
    service = served(rec, store)
    service.recommend("ann", ListOptions(3, 0, where={"kind": "a"}))
    service.change_item("01", attributes={"price": 2})
    counted.clear()
    service.change_item("02", attributes={"price": 2})
    assert counted == {"TableEncoder.encode_row": 2}
    service.close()


def large(items=20_000):
    """A recommender of many items with titles, kinds and a table of 640 kB."""
    rec = small_recommender(Vocabulary(pl.Series([f"{n:05d}" for n in range(items)])))
    kinds = ["abcdefghij"[n % 10] for n in range(items)]
    table = rec.catalogue.table.with_columns(
        kind=pl.Series(kinds), price=pl.Series([float(n % 7) for n in range(items)])
    )
    vars(rec).update(catalogue=Catalogue(table), counts=None)
    return rec


def peak(work):
    """The most bytes that a call had at one time beside what was there."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_of_a_large_catalogue_a_change_or_filter_copies_little(store):
    rec = large()
    service = served(rec, store)
    service.change_item("00001", attributes={"price": 3.5, "kind": "b"})
    service.recommend("ann", ListOptions(3, 0, where={"kind": "b"}))
    whole = 20_000 * 8  # a pointer for each item: less than any list of them
    assert peak(lambda: service.change_item("00002", attributes={"price": 3.5, "kind": "b"})) < whole
    assert peak(lambda: search(service.rec, "nothing of the kind", limit=20)) < whole / 10
    assert peak(lambda: search(service.rec, "film", limit=20)) < whole / 10
    where = ListOptions(3, 0, where={"kind": "b"})
    assert (
        peak(lambda: service.recommend("ann", where))
        < peak(lambda: service.recommend("ann", ListOptions(3, 0))) + whole
    )
    service.close()


def test_vectors_are_shared_until_they_change_and_laid_out_again_after_some_hundred(monkeypatch):
    from segue.recommend.changed_items import Changed

    rec, made = described_recommender(described_log()), []
    inner = Pages.of.__func__
    monkeypatch.setattr(Pages, "of", classmethod(lambda cls, array: made.append(len(array)) or inner(cls, array)))
    more = rec.add_items(
        pl.DataFrame({"item": [f"n{n}" for n in range(2 * ROWS)], "title": "red car", "kind": "a", "price": 1.0})
    )
    changed, versions = Changed(more, more), []
    for row in range(1, 2 * ROWS):
        changed = changed.with_lines({row: {**more.catalogue.line(row), "kind": "b"}})
        versions.append(changed.rec.params.items)
    assert len(made) == 2 * 2  # twice vectors and biases
    for row in (1, 2, ROWS, ROWS + 1, 2 * ROWS - 2):
        same = np.flatnonzero((versions[row - 1] == versions[row]).all(axis=1))
        assert len(same) >= len(versions[row]) - 1  # a version differs from the one before in its row alone
    assert np.array_equal(versions[0][2:], more.params.items[2:])


def test_old_models_are_let_go(store):
    import gc
    import weakref

    rec = described_recommender(described_log())
    service = served(rec, store)
    service.change_item("00", attributes={"price": 3})
    old = weakref.ref(service.rec)
    for n in range(3):
        service.change_item("01", attributes={"price": n})
    gc.collect()
    assert old() is None
    laid = service.changes._laid
    other = described_recommender(described_log(seed=2))
    service.changes.applied(other)
    assert len(laid) == 2
    del other
    gc.collect()
    assert len(laid) == 1
    service.close()


def long_history(rec, store, count):
    service = Service(rec, store)
    for begin in range(0, count, 500):
        some = [Event("ann", f"{n % 11:03d}", n * SECOND) for n in range(begin, min(begin + 500, count))]
        service.ingest([IngestRequest(tuple(some), "shop")])
    return service


def test_what_would_be_without_an_event_is_read_from_the_last_state_before_it(store, monkeypatch):
    rec, count = small_recommender(), REACH + 300
    service = long_history(rec, store, count)
    replayed = []
    inner = replay.observe_long
    monkeypatch.setattr(
        replay, "observe_long", lambda rec, state, some: replayed.append(len(some)) or inner(rec, state, some)
    )
    events = store.events("ann", limit=count)
    for back in (1, 40, REACH - 1, REACH):
        replayed.clear()
        gone = events[count - back]
        found = service.what_if("ann", [gone.seq], ListOptions(12))
        rest = batch.observe_long(rec, rec.start(), [event for event in events if event.seq != gone.seq])
        assert [line.item for line in found.items] == [line.item for line in rec.recommend(rest, 12)]
        assert sum(replayed) <= 3 * back + replay.SPACING
    with pytest.raises(
        Exception, match=rf"expected numbers \(seq\) of the last 1,000 events of the user, came {events[0].seq}"
    ):
        service.what_if("ann", [events[0].seq], ListOptions(3))
    with pytest.raises(Exception, match="last 1,000 events"):
        service.what_if("ann", [10**9], ListOptions(3))
    replayed.clear()
    service.explain("ann", "003", last=20)
    assert sum(replayed) <= 2 * 20 + replay.SPACING
    service.close()


def test_an_explanation_takes_half_the_steps_of_all_lanes_side_by_side(store, monkeypatch):
    rec = small_recommender()
    service = long_history(rec, store, 40)
    lanes = []
    inner = explain.observe_each
    monkeypatch.setattr(
        explain, "observe_each", lambda rec, states, some: lanes.append(len(states)) or inner(rec, states, some)
    )
    service.explain("ann", "003", last=30)
    assert lanes == list(range(1, 31))
    service.close()


@pytest.fixture(name="client")
def a_client(store):
    service = Service(described_recommender(described_log()), store)
    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        client.service = service
        yield client
    service.close()


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"price": "x"}, 'column "price": expected number, 0 to 4, came "x". Send such a value, or leave it out.'),
        ({"price": "12 kg"}, 'column "price": expected number, 0 to 4, came "12 kg"'),
        ({"price": True, "colour": "red"}, 'expected columns among title, kind, price, came "colour". Leave it out.'),
    ],
)
def test_one_item_does_not_change_the_kind_of_a_column(client, attributes, words):
    rec = client.service.rec
    before = client.post("/v1/recommend", json={"history": ["01"], "where": {"price": 2}}).json()
    for answer in (
        client.patch("/v1/items/01", json={"attributes": attributes}),
        client.post("/v1/items", json={"items": [{"item": "n", "title": "red car"}, {"item": "m", **attributes}]}),
    ):
        assert answer.status_code == 422 and words in answer.json()["detail"]
    assert client.service.rec is rec and client.service.store.get_value("items") is None
    added = client.post(
        "/v1/items", json={"items": [{"item": "n", "price": 2, "kind": ["a", "c"]}, {"item": "m", "price": "4"}]}
    )
    assert added.json()["added"] == 2
    assert client.patch("/v1/items/01", json={"attributes": {"price": "2.5", "kind": ["b"]}}).status_code == 200
    schema = client.service.rec.catalogue.table.schema
    assert schema == rec.catalogue.table.schema and client.service.rec.catalogue.table["kind"].to_list()[-2] == "a|c"
    after = client.post("/v1/recommend", json={"history": ["01"], "where": {"price": 2}}).json()
    assert {x["item"] for x in before["items"]} <= {x["item"] for x in after["items"]} | {"01"}
    listed = client.post("/v1/recommend", json={"history": [], "where": {"price": [2.5, 4]}, "k": 20}).json()
    assert {"01", "m"} <= {line["item"] for line in listed["items"]}


@pytest.mark.parametrize(
    "value", [True, [], 10**400, "x", [1, 2], ["a"], "", None, 5, "5", 2.5], ids=lambda x: repr(x)[:9]
)
@pytest.mark.parametrize("name", ["price", "title", "kind"])
def test_an_added_item_is_judged_alone_as_a_changed_one_is(client, name, value):
    alone = client.patch("/v1/items/01", json={"attributes": {name: value}})
    first, last = {"item": "n", "price": 1, "title": "red car", "kind": "a"}, {"item": "m", name: value}
    for lines in ([first, last], [last, first]):
        answer = client.post("/v1/items", json={"items": lines})
        assert answer.status_code == alone.status_code, answer.json()
        if alone.status_code != 200:
            assert answer.json()["detail"].startswith('item "m": ' + alone.json()["detail"][:20])
    if alone.status_code == 200:
        rec = client.service.rec
        of = {item: rec.catalogue.line(rec.vocabulary.row(item)) for item in ("01", "n", "m")}
        assert of["m"][name] == of["01"][name] and of["n"]["price"] == 1 and of["n"]["title"] == "red car"


def test_a_title_of_several_parts_is_joined_and_one_of_fields_refused(client):
    lines = [{"item": "n", "title": ["red", "car"]}, {"item": "m", "name": "boat"}]
    assert client.post("/v1/items", json={"items": lines}).json()["added"] == 2
    rec = client.service.rec
    assert [rec.title("n"), rec.title("m")] == ["red car", "boat"]
    several = pl.DataFrame({"item": ["a", "b"], "title": [["red", "car"], []]})
    assert read_items(several)[0]["title"].to_list() == ["red car", None]
    with pytest.raises(ColumnError, match='expected titles that are texts, column "title" holds Struct'):
        read_items(pl.DataFrame({"item": ["a"], "title": [{"en": "car"}]}))


def test_an_item_of_which_nothing_is_known_has_no_score_to_explain(client):
    assert client.post("/v1/items", json={"items": [{"item": "n"}]}).json()["added"] == 1
    assert client.post("/v1/events", json={"events": [{"user": "ann", "item": "01"}]}).status_code == 200
    answer = client.post("/v1/explain", json={"user": "ann", "item": "n"})
    assert answer.status_code == 422 and 'item "n": expected an item with an attribute' in answer.json()["detail"]
    assert client.patch("/v1/items/n", json={"attributes": {"title": "red car"}}).status_code == 200
    assert isinstance(client.post("/v1/explain", json={"user": "ann", "item": "n"}).json()["score"], float)


def test_a_profile_of_another_kind_is_refused(client):
    answer = client.post("/v1/recommend", json={"history": ["01"], "profile": {"age": "x"}})
    assert answer.status_code == 422 and 'column "age": expected' in answer.json()["detail"]
    answer = client.post("/v1/recommend", json={"token": "new", "profile": {"age": "x"}})
    assert answer.status_code == 422
    assert client.post("/v1/recommend", json={"history": ["01"], "profile": {"age": "30"}}).status_code == 200
