"""From values to answers; `answers` has their shapes.

Knows: names of fields, seconds at the surface. Does not know: how anything is found.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from msgspec import UNSET, UnsetType

from segue.recommend.lists.explain import Explanation
from segue.recommend.recommender import Item
from segue.serve.api.answers import (
    EventOut,
    ExplanationOut,
    Ingested,
    ItemList,
    ItemOut,
    PartOut,
    RatingOut,
    StepOut,
    UserOut,
)
from segue.serve.ranking.types import Answer, IngestResult, Rating, UserView
from segue.store.events import StoredEvent

T = TypeVar("T")


def given(value: T | None) -> T | UnsetType:
    """Return a value that is left out where it is None."""
    return UNSET if value is None else value


def items_of(items: Iterable[Item]) -> list[ItemOut]:
    """Return the lines of a list."""
    return [ItemOut(item=item, score=score, title=title) for item, score, title in items]


def list_of(answer: Answer, token: str | None = None, notes: Iterable[str] = ()) -> ItemList:
    """Return a list with what belongs to it, and more notes."""
    return ItemList(**_list(answer, notes), token=given(token))


def _list(answer: Answer, notes: Iterable[str] = ()) -> dict[str, Any]:
    items = items_of(answer.items)
    if answer.probabilities is not None:
        for line, probability in zip(items, answer.probabilities, strict=True):
            line.probability = probability
    return {
        "items": items, "unknown": answer.unknown, "model": answer.model, "count": answer.events,
        "rebuilding": answer.rebuilding, "debug": given(answer.debug), "notes": [*answer.notes, *notes] or UNSET,
        "source": answer.source, "list_id": given(answer.list_id),
    }  # fmt: skip


def rating_of(found: Rating) -> RatingOut:
    """Return a predicted rating with what belongs to it."""
    return RatingOut(
        item=found.item,
        rating=found.found.mean,
        deviation=found.found.deviation,
        shares=[StepOut(rating=step, share=share) for step, share in found.found.shares.items()],
        known=found.known,
        model=found.model,
        count=found.events,
        rebuilding=found.rebuilding,
    )


def event_of(event: StoredEvent, title: str | None = None) -> EventOut:
    """Return an event as it is kept, without what it does not say, with the title of its item.

    Example:
        >>> event_of(StoredEvent("u1", "17", 1_500_000, None, None, None, {}, 9, 1_500_000)).time
        1.5
    """
    return EventOut(
        seq=event.seq,
        user=event.user,
        item=event.item,
        title=given(title),
        time=UNSET if event.time is None else event.time / 1e6,
        id=given(event.id),
        rating=given(event.rating),
        type=given(event.type),
        context=dict(event.context) if event.context else UNSET,
    )


def ingested_of(found: IngestResult, notes: Iterable[str] = ()) -> Ingested:
    """Return what is on disk, with the list where one was wanted, and more notes on the list."""
    shown = {} if found.answer is None else _list(found.answer, notes)
    return Ingested(events=[event_of(event) for event in found.events], duplicates=found.duplicates, **shown)


def user_of(view: UserView) -> UserOut:
    """Return what is known of a user; `next` is the `before` of the page after this one."""
    last = view.events[-1] if view.events else None
    return UserOut(
        user=view.user,
        events=[event_of(event, view.titles.get(event.item)) for event in view.events],
        count=view.count,
        model=view.model,
        state_bytes=view.state_bytes,
        rebuilding=view.rebuilding,
        picture=view.picture,
        next=None if last is None else f"{last.place}.{last.seq}",
    )


def explanation_of(found: Explanation[StoredEvent], what_if: Answer | None = None) -> ExplanationOut:
    """Return why an item has its score, and the list had some events not been."""
    parts = [
        PartOut(event=event_of(part.event, part.title), change=part.change, shared=part.shared) for part in found.parts
    ]
    item, score, title = found.item
    without = UNSET if what_if is None else list_of(what_if)
    return ExplanationOut(item=item, score=score, title=title, labels=found.labels, parts=parts, what_if=without)
