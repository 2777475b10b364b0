"""Queries about held-out events, and where one model ranks their targets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.data.sequences.sequences import Sequences
from segue.kernels.serving_loops import leave_out, top_k
from segue.metrics.ranks import target_ranks
from segue.model.transitions import RECENT
from segue.shapes import Floats, Rows, Times

#: Queries that are scored at once.
BLOCK = 256


@dataclass(frozen=True)
class Queries:
    """Held-out events with the events before them.

    Args:
        sequences: histories and held-out events together.
        events: int64[query], where the targets stand in `sequences`.
        users: int64[query], whose they are.
    """

    sequences: Sequences
    events: Times
    users: Times

    @property
    def targets(self) -> Rows:
        """int32[query]: the rows that came next; 0 where the item is unknown."""
        return self.sequences.items[self.events]

    def history(self, query: int) -> Rows:
        """Return the rows of the events before a query, oldest first."""
        return self.sequences.items[self.sequences.offsets[self.users[query]] : self.events[query]]

    def recent(self, block: range) -> Rows:
        """Return int32[query, RECENT]: the last items before some queries."""
        some = slice(block.start, block.stop)
        return self.sequences.recent_before(self.events[some], self.sequences.offsets[self.users[some]], RECENT)

    def items_only(self) -> "Queries":
        """Return the same without what only a network reads: times, ratings, details, profiles."""
        whole = self.sequences
        return replace(self, sequences=Sequences(whole.users, whole.offsets, whole.items))


class RankingTask(NamedTuple):
    """Queries, and the seen items that their lists exclude.

    Args:
        seen: as many, whose histories the lists exclude; None where seen items are allowed.
    """

    queries: Queries
    seen: Queries | None = None

    def excluded(self, block: range) -> list[Rows]:
        """Return the rows to exclude for each query of a block; an empty list where seen items are allowed."""
        return [self.seen.history(query) for query in block] if self.seen else []


@dataclass
class Rankings:
    """Where a model ranks the targets, and its lists, block after block."""

    ranks: list[NDArray[np.float64]]
    lists: list[Rows]

    def add(self, scores: Floats, targets: Rows, excluded: Sequence[Rows]) -> None:
        """Rank the targets of a block.

        Args:
            scores: float32[query, item], changed.
            targets: int32[query]; 0 is a miss.
            excluded: for each query the rows to exclude; empty to exclude nothing.
        """
        leave_out(scores, excluded)
        known = targets > 0
        ranks = np.full(len(targets), scores.shape[1], np.float64)
        ranks[known] = target_ranks(scores[known], targets[known])
        self.ranks.append(ranks)
        self.lists.append(top_k(np.ascontiguousarray(scores, np.float32), 10).places.astype(np.int32))


def rank_queries(task: RankingTask, score: Callable[[range], Floats]) -> Rankings:
    """Return how a model ranks, a block of queries at a time.

    Args:
        score: gives float32[query, item] for some of the queries; the array is changed.
    """
    rankings, count = Rankings([], []), len(task.queries.events)
    for begin in range(0, count, BLOCK):
        block = range(begin, min(begin + BLOCK, count))
        rankings.add(score(block), task.queries.targets[block.start : block.stop], task.excluded(block))
    return rankings
