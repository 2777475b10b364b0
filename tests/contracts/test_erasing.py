"""While a shared server rewrites its files after an erasure, other users are served as before."""

import threading
import time

import pytest

import engines
from segue.store.base import Write
from segue.store.events import Event
from segue.store.factory import open_store
from served import Server, model


@pytest.fixture(name="valkey")
def a_slow_valkey(tmp_path):
    """A server that takes 2 ms for each key that it writes into a file anew."""
    (tmp_path / "valkey").mkdir()
    valkey = engines.Server(tmp_path / "valkey", "--rdb-key-save-delay", "2000", "--rdbcompression", "no")
    yield valkey
    valkey.kill()


@pytest.fixture(name="store")
def a_store(valkey):
    store = open_store(valkey.address)
    yield store
    store.close()


@pytest.fixture(name="server")
def a_server(tmp_path, valkey):
    model(tmp_path / "b.segue")
    server = Server(tmp_path, "--store", valkey.address)
    users = [{"user": f"user-{n}-here", "item": "003", "time": 1000 + n} for n in range(250)]
    assert server.call("POST", "/v1/events", {"events": users})[0] == 200
    yield server
    server.process.kill()
    server.process.wait()


def rewrites(store):
    stats = store._server.call("INFO", "commandstats").get("cmdstat_bgrewriteaof")
    return stats["calls"] if stats else 0


def files(valkey):
    return b"".join(file.read_bytes() for file in valkey.folder.rglob("*") if file.is_file())


def erasing(server, users):
    """Begin to erase users, all at once; give the threads and where their answers go."""
    answers = []
    threads = [
        threading.Thread(target=lambda user=user: answers.append(server.call("DELETE", f"/v1/users/{user}")))
        for user in users
    ]
    for thread in threads:
        thread.start()
    return threads, answers


def gone(valkey, word):
    end = time.monotonic() + 20  # the server takes its old files away in the background
    while word in files(valkey):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_other_users_are_served_while_many_are_erased(server, store, valkey):
    users = [f"user-{n}-here" for n in range(10, 20)]
    threads, answers = erasing(server, users)
    done = n = 0
    while any(thread.is_alive() for thread in threads):
        sent = server.call("POST", "/v1/events?recommend=3", {"user": f"other{n % 7}", "item": "004", "id": f"e{n}"})
        listed = server.call("GET", "/v1/recommend?user=user-30-here")
        ready = server.call("GET", "/readyz")
        assert [sent[0], listed[0], ready[0]] == [200, 200, 200]
        n += 1
        done += not answers
    assert done >= 5, f"{done} events were ingested before the first erasure was done"
    assert [code for code, _ in answers] == [200] * 10
    assert 1 <= rewrites(store) <= 3  # they share a rewrite
    for user in users:
        gone(valkey, user.encode())
    assert server.call("GET", "/v1/recommend?user=user-11-here")[0] == 410


def test_an_unknown_user_is_erased_without_a_rewrite_and_refused_all_the_same(server, store):
    before = rewrites(store)
    assert server.call("DELETE", "/v1/users/nobody")[0] in (200, 404)
    assert server.call("DELETE", "/v1/users/user-1-here/events/9999")[0] == 404
    assert rewrites(store) == before
    assert server.call("POST", "/v1/events", {"user": "nobody", "item": "001"})[0] == 410
    assert server.call("DELETE", "/v1/users/user-1-here")[0] == 200
    assert rewrites(store) == before + 1
    assert server.call("DELETE", "/v1/users/user-1-here")[0] in (200, 404)
    assert rewrites(store) == before + 1


def test_an_interrupted_erasure_is_completed_by_the_next(server, store, valkey):
    threads, answers = erasing(server, ["user-7-here"])
    while not rewrites(store):
        time.sleep(0.01)
    server.kill()
    valkey.kill()  # and the rewrite with it
    threads[0].join()
    assert answers == [(0, {})]
    valkey.start()
    server.start()
    assert b"user-7-here" in files(valkey)
    assert server.call("DELETE", "/v1/users/user-7-here")[0] in (200, 404)  # nothing is known any more
    gone(valkey, b"user-7-here")


def test_two_replicas_erase_at_a_time(valkey, store):
    other = open_store(valkey.address)
    store.commit([Write(f"u{n}", None, (Event(f"u{n}", "1"),)) for n in range(200)])
    done = []
    threads = [
        threading.Thread(target=lambda store=store, n=n: done.append(store.erase_user(f"u{n}")))
        for n, store in enumerate([store, other] * 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 6
    other.close()
