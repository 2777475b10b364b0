"""Why an item is in a list: each recent event left out and the rest replayed.

Knows: replay, and the attributes that items share. Does not know: requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segue.errors import ArgumentError, NotFoundError
from segue.recommend.batch import observe_each, question_details, score_rows
from segue.recommend.lists.item_filters import ItemFilters
from segue.recommend.lists.options import ListOptions
from segue.recommend.recommender import Item, Recommender
from segue.recommend.state import State
from segue.serve.live.replay import state_before
from segue.serve.ranking.list_requests import ListRequest, rank
from segue.store.base import Head, Store
from segue.store.events import StoredEvent


@dataclass(frozen=True, slots=True)
class Part:
    """What one event did: the score of the item less its score had the event not been.

    Args:
        event: of the user.
        change: in log-odds; above 0 it spoke for the item.
        shared: attributes that its item and the item explained have in common.
        title: of its item, where there is one.
    """

    event: StoredEvent
    change: float
    shared: list[str]
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item has its score, by the last events; the strongest first."""

    item: Item
    parts: list[Part]
    labels: list[str]


def explain(
    rec: Recommender,
    store: Store,
    head: Head,
    state: State,
    item: str | None,
    last: int,
    options: ListOptions,
    filters: ItemFilters,
) -> Explanation:
    """Return what each of a user's last events did for the score of an item.

    Args:
        rec: the model.
        store: with the log.
        head: of the user.
        state: of the user, after all events.
        item: None takes the first of the list.
        last: how many events are looked at.
        options: of the list.
        filters: what may be shown.

    Raises:
        NotFoundError: the item is unknown, or there is none to show.
        ArgumentError: nothing is known of the item to score it by.
        ConflictError: see `state_before`.

    Cost: `last` steps of up to `last` users side by side, after a replay from the nearest snapshot.
    """
    if item is None:
        request = ListRequest(rec, state, options, who=head.user.encode())
        top = rank([rec], lambda _: filters, [request])[0][0].items
        if not top:
            raise NotFoundError("explain: expected an item to explain, the list is empty. Name one.")
        item = top[0].item
    row = rec.vocabulary.row(item)
    if row == 0:
        raise NotFoundError(f'item "{item}": expected a known item. Add it with POST /v1/items.')
    if row in rec.unreachable:
        raise ArgumentError(
            f'item "{item}": expected an item with an attribute that was learnt, nothing is known to score it by. '
            "Say what it is with PATCH /v1/items/{id}, or name another."
        )
    before, events = _before(rec, store, head, last)
    score = _score(rec, [state], row, options)[0]
    changes = [round(score - one, 6) for one in _score(rec, _without(rec, before, events), row, options)]
    labels = rec.labels(item)
    parts = [
        Part(event, change, [label for label in labels if label in rec.labels(event.item)], rec.title(event.item))
        for event, change in zip(events, changes, strict=True)
    ]
    parts.sort(key=lambda part: -abs(part.change))
    return Explanation(rec._item(row, score), parts, labels)


def _before(rec: Recommender, store: Store, head: Head, last: int) -> tuple[State, list[StoredEvent]]:
    """Return the last events of a user, oldest first, and the state before them."""
    events = store.events(head.user, limit=last, backwards=True)[::-1]
    if len(events) == head.count:
        return rec.start(), events
    return state_before(rec, store, head, events[0].position), events


def _without(rec: Recommender, before: State, events: Sequence[StoredEvent]) -> list[State]:
    """Return the state without each of some events; a lane leaves that of all events where it leaves one out."""
    lanes: list[State] = []
    for event in events:
        *moved, after = observe_each(rec, [*lanes, before], [event] * (len(lanes) + 1))
        lanes, before = [*moved, before], after
    return lanes


def _score(rec: Recommender, states: Sequence[State], row: int, options: ListOptions) -> list[float]:
    """Return the score of one item for each state."""
    if not states:
        return []
    at = [options.at] * len(states)
    details = question_details(rec, [options] * len(states), at)
    scores = score_rows(rec, states, at, np.array([row], np.int32), details)
    return [float(score) for score in scores[:, 0]]
