"""A recommender in which some items have other attributes, and so other vectors; what was learnt for an id stays."""

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

#: At most so many items differ from the pages: each costs the next copy a page.
ROWS = 256
#: The cached properties of a recommender that do not depend on its items, or hardly.
_KEPT = ("empty_memory", "no_memory", "new_user", "fused", "co_counts", "whitening")


class _Snapshot(NamedTuple):
    """Vectors and biases at some time; later ones are copies of them with a few rows changed."""

    items: Pages
    bias: Pages


@dataclass(frozen=True, eq=False)
class Changed:
    """A recommender, and the same with some items changed.

    Args:
        base: without a change.
        rec: with all changes.
        snapshot: `rec` is a copy of it but for the rows `fresh`; None before the first change.
        fresh: rows that differ from the snapshot.

    Cost: the first change and then one in `ROWS` copy the table of vectors; the others cost O(changed rows).
    """

    base: Recommender
    rec: Recommender
    snapshot: _Snapshot | None = None
    fresh: frozenset[int] = field(default_factory=frozenset)

    def with_lines(self, lines: Mapping[int, Mapping[str, Any]]) -> "Changed":
        """Return the same with other catalogue lines for some rows.

        Args:
            lines: whole lines by row, of values that fit. The difference to the line of the base moves the vector.
        """
        rec, base = self.rec, self.base
        if rec.catalogue is None or not lines:
            return self
        catalogue = rec.catalogue.changed(lines)
        kept = {name: value for name, value in vars(rec).items() if name in _KEPT}
        if base.encoders.items is None:
            after = replace(rec, catalogue=catalogue)
            vars(after).update(kept)
            return replace(self, rec=after)
        rows, (vectors, bias) = np.fromiter(lines, np.int32), _moved(base, lines)
        fresh, snapshot = self.fresh | lines.keys(), self.snapshot
        if snapshot is None or len(fresh) > ROWS:
            items, biases = rec.params.items.copy(), rec.params.bias.copy()
            items[rows], biases[rows] = vectors, bias
            snapshot, fresh = _Snapshot(Pages.of(items), Pages.of(biases)), frozenset()
        else:
            old = np.array([row for row in fresh if row not in lines], np.int32)
            places = np.concatenate([old, rows])
            items = snapshot.items.copy_with(places, np.concatenate([rec.params.items[old], vectors]))
            biases = snapshot.bias.copy_with(places, np.concatenate([rec.params.bias[old], bias]))
        params = rec.params._replace(items=items, bias=biases)
        after = replace(rec, params=params, catalogue=catalogue)
        if rec.index is not None:
            after = after.with_index(rec.index.over(params.items, params.bias, after.unreachable))
        vars(after).update(kept | {"fused": rec.fused.changed(params, rows)})
        return Changed(base, after, snapshot, fresh)


def fitted_attributes(rec: Recommender, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes by the columns of the catalogue, each cast to the type of its column.

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
    """Return float32[n, d] and float32[n]: vectors and biases of items by their new catalogue lines."""
    encoding, catalogue, weights = base.encoders.items, base.catalogue, base.params.attributes
    assert encoding is not None and catalogue is not None
    vectors, bias = [], []
    for row, line in lines.items():
        old = catalogue.line(row)
        other = [name for name, value in line.items() if value != old[name]]  # the other columns change nothing
        change = np.subtract(
            *(as_float16(encoding.encode_row({name: one[name] for name in other})) for one in (line, old))
        )
        vectors.append(base.params.items[row] + change @ weights.vector)
        bias.append(base.params.bias[row] + change @ weights.bias)
    return np.array(vectors, np.float32), np.array(bias, np.float32)
