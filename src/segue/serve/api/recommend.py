"""Lists out: what comes next, what is alike, and why.

Knows: how requests say for whom. Does not know: how lists are made.
"""

from asyncio import gather
from collections.abc import Collection, Sequence
from dataclasses import replace

import msgspec
from msgspec import UNSET, msgpack
from msgspec.json import decode

from segue.errors import NotFoundError
from segue.recommend.lists.options import ListOptions
from segue.recommend.similar import pool_for_user
from segue.serve.api.answers import BatchListOut, BatchOut, ExplanationOut, ItemList, RatingOut
from segue.serve.api.events import history_of
from segue.serve.api.list_options import options_of, seen_rule_of, unseen, where_of
from segue.serve.api.scenarios import with_origin, with_scenario
from segue.serve.api.schemas import (
    BatchIn,
    ExplainIn,
    PathId,
    RatingQuery,
    RecommendIn,
    RecommendQuery,
    SimilarQuery,
)
from segue.serve.api.serializers import explanation_of, items_of, list_of, rating_of
from segue.serve.http import limits
from segue.serve.http.problems import Problem, Refusal, problem_of
from segue.serve.http.routing import Call, Router
from segue.serve.live.state_tokens import Sealer

router = Router("lists")
#: What the ids in `next` begin with; no state of a client does.
_PAGES = b"list:"


@router.route("POST", "/v1/recommend", "read")
async def recommend(call: Call, body: RecommendIn) -> ItemList:
    """Return what comes next for a user, for somebody with a history, or for the holder of a token.

    A client that is to stay unknown here holds its own state: `{"token": "new"}` begins one, each answer
    brings the next token, and `event` moves it. A token of another model, or an old one, is refused (409).
    """
    return await _list(call, body, call.sent)


async def _list(call: Call, body: RecommendIn, said: Collection[str]) -> ItemList:
    """Return the list of a request; what it says itself is named in `said`."""
    body, chosen, notes = with_scenario(call, body, said)
    return with_origin(call, await _pages(call, body, options_of(body, call.context.now()), notes), chosen, body.user)


async def _pages(call: Call, body: RecommendIn, options: ListOptions, notes: Sequence[str]) -> ItemList:
    if body.after is None:
        return await _page(call, body, options, notes)
    before = _shown_before(call.context.sealer, body.after)
    found = await _page(call, body, replace(options, exclude=(*options.exclude, *before)), notes)
    token = call.context.sealer.seal(_PAGES + msgpack.encode([*before, *(line.item for line in found.items)]))
    return found if not found.items or len(token) > limits.TOKEN else msgspec.structs.replace(found, next=token)


def _shown_before(sealer: Sealer, after: str) -> list[str]:
    """Return the ids of the pages before."""
    body = sealer.open(after) if after else _PAGES + msgpack.encode([])
    if not body.startswith(_PAGES):
        raise Refusal(422, "after: expected `next` of a list, came something else. Send an empty text for the first.")
    return msgpack.decode(body[len(_PAGES) :], type=list[str])


async def _page(call: Call, body: RecommendIn, options: ListOptions, notes: Sequence[str]) -> ItemList:
    context = call.context
    history = None if body.history is None else [history_of(one) for one in body.history]
    if body.exclude_events:
        options, more = await context.run(unseen, context.service, body, history or [], options)
        notes = [*notes, *more]
    if body.user is not None:
        return list_of(await context.recommend(body.user, options), notes=notes)
    if history is not None:
        found = await context.run(context.service.recommend_history, history, options, body.profile)
        return list_of(found, notes=notes)
    new = body.token == "new"
    state = await context.run(context.service.new_token, body.profile) if new else context.sealer.open(body.token or "")
    event = None if body.event is None else history_of(body.event)
    answer, after = await context.run(context.service.recommend_token, state, event, options)
    return list_of(answer, context.sealer.seal(after), notes)


async def _each_list(call: Call, line: RecommendIn) -> BatchListOut:
    return BatchListOut(items=await _list(call, line, call.sent))


@router.route("POST", "/v1/recommend/batch", "read", each=_each_list)
async def recommend_batch(call: Call, body: BatchIn) -> BatchOut:
    """Return a list for each of many requests; an error of one stands in its place and spoils no other.

    As application/x-ndjson any number of requests, one on each line, gets a line each.
    """
    pairs = zip(body.requests, call.sent["requests"], strict=True)
    found = await gather(*(_list(call, one, said) for one, said in pairs), return_exceptions=True)
    return BatchOut(lists=[_batch_list(one) for one in found])


def _batch_list(found: ItemList | BaseException) -> BatchListOut:
    if isinstance(found, ItemList):
        return BatchListOut(items=found)
    if not isinstance(found, Exception):
        raise found
    return BatchListOut(error=decode(problem_of(found, "/v1/recommend/batch").body, type=Problem))


@router.route("GET", "/v1/recommend", "read")
async def recommend_by_query(call: Call, query: RecommendQuery) -> ItemList:
    """Return what comes next, by the address alone; all that can be said is in `POST /v1/recommend`."""
    if (query.user is None) == (not query.history):
        raise Refusal(422, "Expected user, or history, came both or none. Give one of them.")
    named = {name: getattr(query, name) for name in query.__struct_fields__}
    named |= {
        "history": query.history or None, "where": where_of(query.where),
        "exclude_events": [seen_rule_of(text) for text in query.exclude_events],
    }  # fmt: skip
    try:
        body = RecommendIn(**named)
    except ValueError as error:
        raise Refusal(422, f"query: {error}. See /docs.") from None
    return await _list(call, body, call.sent)


@router.route("GET", "/v1/similar/{item}", "read")
async def similar_items(call: Call, item: PathId, query: SimilarQuery) -> ItemList:
    """Return what is like an item; with a user the most similar items in the order of that user."""
    context, where = call.context, where_of(query.where)
    rec = context.service.rec
    if item not in rec.vocabulary:
        raise NotFoundError("item: expected one that the model knows, there is none of this id. See GET /v1/items.")
    count = query.k if query.user is None else pool_for_user(query.k)
    found = await context.run(context.service.similar, item, count, query.mix, where)
    if query.user is None:
        return ItemList(items=items_of(found), unknown=[], model=rec.fingerprint, notes=list(found.notes) or UNSET)
    options = ListOptions(query.k, context.now(), candidates=tuple(line.item for line in found))
    return list_of(await context.recommend(query.user, options), notes=found.notes)


@router.route("GET", "/v1/ratings", "read")
async def predict_rating(call: Call, query: RatingQuery) -> RatingOut:
    """Return what a user would think of an item: the rating expected, its spread, the share of each step.

    The user's own bias and liking are those of their last event; the biases of items are those of the model, moved
    by all ratings since its training. A model that learnt no ratings has no answer (422).
    """
    at = call.context.now() if query.at is None else query.at.micros
    return rating_of(await call.context.run(call.context.service.predict_rating, query.user, query.item, at))


@router.route("POST", "/v1/explain", "read")
async def explain(call: Call, body: ExplainIn) -> ExplanationOut:
    """Say how much each recent event adds to the score of an item in a user's list.

    With `without`, `what_if` holds the list that the user would get without these events. Nothing is
    written.
    """
    run, service = call.context.run, call.context.service
    options = options_of(body, call.context.now())
    found = await run(service.explain, body.user, body.item, last=body.last, options=options)
    what_if = await run(service.what_if, body.user, body.without, options) if body.without else None
    return explanation_of(found, what_if)
