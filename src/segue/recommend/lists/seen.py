"""Seen items by what was done with them: not bought, not seen in the last 30 days."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from segue.errors import ArgumentError
from segue.recommend.batch import Happened
from segue.recommend.filters.parser import duration_of


@dataclass(frozen=True, slots=True)
class SeenRule:
    """Events whose items a list is not to show; of a rule without a type and a time, all events.

    Args:
        type: of the events, such as "buy"; None for any.
        within: how long before the request; None for ever. An event without a time counts as recent.
    """

    type: str | None = None
    within: timedelta | None = None

    @classmethod
    def of(cls, text: str, name: str = "exclude_events") -> "SeenRule":
        """Return the rule of a text.

        Args:
            text: `type=buy`, `within=30d`, or both with a comma between them.
            name: what messages call it.

        Raises:
            ArgumentError: the text is none of these.

        Example:
            >>> SeenRule.of("type=buy,within=30d")
            SeenRule(type='buy', within=datetime.timedelta(days=30))
        """
        pairs = dict(part.partition("=")[::2] for part in text.split(","))
        if pairs.keys() - {"type", "within"} or not all(pairs.values()):
            raise ArgumentError(f'{name}: expected type=buy, within=30d, or both, came "{text[:60]}".')
        within = pairs.get("within")
        return cls(pairs.get("type"), None if within is None else duration_of(within, name))


def seen_items(events: Iterable[Happened], rules: Sequence[SeenRule], at: int | None) -> list[str]:
    """Return the ids of the items of those events that one of the rules is about.

    Args:
        events: of one user.
        rules: what is left out.
        at: the time of the request, microseconds since 1970; None takes that of the latest event.

    Example:
        >>> from segue.recommend.lists.explain import PastEvent
        >>> day = 86_400_000_000
        >>> events = [PastEvent("17", 0, type="buy"), PastEvent("42", 9 * day, type="view")]
        >>> [seen_items(events, [rule], None) for rule in (SeenRule("buy"), SeenRule(within=timedelta(2)))]
        [['17'], ['42']]
    """
    past = list(events)
    now = max((event.time for event in past if event.time is not None), default=0) if at is None else at

    def holds(event: Happened, rule: SeenRule) -> bool:
        recent = rule.within is None or event.time is None or now - event.time <= rule.within.total_seconds() * 1e6
        return recent and rule.type in (None, event.type)

    return list(dict.fromkeys(event.item for event in past if any(holds(event, rule) for rule in rules)))
