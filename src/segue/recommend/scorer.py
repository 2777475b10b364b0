"""Scores and best items of a model: every list comes from here."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from segue.errors import ArgumentError
from segue.kernels.serving_loops import leave_out
from segue.model.backend import leaves
from segue.model.model import Model
from segue.model.network import Memory
from segue.model.transitions import blend_scores, likeliest, nothing_recent, transition_shares
from segue.recommend.filters.masks import FilterMasks
from segue.recommend.fused_inference import FusedInference
from segue.recommend.index.exact import SCORES, BestRows, Index, best_columns, side_by_side
from segue.recommend.likeness.attributes import SharedAttributes
from segue.recommend.likeness.co_counts import CoCounts
from segue.recommend.likeness.vectors import Whitening
from segue.recommend.state import Seen, State, States
from segue.shapes import Bools, Floats, Rows
from segue.trends.live_items import LiveItems

#: Candidates of the index and of the transition counts, beyond k.
MORE = 100
#: The most items of which the whitening of the vectors is made.
SAMPLE = 8192


class Item(NamedTuple):
    """One line of a list: the id, its score (an unnormalised log-probability), its title if there is one.

    Compare scores within a list only: +0.7 means about twice as likely.
    """

    item: str
    score: float
    title: str | None


@dataclass(frozen=True, eq=False, repr=False)
class Scorer(Model):
    """A model with its cached constants, and an index where there is one.

    Args:
        index: finds the items of a list; None scores all items for each list.
        live: the trends that lists follow; None for lists that only the user's own events move.
        base: the same without trends, where there are any.
    """

    index: Index | None = None
    live: LiveItems | None = None
    base: Any = None

    @cached_property
    def empty_memory(self) -> Memory:
        """The memory of a user before any event, for its shapes."""
        return self.network.empty(self.params, 1)

    @cached_property
    def new_user(self) -> State:
        """The state of a user without events and without a profile."""
        memory, seen = self.network.start(self.params), Seen(self.vocabulary.learnt_size)
        return State(memory, None, 0, seen, self.fingerprint, nothing_recent(1))

    @cached_property
    def no_memory(self) -> Floats:
        """float32[n], zeros: one for each number of the memory of a user."""
        return np.zeros(sum(array.size for _, array in leaves(self.empty_memory)), np.float32)

    @cached_property
    def filters(self) -> FilterMasks:
        """The filters over the items, with the masks that were used last."""
        return FilterMasks(self.vocabulary, self.catalogue, self.columns)

    @cached_property
    def fused(self) -> FusedInference:
        """The network for a small batch, in few calls."""
        return FusedInference(self.network, self.params)

    @cached_property
    def co_counts(self) -> CoCounts | None:
        """How often items come near each other; None without transition counts. Cost: O(pairs), once."""
        return None if self.counts is None else CoCounts.of(self.counts)

    @cached_property
    def whitening(self) -> Whitening:
        """What takes out of the vectors what all items share. Made of a sample of items, once."""
        learnt = np.linspace(1, self.learnt_rows - 1, min(SAMPLE, self.learnt_rows - 1)).astype(np.int32)
        return Whitening.of(self.params.items[learnt])

    @cached_property
    def shared_attributes(self) -> SharedAttributes | None:
        """Which items share categories and words of the title; None without a catalogue. Cost: O(items), once."""
        return None if self.catalogue is None else SharedAttributes(self.catalogue, self.filters.columns.values())

    def score_outputs(
        self, output: Floats, gaps: Floats, recent: Rows, details: Floats | None = None, rows: Rows | None = None
    ) -> Floats:
        """Return float32[user, row], unnormalised log-probabilities of all rows or of some; row 0 is scored too.

        Args:
            output: float32[user, d], the last output of the memory of each.
            gaps: float32[user], seconds from the last event to the request; NaN unknown.
            recent: int32[user, RECENT], the last items of each.
            details: float32[user, m], what is known of the next event.
            rows: int32[n], the same for all, or int32[user, n]; None scores all.
        """
        query = self.fused.query(output, gaps, details)
        scores: Floats = self.fused.scores(query) if rows is None else self.network.scores(self.params, query, rows)
        return self.finished(scores, recent, rows)

    def finished(self, scores: Floats, recent: Rows, rows: Rows | None) -> Floats:
        """Return the network's scores blended with the transition counts, in place where all rows were scored."""
        if self.counts is not None:
            scores = blend_scores(self.counts, scores, recent, rows)
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
        """Return for each user rows in order, among which are, as far as the index finds them, the k best.

        The index finds them by the network alone; the transition counts add the likeliest successors of the last
        items. With counts or trends, more than k are found, because these change the order.

        Args:
            output, gaps, recent, details: as of `score_outputs`.
            k: how many of the best are wanted.
            allowed: bool[row], what the index may find; None allows all. The successors ignore it.
            excluded: for each user the rows to leave out.

        Raises:
            ArgumentError: there is no index.
        """
        if self.index is None:
            raise ArgumentError("candidates: expected a recommender with an index, came one without. Use with_index.")
        query = self.fused.query(output, gaps, details)
        count = k if self.counts is None and self.live is None else 2 * k + MORE
        best = self.index.search(query, min(count, self.vocabulary.size), allowed=allowed, excluded=excluded).rows
        lists = [rows[rows > 0] for rows in np.sort(best, axis=1)]
        if self.counts is None:
            return lists
        successors = likeliest(transition_shares(self.counts, recent), k + MORE)
        if excluded is not None:
            successors = [rows[~np.isin(rows, out)] for rows, out in zip(successors, excluded, strict=True)]
        return [np.union1d(*pair).astype(np.int32) for pair in zip(lists, successors, strict=True)]

    def best_each(
        self,
        output: Floats,
        gaps: Floats,
        recent: Rows,
        k: int,
        details: Floats | None = None,
        *,
        excluded: Sequence[Rows] = (),
        allowed: Bools | None = None,
    ) -> BestRows:
        """Return the k best rows of each user, best first, of equals the first row.

        Args:
            output, gaps, recent, details: as of `score_outputs`.
            k: how many.
            excluded: for each user the rows to leave out; empty leaves out nothing.
            allowed: bool[row], what a list may hold; None allows all.

        Cost: O(users x items x width) without an index; memory of `SCORES` scores.
        """
        k, step = min(k, self.vocabulary.size), max(1, SCORES // self.vocabulary.size)
        best = [BestRows.nothing(0, k)]
        for begin in range(0, len(output), step):
            users = slice(begin, begin + step)
            asked, left_out = (output[users], gaps[users], recent[users]), excluded[users]
            known = None if details is None else details[users]
            if self.index is None:
                rows, scores = None, leave_out(self.score_outputs(*asked, known), left_out, allowed=allowed)
            else:
                rows = side_by_side(self.candidates(*asked, k, known, allowed=allowed, excluded=left_out or None))
                scores = self.score_outputs(*asked, known, rows)
                scores[(rows == 0) if allowed is None else ~allowed[rows]] = -np.inf
            best.append(best_columns(rows, scores, k))
        return BestRows(*(np.concatenate(parts) for parts in zip(*best, strict=True)))

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
                "A state means nothing to other weights: rebuild it with rec.encode(events)."
            )
