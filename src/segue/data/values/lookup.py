"""Two indexes: the rows of a value (`Postings`), the texts that hold a part (`Haystack`)."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.values.parsing import distinct, word
from segue.shapes import Bools, Rows

T = TypeVar("T")

_NONE = np.zeros(0, np.int32)
#: Stands after each text; no text holds it.
_END = "\0"
#: In place of a separator: the values of a text are its words that have a letter, in lower case.
WORDS = "\\w"
_WORD = re.compile(r"\w*[^\W\d_]\w*")


def keys_of(cell: object, *, several: bool = False, separator: str | None = None) -> set[str]:
    """Return the texts under which a cell is found: as written, and that of equal values.

    Args:
        several: whether the cell holds several values.
        separator: between values in a text; `WORDS` for words.

    Example:
        >>> sorted(keys_of(5.0)), sorted(keys_of("a | b", several=True, separator="|")), keys_of(None)
        (['5', '5.0'], ['a', 'b'], set())
        >>> sorted(keys_of("Toy Story 2: toys (1999)", several=True, separator=WORDS))
        ['story', 'toy', 'toys']
    """
    if cell is None:
        return set()
    if separator == WORDS:
        return set(_WORD.findall(str(cell).lower()))
    if not several:
        parts: list[object] = [cell]
    elif isinstance(cell, list):
        parts = [str(part).strip() for part in cell]
    else:
        parts = [part.strip() for part in str(cell).split(separator)]
    return {str(part) for part in parts} | {same for part in parts if (same := word(part)) is not None}


@dataclass(frozen=True, eq=False)
class Postings:
    """The rows of each value of a column: an inverted index.

    Args:
        codes: a number for each text under which a value can be found (`keys_of`).
        offsets: int64[code + 1].
        rows: int32[n]; code `c` has the rows `offsets[c]` up to `offsets[c + 1]`, ascending.
        several, separator: as for `keys_of`.
        changed: the rows of texts that changed since `codes` was built.

    Example:
        >>> genres = Postings.of(pl.Series(["a|b", None, "b"]), several=True, separator="|")
        >>> genres.find(["b"]).tolist(), genres.find(["a", "b", "c"]).tolist()
        ([1, 3], [1, 3])
        >>> later = genres.updated({3: ("b", "c"), 2: (None, "c|b")})
        >>> later.find(["c"]).tolist(), later.find(["b"]).tolist()
        ([2, 3], [1, 2])
    """

    codes: Mapping[str, int]
    offsets: NDArray[np.int64]
    rows: Rows
    several: bool
    separator: str | None
    changed: Mapping[str, Rows] = field(default_factory=dict)

    @classmethod
    def of(cls, column: pl.Series, *, several: bool = False, separator: str | None = None) -> "Postings":
        """Index a column, whose rows count from 1. Cost: O(rows)."""
        values, which = distinct(column)
        codes: dict[str, int] = {}
        codes_of = [
            [codes.setdefault(key, len(codes)) for key in keys_of(value, several=several, separator=separator)]
            for value in values
        ]
        counts = np.array([len(each) for each in codes_of], np.int64)
        flat = np.array([code for each in codes_of for code in each], np.int64)
        starts, of_row = np.cumsum(counts) - counts, counts[which] if len(counts) else counts
        rows = np.repeat(np.arange(1, len(which) + 1, dtype=np.int32), of_row)
        inside = np.arange(len(rows)) - np.repeat(np.cumsum(of_row) - of_row, of_row)
        of_code = flat[np.repeat(starts[which] if len(counts) else counts, of_row) + inside]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(of_code, minlength=len(codes)))]).astype(np.int64)
        return cls(codes, offsets, rows[np.argsort(of_code, kind="stable")], several, separator)

    def find(self, keys: Iterable[str]) -> Rows:
        """Return int32[n], ascending and distinct: the rows of any of these texts. Cost: O(n)."""
        lists = [rows for key in set(keys) if len(rows := self._of(key))]
        if len(lists) < 2:
            return lists[0] if lists else _NONE
        flags = np.zeros(max(int(rows[-1]) for rows in lists) + 1, bool)
        for rows in lists:
            flags[rows] = True
        return np.flatnonzero(flags).astype(np.int32)

    def counts(self, among: Bools | None = None) -> dict[str, int]:
        """Return how many rows each value has, values that no row has left out, most frequent first.

        Args:
            among: bool[row], the rows that count; None counts all.

        Cost: O(rows).

        Example:
            >>> genres = Postings.of(pl.Series(["a|b", "b", None]), several=True, separator="|")
            >>> genres.counts(), genres.counts(np.array([False, True, False, False]))
            ({'b': 2, 'a': 1}, {'a': 1, 'b': 1})
            >>> Postings.of(pl.Series([True, True, False])).counts()
            {'true': 2, 'false': 1}
        """
        taken = np.ones(len(self.rows), np.int64) if among is None else among[self.rows].astype(np.int64)
        sums = np.concatenate([[0], np.cumsum(taken)])
        found = dict(zip(self.codes, (sums[self.offsets[1:]] - sums[self.offsets[:-1]]).tolist(), strict=True))
        found |= {key: len(rows) if among is None else int(among[rows].sum()) for key, rows in self.changed.items()}
        written = {"True": "true", "False": "false"}  # a truth value is also found as Python writes it
        values = ((key, n) for key, n in found.items() if n and word(key) == key and written.get(key) not in found)
        return dict(sorted(values, key=lambda each: (-each[1], each[0])))

    def updated(self, cells: Mapping[int, tuple[object, object]]) -> "Postings":
        """Return an index with other cells: row -> the cell before, and the cell now.

        Cost: a copy of the rows of each text that changed.
        """
        removed: dict[str, list[int]] = defaultdict(list)
        added: dict[str, list[int]] = defaultdict(list)
        for row, pair in cells.items():
            before, after = (keys_of(cell, several=self.several, separator=self.separator) for cell in pair)
            for key in before - after:
                removed[key].append(row)
            for key in after - before:
                added[key].append(row)
        changed = {}
        for key in removed.keys() | added.keys():
            rows = self._of(key)
            rows = np.delete(rows, np.searchsorted(rows, removed.get(key, [])))
            new = np.array(sorted(added.get(key, [])), np.int32)
            changed[key] = np.insert(rows, np.searchsorted(rows, new), new)
        return replace(self, changed={**self.changed, **changed}) if changed else self

    def sums(self, weigh: Callable[[NDArray[np.int64]], NDArray[np.float64]], size: int) -> NDArray[np.float64]:
        """Return float64[row]: for each row below `size` the sum of the weights of its texts.

        Args:
            weigh: the weights of texts that so many rows have.

        Example:
            >>> genres = Postings.of(pl.Series(["a|b", None, "b"]), several=True, separator="|")
            >>> genres.sums(lambda counts: 1 / counts, 4).tolist()
            [0.0, 1.5, 0.0, 0.5]
        """
        weights = weigh(np.diff(self.offsets))
        weights[[self.codes[key] for key in self.changed if key in self.codes]] = 0
        each = np.repeat(weights, np.diff(self.offsets))
        sums: NDArray[np.float64] = np.bincount(self.rows, each, size).astype(np.float64)
        for rows in self.changed.values():
            if len(rows):
                sums[rows] += weigh(np.array([len(rows)]))
        return sums

    def _of(self, key: str) -> Rows:
        rows = self.changed.get(key)
        if rows is None:
            code = self.codes.get(key)
            rows = _NONE if code is None else self.rows[self.offsets[code] : self.offsets[code + 1]]
        return rows


@dataclass(frozen=True, eq=False)
class Haystack:
    """Many texts joined to one, to search for a part of them whatever the case.

    Args:
        text: all texts as UTF-8, case folded, a NUL byte after each.
        starts: int64[n], where each text begins.

    Example:
        >>> names = Haystack.of(["Heat", "Casino", "Cheap"])
        >>> list(names.find("HEA")), list(names.find("")), list(names.find("x"))
        ([0, 2], [0, 1, 2], [])
    """

    text: bytes
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Haystack":
        """Join texts. Cost: O(their length)."""
        folded = [folded_text(text).encode(errors="surrogatepass") for text in texts]
        lengths = np.array([len(text) + 1 for text in folded], np.int64)
        end = _END.encode()
        return cls(b"".join(text + end for text in folded), np.cumsum(lengths) - lengths)

    def more(self, texts: Sequence[str]) -> "Haystack":
        """Return the same with more texts at the end. Cost: a copy.

        Example:
            >>> list(Haystack.of(["Heat"]).more(["Cheap", "Casino"]).find("hea"))
            [0, 1]
        """
        new = Haystack.of(texts)
        return Haystack(self.text + new.text, np.concatenate([self.starts, new.starts + len(self.text)]))

    def find(self, part: str) -> Iterator[int]:
        """Yield the numbers of the texts that hold a part, in order. Cost: about 1 ms for 2 MB."""
        folded, at = part.casefold().encode(errors="surrogatepass"), 0
        if _END.encode() in folded:
            return
        while at < len(self.text) and (at := self.text.find(folded, at)) >= 0:
            number = int(np.searchsorted(self.starts, at, side="right")) - 1
            yield number
            at = int(self.starts[number + 1]) if number + 1 < len(self.starts) else len(self.text)


def folded_text(text: str) -> str:
    """Return a text folded for search: its case does not count.

    Example:
        >>> folded_text("Straße")
        'strasse'
    """
    return text.casefold().replace(_END, " ")


def first(results: Iterable[T], limit: int | None) -> list[T]:
    """Return the first `limit` results, all where it is None."""
    return list(islice(results, limit))
