"""What every request passes before its route, and every answer on its way out.

Knows: hosts, keys, rates, sizes, headers. Does not know: routes, JSON, the service.

In this order, the cheapest first: the Host header is one of ours (a web page whose name was made to point at
this machine is not), the key is known, the rate is kept, the body is JSON by its media type, not too large and
not too slow. No header lets other origins in, so a browser lets no other page read or write here.
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from segue.serve import express
from segue.serve.bodies import CLOSE, Receive, read_body
from segue.serve.keys import ANYBODY, Key, KeyRing, Role
from segue.serve.limits import Limits, Rates
from segue.serve.metrics import Metrics
from segue.serve.problems import Problem, refusal

if TYPE_CHECKING:
    from segue.serve.desk import Desk

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
OPEN = frozenset(("/", "/page.js", "/page.css", "/page.svg", "/healthz", "/readyz", "/docs", "/openapi.json"))
LOCAL = frozenset(("localhost", "127.0.0.1", "[::1]"))
_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))


@dataclass
class Access:
    """Who is let in.

    Args:
        hosts: names that a Host header may have, without a port; "*" takes any.
        keys: None where no keys are asked for.
        rates: of each key, or address.
        limits: of each request.
    """

    hosts: frozenset[str] = LOCAL
    keys: KeyRing | None = None
    rates: Rates = field(default_factory=lambda: Rates(0))
    limits: Limits = field(default_factory=Limits)


class Gate:
    """An ASGI application before another one."""

    def __init__(self, app: App, *, access: Access, metrics: Metrics, desk: Callable[[], "Desk"]) -> None:
        self._app, self._access, self._metrics, self._desk = app, access, metrics, desk
        self._at_work = 0
        metrics.in_flight.set_function(lambda: self._at_work)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or send why not."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500
        scope["path"] = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("ascii", "replace")

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        self._at_work += 1
        try:
            try:
                receive = await self._admit(scope, receive)
            except Problem as problem:
                await refusal(problem, scope["path"])(scope, receive, send_with_headers)
            else:
                if not await self._express(scope, send_with_headers):
                    await self._app(scope, receive, send_with_headers)
        finally:
            self._at_work -= 1
            spent = time.perf_counter() - begin
            self._metrics.request(scope["method"], scope.get("segue.route", "none"), status, spent)

    async def _express(self, scope: Scope, send: Send) -> bool:
        """Answer the requests that come most often, and say whether this was one of them."""
        key, body = scope["segue.key"], scope.get("segue.body")
        if body is None or not key.may("write"):
            return False
        desk = self._desk()
        told = express.read_request(scope, body, key.name, int(desk.service.clock() * 1e6))
        if told is None:
            return False
        scope["segue.route"] = express.ROUTE
        try:
            answer = express.reply_to(await desk.teller.tell(told))
        except Exception as error:
            await refusal(error, scope["path"])(scope, _nothing, send)
            return True
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        return True

    async def _admit(self, scope: Scope, receive: Receive) -> Receive:
        """Return how the body is received, once it is all there."""
        headers = {}
        for name, value in reversed(scope["headers"]):  # of a header sent twice the first holds
            headers[name] = value.decode("latin-1")
        limits = self._access.limits
        self._check_host(headers.get(b"host", ""))
        if self._at_work > limits.in_flight:
            raise Problem(503, "Too many requests are at work. Send it again in a moment.", {"Retry-After": "1"})
        key = self._key(scope["path"], headers.get(b"authorization"))
        address = (scope.get("client") or ("unknown",))[0]
        wait = self._access.rates.wait(f"key {key.name}" if key and key.name else f"address {address}")
        if wait:
            raise Problem(429, f"Too many requests. Send it again in {wait:.1f} s.", {"Retry-After": f"{wait + 1:.0f}"})
        if key is None:
            raise Problem(
                401, "Expected the header Authorization: Bearer KEY, came no known key. Make one: segue keys add NAME.",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        scope["segue.key"] = key
        if scope["method"] not in _WITH_BODY:
            return receive
        _check_media(headers)
        body = scope["segue.body"] = await read_body(receive, headers.get(b"content-length"), limits)
        return _again(body, receive)

    def _check_host(self, host: str) -> None:
        name = host.lower().rpartition(":")[0] if ":" in host and not host.endswith("]") else host.lower()
        if "*" not in self._access.hosts and name not in self._access.hosts:
            raise Problem(421, "Host: expected a name of this server, came another. Start it with --allow-host NAME.")

    def _key(self, path: str, sent: str | None) -> Key | None:
        """Return the key of a request; where none is asked for, that of anybody."""
        if self._access.keys is None:
            return ANYBODY
        scheme, _, secret = (sent or "").partition(" ")
        key = self._access.keys.find(secret.strip()) if scheme.lower() == "bearer" else None
        return key or (Key("", "read") if path in OPEN else None)


def allow(scope: Scope, role: Role) -> Key:
    """Return the key of a request.

    Raises:
        Problem: 403: its role is too weak.
    """
    key: Key = scope["segue.key"]
    if not key.may(role):
        raise Problem(403, f'Expected a key with the role "{role}", came one that may {key.role}. Ask for another.')
    return key


def _check_media(headers: MutableMapping[bytes, str]) -> None:
    media, _, rest = headers.get(b"content-type", "").partition(";")
    charset = rest.strip().lower().removeprefix("charset=").strip('"')
    if media.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise Problem(415, "Content-Type: expected application/json, came something else. Send JSON.", CLOSE)
    if headers.get(b"content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Content-Encoding: expected none, came one. Send it uncompressed.", CLOSE)


async def _nothing() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which was read already, and then what else comes."""
    given = False

    async def receive_again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
