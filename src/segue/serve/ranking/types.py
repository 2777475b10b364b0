"""What goes into the service and what comes out of it.

Knows: the values. Does not know: how they travel (HTTP), or how they are computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segue.recommend.lists.options import ListOptions
from segue.recommend.ratings import RatingDistribution
from segue.recommend.recommender import Item
from segue.store.base import Readiness
from segue.store.events import Event, StoredEvent


@dataclass(frozen=True, slots=True)
class Answer:
    """A list.

    Args:
        items: best first.
        unknown: ids of the request that the model does not know.
        model: the fingerprint of the model that answered.
        events: of the user, in the state that answered.
        rebuilding: the state does not hold all events yet; it is being rebuilt in the background.
        debug: what each rule did, by item, if the options say so.
        notes: what the reader should know of the list, in sentences.
        source: what the list is made of: "state" (the user's events), "profile" (of a user without events), or
            "new user".
        probabilities: of each item at its place given those before it, where the list was drawn by chance.
        list_id: of the list, where it has one.
    """

    items: list[Item]
    unknown: list[str]
    model: str
    events: int
    rebuilding: bool = False
    debug: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    source: str = "state"
    probabilities: tuple[float, ...] | None = None
    list_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rating:
    """The predicted rating of an item.

    Args:
        item: its id.
        found: mean, deviation and the share of each step.
        known: whether the model knows the item.
        model: the fingerprint of the model that answered.
        events: of the user, in the state that answered.
        rebuilding: the state does not hold all events yet.
    """

    item: str
    found: RatingDistribution
    known: bool
    model: str
    events: int
    rebuilding: bool = False


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """Events of one request: all of them or none.

    Args:
        events: in the order of arrival, of one user or several.
        client: the name of the API key; ids of events are its own.
        options: of the list after the last event, for its user; None for no list.
    """

    events: tuple[Event, ...]
    client: str = ""
    options: ListOptions | None = None


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """A user wants a list, after all events so far."""

    user: str
    options: ListOptions


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The events are on disk.

    Args:
        events: as they are kept, in the order in which they were sent.
        duplicates: how many of them had been sent before, under the same ids.
        answer: the list, if the request wanted a list.
    """

    events: list[StoredEvent]
    duplicates: int = 0
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class UserView:
    """What a server knows of a user, for people.

    Args:
        user: the name that events are kept under.
        events: a page, latest first.
        titles: of their items, where there are any.
        count: events in all.
        model: the fingerprint of the state.
        state_bytes: its size, the same for every history but for the items seen.
        rebuilding: the state does not hold all events yet.
        picture: at most 256 numbers from -1 to 1: the memory, for the eye.
    """

    user: str
    events: list[StoredEvent]
    titles: Mapping[str, str]
    count: int
    model: str
    state_bytes: int
    rebuilding: bool
    picture: list[float]


@dataclass(frozen=True, slots=True)
class TrendStatus:
    """Where the trends of a server stand.

    Args:
        half_life: the shortest one, in seconds.
        events: of the log that were counted since the start.
        caught_up: whether the log has been read to its end since the start.
        behind: seconds since it was read to its end.
        items, pairs: that are counted.
        bytes: the memory of the counts.
    """

    half_life: float
    events: int
    caught_up: bool
    behind: float
    items: int
    pairs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """Where a server stands.

    `lists` says how lists are found, with the recall of the index where there is one. `ratings` are the steps of the
    scale that the model learnt, where it learnt ratings and they have steps. `trends` are those that lists follow,
    where the model has a ranker. `types` are the types of events that the model learnt.
    """

    model: str
    rolling_out_to: str | None
    caught_up: float
    ready: Readiness
    items: int
    unavailable: int
    lists: str = ""
    ratings: tuple[float, ...] = ()
    trends: TrendStatus | None = None
    types: tuple[str, ...] = ()
