"""The transition graph: what followed the last items, in one step or two, ordered by likeness of features."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy import sparse

from segue.data.sequences.sequences import Sequences
from segue.data.sequences.transition_counts import TABLE, TIE, followers, highest_of, known_events, shares
from segue.evaluation.baselines import content_knn
from segue.evaluation.baselines.content_knn import ContentKNN, unit_rows
from segue.evaluation.baselines.contract import Baseline, Grid, above_zero, not_negative
from segue.evaluation.baselines.counting import Counted
from segue.shapes import Bools, Floats, Rows


@dataclass(frozen=True)
class TransitionGraph(Baseline):
    """Score an item by the steps to it from the last items of the history, and by its likeness to them.

    `pairs[x, y] = edges * log(1 + count[x, y]) / max over z of log(1 + count[x, z]) + w * max(cosine(x, y), 0)`, where
    count says how often y came right after x, the cosine is that of their features (titles, texts, categories), and
    w is 1 where y followed x, `two` where y followed a follower of x, and `rest` for all other items. The
    `neighbours` highest of each x are kept, and of equals those with the lower row.

    Args:
        edges: the weight of the counts beside the likeness.
        two: the weight of the likeness two steps away, 0 or more.
        rest: the weight of the likeness without a path of two steps, 0 or more.
        neighbours: how many items are kept for each item.
        window: how many items of a history are read; None for all.
        half_life: the lag in items at which an item of the history counts half.

    Raises:
        ArgumentError: `edges`, `neighbours`, `window` or `half_life` is not above 0, or another setting is below 0.

    Source: the Transition-Graph Heuristic of Han et al. 2026, arXiv 2605.07125. There each ring of steps has a quota
    of the list; here each has a weight, so that every item has a score.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 3]), np.array([1, 2, 3], np.int32))
        >>> features = np.array([[0, 0], [1, 0], [0, 1], [1, 0], [2, 0]], np.float32)
        >>> fitted = TransitionGraph(edges=1.0, two=0.5, rest=0.25).fit(log, 5, features)
        >>> fitted.score([np.array([1], np.int32)]).round(2).tolist()    # 2 followed, 3 is alike, 4 has no event
        [[-inf, 0.0, 1.0, 0.5, 0.25]]
    """

    edges: float = 0.5
    two: float = 0.5
    rest: float = 0.25
    neighbours: int = 500
    window: int | None = 2
    half_life: float = 1.0

    title: ClassVar[str] = "transition graph"
    word: ClassVar[str] = "graph"
    grid: ClassVar[Grid] = {
        "half_life": (0.5, 1.0, 2.0, 4.0),
        "window": (1, 2, 5, 10),
        "edges": (0.25, 0.5, 1.0, 2.0, 4.0),
        "two": (0.0, 0.25, 0.5, 0.75, 1.0),
        "rest": (0.0, 0.1, 0.25, 0.5),
    }
    reading: ClassVar[frozenset[str]] = frozenset({"window", "half_life"})

    def __post_init__(self) -> None:
        above_zero(self, "edges", "neighbours", "half_life", *(("window",) if self.window is not None else ()))
        not_negative(self, "two", "rest")

    @classmethod
    def obstacle(cls, n_items: int, features: Floats | None = None) -> str | None:
        """Return that there are no features, that they do not fit, or too many items; or None."""
        why = ContentKNN.obstacle(n_items, features)
        return why and why.replace(ContentKNN.title, cls.title, 1)

    @classmethod
    def operations(cls, events: int, n_items: int) -> float:
        """Return about how much work a fit is: each item beside each, and the paths of two steps."""
        return 4.0 * n_items**2 + 20.0 * events

    def count(self, sequences: Sequences, n_items: int, features: Floats | None = None) -> "Steps":
        """Count the transitions, and compare the items by their features.

        Raises:
            ArgumentError: as `ContentKNN.count`.

        Cost: O(item^2 x m + paths of two steps) time; memory for the counts, and for all items in a small catalogue.
        """
        assert features is not None
        known, unit = known_events(sequences, n_items), unit_rows(features)
        counts = sparse.csr_array(followers(known, n_items, 1, 1.0), dtype=np.float32)
        counts.setdiag(0)
        counts.eliminate_zeros()
        step = max(1, content_knn.COSINES // n_items)
        parts = [(begin, min(begin + step, n_items)) for begin in range(0, n_items, step)]

        def blocks() -> Iterator[Block]:
            return (_block(counts, unit, begin, end) for begin, end in parts)

        kept = list(blocks()) if n_items**2 <= TABLE else None
        return Steps(shares(known.items, n_items, total=TIE), blocks if kept is None else lambda: kept)

    def of_counts(self, counts: "Steps") -> Counted:
        """Weigh the steps and keep each item's best. O(item^2) time."""
        pairs = sparse.vstack([self._best(block) for block in counts.blocks()], format="csr")
        return Counted(self, counts.popularity, pairs, self.window, self.half_life)

    def _best(self, of: "Block") -> sparse.csr_array:
        """Return sparse float32[some, item]: the kept pairs of some items."""
        weights = np.where(of.two, np.float32(self.two), np.float32(self.rest))
        weights[of.at, of.item] = 1
        values = of.likeness * weights
        values[of.at, of.item] += self.edges * of.logs / of.most
        values[np.arange(len(values)), of.begin + np.arange(len(values))] = 0
        return highest_of(values, self.neighbours)


class Steps(NamedTuple):
    """What followed what, a block of items after the other; a small catalogue is held, a large one counted anew."""

    popularity: Floats
    blocks: Callable[[], Iterable["Block"]]


class Block(NamedTuple):
    """What followed some items, and how like them all items are.

    Args:
        begin: the first of these items.
        at, item: int[pair], which of these items, and the item that followed.
        logs, most: float32[pair], the log of one more than the count, and the highest of the same item.
        two: bool[some, item], whether the item followed a follower.
        likeness: float32[some, item], the cosine of the features, not below 0.
    """

    begin: int
    at: Rows
    item: Rows
    logs: Floats
    most: Floats
    two: Bools
    likeness: Floats


def _block(counts: sparse.csr_array, unit: Floats, begin: int, end: int) -> Block:
    followed = counts[begin:end]
    at, item = followed.nonzero()
    logs, filled = np.log1p(followed.data), np.unique(at)
    most = np.maximum.reduceat(logs, followed.indptr[filled]) if len(at) else logs
    most = np.repeat(most, np.diff(followed.indptr)[filled])
    two, likeness = (followed @ counts).toarray() > 0, np.maximum(unit[begin:end] @ unit.T, 0)
    return Block(begin, at, item, logs, most, two, likeness)
