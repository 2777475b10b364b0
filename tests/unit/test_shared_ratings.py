"""What moves across users: the service keeps what a slow walk over its log finds, and forgets it with the log."""

from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

import segue
from engines import Server
from segue.cli import app as cli
from segue.jobs.import_export import import_events
from segue.serve.app import make_app
from segue.serve.live import replay
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest, IngestResult
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from segue.store.valkey_store import ValkeyStore
from tests_support import small_rater

NOW = 1_700_000_000
USERS = ("ann", "bob", "cat")


@pytest.fixture(name="server", scope="module")
def a_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("shared"))
    yield server
    server.stop()


@pytest.fixture(name="opened", params=["sqlite", "valkey"])
def how_a_store_is_opened(tmp_path, request):
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "s.db")
    address = request.getfixturevalue("server").address
    return lambda: ValkeyStore(address, prefix=tmp_path.name)


@pytest.fixture(name="store")
def a_store(opened):
    store = opened()
    yield store
    store.close()


@pytest.fixture(name="rec", scope="module")
def a_rater():
    return small_rater()


@pytest.fixture(name="service")
def a_service(rec, store, tmp_path):
    service = Service(rec, store, models=tmp_path, clock=lambda: NOW)
    yield service
    service.close()


def drawn(seed, rows=40):
    """Ratings that arrive in any order of time; some events have none, some items are unknown."""
    rng = np.random.default_rng(seed)
    ratings = [None if rng.random() < 0.2 else float(rng.integers(1, 6)) for _ in range(rows)]
    return [
        Event(USERS[rng.integers(3)], f"{rng.integers(14):03d}", int(time) * 10**6, f"e{n}", rating=rating)
        for n, (time, rating) in enumerate(zip(1000 + rng.permutation(rows), ratings, strict=True))
    ]


def told(service, events, size=7):
    for begin in range(0, len(events), size):
        answers = service.ingest([IngestRequest((one,), "shop") for one in events[begin : begin + size]])
        assert all(isinstance(one, IngestResult) for one in answers)


def walked(rec, store):
    """The shared value of a log: each event by itself, in the order of its user."""
    shared = rec.shared()
    for user in {event.user for event in store.log(limit=10_000)}:
        state = rec.start()
        for event in store.events(user, limit=10_000):
            at = event.time / 1e6
            if event.rating is not None:
                shared = rec.observe_shared(shared, rec.rated(state, event.item, event.rating, at=at))
            state = rec.observe(state, event.item, time=at, rating=event.rating)
    return shared


def kept(rec, store):
    return store.shared(rec.fingerprint, range(rec.vocabulary.size))


def same(rec, store):
    """The store has the ratings that the walk finds, each as far from what was foretold, up to rounding."""
    found, wanted = kept(rec, store), walked(rec, store)
    numbers = {row: tally.number for row, tally in wanted.items.items()}
    assert {row: tally.number for row, tally in found.items.items()} == numbers
    assert found.every == tuple(map(sum, zip((0, 0), *found.items.values(), strict=True)))
    for row, tally in wanted.items.items():
        assert found.items[row].sum == pytest.approx(tally.sum, abs=50 * tally.number)  # millionths
    return bool(wanted.items)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_law_the_shared_value_is_that_of_the_log(rec, service, size, monkeypatch):
    monkeypatch.setattr(replay, "SPACING", 4)
    told(service, drawn(size), size)
    assert service.settle(60)
    assert same(rec, service.store)


def test_ratings_in_order_count_with_the_commit_that_keeps_them(rec, service):
    told(service, sorted(drawn(1), key=lambda one: one.time))
    assert same(rec, service.store)
    value = kept(rec, service.store)
    told(service, drawn(1)[:5])  # a retry
    assert kept(rec, service.store) == value


def test_a_forgotten_user_leaves_no_trace(rec, service):
    events = sorted(drawn(2), key=lambda one: one.time)
    told(service, [event for event in events if event.user != "ann"])
    without = kept(rec, service.store)
    told(service, [event for event in events if event.user == "ann"])
    assert kept(rec, service.store) != without
    service.erase_user("ann")
    assert kept(rec, service.store) == without
    for user in ("bob", "cat"):
        service.erase_user(user)
    assert kept(rec, service.store) == rec.shared()


def test_a_forgotten_event_and_a_merge_are_as_if_the_log_had_always_been_so(rec, service, monkeypatch):
    monkeypatch.setattr(replay, "SPACING", 4)
    told(service, sorted(drawn(3), key=lambda one: one.time))
    before = kept(rec, service.store)
    first = next(event for event in service.store.events("ann") if event.rating is not None)
    service.erase_event("ann", first.seq)
    assert service.settle(60)
    assert same(rec, service.store)
    assert kept(rec, service.store).every.number == before.every.number - 1
    service.merge("bob", "ann")
    assert service.settle(60)
    assert same(rec, service.store)
    assert kept(rec, service.store).every.number == before.every.number - 1


def test_a_restart_finds_the_value_and_reads_what_came_in_meanwhile(rec, opened):
    store = opened()
    service = Service(rec, store, clock=lambda: NOW)
    told(service, drawn(4))
    assert service.settle(60)
    value = kept(rec, store)
    service.close()
    store.close()
    store = opened()
    assert kept(rec, store) == value
    import_events(store, [replace(event, id=f"i{event.id}") for event in drawn(5)], source="old")
    assert not same_number(rec, store)
    service = Service(rec, store, clock=lambda: NOW)
    assert service.settle(60)
    assert same(rec, store)
    service.close()
    store.close()


def same_number(rec, store):
    return kept(rec, store).every.number == walked(rec, store).every.number


def test_a_model_that_is_swapped_in_has_a_value_of_its_own(rec, service, tmp_path):
    told(service, sorted(drawn(6), key=lambda one: one.time))
    other = small_rater(seed=8)
    other.save(tmp_path / "other.segue")
    service.roll_out("other.segue")
    assert service.settle(60)
    assert service.rec.fingerprint == other.fingerprint
    assert same(other, service.store)
    told(service, [Event("ann", "003", 2_000 * 10**6, rating=2.0)])
    assert same(other, service.store)
    assert not same_number(rec, service.store)  # it is not read by the model before
    service.roll_back()
    assert service.settle(60)
    assert same(rec, service.store)


def test_a_model_in_the_shadow_counts_too(rec, store):
    shadow = small_rater(seed=8)
    service = Service(rec, store, clock=lambda: NOW, shadow=shadow)
    told(service, drawn(7))
    assert service.settle(60)
    assert same(rec, store)
    assert same(shadow, store)
    service.close()


def test_two_replicas_share_one_value(rec, server, tmp_path):
    stores = [ValkeyStore(server.address, prefix=tmp_path.name) for _ in range(2)]
    services = [Service(rec, store, clock=lambda: NOW) for store in stores]
    for n, event in enumerate(drawn(8)):
        told(services[n % 2], [event])
    assert all(service.settle(60) for service in services)
    assert same(rec, stores[0])
    assert kept(rec, stores[0]) == kept(rec, stores[1])
    assert services[0].predict_rating("dan", "003").found == services[1].predict_rating("dan", "003").found
    for one in (*services, *stores):
        one.close()


def test_what_was_learnt_does_not_count_again(rec, store):
    events = sorted(drawn(9), key=lambda one: one.time)
    cut = events[20].time
    learnt = replace(rec, facts={"range": [events[0].time, cut]})
    import_events(store, events, source="log")
    service = Service(learnt, store, clock=lambda: NOW)
    assert service.settle(60)
    later = [event for event in events if event.time > cut and event.rating is not None]
    assert 0 < kept(rec, store).every.number == len(later) < same_count(events)
    service.close()


def same_count(events):
    return sum(event.rating is not None for event in events)


def test_others_move_what_the_server_says(rec, service):
    events = sorted(drawn(10), key=lambda one: one.time)
    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        asked = {"user": "dan", "item": "003", "at": NOW}
        before = client.get("/v1/ratings", params=asked).json()["rating"]
        for event in events:
            body = {"user": event.user, "item": event.item, "time": event.time / 1e6, "rating": event.rating}
            assert client.post("/v1/events", json=body).status_code < 300
        after = client.get("/v1/ratings", params=asked).json()["rating"]
        shared = walked(rec, service.store)
        assert after == pytest.approx(rec.predict_rating(rec.start(), "003", at=NOW, shared=shared), abs=1e-4)
        assert abs(after - before) > 1e-3
        for user in USERS:
            assert client.delete(f"/v1/users/{user}").status_code < 300
        assert client.get("/v1/ratings", params=asked).json()["rating"] == before


def test_the_verb_reads_the_value_of_a_store(rec, tmp_path):
    rec.save(tmp_path / "b.segue")
    rec = segue.load(tmp_path / "b.segue")
    store = SqliteStore(tmp_path / "s.db")
    service = Service(rec, store, clock=lambda: NOW)
    told(service, sorted(drawn(11), key=lambda one: one.time))
    words = ["rate", tmp_path / "b.segue", "--item", "003", "--user", "ann", "--store", tmp_path / "s.db", "--json"]
    said = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert f'"rating": {service.predict_rating("ann", "003").found.mean:.4f}'[:-1] in said.stdout
    service.close()
    store.close()
