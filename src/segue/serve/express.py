"""The request that comes most often, one event told and a list back, without the framework.

The framework looks at every parameter of every request, which costs as much as all the rest.

Knows: which requests it reads with certainty; all others, and all that is wrong, it leaves to the route, which
says the same of them. Does not know: what is done with an event.
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from segue.serve import limits
from segue.serve.answers import Question, Tell
from segue.serve.events import Event
from segue.serve.replies import told_of
from segue.serve.schema import to_microseconds

ROUTE = "/v1/events"
_ONLY_K = re.compile(rb"(?:recommend=([1-9][0-9]{0,2}))?")
_Id = Annotated[str, Meta(min_length=1, max_length=limits.ID)]
_Name = Annotated[str, Meta(min_length=1, max_length=128)]


class _One(msgspec.Struct, forbid_unknown_fields=True):
    """As `schema.EventIn`, without a context and with times in seconds alone."""

    user: _Id
    item: _Id
    time: int | float | UnsetType | None = UNSET
    id: _Id | UnsetType | None = UNSET
    rating: int | float | UnsetType | None = UNSET
    type: _Name | UnsetType | None = UNSET


_decode = msgspec.json.Decoder(_One).decode


def read_event(body: bytes, arrival: int) -> Event | None:
    """Return the event that a body tells; None where it is for the route to say.

    Args:
        body: JSON.
        arrival: microseconds since 1970, the time of an event without one.

    Example:
        >>> read_event(b'{"user": "u1", "item": "17"}', 5).time
        5
        >>> read_event(b'{"user": "u1", "item": 17}', 5), read_event(b'{"user": "u", "user": "v", "item": "1"}', 5)
        (None, None)
    """
    if b"\\" in body:
        return None
    try:
        one = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    values: list[Any] = [one.user, one.item, one.time, one.id, one.rating, one.type]
    # Every name and every text has two quotes; a name that came twice has more than are counted here.
    quotes = sum(4 if isinstance(value, str) else 2 for value in values if value is not UNSET)
    time, id, rating, type = (None if value is UNSET else value for value in values[2:])
    if body.count(b'"') != quotes or (rating is not None and not -1e9 <= rating <= 1e9):
        return None
    try:
        event = Event(one.user, one.item, None if time is None else to_microseconds(time), id, rating, type)
    except ValueError:
        return None
    return event if event.time is not None else event.at(arrival)


def read_request(scope: Any, body: bytes, client: str, arrival: int) -> Tell | None:
    """Return what a request tells; None where it is for the route to say."""
    if scope["path"] != ROUTE or scope["method"] != "POST":
        return None
    query = _ONLY_K.fullmatch(scope["query_string"])
    if query is None or any(name == b"idempotency-key" for name, _ in scope["headers"]):
        return None
    event = read_event(body, arrival)
    return None if event is None else Tell((event,), client, Question(int(query[1])) if query[1] else None)


def reply_to(told: Any) -> bytes:
    """Return the body of the answer."""
    return msgspec.json.encode(told_of(told))
