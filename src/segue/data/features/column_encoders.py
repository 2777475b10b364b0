"""Column encoders: their contract, and the encoders of categories and texts.

Unreadable values give zeros.
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
from segue.data.features.kinds import separator_of
from segue.data.features.text import TextEncoder
from segue.data.log.columns import plain_name
from segue.data.values.parsing import distinct, text_of, word, words_of
from segue.shapes import Floats

#: Up to this many categories have a number each; more share a count sketch.
ONE_HOT = 256


class ColumnEncoder(Protocol):
    """A frozen value, fitted to one column of a table and kept in the model."""

    @property
    def name(self) -> str:
        """The column's name in the table."""

    @property
    def width(self) -> int:
        """The numbers per value."""

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, width] of a whole column."""

    def add(self, value: object, out: Floats) -> None:
        """Add the numbers of one value to float32[width]."""

    def reads(self, value: object) -> bool:
        """Return whether a present value has the type that was fitted."""

    def labels(self, value: object) -> list[str]:
        """Return the parts of a value that training knew, in words."""

    def describe(self) -> str:
        """Return how the column is encoded, in words."""


@dataclass(frozen=True)
class Categories:
    """One or several values of a vocabulary: one-hot, or a count sketch of 256 numbers.

    The numbers of a row's values are summed and divided by the square root of the number of values.
    The vocabulary holds the values that at least two rows share; any other value gives zeros.

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
    def fit(cls, column: pl.Series, *, several: bool) -> "Categories":
        """Count the rows that share each value."""
        separator = separator_of(column) if several else None
        values, which = distinct(column)
        rows = np.bincount(which, minlength=len(values)).tolist() if len(values) else []
        counts: Counter[str] = Counter()
        for value, count in zip(values, rows, strict=True):
            for part in _split(value, separator, several=several):
                counts[part] += count
        known = sorted((-count, part) for part, count in counts.items() if count > 1)
        return cls(column.name, several, separator, tuple(part for _, part in known))

    @property
    def sketched(self) -> bool:
        """Whether the values share a count sketch."""
        return len(self.words) > ONE_HOT

    @property
    def width(self) -> int:
        """One number for each value, or 256."""
        return PLACES if self.sketched else len(self.words)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {known: number for number, known in enumerate(self.words)}

    def _known(self, value: object) -> list[str]:
        return [part for part in _split(value, self.separator, several=self.several) if part in self._number]

    def _places(self, words: Sequence[str]) -> tuple[NDArray[np.int64], Floats]:
        if self.sketched:
            return places(self.name, words)
        columns = np.array([self._number[known] for known in words], np.int64)
        return columns[:, None], np.ones((len(words), 1), np.float32)

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, width]."""
        values, which = distinct(column)
        known = [self._known(value) for value in values]
        counts = np.array([len(words) for words in known], np.int64)
        columns, shares = self._places([part for words in known for part in words])
        starts = np.cumsum(counts) - counts
        # Each row takes the run of places of its distinct value.
        rows = np.repeat(np.arange(len(which)), counts[which])
        firsts = np.cumsum(counts[which]) - counts[which]
        taken = np.arange(len(rows)) - np.repeat(firsts, counts[which]) + np.repeat(starts[which], counts[which])
        scale = (1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32)[which]
        out = np.zeros((len(which), self.width), np.float32)
        np.add.at(out, (rows[:, None], columns[taken]), shares[taken] * scale[rows][:, None])
        return out

    def add(self, value: object, out: Floats) -> None:
        """Add the numbers of one value."""
        known = self._known(value)
        if not self.sketched:
            for part in known:
                out[self._number[part]] += len(known) ** -0.5
        elif known:
            columns, shares = places(self.name, known)
            np.add.at(out, columns, shares * np.float32(len(known) ** -0.5))

    def reads(self, value: object) -> bool:
        """Return whether the value is a word, a number, or several where allowed."""
        return bool(_split(value, self.separator, several=self.several))

    def labels(self, value: object) -> list[str]:
        """Return the column's name with each known value."""
        return [f"{plain_name(self.name)} {part}" for part in self._known(value)]

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
    """A text as a vector, by a text encoder.

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
        """Return whether the value holds a text."""
        return bool(text_of(value))

    def labels(self, value: object) -> list[str]:
        """Return nothing: a text is too long for a label."""
        return []

    def describe(self) -> str:
        """Return the name of the text encoder."""
        return f'text by "{self.encoder.name}", {self.width} columns'


@dataclass(frozen=True)
class Ignored:
    """A column that is not used, and why."""

    name: str
    why: str
    width: int = 0

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, 0]."""
        return np.zeros((len(column), 0), np.float32)

    def add(self, value: object, out: Floats) -> None:
        """Add nothing."""

    def reads(self, value: object) -> bool:
        """Return True: any value will do."""
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
    only = word(value)
    return [] if only is None else [only]
