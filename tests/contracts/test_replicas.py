"""Several servers over one store lose nothing of each other, and see each other's changes."""

import threading
import time

import pytest

import engines
from segue.recommend.lists.item_filters import Rule
from segue.serve.live import leases
from segue.serve.live.leases import Leases
from segue.serve.live.service import Service
from segue.serve.live.state_tokens import sealer_of
from segue.serve.ranking.types import IngestRequest, ListOptions
from segue.store.events import Event
from segue.store.factory import open_store
from segue.store.sql.postgres_store import PostgresStore
from segue.store.valkey_store import ValkeyStore
from served import ITEMS, Server, model
from tests_support import small_recommender, until


@pytest.fixture(name="open_another", params=["server", "postgres"])
def any_engine(request, tmp_path):
    address = request.getfixturevalue(request.param).address
    if request.param == "server":
        return lambda: ValkeyStore(address, prefix=str(tmp_path))
    return lambda: PostgresStore(address, schema=str(tmp_path))


@pytest.fixture(name="stores")
def two_stores(open_another):
    stores = [open_another() for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


@pytest.fixture(name="services")
def two_services(stores):
    services = [Service(small_recommender(), store) for store in stores]
    yield services
    for service in services:
        service.close()


def together(*works):
    """Do all at the same time."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def shown(service):
    return {line.item for line in service.recommend("nobody", ListOptions(k=len(ITEMS))).items}


def test_changes_of_items_and_rules_of_two_replicas_are_all_kept(services, stores):
    one, two = services

    def change(service, items):
        for item in items:
            service.change_item(item, available=False, attributes={"title": f"new {item}"})

    together(
        lambda: change(one, ITEMS[:5]), lambda: change(two, ITEMS[5:10]),
        lambda: one.set_rules([Rule("block", {}, (ITEMS[10],), 0.0, "block")]),
    )  # fmt: skip
    for service in services:
        until(lambda service=service: shown(service) == {ITEMS[11]})
        titles = [f"new {item}" for item in ITEMS[:10]]
        until(lambda service=service, new=titles: [service.rec.title(item) for item in ITEMS[:10]] == new)
        assert [rule.name for rule in service.changes.rules] == ["block"]
    later = Service(small_recommender(), stores[0])
    assert shown(later) == {ITEMS[11]}
    later.close()


def test_a_change_is_seen_by_the_other_within_about_a_second(services):
    one, two = services
    assert ITEMS[3] in shown(two)
    one.change_item(ITEMS[3], available=False)
    begin = time.monotonic()
    until(lambda: ITEMS[3] not in shown(two))
    assert time.monotonic() - begin < 10  # about one on a free machine
    two.change_item(ITEMS[4], available=False)
    until(lambda: not {ITEMS[3], ITEMS[4]} & shown(one))


def test_replicas_that_start_together_have_one_key(open_another):
    barrier, stores, tokens, sealers = threading.Barrier(8), [], [], []

    def start():
        barrier.wait()
        store = open_another()
        stores.append(store)
        sealers.append(sealer_of(store))
        tokens.append(sealers[-1].seal(b"state"))

    together(*[start] * 8)
    assert all(sealer.open(token) == b"state" for sealer in sealers for token in tokens)
    for store in stores:
        store.close()


def test_states_that_another_replica_uses_stay_and_those_of_a_dead_one_go(stores):
    now = [1000.0]
    one, two = (Leases(store, lambda: now[0]) for store in stores)
    assert one.renew(["b1"]) == [] == two.renew(["b2", "b1"]) == one.renew(["b3"])
    two.release()
    assert one.renew(["b3"]) == ["b1", "b2"]
    assert two.renew(["b1"]) == ["b2"]
    now[0] += leases.HELD / 2
    one.drop("b2")
    assert one.renew(["b3"]) == []
    now[0] += leases.HELD / 2 + 1
    assert one.renew(["b3"]) == ["b1"]  # the other has not been heard of for long


def test_what_an_older_version_kept_of_bundles_is_understood(stores):
    stores[0].put_value("bundles", b'["b1", "b2"]')
    assert Leases(stores[0]).renew(["b2"]) == ["b1"]


def test_a_replica_with_another_model_drops_no_state_of_the_first(services, stores, tmp_path):
    one, _ = services
    assert one.ingest([IngestRequest(tuple(Event(f"u{n}", ITEMS[n % 12], 5) for n in range(20)))])[0].events
    old = one.rec.fingerprint
    other = Service(small_recommender(seed=6), stores[1])
    assert other._rollout.wait()
    assert all(head.fresh for head in stores[0].heads([f"u{n}" for n in range(20)], old))
    for service in services:
        service.close()
    other.close()
    last = Service(small_recommender(seed=7), stores[0])
    assert last._rollout.wait()
    assert not any(head.state for head in stores[0].heads([f"u{n}" for n in range(20)], old))
    last.close()


def test_two_servers_over_one_store(tmp_path):
    valkey = engines.Server(tmp_path)
    model(tmp_path / "b.segue")
    (tmp_path / "two").mkdir()
    model(tmp_path / "two" / "b.segue", seed=6)
    servers = [Server(folder, "--store", valkey.address) for folder in (tmp_path, tmp_path / "two")]
    one, two = servers
    try:
        assert one.call("POST", "/v1/events", {"user": "ann", "item": ITEMS[1], "time": 1000})[0] == 200
        codes = []
        together(*(
            lambda server=server, n=n: codes.append(
                server.call("PATCH", f"/v1/items/{ITEMS[n]}", {"available": False})[0]
            ) for n, server in enumerate(servers * 4)
        ))  # fmt: skip
        assert codes == [200] * 8

        def unavailable(server):
            return server.call("GET", "/v1/status")[1]["unavailable"]

        until(lambda: unavailable(one) == unavailable(two) == 8)
        for server in servers:
            code, told = server.call("POST", "/v1/events?recommend=12", {"user": "ann", "item": ITEMS[2]})
            assert code == 200 and {line["item"] for line in told["items"]} == set(ITEMS[8:])
        assert two.call("GET", "/v1/users/ann")[1]["count"] == 3
        store = open_store(valkey.address)
        head = store.head("ann", one.call("GET", "/v1/status")[1]["model"])
        assert head.state is not None  # the other server runs another model
        store.close()
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()
        valkey.kill()


def test_a_server_is_ready_as_soon_as_its_store_is_back(tmp_path):
    valkey = engines.Server(tmp_path)
    model(tmp_path / "b.segue")
    server = Server(tmp_path, "--store", valkey.address)
    try:
        valkey.kill()
        for _ in range(12):  # so long that the threads pause for longer and longer
            code, said = server.call("GET", "/readyz")
            assert code == 503 and "did not answer" in said["reason"]
            assert server.call("POST", "/v1/events", {"user": "ann", "item": ITEMS[1]})[0] == 503
            time.sleep(0.3)
        valkey.start()
        assert server.call("GET", "/readyz") == (200, {"ready": True, "reason": ""})
        assert server.call("POST", "/v1/events", {"user": "ann", "item": ITEMS[1]})[0] == 200
        text = server.call("GET", "/metrics")[1].decode()
        assert 'segue_background_errors_total{thread="segue-follow"}' in text
    finally:
        server.process.kill()
        server.process.wait()
        valkey.kill()
