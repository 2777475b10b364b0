"""Drawn negatives: the rows that an update compares its targets with, and all rows that it touches.

The same seed and update give the same rows.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from segue.config import TrainConfig
from segue.data.sequences.batches import Batch
from segue.shapes import Floats, Rows, Times


class Sampled(NamedTuple):
    """A window whose items, targets and candidates are places in `rows`; if None, catalogue rows."""

    batch: Batch
    rows: Rows | None  # [R], rows of the catalogue, each once, row 0 first; past the catalogue where there are fewer
    candidates: Rows  # [S], places in `rows`
    log_expected: Floats  # [S]
    target_log_expected: Floats  # [T, B]

    @property
    def drawn(self) -> Rows:
        """The candidates as rows of the catalogue, int32[S]."""
        return self.candidates if self.rows is None else self.rows[self.candidates]


def cuts(items: int, train: TrainConfig) -> bool:
    """Say whether an update with drawn negatives touches only a part of so many rows."""
    assert train.batch_size is not None
    return bool(train.negatives) and items > 1 + 2 * train.batch_size * train.bptt_steps + (train.negatives or 0)


@dataclass(frozen=True)
class Sampler:
    """Draws rows with probability proportional to popularity to the power of a half.

    Drawing by popularity would never show rare items, and drawing evenly too few that compete with
    the target; the root lies between.

    Args:
        cumulative: float64[V], the share of all rows up to each one; row 0 has none.
        count: S, rows drawn for an update.
        cuts: whether windows are renumbered by the rows that they touch.
    """

    cumulative: np.ndarray
    count: int
    cuts: bool = True

    @classmethod
    def of(cls, counts: Times, rows: int, count: int, *, cuts: bool = True) -> "Sampler":
        """Return the sampler of V = `rows` items with so many events each; row 0, *unknown*, is not drawn.

        Example:
            >>> Sampler.of(np.array([0, 4, 1]), 4, 1).cumulative.tolist()
            [0.0, 0.5, 0.75, 1.0]
        """
        counts = np.concatenate([counts, np.zeros(rows - len(counts), counts.dtype)])
        weights = np.sqrt(np.maximum(counts, 1))  # an item without events can be a wrong answer, too
        weights[0] = 0.0
        cumulative = np.cumsum(weights)
        return cls(cumulative / cumulative[-1], count, cuts)

    def log_expected(self, rows: Rows) -> Floats:
        """Return the log of how often each row is expected in a draw of S."""
        share = self.cumulative[rows] - self.cumulative[np.maximum(rows, 1) - 1]
        logs: Floats = np.log(np.maximum(share, 1e-12) * self.count).astype(np.float32)
        return logs

    def draw(self, seed: tuple[int, ...], count: int) -> Rows:
        """Return int32[count], drawn rows. Cost: O(count log V)."""
        chances = np.random.default_rng(seed).random(count)
        drawn: Rows = np.searchsorted(self.cumulative, chances, side="right").astype(np.int32)
        return drawn

    def sample(self, batch: Batch, drawn: Rows) -> Sampled:
        """Return the window with S drawn candidates, renumbered. Cost: O(R log R)."""
        expected = self.log_expected(drawn), self.log_expected(batch.targets)
        if not self.cuts:
            return Sampled(batch, None, drawn, *expected)
        shape, cells = batch.items.shape, batch.items.size
        read = np.concatenate([np.zeros(1, np.int32), batch.items.ravel(), batch.targets.ravel(), drawn])
        touched, at = np.unique(read, return_inverse=True)
        past = len(self.cumulative) + np.arange(len(read) - len(touched), dtype=np.int32)
        places: Rows = at.astype(np.int32)
        items, targets = places[1 : 1 + 2 * cells].reshape(2, *shape)
        return Sampled(
            batch=batch._replace(items=items, targets=targets),
            rows=np.concatenate([touched, past]),
            candidates=places[1 + 2 * cells :],
            log_expected=expected[0],
            target_log_expected=expected[1],
        )
