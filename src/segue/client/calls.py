"""Each route of a server as a function that makes its request.

Knows: paths, names and types of arguments. Does not know: how a request is sent.

The clients have a method for each function, with the same arguments. A test calls each of them on a server, finds each
route of the OpenAPI page, and compares the names with those that the server reads. What is not given is not sent:
the server has the defaults, and of a request with a scenario what is not sent is the scenario's.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np

from segue.config import Repeats
from segue.errors import ArgumentError
from segue.recommend.filters.fields import Filter, Where
from segue.recommend.lists.item_filters import Rule
from segue.serve.api import answers
from segue.serve.http.middleware import NDJSON

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds since 1970, a datetime (without a zone UTC), or ISO 8601.
Moment: TypeAlias = float | datetime | str
#: An object with the names of HTTP, such as `event` and `list_request` make.
Named: TypeAlias = Mapping[str, Any]


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
    parts: Named
    query: Named
    body: bytes | None = None
    media: str = "application/json"

    @property
    def path(self) -> str:
        """The path, with its parts percent-encoded."""
        return self.route.format_map({name: _quoted(part) for name, part in self.parts.items()})


def _request(
    method: str, route: str, answer: type[T], *, query: Named | None = None, body: Named | None = None, **parts: str
) -> Request[T]:
    sent = None if body is None else _JSON.encode(body)
    asked = msgspec.to_builtins(_given(**(query or {})), enc_hook=_plain)
    return Request(method, route, msgspec.json.Decoder(answer).decode, parts, asked, sent)


def _lines(route: str, answer: type[T], sent: Iterable[Named]) -> Request[list[T]]:
    body = _JSON.encode_lines(sent)
    return Request("POST", route, msgspec.json.Decoder(answer).decode_lines, {}, {}, body, NDJSON)


def _given(**named: Any) -> dict[str, Any]:
    return {name: value for name, value in named.items() if value is not None}


def _plain(value: Any) -> Any:
    """Return what JSON says in place of a value that it does not know."""
    if isinstance(value, np.generic):
        return value.item()
    raise ArgumentError(
        f"request: expected texts, numbers, times, lists and objects, came {type(value).__name__}. Convert it first."
    )


_JSON = msgspec.json.Encoder(enc_hook=_plain)


def _text(where: Where) -> str | None:
    """Return a filter as a text."""
    found = where if isinstance(where, str) else Filter.of(where)
    return None if found is None else str(found)


def _spoken(value: Any) -> Any:
    """Return an object with its filters as texts, however deep they lie."""
    if isinstance(value, Filter):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _spoken(one) for name, one in value.items()}
    return [_spoken(one) for one in value] if isinstance(value, list | tuple) else value


def _listed(values: Iterable[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)


def _quoted(part: str) -> str:
    return quote(part, safe="").replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


# --- events -------------------------------------------------------------------------------------------------------


def event(
    user: str,
    item: str,
    *,
    time: Moment | None = None,
    rating: float | None = None,
    type: str | None = None,
    context: Named | None = None,
    id: str | None = None,
) -> dict[str, Any]:
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
        >>> event("u1", "17", id="order-4711", rating=4)
        {'user': 'u1', 'item': '17', 'rating': 4, 'id': 'order-4711'}
        >>> len(event("u1", "17")["id"])
        32
    """
    made = _given(user=user, item=item, time=time, rating=rating, type=type, context=context, id=id)
    return _with_id(made)


def observe(
    user: str,
    item: str,
    *,
    time: Moment | None = None,
    rating: float | None = None,
    type: str | None = None,
    context: Named | None = None,
    id: str | None = None,
    recommend: int | None = None,
    scenario: str | None = None,
) -> Request[answers.Ingested]:
    """Ingest an event; with `recommend=k` or a scenario also return the new list. The others are those of `event`."""
    made = event(user, item, time=time, rating=rating, type=type, context=context, id=id)
    return _request("POST", "/v1/events", answers.Ingested, query=_of_list(recommend, scenario), body=made)


def ingest_events(
    events: Iterable[Named], *, recommend: int | None = None, scenario: str | None = None
) -> Request[answers.Ingested]:
    """Ingest up to 1,000 events, all of them or none; a list is that of the last event's user."""
    body = {"events": [_with_id(one) for one in events]}
    return _request("POST", "/v1/events", answers.Ingested, query=_of_list(recommend, scenario), body=body)


def ingest_lines(events: Iterable[Named]) -> Request[list[answers.EventLineOut]]:
    """Ingest events, each on its own: a line for each, in their order; one that is refused spoils no other."""
    return _lines("/v1/events", answers.EventLineOut, [_with_id(one) for one in events])


def _of_list(recommend: int | None, scenario: str | None) -> dict[str, Any]:
    return {"recommend": recommend, "scenario": scenario}


def _with_id(sent: Named) -> dict[str, Any]:
    return dict(sent) if sent.get("id") is not None else {**sent, "id": uuid.uuid4().hex}


# --- lists --------------------------------------------------------------------------------------------------------


def list_request(
    user: str | None = None,
    k: int | None = None,
    *,
    history: Iterable[str | Named] | None = None,
    token: str | None = None,
    event: Named | None = None,
    scenario: str | None = None,
    list_id: str | None = None,
    at: Moment | None = None,
    type: str | None = None,
    context: Named | None = None,
    exclude: Iterable[str] | None = None,
    exclude_events: Iterable[Named] | None = None,
    repeats: Repeats | None = None,
    where: Where = None,
    params: Named | None = None,
    profile: Named | None = None,
    current: str | None = None,
    candidates: Iterable[str] | None = None,
    boosts: Iterable[Named] | None = None,
    impressions: bool | Named | None = None,
    diversity: float | None = None,
    explore: float | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    debug: bool | None = None,
    after: str | None = None,
) -> dict[str, Any]:
    """Return what `recommend` sends; `recommend_batch` and `recommend_each` take many of these.

    Args:
        user: for whom; or give history or token.
        k: the length of the list, 10 if left out.
        history: ids or events, oldest first; nothing of it is kept.
        token: the state from the last answer, or "new".
        event: with a token, what was done since.
        scenario: named settings, for all that is left out here.
        list_id: of the list; a random one where the list is noted or drawn, so that a retry is the same list.
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
        boosts: what is added to the scores of some items, such as {"by": 0.7, "where": segue.F.genre == "Drama"}.
        impressions: note the list, and show less of what was shown in vain; True, or discount and half_life.
        diversity: up to 1, the more unlike the items are.
        explore: the share of places given to chance.
        temperature: above 0 each place is drawn by chance.
        seed: of that chance.
        debug: say how each item came to its place.
        after: `next` of the list before; empty for the first page.

    Raises:
        ArgumentError: the filter cannot be one.

    Example:
        >>> list_request("u1", 5, where={"genre": "Drama"})
        {'user': 'u1', 'k': 5, 'where': 'genre = "Drama"'}
    """
    return _with_list_id(
        _given(
            user=user, k=k, history=_listed(history), token=token, event=event, scenario=scenario, list_id=list_id,
            at=at, type=type, context=context, exclude=_listed(exclude), exclude_events=_listed(exclude_events),
            repeats=repeats, where=_text(where), params=params, profile=profile, current=current,
            candidates=_listed(candidates), boosts=_spoken(_listed(boosts)), impressions=impressions,
            diversity=diversity, explore=explore, temperature=temperature, seed=seed, debug=debug, after=after,
        )
    )  # fmt: skip


def _with_list_id(sent: Named) -> dict[str, Any]:
    """Return a request that is the same list when it is sent again."""
    drawn = any(sent.get(name) for name in ("scenario", "impressions", "temperature"))
    return {**sent, "list_id": uuid.uuid4().hex} if drawn and sent.get("list_id") is None else dict(sent)


def _posted(make: Callable[P, Named], route: str, answer: type[T], words: str) -> Callable[P, Request[T]]:
    """Return a function with the arguments of another one that sends what the other makes."""

    @wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> Request[T]:
        return _request("POST", route, answer, body=make(*args, **kwargs))

    call.__doc__ = words
    return call


recommend = _posted(
    list_request,
    "/v1/recommend",
    answers.ItemList,
    "Return what comes next for a user, a history or a token; the arguments are those of `list_request`.",
)


def recommend_batch(requests: Iterable[Named]) -> Request[answers.BatchOut]:
    """Return a list for each of up to 1,000 requests; an error of one stands in its place."""
    body = {"requests": [_with_list_id(_spoken(one)) for one in requests]}
    return _request("POST", "/v1/recommend/batch", answers.BatchOut, body=body)


def recommend_lines(requests: Iterable[Named]) -> Request[list[answers.BatchListOut]]:
    """Return a list for each request, in their order; an error of one stands in its place."""
    sent = [_with_list_id(_spoken(one)) for one in requests]
    return _lines("/v1/recommend/batch", answers.BatchListOut, sent)


def similar(
    item: str, k: int | None = None, *, mix: float | None = None, where: Where = None, user: str | None = None
) -> Request[answers.ItemList]:
    """Return what is like an item; with a user the most similar items in the order of that user."""
    query = {"k": k, "mix": mix, "where": _text(where), "user": user}
    return _request("GET", "/v1/similar/{item}", answers.ItemList, query=query, item=item)


def predict_rating(user: str, item: str, *, at: Moment | None = None) -> Request[answers.RatingOut]:
    """Return what a user would think of an item: the rating expected, its spread, the share of each step."""
    return _request("GET", "/v1/ratings", answers.RatingOut, query={"user": user, "item": item, "at": at})


def _explained(
    user: str,
    item: str | None = None,
    *,
    last: int | None = None,
    without: Iterable[int] | None = None,
    k: int | None = None,
    at: Moment | None = None,
    type: str | None = None,
    context: Named | None = None,
    exclude: Iterable[str] | None = None,
    repeats: Repeats | None = None,
    where: Where = None,
    params: Named | None = None,
    profile: Named | None = None,
    current: str | None = None,
    candidates: Iterable[str] | None = None,
    boosts: Iterable[Named] | None = None,
    diversity: float | None = None,
    explore: float | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    debug: bool | None = None,
) -> dict[str, Any]:
    return _given(
        user=user, item=item, last=last, without=_listed(without), k=k, at=at, type=type, context=context,
        exclude=_listed(exclude), repeats=repeats, where=_text(where), params=params, profile=profile,
        current=current, candidates=_listed(candidates), boosts=_spoken(_listed(boosts)), diversity=diversity,
        explore=explore, temperature=temperature, seed=seed, debug=debug,
    )  # fmt: skip


explain = _posted(
    _explained,
    "/v1/explain",
    answers.ExplanationOut,
    """Say how much each of the `last` events of a user adds to the score of an item, the first of the list if none.

    With `without`, the numbers (seq) of events, `what_if` of the answer is the list had they not been. The other
    arguments are those of `list_request`.
    """,
)


# --- users --------------------------------------------------------------------------------------------------------


def get_user(user: str, *, limit: int | None = None, before: str | None = None) -> Request[answers.UserOut]:
    """Return what is known of a user: a page of events, latest first, and the state as a picture."""
    query = {"limit": limit, "before": before}
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
    return _request("POST", "/v1/users/{user}/merge", answers.MergeResult, body={"into": into}, user=user)


# --- items --------------------------------------------------------------------------------------------------------


def find_items(
    words: str | None = None,
    *,
    where: Where = None,
    ids: Iterable[str] | None = None,
    limit: int | None = None,
    skip: int | None = None,
    facets: bool | None = None,
) -> Request[answers.ItemsFound]:
    """Find items by words of their titles or ids, by a filter, or by ids; with `facets` how to narrow them down."""
    query = {"q": words, "where": _text(where), "id": _listed(ids), "limit": limit, "skip": skip, "facets": facets}
    return _request("GET", "/v1/items", answers.ItemsFound, query=query)


def add_items(items: Iterable[Named]) -> Request[answers.ItemsAdded]:
    """Make new items known by what they are: each a mapping with `item`, the id, and attributes."""
    return _request("POST", "/v1/items", answers.ItemsAdded, body={"items": list(items)})


def change_item(
    item: str, *, available: bool | None = None, attributes: Named | None = None
) -> Request[answers.ItemChanged]:
    """Take an item out of all lists or back in, or change its attributes."""
    body = _given(available=available, attributes=attributes)
    return _request("PATCH", "/v1/items/{id}", answers.ItemChanged, body=body, id=item)


# --- scenarios, rules, models -------------------------------------------------------------------------------------


def set_scenarios(scenarios: Named, experiments: Named | None = None) -> Request[answers.ScenariosOut]:
    """Set all scenarios, name -> settings, and all experiments; they hold from the next list on."""
    body = _given(scenarios=_spoken(scenarios), experiments=experiments)
    return _request("PUT", "/v1/admin/scenarios", answers.ScenariosOut, body=body)


def get_scenarios() -> Request[answers.ScenariosOut]:
    """Return all scenarios and experiments, with their versions and whether they hold now."""
    return _request("GET", "/v1/scenarios", answers.ScenariosOut)


def stop_experiment(name: str) -> Request[answers.ScenariosOut]:
    """End an experiment: from the next list on all users get the scenario that it split."""
    return _request("DELETE", "/v1/admin/experiments/{name}", answers.ScenariosOut, name=name)


def get_rules() -> Request[answers.RulesOut]:
    """Return all rules, in the order in which they are applied."""
    return _request("GET", "/v1/admin/rules", answers.RulesOut)


def set_rules(rules: Iterable[Rule]) -> Request[answers.RulesSet]:
    """Set all rules of the shop (pin, block, boost); they hold from the next list on."""
    return _request("PUT", "/v1/admin/rules", answers.RulesSet, body={"rules": _rules(rules)})


def preview_rules(user: str, rules: Iterable[Rule], *, k: int | None = None) -> Request[answers.RulesPreview]:
    """Return the list of a user by the rules that hold, and by others, which are not kept."""
    body = _given(user=user, rules=_rules(rules), k=k)
    return _request("POST", "/v1/admin/rules/preview", answers.RulesPreview, body=body)


def _rules(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    return [_given(kind=one.kind, where=_text(one.where), items=one.items, by=one.by, name=one.name) for one in rules]


def list_users(*, limit: int | None = None, before: int | None = None) -> Request[answers.UsersOut]:
    """Return a page of the users who have events, the latest arrival first."""
    return _request("GET", "/v1/admin/users", answers.UsersOut, query={"limit": limit, "before": before})


def list_models() -> Request[answers.ModelsOut]:
    """Return the models that may be rolled out, the newest first."""
    return _request("GET", "/v1/admin/models", answers.ModelsOut)


def roll_out(model: str) -> Request[answers.ModelChanged]:
    """Roll out another model, by the name of its file in the server's folder of models."""
    return _request("POST", "/v1/admin/model", answers.ModelChanged, body={"model": model})


def roll_back() -> Request[answers.ModelChanged]:
    """Roll back to the model before."""
    return _request("POST", "/v1/admin/model", answers.ModelChanged, body={"roll_back": True})


# --- the server ---------------------------------------------------------------------------------------------------


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
