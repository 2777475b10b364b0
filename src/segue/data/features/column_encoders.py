"""How one column becomes numbers: a frozen value per kind, learnt from the column, kept as plain values.

Knows: the contract of all kinds; vocabularies and sketches of categories; texts and what is ignored.
Does not know: the other columns, or where the numbers go. Whatever cannot be read gives zeros.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.features.hashing import PLACES, SHARES, places
from segue.data.features.kinds import plain_name, separator_of
from segue.data.features.text import TextEncoder
from segue.data.values.parsing import distinct, text_of, word, words_of
from segue.shapes import Floats

#: More categories than this share the columns of a sketch.
ONE_HOT = 256


class Block(Protocol):
    """The numbers of one column: `name` is the column, `width` how many numbers a value has."""

    @property
    def name(self) -> str:
        """The column's name in the table."""
        ...

    @property
    def width(self) -> int:
        """The numbers per value."""
        ...

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, width] of a whole column."""
        ...

    def add(self, value: object, out: Floats) -> None:
        """Add the numbers of one value to float32[width]."""
        ...

    def reads(self, value: object) -> bool:
        """Return whether a value that is there has the type that was learnt."""
        ...

    def labels(self, value: object) -> list[str]:
        """Return what of a value was met in learning, in words."""
        ...

    def describe(self) -> str:
        """Return what became of the column, in words."""
        ...


@dataclass(frozen=True)
class Categories:
    """One value or several of a vocabulary: a column each, or together in a sketch of 256.

    A row's values are summed and divided by the square root of their number. The vocabulary has what at
    least two rows share; a value outside of it gives zeros.

    Args:
        name: the column.
        several: whether a row may have several values.
        separator: between the values of a text; None for lists and single values.
        words: the vocabulary, the most frequent first.

    Example:
        >>> genres = Categories("genres", True, "|", ("Drama", "Comedy"))
        >>> genres.encode(pl.Series(["Comedy", "Western", None, "Comedy|Drama"])).tolist()  # doctest: +ELLIPSIS
        [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.7071..., 0.7071...]]
    """

    name: str
    several: bool
    separator: str | None
    words: tuple[str, ...]

    @classmethod
    def learnt(cls, column: pl.Series, *, several: bool) -> "Categories":
        """Count the rows that share each value."""
        separator = separator_of(column) if several else None
        values, which = distinct(column)
        rows = np.bincount(which, minlength=len(values)).tolist() if len(values) else []
        counts: Counter[str] = Counter()
        for value, count in zip(values, rows, strict=True):
            for each in _split(value, separator, several=several):
                counts[each] += count
        known = sorted((-count, each) for each, count in counts.items() if count > 1)
        return cls(column.name, several, separator, tuple(each for _, each in known))

    @property
    def sketched(self) -> bool:
        """Whether the values share columns."""
        return len(self.words) > ONE_HOT

    @property
    def width(self) -> int:
        """A column for each value, or 256."""
        return PLACES if self.sketched else len(self.words)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {each: number for number, each in enumerate(self.words)}

    def _known(self, value: object) -> list[str]:
        return [each for each in _split(value, self.separator, several=self.several) if each in self._number]

    def _places(self, words: Sequence[str]) -> tuple[NDArray[np.int64], Floats]:
        if self.sketched:
            return places(self.name, words)
        columns = np.array([self._number[each] for each in words], np.int64)
        return columns[:, None], np.ones((len(words), 1), np.float32)

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, width]."""
        values, which = distinct(column)
        known = [self._known(value) for value in values]
        counts = np.array([len(each) for each in known], np.int64)
        columns, shares = self._places([each for some in known for each in some])
        starts = np.cumsum(counts) - counts
        # For each row the run of places that its distinct value has.
        rows = np.repeat(np.arange(len(which)), counts[which])
        firsts = np.cumsum(counts[which]) - counts[which]
        taken = np.arange(len(rows)) - np.repeat(firsts, counts[which]) + np.repeat(starts[which], counts[which])
        scale = (1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32)[which]
        out = np.zeros((len(which), self.width), np.float32)
        np.add.at(out, (rows[:, None], columns[taken]), shares[taken] * scale[rows][:, None])
        return out

    def add(self, value: object, out: Floats) -> None:
        """Add the places of one value."""
        known = self._known(value)
        if not self.sketched:
            for each in known:
                out[self._number[each]] += len(known) ** -0.5
        elif known:
            columns, shares = places(self.name, known)
            np.add.at(out, columns, shares * np.float32(len(known) ** -0.5))

    def reads(self, value: object) -> bool:
        """Return whether the value is a word (a number too), or several where several may be."""
        return bool(_split(value, self.separator, several=self.several))

    def labels(self, value: object) -> list[str]:
        """Return each known value behind the column's name."""
        return [f"{plain_name(self.name)} {each}" for each in self._known(value)]

    def describe(self) -> str:
        """Return the kind and the number of values."""
        by = "" if not self.several else f" by {_NAMED.get(self.separator or '', self.separator or 'lists')}"
        what = ("categories" if self.several else "category") + by
        if not self.words:
            return f"{what}, no two rows share a value"
        return (
            f"{what}, {len(self.words):,} value{'s' * (len(self.words) > 1)}"
            + f" in {PLACES} columns, {SHARES} for each" * self.sketched
        )


_NAMED = {"": "lists", " ": "blanks"}


@dataclass(frozen=True)
class Texts:
    """A text as its encoder has it.

    Example:
        >>> from segue.data.features.text import text_encoder
        >>> titles = Texts("title", text_encoder("words", ["Toy Story", "Toy Story 2"]))
        >>> (titles.encode(pl.Series(["<i>Toy</i>", None])) ** 2).sum(axis=1).round(3).tolist()
        [1.0, 0.0]
    """

    name: str
    encoder: TextEncoder

    @property
    def width(self) -> int:
        """The encoder's width."""
        return self.encoder.width

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, width]."""
        values, which = distinct(column)
        vectors: Floats = self.encoder.encode([text_of(value) for value in values])[which]
        return vectors

    def add(self, value: object, out: Floats) -> None:
        """Add the vector of one text."""
        if text := text_of(value):
            out += self.encoder.encode([text])[0]

    def reads(self, value: object) -> bool:
        """Return whether the value has a text."""
        return bool(text_of(value))

    def labels(self, value: object) -> list[str]:
        """Return nothing: a text would be too long."""
        return []

    def describe(self) -> str:
        """Return the encoder."""
        return f'text by "{self.encoder.name}", {self.width} columns'


@dataclass(frozen=True)
class Ignored:
    """A column that says nothing, and why."""

    name: str
    why: str
    width: int = 0

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, 0]."""
        return np.zeros((len(column), 0), np.float32)

    def add(self, value: object, out: Floats) -> None:
        """Add nothing."""

    def reads(self, value: object) -> bool:
        """Return True: nothing is expected."""
        return True

    def labels(self, value: object) -> list[str]:
        """Return nothing."""
        return []

    def describe(self) -> str:
        """Return the reason."""
        return f"ignored, {self.why}"


def _split(value: object, separator: str | None, *, several: bool) -> list[str]:
    if several:
        return words_of(value, separator)
    one = word(value)
    return [] if one is None else [one]
