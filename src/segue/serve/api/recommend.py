"""Questions: what comes next, what is alike, and why.

Knows: how requests say who asks. Does not know: how lists are made.
"""

from typing import Annotated, Any

from fastapi import Query, Request, Response

from segue.errors import NotFoundError
from segue.serve.api.answer_schemas import ExplanationOut, ItemList, RatingOut
from segue.serve.api.schemas import (
    ExplainIn,
    HistoryEvent,
    PathId,
    QuestionIn,
    RecommendIn,
    Repeats,
    Time,
)
from segue.serve.api.serializers import answer_of, explanation_of, item_lines, rating_of, reply
from segue.serve.http import limits
from segue.serve.http.app_context import Desk, desk_of, needs, new_router
from segue.serve.http.problems import Problem
from segue.serve.ranking.types import Question
from segue.store.events import Event

router = new_router()

_Text = Annotated[str, Query(min_length=1, max_length=limits.ID)]
_Texts = Annotated[list[_Text], Query(max_length=limits.VALUES)]


def _question(asked: QuestionIn, desk: Desk) -> Question:
    at = int(desk.service.clock() * 1e6) if asked.at is None else asked.at
    return Question(
        asked.k, at, asked.type, asked.context, tuple(asked.exclude), asked.repeats, asked.where,
        asked.diversity, asked.explore, asked.seed, asked.debug,
    )  # fmt: skip


def _done(one: str | HistoryEvent) -> Event:
    if isinstance(one, str):
        return Event("", one)
    return Event("", one.item, one.time, None, one.rating, one.type, one.context)


async def _answered(desk: Desk, asked: RecommendIn) -> dict[str, Any]:
    question, service = _question(asked, desk), desk.service
    if asked.user is not None:
        return answer_of(await desk.ask(service.ask, asked.user, question))
    if asked.history is not None:
        history = [_done(one) for one in asked.history]
        return answer_of(await desk.ask(service.ask_history, history, question, asked.profile))
    token = str(asked.token)
    state = await desk.ask(service.new_token, asked.profile) if token == "new" else desk.sealer.open(token)
    event = None if asked.event is None else _done(asked.event)
    answer, after = await desk.ask(service.ask_token, state, event, question)
    return {**answer_of(answer), "token": desk.sealer.seal(after)}


@router.post("/v1/recommend", response_model=ItemList, openapi_extra=needs("read"), tags=["lists"])
async def recommend(request: Request, body: RecommendIn) -> Response:
    """Return what comes next for a user, for somebody with a history, or for the holder of a token.

    A client that is to stay unknown here holds its own state: `{"token": "new"}` begins one, each answer
    brings the next token, and `event` moves it. A token of another model, or an old one, is refused (409).
    """
    return reply(await _answered(desk_of(request), body))


@router.get("/v1/recommend", response_model=ItemList, openapi_extra=needs("read"), tags=["lists"])
async def recommend_by_query(
    request: Request,
    user: Annotated[str | None, Query(min_length=1, max_length=limits.ID)] = None,
    history: Annotated[_Texts | None, Query(description="Ids of items, oldest first.")] = None,
    k: Annotated[int, Query(ge=1, le=limits.K)] = 10,
    at: Annotated[Time | None, Query(description="The time of the question; now, if left out.")] = None,
    type: Annotated[str | None, Query(min_length=1, max_length=128)] = None,
    where: Annotated[list[str] | None, Query(max_length=limits.WHERE, description="attribute:value")] = None,
    exclude: Annotated[_Texts | None, Query(description="Ids of items to leave out.")] = None,
    repeats: Repeats | None = None,
    diversity: Annotated[float, Query(ge=0, le=1)] = 0.0,
    explore: Annotated[float, Query(ge=0, le=1)] = 0.0,
    seed: Annotated[int | None, Query(ge=0, le=1 << 53)] = None,
    debug: bool = False,
) -> Response:
    """Return what comes next, asked by the address alone; all that can be asked is in `POST /v1/recommend`."""
    if (user is None) == (not history):
        raise Problem(422, "Expected user, or history, came both or none. Give one of them.")
    said: dict[str, Any] = {
        "user": user,
        "history": list(history) if history else None,
        "k": k,
        "type": type,
        "repeats": repeats,
    }
    said |= {"exclude": exclude or [], "where": _where(where or []), "debug": debug}
    asked = RecommendIn.model_validate(said | {"diversity": diversity, "explore": explore, "seed": seed})
    return reply(await _answered(desk_of(request), asked.model_copy(update={"at": at})))


def _where(pairs: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, colon, value = pair.partition(":")
        if not colon or not 0 < len(name) <= 128 or len(value) > limits.ID:
            raise Problem(422, "where: expected attribute:value, came something else. Give where=genres:Drama.")
        found.setdefault(name, []).append(value)
    return found


@router.get("/v1/similar/{item}", response_model=ItemList, openapi_extra=needs("read"), tags=["lists"])
async def similar_items(
    request: Request,
    item: PathId,
    k: Annotated[int, Query(ge=1, le=limits.K)] = 10,
    mix: Annotated[float, Query(ge=0, le=1, description="0: what people do next; 1: what items are.")] = 0.5,
) -> Response:
    """Return what is like an item."""
    desk = desk_of(request)
    rec = desk.service.rec
    if item not in rec.vocabulary:
        raise NotFoundError("item: expected one that the model knows, there is none of this id. See GET /v1/items.")
    lines = item_lines(await desk.ask(desk.service.similar, item, k, mix))
    return reply({"items": lines, "unknown": [], "model": rec.fingerprint})


@router.get("/v1/ratings", response_model=RatingOut, openapi_extra=needs("read"), tags=["lists"])
async def predict_rating(
    request: Request,
    user: Annotated[str, Query(min_length=1, max_length=limits.ID)],
    item: Annotated[str, Query(min_length=1, max_length=limits.ID)],
    at: Annotated[Time | None, Query(description="The time of the question; now, if left out.")] = None,
) -> Response:
    """Return what a user would think of an item: the rating expected, its spread, the share of each step.

    The user's own bias and liking are those of their last event; the biases of items are those of the model, moved
    by all ratings since its training. A model that learnt no ratings has no answer (422).
    """
    desk = desk_of(request)
    now = int(desk.service.clock() * 1e6) if at is None else at
    return reply(rating_of(await desk.ask(desk.service.rate, user, item, now)))


@router.post("/v1/explain", response_model=ExplanationOut, openapi_extra=needs("read"), tags=["lists"])
async def explain(request: Request, body: ExplainIn) -> Response:
    """Say why an item is in the list of a user: each recent event left out, and the rest replayed.

    With `without`, the list had these events not been is shown too (`what_if`); nothing is written.
    """
    desk = desk_of(request)
    question = _question(body, desk)
    found = await desk.ask(desk.service.explain, body.user, body.item, last=body.last, question=question)
    shown = explanation_of(found)
    if body.without:
        shown["what_if"] = answer_of(await desk.ask(desk.service.what_if, body.user, body.without, question))
    return reply(shown)
