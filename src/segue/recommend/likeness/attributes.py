"""Items alike by what is written of them: categories and words of the title, the rare ones above all."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.data.features.catalogue import Catalogue
from segue.data.values.lookup import WORDS, Postings, keys_of
from segue.recommend.filters.binding import FilterColumn
from segue.shapes import Floats

_LEAST = 1e-9


class _Column(NamedTuple):
    """A column, and float32[V]: one over the length of the vector of each row, 0 where nothing is known."""

    name: str
    postings: Postings
    scales: Floats


class SharedAttributes:
    """Which items share categories and words of the title.

    Each column of an item is a vector of its texts; the weight of a text is ln(1 + items / items with it). The likeness
    of two items is the mean of the cosines of their columns. A column counts less the more items share the rarest text
    that the item has there, so that "in stock: yes" tells little.

    Args:
        catalogue: of the items.
        columns: those of categories are read.

    Source: inverse document frequency, Spärck Jones (1972).

    Cost: O(items) once.
    """

    def __init__(self, catalogue: Catalogue, columns: Iterable[FilterColumn]) -> None:
        self._catalogue, self._size = catalogue, catalogue.height + 1
        found = [(one.name, catalogue.postings(one.name, several=one.kind == "words", separator=one.separator))
                 for one in columns if one.shared]  # fmt: skip
        found.append(("title", catalogue.postings("title", several=True, separator=WORDS)))
        self._columns = [_Column(name, postings, self._scales(postings)) for name, postings in found]

    def likeness(self, row: int) -> Floats:
        """Return float32[V]: the likeness of an item with all, from 0 to 1; 0 with those that nothing is known of.

        Cost: O(items), a few passes.
        """
        line, likeness, told = self._catalogue.line(row), np.zeros(self._size, np.float32), 0.0
        for name, postings, scales in self._columns:
            keys = keys_of(line[name], several=postings.several, separator=postings.separator)
            sharing = [rows for key in sorted(keys) if len(rows := postings.find([key]))]
            if not sharing:
                continue
            counts = np.array([len(rows) for rows in sharing])
            products, tells = np.zeros(self._size, np.float32), 1 - counts.min() / self._size
            for rows, square in zip(sharing, self._squares(counts).astype(np.float32), strict=True):
                products[rows] += square
            products *= scales
            products *= np.float32(tells) * scales[row]
            likeness += products
            told += tells
        likeness /= np.float32(max(told, _LEAST))
        return likeness

    def _scales(self, postings: Postings) -> Floats:
        sums = postings.sums(self._squares, self._size)
        scales: Floats = np.where(sums > 0, 1 / np.sqrt(np.maximum(sums, _LEAST)), 0).astype(np.float32)
        return scales

    def _squares(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the squared weight of texts that so many items have."""
        squares: NDArray[np.float64] = np.log1p(self._size / np.maximum(counts, 1)) ** 2
        return squares
