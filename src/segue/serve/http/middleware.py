"""What every request passes before its route, and every answer on its way out.

Knows: hosts, keys, rates, sizes, headers. Does not know: routes, JSON, the service.

In this order, the cheapest first: the Host header is one of ours (a web page whose name was made to point at
this machine is not), the key is known, the rate is kept, the body is JSON by its media type, not too large and
not too slow. No header lets other origins in, so a browser lets no other page read or write here.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from segue.serve.http.auth import ANYBODY, Key, KeyRing, Role
from segue.serve.http.bodies import CLOSE, Receive, read_body
from segue.serve.http.connection import STATE, Connection
from segue.serve.http.limits import Limits, Rates
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
    """What the middleware has read of a request: under `segue.passed` in its scope."""

    key: Key
    headers: Mapping[bytes, bytes]
    body: bytes = b""


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
        self._in_flight = 0
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
            await send(message)

        self._in_flight += 1
        if connection is not None:
            connection.began()
        try:
            try:
                scope["segue.passed"] = await self._admit(scope, receive, connection)
                await self._app(scope, receive, send_with_headers)
            except Refusal as refused:  # not let in, or no route takes it
                await problem_of(refused, scope["path"])(scope, receive, send_with_headers)
        finally:
            self._in_flight -= 1
            if connection is not None:
                connection.answered()
            spent = time.perf_counter() - begin
            self._metrics.request(scope["method"], scope.get("segue.route", "none"), status, spent)

    async def _admit(self, scope: Scope, receive: Receive, connection: Connection | None) -> Passed:
        """Return who sent a request, and its body.

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
        _check_media(headers)
        announced = headers.get(b"content-length")
        came = connection.body_size if connection and b"transfer-encoding" not in headers else 0
        body = await read_body(receive, announced and announced.decode("latin-1"), self._access.limits, came)
        return Passed(key, headers, body)

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


def _check_media(headers: Mapping[bytes, bytes]) -> None:
    sent = headers.get(b"content-type", b"").decode("latin-1")
    media, _, rest = sent.partition(";")
    charset = rest.strip().lower().removeprefix("charset=").strip('"')
    if media.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise Refusal(415, "Content-Type: expected application/json, came something else. Send JSON.", CLOSE)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(415, "Content-Encoding: expected none, came one. Send it uncompressed.", CLOSE)
