"""A recommender that knows more items than it was trained on.

Knows: how the attributes of an item become its vector and its bias, and what may follow it, or it follow.
Does not know: training; the weights stay as they are.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from scipy import sparse

from segue.data.attributes import plain_name
from segue.data.catalogue import Catalogue, ChangedCatalogue, read_items
from segue.data.columns import listed
from segue.data.described import as_learnt
from segue.data.encoding import Encoding
from segue.data.fitting import fitted_table
from segue.errors import ArgumentError
from segue.model.backend import map_tree
from segue.model.counts import Counts
from segue.shapes import Floats

#: Known items after which a new one may come for being like them.
ALIKE = 50
#: Lines that are laid behind a catalogue one by one.
FEW = 4096
#: Cosines at hand at once: 64 MB.
_COSINES = 2**24

if TYPE_CHECKING:
    from segue.recommend.recommender import Recommender


def with_items(rec: "Recommender", table: object) -> "Recommender":
    """Return a recommender that also knows the items of a table; see `Recommender.add_items`."""
    encoding, known = _described(rec)
    new, _, notes = new_items(rec, table)
    if not len(new):
        return rec
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
    more = replace(
        rec,
        params=params,
        network=replace(rec.network, items=len(params.items)),
        vocabulary=rec.vocabulary.more(new["item"]),
        catalogue=_longer(known, new, notes),
        learnt=rec.learnt or rec.vocabulary.size,
        counts=None if rec.counts is None else grown(rec.counts, params.items),
    )
    if rec.index is not None:
        more = more.with_index(rec.index.over(params.items, params.bias, more.unreachable))
    vars(more)["folded"] = rec.folded.more(more.network, params)
    return more


def _longer(known: Catalogue, new: pl.DataFrame, notes: tuple[str, ...]) -> Catalogue:
    """Return a catalogue with lines behind the last; of few the rest is shared, of many the table is a new one."""
    if len(new) + (len(known.lines) if isinstance(known, ChangedCatalogue) else 0) > FEW:
        lines = pl.concat([known.table, new], how="diagonal_relaxed")
        return Catalogue(lines.select(known.table.columns), notes)
    nothing = dict.fromkeys(known.schema)
    numbered = enumerate(new.iter_rows(named=True), start=known.height + 1)
    found = known.changed({row: {**nothing, **line} for row, line in numbered})
    vars(found)["notes"] = notes
    return found


class NewItems(NamedTuple):
    """Items that are to be added.

    Args:
        lines: of each, as the catalogue keeps them.
        unread: columns that the catalogue does not have.
        notes: what was left out, in sentences.
    """

    lines: pl.DataFrame
    unread: list[str]
    notes: tuple[str, ...]


def new_items(rec: "Recommender", table: object) -> NewItems:
    """Return those items of a table that are not known yet.

    Raises:
        ColumnError: the table has no column of ids, or an id stands twice.
        ArgumentError: this bundle was trained without attributes of items, or a value is of another kind than was
            learnt; the message names column, kind, value and item.
    """
    encoding, _ = _described(rec)
    named, name, notes = read_items(table)
    named = _as_named(named, encoding.slices)
    new = named.filter([item not in rec.vocabulary for item in named["item"]])
    columns = rec.columns
    lines = fitted_table(new, columns, name)
    unread = [column for column in new.columns if column not in {"item", *(each.name for each in columns.values())}]
    complaints = encoding.complaints(lines) if len(lines) else []
    if unread:
        complaints = [*complaints, f"expected attributes that were learnt, left out {listed(unread)}."]
    return NewItems(lines, unread, (*notes, *(f"{name}: {complaint}" for complaint in complaints)))


def _described(rec: "Recommender") -> tuple[Encoding, Catalogue]:
    if rec.encodings.items is None or rec.catalogue is None:
        raise ArgumentError(
            "add_items: expected a bundle that was trained with attributes of items, came one of ids alone. "
            "Train with a table of items (--items), or train again once the new items have events."
        )
    return rec.encodings.items, rec.catalogue


def grown(counts: Counts, items: Floats) -> Counts:
    """Return counts of more items: a new one follows, and is followed by, what the known item most like it is.

    After the known items that it is like it comes besides as often as what followed them most, times the cosine.

    Args:
        counts: of the first rows of `items`.
        items: float32[V, d], the vectors of all items.

    Cost: O(pairs + new items x known items x d).
    """
    known = len(counts.popularity)
    unit = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    pairs, step = counts.pairs, max(1, _COSINES // known)
    alike = sparse.vstack([_most_alike(unit[at : at + step], unit[:known]) for at in range(known, len(unit), step)])
    nearest = np.asarray(alike.argmax(axis=1)).ravel()
    strongest = pairs.max(axis=1).toarray().ravel()
    columns = pairs[:, nearest] + (alike @ sparse.diags_array(strongest)).T
    both = sparse.vstack(
        [sparse.hstack([pairs, columns]), sparse.hstack([pairs[nearest], sparse.csr_array(columns)[nearest]])]
    ).tocsr()
    return replace(
        counts,
        offsets=both.indptr.astype(np.int64),
        rows=both.indices.astype(np.int32),
        shares=both.data.astype(np.float32),
        popularity=np.concatenate([counts.popularity, counts.popularity[nearest]]),
        added=np.int64(counts.added + len(nearest)),
    )


def _most_alike(new: Floats, known: Floats) -> sparse.csr_array:
    """Return sparse float32[new, known]: the highest cosines of each new item, those above 0."""
    cosines = np.maximum(new @ known.T, 0)
    cosines[:, 0] = 0
    if cosines.shape[1] > ALIKE:
        cosines[cosines < np.partition(cosines, -ALIKE, axis=1)[:, [-ALIKE]]] = 0
    return sparse.csr_array(cosines)


def _as_named(table: pl.DataFrame, learnt: Collection[str]) -> pl.DataFrame:
    """Return a table with the column names of the training, whichever side has RecBole's `:type`.

    Example:
        >>> _as_named(pl.DataFrame({"item": ["a"], "year": [1995]}), ["year:token"]).columns
        ['item', 'year:token']
    """
    free = {plain_name(column): column for column in table.columns if column not in learnt}
    absent = {plain_name(name): name for name in learnt if name not in table.columns}
    return table.rename({free[plain]: name for plain, name in absent.items() if plain in free})
