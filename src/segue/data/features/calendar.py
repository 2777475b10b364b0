"""The hour of the day and the day of the week of a time, in UTC, as numbers."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from segue.shapes import Floats

#: Knots on the circle of the day.
KNOTS = 24
#: Days of the week, Monday first.
DAYS = 7
#: Distinct days of a log whose hours may be a habit, and weeks of a log whose weekdays may be.
LEAST_DAYS, LEAST_WEEKS = 7, 4

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
#: The first of January 1970 was a Thursday.
_THURSDAY = 3


@dataclass(frozen=True)
class Calendar:
    """The hour as weights of the two nearest of `KNOTS` knots on a circle, and the day of the week.

    Args:
        name: the column of times, microseconds since 1970.
        hours: whether the hour is encoded.
        days: whether the day of the week is encoded.

    Example:
        >>> monday_noon = (4 * 24 + 12) * 3_600_000_000  # 5 January 1970
        >>> encoded = Calendar("time", True, True).encode(pl.Series([monday_noon, None]))
        >>> np.flatnonzero(encoded[0]).tolist(), float(encoded[0, 12]), encoded[1].any()
        ([12, 24], 1.0, np.False_)
    """

    name: str
    hours: bool
    days: bool

    @classmethod
    def fit(cls, times: pl.Series) -> "Calendar":
        """Encode hours of logs of a week or more, and weekdays of logs of four weeks or more."""
        days = times.unique() // _DAY
        hours_apart = (times % _DAY // _HOUR).n_unique() > 1
        weeks, weekdays = ((days + _THURSDAY) // DAYS).n_unique(), ((days + _THURSDAY) % DAYS).n_unique()
        return cls(times.name, hours_apart and days.n_unique() >= LEAST_DAYS, weekdays > 1 and weeks >= LEAST_WEEKS)

    @property
    def width(self) -> int:
        """The numbers of a time."""
        return KNOTS * self.hours + DAYS * self.days

    def encode(self, column: pl.Series) -> Floats:
        """Return float32[row, width]; zeros where the time is unknown or of another type."""
        out = np.zeros((len(column), self.width), np.float32)
        if not column.dtype.is_integer():
            return out
        rows = np.flatnonzero(column.is_not_null())
        times = column.drop_nulls().cast(pl.Int64).to_numpy()
        if self.hours:
            place = times % _DAY * (KNOTS / _DAY)
            left = place.astype(np.int64)
            out[rows, left] = 1 - (place - left)
            out[rows, (left + 1) % KNOTS] += place - left
        if self.days:
            out[rows, KNOTS * self.hours + (times // _DAY + _THURSDAY) % DAYS] = 1
        return out

    def add(self, value: object, out: Floats) -> None:
        """Add the numbers of one time."""
        if not isinstance(value, int):
            return
        if self.hours:
            place = value % _DAY * (KNOTS / _DAY)
            left = int(place)
            out[left] += 1 - (place - left)
            out[(left + 1) % KNOTS] += place - left
        if self.days:
            out[KNOTS * self.hours + (value // _DAY + _THURSDAY) % DAYS] += 1

    def reads(self, value: object) -> bool:
        """Return whether the value is a time."""
        return isinstance(value, int)

    def labels(self, value: object) -> list[str]:
        """Return nothing: a time does not explain a recommendation."""
        return []

    def describe(self) -> str:
        """Return what is encoded, in words."""
        parts = ["hour of the day"] * self.hours + ["day of the week"] * self.days
        return f"{' and '.join(parts)}, UTC" if parts else "nothing that comes again"
