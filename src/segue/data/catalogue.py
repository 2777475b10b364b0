"""What the items are: their titles and attributes, by vocabulary row.

Knows: a table with a line per item. Does not know: what an attribute means to the network.
"""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from segue.data.columns import guess_column
from segue.data.sources import Reading, open_source
from segue.data.vocabulary import Vocabulary
from segue.errors import ColumnError

_ITEM = ("item", "itemid", "movieid", "movie", "sku", "productid", "product", "asin", "id")
_TITLE = ("title", "movietitle", "name", "itemtitle", "productname")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """A line per vocabulary row from 1 on; `table` has `item`, `title` (null where unknown) and the rest."""

    table: pl.DataFrame

    @cached_property
    def _titles(self) -> pl.Series:
        return self.table["title"]

    def title(self, row: int) -> str | None:
        """Return the title of a vocabulary row, None where there is none."""
        title = self._titles[row - 1]
        return None if title is None else str(title)

    def find(self, words: str) -> list[str]:
        """Return the ids of items whose title holds these words, whatever the case, shortest title first."""
        hits = self.table.filter(pl.col("title").str.to_lowercase().str.contains(words.lower(), literal=True))
        return hits.sort(pl.col("title").str.len_chars(), maintain_order=True)["item"].to_list()


def read_catalogue(
    source: object,
    vocabulary: Vocabulary,
    *,
    item: str | None = None,
    title: str | None = None,
    reading: Reading | None = None,
) -> Catalogue:
    """Read a table of items and put it in the order of the vocabulary.

    Args:
        source: a path or a table, as for `read_events`.
        vocabulary: the items of the log; others are left out here.
        item, title: the columns' names; None guesses.
        reading: how the file is written.

    Raises:
        ColumnError: there is no column of ids, or an id stands twice.
    """
    opened = open_source(source, reading or Reading())
    with opened.explained():
        table = opened.frame.collect()
    item = item or guess_column(table.columns, _ITEM)
    title = title or guess_column(table.columns, _TITLE)
    for column, option in ((item, "item"), (title or item, "title")):
        if column not in table.columns:
            raise ColumnError(
                f"{opened.name}: expected a column of {option}s, found {', '.join(table.columns)}. "
                f"Name it with {option}=."
            )
    assert item is not None
    others = [name for name in table.columns if name not in (item, title, "item", "title")]
    named = table.select(
        pl.col(item).cast(pl.String).alias("item"),
        (pl.col(title).cast(pl.String) if title else pl.lit(None, pl.String)).alias("title"),
        *others,
    ).filter(pl.col("item").is_not_null())
    doubled = named.filter(pl.col("item").is_duplicated())
    if len(doubled):
        raise ColumnError(
            f'{opened.name}: expected one line per item, found item "{doubled["item"][0]}" more than once. '
            "Remove the doubled lines."
        )
    rows = pl.DataFrame({"item": vocabulary.ids})
    return Catalogue(rows.join(named, on="item", how="left", maintain_order="left"))
