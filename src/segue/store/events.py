"""An event as it was sent, and as it is stored; ids are the strings that were sent."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from segue.errors import ArgumentError

_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1


class Position(NamedTuple):
    """A position in the order of a user's events: by `place` (a time), then by `seq` (arrival).

    The place of an event is its time. An event without a time takes the place of its user's latest
    event at arrival, so that the new event comes last. A user without times has all events at one
    place, in the order of arrival.

    Example:
        >>> Position(5, 1) < Position(5, 2) < Position.after(5) < Position(6, 1)
        True
    """

    place: int
    seq: int

    @classmethod
    def after(cls, time: int) -> "Position":
        """Return the position after all events of a time, where a new event of that time goes."""
        return cls(time, _HIGHEST)


#: Before the first event, and after the last event.
START, END = Position(_LOWEST, 0), Position(_HIGHEST, _HIGHEST)


def digest_of(
    user: str,
    item: str,
    time: int | None,
    id: str | None,
    rating: float | None,
    type: str | None,
    context: Mapping[str, Any],
) -> bytes:
    """Return 16 bytes that differ where any field differs."""
    whole = msgspec.msgpack.encode((user, item, time, rating, type, context), order="deterministic")
    return hashlib.sha256(whole + (id or "").encode()).digest()[:16]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a user did, as it was sent.

    Args:
        user: an id.
        item: an id.
        time: microseconds since 1970; None when unknown.
        id: of the event, which makes a retry harmless. Without an id a retry is another event.
        rating: if any.
        type: view, buy ..., if any.
        context: other fields: anything that JSON can say.
        digest: of the body, which tells a retry from another event under the same id. The default
            is made of the fields. Give a digest where a field was filled in that a retry would fill
            in differently.

    Raises:
        ArgumentError: a field that cannot be stored.

    Example:
        >>> event = Event("u1", "17", time=5, id="a", context={"page": 2, "from": "home"})
        >>> event.digest == Event("u1", "17", time=5, id="a", context={"from": "home", "page": 2}).digest
        True
        >>> event.digest == Event("u1", "18", time=5, id="a").digest
        False
    """

    user: str
    item: str
    time: int | None = None
    id: str | None = None
    rating: float | None = None
    type: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    digest: bytes = b""

    def __post_init__(self) -> None:
        if self.time is not None and not _LOWEST < self.time < _HIGHEST:
            raise ArgumentError(
                f"event of {self.user!r}: expected a time in microseconds that fits into 64 bits, "
                f"came {self.time}. Send it in the unit that is asked for, or leave it out."
            )
        if self.digest:
            return
        try:
            digest = digest_of(self.user, self.item, self.time, self.id, self.rating, self.type, self.context)
        except (TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(
                f"event of {self.user!r}: expected fields that JSON can say, came something else ({error}). "
                "Send texts, numbers, lists and objects."
            ) from None
        object.__setattr__(self, "digest", digest)

    def at(self, arrival: int) -> "Event":
        """Return the event with the time of its arrival, which does not change the digest."""
        return Event(self.user, self.item, arrival, self.id, self.rating, self.type, self.context, self.digest)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One thing a user did, as it is stored.

    Args:
        user: the present name of the user: after a merge, the name that stayed.
        item: as in `Event`, and so are the fields up to `context`.
        seq: the number in the order of arrival over all users, from 1, never given twice.
        place: of the event among the events of its user; see `Position`.
    """

    user: str
    item: str
    time: int | None
    id: str | None
    rating: float | None
    type: str | None
    context: Mapping[str, Any]
    seq: int
    place: int

    @property
    def position(self) -> Position:
        """The position among the events of the user."""
        return Position(self.place, self.seq)


def event_to_bytes(event: Event) -> bytes:
    """Return the bytes of an event: all but the user, whose name may change.

    Example:
        >>> event_from_bytes(event_to_bytes(Event("u1", "17", rating=4.5)), "u1", Position(0, 9)).rating
        4.5
    """
    return msgspec.msgpack.encode((event.item, event.time, event.id, event.rating, event.type, event.context))


def as_stored(event: Event, body: bytes, user: str, position: Position) -> StoredEvent:
    """Return the event as it will be read from its bytes, decoding no more than the context."""
    if event.context:
        return event_from_bytes(body, user, position)
    seq, place = position.seq, position.place
    return StoredEvent(user, event.item, event.time, event.id, event.rating, event.type, event.context, seq, place)


def event_from_bytes(body: bytes, user: str, position: Position) -> StoredEvent:
    """Return the event in the bytes that `event_to_bytes` made."""
    item, time, id, rating, type, context = msgspec.msgpack.decode(body)
    return StoredEvent(user, item, time, id, rating, type, context, position.seq, position.place)
