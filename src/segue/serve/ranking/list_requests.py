"""Lists that are wanted, and events that are to be ranked by the lists before them, scored together.

Knows: that one product serves both, how many scores may exist at one time.
Does not know: where states come from, what is counted of the ranks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.serve.live.online_metrics import Judged, judge
from segue.serve.ranking.candidates import ask_for, score_all
from segue.serve.ranking.item_filters import Shelf
from segue.serve.ranking.rerank import make_answers
from segue.serve.ranking.types import Answer, Question
from segue.store.events import Event

#: Scores that exist at one time: 128 MB.
SCORES = 1 << 25
#: The question that an event answers.
JUDGED = Question()


class Wanted(NamedTuple):
    """A list that is to be made.

    Args:
        rec: the model.
        state: of the user.
        question: what is wanted.
        at: the time of the question where it does not say one.
        events: of the request.
        rebuilding: the state lacks events.
        who: what tells those who ask apart: the id of a user, or what a history or a token says.
    """

    rec: Recommender
    state: State
    question: Question
    at: int | None = None
    events: Sequence[Event] = ()
    rebuilding: bool = False
    who: bytes = b""


def make_lists(
    models: Iterable[Recommender],
    shelf_of: Callable[[Recommender], Shelf],
    wanted: Mapping[int, Wanted],
    before: Sequence[tuple[State, Event]] = (),
) -> tuple[dict[int, Answer], dict[str, list[Judged]]]:
    """Return the lists that are wanted, and how events were foreseen; scores come in few products.

    Args:
        models: that run.
        shelf_of: what each may show.
        wanted: by any number, which the lists come back under.
        before: events, each with the state before it, of any of the models.

    Returns:
        The lists, and by model where its events stood.
    """
    answers: dict[int, Answer] = {}
    judged: dict[str, list[Judged]] = {}
    recs = {rec.fingerprint: rec for rec in (*models, *(one.rec for one in wanted.values()))}
    for fingerprint, rec in recs.items():
        keys = [key for key, one in wanted.items() if one.rec.fingerprint == fingerprint]
        pairs = [pair for pair in before if pair[0].model == fingerprint]
        step = max(1, SCORES // (2 * rec.vocabulary.size))
        for begin in range(0, max(len(keys), len(pairs)), step):
            some = slice(begin, begin + step)
            lists, lines = score(rec, shelf_of(rec), [wanted[key] for key in keys[some]], pairs[some])
            answers |= zip(keys[some], lists, strict=True)
            judged.setdefault(fingerprint, []).extend(lines)
    return answers, judged


def score(
    rec: Recommender, shelf: Shelf, wanted: Sequence[Wanted], before: Sequence[tuple[State, Event]] = ()
) -> tuple[list[Answer], list[Judged]]:
    """Do what `make_lists` does, for one model, in one product."""
    lists = len(wanted)
    asked = [ask_for(rec, one.state, one.question, shelf, at=one.at, who=one.who) for one in wanted]
    asked += [ask_for(rec, state, JUDGED, shelf, at=event.time, also=(event.item,)) for state, event in before]
    scored = score_all(rec, shelf, asked)
    unknown = [[event.item for event in one.events if event.item not in rec.vocabulary] for one in wanted]
    found = make_answers(rec, shelf, asked[:lists], scored[:lists], unknown)
    answers = [
        replace(answer, rebuilding=True) if one.rebuilding else answer
        for answer, one in zip(found, wanted, strict=True)
    ]
    return answers, judge(rec, [event for _, event in before], asked[lists:], scored[lists:])
