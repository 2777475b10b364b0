"""A real server, killed and restarted: what was acknowledged is there, once, and the state is that of the log."""

import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import segue
from segue.recommend.batch import state_from_bytes
from segue.store.readonly import read_store
from segue.store.sql.sqlite_store import SqliteStore
from served import ITEMS, Server, model


@pytest.fixture(name="server")
def a_server(tmp_path):
    model(tmp_path / "b.segue")
    server = Server(tmp_path)
    yield server
    server.stop()


class Client(threading.Thread):
    """Tells events one after the other and notes which were acknowledged; sends again what got no answer.

    Every other event has its id in the header Idempotency-Key.
    """

    def __init__(self, server, name, seed):
        super().__init__()
        self.server, self.user, self.draw = server, name, random.Random(seed)
        self.acknowledged, self.sent, self.over, self.codes = {}, {}, False, set()

    def run(self):
        n = 0
        while not self.over:
            event = {"user": self.user, "item": self.draw.choice(ITEMS), "id": f"{self.user}-{n}", "time": 1000 + n}
            self.sent[event["id"]] = event
            key = {"Idempotency-Key": event["id"]} if n % 2 else {}
            body = {name: value for name, value in event.items() if name != "id" or not key}
            while not self.over:
                code, answer = self.server.call("POST", "/v1/events?recommend=3", body, key)
                if code:
                    self.codes.add(code)
                if code == 200:
                    self.acknowledged[event["id"]] = answer["events"][0]["seq"]
                    break
                time.sleep(0.02)
            n += 1


def test_kills_under_load_lose_nothing_and_repeat_nothing(server, tmp_path):
    clients = [Client(server, f"u{n}", n) for n in range(3)]
    for client in clients:
        client.start()
    draw, slowest = random.Random(1), 0.0
    for _ in range(4):
        time.sleep(0.2 + 0.3 * draw.random())
        server.kill()
        slowest = max(slowest, server.start())
    time.sleep(0.2)
    for client in clients:
        client.over = True
    for client in clients:
        client.join(30)
    server.kill()
    said = (tmp_path / "server.log").read_text()
    assert len(re.findall(r"s\.db: process \d+, its last owner, was ended before it could", said)) == 4
    rec = segue.load(tmp_path / "b.segue")
    store = SqliteStore(tmp_path / "s.db")
    assert slowest < 10
    for client in clients:
        assert client.codes == {200}
        kept = store.events(client.user)
        ids = [event.id for event in kept]
        assert len(ids) == len(set(ids))
        assert set(client.acknowledged) <= set(ids) <= set(client.sent)
        assert {event.id: event.seq for event in kept if event.id in client.acknowledged} == client.acknowledged
        head = store.head(client.user, rec.fingerprint)
        assert head.fresh
        state, replayed = state_from_bytes(rec, head.state.data), rec.start()
        for event in kept:
            replayed = rec.observe(replayed, event.item, time=event.time / 1e6)
        assert abs(state.memory.output - replayed.memory.output).max() < 1e-4
        assert state.count == replayed.count == len(kept)
    store.close()
    server.start()


def swapped_to(server, fingerprint):
    """Wait until a model answers everybody."""
    end = time.monotonic() + 20
    while (status := server.call("GET", "/v1/status")[1])["model"] != fingerprint:
        assert time.monotonic() < end, status
        time.sleep(0.02)


def kept_and_equal_to_replay(server, rec, sent):
    """Assert that each user has the events that were sent, and the state that a replay of them gives."""
    for user, events in sent.items():
        assert server.call("GET", f"/v1/users/{user}")[1]["count"] == len(events)
    store = read_store(server.folder / "s.db")
    for user, events in sent.items():
        assert [event.item for event in store.events(user)] == [event["item"] for event in events]
        head, replayed = store.head(user, rec.fingerprint), rec.start()
        assert head.fresh
        for event in events:
            replayed = rec.observe(replayed, event["item"], time=event["time"])
        state = state_from_bytes(rec, head.state.data)
        assert abs(state.memory.output - replayed.memory.output).max() < 1e-4
        assert state.count == len(events)
    store.close()


def test_a_restart_runs_the_model_in_force(tmp_path):
    model(tmp_path / "first.segue")
    server = Server(tmp_path, name=".")
    try:
        assert f"the newest in {tmp_path}" in (tmp_path / "server.log").read_text()
        sent = {
            f"u{n}": [{"user": f"u{n}", "item": ITEMS[(n + i) % 12], "time": 1000 + 97 * i + n} for i in range(12)]
            for n in range(60)
        }
        for events in sent.values():
            assert server.call("POST", "/v1/events", {"events": events})[0] == 200
        small = [word for one in ("model.width=8", "model.depth=1", "train.epochs=3") for word in ("--set", one)]
        verb = ["retrain", "--store", tmp_path / "s.db", "--models", tmp_path, *small]
        done = subprocess.run([sys.executable, "-m", "segue", *map(str, verb)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        trained = (tmp_path / "current").read_text().strip()
        rec = segue.load(tmp_path / trained)

        assert server.call("POST", "/v1/admin/model", {"model": trained})[1]["model"] == rec.fingerprint
        more = {"user": "u7", "item": "004", "time": 9000}
        assert server.call("POST", "/v1/events", more)[0] == 200  # while it is swapped in
        sent["u7"].append(more)
        swapped_to(server, rec.fingerprint)
        kept_and_equal_to_replay(server, rec, sent)
        model(tmp_path / "other.segue", seed=6)
        other = segue.load(tmp_path / "other.segue")
        (tmp_path / "current").write_text("other.segue\n")
        server.process.send_signal(signal.SIGHUP)
        swapped_to(server, other.fingerprint)
        server.kill()
        server.start()
        kept_and_equal_to_replay(server, other, sent)
        assert server.call("GET", "/v1/status")[1]["model"] == other.fingerprint
        assert f"other.segue, named in {tmp_path / 'current'}" in (tmp_path / "server.log").read_text()

        assert server.call("POST", "/v1/admin/model", {"model": trained})[0] == 200
        server.kill()  # whoever was told that it is swapped in finds it so
        server.start()
        assert server.call("GET", "/v1/status")[1]["model"] == rec.fingerprint
        assert server.call("POST", "/v1/admin/model", {"model": "other.segue"})[0] == 200
        assert server.call("POST", "/v1/admin/model", {"roll_back": True})[1]["model"] == rec.fingerprint
        kept_and_equal_to_replay(server, rec, sent)
        assert (tmp_path / "current").read_text().strip() == trained
    finally:
        server.stop()


def test_a_second_server_on_the_same_store_is_refused(server, tmp_path):
    with pytest.raises(AssertionError, match="expected to be its only owner"):
        Server(tmp_path)
    assert server.call("GET", "/readyz") == (200, {"ready": True, "reason": ""})


def test_what_is_asked_of_the_server(server):
    event = {"user": "ann", "item": "003", "time": 1000, "id": "a"}
    code, told = server.call("POST", "/v1/events?recommend=4", event)
    assert (code, len(told["items"]), told["count"]) == (200, 4, 1)
    assert server.call("POST", "/v1/events?recommend=4", event)[1]["duplicates"] == 1
    code, problem = server.call("POST", "/v1/events", event | {"item": "004"})
    assert (code, problem["status"]) == (409, 409)
    assert server.call("POST", "/v1/events", {"user": "ann"})[0] == 422
    assert server.call("POST", "/v1/events", event | {"time": time.time() + 600, "id": "b"})[0] == 422
    assert server.call("GET", "/v1/recommend?user=ann", None, {"Host": "evil.example"})[0] in (400, 403, 421)
    _, explained = server.call("POST", "/v1/explain", {"user": "ann"})
    assert explained["parts"][0]["event"]["item"] == "003"
    assert server.call("DELETE", "/v1/users/ann")[1]["events"] == 1
    assert server.call("POST", "/v1/events", event)[0] == 410
    assert server.call("GET", "/v1/recommend?user=ann")[0] == 410
    assert server.call("GET", "/nothing/here")[0] == 404
    assert b"segue" in server.call("GET", "/metrics")[1]
