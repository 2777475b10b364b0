"""A connection, before HTTP is read: its request line and headers are bounded in size and time.

Knows: bytes, a clock, and where headers end. Does not know: HTTP, which uvicorn reads.

Uvicorn bounds neither how long a request line and its headers may take nor, with httptools, how large they may be.
Each connection stands before one of uvicorn's and hands on what comes. Requests carry the connection in their state
(`STATE`), so that the middleware can say when a request has begun and when it is answered.

Uvicorn writes the headers of an answer and its body one after the other, a system call each. A connection holds what is
written from the beginning of an answer to its end, so an answer is one write.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from segue.serve.http.limits import LARGE, Limits
from segue.serve.http.problems import document

#: Under this name `scope["state"]` has the connection of a request.
STATE = "segue.connection"
_END = b"\r\n\r\n"
#: A body of so many times its size may come before a request is answered: in chunks of one byte it takes six.
_CHUNKED = 8


def bounded(limits: Limits) -> Callable[..., asyncio.Protocol]:
    """Return what makes a connection, with the arguments that uvicorn makes its own with."""

    def connect(
        *, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None, **more: Any
    ) -> Connection:
        connection = Connection(limits, _loop or asyncio.get_running_loop())
        make: Any = AutoHTTPProtocol
        connection.inner = make(app_state={**app_state, STATE: connection}, _loop=_loop, **more)
        return connection

    return connect


class Transport(asyncio.Transport):
    """The transport of a connection, as uvicorn sees it; what is written while `held` is a list stays there."""

    def __init__(self, real: asyncio.Transport) -> None:
        super().__init__()
        self._real = real
        self.held: list[bytes] | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact of the connection, such as its addresses."""
        return self._real.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Return whether no more is read."""
        return self._real.is_closing()

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        self._real.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._real.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write some bytes, or hold them."""
        if self.held is None:
            self._real.write(data)
        else:
            self.held.append(bytes(data))

    def release(self) -> None:
        """Write what is held, in one piece."""
        held, self.held = self.held, None
        if held:
            self._real.write(b"".join(held))

    def close(self) -> None:
        """Write what is held, and close."""
        self.release()
        self._real.close()


class Connection(asyncio.Protocol):
    """One connection: bytes on their way to `inner`, which reads HTTP.

    Args:
        limits: of the headers.
        loop: whose clock is read.
    """

    inner: asyncio.Protocol

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._limits, self._loop = limits, loop
        self._transport: Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._in_head, self._size, self._tail = True, 0, b""
        #: Bytes behind the headers of the request at work: those of its body, then those of the next request.
        self.body_size = 0
        self._small = _CHUNKED * min(limits.body_bytes, LARGE) + limits.header_bytes
        self._most = self._small

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self._transport = Transport(cast(asyncio.Transport, transport))
        self._watch()
        self.inner.connection_made(self._transport)

    def data_received(self, data: bytes) -> None:
        """Hand on what came, unless the headers are too large."""
        if self._in_head:
            known = self._tail + data
            end = known.find(_END)
            size = self._size - len(self._tail) + (len(known) if end < 0 else end)
            if size > self._limits.header_bytes:
                self._refuse()
                return
            if end < 0:
                self._size, self._tail = size, known[-3:]
                self._watch()
            else:
                self._in_head, self.body_size = False, len(known) - end - len(_END)
                self._calm()
        else:  # a body, or requests that do not wait for the answer
            self.body_size += len(data)
            if self.body_size > self._most:
                self._close()
                return
        self.inner.data_received(data)

    def began(self) -> None:
        """Note that a request is at work: what comes next is its body."""
        self._in_head = False
        self._calm()

    def expect(self, size: int) -> None:
        """Note that a body of up to some size is coming; 0: all of it is there."""
        self._most = _CHUNKED * size + self._limits.header_bytes if size else self._small
        self.body_size = self.body_size if size else 0

    def answering(self) -> None:
        """Note that an answer begins: all of it is written at once."""
        if self._transport is not None:
            self._transport.held = []

    def streaming(self) -> None:
        """Note that an answer comes in parts: each is written as it comes."""
        if self._transport is not None:
            self._transport.release()

    def answered(self) -> None:
        """Note that the request was answered: what comes next are the headers of another one."""
        self._in_head, self._size, self._tail, self.body_size = True, 0, b"", 0
        self._most = self._small
        if self._transport is not None:
            self._transport.release()

    def eof_received(self) -> bool | None:
        """Hand on that no more comes."""
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        """Hand on that the other side reads slowly."""
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that the other side has read."""
        self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that it is closed."""
        self._calm()
        self.inner.connection_lost(exc)

    def _watch(self) -> None:
        if self._timer is None and self._transport is not None:
            self._timer = self._loop.call_later(self._limits.header_seconds, self._transport.close)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self) -> None:
        said = f"headers: expected at most {self._limits.header_bytes:,} bytes, came more. Send fewer or shorter ones."
        answer = document(431, said, "", headers={"Connection": "close"})
        lines = [b"HTTP/1.1 431 Request Header Fields Too Large", *(b"%b: %b" % one for one in answer.raw_headers)]
        if self._transport is not None:
            self._transport.write(b"\r\n".join(lines) + _END + bytes(answer.body))
        self._close()
