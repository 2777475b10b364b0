"""A recommender of which some items are other than they were: other attributes, and so other vectors.

Knows: how a change of what an item is moves its vector and its bias; what was learnt of the item alone stays.
Does not know: where changes come from, or how they are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from segue.data.features.feature_encoders import as_float16
from segue.data.log.columns import plain_name
from segue.errors import ArgumentError
from segue.recommend.copy_on_write import Pages
from segue.recommend.recommender import Recommender
from segue.shapes import Floats

#: Items that differ from the pages of which copies are made, at most: each costs the next copy a page.
ROWS = 256
#: What a recommender has computed and kept that does not depend on what its items are.
_KEPT = ("empty_memory", "_nobody", "folded")


class _Laid(NamedTuple):
    """Vectors and biases as they were at some time, of which copies are made."""

    items: Pages
    bias: Pages


@dataclass(frozen=True, eq=False)
class Changed:
    """A recommender, and what it is with some items changed.

    Args:
        base: without a change.
        rec: with all changes.
        laid: of which `rec` is a copy but for `fresh`; None before the first change.
        fresh: rows that differ from it.

    Cost: the first change copies the table of vectors, and so does one in `ROWS`; the others cost what they change.
    """

    base: Recommender
    rec: Recommender
    laid: _Laid | None = None
    fresh: frozenset[int] = field(default_factory=frozenset)

    def with_lines(self, lines: Mapping[int, Mapping[str, Any]]) -> "Changed":
        """Return the same with other lines for some rows: all that is known of each from now on.

        Args:
            lines: by row, of values that fit; what they change is reckoned from the base.
        """
        rec, base = self.rec, self.base
        if rec.catalogue is None or not lines:
            return self
        catalogue = rec.catalogue.changed(lines)
        kept = {name: value for name, value in vars(rec).items() if name in _KEPT}
        if base.encodings.items is None:
            after = replace(rec, catalogue=catalogue)
            vars(after).update(kept)
            return replace(self, rec=after)
        rows, (vectors, bias) = np.fromiter(lines, np.int32), _moved(base, lines)
        fresh, laid = self.fresh | lines.keys(), self.laid
        if laid is None or len(fresh) > ROWS:
            items, biases = rec.params.items.copy(), rec.params.bias.copy()
            items[rows], biases[rows] = vectors, bias
            laid, fresh = _Laid(Pages.of(items), Pages.of(biases)), frozenset()
        else:
            old = np.array([row for row in fresh if row not in lines], np.int32)
            places = np.concatenate([old, rows])
            items = laid.items.copy_with(places, np.concatenate([rec.params.items[old], vectors]))
            biases = laid.bias.copy_with(places, np.concatenate([rec.params.bias[old], bias]))
        params = rec.params._replace(items=items, bias=biases)
        after = replace(rec, params=params, catalogue=catalogue)
        if rec.index is not None:
            after = after.with_index(rec.index.over(params.items, params.bias, after.unreachable))
        vars(after).update(kept | {"folded": rec.folded.changed(params, rows)})
        return Changed(base, after, laid, fresh)


def with_attributes(rec: Recommender, item: str, attributes: Mapping[str, Any]) -> Recommender:
    """Return a recommender in which one item has other attributes; what was learnt of the item alone stays.

    Raises:
        ArgumentError: there is no such attribute, or a value is of another kind than was learnt.
    """
    line = fitted_attributes(rec, attributes)
    if rec.catalogue is None or not line:
        return rec
    row = rec.vocabulary.row(item)
    return Changed(rec, rec).with_lines({row: {**rec.catalogue.line(row), **line}}).rec


def fitted_attributes(rec: Recommender, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes by the columns of the catalogue, each as its column keeps it.

    Raises:
        ArgumentError: there is no such attribute, or a value is of another kind than was learnt.
    """
    columns = rec.columns
    for name in attributes:
        if plain_name(name) not in columns:
            raise ArgumentError(
                f'attributes: expected columns among {", ".join(columns) or "none"}, came "{name}". Leave it out.'
            )
    pairs = [(columns[plain_name(name)], value) for name, value in attributes.items()]
    return {column.name: column.cast(value) for column, value in pairs}


def _moved(base: Recommender, lines: Mapping[int, Mapping[str, Any]]) -> tuple[Floats, Floats]:
    """Return float32[n, d] and float32[n]: vectors and biases of items that are described otherwise."""
    encoding, catalogue, own = base.encodings.items, base.catalogue, base.params.attributes
    assert encoding is not None and catalogue is not None
    vectors, bias = [], []
    for row, line in lines.items():
        old = catalogue.line(row)
        other = [name for name, value in line.items() if value != old[name]]  # the rest speaks for the item as before
        change = np.subtract(
            *(as_float16(encoding.encode_row({name: one[name] for name in other})) for one in (line, old))
        )
        vectors.append(base.params.items[row] + change @ own.vector)
        bias.append(base.params.bias[row] + change @ own.bias)
    return np.array(vectors, np.float32), np.array(bias, np.float32)
