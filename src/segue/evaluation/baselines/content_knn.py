"""Content kNN: items with similar features, with or without events."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from segue.data.sequences.sequences import Sequences
from segue.data.sequences.transition_counts import TIE, highest, highest_of, known_events, shares
from segue.errors import ArgumentError
from segue.evaluation.baselines.contract import Baseline, Grid, above_zero
from segue.evaluation.baselines.counting import Counted
from segue.shapes import Floats

#: Cosines at hand at once: 64 MB.
COSINES = 2**24
#: Rows of a score above which pairs of all items are not compared.
LARGEST = 100_000


@dataclass(frozen=True)
class ContentKNN(Baseline):
    """Score an item by how similar its features are to those of the last items of the history.

    `pairs[x, y]` is the cosine of the features of x and y; the `neighbours` highest above 0 of each x are
    kept, and of equals those with the lower row. An item without events is scored like any other; an
    item without features (a row of zeros) is similar to none.

    Args:
        neighbours: how many items are kept for each item.
        window: how many items of a history are read; None for all.
        half_life: the lag in items at which an item of the history counts half.

    Raises:
        ArgumentError: a setting is not above 0.

    Source: Lops, de Gemmis, Semeraro 2011, "Content-based recommender systems", section 3.3.1.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 1]), np.array([1], np.int32))
        >>> features = np.array([[0, 0], [2, 0], [1, 0], [0, 1]], np.float32)
        >>> fitted = ContentKNN(neighbours=2).fit(log, 4, features)
        >>> fitted.score([np.array([1], np.int32)]).round(2).tolist()    # item 2 has no event yet
        [[-inf, 0.0, 1.0, 0.0]]
    """

    neighbours: int = 100
    window: int | None = 10
    half_life: float = 3.0

    title: ClassVar[str] = "content-kNN"
    word: ClassVar[str] = "content-knn"
    grid: ClassVar[Grid] = {
        "half_life": (1.0, 3.0, 10.0, np.inf),
        "window": (1, 3, 10, 30, None),
        "neighbours": (20, 50, 100, 200, 500),
    }
    reading: ClassVar[frozenset[str]] = frozenset({"window", "half_life"})

    def __post_init__(self) -> None:
        above_zero(self, "neighbours", "half_life", *(("window",) if self.window is not None else ()))

    @property
    def counting(self) -> tuple[int]:
        """How many neighbours are found: as many as any setting of the grid keeps, or more."""
        return (max(self.neighbours, *self.grid["neighbours"]),)

    @classmethod
    def obstacle(cls, n_items: int, features: Floats | None = None) -> str | None:
        """Return that there are no features, that they do not fit, or too many items; or None."""
        if features is None:
            return f"{cls.title}: expected features of the items, came none. Give a catalogue with attributes."
        if features.ndim != 2 or len(features) != n_items:
            return (
                f"{cls.title}: expected features of shape ({n_items}, m), a row for each of the scores, "
                f"came {features.shape}. Make them in the order of the vocabulary, row 0 first."
            )
        if n_items > LARGEST + 1:
            return (
                f"{cls.title}: expected at most {LARGEST:,} items, came {n_items - 1:,}: each is compared with "
                "each, and time grows with the square. Give features of fewer items."
            )
        return None

    @classmethod
    def operations(cls, events: int, n_items: int) -> float:
        """Return about how much work a fit is: each item beside each."""
        return 2.0 * n_items**2

    def count(
        self, sequences: Sequences, n_items: int, features: Floats | None = None
    ) -> tuple[Floats, sparse.csr_array]:
        """Find the neighbours of each item, as many as any setting keeps.

        Raises:
            ArgumentError: a row is not below `n_items`; the features are missing, of another shape, or hold
                NaN or an infinity; or there are more than 100,000 items.

        Cost: O(item^2 x m) time; memory for the neighbours and one block of cosines.
        """
        assert features is not None
        popularity = shares(known_events(sequences, n_items).items, n_items, total=TIE)
        return popularity, _nearest(unit_rows(features), *self.counting)

    def of_counts(self, counts: tuple[Floats, sparse.csr_array]) -> Counted:
        """Keep the nearest of these. O(neighbours of all items)."""
        popularity, pairs = counts
        return Counted(self, popularity, highest(pairs, self.neighbours), self.window, self.half_life)


def unit_rows(features: Floats) -> Floats:
    """Return the features with every row of length 1, or of zeros; row 0 is of zeros."""
    if not np.isfinite(features).all():
        raise ArgumentError(
            "features: expected numbers, came NaN or an infinity. Fill what is missing with the column's mean or 0."
        )
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.divide(features, lengths, out=np.zeros(features.shape, np.float32), where=lengths > 0)
    unit[0] = 0
    return unit


def _nearest(unit: Floats, neighbours: int) -> sparse.csr_array:
    """Return sparse float32[item, item]: the highest cosines of each item with others, a block at a time."""
    n_items = len(unit)
    step = max(1, COSINES // n_items)
    kept: list[sparse.csr_array] = []
    for begin in range(0, n_items, step):
        cosines = unit[begin : begin + step] @ unit.T
        diagonal = np.arange(len(cosines))
        cosines[diagonal, begin + diagonal] = 0
        kept.append(highest_of(np.maximum(cosines, 0), neighbours))
    return sparse.vstack(kept, format="csr")
