"""`Vocabulary`: the row of each id in the arrays of a model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.values.ids import id_of, ids_of
from segue.data.values.lookup import Haystack
from segue.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A fixed list of ids; the id at position `i` has row `i + 1`, and row 0 is *unknown*.

    Args:
        ids: the ids as text, without repeats and without nulls.

    Raises:
        ArgumentError: an id is null or stands twice.

    Example:
        >>> items = Vocabulary(pl.Series(["17", "007"]))
        >>> items.size
        3
        >>> items.rows(["007", "never seen"]).tolist()
        [2, 0]
        >>> items.id(2)
        '007'
    """

    ids: pl.Series

    def __post_init__(self) -> None:
        if self.ids.dtype != pl.String or self.ids.null_count() or self.ids.n_unique() != len(self.ids):
            raise ArgumentError(
                f"vocabulary: expected distinct ids as text, came {self.ids.dtype} with "
                f"{self.ids.null_count()} nulls and {self.ids.n_unique()} distinct of {len(self.ids)}. "
                "Cast the ids to text and drop nulls and repeats."
            )

    @property
    def size(self) -> int:
        """The number of rows with row 0: the length of an embedding table."""
        return len(self.ids) + 1

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id: object) -> bool:
        return id in self._row_of or id_of(id) in self._row_of

    @property
    def learnt_size(self) -> int:
        """The rows that the network reads, row 0 included."""
        return len(self.ids) + 1

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {id: row for row, id in enumerate(self.ids, start=1)}

    @cached_property
    def texts(self) -> list[str]:
        """The ids from row 1 on."""
        return [str(id) for id in self.ids]

    def more(self, ids: pl.Series) -> "Vocabulary":
        """Return a vocabulary with more ids at its end. Cost: a copy of ids and built indexes.

        Raises:
            ArgumentError: an id is null or stands twice.
        """
        longer, built, texts = Vocabulary(pl.concat([self.ids, ids])), vars(self), [str(id) for id in ids]
        if "texts" in built:
            vars(longer)["texts"] = [*self.texts, *texts]
        if "_row_of" in built:
            vars(longer)["_row_of"] = {**self._row_of, **dict(zip(texts, range(self.size, longer.size), strict=True))}
        if "_haystack" in built:
            vars(longer)["_haystack"] = self._haystack.more(texts)
        return longer

    def lay_out(self) -> None:
        """Build the indexes of ids before the first request. Cost: O(ids), once."""
        self._row_of, self._haystack  # noqa: B018

    def find(self, part: str) -> Iterator[str]:
        """Yield the ids that hold a part, whatever the case, in order.

        Cost: once O(ids); then about 1 ms for 300,000 ids.
        """
        return (self.texts[number] for number in self._haystack.find(part))

    @cached_property
    def _haystack(self) -> Haystack:
        return Haystack.of(self.texts)

    def row(self, id: str) -> int:
        """Return the row of an id, 0 if unknown; blanks around the id do not count. O(1)."""
        return self._row_of.get(id, 0) or self._row_of.get(id_of(id), 0)

    def learnt_row(self, id: str) -> int:
        """Return the row that the network reads for an id, 0 if unknown."""
        return self.row(id)

    def rows(self, ids: Iterable[str]) -> NDArray[np.int32]:
        """Return int32[n], the row of each id, 0 where unknown; O(n).

        Raises:
            ArgumentError: `ids` is a single text.
        """
        if isinstance(ids, pl.Series):
            return self.rows_of_series(ids)
        texts = ids_of(ids, "ids")
        rows = np.fromiter(map(self._row_of.get, texts, repeat(0)), np.int32, len(texts))
        for place in np.flatnonzero(rows == 0).tolist():
            rows[place] = self.row(texts[place])
        return rows

    def rows_of_series(self, ids: pl.Series) -> NDArray[np.int32]:
        """Return int32[n] for a whole column at once, without a Python object per id."""
        table = pl.DataFrame({"id": self.ids, "row": np.arange(1, self.learnt_size, dtype=np.int32)})
        joined = pl.DataFrame({"id": ids.cast(pl.String)}).join(table, on="id", how="left", maintain_order="left")
        return joined["row"].fill_null(0).to_numpy().astype(np.int32)

    def id(self, row: int) -> str:
        """Return the id of a row.

        Raises:
            ArgumentError: the row is 0 (*unknown* has no id) or beyond the last row.
        """
        if not 1 <= row < self.size:
            raise ArgumentError(f"vocabulary: expected a row from 1 to {self.size - 1}, came {row}.")
        return str(self.ids[int(row) - 1])

    def ids_of(self, rows: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Return the id of each row."""
        return [self.id(int(row)) for row in rows]


@dataclass(frozen=True, eq=False)
class OpenVocabulary(Vocabulary):
    """A vocabulary with free rows at its end, for ids that a model meets while it serves.

    The network goes on reading such an id as unknown (`learnt_row`), so a user's state does not
    depend on when the id was met. `ids` holds the learnt ids alone.

    Args:
        ids: the learnt ids.
        room: free rows.

    Example:
        >>> items = OpenVocabulary(pl.Series(["17"]), room=1)
        >>> items.meet("new"), items.row("new"), items.learnt_row("new"), items.full, items.meet("newer")
        (2, 2, 0, True, 0)
        >>> items.texts, items.size
        (['17', 'new'], 3)
    """

    room: int = 0

    @property
    def size(self) -> int:
        """The number of rows, the free ones and row 0 included."""
        return len(self.ids) + self.room + 1

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def full(self) -> bool:
        """Whether no row is free."""
        return len(self) >= len(self.ids) + self.room

    def learnt_row(self, id: str) -> int:
        """Return the row that the network reads for an id, 0 for one that was met later."""
        row = self.row(id)
        return row if row <= len(self.ids) else 0

    def meet(self, id: str) -> int:
        """Give an id that has no row a free one, and return the row; 0 where none is free."""
        if self.full:
            return 0
        self.texts.append(id)
        self._row_of[id] = row = len(self.texts)
        return row

    def id(self, row: int) -> str:
        """Return the id of a row that has one."""
        return self.texts[row - 1] if len(self.ids) < row <= len(self) else super().id(row)
