"""Lists out: what comes next, what is alike, and why.

Knows: how requests say for whom. Does not know: how lists are made.
"""

from functools import reduce
from operator import and_

from segue.errors import NotFoundError
from segue.recommend.filters.fields import Filter
from segue.recommend.lists.options import ListOptions
from segue.serve.api.answers import ExplanationOut, ItemList, RatingOut
from segue.serve.api.events import history_of
from segue.serve.api.schemas import (
    ExplainIn,
    ListIn,
    PathId,
    RatingQuery,
    RecommendIn,
    RecommendQuery,
    SimilarQuery,
)
from segue.serve.api.serializers import explanation_of, items_of, list_of, rating_of
from segue.serve.http import limits
from segue.serve.http.problems import Refusal
from segue.serve.http.routing import Call, Router

router = Router("lists")


def _options(wanted: ListIn, now: int) -> ListOptions:
    return ListOptions(
        wanted.k, now if wanted.at is None else wanted.at.micros, wanted.type, wanted.context, tuple(wanted.exclude),
        wanted.repeats, wanted.where, wanted.diversity, wanted.explore, wanted.seed, wanted.debug,
        None if wanted.candidates is None else tuple(wanted.candidates), wanted.current, wanted.params, wanted.profile,
    )  # fmt: skip


def _options_of_query(wanted: RecommendQuery, now: int) -> ListOptions:
    return ListOptions(
        wanted.k, now if wanted.at is None else wanted.at.micros, wanted.type, {}, tuple(wanted.exclude),
        wanted.repeats, _where(wanted.where), wanted.diversity, wanted.explore, wanted.seed, wanted.debug,
        current=wanted.current,
    )  # fmt: skip


@router.route("POST", "/v1/recommend", "read")
async def recommend(call: Call, body: RecommendIn) -> ItemList:
    """Return what comes next for a user, for somebody with a history, or for the holder of a token.

    A client that is to stay unknown here holds its own state: `{"token": "new"}` begins one, each answer
    brings the next token, and `event` moves it. A token of another model, or an old one, is refused (409).
    """
    context, options = call.context, _options(body, call.context.now())
    if body.user is not None:
        return list_of(await context.recommend(body.user, options))
    if body.history is not None:
        history = [history_of(one) for one in body.history]
        return list_of(await context.run(context.service.recommend_history, history, options, body.profile))
    new = body.token == "new"
    state = await context.run(context.service.new_token, body.profile) if new else context.sealer.open(body.token or "")
    event = None if body.event is None else history_of(body.event)
    answer, after = await context.run(context.service.recommend_token, state, event, options)
    return list_of(answer, context.sealer.seal(after))


@router.route("GET", "/v1/recommend", "read")
async def recommend_by_query(call: Call, query: RecommendQuery) -> ItemList:
    """Return what comes next, by the address alone; all that can be said is in `POST /v1/recommend`."""
    if (query.user is None) == (not query.history):
        raise Refusal(422, "Expected user, or history, came both or none. Give one of them.")
    context, options = call.context, _options_of_query(query, call.context.now())
    if query.user is not None:
        return list_of(await context.recommend(query.user, options))
    history = [history_of(item) for item in query.history]
    return list_of(await context.run(context.service.recommend_history, history, options, {}))


def _where(texts: list[str]) -> Filter | None:
    """Return the filter of an address: texts of the language, and attribute:value, of one attribute the values."""
    pairs: dict[str, list[str]] = {}
    parts: list[Filter | None] = []
    for text in texts:
        name, colon, value = text.partition(":")
        if colon and not set(name) & set("=<>()\"'$"):
            if not 0 < len(name) <= 128 or len(value) > limits.ID:
                raise Refusal(422, "where: expected attribute:value, came something else. Give where=genres:Drama.")
            pairs.setdefault(name, []).append(value)
        else:
            parts.append(Filter.of(text))
    found = [part for part in (Filter.of(pairs), *parts) if part is not None]
    return reduce(and_, found) if found else None


@router.route("GET", "/v1/similar/{item}", "read")
async def similar_items(call: Call, item: PathId, query: SimilarQuery) -> ItemList:
    """Return what is like an item."""
    service = call.context.service
    rec = service.rec
    if item not in rec.vocabulary:
        raise NotFoundError("item: expected one that the model knows, there is none of this id. See GET /v1/items.")
    found = await call.context.run(service.similar, item, query.k, query.mix)
    return ItemList(items=items_of(found), unknown=[], model=rec.fingerprint)


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
    options = _options(body, call.context.now())
    found = await run(service.explain, body.user, body.item, last=body.last, options=options)
    what_if = await run(service.what_if, body.user, body.without, options) if body.without else None
    return explanation_of(found, what_if)
