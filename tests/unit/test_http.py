"""Over HTTP: what may be said, what comes back, and what is refused without harm."""

import json
import sqlite3
import threading
from dataclasses import replace
from html import escape

import msgspec
import pytest
from starlette.testclient import TestClient

import segue
from segue.errors import FullError, StoreError
from segue.serve.api import reference
from segue.serve.api.health import OPERATIONS
from segue.serve.app import make_app
from segue.serve.http.auth import add_key, read_keys
from segue.serve.http.bodies import parse_json
from segue.serve.http.limits import Limits, Rates
from segue.serve.http.middleware import Access
from segue.serve.http.problems import Problem, Refusal
from segue.serve.live.service import Service
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import described_log, described_recommender, small_recommender

NOW = 1_700_000_000.0
EVENT = {"user": "u1", "item": "001"}


@pytest.fixture(name="service")
def a_service(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    service = Service(small_recommender(), store, models=tmp_path, clock=lambda: NOW)
    yield service
    service.close()
    store.close()


@pytest.fixture(name="opened")
def opener(service):
    clients = []

    def open_with(**more):
        client = TestClient(make_app(service, **more), base_url="http://localhost:8000")
        clients.append(client)
        return client.__enter__()

    yield open_with
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture(name="client")
def a_client(opened):
    return opened(rollouts=True)


def refused(answer, status, words=""):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "instance"} <= set(body)
    assert words in body["detail"], body["detail"]
    assert "Traceback" not in answer.text
    return body


# --- events -----------------------------------------------------------------------------------------------------


def test_one_post_tells_an_event_and_returns_the_list_after_it(client, service):
    told = client.post("/v1/events", params={"recommend": 3}, json=EVENT).json()
    rec = service.rec
    expected = rec.recommend(rec.observe(rec.start(), "001", time=NOW), 3, at=NOW)
    assert [line["item"] for line in told["items"]] == [line.item for line in expected]
    assert told["items"][0]["title"] == expected[0].title
    assert (told["model"], told["unknown"], told["count"]) == (rec.fingerprint, [], 1)
    assert told["events"] == [{"seq": 1, "user": "u1", "item": "001", "time": NOW}]


def test_a_batch_is_kept_whole_or_not_at_all(client):
    good = {"events": [EVENT, {"user": "u2", "item": "002", "time": NOW - 5}]}
    assert [one["seq"] for one in client.post("/v1/events", json=good).json()["events"]] == [1, 2]
    bad = {"events": [EVENT, {"user": "u2", "item": "002", "time": NOW + 301}]}
    refused(client.post("/v1/events", json=bad), 422, "events.1: expected a time at most 5 minutes")
    assert client.get("/v1/users/u1").json()["count"] == 1


def test_a_retry_without_a_time_is_the_same_event_and_another_body_is_not(client, service):
    first = client.post("/v1/events", json=EVENT | {"id": "a"}).json()
    service.clock = lambda: NOW + 60
    again = client.post("/v1/events", json=EVENT | {"id": "a"}).json()
    assert (again["duplicates"], again["events"]) == (1, first["events"])
    refused(client.post("/v1/events", json={"user": "u1", "item": "002", "id": "a"}), 409)
    by_header = client.post("/v1/events", json=EVENT, headers={"Idempotency-Key": '"a"'}).json()
    assert by_header["events"] == first["events"]


@pytest.mark.parametrize("body", [EVENT | {"id": "b"}, {"events": [EVENT]}])
def test_an_idempotency_key_is_of_one_event(client, body):
    refused(client.post("/v1/events", json=body, headers={"Idempotency-Key": "a"}), 422, "Idempotency-Key")


@pytest.mark.parametrize("time", [1_699_999_000, 1_699_999_000.0, "2023-11-14T21:56:40Z", "2023-11-14T22:56:40+01:00"])
def test_a_time_is_in_seconds_or_iso_8601(client, time):
    assert client.post("/v1/events", json=EVENT | {"time": time}).json()["events"][0]["time"] == 1_699_999_000


@pytest.mark.parametrize("time", ["yesterday", True, 1e300, -1e300, [], "nan", "inf", "9" * 5000])
def test_what_is_no_time_is_refused(client, time):
    refused(client.post("/v1/events", json=EVENT | {"time": time}), 422, "body.time")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (EVENT, 200),
        ({"events": [EVENT, EVENT | {"rating": 4, "type": "buy", "context": {"a": [1]}, "time": 5}]}, 200),
        (EVENT | {"time": NOW + 900}, 422),
        (EVENT | {"colour": 1}, 422),
        (EVENT | {"rating": 3, "type": "buy", "time": 5.25}, 200),
        (EVENT | {"rating": None, "type": None, "time": None, "id": None}, 200),
        (EVENT | {"rating": 1e10}, 422),
        (EVENT | {"rating": True}, 422),
        (EVENT | {"time": "2023-11-14T21:56:40Z"}, 200),
        (EVENT | {"time": 1e14}, 422),
        (EVENT | {"user": ""}, 422),
        (EVENT | {"user": " "}, 422),
        (EVENT | {"user": "ü" * 512}, 200),
        (EVENT | {"user": "ü" * 513}, 422),
        (EVENT | {"item": 'with "quotes": and \\'}, 200),
        (EVENT | {"context": {"a": 1}}, 200),
        (EVENT | {"context": {str(n): n for n in range(65)}}, 422),
        ({"events": []}, 422),
        ({"events": [EVENT], "user": "u1"}, 422),
        ({"user": 1}, 422),
        ([], 422),
        (7, 422),
    ],
)
def test_an_event_is_taken_as_it_is_or_refused(client, body, status):
    answer = client.post("/v1/events?recommend=3", json=body)
    assert answer.status_code == status, answer.text
    if status == 200:
        kept, sent = answer.json()["events"], body.get("events", [body])
        assert [(one["user"], one["item"]) for one in kept] == [(one["user"], one["item"]) for one in sent]
        assert [one.get("rating") for one in kept] == [one.get("rating") for one in sent]
        assert len(answer.json()["items"]) == 3


def test_the_digest_of_an_event_is_that_of_what_was_sent(client, service):
    for id, more in (("a", {}), ("b", {"rating": 4}), ("c", {"rating": 4.0}), ("d", {"context": {"b": 1, "a": 2.0}})):
        client.post("/v1/events", json=EVENT | {"id": id} | more)
    kept = [event.id for event in service.store.events("u1")]
    assert kept == ["a", "b", "c", "d"]
    for id, more, status in (
        ("a", {}, 200), ("b", {"rating": 4}, 200), ("c", {"rating": 4.0}, 200), ("b", {"rating": 4.0}, 409),
        ("d", {"context": {"a": 2.0, "b": 1}}, 200), ("d", {"context": {"a": 2, "b": 1}}, 409),
    ):  # fmt: skip
        assert client.post("/v1/events", json=EVENT | {"id": id} | more).status_code == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"user": "u1"}, 200),
        ({"user": "u1", "k": 3}, 200),
        ({"user": "nobody", "k": 1000, "at": NOW + 5}, 200),
        ({"user": "u1", "at": None}, 200),
        ({"user": "u1", "k": 0}, 422),
        ({"user": "u1", "k": 1001}, 422),
        ({"user": "u1", "k": True}, 422),
        ({"user": "u1", "k": 2.0}, 422),
        ({"user": "u1", "at": "2023-11-14"}, 200),
        ({"user": "u1", "at": 1e14}, 422),
        ({"user": "u1", "exclude": ["001"]}, 200),
        ({"user": ""}, 422),
        ({"k": 3}, 422),
    ],
)
def test_a_list_is_given_or_refused(client, body, status):
    client.post("/v1/events", json=EVENT)
    answer = client.post("/v1/recommend", json=body)
    assert answer.status_code == status, answer.text
    if status == 200:
        assert len(answer.json()["items"]) == min(body.get("k", 10), 12 - (body["user"] == "u1"))


def test_lists_by_address_and_of_the_erased(client):
    client.post("/v1/events", json=EVENT)
    queries = ("user=u1", "user=u1&k=4", "user=u1&k=0", "user=u%31", "k=4&user=u1", "user=u1&user=u2", "")
    answers = [client.get("/v1/recommend?" + query) for query in queries]
    assert [answer.status_code for answer in answers] == [200, 200, 422, 200, 200, 200, 422]
    assert answers[0].json() == answers[3].json() and answers[1].json() == answers[4].json()
    assert (answers[0].json()["count"], answers[5].json()["count"]) == (1, 0)
    client.delete("/v1/users/u1")
    for path, body in (("/v1/recommend", {"user": "u1"}), ("/v1/events", EVENT)):
        refused(client.post(path, json=body), 410, "erased on request")


@pytest.mark.parametrize("k", ["0", "1001", "-1", "x", "", "1.5", "010", "null"])
def test_a_length_of_the_list_that_cannot_be_is_refused(client, k):
    refused(client.post(f"/v1/events?recommend={k}", json=EVENT), 422, "query.recommend: expected ")


def test_requests_that_come_together_are_one_batch(opened, service, monkeypatch):
    batches, gate, tell = [], threading.Event(), service.ingest

    def slow(requests):
        batches.append(len(requests))
        gate.wait(5)
        return tell(requests)

    monkeypatch.setattr(service, "ingest", slow)
    client = opened()
    sending = [threading.Thread(target=client.post, args=("/v1/events",), kwargs={"json": EVENT}) for _ in range(9)]
    for one in sending:
        one.start()
    threading.Timer(0.4, gate.set).start()
    for one in sending:
        one.join(10)
    assert sum(batches) == 9
    assert len(batches) <= 3
    assert client.get("/v1/users/u1").json()["count"] == 9


def test_a_slow_batch_stops_the_loop_for_a_moment_only(opened, service, monkeypatch):
    gate, tell = threading.Event(), service.ingest
    monkeypatch.setattr(service, "ingest", lambda requests: gate.wait(30) and tell(requests))
    client, told = opened(), []
    sending = threading.Thread(target=lambda: told.append(client.post("/v1/events", json=EVENT).status_code))
    sending.start()
    assert client.get("/healthz").status_code == 200 and not told
    gate.set()
    sending.join(10)
    assert told == [200]


# --- lists ------------------------------------------------------------------------------------------------------


def test_a_user_a_history_and_a_token_get_the_same_list(client):
    for item in ("001", "004"):
        client.post("/v1/events", json={"user": "u1", "item": item, "time": NOW - 10})
    history = [{"item": item, "time": NOW - 10} for item in ("001", "004")]
    by_user = client.post("/v1/recommend", json={"user": "u1", "k": 5}).json()
    by_history = client.post("/v1/recommend", json={"history": history, "k": 5}).json()
    token = client.post("/v1/recommend", json={"token": "new", "event": history[0]}).json()["token"]
    by_token = client.post("/v1/recommend", json={"token": token, "event": history[1], "k": 5}).json()
    for other in (by_history, by_token, client.get("/v1/recommend?user=u1&k=5").json()):
        assert [line["item"] for line in other["items"]] == [line["item"] for line in by_user["items"]]
        scores = [line["score"] for line in by_user["items"]]
        assert [line["score"] for line in other["items"]] == pytest.approx(scores, abs=1e-5)
    assert by_token["token"] != token


def test_ids_that_the_model_does_not_know_are_told(client):
    assert client.get("/v1/recommend?history=001&history=new").json()["unknown"] == ["new"]
    best, second, third = (line["item"] for line in client.get("/v1/recommend?history=001&k=3").json()["items"])
    left = client.get(f"/v1/recommend?history=001&k=1&exclude={best}&exclude={second}").json()["items"]
    assert [line["item"] for line in left] == [third]
    assert client.post("/v1/recommend", json={"history": ["007", "x"]}).json()["unknown"] == ["x"]


def test_a_list_is_filtered(client):
    shown = client.get("/v1/recommend?user=u1&where=title:film%20003&where=title:film%20004").json()["items"]
    assert {line["item"] for line in shown} == {"003", "004"}
    left = client.post("/v1/recommend", json={"user": "u1", "where": {"title": "film 003"}, "exclude": ["003"]})
    assert left.json()["items"] == []
    refused(client.get("/v1/recommend?user=u1&where=colour:red"), 422, "attribute")


def test_a_token_that_was_changed_or_is_old_or_of_another_model_is_refused(client, service):
    token = client.post("/v1/recommend", json={"token": "new"}).json()["token"]
    for bad in (token[:-2] + "AA", "x", "%%%%", token[:40]):
        refused(client.post("/v1/recommend", json={"token": bad}), 422, "token")
    context = client.app.state.context
    object.__setattr__(context.sealer, "clock", lambda: NOW * 2)
    refused(client.post("/v1/recommend", json={"token": token}), 409, "token")
    state = bytearray(service.new_token())
    state[:4] = b"zzzz"
    refused(client.post("/v1/recommend", json={"token": context.sealer.seal(bytes(state))}), 409, "model")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user": "a", "token": "new"},
        {"user": "a", "event": {"item": "1"}},
        {"user": "a", "profile": {"age": 3}},
        {"user": "a", "k": 0},
        {"user": "a", "k": 1001},
        {"user": "a", "k": True},
        {"user": "a", "k": "5"},
        {"user": "a", "colour": 1},
        {"user": 17},
        {"user": ""},
        {"user": "a" * 513},
        {"user": "a", "diversity": 1.1},
        {"user": "a", "repeats": "never"},
        {"user": "a", "where": {str(n): 1 for n in range(21)}},
        {"user": "a", "exclude": ["1"] * 5000 + [1]},
        {"user": "a", "candidates": [""]},
        {"user": "a", "where": "title = "},
        {"user": "a", "where": "title < 3"},
        {"history": ["1"] * 1001},
        {"history": ["1"], "profile": {"age": 30}},
        [],
        "text",
    ],
)
def test_a_question_that_cannot_be_is_refused(client, body):
    refused(client.post("/v1/recommend", json=body), 422)


def test_a_misspelt_name_is_told_with_the_nearest(client):
    refused(
        client.post("/v1/events", json={"user": "a", "itm": "1"}),
        422,
        "itm: unknown name. Did you mean item? See",
    )
    refused(client.post("/v1/recommend", json={"user": "a", "colour": 1}), 422, "colour: unknown name.")
    refused(
        client.get("/v1/recommend?user=a&exlude=1"),
        422,
        "query.exlude: unknown name. Did you mean exclude?",
    )
    refused(
        client.post("/v1/events?recomend=5", json=EVENT),
        422,
        "query.recomend: unknown name. Did you mean recommend? See",
    )
    refused(client.get("/v1/ratings?user=a&item=1&history=2"), 422, "query.history: unknown name. See")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"user": "a", "item": 18}, "body.item: expected a text in quotes, came 18. See /docs."),
        ({"user": "a"}, "body.item: expected, and not there. See /docs."),
        (EVENT | {"rating": "good"}, 'body.rating: expected a number, came "good". See /docs.'),
        (EVENT | {"rating": 1e10}, "body.rating: expected 1e+09 or less, came 10000000000.0. See /docs."),
        (
            {"events": [EVENT, EVENT | {"user": ""}]},
            'body.events.1.user: expected a text of at least 1, came "". See /docs.',
        ),
        (EVENT | {"context": 5}, "body.context: expected an object, came 5. See /docs."),
    ],
    ids=str,
)
def test_what_was_expected_is_said_in_words(client, body, said):
    assert client.post("/v1/events", json=body).json()["detail"] == said


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/recommend", {"user": "a", "where": {"x": 1, "kind": None}}, "body.where.kind: expected true or false or"),
        ("/v1/recommend", {"user": "a", "where": {"x": [1], "kind": ["b", None]}}, "body.where.kind.1: expected true"),
        ("/v1/recommend", {"user": "a", "where": {"x": [1], "y": [0] * 101}}, "body.where.y: expected at most 100."),
        ("/v1/items", {"items": [{"item": "n"}, {"item": "m", "kind": [[1]]}]}, "body.items.1.kind.0: expected true"),
    ],
    ids=["null", "null in a list", "a long list", "a list of items"],
)
def test_the_name_in_an_object_that_does_not_fit_is_said(client, path, body, said):
    assert client.post(path, json=body).json()["detail"].startswith(said)


@pytest.mark.parametrize("name", ["seed", "repeats", "at"])
def test_the_word_null_in_an_address_is_no_value(client, name):
    refused(client.get(f"/v1/recommend?user=a&{name}=null"), 422, f"query.{name}: expected ")
    assert client.get("/v1/recommend?user=null").status_code == 200


def test_what_is_alike_why_and_what_if(client):
    for item in ("001", "004"):
        client.post("/v1/events", json={"user": "u1", "item": item})
    assert len(client.get("/v1/similar/001?k=3").json()["items"]) == 3
    refused(client.get("/v1/similar/none"), 404)
    why = client.post("/v1/explain", json={"user": "u1", "item": "005", "without": [2]}).json()
    assert why["item"] == "005"
    assert {part["event"]["item"] for part in why["parts"]} == {"001", "004"}
    alone = client.post("/v1/recommend", json={"history": [{"item": "001", "time": NOW}]}).json()
    assert [line["item"] for line in why["what_if"]["items"]] == [line["item"] for line in alone["items"]]


# --- users, items, models --------------------------------------------------------------------------------------


def test_users_are_shown_by_pages_merged_and_erased(client):
    for n in range(5):
        client.post("/v1/events", json={"user": "guest/1", "item": f"00{n}", "time": NOW - 10 + n, "id": f"e{n}"})
    first = client.get("/v1/users/guest%2F1?limit=3").json()
    rest = client.get("/v1/users/guest%2F1", params={"limit": 3, "before": first["next"]}).json()
    assert [one["item"] for one in first["events"] + rest["events"]] == ["004", "003", "002", "001", "000"]
    assert first["events"][0]["title"] == "film 004"
    refused(client.get("/v1/users/guest%2F1?before=x"), 422, "before")
    assert client.delete("/v1/users/guest%2F1/events/e2").json()["erased"] == "event"
    assert client.delete("/v1/users/guest%2F1/events/e2").json()["already"]
    assert client.post("/v1/users/guest%2F1/merge", json={"into": "u1"}).json() == {"user": "u1", "count": 4}
    refused(client.post("/v1/users/u1/merge", json={"into": "u1"}), 422)
    receipt = client.delete("/v1/users/u1").json()
    assert (receipt["events"], "tokens that clients hold" in receipt["remains"]) == (4, True)
    refused(client.get("/v1/users/u1"), 410)
    refused(client.post("/v1/events", json=EVENT), 410)
    refused(client.get("/v1/users/nobody"), 404)


def test_items_are_found_and_taken_out(client):
    assert [line["item"] for line in client.get("/v1/items?q=film 00&limit=3").json()["items"]] == ["000", "001", "002"]
    assert client.patch("/v1/items/003", json={"available": False}).status_code == 200
    assert "003" not in {line["item"] for line in client.get("/v1/recommend?user=u&k=100").json()["items"]}
    refused(client.patch("/v1/items/zzz", json={"available": False}), 404)
    refused(client.patch("/v1/items/003", json={}), 422)
    refused(client.post("/v1/items", json={"items": [{"title": "no id"}]}), 422)


def test_rules_hold_from_the_next_list_on(client):
    rules = [{"kind": "pin", "items": ["009"], "name": "week"}, {"kind": "block", "items": ["000"]}]
    assert client.put("/v1/admin/rules", json={"rules": rules}).json() == {"rules": 2}
    shown = client.get("/v1/recommend?user=u&k=100&debug=true").json()
    assert shown["items"][0]["item"] == "009"
    assert shown["debug"]["009"] == {"week": True}


def test_a_model_is_swapped_by_name_only(client, opened, service, tmp_path):
    small_recommender(seed=6).save(tmp_path / "b.segue")
    new = client.post("/v1/admin/model", json={"model": "b.segue"}).json()["model"]
    assert new == segue.load(tmp_path / "b.segue").fingerprint
    assert service._rollout.wait(10)
    assert client.get("/v1/status").json()["model"] == new
    assert client.post("/v1/admin/model", json={"roll_back": True}).json()["model"] != new
    assert service._rollout.wait(10)  # while one is under way any other is refused, whatever its name
    refused(client.post("/v1/admin/model", json={"model": "../b.segue"}), 422, "not a path")
    refused(client.post("/v1/admin/model", json={"model": "none.segue"}), 404)
    refused(client.post("/v1/admin/model", json={"model": "b.segue", "roll_back": True}), 422)
    refused(opened().post("/v1/admin/model", json={"model": "b.segue"}), 404, "--models")


def test_a_store_that_fails_is_a_503_and_all_is_as_before(client, service, monkeypatch):
    def full(*args, **more):
        raise FullError("disk: no room.")

    with monkeypatch.context() as patch:
        patch.setattr(service.store, "begin", full)
        answer = client.post("/v1/events?recommend=3", json=EVENT)
        refused(answer, 503)
        assert answer.headers["retry-after"] == "1"
    refused(client.get("/v1/users/u1"), 404)


def test_an_error_that_nobody_foresaw_says_nothing(client, service, monkeypatch, caplog):
    def broken(*args, **more):
        raise RuntimeError("secret u1")

    monkeypatch.setattr(service.store, "heads", broken)
    for answer in (client.get("/v1/recommend?user=u1"), client.post("/v1/events", json=EVENT)):
        refused(answer, 500)
        assert "secret" not in answer.text
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


# --- a request sent twice ---------------------------------------------------------------------------------------

#: Every route that writes: method, address, body, and the role of its key.
SHOP = {
    "scenarios": {"home": {"k": 3}, "home-wide": {"k": 3, "diversity": 0.3}},
    "experiments": {"wide": {"scenario": "home", "arms": {"now": "home", "wide": "home-wide"}}},
}
WRITES = {
    "ingest_events": ("POST", "/v1/events", {"events": [EVENT | {"id": "new"}, EVENT | {"user": "u2", "id": "newer"}]}),
    "erase_user": ("DELETE", "/v1/users/u1", None),
    "erase_event": ("DELETE", "/v1/users/u1/events/3", None),
    "erase_event_by_seq": ("DELETE", "/v1/users/u1/events/by-seq/3", None),
    "merge_user": ("POST", "/v1/users/u2/merge", {"into": "u1"}),
    "readmit_user": ("DELETE", "/v1/users/gone/block", None),
    "add_items": ("POST", "/v1/items", {"items": [{"item": "900", "title": "red car", "price": 2.0}]}),
    "change_item": ("PATCH", "/v1/items/003", {"available": False, "attributes": {"title": "renamed"}}),
    "set_rules": ("PUT", "/v1/admin/rules", {"rules": [{"kind": "pin", "items": ["009"]}]}),
    "set_scenarios": ("PUT", "/v1/admin/scenarios", SHOP),
    "stop_experiment": ("DELETE", "/v1/admin/experiments/wide", None),
    "change_model": ("POST", "/v1/admin/model", {"model": "b.segue"}),
    "roll_back": ("POST", "/v1/admin/model", {"roll_back": True}),
}


def prepared(client, service, name):
    """Put events 1 to 6 into the store: those of u1 have ids that are numbers of others."""
    client.delete("/v1/users/gone")
    sent = [EVENT | {"id": str(id), "time": NOW - 10 + id, "item": f"00{id}"} for id in (4, 3, 1)]
    sent += [{"user": user, "item": "002", "id": f"{user}a"} for user in ("u1", "u2", "u3")]
    kept = client.post("/v1/events", json={"events": sent}).json()["events"]
    assert [one["seq"] for one in kept] == [1, 2, 3, 4, 5, 6]
    if name == "stop_experiment":
        client.put("/v1/admin/scenarios", json=SHOP)
    if name == "roll_back":
        client.post("/v1/admin/model", json={"model": "b.segue"})
        assert service._rollout.wait(10)


def standing(service):
    """Return all that routes can change."""
    assert service._rollout.wait(10)
    heads = service.store.heads(["u1", "u2", "u3", "gone"], service.rec.fingerprint)
    plain = [(head.user, head.version, head.count, head.last, head.erased) for head in heads]
    values = [service.store.get_value(name) for name in ("items", "scenarios")]
    return service.store.log(), plain, values, service.rec.fingerprint, service.rec.items


@pytest.mark.parametrize("name", WRITES)
def test_a_request_sent_twice_does_what_it_does_once(opened, tmp_path, name):
    small_recommender(seed=6).save(tmp_path / "b.segue")
    rec = described_recommender(described_log()) if name == "add_items" else small_recommender()
    method, path, body = WRITES[name]
    found = []
    for turn, times in enumerate((1, 2, "at once")):
        store = SqliteStore(tmp_path / f"{turn}.db")
        service = Service(replace(rec), store, models=tmp_path, clock=lambda: NOW)
        answers = []
        with TestClient(make_app(service, rollouts=True), base_url="http://localhost:8000") as client:
            prepared(client, service, name)

            def send(client=client, answers=answers):
                answers.append(client.request(method, path, json=body))

            if times == "at once":
                threads = [threading.Thread(target=send) for _ in range(4)]
                for one in threads:
                    one.start()
                for one in threads:
                    one.join()
            else:
                for _ in range(times):
                    send()
            found.append(standing(service))
            if turn:
                send()  # and once more when all is settled
                found.append(standing(service))
        service.close()
        store.close()
        assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
        assert len({tuple(answer.json()) for answer in answers}) == 1
    assert all(one == found[0] for one in found[1:])


def test_every_answer_has_the_shape_it_is_described_with(client, service, tmp_path):
    small_recommender(seed=6).save(tmp_path / "b.segue")
    prepared(client, service, "")
    asked = WRITES | {
        "ingest_events": ("POST", "/v1/events?recommend=3", EVENT | {"context": {"a": 1}, "rating": 4, "id": "new"}),
        "recommend": ("POST", "/v1/recommend", {"user": "u3", "temperature": 0.5, "impressions": True}),
        "recommend_by_query": ("GET", "/v1/recommend?user=u1&explore=1&seed=3&debug=true", None),
        "similar_items": ("GET", "/v1/similar/001", None),
        "recommend_batch": (
            "POST",
            "/v1/recommend/batch",
            {"requests": [{"user": "u1", "scenario": "home"}, {"token": "x"}]},
        ),
        "explain": ("POST", "/v1/explain", {"user": "u1", "without": [1]}),
        "get_user": ("GET", "/v1/users/u1", None),
        "get_scenarios": ("GET", "/v1/scenarios", None),
        "find_items": ("GET", "/v1/items?q=film&facets=true", None),
        "get_rules": ("GET", "/v1/admin/rules", None),
        "preview_rules": (
            "POST",
            "/v1/admin/rules/preview",
            {"user": "u1", "rules": [{"kind": "pin", "items": ["7"]}]},
        ),
        "list_users": ("GET", "/v1/admin/users?limit=2", None),
        "list_models": ("GET", "/v1/admin/models", None),
        "get_status": ("GET", "/v1/status", None),
        "get_online_metrics": ("GET", "/v1/quality", None),
        "get_health": ("GET", "/healthz", None),
        "get_readiness": ("GET", "/readyz", None),
    }
    routes = {one.name: one.answer for one in OPERATIONS if one.tag is not None}
    assert set(routes) == set(asked) - {"roll_back"} | {"get_metrics", "predict_rating"}
    del asked["add_items"]  # of a model that learnt attributes; the two of erasures come last
    order = [name for name in asked if not name.startswith("erase")] + [name for name in asked if name[:5] == "erase"]
    for name in order:
        method, path, body = asked[name]
        answer = client.request(method, path, json=body)
        assert answer.status_code == 200, (name, answer.text)
        model = routes["change_model" if name == "roll_back" else name]
        assert msgspec.to_builtins(msgspec.convert(answer.json(), model)) == answer.json(), name
    for answer in (client.get("/v1/users/nobody"), client.post("/v1/events", json={}), client.get("/nothing")):
        assert msgspec.to_builtins(msgspec.convert(answer.json(), Problem)) == answer.json()


def test_the_description_names_every_shape_once(client):
    api = client.get("/openapi.json").json()
    shapes = {f"#/components/schemas/{name}" for name in api["components"]["schemas"]}
    assert "#/components/schemas/Problem" in shapes
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                for media, content in response["content"].items():
                    if media != "text/plain":
                        assert content["schema"].get("$ref") in shapes, (method, path, status)
            assert {"200", "4XX", "5XX"} <= set(operation["responses"])
    text = json.dumps(api)
    assert {one.split('"')[0] for one in text.split('"$ref": "')[1:]} == shapes


def test_every_route_that_writes_is_sent_twice(client):
    reads = {"recommend", "recommend_batch", "explain", "preview_rules"}
    named = {
        operation["operationId"]
        for methods in client.get("/openapi.json").json()["paths"].values()
        for method, operation in methods.items()
        if method != "get"
    }
    assert named - reads == set(WRITES) - {"roll_back"}


def test_an_erasure_by_id_never_takes_a_number_and_one_by_number_never_an_id(client):
    prepared(client, None, "")
    first = client.delete("/v1/users/u1/events/3").json()
    again = client.delete("/v1/users/u1/events/3").json()
    assert (first["events"], first["already"], again["events"], again["already"]) == (1, False, 0, True)
    assert {**first, "events": 0, "already": True} == again
    assert [one["id"] for one in client.get("/v1/users/u1").json()["events"]] == ["u1a", "4", "1"]
    assert client.delete("/v1/users/u1/events/by-seq/3").json()["events"] == 1  # the event whose id is 1
    assert client.delete("/v1/users/u1/events/by-seq/3").json()["already"] is True
    assert [one["id"] for one in client.get("/v1/users/u1").json()["events"]] == ["u1a", "4"]
    for path in ("events/5", "events/u2a", "events/by-seq/5", "events/by-seq/7", f"events/by-seq/{2**63 - 1}"):
        refused(client.delete(f"/v1/users/u1/{path}"), 404, "expected one of this user")
    for path in ("events/by-seq/0", "events/by-seq/x", f"events/by-seq/{2**63}"):
        refused(client.delete(f"/v1/users/u1/{path}"), 422, "seq")
    refused(client.post("/v1/events", json=EVENT | {"id": "3"}), 410, 'event id "3": it was erased on request')


def test_an_erasure_that_a_reader_delayed_is_done_when_it_is_asked_for_again(client, service, tmp_path, monkeypatch):
    monkeypatch.setattr("segue.store.sql.sqlite_file.PATIENCE", 0.05, raising=False)
    prepared(client, service, "")
    paths = ["/v1/users/u1/events/3", "/v1/users/u1/events/by-seq/3", "/v1/users/u1", "/v1/users/nobody"]
    for path in paths:
        reader = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM bodies").fetchone()
        service.store._file._writer.execute("PRAGMA busy_timeout = 50")
        refused(client.delete(path), 503, "erase again")
        refused(client.delete(path), 503, "erase again")  # it is not said to be done before it is
        reader.close()
        done = client.delete(path)
        assert (done.status_code, done.json()["already"]) == (200, True)


def test_an_id_that_is_blocked_says_so_and_can_be_taken_again(client):
    receipt = client.delete("/v1/users/typo").json()
    assert (receipt["events"], receipt["already"]) == (0, False)
    assert "is blocked, also where nothing was known" in receipt["blocked"] and "/block" in receipt["blocked"]
    batch = {"events": [EVENT, EVENT | {"user": "typo", "id": "e7"}]}
    said = refused(client.post("/v1/events", json=batch), 410, 'events.1 id "e7", its user: ')["detail"]
    assert "segue readmit" in said and "typo" not in said
    refused(client.post("/v1/events", json=EVENT | {"user": "typo"}), 410, "event, its user: ")
    refused(client.get("/v1/recommend?user=typo"), 410, "user: ")
    refused(client.get("/v1/users/u1"), 404)
    for _ in range(2):
        assert client.delete("/v1/users/typo/block").json() == {"user": "typo", "blocked": False}
    assert client.post("/v1/events", json=batch).status_code == 200


def test_only_an_admin_takes_an_id_again(opened, tmp_path):
    headers = {"Authorization": f"Bearer {add_key(tmp_path / 'keys', 'shop', 'write')}"}
    client = opened(access=Access(keys=read_keys(tmp_path / "keys")))
    assert client.delete("/v1/users/typo", headers=headers).status_code == 200
    refused(client.delete("/v1/users/typo/block", headers=headers), 403, "admin")


# --- the gate ---------------------------------------------------------------------------------------------------


def test_a_page_of_another_origin_cannot_write_here(client):
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        refused(client.post("/v1/events", content=json.dumps(EVENT), headers={"content-type": media}), 415)
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8000", "", "localhost@evil"):
        refused(client.post("/v1/events", json=EVENT, headers={"host": host}), 421)
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "[::1]"):
        assert client.get("/healthz", headers={"host": host}).status_code == 200
    asked = client.options("/v1/events", headers={"origin": "http://evil", "access-control-request-method": "POST"})
    refused(asked, 405)
    assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize("path", ["/healthz", "/nope", "/v1/recommend?k=0", "/docs"])
def test_every_answer_is_strict_with_browsers(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"


def test_what_the_framework_refuses_is_a_document_too(client):
    refused(client.get("/nope"), 404, "Not found: no route `/nope`. See /docs.")
    refused(client.get("/v1/recommendd"), 404, "Not found: no route `/v1/recommendd`. Did you mean `/v1/recommend`?")
    for old in ("/v1/admin/bundle", "/v1/admin/bundles"):
        refused(client.post(old, json={}), 404, "Did you mean `/v1/admin/model`?")
    refused(client.put("/v1/events", json=EVENT), 405, "PUT: the route takes POST.")
    refused(client.get("/v1/events/"), 404)
    refused(client.get("/v1/recommend?user=a&k=x"), 422, "query.k")
    refused(client.get("/v1/similar/%FF"), 422)
    refused(client.get("/v1/similar/" + "a" * 600), 422)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"user": "u1", "item": ', "came only its beginning"),
        (b"", "came nothing"),
        (b"  ", "came nothing"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"user": "u1", "item": "1", "item": "2"}', "twice"),
        (b'{"user": "u1", "item": "1", "rating": NaN}', "NaN"),
        (b'{"user": "u1", "item": "1", "rating": -Infinity}', "Infinity"),
        (b'{"user": "u1", "item": "1", "rating": 1e999}', "64 bits"),
        (b'{"user": "u1", "item": "1", "context": {"a": ' + b"9" * 5000 + b"}}", "64 bits"),
        (b'{"user": "u1", "item": "\\ud800"}', "UTF-8"),
        (b'{"user": "u1", "item": "1", "context": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}", "inside one another"),
        (b"[" * 100_000, ""),
        (b'{"a":' * 100_000, ""),
    ],
)
def test_broken_json_is_refused(client, body, words):
    answer = client.post("/v1/events", content=body, headers={"content-type": "application/json"})
    refused(answer, answer.status_code, words)
    assert answer.status_code in (400, 422)


def test_json_of_some_depth_is_read():
    assert parse_json(b"[[[]]]", 3) == [[[]]]
    with pytest.raises(Refusal, match="inside one another"):
        parse_json(b"[[[[]]]]", 3)
    assert len(parse_json(b"[" + b"[]," * 99 + b"[]]", 3)) == 100


def test_a_number_that_cannot_be_kept_is_refused(client):
    refused(client.post("/v1/events", json=EVENT | {"context": {"a": 1 << 70}}), 422)


def test_a_large_body_is_refused_and_the_connection_closed(opened):
    client = opened(access=Access(limits=Limits(body_bytes=1000)))
    for body in (b" " * 1001, (b" " * 600 for _ in range(3))):
        answer = client.post("/v1/events", content=body, headers={"content-type": "application/json"})
        refused(answer, 413)
        assert answer.headers["connection"] == "close"
    zipped = {"content-type": "application/json", "content-encoding": "gzip"}
    refused(client.post("/v1/events", content=b"{}", headers=zipped), 415)


def test_too_many_requests_of_one_client_are_asked_to_wait(opened):
    client = opened(access=Access(rates=Rates(1, clock=lambda: 0.0)))
    assert [client.get("/healthz").status_code for _ in range(3)] == [200, 200, 429]
    answer = client.get("/healthz")
    refused(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1


def test_what_is_refused_is_counted_once(opened, tmp_path):
    key = add_key(tmp_path / "keys", "shop", "read")
    client = opened(access=Access(keys=read_keys(tmp_path / "keys"), rates=Rates(1, clock=lambda: 0.0)))
    headers = {"Authorization": f"Bearer {key}"}
    refused(client.post("/v1/events", json=EVENT, headers=headers), 403)
    refused(client.post("/v1/recommend", json={"user": "u1"}, headers=headers | {"host": "evil.example"}), 421)
    refused(client.post("/v1/recommend", json={"user": "u1"}, headers={"Authorization": "Bearer no"}), 401)
    refused(client.post("/v1/recommend", content=b"{}", headers=headers | {"content-type": "text/plain"}), 415)
    refused(client.get("/v1/recommend?user=u1", headers=headers), 429)


def test_too_many_requests_at_once_are_asked_to_wait(opened):
    refused(opened(access=Access(limits=Limits(in_flight=0))).get("/healthz"), 503)


# --- keys -------------------------------------------------------------------------------------------------------


def test_roles_decide_what_a_key_may_do(opened, tmp_path):
    path = tmp_path / "keys.json"
    keys = {role: {"Authorization": f"Bearer {add_key(path, role, role)}"} for role in ("read", "write", "admin")}
    client = opened(access=Access(keys=read_keys(path)), rollouts=True)
    for headers in (
        {},
        {"Authorization": "Bearer segue_a_b"},
        {"Authorization": "Basic x"},
        {"Authorization": "é".encode()},
    ):
        answer = client.get("/v1/recommend?user=a", headers=headers)
        refused(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/healthz").status_code == 200
    asks = (lambda who: client.get("/v1/recommend?user=a", headers=who), ("read", "write", "admin"))
    tells = (lambda who: client.post("/v1/events", json=EVENT, headers=who), ("write", "admin"))
    changes = (lambda who: client.put("/v1/admin/rules", json={"rules": []}, headers=who), ("admin",))
    for do, allowed in (asks, tells, changes):
        for role, headers in keys.items():
            assert do(headers).status_code == (200 if role in allowed else 403), role
    assert all(secret["Authorization"][7:] not in path.read_text() for secret in keys.values())
    assert path.stat().st_mode & 0o077 == 0


def test_ids_of_events_belong_to_the_key_that_sent_them(opened, tmp_path):
    path = tmp_path / "keys.json"
    keys = [{"Authorization": f"Bearer {add_key(path, name, 'write')}"} for name in ("web", "app")]
    client = opened(access=Access(keys=read_keys(path)))
    sent = [client.post("/v1/events", json=EVENT | {"id": "a"}, headers=who).json() for who in (*keys, keys[0])]
    assert [one["duplicates"] for one in sent] == [0, 0, 1]
    assert sent[0]["events"] == sent[2]["events"] != sent[1]["events"]


# --- what the server says of itself -----------------------------------------------------------------------------


def test_metrics_name_routes_and_never_ids(client):
    client.post("/v1/events", json={"user": "secret-user", "item": "001", "type": "secret-type"})
    client.get("/v1/users/secret-user")
    client.get("/secret-path")
    client.request("SECRET", "/v1/events")
    text = client.get("/metrics").text
    assert 'segue_requests_total{method="GET",route="/v1/users/{user}",status="2xx"} 1.0' in text
    assert 'segue_requests_total{method="GET",route="none",status="4xx"} 1.0' in text
    assert "segue_batch_requests_count 1.0" in text
    assert "segue_index_recall 1.0" in text
    assert 'segue_live_events{group="all",value="all"} 1.0' in text
    assert "secret" not in text.lower()


def test_health_status_and_quality(client, service, monkeypatch):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"ready": True, "reason": ""}
    assert client.get("/v1/status").json()["items"] == 12
    assert "sampled" in client.get("/v1/quality").json()

    def gone():
        raise StoreError("store: it is gone.")

    monkeypatch.setattr(service, "status", gone)
    refused(client.get("/readyz"), 503, "gone")


def test_the_reference_needs_no_other_server_and_has_an_answer_of_every_route(client):
    page = client.get("/docs").text
    assert "POST /v1/events" in page and "<script" not in page and "style=" not in page
    assert "http://" not in page and "https://" not in page
    shown = {f"{one.method} {one.path}": one.answer for one in OPERATIONS if one.tag is not None}
    recorded = reference.examples()
    assert set(recorded) == set(shown), "python docs/tools/generate.py --examples"
    for name, example in recorded.items():
        if not isinstance(example["answer"], str):
            known = msgspec.convert(example["answer"], shown[name])
            assert msgspec.to_builtins(known) == example["answer"], f"{name}: python docs/tools/generate.py --examples"
        method, path = name.split(" ")
        assert f'aria-label="{method} {escape(path)}"' in page
    for name in json.loads(client.get("/openapi.json").text)["components"]["schemas"]:
        assert f'id="schema-{name}"' in page and f'href="#schema-{name}"' in page


@pytest.mark.parametrize("path", ["/page/..%2Fserver.py", "/page/%2Fetc%2Fpasswd", "/page/examples.json", "/page/x.js"])
def test_only_files_of_the_page_are_served(client, path):
    refused(client.get(path), 404, "name of a file of the page")
    assert client.get("/page/shop.js").headers["content-type"].startswith("text/javascript")


def test_rules_are_previewed_and_nothing_is_kept(client, service):
    client.post("/v1/events", json=EVENT)
    plain = [one["item"] for one in client.get("/v1/recommend?user=u1&k=5").json()["items"]]
    rules = [{"kind": "block", "items": plain[:1]}, {"kind": "pin", "items": [plain[3]], "name": "week"}]
    found = client.post("/v1/admin/rules/preview", json={"user": "u1", "k": 5, "rules": rules}).json()
    assert [one["item"] for one in found["before"]["items"]] == plain
    after = [one["item"] for one in found["after"]["items"]]
    assert after[0] == plain[3] and plain[0] not in after and [rule["reach"] for rule in found["rules"]] == [1, 1]
    assert client.get("/v1/admin/rules").json() == {"rules": []}
    assert [one["item"] for one in client.get("/v1/recommend?user=u1&k=5").json()["items"]] == plain
    client.put("/v1/admin/rules", json={"rules": rules})
    assert [one["item"] for one in client.get("/v1/recommend?user=u1&k=5").json()["items"]] == after
    kept = client.get("/v1/admin/rules").json()["rules"]
    assert [(one["kind"], one["items"], one["name"]) for one in kept] == [
        ("block", plain[:1], ""),
        ("pin", [plain[3]], "week"),
    ]
    assert client.post("/v1/admin/rules/preview", json={"user": "u1", "rules": []}).json()["after"]["items"]
    wrong = {"user": "u1", "rules": [{"kind": "pin", "where": "colour = 1"}]}
    refused(client.post("/v1/admin/rules/preview", json=wrong), 422, "colour")


def test_users_and_models_are_listed_for_an_operator_alone(opened, service, tmp_path):
    small_recommender(seed=6).save(tmp_path / "b.segue")
    headers = {"Authorization": f"Bearer {add_key(tmp_path / 'keys', 'boss', 'admin')}"}
    weak = {"Authorization": f"Bearer {add_key(tmp_path / 'keys', 'shop', 'write')}"}
    client = opened(access=Access(keys=read_keys(tmp_path / "keys")), rollouts=True)
    for user in ("u1", "u2", "u3", "u1"):
        client.post("/v1/events", json=EVENT | {"user": user}, headers=weak)
    first = client.get("/v1/admin/users?limit=2", headers=headers).json()
    assert first["users"] == [{"user": "u1", "active": 4}, {"user": "u3", "active": 3}] and first["next"] == 3
    rest = client.get("/v1/admin/users?limit=2&before=3", headers=headers).json()
    assert rest == {"users": [{"user": "u2", "active": 2}], "next": None}
    models = client.get("/v1/admin/models", headers=headers).json()
    assert [(one["name"], one["running"]) for one in models["models"]] == [("b.segue", False)]
    before = service.rec.fingerprint
    client.post("/v1/admin/model", json={"model": "b.segue"}, headers=headers)
    assert service._rollout.wait(10)
    models = client.get("/v1/admin/models", headers=headers).json()
    assert models["models"][0]["running"] and models["previous"] == before and models["running"] == "b.segue"
    client.post("/v1/admin/model", json={"roll_back": True}, headers=headers)
    assert service._rollout.wait(10)
    assert client.get("/v1/admin/models", headers=headers).json()["previous"] is None
    for path in ("/v1/admin/users", "/v1/admin/models", "/v1/admin/rules"):
        refused(client.get(path, headers=weak), 403, "admin")


def test_items_are_found_by_words_ids_and_filters(client):
    found = client.get("/v1/items?q=film&limit=2&skip=1").json()
    assert found["total"] == 12 and [one["item"] for one in found["items"]] == ["001", "002"]
    assert "facets" not in found and found["items"][0]["title"] == "film 001" and found["items"][0]["shown"] is True
    client.patch("/v1/items/003", json={"available": False})
    named = client.get("/v1/items?id=003&id=nothing&id=001&id=003").json()
    assert [(one["item"], one["shown"]) for one in named["items"]] == [("003", False), ("001", True)]
    assert (named["total"], named["unknown"]) == (2, ["nothing"])
    refused(client.get("/v1/items?where=colour=1"), 422, "colour")


def test_the_package_asks_nobody(client):
    assert segue.__version__
    assert client.get("/openapi.json").json()["info"]["title"] == "Segue"
