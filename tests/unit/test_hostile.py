"""What anybody may send to a real server: no body makes it fail, and nothing invalid is taken.

`SEGUE_HOSTILE=10000 python -m pytest tests/unit/test_hostile.py` sends up to that many (fewer where an
operation takes nothing to vary); the suite sends a few hundred. `SEGUE_HOSTILE_OUT=FILE.json` keeps the counts.
"""

import contextlib
import json
import os
import random
import re
import socket
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from segue.serve import server
from segue.serve.http import connection
from segue.serve.http.auth import add_key
from segue.serve.http.limits import Limits
from tests_support import described_log, described_recommender

BODIES = int(os.environ.get("SEGUE_HOSTILE", "300"))
LIMITS = Limits(body_bytes=100_000, body_seconds=0.5, header_seconds=0.5, header_bytes=4096, idle_seconds=1)
SEED = [{"user": user, "item": item, "id": f"{user}{item}"} for user in ("a", "0") for item in ("01", "02", "0")]


@contextlib.contextmanager
def serving(folder, keys=None):
    """Give the address of a server in a thread."""
    model = folder / "b.segue"
    described_recommender(described_log()).save(model)
    asked = server.Settings(model, str(folder / "s.db"), port=0, models=folder, limits=LIMITS, keys=keys, rate=0)
    with server.listening(asked) as listener, server.opened(asked) as open_app:
        process = server.Server(server.config_of(open_app.app, LIMITS), lambda: None)
        thread = threading.Thread(target=process.run, kwargs={"sockets": [listener]})
        thread.start()
        while not process.started:
            time.sleep(0.01)
        yield listener.getsockname()[:2]
        process.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(name="address", scope="module")
def an_address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as address:
        yield address


@pytest.fixture(name="any_address", scope="module", params=["httptools", "h11"])
def an_address_behind_either_parser(request, tmp_path_factory):
    parser = {"httptools": HttpToolsProtocol, "h11": H11Protocol}[request.param]
    assert connection.AutoHTTPProtocol is HttpToolsProtocol
    with mock.patch.object(connection, "AutoHTTPProtocol", parser), serving(tmp_path_factory.mktemp("wire")) as address:
        yield address


@pytest.fixture(name="url", scope="module")
def a_url(address):
    return f"http://{address[0]}:{address[1]}"


@pytest.fixture(name="guarded", scope="module")
def a_url_and_a_session_with_an_admin_key(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    key = add_key(folder / "keys", "operator", "admin")
    with serving(folder, folder / "keys") as address, requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {key}"
        yield f"http://{address[0]}:{address[1]}", session


def operations(url):
    api = requests.get(f"{url}/openapi.json", timeout=10).json()
    return api, [found.ok() for found in schemathesis.openapi.from_dict(api).get_all_operations()]


def test_no_request_makes_it_fail_and_nothing_invalid_is_taken(guarded):
    url, session = guarded
    assert session.post(f"{url}/v1/events", json={"events": SEED}, timeout=10).status_code == 200
    api, found = operations(url)
    count, reached = max(2, BODIES // (2 * len(found))), defaultdict(Counter)
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation:
                send_broken(api, (method, path.replace("{id}", "01")), operation, count // 4, url, session, reached)
    for operation in found:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            with contextlib.suppress(Unsatisfiable):  # nothing to negate
                send(operation, mode, count, url, session, reached)
    assert set(reached) == {
        name for path in api["paths"].values() for name in (one["operationId"] for one in path.values())
    }
    total = sum(sum(answers.values()) for answers in reached.values())
    print(f"{total:,} requests to {len(reached)} operations")
    if out := os.environ.get("SEGUE_HOSTILE_OUT"):
        told = {"date": time.strftime("%Y-%m-%d"), "requests": total, "answers_by_operation": reached}
        Path(out).write_text(json.dumps(told, indent=1) + "\n")
    assert session.get(f"{url}/readyz", timeout=10).status_code == 200


def send(operation, mode, count, url, session, reached):
    quiet = settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )

    @quiet
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        answer = case.call(base_url=url, session=session, timeout=90)
        reached[operation.definition.raw["operationId"]][f"{mode.value} {answer.status_code}"] += 1
        assert answer.status_code < 500, (case.as_curl_command()[:2000], answer.text[:500])
        if answer.status_code > 400:
            assert "application/problem+json" in answer.headers["content-type"], case.as_curl_command()[:2000]
        if answer.status_code < 400:
            try:
                case.validate_response(answer, checks=[negative_data_rejection])
            except FailureGroup as found:
                if not all(is_text_in_the_address(one, answer.request.url) for one in found.exceptions):
                    raise

    check()


def is_text_in_the_address(failure, url):
    """Say whether what is called invalid is a list of texts in an address, where 5 and "5" are one, and valid."""
    named = {name for pair in re.findall(r"/properties/(\w+)|parameter `(\w+)`", str(failure.message)) for name in pair}
    sent = parse_qs(urlsplit(url).query, keep_blank_values=True)
    return named <= {"history", "exclude", "where", ""} and all(
        len(sent[name]) <= 100 and all(1 <= len(text) <= 512 for text in sent[name]) for name in named - {""}
    )


def send_broken(api, address, operation, count, url, session, reached):
    """Send what is no JSON, or none that says one thing: all of it is refused."""
    method, path = address
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    named = [one["$ref"].rpartition("/")[2] for one in schema.get("oneOf", [schema])]
    whole = [json.dumps(example) for name in named for example in api["components"]["schemas"][name]["examples"]]
    draw = random.Random(operation["operationId"])
    for n in range(count):
        body = BREAKS[n % len(BREAKS)](draw, draw.choice(whole).encode())
        answer = session.request(
            method, url + path, data=body, headers={"Content-Type": "application/json"}, timeout=20
        )
        reached[operation["operationId"]][f"broken {answer.status_code}"] += 1
        assert answer.status_code in (400, 413), (body[:2000], answer.text[:500])
        assert "application/problem+json" in answer.headers["content-type"]


def put_in(draw, body, what):
    """Put bytes somewhere into others, before the last of them."""
    place = draw.randrange(len(body))
    return body[:place] + what + body[place:]


#: From a whole body to one that is broken.
BREAKS = (
    lambda draw, body: body[: draw.randrange(1, len(body))],
    lambda draw, body: put_in(draw, body, draw.choice([b"\xff", b"\x00", b"\xc3\x28", b"\n{\n", b"\xed\xa0\x80"])),
    lambda draw, body: (
        b'{"%b": %b, %b' % (b"x", draw.choice([b"NaN", b"-Infinity", b"1e999", b"0x1", b"'a'"]), body[1:])
    ),
    lambda draw, body: b'{"x": 1, "x": 2, ' + body[1:],
    lambda draw, body: b'{"x": "\\ud8%02x", ' % draw.randrange(256) + body[1:],
    lambda draw, body: b'{"x": ' + draw.choice([b"[", b'{"a":', b"[[{}],"]) * draw.randrange(33, 9000) + body[1:],
    lambda draw, body: body[:-1] + b', "x": ' + b"[" * 40 + b"]" * 40 + b"}",
    lambda draw, body: body[:-1] + b" " * draw.randrange(100_000, 3_000_000) + b"}",
    lambda draw, body: b'{"x": ' + b"9" * draw.randrange(5000, 90_000) + b", " + body[1:],
)


# --- by hand, below HTTP -----------------------------------------------------------------------------------------

HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def exchanged(address, *parts, pause=0.0):
    """Send parts with pauses between them, and return what came back until the server closed, and the seconds."""
    began = time.monotonic()
    found = b""
    with socket.create_connection(address, timeout=10) as wire:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                wire.sendall(part)
                time.sleep(pause)
        with contextlib.suppress(ConnectionError):
            while more := wire.recv(65536):
                found += more
    return found, time.monotonic() - began


def test_who_sends_a_body_slowly_is_cut(any_address):
    drops = [b" "] * 12
    found, spent = exchanged(any_address, HEAD + b"Content-Length: 1000\r\n\r\n{", *drops, pause=0.1)
    assert found.startswith(b"HTTP/1.1 408")
    assert b"problem+json" in found
    assert spent < 3


def test_who_never_ends_a_body_is_cut(any_address):
    found, spent = exchanged(any_address, HEAD + b"Content-Length: 1000\r\n\r\n{")
    assert found.startswith(b"HTTP/1.1 408")
    assert spent < 3


@pytest.mark.parametrize("parts", [[], [b"G"], [HEAD], [b"X-A: b\r\n"] * 12], ids=["none", "a byte", "half", "drops"])
def test_who_sends_headers_slowly_is_cut(any_address, parts):
    begin = HEAD if len(parts) == 12 else b""
    found, spent = exchanged(any_address, begin, *parts, pause=0.1)
    assert not found.startswith(b"HTTP/1.1 2")
    assert spent < 3


def test_who_asks_twice_on_one_connection_is_served_twice_and_then_cut(any_address):
    ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    found, spent = exchanged(any_address, ask, ask, b"G", pause=0.05)
    assert found.count(b"HTTP/1.1 200") == 2
    assert spent < 3


def test_answers_come_in_the_order_of_the_requests_on_a_connection(any_address):
    body = b'{"user": "pipe", "item": "01"}'
    tell = HEAD.replace(b"events", b"events?recommend=2") + b"Content-Length: %d\r\n\r\n" % len(body) + body
    ask = b"GET /v1/recommend?user=pipe&k=3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    health = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /v1/recommend?user=pipe&k=1 HTTP/1.0\r\nHost: localhost\r\n\r\n"
    whole = tell + ask + health + tell + ask + last
    for cuts in ([len(whole)], [len(tell) - 4, len(whole)], [40, len(tell) + 9, len(whole)]):
        begins = [0, *cuts]
        parts = [whole[a:b] for a, b in zip(begins, cuts, strict=False)]
        found, spent = exchanged(any_address, *parts, pause=0.05)
        answers = re.split(rb"(?=HTTP/1.1 )", found)[1:]
        assert [one[9:12] for one in answers] == [b"200"] * 6
        bodies = [json.loads(one.partition(b"\r\n\r\n")[2]) for one in answers]
        assert [len(one.get("items", ())) for one in bodies] == [2, 3, 0, 2, 3, 1]
        assert [one["count"] for one in (bodies[1], bodies[4])] == [bodies[0]["count"], bodies[3]["count"]]
        assert bodies[3]["count"] == bodies[0]["count"] + 1
        assert b"connection: close" in answers[-1].lower()
        assert spent < 3


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(any_address):
    found, _ = exchanged(any_address, HEAD + b"Content-Length: 999999999999999999999999\r\n\r\n{")
    assert found.split(b" ")[1] in (b"400", b"413")
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    found, _ = exchanged(any_address, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 4)
    assert found.startswith(b"HTTP/1.1 413") or not found  # it may have been reset while we still sent


def test_what_may_come_before_an_answer_is_bounded():
    wire, inner = mock.Mock(), mock.Mock()
    one = connection.Connection(Limits(body_bytes=1000, header_bytes=500), mock.Mock())
    one.inner = inner
    one.connection_made(wire)
    for _ in range(3):
        one.data_received(b"GET /v1/status HTTP/1.1\r\n\r\n")
        one.began()
        for _ in range(6):  # a body of chunks of one byte each
            one.data_received(b"1\r\na\r\n" * 166)
        one.answered()
    assert not wire.close.called and inner.data_received.call_count == 21
    one.data_received(b"GET /v1/status HTTP/1.1\r\n\r\n")
    one.began()
    for _ in range(1000):  # the headers of the next one, without an end
        one.data_received(b"X: aaaaaaaaaaaaaaaaa")
    assert wire.close.called and inner.data_received.call_count < 21 + 500


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        HEAD + b"X: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET http://evil/healthz HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_http_for_us_is_refused(any_address, text):
    found, spent = exchanged(any_address, text)
    assert found.split(b" ")[1][:1] == b"4"
    assert spent < 3


def test_it_still_answers(url):
    assert requests.get(f"{url}/readyz", timeout=10).json()["ready"]
