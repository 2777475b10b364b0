"""Events of a stream of messages into a store or a server, each once, whatever ends the process.

Knows: messages, events, what is done with a bad message, and in which order. Does not know: Kafka (`kafka`).

In words, until stopped:

    messages = what came; each has a place, which is the id of its event where the event has none
    put the events: they are on disk, were there before, or are refused one by one
    refuse bad messages: they are logged by their places, and sent on where a topic for them is given
    acknowledge the messages

A crash before the last line brings the messages again, and the ids keep the events from counting twice.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from segue.client import Client
from segue.client.calls import ingest_lines
from segue.client.exchange import PASSING
from segue.errors import ServerError, StoreError
from segue.serve.api.schemas import EventIn, Time, micros
from segue.serve.http.bodies import convert, parse_json
from segue.serve.http.limits import Limits
from segue.serve.http.problems import Refusal
from segue.serve.live.ingest import TOLERANCE
from segue.store.base import Conflict, Erased, Store, Write
from segue.store.events import Event

logger = logging.getLogger("segue.consume")

#: Seconds after which a store or server that failed is tried again, doubled each time, and at most.
FIRST, LONGEST = 0.5, 30.0
_LIMITS = Limits()


class Message(NamedTuple):
    """A message: its place, such as plays/0/17, what it says, and when it was sent, in microseconds since 1970."""

    place: str
    body: bytes
    time: int | None = None


class Refused(NamedTuple):
    """Why a message is no event that can be kept: in a few words without ids, and in full."""

    why: str
    detail: str


class MessageSource(Protocol):
    """Where messages come from. What was read and not acknowledged comes again after a restart."""

    def read(self) -> Sequence[Message]:
        """Return the next messages; none if none come for a moment."""

    def refuse(self, refused: Iterable[tuple[Message, Refused]]) -> None:
        """Keep bad messages elsewhere, if they are to be kept."""

    def acknowledge(self) -> None:
        """Note that nothing is left to do for all messages that were read."""


class Sink(Protocol):
    """Where events go."""

    def put(self, events: Sequence[EventIn]) -> Sequence[Refused | None]:
        """Put events with ids on disk, each on its own; return why each was refused, None for what is on disk.

        Raises:
            StoreError, ServerError: it is not known of all; put all of them again.
        """


@dataclass(frozen=True)
class StoreSink:
    """A store. Servers that share the store find the events at their users' next request.

    Args:
        store: open.
        clock: seconds since 1970.
    """

    store: Store
    clock: Callable[[], float] = time.time

    def put(self, events: Sequence[EventIn]) -> list[Refused | None]:
        """Put events on disk in one transaction."""
        now = int(self.clock() * 1e6)
        found: list[Refused | None] = [_too_early(one, now) for one in events]
        good = [n for n, refused in enumerate(found) if refused is None]
        writes = [Write(events[n].user, None, (_stored(events[n], now),), client="kafka") for n in good]
        for n, outcome in zip(good, self.store.commit(writes), strict=True):
            if isinstance(outcome, Conflict):
                found[n] = Refused("conflict", "id: another event is stored under it.")
            elif isinstance(outcome, Erased):
                found[n] = Refused("erased", "The user or the event was erased on request.")
        return found


def _too_early(sent: EventIn, now: int) -> Refused | None:
    at = micros(sent.time)
    if at is None or at <= now + TOLERANCE:
        return None
    return Refused("invalid", f"time: expected at most 5 minutes from now, came {(at - now) / 1e6:.0f} s ahead.")


def _stored(sent: EventIn, now: int) -> Event:
    at = micros(sent.time)
    event = Event(sent.user, sent.item, at, sent.id, sent.rating, sent.type, sent.context)
    return event.at(now) if at is None else event


@dataclass(frozen=True)
class ServerSink:
    """A server."""

    client: Client

    def put(self, events: Sequence[EventIn]) -> list[Refused | None]:
        """Send events."""
        found: list[Refused | None] = []
        for line in self.client.send(ingest_lines([_named(one) for one in events])):
            error = line.error
            if error is msgspec.UNSET:
                found.append(None)
            elif error.status in PASSING or error.status >= 500:
                raise ServerError(error.detail)
            else:
                found.append(Refused(error.type.rpartition(":")[2], error.detail))
        if len(found) != len(events):
            raise ServerError(f"expected an answer for each of {len(events)} events, came {len(found)}.")
        return found


def _named(sent: EventIn) -> dict[str, Any]:
    named = msgspec.structs.asdict(sent) | {"time": None if sent.time is None else sent.time.micros / 1e6}
    return {name: value for name, value in named.items() if value is not None}


@dataclass
class Consumed:
    """How many messages became events that are on disk (now, or before), and how many were refused."""

    kept: int = 0
    refused: int = 0


def consume(source: MessageSource, sink: Sink, stopped: Callable[[], bool]) -> Consumed:
    """Put the events of all messages into a sink until stopped; return how many.

    What is under way when it is stopped is finished, unless the sink does not answer.
    """
    done = Consumed()
    while not stopped():
        messages = source.read()
        if not messages:
            continue
        read = [event_of(message) for message in messages]
        events = [one for one in read if isinstance(one, EventIn)]
        outcomes = _put(sink, events, stopped)
        if outcomes is None:
            break
        rest = iter(outcomes)
        why = [next(rest) if isinstance(one, EventIn) else one for one in read]
        refused = [(message, one) for message, one in zip(messages, why, strict=True) if one is not None]
        for message, one in refused:
            logger.warning("%s: refused, %s", message.place, one.why)
        source.refuse(refused)
        source.acknowledge()
        done.kept += len(messages) - len(refused)
        done.refused += len(refused)
    return done


def event_of(message: Message) -> EventIn | Refused:
    """Return the event that a message says, as `POST /v1/events` takes it, with an id and a time.

    Example:
        >>> made = event_of(Message("plays/0/17", b'{"user": "u1", "item": "9"}', 5_000_000))
        >>> made.id, made.time.micros
        ('plays/0/17', 5000000)
        >>> event_of(Message("plays/0/18", b'{"user": "u1"}')).detail
        'event.item: expected, and not there. See /docs.'
    """
    try:
        if len(message.body) > _LIMITS.body_bytes:
            return Refused("too-large", f"expected at most {_LIMITS.body_bytes:,} bytes, came more.")
        sent = convert(parse_json(message.body, _LIMITS.depth), EventIn, "event")
    except Refusal as error:
        return Refused("invalid" if error.status_code == 422 else "malformed", str(error.detail))
    at = sent.time if sent.time is not None or message.time is None else Time(message.time)
    return msgspec.structs.replace(sent, id=message.place if sent.id is None else sent.id, time=at)


def _put(sink: Sink, events: Sequence[EventIn], stopped: Callable[[], bool]) -> Sequence[Refused | None] | None:
    """Put events until it is known what came of them; None if stopped before."""
    pause = FIRST
    while True:
        try:
            return sink.put(events) if events else []
        except (StoreError, ServerError) as error:
            logger.error("%s; tried again in %g s", error, pause)
        end = time.monotonic() + pause
        while time.monotonic() < end:
            if stopped():
                return None
            time.sleep(0.1)
        pause = min(LONGEST, 2 * pause)
