"""The seen items of each user before each target; where lists exclude them, losses do, too."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array, lax

from segue.data.sequences.batches import Batch
from segue.data.sequences.sequences import Sequences
from segue.shapes import Bools, Rows, Times


@dataclass(frozen=True)
class Histories:
    """Marks the seen items among the classes of an update.

    Args:
        sequences: what training learns.
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
        """Return bool[B, C], the classes that each user saw before the first item read.

        Args:
            targets: int64[B], where in the sequences the targets of the first positions stand.
            classes: int32[C], rows of the catalogue, some of them more than once; None for the
                whole.

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
        marks = _marked((len(targets), len(distinct)), lanes[met], np.searchsorted(distinct, history[met]))
        return marks[:, place]


def _marked(shape: tuple[int, int], lines: Times, columns: Rows) -> Bools:
    marks = np.zeros(shape, bool)
    marks[lines, columns] = True
    return marks


def hidden_classes(before: Array, batch: Batch, classes: Array) -> Array:
    """Return bool[T, B, C], the user's seen items at each position, without the target.

    Args:
        before: bool[B, C], of `Histories.before`.
        batch: its items and targets in the same rows as the classes.
        classes: int32[C].
    """

    def read_position(seen: Array, position: Any) -> tuple[Array, Array]:
        first, items, targets = position
        seen = (seen & ~first[:, None]) | (classes == items[:, None])
        return seen, seen & (classes != targets[:, None])

    hidden: Array = lax.scan(read_position, before, (batch.first, batch.items, batch.targets))[1]
    return hidden
