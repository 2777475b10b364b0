"""Which items are scored for a list, their scores, and what is excluded.

This file decides what a list may not hold: seen items, ids to exclude, items that a filter drops, and
what `item_filters` holds back.

All queries of a batch lie in one table, because a call of NumPy costs as much as a thousand numbers.

Does not know: what becomes of scores (`rerank`, `event_ranks`).

With an index, the candidates are the best rows that the list may show, with room for what it draws from (a
varied list looks at more), the best of each value of a boost, and what is pinned or named.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from segue.kernels.serving_loops import Best, best, leave_out
from segue.recommend.batch import find_each, question_details, score_each, score_rows
from segue.recommend.filters.binding import Known
from segue.recommend.filters.masks import Passing
from segue.recommend.index.exact import side_by_side
from segue.recommend.lists.item_filters import ItemFilters, classes_of
from segue.recommend.lists.live_scores import follow_trends, seen_rows, trending_rows
from segue.recommend.lists.options import ListOptions
from segue.recommend.scorer import Scorer
from segue.recommend.state import State
from segue.shapes import Bools, Floats, Rows

#: Rows that a varied list is chosen from, unless it is longer: each place costs a look at all of them.
MOST = 2_000
_NONE, _ZERO = np.zeros(0, np.int32), np.zeros(1, np.int32)


@dataclass(frozen=True, eq=False)
class ListQuery:
    """A list that one user wants, in rows.

    Args:
        state: of the user.
        options: of the list.
        at: the time of the request, microseconds since 1970; None when unknown.
        excluded: int32[n], rows that this user is not to be shown.
        allowed: bool[row], what the options and the item filters allow; None allows all.
        also: int32[n], rows that are scored whatever an index finds.
        who: what tells users apart, for draws by chance.
        left: how many items the filter and the candidates of the options leave; None where they leave all.
        notes: on the filter, in sentences.
        unknown: ids of the candidates that the model does not know.
        added: float32[row], added to the scores of this list alone: its boosts and discounts.
        classes: where the list has boosts, bool[row] for each value of all boosts, those of the shop too.
    """

    state: State
    options: ListOptions
    at: int | None
    excluded: Rows
    allowed: Bools | None = None
    also: Rows = field(default_factory=lambda: _NONE)
    who: bytes = b""
    left: int | None = None
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    added: Floats | None = None
    classes: list[Bools] | None = None

    @property
    def places(self) -> int:
        """How many of the best rows a list is made of."""
        options = self.options
        wide = options.diversity or options.explore or options.temperature
        return max(options.k, min(11 * options.k + 20, MOST)) if wide else options.k


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of some rows for each query; -inf for what may not be shown.

    Args:
        scores: float32[query, n], its lines one after the other in memory.
        rows: int32[query, n], row 0 first and where it fills up; None where these are all rows, in order.
    """

    scores: Floats
    rows: Rows | None = None

    def __getitem__(self, some: slice) -> "Scored":
        """Return the scores of some of the queries, not copied."""
        return Scored(self.scores[some], None if self.rows is None else self.rows[some])

    def add(self, values: Floats) -> None:
        """Add float32[row] to the scores, in place."""
        np.add(self.scores, values if self.rows is None else values[self.rows], out=self.scores)

    def add_to(self, query: int, values: Floats) -> None:
        """Add float32[row] to the scores of one query, in place."""
        self.scores[query] += values if self.rows is None else values[self.rows[query]]

    def of(self, query: int, rows: Rows) -> Floats:
        """Return float32[n], the scores of some rows, distinct and in order; -inf where one was not scored."""
        line = self.scores[query]
        if self.rows is None:
            scores: Floats = line[rows]
            return scores
        scores = np.full(len(rows), -np.inf, np.float32)
        _, places, columns = np.intersect1d(rows, self.rows[query], return_indices=True)
        scores[places] = line[columns]
        return scores

    def best(self, count: int) -> list[Best]:
        """Return for each query the rows of the highest scores, and the scores.

        The best come first, of equals the lowest row; -inf is left out.
        """
        found = best(self.scores, count)
        if self.rows is None:
            return found
        return [Best(rows[places].tolist(), scores) for rows, (places, scores) in zip(self.rows, found, strict=True)]

    def hide(self, queries: Sequence[ListQuery]) -> None:
        """Set the scores of what the queries may not show to -inf, in place."""
        if self.rows is None:
            leave_out(self.scores, [one.excluded for one in queries])
            for line, one in zip(self.scores, queries, strict=True):
                if one.allowed is not None:
                    line[~one.allowed] = -np.inf
            return
        lines = np.repeat(np.arange(len(queries)), [len(one.excluded) for one in queries])
        hidden = np.concatenate([one.excluded for one in queries])
        of_line = np.arange(len(queries))[:, None] << 32  # with the row a number of its own: all lines at once
        self.scores[np.isin(of_line + self.rows, (lines << 32) + hidden)] = -np.inf
        for line, rows, one in zip(self.scores, self.rows, queries, strict=True):
            if one.allowed is not None:
                line[~one.allowed[rows]] = -np.inf


def list_query(
    rec: Scorer,
    state: State,
    options: ListOptions,
    filters: ItemFilters,
    *,
    at: int | None = None,
    also: Sequence[str] = (),
    who: bytes = b"",
) -> ListQuery:
    """Return the list that a user wants, in rows.

    Args:
        rec: the model.
        state: of the user.
        options: of the list.
        filters: what may be shown.
        at: the time of the request where the options do not say it.
        also: ids of items that are to be scored in any case.
        who: what tells users apart.

    Raises:
        ArgumentError: a filter names an attribute that items do not have.
    """
    excluded = rec.vocabulary.rows(options.exclude) if options.exclude else _NONE
    if (options.repeats or rec.repeats) == "exclude":
        seen = seen_rows(rec, state)
        excluded = np.concatenate([excluded, seen]) if len(excluded) else seen
    scored = rec.vocabulary.rows(also) if also and rec.index is not None else _NONE
    at = at if options.at is None else options.at
    query = ListQuery(state, options, at, excluded, filters.shown, scored, who)
    if options.boosts or options.discounts:
        query = _with_own_scores(rec, query, filters)
    if (left := narrowed(rec, options, at)) is None:
        return query
    allowed = left.mask if query.allowed is None else left.mask & query.allowed
    return replace(query, allowed=allowed, left=left.count, notes=left.notes, unknown=left.unknown)


def _with_own_scores(rec: Scorer, query: ListQuery, filters: ItemFilters) -> ListQuery:
    """Return a query with its boosts and discounts. Cost: a pass over the items for each boost."""
    options, size = query.options, rec.vocabulary.size
    added, classes = np.zeros(size, np.float32), None
    for rule in options.boosts:
        passing = rec.filters.passing(rule.where, known_by(rec, options, query.at))
        boosted = np.ones(size, bool) if passing is None else passing.mask
        if rule.items:
            boosted = boosted & np.isin(np.arange(size), rec.vocabulary.rows(rule.items))
        added[boosted] += np.float32(rule.by)
    if options.boosts:
        classes = classes_of(added if filters.boosts is None else added + filters.boosts)
    if options.discounts:
        np.subtract.at(added, rec.vocabulary.rows(list(options.discounts)), list(options.discounts.values()))
    return replace(query, added=added, classes=classes)


def narrowed(rec: Scorer, options: ListOptions, at: int | None) -> Passing | None:
    """Return what the filter and the candidates of some options leave; None where there are none.

    Raises:
        ArgumentError: the filter does not fit the items.
    """
    passing = None if options.where is None else rec.filters.passing(options.where, known_by(rec, options, at))
    if options.candidates is None:
        return passing
    rows = rec.vocabulary.rows(options.candidates)
    unknown = tuple(options.candidates[place] for place in np.flatnonzero(rows == 0).tolist())
    mask = np.zeros(rec.vocabulary.size, bool)
    mask[rows[rows > 0]] = True
    if passing is not None:
        mask &= passing.mask
    return Passing(mask, int(np.count_nonzero(mask)), passing.notes if passing else (), unknown)


def check_filter(rec: Scorer, options: ListOptions) -> None:
    """Do nothing if the filters of some options, if any, fit the items of a model; see `binding.bind`."""
    for where in (options.where, *(rule.where for rule in options.boosts)):
        if where is not None:
            rec.filters.check(where, known_by(rec, options, options.at))


def known_by(rec: Scorer, options: ListOptions, at: int | None) -> Known:
    """Return what a request knows, for its filter; without a time of the request the time is that of the clock."""
    current: Mapping[str, Any] | None = None
    if options.current is not None:
        row = rec.vocabulary.row(options.current)
        current = rec.catalogue.line(row) if row and rec.catalogue else {}
    now = at if options.at is None else options.at
    return Known(int(time.time() * 1e6) if now is None else now, options.profile, options.params, current)


def score(rec: Scorer, filters: ItemFilters, queries: Sequence[ListQuery]) -> Scored:
    """Return the scores of some queries, before any rule; what may not be shown is -inf.

    Cost: without an index O(queries x items x width), in one product; with one, that of its searches.
    """
    states, at = [one.state for one in queries], [one.at for one in queries]
    details = question_details(rec, [one.options for one in queries], at)
    if rec.index is None:
        scored = Scored(follow_trends(rec, score_each(rec, states, at, details), states, at))
    else:
        rows = _candidates(rec, filters, queries, details)
        scored = Scored(follow_trends(rec, score_rows(rec, states, at, rows, details), states, at, rows), rows)
    scored.hide(queries)
    return scored


def _candidates(rec: Scorer, filters: ItemFilters, queries: Sequence[ListQuery], details: Floats | None) -> Rows:
    """Return int32[query, n], each row once, row 0 first and to fill up."""
    lists: list[list[Rows]] = [[_ZERO, one.also, filters.pins] for one in queries]
    trending = trending_rows(rec, [one.state for one in queries], [one.at for one in queries])
    for parts, more in zip(lists, trending, strict=False):
        parts.append(more)
    groups: dict[tuple[int, int], list[int]] = {}
    for n, one in enumerate(queries):
        groups.setdefault((id(one.allowed), id(one.classes)), []).append(n)
    for places in groups.values():
        some = [queries[n] for n in places]
        for mask in _masks(some[0].allowed, some[0].classes or filters.classes):
            found = find_each(
                rec,
                [one.state for one in some],
                [one.at for one in some],
                min(max(one.places + len(one.options.discounts) for one in some), rec.vocabulary.size),
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
