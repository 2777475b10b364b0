"""What each lane's user had before each target: no list may hold it, so no loss compares with it.

Knows: histories, windows, the classes of an update.
Does not know: losses. Where lists may repeat what a user had, nothing here is asked.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array, lax

from segue.data.sequences.batches import Batch
from segue.data.sequences.sequences import Sequences
from segue.shapes import Bools, Rows, Times


@dataclass(frozen=True)
class Histories:
    """Marks among the classes of an update what was had before it.

    Args:
        sequences: what is learnt.
        rows: V, rows of the catalogue.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann", "bob"]), np.array([0, 4, 6]), np.array([5, 1, 2, 3, 4, 1], np.int32))
        >>> histories = Histories(log, rows=6)
        >>> histories.before(np.array([3, 5])).astype(int).tolist()      # before 2 is read, and before 4 is
        [[0, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]]
        >>> histories.before(np.array([3, 5]), np.array([1, 4, 5], np.int32)).tolist()
        [[True, False, True], [False, False, False]]
    """

    sequences: Sequences
    rows: int

    def before(self, targets: Times, classes: Rows | None = None) -> Bools:
        """Return bool[B, C], the classes that each lane's user had before the item that its first position reads.

        Args:
            targets: int64[B], where in the sequences the targets of the first positions stand.
            classes: int32[C], rows of the catalogue, some of them more than once; None for the whole.

        Cost: O(length of the histories) and O(B C) to clear; with classes besides O(C log C).
        """
        offsets, items = self.sequences.offsets, self.sequences.items
        begins = offsets[np.searchsorted(offsets, targets, side="right") - 1]
        ends = np.maximum(begins, targets - 1)
        lanes = np.repeat(np.arange(len(targets)), ends - begins)
        history = np.concatenate([items[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)])
        if classes is None:
            return _marked((len(targets), self.rows), lanes, history)
        distinct, place = np.unique(classes, return_inverse=True)
        among = np.zeros(self.rows, bool)
        among[distinct] = True
        met = among[history]
        found = _marked((len(targets), len(distinct)), lanes[met], np.searchsorted(distinct, history[met]))
        return found[:, place]


def _marked(shape: tuple[int, int], lines: Times, columns: Rows) -> Bools:
    found = np.zeros(shape, bool)
    found[lines, columns] = True
    return found


def hidden_classes(before: Array, batch: Batch, classes: Array) -> Array:
    """Return bool[T, B, C], what no list may hold at each position: what the user had, but not the target.

    Args:
        before: bool[B, C], of `Histories.before`.
        batch: its items and targets in the same rows as the classes.
        classes: int32[C].
    """

    def one(had: Array, position: Any) -> tuple[Array, Array]:
        first, items, targets = position
        had = (had & ~first[:, None]) | (classes == items[:, None])
        return had, had & (classes != targets[:, None])

    hidden: Array = lax.scan(one, before, (batch.first, batch.items, batch.targets))[1]
    return hidden
