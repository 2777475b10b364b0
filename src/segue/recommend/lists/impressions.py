"""What a user has been shown takes something off the scores of its items, and less as time goes by.

Knows: lists that were shown, half-lives. Does not know: where such lists are kept.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Fatigue(NamedTuple):
    """How a user tires of items.

    Args:
        discount: what each showing takes off the score of an item, in log-odds.
        half_life: microseconds until a showing takes off half of that.
    """

    discount: float = 0.5
    half_life: int = 86_400_000_000


class ShownList(NamedTuple):
    """A list that a user was shown: its id, when in microseconds since 1970, and its items."""

    list_id: str
    time: int
    items: list[str]


def discounts_of(shown: Iterable[ShownList], fatigue: Fatigue, now: int) -> dict[str, float]:
    """Return what is taken off the score of each item: the discount for each showing, halved every half-life.

    Args:
        shown: the lists.
        fatigue: how the user tires.
        now: microseconds since 1970.

    Example:
        >>> discounts_of([ShownList("a", 0, ["17", "42"]), ShownList("b", 10, ["17"])], Fatigue(1.0, 10), 10)
        {'17': 1.5, '42': 0.5}
    """
    found: dict[str, float] = {}
    for one in shown:
        weight = fatigue.discount * 2.0 ** (-max(0, now - one.time) / fatigue.half_life)
        for item in one.items:
            found[item] = found.get(item, 0.0) + weight
    return found
