"""What answers say: from values to JSON; `answer_schemas` has its shapes.

Knows: names of fields, seconds at the surface. Does not know: how anything is found.
"""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import msgspec
from starlette.responses import Response

from segue.recommend.recommender import Item
from segue.serve.live.explain import Explanation
from segue.serve.ranking.types import Answer, Rating, Status, Told, UserView
from segue.store.events import StoredEvent


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
        "model": answer.model,
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
        "model": found.model,
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
        "model": view.model,
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
