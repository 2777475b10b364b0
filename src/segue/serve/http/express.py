"""The requests that come most often, one event told and a list back or a list alone, without the framework.

The framework looks at every parameter of every request, which costs as much as all the rest.

Knows: which requests it reads with certainty; all others, and all that is wrong, it leaves to the route, which
says the same of them. Does not know: who may ask, what is done with an event.
"""

import functools
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from segue.serve.api.schemas import to_microseconds
from segue.serve.api.serializers import answer_of, told_of
from segue.serve.http import limits
from segue.serve.http.auth import Role
from segue.serve.ranking.types import Answer, Question, Told
from segue.store.events import Event, digest_of

TELL, ASK = "/v1/events", "/v1/recommend"
_PATHS = {TELL.encode(): TELL, ASK.encode(): ASK}
_ONLY_K = re.compile(rb"(?:recommend=([1-9][0-9]{0,2}))?")
_ONLY_USER = re.compile(rb"user=([A-Za-z0-9_.~-]{1,%d})(?:&k=([1-9][0-9]{0,2}))?" % limits.ID)
_Id = Annotated[str, Meta(min_length=1, max_length=limits.ID, pattern=r"\S")]
_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Time = int | float | UnsetType | None


class Read(NamedTuple):
    """A request that was read.

    Args:
        route: its template.
        role: that it needs.
        event: that it tells; None for a list alone.
        user: who is to get a list.
        question: what list; None for none.
    """

    route: str
    role: Role
    event: Event | None
    user: str
    question: Question | None


class _One(msgspec.Struct, forbid_unknown_fields=True):
    """As `schema.EventIn`, without a context and with times in seconds alone."""

    user: _Id
    item: _Id
    time: _Time = UNSET
    id: _Id | UnsetType | None = UNSET
    rating: int | float | UnsetType | None = UNSET
    type: _Name | UnsetType | None = UNSET


class _Who(msgspec.Struct, forbid_unknown_fields=True):
    """As `schema.RecommendIn`, with a user alone and times in seconds."""

    user: _Id
    k: Annotated[int, Meta(ge=1, le=limits.K)] | UnsetType = UNSET
    at: _Time = UNSET


_decode_event, _decode_user = msgspec.json.Decoder(_One).decode, msgspec.json.Decoder(_Who).decode


def is_express(url: bytes) -> bool:
    """Say whether requests of an address may be among these."""
    return url.partition(b"?")[0] in _PATHS


def read(method: str, url: bytes, headers: Mapping[bytes, bytes], body: bytes, arrival: int) -> Read | None:
    """Return what a request says; None where it is for the route to say.

    Args:
        method: of HTTP.
        url: path and query, as they came.
        headers: by name in lower case.
        body: all of it.
        arrival: microseconds since 1970, the time of what comes without one.

    Example:
        >>> read("GET", b"/v1/recommend?user=u1&k=5", {}, b"", 7).question
        Question(k=5, at=7, type=None, context={}, exclude=(), repeats=None, where={}, diversity=0.0, explore=0.0, \
seed=None, debug=False)
        >>> read("GET", b"/v1/recommend?user=u%31", {}, b"", 7) is None
        True
    """
    path, _, query = url.partition(b"?")
    route = _PATHS.get(path)
    if route == TELL and method == "POST":
        asked = _ONLY_K.fullmatch(query)
        if asked is None or b"idempotency-key" in headers:
            return None
        event = read_event(body, arrival)
        return None if event is None else Read(route, "write", event, event.user, _list_of(asked[1]))
    if route == ASK and method == "POST" and not query:
        return _read_user(body, arrival)
    if route == ASK and method == "GET" and (asked := _ONLY_USER.fullmatch(query)) and not body:
        return Read(route, "read", None, asked[1].decode(), Question(int(asked[2] or 10), arrival))
    return None


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
    one = _decoded(_decode_event, body)
    if one is None:
        return None
    values: list[Any] = [one.user, one.item, one.time, one.id, one.rating, one.type]
    if not _said_once(body, values):
        return None
    time, id, rating, type = (None if value is UNSET else value for value in values[2:])
    if rating is not None and not -1e9 <= rating <= 1e9:
        return None
    try:
        at = None if time is None else to_microseconds(time)
    except ValueError:
        return None
    # The digest is of what was sent, so that a retry without a time is the same event; without an id there is none.
    digest = b"-" if id is None else digest_of(one.user, one.item, at, id, rating, type, {})
    return Event(one.user, one.item, arrival if at is None else at, id, rating, type, {}, digest)


def _read_user(body: bytes, arrival: int) -> Read | None:
    who = _decoded(_decode_user, body)
    if who is None or not _said_once(body, [who.user, who.k, who.at]):
        return None
    try:
        at = arrival if who.at is UNSET or who.at is None else to_microseconds(who.at)
    except ValueError:
        return None
    return Read(ASK, "read", None, who.user, Question(10 if who.k is UNSET else who.k, at))


def _decoded(decode: Any, body: bytes) -> Any:
    if b"\\" in body:
        return None
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _said_once(body: bytes, values: list[Any]) -> bool:
    """Say whether each name came once: every name and every text has two quotes, a name twice has more."""
    return body.count(b'"') == sum(4 if isinstance(value, str) else 2 for value in values if value is not UNSET)


def _list_of(k: bytes | None) -> Question | None:
    return None if k is None else _question(int(k))


@functools.cache  # of at most 999
def _question(k: int) -> Question:
    return Question(k)


def reply_to(found: Told | Answer) -> bytes:
    """Return the body of the answer."""
    return msgspec.json.encode(told_of(found) if isinstance(found, Told) else answer_of(found))
