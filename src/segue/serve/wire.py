"""HTTP on the wire: which parser reads it, how long it waits, how much it holds.

Knows: uvicorn's protocols. Does not know: what is asked.

Uvicorn bounds neither how long a request line and its headers may take nor, with its faster parser (httptools,
extra `fast`), how large they may be.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from segue.serve.limits import Limits

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # the extra is not installed
    HttpToolsProtocol = None  # type: ignore[misc,assignment]


def protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return the protocol of a server: the faster one if it is installed, with these limits."""
    return _patient(H11Protocol, limits) if HttpToolsProtocol is None else _bounded(HttpToolsProtocol, limits)


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
