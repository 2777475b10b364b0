"""Why an item is in a list: each recent event left out, and the rest replayed.

Knows: replay, and the attributes that items share. Does not know: stores, requests.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from segue.data.log.events import Events
from segue.errors import ArgumentError, NotFoundError
from segue.recommend.batch import Happened, observe_each, observe_long, question_details, score_rows
from segue.recommend.lists.options import ListOptions
from segue.recommend.lists.rerank import list_of
from segue.recommend.scorer import Item, Scorer
from segue.recommend.state import State

E = TypeVar("E", bound=Happened)
_ROLES = ("user", "item", "time", "id", "rating", "type")


@dataclass(frozen=True, slots=True)
class Part(Generic[E]):
    """What one event did: the score of the item less its score had the event not been.

    Args:
        event: of the user.
        change: in log-odds; above 0 it spoke for the item.
        shared: attributes that its item and the item explained have in common.
        title: of its item, where there is one.
    """

    event: E
    change: float
    shared: list[str]
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation(Generic[E]):
    """Why an item has its score, by the last events; the strongest first."""

    item: Item
    parts: list[Part[E]]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of a history; `time` in microseconds since 1970."""

    item: str
    time: int | None = None
    rating: float | None = None
    type: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)


def past_events(history: Events | Iterable[str | Happened]) -> list[Happened]:
    """Return the events of a log of one user, or of ids and events, oldest first.

    Raises:
        ArgumentError: the log has events of several users.
    """
    if not isinstance(history, Events):
        return [PastEvent(event) if isinstance(event, str) else event for event in history]
    table = history.as_text()
    if table["user"].n_unique() > 1:
        raise ArgumentError(f"{history.source}: expected events of one user, came several. Choose the rows of one.")
    named = [name for name in table.columns if name not in _ROLES]
    return [
        PastEvent(row["item"], row.get("time"), row.get("rating"), row.get("type"), {name: row[name] for name in named})
        for row in table.iter_rows(named=True)
    ]


def explain_history(
    rec: Scorer, start: State, events: Sequence[Happened], item: str | None, last: int, options: ListOptions
) -> Explanation[Happened]:
    """Return what each of the last events of a history did for the score of an item; see `Recommender.explain`."""
    before = observe_long(rec, start, events[: max(0, len(events) - last)])
    recent = events[max(0, len(events) - last) :]
    state = observe_long(rec, before, recent)
    if item is None:
        top = list_of(rec, state, options)
        if not top:
            raise NotFoundError("explain: expected an item to explain, the list is empty. Name one.")
        item = top[0].item
    return explain_score(rec, before, recent, state, item, options)


def explain_score(
    rec: Scorer, before: State, events: Sequence[E], state: State, item: str, options: ListOptions
) -> Explanation[E]:
    """Return what each of some events did for the score of an item.

    Args:
        rec: the model.
        before: the state before the events.
        events: oldest first.
        state: after them.
        item: its id.
        options: of the list.

    Raises:
        NotFoundError: the item is unknown.
        ArgumentError: nothing is known of the item to score it by.

    Cost: as many steps as there are events, of up to as many users side by side.
    """
    row = rec.vocabulary.row(item)
    if row == 0:
        raise NotFoundError(f'item "{item}": expected a known item, came one of no model. Add it first.')
    if row in rec.unreachable:
        raise ArgumentError(
            f'item "{item}": expected an item with an attribute that was learnt, nothing is known to score it by. '
            "Say what it is, or name another."
        )
    score = _score(rec, [state], row, options)[0]
    changes = [round(score - one, 6) for one in _score(rec, _without(rec, before, events), row, options)]
    labels = labels_of(rec, row)
    parts = []
    for event, change in zip(events, changes, strict=True):
        other = rec.vocabulary.row(event.item)
        known = labels_of(rec, other)
        title = rec.catalogue.title(other) if other and rec.catalogue else None
        parts.append(Part(event, change, [label for label in labels if label in known], title))
    parts.sort(key=lambda part: -abs(part.change))
    return Explanation(rec._item(row, score), parts, labels)


def labels_of(rec: Scorer, row: int) -> list[str]:
    """Return the attributes of an item in words; an empty list where none is known."""
    if row == 0 or rec.catalogue is None or rec.encoders.items is None:
        return []
    return rec.encoders.items.labels(rec.catalogue.line(row))


def _without(rec: Scorer, before: State, events: Sequence[Happened]) -> list[State]:
    """Return for each of some events the state without that event, all of them stepped side by side."""
    without: list[State] = []
    for event in events:
        *moved, after = observe_each(rec, [*without, before], [event] * (len(without) + 1))
        without, before = [*moved, before], after
    return without


def _score(rec: Scorer, states: Sequence[State], row: int, options: ListOptions) -> list[float]:
    """Return the score of one item for each state."""
    if not states:
        return []
    at = [options.at] * len(states)
    details = question_details(rec, [options] * len(states), at)
    scores = score_rows(rec, states, at, np.array([row], np.int32), details)
    return [float(score) for score in scores[:, 0]]
