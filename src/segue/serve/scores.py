"""Which rows are scored for a list: all of them, or what an index finds, and what may not be shown.

Knows: that an index finds candidates and `score_rows` says what they are worth; filters, seen items, stock.
Does not know: what becomes of scores (`listing`, `quality`).

With an index, the candidates are the best rows that the list may show, with room for what it draws from (a
varied list looks at more), the best of each value of a boost, and what is pinned or asked for by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from segue.recommend.index import side_by_side
from segue.recommend.many import find_each, question_details, score_each, score_rows
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.serve.answers import Question
from segue.serve.shelf import Shelf, rows_where
from segue.shapes import Bools, Floats, Rows

_NONE, _ZERO = np.zeros(0, np.int32), np.zeros(1, np.int32)


@dataclass(frozen=True, eq=False)
class Asked:
    """A question of one user, in rows.

    Args:
        state: of the user.
        question: what is wanted.
        excluded: int32[n], rows that this user is not to be shown.
        allowed: bool[row], what the question and the shelf allow; None allows all.
        also: int32[n], rows that are scored whatever an index finds.
    """

    state: State
    question: Question
    excluded: Rows
    allowed: Bools | None = None
    also: Rows = field(default_factory=lambda: _NONE)

    @property
    def places(self) -> int:
        """How many of the best rows a list is made of."""
        question = self.question
        return 11 * question.k + 20 if question.diversity or question.explore else question.k


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of some rows; -inf for what may not be shown.

    Args:
        scores: float32[n].
        rows: int32[n], row 0 first and where it fills up; None where these are all rows, in order.
    """

    scores: Floats
    rows: Rows | None = None

    @property
    def known(self) -> Rows:
        """int32[n], the row of each score."""
        return np.arange(len(self.scores), dtype=np.int32) if self.rows is None else self.rows

    def add(self, values: Floats) -> None:
        """Add float32[row] to the scores, in place."""
        np.add(self.scores, values if self.rows is None else values[self.rows], out=self.scores)

    def of(self, rows: Rows) -> Floats:
        """Return float32[n], the scores of some rows, distinct and in order; -inf where one was not scored."""
        if self.rows is None:
            scores: Floats = self.scores[rows]
            return scores
        scores = np.full(len(rows), -np.inf, np.float32)
        _, places, columns = np.intersect1d(rows, self.rows, return_indices=True)
        scores[places] = self.scores[columns]
        return scores

    def best(self, count: int) -> tuple[Rows, Floats]:
        """Return the rows of the highest scores and these, best first, of equals the lowest row; -inf is left out."""
        places = _places_of_best(self.scores, count)
        scores = self.scores[places]
        rows: Rows = places if self.rows is None else self.rows[places]
        best = np.lexsort((rows, -scores))[:count]
        best = best[scores[best] > -np.inf]
        return rows[best], scores[best]

    def hide(self, asked: Asked) -> None:
        """Set the scores of what a question may not show to -inf, in place."""
        scores, rows = self.scores, self.rows
        if rows is None:
            scores[asked.excluded] = -np.inf
            if asked.allowed is not None:
                scores[~asked.allowed] = -np.inf
        else:
            scores[np.isin(rows, asked.excluded)] = -np.inf
            if asked.allowed is not None:
                scores[~asked.allowed[rows]] = -np.inf


def ask_for(rec: Recommender, state: State, question: Question, shelf: Shelf, also: Rows = _NONE) -> Asked:
    """Return what a user asks for, in rows.

    Raises:
        ArgumentError: a filter names an attribute that items do not have.
    """
    excluded = rec.vocabulary.rows(question.exclude) if question.exclude else _NONE
    if (question.repeats or rec.repeats) == "exclude":
        seen = state.seen.to_rows()
        excluded = np.concatenate([excluded, seen]) if len(excluded) else seen
    allowed = shelf.shown
    if question.where:
        mask = rows_where(rec, question.where)
        allowed = mask if allowed is None else allowed & mask
    return Asked(state, question, excluded, allowed, also)


def score_all(rec: Recommender, shelf: Shelf, asked: Sequence[Asked]) -> list[Scored]:
    """Return the scores of each question, before any rule but that what may not be shown is -inf.

    Cost: without an index O(questions x items x width), in one product; with one, that of its searches.
    """
    if not asked:
        return []
    states, at = [one.state for one in asked], [one.question.at for one in asked]
    details = question_details(rec, [(one.question.type, one.question.context) for one in asked])
    if rec.index is None:
        found = [Scored(line) for line in score_each(rec, states, at, details)]
    else:
        rows = _candidates(rec, shelf, asked, details)
        scores = score_rows(rec, states, at, rows, details)
        found = [Scored(*pair) for pair in zip(scores, rows, strict=True)]
    for scored, one in zip(found, asked, strict=True):
        scored.hide(one)
    return found


def _candidates(rec: Recommender, shelf: Shelf, asked: Sequence[Asked], details: Floats | None) -> Rows:
    """Return int32[question, n], each row once, row 0 first and to fill up."""
    lists: list[list[Rows]] = [[_ZERO, one.also, shelf.pins] for one in asked]
    groups: dict[int, list[int]] = {}
    for n, one in enumerate(asked):
        groups.setdefault(id(one.allowed), []).append(n)
    for places in groups.values():
        some = [asked[n] for n in places]
        for mask in _masks(some[0].allowed, shelf.classes):
            found = find_each(
                rec,
                [one.state for one in some],
                [one.question.at for one in some],
                min(max(one.places for one in some), rec.vocabulary.size),
                None if details is None else details[places],
                allowed=mask,
                excluded=[one.excluded for one in some],
            )
            for n, rows in zip(places, found, strict=True):
                lists[n].append(rows)
    return side_by_side([np.unique(np.concatenate(rows)) for rows in lists])


def _masks(allowed: Bools | None, classes: list[Bools] | None) -> list[Bools | None]:
    if classes is None:
        return [allowed]
    return [one if allowed is None else one & allowed for one in classes]


def _places_of_best(scores: Floats, count: int) -> Rows:
    """Return the places of the `count` highest scores and of what is equal to the last of them, in any order.

    What is -inf may be left out.

    They lie in the `count` groups with the highest maxima, so that most scores are looked at once. A group is every
    n-th score, so that maxima are taken of neighbours all at a time.
    """
    block = max(1, int((len(scores) / (4 * count)) ** 0.5))
    groups = len(scores) // block
    if block > 1 and groups > 4 * count:
        tops = scores[: groups * block].reshape(block, groups).max(axis=0)
        edge = np.partition(tops, groups - count)[groups - count]
        # All groups that tie with the last, but none in which nothing may be shown: much may be hidden.
        best = np.flatnonzero((tops >= edge) & (tops > -np.inf))
        places = (np.arange(block)[:, None] * groups + best).ravel()
        places = np.concatenate([places, np.arange(groups * block, len(scores))])
    else:
        places = np.arange(len(scores))
    some = scores[places]
    if len(places) > count:
        edge = np.partition(some, len(some) - count)[len(some) - count]
        places = places[some >= edge]
    return places.astype(np.int32)
