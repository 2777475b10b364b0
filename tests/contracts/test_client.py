"""The client on a real server: every route, every event once, errors in the server's words, the key never shown."""

import asyncio
import contextlib
import http.client
import inspect
import itertools
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import msgspec
import pytest

import segue
from segue.client import AsyncClient, Client, calls, event, list_request
from segue.client.exchange import Pause, exchange
from segue.errors import (
    ArgumentError,
    ConflictError,
    ErasedError,
    NotFoundError,
    SegueError,
    ServerError,
)
from segue.recommend.lists.item_filters import Rule
from segue.serve import server
from segue.serve.api import health, schemas
from segue.serve.http.auth import add_key
from tests_support import described_log, described_recommender


@pytest.fixture(name="served", scope="module")
def an_address_and_a_key(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    key = add_key(folder / "keys", "operator", "admin")
    described_recommender(described_log()).save(folder / "b.segue")
    asked = server.Settings(folder, str(folder / "s.db"), port=0, keys=folder / "keys", rate=0)
    with server.listening(asked) as listener, server.opened(asked) as open_app:
        process = server.Server(server.config_of(open_app.app, asked.limits), lambda: None)
        thread = threading.Thread(target=process.run, kwargs={"sockets": [listener]})
        thread.start()
        while not process.started:
            time.sleep(0.01)
        yield server.url_of(listener), key
        process.should_exit = True
        thread.join(20)


@pytest.fixture(name="client")
def a_client(served):
    with Client(served[0], key=served[1]) as client:
        yield client


TWO = {"scenario": "home", "arms": {"now": "home", "two": "two"}}
#: A call of each method, in an order in which each can be answered; what a server with this model refuses says so.
CALLS = [
    ("observe", ("ann", "03"), {"time": 1000.5, "rating": 4, "context": {"device": "tv"}, "id": "a", "recommend": 2}),
    ("ingest_events", ([event("ann", "04", time="2020-01-01"), {"user": "bob", "item": "05"}],), {"recommend": 1}),
    ("ingest_lines", ([{"user": "eve", "item": "05"}],), {}),
    ("recommend", ("ann", 3), {"where": segue.F.price <= 4, "exclude": ["07"], "exclude_events": [{"within": "1d"}]}),
    ("recommend_batch", ([list_request("ann", k=1), {"user": "bob", "k": 2}],), {}),
    ("recommend_lines", ([list_request("ann", k=1)],), {}),
    ("similar", ("03", 2), {"where": {"kind": ["b", "c"]}, "user": "ann"}),
    ("predict_rating", ("ann", "03"), {"at": 2000}),
    ("explain", ("ann",), {"last": 2, "without": [1], "where": "price < $most", "params": {"most": 9}}),
    ("get_user", ("ann",), {"limit": 1}),
    ("erase_event", ("ann", "a"), {}),
    ("erase_event", ("ann", 2), {}),
    ("merge_user", ("bob", "ann"), {}),
    ("erase_user", ("eve",), {}),
    ("readmit_user", ("eve",), {}),
    ("find_items", ("car",), {"limit": 3, "where": segue.F.price < 3, "facets": True}),
    ("find_items", (), {"ids": ["03", "no"]}),
    ("add_items", ([{"item": "n/1", "title": "red boat"}],), {}),
    ("change_item", ("n/1",), {"available": False}),
    ("set_scenarios", ({"home": {"k": 3, "where": segue.F.price >= 0}, "two": {"k": 2}},), {"experiments": {"e": TWO}}),
    ("get_scenarios", (), {}),
    ("stop_experiment", ("e",), {}),
    ("get_rules", (), {}),
    ("preview_rules", ("ann", [Rule("boost", {"kind": "b"}, by=1.0)]), {"k": 2}),
    ("list_users", (), {"limit": 2}),
    ("list_models", (), {}),
    ("set_rules", ([Rule("block", segue.F.price > 3, name="dear")],), {}),
    ("roll_out", ("b.segue",), {}),
    ("roll_back", (), {}),
    ("get_status", (), {}),
    ("get_online_metrics", (), {}),
    ("get_health", (), {}),
    ("get_readiness", (), {}),
    ("get_metrics", (), {}),
]
REFUSED = {"predict_rating": ArgumentError, "roll_back": NotFoundError}  # by a model without ratings, rolled out once
#: An address for what `POST /v1/recommend` says in its body.
SHORT = {("GET", "/v1/recommend")}


def test_there_is_a_method_for_each_route_and_the_server_answers_each(client):
    made = {(each.method, each.route) for each in (getattr(calls, name)(*args, **more) for name, args, more in CALLS)}
    api = health.described()["paths"]
    assert made | SHORT == {(method.upper(), path) for path, methods in api.items() for method in methods}
    for name, args, more in CALLS:
        if name in ("ingest_lines", "recommend_lines"):
            assert list(getattr(client, name.replace("lines", "each"))(*args, **more))
            continue
        with contextlib.suppress(REFUSED.get(name, ())):
            answer = getattr(client, name)(*args, **more)
            assert answer is not None
    assert [one.item for one in client.get_user("ann").events] == ["05"]
    assert client.similar("03", 3).items and client.get_metrics().startswith("# HELP")


def test_both_clients_have_the_same_methods_with_the_arguments_of_the_requests():
    made = {name for name, _, _ in CALLS if "lines" not in name}
    for kind in (Client, AsyncClient):
        assert made == {name for name in vars(kind) if hasattr(calls, name) and not name.startswith("_")}, kind
        assert inspect.signature(kind.recommend) == inspect.signature(list_request)
    for make, kind in (
        (list_request, schemas.RecommendIn),
        (calls.explain, schemas.ExplainIn),
        (event, schemas.EventIn),
    ):
        assert set(inspect.signature(make).parameters) == set(kind.__struct_fields__), make


def test_the_asynchronous_client_answers_alike(served, client):
    async def use():
        async with AsyncClient(served[0], key=served[1]) as other:
            told = await other.observe("zoe", "03", recommend=3)
            lists = [one async for one in other.recommend_each(list_request("zoe", k=k) for k in range(1, 4))]
            kept = [one async for one in other.ingest_each([event("zoe", "04"), {"user": "zoe"}])]
            with pytest.raises(NotFoundError, match="there is none"):
                await other.similar("no")
            return told, lists, kept

    told, lists, kept = asyncio.run(use())
    assert len(told.items) == 3 and [len(one.items.items) for one in lists] == [1, 2, 3]
    assert not kept[0].duplicate and "event" not in kept[1].error.detail
    assert kept[1].error.detail.startswith("line.item: expected, and not there")
    assert client.get_user("zoe").count == 2


class Forgetful(BaseHTTPRequestHandler):
    """A proxy that does what is asked, and hangs up in place of each first answer."""

    protocol_version, to, seen = "HTTP/1.1", "", 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        connection = http.client.HTTPConnection(self.to)
        headers = {name: self.headers[name] for name in ("Content-Type", "Authorization")}
        connection.request("POST", self.path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        type(self).seen += 1
        if self.seen % 2:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type"))
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def test_an_event_counts_once_though_the_answer_to_it_is_lost(served, client):
    url, key = served
    forgetful = type("Here", (Forgetful,), {"to": url.removeprefix("http://")})
    with ThreadingHTTPServer(("127.0.0.1", 0), forgetful) as proxy, contextlib.ExitStack() as held:
        threading.Thread(target=proxy.serve_forever).start()
        held.callback(proxy.shutdown)  # before the block of the proxy ends
        with Client(f"http://127.0.0.1:{proxy.server_address[1]}", key=key) as through:
            assert through.observe("lost", "03").duplicates == 1
            assert (
                through.ingest_events([{"user": "lost", "item": "04"}, {"user": "lost", "item": "05"}]).duplicates == 2
            )
            assert [one.duplicate for one in through.ingest_each([event("lost", "06")] * 2)] == [True, True]

        async def use():
            async with AsyncClient(f"http://127.0.0.1:{proxy.server_address[1]}", key=key) as other:
                return (await other.observe("lost", "07")).duplicates

        assert asyncio.run(use()) == 1
    assert [one.item for one in client.get_user("lost").events] == ["07", "06", "05", "04", "03"]


def answer(status, body=b"{}", media="application/json", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, content=body, headers={"content-type": media, **named})


def problem(status, **headers):
    body = {"type": "t", "title": "", "status": status, "detail": "said.", "instance": ""}
    return answer(status, msgspec.json.encode(body), "application/problem+json", **headers)


def talk(*answers, retries=3, request=None):
    """Answer a request again and again; return the pauses between, and what comes of it."""
    steps = exchange(request or calls.get_health(), retries)
    step, pauses, rest = next(steps), [], iter(answers)
    try:
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = next(steps)
            else:
                one = next(rest)
                step = steps.throw(one) if isinstance(one, Exception) else steps.send(one)
    except StopIteration as done:
        return pauses, done.value
    except SegueError as error:
        return pauses, error


def test_what_may_pass_is_tried_again_with_pauses_that_grow_or_that_the_server_asks_for():
    good = answer(200, b'{"status": "ok"}')
    pauses, found = talk(httpx2.ConnectError("no"), problem(503), problem(429, Retry_After="7"), good)
    assert found.status == "ok" and 0.05 <= pauses[0] <= 0.1 and 0.1 <= pauses[1] <= 0.2 and pauses[2] == 7
    pauses, error = talk(*[problem(503)] * 4)
    assert len(pauses) == 3 and isinstance(error, ServerError) and str(error) == "said. (GET /healthz: 503)"
    _, error = talk(*[httpx2.LocalProtocolError("Illegal header value b'Bearer secret'")] * 4)
    assert "in 4 attempts (LocalProtocolError)" in str(error) and "secret" not in str(error)
    pauses, error = talk(problem(503, Retry_After="100"))
    assert not pauses and isinstance(error, ServerError)
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20))
    assert 15 < talk(problem(503, Retry_After=soon), good)[0][0] < 21
    assert talk(answer(503, b'{"ready": false, "reason": "r"}'), request=calls.get_readiness())[1].ready is False
    refusals = {404: NotFoundError, 409: ConflictError, 410: ErasedError, 422: ArgumentError, 401: ServerError}
    for status, kind in refusals.items():
        pauses, error = talk(problem(status))
        assert not pauses and type(error) is kind and str(error) == f"said. (GET /healthz: {status})"
    for other in (answer(200, b"<p>", "text/html"), answer(302, b"", "text/html"), answer(500, b"", "text/html")):
        assert isinstance(talk(other, good)[1], ServerError) or other.status_code == 200
    assert "another" in str(talk(answer(200, b"[]"))[1])


def test_the_key_is_never_shown(served, caplog):
    url, key = served
    secret = key.rpartition("_")[2]
    caplog.set_level(logging.DEBUG)
    with Client(url, key=key) as client:
        client.get_status()
        client.observe("u", "03")
        assert url in repr(client) and secret not in repr(client) + str(vars(client))
    with Client(url, key=key[:-1] + "x", retries=0) as other, pytest.raises(ServerError, match="401") as wrong:
        other.get_status()
    with (
        Client("http://127.0.0.1:9", key=key, retries=1) as other,
        pytest.raises(ServerError, match="in 2 attempts") as no,
    ):
        other.get_status()
    for bad in (key + "\n", key + "é", ""):
        with pytest.raises(ArgumentError, match="key: expected one") as refused:
            Client(url, key=bad)
        assert secret not in str(refused.value)
    for bad in (f"http://me:{secret}@host", f"http://host/?key={secret}", "host:8000", "ftp://host", "http://"):
        with pytest.raises(ArgumentError, match="url: expected the address") as refused:
            Client(bad)
        assert secret not in str(refused.value)
    assert caplog.text and secret not in caplog.text + str(wrong.value) + str(no.value)


def test_ids_that_are_addresses_come_as_they_are(client):
    for user in ("a/b", "..", ".", "ü?#%2F", "x y"):
        client.observe(user, "03")
        assert client.get_user(user).user == user


def test_what_is_not_given_is_not_sent_so_that_a_scenario_says_it(client):
    assert list_request("u", at=5, debug=False) == {"user": "u", "at": 5, "debug": False}
    client.set_scenarios({"home": {"k": 3, "diversity": 0.5, "where": segue.F.price >= 0}})
    found = client.recommend("u", scenario="home")
    assert (len(found.items), found.scenario) == (3, "home")
    assert len(client.recommend("u", 10, scenario="home", where=None).items) > 3
    assert len(client.observe("u", "03", scenario="home").items) == 3
    given = (
        list_request("u", scenario="home", list_id="a"),
        list_request("u", temperature=1.0),
        {"user": "u", "impressions": True},
    )
    assert [one["list_id"] == "a" for one in given[:1]] and given[1]["list_id"]
    batch = msgspec.json.decode(calls.recommend_batch(given).body)["requests"]
    assert [len(one["list_id"]) for one in batch] == [1, 32, 32]  # a retry is the same list


def test_arguments_that_do_not_fit_are_said(client):
    for wrong, words in (
        ({"user": "u", "where": segue.F.price}, "where: expected a text, a filter"),
        ({"user": "u", "context": {"a": object()}}, "came object"),
        ({"user": "u", "history": ["1"]}, "exactly one of user, history and token"),
        ({"user": "u", "k": 0}, "body.k: expected 1 or more, came 0"),
        ({"user": "u", "exclude_events": [{"typ": "buy"}]}, "Did you mean type"),
    ):
        with pytest.raises(ArgumentError, match=words):
            client.recommend(**wrong)


def test_many_events_go_in_parts(client):
    sent = (event("many", f"{n % 12:02d}", time=n, id=str(n)) for n in itertools.count(1))
    found = list(client.ingest_each(itertools.islice(sent, 1100)))
    assert len({one.seq for one in found}) == 1100
    assert [one.id for one in client.get_user("many", limit=3).events] == ["1100", "1099", "1098"]
