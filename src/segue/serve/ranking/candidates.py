"""Which rows are scored for a list: all of them, or what an index finds, and what may not be shown.

Knows: that an index finds candidates and `score_rows` says what they are worth; filters, seen items, stock. All
questions of a batch lie in one table, for a call of NumPy costs as much as a thousand of its numbers.
Does not know: what becomes of scores (`listing`, `quality`).

With an index, the candidates are the best rows that the list may show, with room for what it draws from (a
varied list looks at more), the best of each value of a boost, and what is pinned or asked for by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from segue.kernels.serving_loops import Best, best
from segue.recommend.batch import find_each, question_details, score_each, score_rows
from segue.recommend.index.exact import side_by_side
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.serve.ranking.item_filters import Shelf, rows_where
from segue.serve.ranking.types import ListOptions
from segue.shapes import Bools, Floats, Rows

#: Rows that a varied list is chosen from, unless it is longer: each place costs a look at all of them.
MOST = 2_000
_NONE, _ZERO = np.zeros(0, np.int32), np.zeros(1, np.int32)


@dataclass(frozen=True, eq=False)
class Asked:
    """A question of one user, in rows.

    Args:
        state: of the user.
        question: what is wanted.
        at: the time of the question, microseconds since 1970; None when unknown.
        excluded: int32[n], rows that this user is not to be shown.
        allowed: bool[row], what the question and the shelf allow; None allows all.
        also: int32[n], rows that are scored whatever an index finds.
        who: what tells those who ask apart, for what is drawn by chance.
    """

    state: State
    options: ListOptions
    at: int | None
    excluded: Rows
    allowed: Bools | None = None
    also: Rows = field(default_factory=lambda: _NONE)
    who: bytes = b""

    @property
    def places(self) -> int:
        """How many of the best rows a list is made of."""
        options = self.options
        return max(options.k, min(11 * options.k + 20, MOST)) if options.diversity or options.explore else options.k


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of some rows for each question; -inf for what may not be shown.

    Args:
        scores: float32[question, n], its lines one after the other in memory.
        rows: int32[question, n], row 0 first and where it fills up; None where these are all rows, in order.
    """

    scores: Floats
    rows: Rows | None = None

    def __getitem__(self, some: slice) -> "Scored":
        """Return the scores of some of the questions, not copied."""
        return Scored(self.scores[some], None if self.rows is None else self.rows[some])

    def add(self, values: Floats) -> None:
        """Add float32[row] to the scores, in place."""
        np.add(self.scores, values if self.rows is None else values[self.rows], out=self.scores)

    def of(self, options: int, rows: Rows) -> Floats:
        """Return float32[n], the scores of some rows, distinct and in order; -inf where one was not scored."""
        line = self.scores[options]
        if self.rows is None:
            scores: Floats = line[rows]
            return scores
        scores = np.full(len(rows), -np.inf, np.float32)
        _, places, columns = np.intersect1d(rows, self.rows[options], return_indices=True)
        scores[places] = line[columns]
        return scores

    def best(self, count: int) -> list[Best]:
        """Return for each question the rows of the highest scores and these.

        The best come first, of equals the lowest row; -inf is left out.
        """
        found = best(self.scores, count)
        if self.rows is None:
            return found
        return [Best(rows[places].tolist(), scores) for rows, (places, scores) in zip(self.rows, found, strict=True)]

    def hide(self, asked: Sequence[Asked]) -> None:
        """Set the scores of what the questions may not show to -inf, in place."""
        lines = np.repeat(np.arange(len(asked)), [len(one.excluded) for one in asked])
        hidden = np.concatenate([one.excluded for one in asked])
        if self.rows is None:
            self.scores[lines, hidden] = -np.inf
            for line, one in zip(self.scores, asked, strict=True):
                if one.allowed is not None:
                    line[~one.allowed] = -np.inf
            return
        of_line = np.arange(len(asked))[:, None] << 32  # with the row a number of its own: all lines at once
        self.scores[np.isin(of_line + self.rows, (lines << 32) + hidden)] = -np.inf
        for line, rows, one in zip(self.scores, self.rows, asked, strict=True):
            if one.allowed is not None:
                line[~one.allowed[rows]] = -np.inf


def ask_for(
    rec: Recommender,
    state: State,
    options: ListOptions,
    shelf: Shelf,
    *,
    at: int | None = None,
    also: Sequence[str] = (),
    who: bytes = b"",
) -> Asked:
    """Return what a user asks for, in rows.

    Args:
        rec: the model.
        state: of the user.
        question: what is wanted.
        shelf: what may be shown.
        at: the time of the question where it does not say one.
        also: ids of items that are to be scored in any case.
        who: what tells those who ask apart.

    Raises:
        ArgumentError: a filter names an attribute that items do not have.
    """
    excluded = rec.vocabulary.rows(options.exclude) if options.exclude else _NONE
    if (options.repeats or rec.repeats) == "exclude":
        seen = state.seen.to_rows()
        excluded = np.concatenate([excluded, seen]) if len(excluded) else seen
    allowed = shelf.shown
    if options.where:
        mask = rows_where(rec, options.where)
        allowed = mask if allowed is None else allowed & mask
    scored = rec.vocabulary.rows(also) if also and rec.index is not None else _NONE
    return Asked(state, options, at if options.at is None else options.at, excluded, allowed, scored, who)


def score_all(rec: Recommender, shelf: Shelf, asked: Sequence[Asked]) -> Scored:
    """Return the scores of some questions, before any rule but that what may not be shown is -inf.

    Cost: without an index O(questions x items x width), in one product; with one, that of its searches.
    """
    states, at = [one.state for one in asked], [one.at for one in asked]
    details = question_details(rec, [one.options for one in asked], at)
    if rec.index is None:
        scored = Scored(score_each(rec, states, at, details))
    else:
        rows = _candidates(rec, shelf, asked, details)
        scored = Scored(score_rows(rec, states, at, rows, details), rows)
    scored.hide(asked)
    return scored


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
                [one.at for one in some],
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
