"""HTTP on the wire: which parser reads it, how long it waits, how much it holds, and what is answered at once.

Knows: uvicorn's protocols. Does not know: what is asked.

With httptools the requests that come most often are answered here, once the gate takes them: no task, no scope, no
messages, one write. Uvicorn bounds neither how long a request line and its headers may take nor, with this parser
(extra `fast`), how large they may be.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from segue.serve.http.express import is_express
from segue.serve.http.limits import Limits
from segue.serve.http.middleware import HEADERS, Gate, Headers

#: The headers that are on every answer.
SAME = b"".join(b"%b: %b\r\n" % header for header in HEADERS)

try:
    from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
except ImportError:  # the extra is not installed
    HttpToolsProtocol = None  # type: ignore[misc,assignment]


def protocol(limits: Limits, gate: Gate) -> type[asyncio.Protocol]:
    """Return the protocol of a server: the faster one if it is installed, with these limits."""
    if HttpToolsProtocol is None:
        return _patient(H11Protocol, limits)
    return _bounded(_quick(HttpToolsProtocol, gate), limits)


class _Cycle:
    """A request that the gate has taken, for uvicorn, which looks at these fields."""

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive, self.response_complete, self.disconnected = keep_alive, False, False
        self.message_event = self

    def set(self) -> None:
        """Nobody waits for the rest of a body that is all there."""


def _quick(base: Any, gate: Gate) -> type[asyncio.Protocol]:
    """Return a protocol on httptools that asks the gate first, where a request came in one piece."""

    class Quick(base):  # type: ignore[misc]
        _held: list[bytes] | None = None

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._held is not None and not self.transport.is_closing():
                self._let_go()  # the rest is still to come: this is for the framework, and its limits

        def on_headers_complete(self) -> None:
            free = (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused
            if free and not self.expect_100_continue and not self.parser.should_upgrade() and is_express(self.url):
                self._held = []
            else:
                super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if self._held is None:
                super().on_body(body)
            else:
                self._held.append(body)

        def on_message_complete(self) -> None:
            if self._held is not None:
                if self._taken(b"".join(self._held)):
                    self._held = None
                    return
                self._let_go()
            super().on_message_complete()

        def _let_go(self) -> None:
            parts, self._held = self._held, None
            super().on_headers_complete()
            for part in parts or ():
                super().on_body(part)

        def _taken(self, body: bytes) -> bool:
            parser = self.parser
            cycle = _Cycle(parser.get_http_version() != "1.0" and parser.should_keep_alive())

            def reply(status: int, headers: Headers, body: bytes) -> None:
                if cycle.disconnected or self.transport.is_closing():
                    return
                lines = [STATUS_LINE[status]]
                lines += [b"%b: %b\r\n" % header for header in (*self.server_state.default_headers, *headers)]
                lines += (SAME, b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)
                self.transport.write(b"".join(lines))
                cycle.response_complete = True
                if not cycle.keep_alive:
                    self.transport.close()
                self.on_response_complete()

            method, client = parser.get_method().decode("ascii"), (self.client or ("unknown",))[0]
            if not gate.express(method, self.url, dict(reversed(self.headers)), client, body, reply):
                return False
            self.cycle = cycle
            return True

    return Quick


def _patient(base: Any, limits: Limits) -> type[asyncio.Protocol]:
    """Return a protocol that ends connections whose request line and headers take longer to come."""

    class Patient(base):  # type: ignore[misc]
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._calm()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._calm()
            elif self._patience is None:
                self._patience = self.loop.call_later(limits.header_seconds, self._give_up)

        def _calm(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

        def _give_up(self) -> None:
            self._patience = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Patient


def _bounded(base: Any, limits: Limits) -> type[asyncio.Protocol]:
    """Return a protocol on httptools that also bounds the request line and headers, as h11 does by itself."""
    patient: Any = _patient(base, limits)

    class Bounded(patient):  # type: ignore[misc]
        _head, _in_head = 0, True

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._in_head and not self.transport.is_closing():
                self._head += len(data)
                if self._head > limits.header_bytes:
                    self.send_400_response("The headers are too large.")

        def on_message_begin(self) -> None:
            self._head, self._in_head = 0, True
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def _count(self, size: int) -> None:
            self._head += size
            if self._head > limits.header_bytes:
                raise ValueError("the headers are too large")  # the parser answers 400

    return Bounded
