"""Trends bound to the rows of one model: which row each counted item has, and each row's key."""

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from segue.data.sequences.vocabulary import OpenVocabulary
from segue.kernels.trend_loops import RowTable
from segue.shapes import Rows, Times
from segue.trends.ranker import item_key
from segue.trends.trends import Trends


class LiveItems:
    """The trends that lists of a model follow. Unknown items get rows when they are first asked for.

    Args:
        trends: what is counted.
        vocabulary: of the model, with free rows.
    """

    def __init__(self, trends: Trends, vocabulary: OpenVocabulary) -> None:
        self.trends, self.vocabulary = trends, vocabulary
        self.hidden: frozenset[str] = frozenset()  # ids that get no row
        self.table = RowTable.empty(vocabulary.size)
        self._rows: dict[int, int] = {0: 0}
        self._lock = threading.Lock()
        for name in list(trends.names.values()):
            self._find(item_key(name), name)

    def rows(self, keys: Sequence[int]) -> Rows:
        """Return int32[n], the row of each key; 0 for an item without one."""
        known = self._rows
        return np.fromiter(
            (row if (row := known.get(key)) is not None else self._find(key) for key in keys), np.int32, len(keys)
        )

    def keys(self, rows: NDArray[np.integer]) -> Times:
        """Return int64[...], the key of the item in each row; 0 for row 0 and for free rows."""
        keys: Times = self.table.row_keys[rows]
        missing = rows[(keys == 0) & (rows > 0)]
        if len(missing):
            texts = self.vocabulary.texts
            for row in np.unique(missing).tolist():
                if row <= len(texts):
                    self._note(item_key(texts[row - 1]), row)
            keys = self.table.row_keys[rows]
        return keys

    def meet(self, keys: Iterable[int]) -> bool:
        """Give rows to items that have none; return whether all have one now."""
        found = [self._find(key) for key in keys]
        return all(found)

    def _find(self, key: int, name: str | None = None) -> int:
        name = self.trends.names.get(key) if name is None else name
        if name is None or name in self.hidden:
            return 0  # it was let go, or it comes with the next event, or no list may hold it
        with self._lock:
            row = self.vocabulary.row(name) or self.vocabulary.meet(name)
        if row:
            self._note(key, row)
        return row

    def _note(self, key: int, row: int) -> None:
        with self._lock:
            if key not in self._rows:
                self._rows[key] = row
                self.table.put(key, row)
