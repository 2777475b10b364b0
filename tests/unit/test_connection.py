"""A connection: what is written of an answer goes out in one piece, and how much of a body is here is known."""

import asyncio

import pytest

from segue.serve.http.connection import Connection
from segue.serve.http.limits import Limits


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__()
        self.written, self.closed = [], False

    def write(self, data):
        self.written.append(bytes(data))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


class Inner(asyncio.Protocol):
    """Stands for uvicorn."""

    def connection_made(self, transport):
        self.transport = transport


@pytest.fixture
def connected():
    """Return a connection, the transport that uvicorn sees, and what is behind it."""
    loop, wire = asyncio.new_event_loop(), Wire()
    connection = Connection(Limits(), loop)
    connection.inner = Inner()
    connection.connection_made(wire)
    yield connection, connection.inner.transport, wire
    loop.close()


def test_an_answer_is_one_write_and_what_comes_before_it_is_not_held(connected):
    connection, transport, wire = connected
    connection.began()
    transport.write(b"100")
    assert wire.written == [b"100"]
    connection.answering()
    transport.write(b"head")
    transport.write(bytearray(b"body"))
    assert wire.written == [b"100"]
    connection.answered()
    transport.write(b"next")
    assert wire.written == [b"100", b"headbody", b"next"]


def test_what_is_held_is_written_before_the_connection_is_closed(connected):
    connection, transport, wire = connected
    connection.began()
    connection.answering()
    transport.write(b"last")
    transport.close()
    assert (wire.written, transport.is_closing()) == ([b"last"], True)
    connection.answered()
    assert wire.written == [b"last"]


def test_how_much_of_a_body_is_here_is_counted_from_the_end_of_the_headers(connected):
    connection, _, _ = connected
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r")
    assert connection.body_size == 0
    connection.data_received(b"\n\r\nab")
    connection.data_received(b"cde")
    assert connection.body_size == 5
    connection.answered()
    assert connection.body_size == 0
