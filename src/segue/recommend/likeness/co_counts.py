"""Items alike by what people do: how often they come near each other, popularity taken out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.model.transitions import TransitionCounts
from segue.shapes import Floats, Rows

#: Events that are added to those of each item, so that chance does not make rare items alike.
PRIOR = 10.0


@dataclass(frozen=True, eq=False)
class CoCounts:
    """How often items come near each other, in either order.

    Transition counts are scaled for lists: their rows by a power of their sums, their columns by a power of the
    popularity. Here each row adds up to the popularity of its item, and so does each column (one step of Sinkhorn's
    scaling), whatever the powers were.

    Args:
        counts: what followed what.
        before: the same by the second item.
        rows: float64[V], the factor of each first item.
        columns: float64[V], the factor of each second item.
        events: float64[V], about how many events each item has.

    Memory: a copy of the pairs.
    """

    counts: TransitionCounts
    before: sparse.csr_array
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    events: NDArray[np.float64]

    @classmethod
    def of(cls, counts: TransitionCounts) -> "CoCounts":
        """Return them for transition counts. Cost: O(pairs)."""
        pairs, popularity = counts.pairs, counts.popularity.astype(np.float64)
        tiny = np.finfo(np.float64).tiny
        rows = popularity / np.maximum(np.asarray(pairs.sum(axis=1)).ravel(), tiny)
        columns = popularity / np.maximum(rows @ pairs, tiny)
        return cls(counts, pairs.T.tocsr(), rows, columns, popularity / popularity[1:].min())

    def near(self, row: int) -> tuple[Rows, Floats]:
        """Return the rows that come near an item, int32[n] ascending, and their likeness, float32[n], from 0 to 1.

        The likeness is the root of the cosine of co-occurrence, `count / sqrt(events events')`, with `PRIOR` more
        events of each item. That of the nearest item is 1. An item that was added after counting has none: its counts
        are those of another.

        Cost: O(pairs of the item).
        """
        if row >= len(self.events) - self.counts.added:
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        pairs, before = self.counts.pairs, self.before
        after, first = (slice(of.indptr[row], of.indptr[row + 1]) for of in (pairs, before))
        found = np.concatenate([pairs.indices[after], before.indices[first]])
        counted = np.concatenate(
            [
                pairs.data[after] * self.rows[row] * self.columns[pairs.indices[after]],
                before.data[first] * self.rows[before.indices[first]] * self.columns[row],
            ]
        )
        rows, place = np.unique(found, return_inverse=True)
        cosines = np.bincount(place, counted, len(rows)) / np.sqrt(self.events[rows] + PRIOR)
        cosines[(rows == row) | (rows == 0)] = 0
        likeness = np.sqrt(cosines / max(cosines.max(initial=0.0), np.finfo(np.float64).tiny))
        return rows.astype(np.int32), likeness.astype(np.float32)
