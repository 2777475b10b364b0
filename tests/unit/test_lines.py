"""NDJSON and large bodies: a line for each line, a bounded part of them at a time, and few large ones at once."""

import asyncio
import json
from io import BytesIO

import pytest
from starlette.testclient import TestClient

from segue.serve.app import make_app
from segue.serve.http.bodies import line_groups, read_body
from segue.serve.http.limits import LINES, LINES_BYTES, Limits
from segue.serve.http.middleware import Access
from segue.serve.http.problems import Refusal
from segue.serve.live.service import Service
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import small_recommender

LIST, EVENTS = "/v1/recommend/batch", "/v1/events"
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture(name="app", scope="module")
def an_app(tmp_path_factory):
    store = SqliteStore(tmp_path_factory.mktemp("lines") / "s.db")
    service = Service(small_recommender(), store, clock=lambda: 1_700_000_000.0)
    limits = Limits(body_bytes=1 << 21, lines_bytes=1 << 22, large=2)
    access = Access(limits=limits)
    yield make_app(service, access=access), access
    service.close()
    store.close()


@pytest.fixture(name="client", scope="module")
def a_client(app):
    with TestClient(app[0], base_url="http://localhost:8000") as client:
        yield client


def lines(client, path, *sent, **more):
    body = b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in sent)
    answer = client.post(path, content=body, headers=NDJSON | more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == NDJSON["content-type"] and "content-length" not in answer.headers
    return [json.loads(line) for line in answer.text.splitlines()]


def test_each_line_is_answered_by_itself_in_order(client):
    sent = [{"user": f"u{n % 7}", "item": f"{n % 12:03d}", "time": n, "id": str(n)} for n in range(3 * LINES)]
    found = lines(client, EVENTS, *sent[:5], b"", b"{", {"user": "u"}, {**sent[2], "item": "x"}, *sent[3:], b"\n")
    assert [one.get("seq") for one in found[:5]] == [1, 2, 3, 4, 5]
    assert [one["error"]["status"] for one in found[5:8]] == [400, 422, 409]
    assert found[6]["error"]["detail"].startswith("line.item: expected, and not there")
    assert [one["duplicate"] for one in found[8:11]] == [True, True, False] and len(found) == 8 + len(sent) - 3
    assert len({one["seq"] for one in found if "seq" in one}) == len(sent)

    wanted = [{"user": f"u{n % 7}", "k": 1 + n % 3, "at": 5000} for n in range(2 * LINES)]
    lists = lines(client, LIST, {"user": "u1", "where": "colour = 1"}, *wanted)
    assert lists[0]["error"]["status"] == 422
    plain = client.post(LIST, json={"requests": wanted}).json()["lists"]
    assert lists[1:] == plain and [len(one["list"]["items"]) for one in plain[:3]] == [1, 2, 3]
    assert lines(client, LIST) == []


def test_what_is_no_ndjson_for_a_route_is_refused(client):
    body = b'{"user": "u"}'
    assert client.post("/v1/recommend", content=body, headers=NDJSON).status_code == 415
    assert client.post(EVENTS + "?recommend=3", content=body, headers=NDJSON).status_code == 422
    assert client.post(EVENTS, content=body, headers=NDJSON | {"idempotency-key": "a"}).status_code == 422
    assert client.post(EVENTS, content=b"\n" * (1 << 22) + b"1", headers=NDJSON).status_code == 413
    found = lines(
        client, LIST, {"user": "u1", "k": 1}, b'{"user": "' + b"a" * (1 << 21) + b'"}', {"user": "u1", "k": 1}
    )
    assert len(found[0]["list"]["items"]) == 1 and found[1]["error"]["status"] == 413 and len(found) == 2


def test_lines_are_worked_on_in_groups_of_bounded_size():
    many = [*([b"1\n"] * 1000), *([b"2" * 50_000 + b"\n"] * 50), b"\n", b"3" * 3_000_000 + b"\n"]
    groups = list(line_groups(BytesIO(b"".join(many)), Limits(body_bytes=4_000_000)))
    assert [line for group in groups for line in group] == [line for line in many if line != b"\n"]
    assert max(map(len, groups)) == LINES
    assert all(sum(map(len, group[:-1])) < LINES_BYTES for group in groups)


def test_nothing_more_is_done_for_a_client_that_has_gone(app, client):
    body = b'{"user": "gone"}\n' * 5 * LINES
    sent, asked, gone = [], iter([{"type": "http.request", "body": body}]), asyncio.Event()

    async def receive():
        for message in asked:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if message.get("body"):
            gone.set()
        await asyncio.sleep(0)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/x-ndjson")]
    scope = {"type": "http", "method": "POST", "path": LIST, "query_string": b"", "headers": headers, "app": app[0]}
    client.portal.call(app[0].middleware_stack, scope, receive, send)
    assert sum(message.get("body", b"").count(b"\n") for message in sent) == LINES


def test_a_body_may_name_many_ids_and_few_such_are_at_work_at_once(app, client):
    ids = [f"{n:030d}" for n in range(50_000)]
    found = client.post("/v1/recommend", json={"user": "u1", "candidates": [*ids, "003"]}).json()
    assert [line["item"] for line in found["items"]] == ["003"]
    stack = app[0].middleware_stack
    assert stack._large_bodies == 0  # what was answered is not at work
    stack._large_bodies = 2
    try:
        answer = client.post("/v1/recommend", json={"user": "u1", "exclude": ids})
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert client.post(LIST, content=b"{}", headers=NDJSON).status_code == 503
        assert client.post("/v1/recommend", json={"user": "u1"}).status_code == 200
    finally:
        stack._large_bodies = 0


def test_each_part_of_a_large_body_has_its_time():
    async def come(*sizes):
        rest = list(sizes)

        async def receive():
            await asyncio.sleep(0.04)
            return {"type": "http.request", "body": bytes(rest.pop(0)), "more_body": bool(rest)}

        return len(await read_body(receive, None, Limits(body_seconds=0.1)))

    assert asyncio.run(come(*[1 << 20] * 4)) == 4 << 20
    with pytest.raises(Refusal, match=r"each MiB of it within 0\.1 s"):
        asyncio.run(come(1 << 20, *[1] * 9))
