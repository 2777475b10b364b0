"""State in, list out: every list of the server is made here, and every event is ranked here.

Knows: that one product scores both, and how many scores may exist at one time.
Does not know: where states come from, or what is counted of the ranks.

The path of a list: a `ListRequest` becomes rows (`candidates`), which are scored in one product; `item_filters` hide
what may not be shown; `rerank` applies pins, boosts, diversity and exploration.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from segue.model.backend import leaves
from segue.recommend.lists.candidates import list_query, score
from segue.recommend.lists.item_filters import ItemFilters
from segue.recommend.lists.options import ListOptions, RankedList
from segue.recommend.lists.rerank import rerank
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.serve.ranking.event_ranks import RankedEvent, rank_events
from segue.serve.ranking.types import Answer
from segue.store.events import Event

#: Scores that exist at one time: 128 MB.
SCORES = 1 << 25
#: The list that an event is ranked in.
DEFAULT = ListOptions()


class ListRequest(NamedTuple):
    """A list to make.

    Args:
        rec: the model.
        state: of the user.
        options: of the list.
        at: the time of the request where the options do not say it.
        events: of the request.
        rebuilding: the state lacks events.
        who: what tells users apart, for draws by chance: the id of a user, or a history, or a token.
    """

    rec: Recommender
    state: State
    options: ListOptions
    at: int | None = None
    events: Sequence[Event] = ()
    rebuilding: bool = False
    who: bytes = b""


def rank(
    models: Iterable[Recommender],
    filters_of: Callable[[Recommender], ItemFilters],
    requests: Sequence[ListRequest],
    ranked: Sequence[tuple[State, Event]] = (),
) -> tuple[list[Answer], dict[str, list[RankedEvent]]]:
    """Return lists, and the ranks of events in the lists just before them; scores come in few products.

    Every list of the server is made here.

    Args:
        models: that run.
        filters_of: what each may show.
        requests: the lists that are wanted.
        ranked: events, each with the state before it, of any of the models.

    Returns:
        The lists in the order of the requests, and the ranks by model.
    """
    answers: dict[int, Answer] = {}
    ranks: dict[str, list[RankedEvent]] = {}
    recs = {rec.fingerprint: rec for rec in (*models, *(one.rec for one in requests))}
    for fingerprint, rec in recs.items():
        places = [n for n, one in enumerate(requests) if one.rec.fingerprint == fingerprint]
        pairs = [pair for pair in ranked if pair[0].model == fingerprint]
        step = max(1, SCORES // (2 * rec.vocabulary.size))
        for begin in range(0, max(len(places), len(pairs)), step):
            some = slice(begin, begin + step)
            found, lines = _rank(rec, filters_of(rec), [requests[n] for n in places[some]], pairs[some])
            answers |= zip(places[some], found, strict=True)
            ranks.setdefault(fingerprint, []).extend(lines)
    return [answers[n] for n in range(len(requests))], ranks


def _rank(
    rec: Recommender, filters: ItemFilters, requests: Sequence[ListRequest], ranked: Sequence[tuple[State, Event]]
) -> tuple[list[Answer], list[RankedEvent]]:
    """Do what `rank` does, for one model, in one product."""
    lists = len(requests)
    queries = [list_query(rec, one.state, one.options, filters, at=one.at, who=one.who) for one in requests]
    queries += [list_query(rec, state, DEFAULT, filters, at=event.time, also=(event.item,)) for state, event in ranked]
    scored = score(rec, filters, queries)
    found = rerank(rec, filters, queries[:lists], scored[:lists])
    answers = [_answer(rec, one, ranked) for one, ranked in zip(requests, found, strict=True)]
    return answers, rank_events(rec, [event for _, event in ranked], queries[lists:], scored[lists:])


def _answer(rec: Recommender, request: ListRequest, ranked: RankedList) -> Answer:
    unknown = [event.item for event in request.events if event.item not in rec.vocabulary]
    return Answer(
        ranked,
        list(dict.fromkeys([*unknown, *ranked.unknown])),
        rec.fingerprint,
        request.state.count,
        request.rebuilding,
        ranked.debug,
        ranked.notes,
        "state" if request.state.count else _source(rec, request.state),
        ranked.probabilities,
        request.options.list_id,
    )


def _source(rec: Recommender, state: State) -> str:
    """Return what the list of a user without events is made of."""
    if state.memory is rec.new_user.memory:
        return "new user"
    pairs = zip(leaves(state.memory), leaves(rec.new_user.memory), strict=True)
    return "new user" if all(np.array_equal(one, other) for (_, one), (_, other) in pairs) else "profile"
