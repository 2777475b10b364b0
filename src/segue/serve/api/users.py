"""Events and users: what is told, shown and erased.

Knows: how requests name users and events. Does not know: how they are kept.
"""

import re
from typing import Annotated, Any

from fastapi import Header, Path, Query, Request, Response

from segue.serve.api.answer_schemas import BlockOut, ErasureReceipt, IngestResult, MergeResult, UserOut
from segue.serve.api.schemas import EventBatch, EventIn, Events, Merge, PathId
from segue.serve.api.serializers import reply, told_of, user_of
from segue.serve.http import limits
from segue.serve.http.app_context import desk_of, needs, new_router
from segue.serve.http.middleware import allow
from segue.serve.http.problems import Problem
from segue.serve.ranking.types import Question, Tell
from segue.store.events import Event, StoredEvent

router = new_router()

PathSeq = Annotated[int, Path(ge=1, le=(1 << 63) - 1)]


def _event(sent: EventIn, id: str | None, arrival: int) -> Event:
    """Return an event; its digest is of what was sent, so a retry without a time is the same event."""
    event = Event(sent.user, sent.item, sent.time, id, sent.rating, sent.type, sent.context)
    return event if event.time is not None else event.at(arrival)


def _id(sent: EventIn, key: str | None) -> str | None:
    if key is None:
        return sent.id
    plain = key[1:-1] if len(key) > 2 and key[0] == key[-1] == '"' else key
    if sent.id not in (None, plain):
        raise Problem(422, "Idempotency-Key: expected the id of the event or none, came another. Send one of them.")
    return plain


@router.post("/v1/events", response_model=IngestResult, openapi_extra=needs("write"), tags=["events"])
async def ingest_events(
    request: Request,
    body: Events,
    recommend: Annotated[
        int | None, Query(ge=1, le=limits.K, description="How many to recommend to the last event's user.")
    ] = None,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=limits.ID, description="Stands for the id of a single event.")
    ] = None,
) -> Response:
    """Tell what was done: one event, or `{"events": [...]}`, of which all are kept or none.

    The answer comes when it is on disk. An event without a time gets that of its arrival. A retry under the
    same id gets the first outcome and today's list; another body under it is refused (409). Ids are those of
    the API key that sent them.
    """
    desk, client = desk_of(request), allow(request.scope, "write").name
    arrival = int(desk.service.clock() * 1e6)
    if isinstance(body, EventBatch):
        if idempotency_key is not None:
            raise Problem(422, "Idempotency-Key: expected a single event, came a batch. Give each event its id.")
        events = tuple(_event(one, one.id, arrival) for one in body.events)
    else:
        events = (_event(body, _id(body, idempotency_key), arrival),)
    question = None if recommend is None else Question(recommend)
    return reply(told_of(await desk.tells.send(Tell(events, client, question))))


@router.get("/v1/users/{user}", response_model=UserOut, openapi_extra=needs("read"), tags=["users"])
async def get_user(
    request: Request,
    user: PathId,
    limit: Annotated[int, Query(ge=1, le=1000, description="Events in a page, latest first.")] = 100,
    before: Annotated[str | None, Query(max_length=64, description="`next` of the page before.")] = None,
) -> Response:
    """Show what is known of a user: the events, and the state as a picture."""
    desk = desk_of(request)
    view = await desk.ask(desk.service.user, user, limit=limit, before=_cursor(before))
    return reply(user_of(view))


def _cursor(text: str | None) -> StoredEvent | None:
    if text is None:
        return None
    found = re.fullmatch(r"(-?[0-9]{1,18})\.([0-9]{1,18})", text)
    if found is None:
        raise Problem(422, "before: expected `next` of the page before, came something else. Leave it out to begin.")
    return StoredEvent("", "", None, None, None, None, {}, int(found[2]), int(found[1]))


@router.delete("/v1/users/{user}", response_model=ErasureReceipt, openapi_extra=needs("write"), tags=["users"])
async def erase_user(request: Request, user: PathId) -> Response:
    """Erase a user with everything that is kept of them, block the id, and say what an erasure cannot reach.

    The id is blocked also where nothing is known under it, since events may come late. Asked again, it is done.
    """
    desk = desk_of(request)
    return reply(await desk.erase(desk.service.erase_user, user))


@router.delete("/v1/users/{user}/block", response_model=BlockOut, openapi_extra=needs("admin"), tags=["users"])
async def readmit_user(request: Request, user: PathId) -> Response:
    """Take the id of an erased user again; what was erased stays erased."""
    desk = desk_of(request)
    await desk.ask(desk.service.readmit, user)
    return reply({"user": user, "blocked": False})


@router.delete(
    "/v1/users/{user}/events/{id}", response_model=ErasureReceipt, openapi_extra=needs("write"), tags=["users"]
)
async def erase_event(request: Request, user: PathId, id: PathId) -> Response:
    """Erase an event, by its `id` as this API key sent it; what follows is computed anew. Asked again, it is done."""
    desk, client = desk_of(request), allow(request.scope, "write").name
    return reply(await desk.erase(desk.service.erase_event, user, id, client))


@router.delete(
    "/v1/users/{user}/events/by-seq/{seq}", response_model=ErasureReceipt, openapi_extra=needs("write"), tags=["users"]
)
async def erase_event_by_seq(request: Request, user: PathId, seq: PathSeq) -> Response:
    """Erase an event, by its number in the order of arrival (`seq`), whoever sent it. Asked again, it is done."""
    desk = desk_of(request)
    return reply(await desk.erase(desk.service.erase_event, user, seq))


@router.post("/v1/users/{user}/merge", response_model=MergeResult, openapi_extra=needs("write"), tags=["users"])
async def merge_user(request: Request, user: PathId, body: Merge) -> Response:
    """Give all events of the user in the path to `into`, in the order of time: somebody anonymous logged in.

    From then on both names mean the same user.
    """
    desk = desk_of(request)
    if user == body.into:
        raise Problem(422, "into: expected another user than that of the path, came the same. Leave it.")
    count: dict[str, Any] = {"user": body.into, "count": await desk.ask(desk.service.merge, user, body.into)}
    return reply(count)
