"""From what a request says of a list to the options of the list.

Knows: names of requests, texts of an address, which events of a user a list leaves out.
Does not know: routes, how a list is made.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import and_
from secrets import token_hex

from segue.recommend.batch import Happened
from segue.recommend.filters.fields import Filter
from segue.recommend.lists.impressions import Fatigue
from segue.recommend.lists.item_filters import Rule
from segue.recommend.lists.options import ListOptions
from segue.recommend.lists.seen import SeenRule, seen_items
from segue.serve.api.schemas import ListIn, RecommendIn, SeenRuleIn
from segue.serve.http import limits
from segue.serve.http.problems import Refusal
from segue.serve.live.service import Service
from segue.store.events import StoredEvent

#: Events that are read at a time.
_PAGE = 1000


def options_of(wanted: ListIn, now: int) -> ListOptions:
    """Return the options of a list; one that is noted or drawn by chance has an id."""
    options = ListOptions(
        wanted.k, now if wanted.at is None else wanted.at.micros, wanted.type, wanted.context, tuple(wanted.exclude),
        wanted.repeats, wanted.where, wanted.diversity, wanted.explore, wanted.seed, wanted.debug,
        None if wanted.candidates is None else tuple(wanted.candidates), wanted.current, wanted.params, wanted.profile,
        wanted.temperature, boosts_of(wanted),
    )  # fmt: skip
    if not isinstance(wanted, RecommendIn):
        return options
    impressions, list_id = wanted.impressions, wanted.list_id
    if list_id is None and (wanted.scenario or impressions or wanted.temperature):
        list_id = token_hex(8)
    if list_id is None:
        return options
    fatigue = (Fatigue() if impressions is True else impressions.fatigue()) if impressions else None
    return replace(options, list_id=list_id, fatigue=fatigue)


def boosts_of(wanted: ListIn) -> tuple[Rule, ...]:
    """Return the boosts of a list as rules."""
    return tuple([Rule("boost", one.where, tuple(one.items), one.by, one.name) for one in wanted.boosts])


def where_of(texts: list[str]) -> Filter | None:
    """Return the filter of an address: texts of the language, and attribute:value, of one attribute the values."""
    pairs: dict[str, list[str]] = {}
    parts: list[Filter | None] = []
    for text in texts:
        name, colon, value = text.partition(":")
        if colon and not set(name) & set("=<>()\"'$"):
            if not 0 < len(name) <= 128 or len(value) > limits.ID:
                raise Refusal(422, "where: expected attribute:value, came something else. Give where=genres:Drama.")
            pairs.setdefault(name, []).append(value)
        else:
            parts.append(Filter.of(text))
    found = [part for part in (Filter.of(pairs), *parts) if part is not None]
    return reduce(and_, found) if found else None


def seen_rule_of(text: str) -> SeenRuleIn:
    """Return the rule of a text such as `type=buy,within=30d`."""
    rule = SeenRule.of(text)
    return SeenRuleIn(type=rule.type, within=dict(part.partition("=")[::2] for part in text.split(",")).get("within"))


def unseen(
    service: Service, body: RecommendIn, new: Sequence[Happened], options: ListOptions
) -> tuple[ListOptions, list[str]]:
    """Return options that leave out the items of some events, and a note where a user has more than are looked at.

    Args:
        service: with the events of the user.
        body: the request.
        new: events that the store does not have: those of a history, or of the same request.
        options: of the list.
    """
    rules, past, notes = [one.rule() for one in body.exclude_events], list[Happened](new), list[str]()
    if body.user is not None:
        kept, notes = _latest(service, body.user, rules, options.at)
        past += kept
    out = seen_items(past, rules, options.at)
    return replace(options, exclude=(*options.exclude, *out), repeats=options.repeats or "allow"), notes


def _latest(
    service: Service, user: str, rules: Sequence[SeenRule], at: int | None
) -> tuple[list[StoredEvent], list[str]]:
    """Return the events of a user that rules may be about, as far back as any of the rules looks."""
    spans = [one.within.total_seconds() * 1e6 for one in rules if one.within is not None]
    begin = at - max(spans) if at is not None and len(spans) == len(rules) else None
    found: list[StoredEvent] = []
    while len(found) < limits.SEEN:
        after = found[-1].position if found else None
        page = service.store.events(user, limit=_PAGE, backwards=True, after=after)
        found += page
        if len(page) < _PAGE or (begin is not None and page[-1].place < begin):
            return found, []
    return found, [f"exclude_events looks at the last {limits.SEEN:,} events."]
