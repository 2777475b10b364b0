"""Scores and best items of a model: what every list comes from.

Knows: the scores of all rows or of some, what is left out, an index where there is one, titles.
Does not know: how a state comes about, policies, files, HTTP.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from segue.errors import ArgumentError
from segue.model.backend import leaves
from segue.model.model import Model
from segue.model.network import Memory
from segue.model.transitions import expected, likeliest, with_counts
from segue.recommend.fused_inference import Folded
from segue.recommend.index.approximate import exact_index
from segue.recommend.index.exact import SCORES, Found, Index, best_columns, side_by_side
from segue.recommend.state import State, States
from segue.shapes import Bools, Floats, Rows

#: Candidates of an index, and of the counts, beside those asked for.
MORE = 100


class Item(NamedTuple):
    """One line of a list: the id, its score (a log-odds: higher is better), its title if there is one."""

    item: str
    score: float
    title: str | None


@dataclass(frozen=True, eq=False)
class Scorer(Model):
    """A model that scores: what is computed once is kept, and an index finds the best items.

    Args:
        index: finds the items of a list; None scores all of them.
    """

    index: Index | None = None

    @cached_property
    def empty_memory(self) -> Memory:
        """The memory of one user who has read nothing: its shapes."""
        return self.network.empty(self.params, 1)

    @cached_property
    def no_memory(self) -> Floats:
        """float32[n], zeros: as many numbers as the memory of one user has."""
        return np.zeros(sum(array.size for _, array in leaves(self.empty_memory)), np.float32)

    @cached_property
    def folded(self) -> Folded:
        """What the network computes for a batch, in few calls."""
        return Folded(self.network, self.params)

    def score_outputs(
        self, output: Floats, gaps: Floats, recent: Rows, details: Floats | None = None, rows: Rows | None = None
    ) -> Floats:
        """Return float32[user, row]: a log-odds for each row of the catalogue, or for some rows; row 0 is scored too.

        Args:
            output: float32[user, d], the last output of the memory of each.
            gaps: float32[user], seconds from the last event to the question; NaN unknown.
            recent: int32[user, RECENT], the last items of each.
            details: float32[user, m], what is known of the event to come.
            rows: int32[n], the same for all, or int32[user, n]; None scores all.
        """
        query = self.folded.query(output, gaps, details)
        scores: Floats = self.folded.scores(query) if rows is None else self.network.scores(self.params, query, rows)
        return self.finished(scores, recent, rows)

    def finished(self, scores: Floats, recent: Rows, rows: Rows | None) -> Floats:
        """Return the network's scores with what else `score_outputs` knows, in place where all rows were scored."""
        if self.counts is not None:
            scores = with_counts(self.counts, scores, recent, rows)
        if rows is None:
            scores[:, self.unreachable] = -np.inf
        elif len(self.unreachable):
            scores = np.where(np.isin(rows, self.unreachable), np.float32(-np.inf), scores)
        return scores

    def candidates(
        self,
        output: Floats,
        gaps: Floats,
        recent: Rows,
        k: int,
        details: Floats | None = None,
        *,
        allowed: Bools | None = None,
        excluded: Sequence[Rows] | None = None,
    ) -> list[Rows]:
        """Return for each user rows among which are, as far as the index finds them, the k best.

        They are those that the index finds for the network alone, and those that the last items let one expect most
        often. Where counts are mixed in, more than k are found, for the mixture orders them anew.

        Args:
            output: as of `score_outputs`, and so the other arrays.
            gaps: of each user.
            recent: of each user.
            k: how many of the best are to be among them.
            details: of each user.
            allowed: bool[row], what may be found; None allows all. Rows that are expected are not held to it.
            excluded: for each user the rows to leave out, held to likewise.

        Raises:
            ArgumentError: there is no index.
        """
        if self.index is None:
            raise ArgumentError("candidates: expected a recommender with an index, came one without. Use with_index.")
        query = self.folded.query(output, gaps, details)
        count = k if self.counts is None else 2 * k + MORE
        found = self.index.search(query, min(count, self.vocabulary.size), allowed=allowed, excluded=excluded).rows
        lists = [rows[rows > 0] for rows in found]
        if self.counts is None:
            return lists
        also = likeliest(expected(self.counts, recent), k + MORE)
        if excluded is not None:
            also = [rows[~np.isin(rows, out)] for rows, out in zip(also, excluded, strict=True)]
        return [np.union1d(*pair).astype(np.int32) for pair in zip(lists, also, strict=True)]

    def _best(self, scores: Floats, k: int, rows: Rows | None = None) -> list[Item]:
        """Return the items of the k highest scores, of equals the first row; `rows` are theirs, or all of them."""
        if rows is None:
            rows = np.arange(len(scores), dtype=np.int32)
        scores = np.where(rows == 0, np.float32(-np.inf), scores)
        best = np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(len(scores))
        best = best[np.lexsort((rows[best], -scores[best]))]
        return [self._item(int(rows[at]), float(scores[at])) for at in best if scores[at] > -np.inf]

    def _item(self, row: int, score: float) -> Item:
        return self._items([row], [score])[0]

    def _items(self, rows: Sequence[int], scores: Sequence[float]) -> list[Item]:
        ids, catalogue = self.vocabulary.texts, self.catalogue
        titles = itertools.repeat(None) if catalogue is None else map(catalogue.title, rows)
        return list(map(Item, [ids[row - 1] for row in rows], scores, titles))

    def _check(self, state: State | States) -> None:
        if state.model != self.fingerprint:
            raise ArgumentError(
                f"state: expected one of model {self.fingerprint[:12]}, came one of {state.model[:12]}. "
                "A state means nothing to other weights: rebuild it with scorer.encode(events)."
            )


def best_each(
    scorer: Scorer,
    outputs: Floats,
    gaps: Floats,
    recent: Rows,
    k: int,
    details: Floats | None = None,
    *,
    excluded: Sequence[Rows] | None = None,
) -> Found:
    """Return the k best rows of each user, best first, of equals the first row.

    Args:
        scorer: whose states these are; its index finds the rows if it has one.
        outputs: float32[user, n], the last output of the memory of each.
        gaps: float32[user], seconds from the last event to the question; NaN unknown.
        recent: int32[user, RECENT], the last items of each.
        k: how many.
        details: float32[user, m], what is known of the events to come.
        excluded: for each user the rows to leave out; None leaves out nothing.

    Cost: O(users x items x width) without an index; memory of `SCORES` scores.
    """
    k = min(k, scorer.vocabulary.size)
    if scorer.index is None and scorer.counts is None:
        return exact_index(scorer).search(
            scorer.network.query(scorer.params, outputs, gaps, details), k, excluded=excluded
        )
    rows, scores = np.zeros((len(outputs), k), np.int32), np.full((len(outputs), k), -np.inf, np.float32)
    for users in _blocks(len(outputs), scorer.vocabulary.size):
        asked = (outputs[users], gaps[users], recent[users])
        known_of = None if details is None else details[users]
        left_out = excluded[users] if excluded is not None else [np.zeros(0, np.int32)] * len(asked[0])
        if scorer.index is None:
            found = scorer.score_outputs(*asked, known_of)
            for line, out in zip(found, left_out, strict=True):
                line[out] = -np.inf
            known = np.broadcast_to(np.arange(found.shape[1], dtype=np.int32), found.shape)
        else:
            known = side_by_side(scorer.candidates(*asked, k, known_of, excluded=left_out))
            found = scorer.score_outputs(*asked, known_of, known)
        found[known == 0] = -np.inf
        rows[users], scores[users] = best_columns(known, found, k)
    return Found(rows, scores)


def _blocks(users: int, items: int) -> Iterator[slice]:
    step = max(1, SCORES // items)
    return (slice(begin, begin + step) for begin in range(0, users, step))
