"""The encoders of numbers, dates and vectors. Unreadable values give zeros."""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.log.columns import plain_name
from segue.data.values.parsing import LARGEST, number_of, numbers_of, vector_of
from segue.data.values.times import iso, moment_of
from segue.shapes import Floats

#: The most knots of a column.
KNOTS = 8


@dataclass(frozen=True)
class Numbers:
    """Numbers or dates as a linear spline: weights of the two nearest knots.

    The weight of a knot falls in a straight line from 1 at the knot to 0 at its neighbours; a value
    beyond the ends counts as the end. The weights of a value sum to 1, and a linear layer after
    them can learn any curve through the knots.

    Args:
        name: the column.
        kind: "number" or "date" (seconds since 1970).
        knots: ascending, at the quantiles of the column.

    Example:
        >>> years = Numbers("year", "number", (1990.0, 2000.0, 2010.0))
        >>> years.encode(pl.Series([1990, 2005, 2024, None])).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """

    name: str
    kind: str
    knots: tuple[float, ...]

    @classmethod
    def fit(cls, column: pl.Series, kind: str) -> "Numbers":
        """Place knots at quantiles; where these coincide, also at quantiles of distinct values."""
        numbers = numbers_of(column, moment_of if kind == "date" else number_of)
        numbers = numbers[np.isfinite(numbers)]
        values = np.unique(numbers)
        if len(values) > KNOTS:
            knots = np.unique(np.quantile(numbers, np.linspace(0, 1, KNOTS)))
            more = np.linspace(0, 1, KNOTS - len(knots) + 2)[1:-1]
            values = np.union1d(knots, np.quantile(values, more))
        return cls(column.name, kind, tuple(values.tolist()))

    @property
    def width(self) -> int:
        """The number of knots."""
        return len(self.knots)

    def number(self, value: object) -> float | None:
        """Return the number or the seconds since 1970 of a value, None where it cannot be read."""
        return moment_of(value) if self.kind == "date" else number_of(value)

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, knot]."""
        out = np.zeros((len(column), self.width), np.float32)
        numbers = numbers_of(column, moment_of if self.kind == "date" else number_of)
        rows = np.flatnonzero(np.isfinite(numbers))
        if self.width < 2:
            out[rows] = 1
            return out
        knots = np.array(self.knots)
        inside = np.clip(numbers[rows], knots[0], knots[-1])
        left = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, self.width - 2)
        share = (inside - knots[left]) / (knots[left + 1] - knots[left])
        out[rows, left] = 1 - share
        out[rows, left + 1] = share
        return out

    def add(self, value: object, out: Floats) -> None:
        """Add the two weights of one value."""
        number = self.number(value)
        if number is None or not self.knots:
            return
        if len(self.knots) < 2:
            out[0] += 1
            return
        number = min(max(number, self.knots[0]), self.knots[-1])
        left = min(max(bisect_right(self.knots, number) - 1, 0), len(self.knots) - 2)
        share = (number - self.knots[left]) / (self.knots[left + 1] - self.knots[left])
        out[left] += 1 - share
        out[left + 1] += share

    def reads(self, value: object) -> bool:
        """Return whether the value is a number, or a date."""
        return self.number(value) is not None

    def labels(self, value: object) -> list[str]:
        """Return the column's name with the number or the date."""
        number = self.number(value)
        return [] if number is None else [f"{plain_name(self.name)} {self._written(number)}"]

    def describe(self) -> str:
        """Return kind and range."""
        if not self.knots:
            return f"{self.kind}, but none was found"
        return f"{self.kind}, {self._written(self.knots[0])} to {self._written(self.knots[-1])}"

    def _written(self, number: float) -> str:
        if self.kind == "date" and abs(number) < 6e10:
            return iso(round(number * 1e6))[:10]
        return f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"


@dataclass(frozen=True)
class Vectors:
    """A vector less the column's mean, scaled to norm 1; other lengths count as missing.

    Example:
        >>> Vectors("v", (1.0, 1.0)).encode(pl.Series([[1.0, 5.0], [1.0], None])).tolist()
        [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """

    name: str
    mean: tuple[float, ...]

    @classmethod
    def fit(cls, column: pl.Series) -> "Vectors":
        """Take the mean of the vectors of the most common length."""
        lengths = Counter(len(vector) for value in column.to_list() if (vector := vector_of(value)) is not None)
        width = lengths.most_common(1)[0][0] if lengths else 0
        rows = _matrix(column, width)
        rows = rows[np.isfinite(rows).all(axis=1)]
        mean = (rows / max(len(rows), 1)).sum(axis=0) if len(rows) else np.zeros(width)
        return cls(column.name, tuple(mean.tolist()))

    @property
    def width(self) -> int:
        """The length of a vector."""
        return len(self.mean)

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, width]."""
        return self._directions(_matrix(column, self.width))

    def add(self, value: object, out: Floats) -> None:
        """Add the direction of one vector."""
        vector = vector_of(value)
        if vector is not None and len(vector) == self.width:
            out += self._directions(np.array([vector]))[0]

    def _directions(self, rows: NDArray[np.float64]) -> Floats:
        away = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.nan) - np.array(self.mean)
        largest = np.abs(away).max(axis=1, keepdims=True, initial=0)
        near = np.abs(np.array(self.mean)).max(initial=0) * 1e-6  # rounding of float32, not a direction
        away = np.divide(away, largest, out=np.zeros_like(away), where=largest > near)
        length = np.linalg.norm(away, axis=1, keepdims=True)
        directions: Floats = np.divide(away, length, out=np.zeros_like(away), where=length > 0).astype(np.float32)
        return directions

    def reads(self, value: object) -> bool:
        """Return whether the value is a vector of this length."""
        vector = vector_of(value)
        return vector is not None and len(vector) == self.width

    def labels(self, value: object) -> list[str]:
        """Return nothing: a vector has no label."""
        return []

    def describe(self) -> str:
        """Return the length."""
        return f"vector of {self.width} numbers, less their mean" if self.width else "vector, but none was found"


def _matrix(column: pl.Series, width: int) -> NDArray[np.float64]:
    """Return float64[row, width]; a row of another length or type is NaN."""
    out = np.full((len(column), width), np.nan)
    kind = column.dtype.base_type()
    inner = getattr(column.dtype, "inner", None)
    if kind in (pl.List, pl.Array) and inner is not None and inner.is_numeric():
        lists = column.cast(pl.List(pl.Float64))
        fits = (lists.list.len() == width).fill_null(False)
        if width and fits.any():
            out[fits.to_numpy()] = lists.filter(fits).explode().to_numpy().reshape(-1, width)
        return np.where(np.abs(out) < LARGEST, out, np.nan)
    for row, value in enumerate(column.to_list()):
        vector = vector_of(value)
        if vector is not None and len(vector) == width:
            out[row] = vector
    return out
