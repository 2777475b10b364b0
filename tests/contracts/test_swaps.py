"""Models swapped back and forth under load: nothing fails, and each list is that of the model which it names."""

import http.client
import json
import random
import threading
import time
from collections import Counter

import pytest

import segue
from served import ITEMS, Server, model

SWAPS = 20
#: Longer histories are caught up in the background, shorter ones within their request.
LONG, SHORT = 900, 5


@pytest.fixture(name="server")
def a_server(tmp_path):
    for seed, name in enumerate(("a.segue", "b.segue"), start=5):
        model(tmp_path / name, seed=seed)
    server = Server(tmp_path, "--models", tmp_path, name="a.segue")
    yield server
    server.stop()


class Client(threading.Thread):
    """Tells and asks about its own users in turn, and keeps every answer with what had been told before it."""

    def __init__(self, port, users, seed):
        super().__init__()
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.draw, self.told = random.Random(seed), {user: [] for user in users}
        self.answers, self.failed, self.over, self.now = [], [], threading.Event(), 10_000

    def call(self, path, body):
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            self.failed.append((answer.status, text[:300]))
            return None
        return json.loads(text)

    def event(self, user):
        self.now += 1 + self.draw.randrange(90)
        self.told[user].append((self.draw.choice(ITEMS), self.now))
        item, at = self.told[user][-1]
        return {"user": user, "item": item, "time": at}

    def run(self):
        while not self.over.is_set():
            for user, told in self.told.items():
                if self.draw.random() < 0.5:
                    answer = self.call(f"/v1/events?recommend={len(ITEMS)}", self.event(user))
                    at = self.now
                else:
                    at = self.now + self.draw.randrange(10**6)
                    answer = self.call("/v1/recommend", {"user": user, "k": len(ITEMS), "at": at})
                if answer is not None:
                    self.answers.append((user, len(told), at, answer))
        self.connection.close()


def test_swaps_under_load_fail_no_request_and_mix_no_bundles(server, tmp_path):
    clients = [Client(server.port, [f"long{n}", f"short{n}"], n) for n in range(3)]
    for client in clients:
        for user in client.told:
            events = [client.event(user) for _ in range(LONG if user.startswith("long") else SHORT)]
            assert client.call("/v1/events", {"events": events}) is not None
    models = {rec.fingerprint: rec for rec in (segue.load(tmp_path / name) for name in ("a.segue", "b.segue"))}
    for client in clients:
        client.start()
    for n in range(SWAPS):
        name = ("a.segue", "b.segue")[n % 2]
        code, swapped = server.call("POST", "/v1/admin/model", {"model": name})
        assert code == 200, swapped
        end = time.monotonic() + 20
        while server.call("GET", "/v1/status")[1]["model"] != swapped["model"]:
            assert time.monotonic() < end
        time.sleep(0.02)
    for client in clients:
        client.over.set()
    for client in clients:
        client.join(30)
        assert client.failed == []
    named = Counter(answer["model"] for client in clients for *_, answer in client.answers)
    assert set(named) == set(models)
    assert min(named.values()) > SWAPS
    for client in clients:
        for user, told in client.told.items():
            check(models, told, [rest for name, *rest in client.answers if name == user])


def check(models, told, answers):
    """Assert that each answer is that of a replay under the model which it names."""
    states = {name: [rec.start()] for name, rec in models.items()}
    for name, rec in models.items():
        for item, at in told:
            states[name].append(rec.observe(states[name][-1], item, time=at))
    for count, at, answer in answers:
        rec, state = models[answer["model"]], states[answer["model"]][count]
        assert (answer["count"], answer["rebuilding"]) == (count, False)
        replayed = {line.item: line.score for line in rec.recommend(state, k=len(ITEMS), at=at)}
        assert {line["item"]: line["score"] for line in answer["items"]} == pytest.approx(replayed, abs=1e-4)
        scores = [line["score"] for line in answer["items"]]
        assert scores == sorted(scores, reverse=True)
