"""Several workers on one port are one server: nothing is lost with one of them, and all follow a roll-out."""

import os
import signal
import threading

import pytest

from segue.store.factory import open_store
from served import ITEMS, Server, model
from tests_support import until


@pytest.fixture(name="server")
def two_workers(postgres, tmp_path):
    """Two workers over one database of their own, with a folder of models."""
    folder = tmp_path / "models"
    folder.mkdir()
    model(folder / "b.segue")
    model(tmp_path / "next.segue", seed=6)
    store = open_store(postgres.address)
    server = Server(folder, "--store", postgres.address, "--models", folder, "--workers", "2")
    yield server
    server.kill()
    store.close()


def worker_ids(server):
    """Return the numbers of the processes that publish metrics."""
    text = server.call("GET", "/metrics")[1].decode()
    return {
        line.split('worker="')[1].split('"')[0] for line in text.splitlines() if "segue_requests_in_flight{" in line
    }


def test_a_killed_worker_loses_nothing_all_follow_a_roll_out_and_end_with_their_parent(server, postgres, tmp_path):
    until(lambda: len(worker_ids(server)) == 2)
    before, acknowledged, codes = worker_ids(server), [], []

    def send(thread):
        for n in range(60):
            event = {"user": f"u{thread}-{n % 5}", "item": ITEMS[n % 12], "id": f"{thread}-{n}"}
            code, _ = server.call("POST", "/v1/events?recommend=3", event)
            codes.append(code)
            if code == 200:
                acknowledged.append((event["user"], event["id"]))

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(acknowledged) > 40)
    killed = before.pop()
    os.kill(int(killed), signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert set(codes) <= {0, 200} and codes.count(0) <= 4 and len(acknowledged) >= 236  # those at work when it died
    store = open_store(postgres.address)
    stored = {(event.user, event.id) for event in store.log(limit=10_000)}
    assert set(acknowledged) <= stored
    store.close()
    until(lambda: len(worker_ids(server)) == 2 and killed not in worker_ids(server))  # another was started

    os.replace(tmp_path / "next.segue", server.folder / "next.segue")
    old = server.call("GET", "/v1/status")[1]["model"]
    assert server.call("POST", "/v1/admin/model", {"model": "next.segue"})[0] == 200

    def models():
        """Return which models many connections meet."""
        return {server.call("GET", "/v1/status")[1]["model"] for _ in range(12)}

    until(lambda: old not in models())
    assert server.call("POST", "/v1/events?recommend=3", {"user": "u0-0", "item": ITEMS[0]})[0] == 200

    ids = worker_ids(server)
    server.kill()  # the process that started them
    until(lambda: not any(os.path.exists(f"/proc/{number}/exe") for number in ids))
    assert server.call("GET", "/healthz")[0] == 0
