"""What list is wanted, and the list itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segue.config import Repeats
from segue.errors import ArgumentError
from segue.recommend.filters.fields import Where
from segue.recommend.lists.impressions import Fatigue
from segue.recommend.lists.item_filters import Rule
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
        seed: of that chance, for this user; None takes the id of the list, and without one the number of the user's
            events.
        debug: say how each item came to its place.
        candidates: ids of which alone the list is made; None for all items.
        current: the id of the item being looked at, for the filter.
        params: the parameters of the filter.
        profile: of the user, for the filter.
        temperature: 0 takes the best; above, places are drawn: an item with the chance `exp(score / temperature)`.
        boosts: rules of the kind boost for this list alone; their filters may read what the request knows.
        list_id: an id of the list; see `seed`.
        discounts: by item, what is taken off its score.
        fatigue: note the list, and take off the scores what the user was shown before; a server does both.

    Raises:
        ArgumentError: `temperature` with `explore` or `diversity`: their chances have no common form.
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
    temperature: float = 0.0
    boosts: tuple[Rule, ...] = ()
    list_id: str | None = None
    discounts: Mapping[str, float] = field(default_factory=dict)
    fatigue: Fatigue | None = None

    def __post_init__(self) -> None:
        if self.temperature and (self.explore or self.diversity):
            other = "explore" if self.explore else "diversity"
            raise ArgumentError(f"temperature: expected no {other} beside it, came both. Leave one out.")


class RankedList(list[Item]):
    """A list of items, best first, and what there is to say of it.

    Args:
        items: best first.
        notes: what the reader should know, in sentences: a value of the filter that no item has, fewer items than k.
        unknown: ids of the request that the model does not know.
        debug: what each rule did, by item, if the options say so.
        probabilities: of each item, how likely it was at its place, given those before it; None where the list was not
            drawn by chance. A pinned item has 1.
    """

    def __init__(
        self,
        items: Iterable[Item] = (),
        notes: tuple[str, ...] = (),
        unknown: tuple[str, ...] = (),
        debug: Mapping[str, Any] | None = None,
        probabilities: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(items)
        self.notes, self.unknown, self.debug, self.probabilities = notes, unknown, debug, probabilities
