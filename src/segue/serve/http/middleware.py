"""What every request passes before its route, and every answer on its way out.

Knows: hosts, keys, rates, sizes, headers. Does not know: routes, JSON, the service.

In this order, the cheapest first: the Host header is one of ours (a web page whose name was made to point at
this machine is not), the key is known, the rate is kept, the body is JSON by its media type, not too large and
not too slow. No header lets other origins in, so a browser lets no other page read or write here.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from segue.serve.http import express
from segue.serve.http.auth import ANYBODY, Key, KeyRing, Role
from segue.serve.http.bodies import CLOSE, Receive, read_body
from segue.serve.http.limits import Limits, Rates
from segue.serve.http.metrics import Metrics
from segue.serve.http.problems import Problem, refusal
from segue.serve.ranking.types import Answer, Ask, Question, Tell, Told

if TYPE_CHECKING:
    from segue.serve.http.app_context import Desk

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Reply: TypeAlias = Callable[[int, Headers, bytes], None]
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
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
        scope["path"] = path.decode("ascii", "replace")

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
                await self._app(scope, receive, send_with_headers)
        finally:
            self._at_work -= 1
            spent = time.perf_counter() - begin
            self._metrics.request(scope["method"], scope.get("segue.route", "none"), status, spent)

    def express(
        self, method: str, url: bytes, headers: Mapping[bytes, bytes], client: str, body: bytes, reply: Reply
    ) -> bool:
        """Begin to answer a request without the framework, if it is one of those that come most often.

        What would be refused is not, so that it is refused in one place.

        Args:
            method: of HTTP.
            url: path and query, as they came.
            headers: by name in lower case.
            client: the address that it came from.
            body: all of it.
            reply: is called later, from the event loop, with status, headers but those on every answer, and body.

        Returns:
            Whether `reply` will be called.
        """
        begin, desk = time.perf_counter(), self._desk()
        read = express.read(method, url, headers, body, int(desk.service.clock() * 1e6))
        if read is None or len(body) > self._access.limits.body_bytes:
            return False

        question = read.question or Question()

        def done(found: Told | Answer | BaseException | None) -> None:
            if found is None:  # it takes longer, and nobody else is to wait for it
                desk.later(lambda: desk.service.ask(read.user, question), done)
                return
            self._at_work -= 1
            status, sent, body = _sent(found, read.route)
            self._metrics.request(method, read.route, status, time.perf_counter() - begin)
            reply(status, sent, body)

        try:
            key = self._known(read.route, headers, self._at_work + 1)
            if method in _WITH_BODY:
                _check_media(headers)
            if key is None or not key.may(read.role):
                return False
            self._spend(key, client)
            if read.event is not None:
                desk.tells.take(Tell((read.event,), key.name, read.question), done)
            else:
                desk.asks.take(Ask(read.user, question), done)
        except Problem:
            return False
        self._at_work += 1
        return True

    async def _admit(self, scope: Scope, receive: Receive) -> Receive:
        """Return how the body is received, once it is all there."""
        headers = dict(reversed(scope["headers"]))  # of a header sent twice the first holds
        address = (scope.get("client") or ("unknown",))[0]
        key = self._known(scope["path"], headers, self._at_work)
        self._spend(key, address)
        if key is None:
            raise Problem(
                401, "Expected the header Authorization: Bearer KEY, came no known key. Make one: segue keys add NAME.",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        scope["segue.key"] = key
        if scope["method"] not in _WITH_BODY:
            return receive
        _check_media(headers)
        announced = headers.get(b"content-length")
        body = await read_body(receive, announced and announced.decode("latin-1"), self._access.limits)
        return _again(body, receive)

    def _known(self, path: str, headers: Mapping[bytes, bytes], at_work: int) -> Key | None:
        """Return the key of a request, None for one that is unknown, or raise a `Problem`: why it is not let in."""
        self._check_host(headers.get(b"host", b"").decode("latin-1"))
        if at_work > self._access.limits.in_flight:
            raise Problem(503, "Too many requests are at work. Send it again in a moment.", {"Retry-After": "1"})
        return self._key(path, headers.get(b"authorization", b"").decode("latin-1"))

    def _spend(self, key: Key | None, client: str) -> None:
        """Count a request for its rate, or raise a `Problem`: there were too many."""
        wait = self._access.rates.wait(f"key {key.name}" if key and key.name else f"address {client}")
        if wait:
            raise Problem(429, f"Too many requests. Send it again in {wait:.1f} s.", {"Retry-After": f"{wait + 1:.0f}"})

    def _check_host(self, host: str) -> None:
        name = host.lower().rpartition(":")[0] if ":" in host and not host.endswith("]") else host.lower()
        if "*" not in self._access.hosts and name not in self._access.hosts:
            raise Problem(421, "Host: expected a name of this server, came another. Start it with --allow-host NAME.")

    def _key(self, path: str, sent: str) -> Key | None:
        """Return the key of a request; where none is asked for, that of anybody."""
        if self._access.keys is None:
            return ANYBODY
        scheme, _, secret = sent.partition(" ")
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


def _check_media(headers: Mapping[bytes, bytes]) -> None:
    sent = headers.get(b"content-type", b"").decode("latin-1")
    media, _, rest = sent.partition(";")
    charset = rest.strip().lower().removeprefix("charset=").strip('"')
    if media.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise Problem(415, "Content-Type: expected application/json, came something else. Send JSON.", CLOSE)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(415, "Content-Encoding: expected none, came one. Send it uncompressed.", CLOSE)


def _sent(found: Told | Answer | BaseException, route: str) -> tuple[int, Headers, bytes]:
    """Return status, headers but those on every answer, and body of an answer that passes by the framework."""
    try:
        if isinstance(found, BaseException):
            raise found
        body = express.reply_to(found)
    except Exception as error:
        refused = refusal(error, route)
        return refused.status_code, refused.raw_headers, bytes(refused.body)
    return 200, ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))), body


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
