"""The shared store says when its server would lose events, is full, or is gone, and erases from its files."""

import time

import pytest

from engines import Server
from segue.errors import FullError, LostError, StoreError
from segue.store import factory
from segue.store.base import Snapshot, Stale, Write, Written
from segue.store.events import Event
from segue.store.factory import open_store
from segue.store.valkey_store import ValkeyStore


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("valkey"), "--rdbcompression", "no")  # so that files can be searched
    yield server
    server.stop()


@pytest.fixture
def store(server, tmp_path):
    store = ValkeyStore(server.address, prefix=str(tmp_path))
    yield store
    store.close()


def add(store, user, item, **fields):
    return store.commit([Write(user, None, (Event(user, item, **fields),), client="web")])[0]


@pytest.mark.parametrize(
    ("name", "safe", "unsafe"),
    [
        ("appendonly", "yes", "no"),
        ("appendfsync", "always", "everysec"),
        ("no-appendfsync-on-rewrite", "no", "yes"),
        ("maxmemory-policy", "noeviction", "allkeys-lru"),
    ],
)
def test_a_server_that_could_lose_events_is_not_ready_unless_that_is_accepted(server, store, name, safe, unsafe):
    careless = ValkeyStore(server.address, accept_loss=True)
    assert store.ready().ready and careless.ready().ready
    store._server.call("CONFIG SET", name, unsafe)
    try:
        said = store.ready()
        assert not said.ready
        assert f"expected {name} {safe} (is {unsafe}): an acknowledged event could be lost. Set these" in said.reason
        assert careless.ready().ready
    finally:
        store._server.call("CONFIG SET", name, safe)
        while store._server.call("INFO", "persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.02)
        careless.close()
    assert store.ready().ready


def test_two_replicas_share_a_store_and_a_lost_race_is_stale(server, store, tmp_path):
    other = ValkeyStore(server.address, prefix=str(tmp_path))
    first, second = (Write("ann", 0, (Event("ann", item, id=item),), {"b1": item.encode()}) for item in "ab")
    assert isinstance(store.commit([first])[0], Written)
    assert other.commit([second]) == [Stale(1)]
    assert other.head("ann", "b1").state.data == b"a"
    other.erase_user("ann")
    assert store.head("ann", "b1").erased
    other.close()


def test_a_full_server_changes_nothing(store):
    add(store, "ann", "1")
    store._server.call("CONFIG SET", "maxmemory", 1)
    try:
        with pytest.raises(FullError, match=r"no room to write \(.*\). Nothing was changed. Make room, and repeat"):
            store.commit([Write("ann", 1, (Event("ann", "2", id="b"),), {"b1": b"m"})], values={"v": b"1"})
    finally:
        store._server.call("CONFIG SET", "maxmemory", 0)
    assert [event.item for event in store.log()] == ["1"] and store.get_value("v") is None
    assert store.head("ann", "b1").state is None and store.find_event("", "b") is None
    assert isinstance(add(store, "ann", "2"), Written)


def test_no_file_of_the_server_holds_what_was_erased(server, store):
    for n in range(30):
        user = f"user-{n}-of-this-shop"
        add(store, user, f"item-of-{user}", id=f"id-of-{user}", context={"at": user})
        snapshot = Snapshot("b1", 1, user.encode())
        store.commit([Write(user, 1, states={"b1": user.encode()}, snapshots=(snapshot,))])
    store.merge("user-0-of-this-shop", "user-1-of-this-shop")

    def raw():
        files = [file for file in server.folder.rglob("*") if file.is_file()]
        return b"".join(file.read_bytes() for file in files)

    before = raw()
    assert all(f"user-{n}-of-this-shop".encode() in before for n in range(30))
    store.erase_user("user-1-of-this-shop")
    store.erase_user("user-2-of-this-shop")
    event = store.events("user-3-of-this-shop")[0]
    store.erase_event("user-3-of-this-shop", event.seq)
    end = time.monotonic() + 10  # the server takes its old files away in the background
    gone = [b"user-0-of", b"user-1-of", b"user-2-of", event.item.encode(), event.id.encode()]
    while (left := raw()) and any(text in left for text in gone) and time.monotonic() < end:
        time.sleep(0.05)
    assert [text for text in gone if text in left] == []
    assert b"item-of-user-4-of-this-shop" in left


def test_an_erasure_that_the_files_do_not_follow_in_time_says_so(server, tmp_path):
    hasty = ValkeyStore(server.address, prefix=str(tmp_path), erase_wait=-1)
    add(hasty, "ann", "1")
    with pytest.raises(StoreError, match=r"erased, but the server has not rewritten its files in time"):
        hasty.erase_user("ann")
    assert hasty.head("ann", "b1").erased
    hasty.close()


def test_a_server_that_is_gone_is_reported_and_reached_again(tmp_path):
    server = Server(tmp_path)
    store = open_store(server.address)
    add(store, "ann", "1", id="a")
    server.kill()
    with pytest.raises(
        LostError, match=r"did not answer .* A write may or may not have been done: repeat it, with ids"
    ):
        add(store, "ann", "2", id="b")
    assert "did not answer" in store.ready().reason
    server.start()
    assert isinstance(add(store, "ann", "2", id="b"), Written)
    assert [event.item for event in store.log()] == ["1", "2"]
    store.close()
    server.stop()
    with pytest.raises(LostError, match=r"did not answer"):
        open_store(server.address)


def test_a_database_that_is_emptied_under_a_store_takes_no_erased_id(tmp_path):
    server = Server(tmp_path)
    store, other = open_store(server.address), open_store(server.address)
    add(store, "ann", "1", id="a")
    store.erase_user("ann")
    other._server.call("FLUSHALL")
    with pytest.raises(
        StoreError, match=r"emptied or replaced\. Nothing was changed\. Stop every server of this store"
    ):
        add(store, "ann", "1", id="a")
    new = ValkeyStore(server.address)  # a server that starts on the empty database, with another secret
    add(new, "bob", "1")
    for opened in (store, other):
        assert "emptied or replaced" in opened.ready().reason
        for method, *arguments in (("head", "bob", "b1"), ("put_value", "v", b""), ("readmit", "ann")):
            with pytest.raises(StoreError, match="emptied or replaced"):
                getattr(opened, method)(*arguments)
    assert [event.user for event in new.log()] == ["bob"] and new.get_value("v") is None and new.ready().ready
    for opened in (store, other, new):
        opened.close()
    server.stop()


def test_keys_of_another_program_are_refused_with_a_message(store):
    store._server.call("SET", store._server.prefix + "names", "not ours")
    with pytest.raises(StoreError, match=r"refused \(.*WRONGTYPE.*\). Check the server and who else uses it"):
        store.log(), add(store, "ann", "1")


def test_without_the_extra_the_message_names_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "segue.store.valkey_store", None)
    with pytest.raises(StoreError, match=r'expected the extra for it.* Run: pip install "segue\[valkey\]"'):
        factory.open_store("valkey://localhost:1/0")
