"""The items of a prepared log with their counts, in the order of their first events."""

import polars as pl

from segue.data.prepared.manifest import Prepared, items_name
from segue.data.prepared.parts import PLACE, read_table


def count_items(table: pl.DataFrame) -> pl.DataFrame:
    """Return `item`, `count`, and the `time` and `PLACE` of the first event, of events in order.

    Example:
        >>> events = pl.DataFrame({"item": ["x", "y", "x"], "time": [5, 6, 7], PLACE: [2, 0, 1]})
        >>> count_items(events).rows()
        [('x', 2, 5, 2), ('y', 1, 6, 0)]
    """
    first = [pl.col(name).first() for name in ("time", PLACE) if name in table.columns]
    return table.group_by("item", maintain_order=True).agg(pl.len().cast(pl.Int64).alias("count"), *first)


def merged_items(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the items of several tables of `count_items` as one, whatever the order of the tables.

    The order is that of first appearance in the whole log, by time, then by place.

    Example:
        >>> early, late = ({"item": ["x"], "count": [2], "time": [time], PLACE: [0]} for time in (5, 9))
        >>> merged_items([pl.DataFrame(late), pl.DataFrame(early)]).rows()
        [('x', 4, 5, 0)]
    """
    order = [name for name in ("time", PLACE) if name in tables[0].columns]
    together = pl.concat(tables).sort(order)
    return together.group_by("item", maintain_order=True).agg(
        pl.col("count").sum(), *(pl.col(name).first() for name in order)
    )


def items_of(prepared: Prepared) -> pl.DataFrame:
    """Return `item` (text) and `count` of the whole log, in the order of first appearance.

    `segue.data.sequences.sequences.item_vocabulary` has the most frequent first, at equal counts in
    this order: `Vocabulary(items.sort("count", descending=True, maintain_order=True)["item"])`.

    Raises:
        DataError: the table is missing or damaged.

    Cost: O(items x runs).
    """
    tables = [read_table(prepared, items_name(run.name), run.items) for run in prepared.runs]
    return merged_items(tables).select("item", "count")
