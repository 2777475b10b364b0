"""What every request passes before its route, and every answer on its way out.

Knows: hosts, keys, rates, sizes, headers. Does not know: routes, JSON, the service.

In this order, the cheapest first: the Host header is one of ours (a web page whose name was made to point at
this machine is not), the key is known, the rate is kept, the body is JSON by its media type, not too large and
not too slow. No header lets other origins in, so a browser lets no other page read or write here.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

import msgspec

from segue.serve.http.auth import ANYBODY, Key, KeyRing, Role
from segue.serve.http.bodies import CLOSE, Receive, read_body, read_lines
from segue.serve.http.connection import STATE, Connection
from segue.serve.http.limits import LARGE, Limits, Rates
from segue.serve.http.metrics import Metrics
from segue.serve.http.problems import Refusal, problem_of

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

#: On every answer: nothing is loaded from elsewhere, nothing is guessed, nobody puts it into a frame.
HEADERS = [
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
#: Open to all: they tell nothing of anybody.
OPEN = frozenset(("/", "/operator", "/healthz", "/readyz", "/docs", "/openapi.json"))
FILES = "/page/"
LOCAL = frozenset(("localhost", "127.0.0.1", "[::1]"))
#: The media type of one JSON value on each line.
NDJSON = "application/x-ndjson"
_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))


@dataclass
class Access:
    """Who is let in.

    Args:
        hosts: names that a Host header may have, without a port; "*" takes any.
        keys: None where no keys are needed.
        rates: of each key, or address.
        limits: of each request.
    """

    hosts: frozenset[str] = LOCAL
    keys: KeyRing | None = None
    rates: Rates = field(default_factory=lambda: Rates(0))
    limits: Limits = field(default_factory=Limits)


class Passed(msgspec.Struct, frozen=True):
    """What the middleware has read of a request: under `segue.passed` in its scope.

    Args:
        key: of the client.
        headers: as they were sent.
        body: of JSON.
        lines: the body of NDJSON.
    """

    key: Key
    headers: Mapping[bytes, bytes]
    body: bytes = b""
    lines: BinaryIO | None = None


class Middleware:
    """An ASGI application before another one.

    Args:
        app: the routes.
        access: who is let in.
        metrics: that count each request.
        lifespan: an ASGI application that receives the start and the stop of the server.
    """

    def __init__(self, app: App, *, access: Access, metrics: Metrics, lifespan: App) -> None:
        self._app, self._access, self._metrics, self._lifespan = app, access, metrics, lifespan
        self._in_flight = self._large_bodies = 0
        metrics.in_flight.set_function(lambda: self._in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or send why not."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._lifespan(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
        scope["path"] = path.decode("ascii", "replace")
        connection: Connection | None = scope.get("state", {}).get(STATE)

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if connection is not None:
                    connection.answering()
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            elif connection is not None and message.get("more_body"):
                connection.streaming()
            await send(message)

        self._in_flight += 1
        if connection is not None:
            connection.began()
        held = contextlib.ExitStack()
        try:
            try:
                scope["segue.passed"] = await self._admit(scope, receive, connection, held)
                await self._app(scope, receive, send_with_headers)
            except Refusal as refused:  # not let in, or no route takes it
                await problem_of(refused, scope["path"])(scope, receive, send_with_headers)
        finally:
            held.close()
            self._in_flight -= 1
            if connection is not None:
                connection.answered()
            spent = time.perf_counter() - begin
            self._metrics.request(scope["method"], scope.get("segue.route", "none"), status, spent)

    async def _admit(
        self, scope: Scope, receive: Receive, connection: Connection | None, held: contextlib.ExitStack
    ) -> Passed:
        """Return who sent a request, and its body; what it holds until it is answered goes into `held`.

        Raises:
            Refusal: it is not let in.
        """
        headers = dict(reversed(scope["headers"]))  # of a header sent twice the first holds
        self._check_host(headers.get(b"host", b"").decode("latin-1"))
        if self._in_flight > self._access.limits.in_flight:
            raise Refusal(503, "Too many requests are at work. Send it again in a moment.", {"Retry-After": "1"})
        key = self._key(scope["path"], headers.get(b"authorization", b"").decode("latin-1"))
        self._spend(key, (scope.get("client") or ("unknown",))[0])
        if key is None:
            raise Refusal(
                401, "Expected the header Authorization: Bearer KEY, came no known key. Make one: segue keys add NAME.",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if scope["method"] not in _WITH_BODY:
            return Passed(key, headers)
        limits = self._access.limits
        expect = connection.expect if connection else lambda size: None
        if _is_lines(headers):
            held.enter_context(self._large())
            expect(limits.lines_bytes)
            lines = held.enter_context(await read_lines(receive, limits))
            expect(0)
            return Passed(key, headers, lines=lines)

        def large() -> None:
            held.enter_context(self._large())
            expect(limits.body_bytes)

        announced = headers.get(b"content-length")
        came = connection.body_size if connection and b"transfer-encoding" not in headers else 0
        body = await read_body(receive, announced and announced.decode("latin-1"), limits, came, large)
        if len(body) > LARGE:
            expect(0)
        return Passed(key, headers, body)

    @contextlib.contextmanager
    def _large(self) -> Iterator[None]:
        """Count a request with a large body until it is answered.

        Raises:
            Refusal: 503: there are too many of these.
        """
        if self._large_bodies >= self._access.limits.large:
            raise Refusal(
                503, "Too many requests with large bodies are at work. Send it again in a moment.",
                {"Retry-After": "1", **CLOSE},
            )  # fmt: skip
        self._large_bodies += 1
        try:
            yield
        finally:
            self._large_bodies -= 1

    def _spend(self, key: Key | None, client: str) -> None:
        """Count a request for its rate, or raise a `Refusal`: there were too many."""
        wait = self._access.rates.wait(f"key {key.name}" if key and key.name else f"address {client}")
        if wait:
            raise Refusal(429, f"Too many requests. Send it again in {wait:.1f} s.", {"Retry-After": f"{wait + 1:.0f}"})

    def _check_host(self, host: str) -> None:
        name = host.lower().rpartition(":")[0] if ":" in host and not host.endswith("]") else host.lower()
        if "*" not in self._access.hosts and name not in self._access.hosts:
            raise Refusal(421, "Host: expected a name of this server, came another. Start it with --allow-host NAME.")

    def _key(self, path: str, sent: str) -> Key | None:
        """Return the key of a request; where no keys are needed, that of anybody."""
        if self._access.keys is None:
            return ANYBODY
        scheme, _, secret = sent.partition(" ")
        key = self._access.keys.find(secret.strip()) if scheme.lower() == "bearer" else None
        return key or (Key("", "read") if path in OPEN or path.startswith(FILES) else None)


def allow(key: Key, role: Role) -> None:
    """Do nothing if a key may do what needs a role.

    Raises:
        Refusal: 403: its role is too weak.
    """
    if not key.may(role):
        raise Refusal(403, f'Expected a key with the role "{role}", came one that may {key.role}. Ask for another.')


async def send_json(send: Send, status: int, body: bytes) -> None:
    """Send an answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_lines(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a body is NDJSON, not JSON.

    Raises:
        Refusal: 415: it is neither.
    """
    sent = headers.get(b"content-type", b"").decode("latin-1")
    media, _, rest = sent.partition(";")
    media, charset = media.strip().lower(), rest.strip().lower().removeprefix("charset=").strip('"')
    if media not in ("application/json", NDJSON) or charset not in ("", "utf-8"):
        raise Refusal(415, "Content-Type: expected application/json, came something else. Send JSON.", CLOSE)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(415, "Content-Encoding: expected none, came one. Send it uncompressed.", CLOSE)
    return media == NDJSON
