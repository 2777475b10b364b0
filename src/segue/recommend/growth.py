"""A recommender that knows more items than it was trained on.

Knows: how the attributes of an item become its vector and its bias.
Does not know: training; the weights stay as they are.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from segue.data.attributes import plain_name
from segue.data.catalogue import Catalogue, read_items
from segue.data.described import as_learnt
from segue.data.vocabulary import Vocabulary
from segue.errors import ArgumentError
from segue.model.backend import map_tree

if TYPE_CHECKING:
    from segue.recommend.recommender import Recommender


def with_items(rec: "Recommender", table: object) -> "Recommender":
    """Return a recommender that also knows the items of a table; see `Recommender.add_items`."""
    if rec.encodings.items is None or rec.catalogue is None:
        raise ArgumentError(
            "add_items: expected a bundle that was trained with attributes of items, came one of ids alone. "
            "Train with a table of items (--items), or train again once the new items have events."
        )
    named, name, notes = read_items(table)
    named = _as_named(named, rec.encodings.items.slices)
    new = named.filter(~pl.col("item").is_in(rec.vocabulary.ids.implode()))
    if not len(new):
        return rec
    encoding = rec.encodings.items
    notes = (*notes, *(f"{name}: {complaint}" for complaint in encoding.complaints(new)))
    attributes = as_learnt(encoding.encode(new))
    own = rec.params.attributes
    params = rec.params._replace(
        items=np.concatenate([rec.params.items, attributes @ own.vector]),
        bias=np.concatenate([rec.params.bias, attributes @ own.bias]),
    )
    if params.rating:  # what they are is all that speaks for them, by their vectors
        none = np.zeros(len(new), np.float32)
        tables = map_tree(lambda table: np.concatenate([table, none]), params.rating.tables)
        params = params._replace(rating=params.rating._replace(tables=tables))
    lines = pl.concat([rec.catalogue.table, new.select(pl.all())], how="diagonal_relaxed")
    more = replace(
        rec,
        params=params,
        network=replace(rec.network, items=len(params.items)),
        vocabulary=Vocabulary(pl.concat([rec.vocabulary.ids, new["item"]])),
        catalogue=Catalogue(lines.select(rec.catalogue.table.columns), notes),
        learnt=rec.learnt or rec.vocabulary.size,
    )
    return more if rec.index is None else more.with_index(rec.index.over(params.items, params.bias, more.unreachable))


def _as_named(table: pl.DataFrame, learnt: Collection[str]) -> pl.DataFrame:
    """Return a table with the column names of the training, whichever side has RecBole's `:type`.

    Example:
        >>> _as_named(pl.DataFrame({"item": ["a"], "year": [1995]}), ["year:token"]).columns
        ['item', 'year:token']
    """
    free = {plain_name(column): column for column in table.columns if column not in learnt}
    absent = {plain_name(name): name for name in learnt if name not in table.columns}
    return table.rename({free[plain]: name for plain, name in absent.items() if plain in free})
