"""Questions about held-out events, and the answers of one model to them.

Knows: histories, targets, what is left out of a list. Does not know: what scores, or where the events came from.
"""

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

#: Questions that are scored at once.
BLOCK = 256


@dataclass(frozen=True)
class Questions:
    """Held-out events with what stood before them.

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
        """Return the rows of the events before a question, oldest first."""
        return self.sequences.items[self.sequences.offsets[self.users[query]] : self.events[query]]

    def recent(self, block: range) -> Rows:
        """Return int32[query, RECENT]: the last items before some questions."""
        asked = slice(block.start, block.stop)
        return self.sequences.recent_before(self.events[asked], self.sequences.offsets[self.users[asked]], RECENT)

    def bare(self) -> "Questions":
        """Return the same without what only a network reads: times, ratings, details, profiles."""
        whole = self.sequences
        return replace(self, sequences=Sequences(whole.users, whole.offsets, whole.items))


class Exam(NamedTuple):
    """Questions, and what is left out of the answers to them.

    Args:
        asked: the questions.
        seen: as many, whose histories are left out of the lists; None where nothing is.
    """

    asked: Questions
    seen: Questions | None = None

    def left_out(self, block: range) -> list[Rows]:
        """Return the rows to leave out for each question of a block, or nothing at all."""
        return [self.seen.history(query) for query in block] if self.seen else []


@dataclass
class Tally:
    """Ranks and lists of one model, block after block."""

    ranks: list[NDArray[np.float64]]
    lists: list[Rows]

    def add(self, scores: Floats, targets: Rows, seen: Sequence[Rows]) -> None:
        """Rank the targets of a block.

        Args:
            scores: float32[query, item], changed.
            targets: int32[query]; 0 is a miss.
            seen: for each query the rows to leave out, or nothing at all.
        """
        leave_out(scores, seen)
        known = targets > 0
        ranks = np.full(len(targets), scores.shape[1], np.float64)
        ranks[known] = target_ranks(scores[known], targets[known])
        self.ranks.append(ranks)
        self.lists.append(top_k(np.ascontiguousarray(scores, np.float32), 10).places.astype(np.int32))


def tally(exam: Exam, score: Callable[[range], Floats]) -> Tally:
    """Return what a model answers, a block of questions at a time.

    Args:
        exam: the questions.
        score: gives float32[query, item] for some of the questions; it is changed.
    """
    found, count = Tally([], []), len(exam.asked.events)
    for begin in range(0, count, BLOCK):
        block = range(begin, min(begin + BLOCK, count))
        found.add(score(block), exam.asked.targets[block.start : block.stop], exam.left_out(block))
    return found
