"""What answers say: from values to JSON and its shapes for the OpenAPI page.

Knows: names of fields, seconds at the surface. Does not know: how anything is found.
"""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import msgspec
from pydantic import BaseModel, Field
from starlette.responses import Response

from segue.recommend.recommender import Item
from segue.serve.answers import Answer, Rating, Status, Told, UserView
from segue.serve.events import StoredEvent
from segue.serve.explaining import Explanation


class ItemOut(BaseModel):
    """One line of a list."""

    item: str
    score: float
    title: str | None = None


class ItemList(BaseModel):
    """A list, best first."""

    items: list[ItemOut]
    unknown: list[str] = Field(description="Ids of the request that the bundle does not know.")
    bundle: str = Field(description="The fingerprint of what answered.")
    count: int | None = Field(None, description="Events of the user in the state that answered.")
    rebuilding: bool | None = Field(None, description="The state lacks events; it is being rebuilt.")
    debug: dict[str, Any] | None = None
    token: str | None = Field(None, description="The state after it, for a client that holds its own.")


class StepOut(BaseModel):
    """One step of the scale of ratings."""

    rating: float
    share: float


class RatingOut(BaseModel):
    """What a user would think of an item, in the scale of the log."""

    item: str
    rating: float
    deviation: float = Field(description="The standard deviation.")
    shares: list[StepOut] = Field(description="How likely each step is; empty where the scale has no steps.")
    known: bool = Field(description="Whether the bundle knows the item.")
    bundle: str
    count: int
    rebuilding: bool


class EventOut(BaseModel):
    """An event as it is kept."""

    seq: int
    user: str
    item: str
    title: str | None = None
    time: float | None = None
    id: str | None = None
    rating: float | None = None
    type: str | None = None
    context: dict[str, Any] | None = None


class ToldOut(BaseModel):
    """It is on disk. With `?recommend=k` the fields of a list stand beside these."""

    events: list[EventOut]
    duplicates: int = Field(description="How many had been told before, under the same ids.")
    items: list[ItemOut] | None = None
    unknown: list[str] | None = None
    bundle: str | None = None


class ProblemOut(BaseModel):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


def reply(value: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def item_lines(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Return the lines of a list."""
    return [{"item": item, "score": score, "title": title} for item, score, title in items]


def answer_of(answer: Answer) -> dict[str, Any]:
    """Return a list with what belongs to it."""
    shown = {
        "items": item_lines(answer.items),
        "unknown": answer.unknown,
        "bundle": answer.bundle,
        "count": answer.events,
        "rebuilding": answer.rebuilding,
    }
    return shown if answer.debug is None else {**shown, "debug": answer.debug}


def rating_of(found: Rating) -> dict[str, Any]:
    """Return a predicted rating with what belongs to it."""
    return {
        "item": found.item,
        "rating": found.found.mean,
        "deviation": found.found.deviation,
        "shares": [{"rating": step, "share": share} for step, share in found.found.shares.items()],
        "known": found.known,
        "bundle": found.bundle,
        "count": found.events,
        "rebuilding": found.rebuilding,
    }


def event_of(event: StoredEvent, title: str | None = None) -> dict[str, Any]:
    """Return an event as it is kept, without what it does not say, with the title of its item.

    Example:
        >>> event_of(StoredEvent("u1", "17", 1_500_000, None, None, None, {}, 9, 1_500_000))
        {'seq': 9, 'user': 'u1', 'item': '17', 'time': 1.5}
    """
    shown: dict[str, Any] = {"seq": event.seq, "user": event.user, "item": event.item}
    rest = {
        "title": title,
        "id": event.id,
        "rating": event.rating,
        "type": event.type,
        "context": event.context or None,
    }
    time = None if event.time is None else event.time / 1e6
    return shown | {name: value for name, value in {"time": time, **rest}.items() if value is not None}


def told_of(told: Told) -> dict[str, Any]:
    """Return what is on disk, with the list where one was wanted."""
    done = {"events": [event_of(event) for event in told.events], "duplicates": told.duplicates}
    return done if told.answer is None else {**answer_of(told.answer), **done}


def user_of(view: UserView) -> dict[str, Any]:
    """Return what is known of a user; `next` is the `before` of the page after this one."""
    last = view.events[-1] if view.events else None
    return {
        "user": view.user,
        "events": [event_of(event, view.titles.get(event.item)) for event in view.events],
        "count": view.count,
        "bundle": view.bundle,
        "state_bytes": view.state_bytes,
        "rebuilding": view.rebuilding,
        "picture": view.picture,
        "next": None if last is None else f"{last.place}.{last.seq}",
    }


def explanation_of(found: Explanation) -> dict[str, Any]:
    """Return why an item has its score."""
    parts = [
        {"event": event_of(part.event, part.title), "change": part.change, "shared": part.shared}
        for part in found.parts
    ]
    return {**item_lines([found.item])[0], "labels": found.labels, "parts": parts}


def status_of(status: Status) -> dict[str, Any]:
    """Return where the server stands."""
    return asdict(status)
