"""A real server, killed and restarted: what was acknowledged is there, once, and the state is that of the log."""

import random
import threading
import time

import pytest

import segue
from segue.recommend.many import state_from_bytes
from segue.serve.sqlite_store import SqliteStore
from served import ITEMS, Server, bundle


@pytest.fixture(name="server")
def a_server(tmp_path):
    bundle(tmp_path / "b.segue")
    server = Server(tmp_path)
    yield server
    server.stop()


class Client(threading.Thread):
    """Tells events one after the other and notes which were acknowledged; sends again what got no answer."""

    def __init__(self, server, name, seed):
        super().__init__()
        self.server, self.user, self.draw = server, name, random.Random(seed)
        self.acknowledged, self.sent, self.over, self.codes = {}, {}, False, set()

    def run(self):
        n = 0
        while not self.over:
            event = {"user": self.user, "item": self.draw.choice(ITEMS), "id": f"{self.user}-{n}", "time": 1000 + n}
            self.sent[event["id"]] = event
            while not self.over:
                code, answer = self.server.call("POST", "/v1/events?recommend=3", event)
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
        state, replayed = state_from_bytes(rec, head.state.memory), rec.start()
        for event in kept:
            replayed = rec.observe(replayed, event.item, time=event.time / 1e6)
        assert abs(state.memory.output - replayed.memory.output).max() < 1e-4
        assert state.count == replayed.count == len(kept)
    store.close()
    server.start()


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
