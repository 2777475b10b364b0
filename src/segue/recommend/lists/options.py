"""What list is wanted, and the list itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segue.config import Repeats
from segue.recommend.filters.fields import Where
from segue.recommend.scorer import Item


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What list is wanted.

    Args:
        k: how many items.
        at: the time of the request, microseconds since 1970; None: unknown, or the time of the event just sent.
        type: of the event to come; None for any.
        context: of the request.
        exclude: ids to leave out.
        repeats: whether seen items are allowed or excluded; None takes the model's policy.
        where: a filter, or attribute -> value or values that an item must have, such as `{"genres": "Drama"}`.
        diversity: 0 ranks by score alone, up to 1 the more unlike the items of a list are (MMR).
        explore: the share of places given to items drawn by chance from the next 10 k.
        seed: of that chance, for this user; None takes the number of the user's events.
        debug: say how each item came to its place.
        candidates: ids of which alone the list is made; None for all items.
        current: the id of the item being looked at, for the filter.
        params: the parameters of the filter.
        profile: of the user, for the filter.
    """

    k: int = 10
    at: int | None = None
    type: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    repeats: Repeats | None = None
    where: Where = None
    diversity: float = 0.0
    explore: float = 0.0
    seed: int | None = None
    debug: bool = False
    candidates: tuple[str, ...] | None = None
    current: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)


class RankedList(list[Item]):
    """A list of items, best first, and what there is to say of it.

    Args:
        items: best first.
        notes: what the reader should know, in sentences: a value of the filter that no item has, fewer items than k.
        unknown: ids of the request that the model does not know.
        debug: what each rule did, by item, if the options say so.
    """

    def __init__(
        self,
        items: Iterable[Item] = (),
        notes: tuple[str, ...] = (),
        unknown: tuple[str, ...] = (),
        debug: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(items)
        self.notes, self.unknown, self.debug = notes, unknown, debug
