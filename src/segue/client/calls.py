"""Each route of a server as a function that makes its request.

Knows: paths, names and types of arguments. Does not know: how a request is sent.

The clients have a method for each function, with the same arguments. A test calls each of them on a
server, and finds each route of the OpenAPI page.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, cast
from urllib.parse import quote

import msgspec
import numpy as np

from segue.config import Repeats
from segue.recommend.filters.fields import Filter, Where
from segue.recommend.lists.item_filters import Rule
from segue.serve.api import answers, schemas
from segue.serve.api.schemas import EventIn, HistoryEvent, RecommendIn, SeenRuleIn, Time
from segue.serve.http.middleware import NDJSON

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds since 1970, a datetime (without a zone UTC), or ISO 8601.
Moment: TypeAlias = float | datetime | str | None
#: As the function of the name makes it, or a mapping with the names of HTTP.
EventLike: TypeAlias = EventIn | Mapping[str, Any]
ListLike: TypeAlias = RecommendIn | Mapping[str, Any]


@dataclass(frozen=True)
class Request(Generic[T]):
    """A request, ready to be sent as often as needed.

    Args:
        method: of HTTP.
        route: the path with the names of its parts in braces.
        read: makes the value of an answer's body.
        parts: of the path.
        query: what the address says behind its question mark.
        body: what is sent.
        media: the type of the body.
    """

    method: str
    route: str
    read: Callable[[bytes], T]
    parts: Mapping[str, str]
    query: Mapping[str, Any]
    body: bytes | None = None
    media: str = "application/json"

    @property
    def path(self) -> str:
        """The path, with its parts percent-encoded."""
        return self.route.format_map({name: _quoted(part) for name, part in self.parts.items()})


def _request(
    method: str,
    route: str,
    answer: type[T],
    *,
    query: msgspec.Struct | None = None,
    body: msgspec.Struct | None = None,
    **parts: str,
) -> Request[T]:
    sent = None if body is None else msgspec.json.encode(body, enc_hook=_plain)
    asked = {} if query is None else msgspec.to_builtins(query, enc_hook=_plain)
    return Request(method, route, msgspec.json.Decoder(answer).decode, parts, asked, sent)


def _lines(route: str, answer: type[T], sent: Iterable[object]) -> Request[list[T]]:
    body = _LINES.encode_lines(sent)
    return Request("POST", route, msgspec.json.Decoder(answer).decode_lines, {}, {}, body, NDJSON)


def _plain(value: Any) -> Any:
    """Return what JSON says in place of a value."""
    if isinstance(value, Time):
        return value.micros / 1e6
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Filter):
        return str(value)
    raise TypeError(f"expected values that JSON can say, came {type(value).__name__}")


_LINES = msgspec.json.Encoder(enc_hook=_plain)


def _quoted(part: str) -> str:
    return quote(part, safe="").replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


# --- events -------------------------------------------------------------------------------------------------------


def event(
    user: str,
    item: str,
    *,
    time: Moment = None,
    rating: float | None = None,
    type: str | None = None,
    context: Mapping[str, Any] | None = None,
    id: str | None = None,
) -> EventIn:
    """Return an event with an id, so that it counts once, however often it is sent.

    Args:
        user: an id.
        item: an id.
        time: when; the time of the arrival if left out.
        rating: in the scale of the log.
        type: such as view or buy.
        context: what else is known of it, such as the device.
        id: of the event; a random one if left out.

    Example:
        >>> event("u1", "17", id="order-4711").id, len(event("u1", "17").id)
        ('order-4711', 32)
    """
    return EventIn(
        user=user, item=item, time=_time(time), rating=rating, type=type, context=dict(context or {}),
        id=uuid.uuid4().hex if id is None else id,
    )  # fmt: skip


def observe(
    user: str,
    item: str,
    *,
    time: Moment = None,
    rating: float | None = None,
    type: str | None = None,
    context: Mapping[str, Any] | None = None,
    id: str | None = None,
    recommend: int | None = None,
) -> Request[answers.Ingested]:
    """Ingest an event; with `recommend=k` also return the new list. The other arguments are those of `event`."""
    made = event(user, item, time=time, rating=rating, type=type, context=context, id=id)
    query = schemas.IngestQuery(recommend=recommend)
    return _request("POST", "/v1/events", answers.Ingested, query=query, body=made)


def ingest_events(events: Iterable[EventLike], *, recommend: int | None = None) -> Request[answers.Ingested]:
    """Ingest up to 1,000 events, all of them or none; with `recommend=k` also return the last event's user's list."""
    body = schemas.EventBatch(events=[_with_id(one) for one in events])
    return _request("POST", "/v1/events", answers.Ingested, query=schemas.IngestQuery(recommend=recommend), body=body)


def ingest_lines(events: Iterable[EventLike]) -> Request[list[answers.EventLineOut]]:
    """Ingest events, each on its own: a line for each, in their order; one that is refused spoils no other."""
    return _lines("/v1/events", answers.EventLineOut, [_with_id(one) for one in events])


def _with_id(sent: EventLike) -> EventIn:
    """Return an event with an id; the server reads a mapping as it reads the event."""
    if isinstance(sent, EventIn):
        return sent if sent.id is not None else msgspec.structs.replace(sent, id=uuid.uuid4().hex)
    return cast(EventIn, dict(sent) if sent.get("id") is not None else {**sent, "id": uuid.uuid4().hex})


def _time(time: Moment) -> Time | None:
    return None if time is None else Time.read(time)


# --- lists --------------------------------------------------------------------------------------------------------


def list_request(
    user: str | None = None,
    k: int = 10,
    *,
    history: Iterable[str | HistoryEvent | Mapping[str, Any]] | None = None,
    token: str | None = None,
    event: HistoryEvent | Mapping[str, Any] | None = None,
    at: Moment = None,
    type: str | None = None,
    context: Mapping[str, Any] | None = None,
    exclude: Iterable[str] = (),
    exclude_events: Iterable[SeenRuleIn | Mapping[str, str]] = (),
    repeats: Repeats | None = None,
    where: Where = None,
    params: Mapping[str, Any] | None = None,
    profile: Mapping[str, Any] | None = None,
    current: str | None = None,
    candidates: Iterable[str] | None = None,
    diversity: float = 0.0,
    explore: float = 0.0,
    seed: int | None = None,
    debug: bool = False,
    after: str | None = None,
) -> RecommendIn:
    """Return what `recommend` sends; `recommend_batch` and `recommend_each` take many of these.

    Args:
        user: for whom; or give history or token.
        k: the length of the list.
        history: ids or events, oldest first; nothing of it is kept.
        token: the state from the last answer, or "new".
        event: with a token, what was done since.
        at: the time of the request; now if left out.
        type: of the event to come, such as buy.
        context: of the event to come.
        exclude: ids to leave out.
        exclude_events: leave out the items of these events, such as {"type": "buy", "within": "30d"}.
        repeats: "allow" or "exclude" seen items.
        where: a filter: a text, `segue.F` objects, or attribute -> value.
        params: what the filter calls `$name`.
        profile: what the filter calls `user.name`; read by the model with a history or a new token.
        current: the item being looked at.
        candidates: ids of which alone the list is made.
        diversity: up to 1, the more unlike the items are.
        explore: the share of places given to chance.
        seed: of that chance.
        debug: say how each item came to its place.
        after: `next` of the list before; empty for the first page.

    Raises:
        ArgumentError: arguments do not fit together.
    """
    return RecommendIn(
        user=user, k=k, token=token, at=_time(at), type=type, context=dict(context or {}), repeats=repeats,
        history=None if history is None else cast(list[str | HistoryEvent], list(history)),
        event=cast(HistoryEvent | None, event), exclude=list(exclude), where=_where(where),
        exclude_events=cast(list[SeenRuleIn], list(exclude_events)), params=dict(params or {}),
        profile=dict(profile or {}), current=current, diversity=diversity, explore=explore, seed=seed, debug=debug,
        candidates=None if candidates is None else list(candidates), after=after,
    )  # fmt: skip


def _posted(make: Callable[P, msgspec.Struct], route: str, answer: type[T], words: str) -> Callable[P, Request[T]]:
    """Return a function with the arguments of another one that sends what the other makes."""

    @wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> Request[T]:
        return _request("POST", route, answer, body=make(*args, **kwargs))

    call.__doc__, call.__annotations__ = words, {**make.__annotations__, "return": Request[answer]}  # type: ignore[valid-type]
    return call


recommend = _posted(
    list_request,
    "/v1/recommend",
    answers.ItemList,
    "Return what comes next for a user, a history or a token; the arguments are those of `list_request`.",
)


def recommend_batch(requests: Iterable[ListLike]) -> Request[answers.BatchOut]:
    """Return a list for each of up to 1,000 requests; an error of one stands in its place."""
    body = schemas.BatchIn(requests=cast(list[RecommendIn], list(requests)))
    return _request("POST", "/v1/recommend/batch", answers.BatchOut, body=body)


def recommend_lines(requests: Iterable[ListLike]) -> Request[list[answers.BatchListOut]]:
    """Return a list for each request, in their order; an error of one stands in its place."""
    return _lines("/v1/recommend/batch", answers.BatchListOut, list(requests))


def similar(
    item: str, k: int = 10, *, mix: float = 0.5, where: Where = None, user: str | None = None
) -> Request[answers.ItemList]:
    """Return what is like an item; with a user the most similar items in the order of that user."""
    text = _where(where)
    query = schemas.SimilarQuery(k=k, mix=mix, where=[] if text is None else [text], user=user)
    return _request("GET", "/v1/similar/{item}", answers.ItemList, query=query, item=item)


def predict_rating(user: str, item: str, *, at: Moment = None) -> Request[answers.RatingOut]:
    """Return what a user would think of an item: the rating expected, its spread, the share of each step."""
    query = schemas.RatingQuery(user=user, item=item, at=_time(at))
    return _request("GET", "/v1/ratings", answers.RatingOut, query=query)


def _explain_in(
    user: str,
    item: str | None = None,
    *,
    last: int = 20,
    without: Iterable[int] = (),
    k: int = 10,
    at: Moment = None,
    type: str | None = None,
    context: Mapping[str, Any] | None = None,
    exclude: Iterable[str] = (),
    repeats: Repeats | None = None,
    where: Where = None,
    params: Mapping[str, Any] | None = None,
    profile: Mapping[str, Any] | None = None,
    current: str | None = None,
    candidates: Iterable[str] | None = None,
    diversity: float = 0.0,
    explore: float = 0.0,
    seed: int | None = None,
    debug: bool = False,
) -> schemas.ExplainIn:
    return schemas.ExplainIn(
        user=user, item=item, last=last, without=list(without), k=k, at=_time(at), type=type,
        context=dict(context or {}), exclude=list(exclude), repeats=repeats, where=_where(where),
        params=dict(params or {}), profile=dict(profile or {}), current=current, diversity=diversity,
        explore=explore, seed=seed, debug=debug, candidates=None if candidates is None else list(candidates),
    )  # fmt: skip


explain = _posted(
    _explain_in,
    "/v1/explain",
    answers.ExplanationOut,
    """Say how much each of the `last` events of a user adds to the score of an item, the first of the list if none.

    With `without`, the numbers (seq) of events, `what_if` of the answer is the list had they not been. The other
    arguments are those of `list_request`.
    """,
)


def _where(where: Where) -> str | None:
    """Return a filter as a text."""
    found = where if isinstance(where, str) else Filter.of(where)
    return None if found is None else str(found)


# --- users --------------------------------------------------------------------------------------------------------


def get_user(user: str, *, limit: int = 100, before: str | None = None) -> Request[answers.UserOut]:
    """Return what is known of a user: a page of events, latest first, and the state as a picture."""
    query = schemas.UserQuery(limit=limit, before=before)
    return _request("GET", "/v1/users/{user}", answers.UserOut, query=query, user=user)


def erase_user(user: str) -> Request[answers.ErasureReceipt]:
    """Erase a user with everything that is kept of them, and block the id; return the erasure receipt."""
    return _request("DELETE", "/v1/users/{user}", answers.ErasureReceipt, user=user)


def erase_event(user: str, event: str | int) -> Request[answers.ErasureReceipt]:
    """Erase an event: by the id that this API key sent, or by its number (seq), whoever sent it."""
    if isinstance(event, int):
        route = "/v1/users/{user}/events/by-seq/{seq}"
        return _request("DELETE", route, answers.ErasureReceipt, user=user, seq=str(event))
    return _request("DELETE", "/v1/users/{user}/events/{id}", answers.ErasureReceipt, user=user, id=event)


def readmit_user(user: str) -> Request[answers.BlockOut]:
    """Take the id of an erased user again; what was erased stays erased."""
    return _request("DELETE", "/v1/users/{user}/block", answers.BlockOut, user=user)


def merge_user(user: str, into: str) -> Request[answers.MergeResult]:
    """Give all events of a user to another one: somebody anonymous logged in."""
    return _request("POST", "/v1/users/{user}/merge", answers.MergeResult, body=schemas.Merge(into=into), user=user)


# --- items --------------------------------------------------------------------------------------------------------


def find_items(words: str = "", *, limit: int = 20) -> Request[answers.ItemList]:
    """Return items whose title or id holds some words."""
    return _request("GET", "/v1/items", answers.ItemList, query=schemas.ItemsQuery(q=words, limit=limit))


def add_items(items: Iterable[Mapping[str, Any]]) -> Request[answers.ItemsAdded]:
    """Make new items known by what they are: each a mapping with `item`, the id, and attributes."""
    body = schemas.AddItemsIn(items=[dict(one) for one in items])
    return _request("POST", "/v1/items", answers.ItemsAdded, body=body)


def change_item(
    item: str, *, available: bool | None = None, attributes: Mapping[str, Any] | None = None
) -> Request[answers.ItemChanged]:
    """Take an item out of all lists or back in, or change its attributes."""
    body = schemas.ItemChange(available=available, attributes=dict(attributes or {}))
    return _request("PATCH", "/v1/items/{id}", answers.ItemChanged, body=body, id=item)


# --- the server ---------------------------------------------------------------------------------------------------


def set_rules(rules: Iterable[Rule]) -> Request[answers.RulesSet]:
    """Set all rules of the shop (pin, block, boost); they hold from the next list on."""
    made = [
        schemas.RuleIn(kind=one.kind, where=_where(one.where), items=list(one.items), by=one.by, name=one.name)
        for one in rules
    ]
    return _request("PUT", "/v1/admin/rules", answers.RulesSet, body=schemas.Rules(rules=made))


def roll_out(model: str) -> Request[answers.ModelChanged]:
    """Roll out another model, by the name of its file in the server's folder of models."""
    return _request("POST", "/v1/admin/model", answers.ModelChanged, body=schemas.ModelChange(model=model))


def roll_back() -> Request[answers.ModelChanged]:
    """Roll back to the model before."""
    return _request("POST", "/v1/admin/model", answers.ModelChanged, body=schemas.ModelChange(roll_back=True))


def get_status() -> Request[answers.StatusOut]:
    """Return which model answers, how far a roll-out is, and whether the store keeps its promises."""
    return _request("GET", "/v1/status", answers.StatusOut)


def get_online_metrics() -> Request[answers.OnlineMetricsOut]:
    """Return the share of events that were in the list their users would have been shown just before."""
    return _request("GET", "/v1/quality", answers.OnlineMetricsOut)


def get_health() -> Request[answers.HealthOut]:
    """Return that the process answers."""
    return _request("GET", "/healthz", answers.HealthOut)


def get_readiness() -> Request[answers.ReadinessOut]:
    """Return whether what is ingested now would survive a loss of power, and if not, why."""
    return _request("GET", "/readyz", answers.ReadinessOut)


def get_metrics() -> Request[str]:
    """Return numbers for Prometheus."""
    return Request("GET", "/metrics", lambda body: body.decode(), {}, {})
