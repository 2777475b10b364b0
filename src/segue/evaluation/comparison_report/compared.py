"""What several models rank on the same held-out events, as plain arrays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.shapes import Floats, Rows, Times


@dataclass(frozen=True, eq=False)
class Ranked:
    """The ranks and lists of one model.

    Args:
        ranks: float64[query], of the target, 1 is the best.
        lists: int32[query, 10], rows of `Compared.items`, best first; 0 fills a short list.
        known: bool[query], whether the model knows the target; the others are misses.
        is_model: whether it is a model that is measured; False for a baseline.
        longest: the length of the lists of a model that gave lists alone: a target beyond has the last rank; else None.
    """

    ranks: NDArray[np.float64]
    lists: Rows
    known: NDArray[np.bool_]
    is_model: bool = True
    longest: int | None = None

    def reaches(self, k: int) -> bool:
        """Return whether metrics of lists of k items are known."""
        return self.longest is None or k <= self.longest


@dataclass(frozen=True, eq=False)
class Compared:
    """Held-out events with their histories, and how each model ranks them.

    Args:
        models: by name; those that are measured come first, then the baselines; none for ratings.
        items: String[row], ids of every model and of the log; row 0 is unknown.
        titles: by id, where known.
        log: `user`, `item`, `time` (or none): histories and held-out events, user after user.
        places: int64[query], the row of `log` of each held-out event.
        begins: int64[query], the row of `log` of the first event of the same user.
        lengths: int64[query], events of the user before the held-out event.
        gaps: float32[query], seconds from the user's last event; NaN without one; None in a log without times.
        users: int64[query], whose the events are.
        counts: int64[row], events of each item that were learnt; None where the training events are not known.
        new_users: bool[query], whether training never met the user; None where not known.
        features: float32[row, m], attributes of the items as numbers; None without a table of items.
        attributes: of the targets, a row per query: "item: genre", "user: age", "event: type".
    """

    models: Mapping[str, Ranked]
    items: pl.Series
    titles: Mapping[str, str]
    log: pl.DataFrame
    places: Times
    begins: Times
    lengths: Times
    gaps: Floats | None
    users: Times
    counts: Times | None
    new_users: NDArray[np.bool_] | None
    features: Floats | None
    attributes: Callable[[], pl.DataFrame]

    @cached_property
    def measured_models(self) -> list[str]:
        """The names of the models that are measured, without the baselines."""
        return [name for name, ranked in self.models.items() if ranked.is_model]

    @cached_property
    def rows(self) -> Rows:
        """int32[event of `log`]: the row of each item."""
        return rows_of(self.items, self.log["item"])

    @cached_property
    def targets(self) -> Rows:
        """int32[query]: the row of each held-out item."""
        return self.rows[self.places]

    def name_of(self, row: int) -> str:
        """Return the title of an item, or its id."""
        return self.titles.get(self.items[row], self.items[row])


def rows_of(items: pl.Series, ids: pl.Series) -> Rows:
    """Return int32[n]: the place of each id in `items`, 0 where it is not there.

    Example:
        >>> rows_of(pl.Series(["", "a", "b"]), pl.Series(["b", "x"])).tolist()
        [2, 0]
    """
    known = pl.DataFrame({"id": items, "row": np.arange(len(items), dtype=np.int32)}).slice(1)
    found = pl.DataFrame({"id": ids.cast(pl.String)}).join(known, on="id", how="left", maintain_order="left")
    rows: Rows = found["row"].fill_null(0).to_numpy()
    return rows
