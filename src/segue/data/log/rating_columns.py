"""What a column of ratings holds: stars, a measurement, or a quantity with a heavy tail."""

from typing import NamedTuple

import numpy as np
import polars as pl

from segue.shapes import Floats

#: Up to this many distinct values are steps of a scale; more are measurements.
STEPS = 25
#: Outliers (`ends_of`): a step's greatest share and least relative distance; a measurement's fences.
_OUTLIERS, _APART, _FENCE = 0.01, 10.0, 3.0


def ratings_of(table: pl.DataFrame) -> Floats:
    """Return float32[event] of a table of events, NaN where there is no rating."""
    if "rating" not in table.columns:
        return np.full(table.height, np.nan, np.float32)
    return table["rating"].cast(pl.Float32).fill_null(np.nan).to_numpy()


def ends_of(known: Floats) -> tuple[float, float]:
    """Return the lowest and highest rating without outliers, which count as the nearer end.

    A step is an outlier if it is an end, at most one rating in a hundred, and ten times as far from
    the next step as all other steps are apart. A measurement is an outlier beyond the outer fences,
    three interquartile ranges away from the quartiles (Tukey, 1977, "Exploratory Data Analysis").

    Args:
        known: float32[n], finite, n >= 1.

    Example:
        >>> ends_of(np.float32([1, 2, 4, 5, 5] * 40 + [1e12]))
        (1.0, 5.0)
        >>> ends_of(np.float32([0] * 300 + [1]))
        (0.0, 1.0)
        >>> ends_of(np.float32([*range(100), 7e6]))
        (0.0, 99.0)
    """
    levels, counts = np.unique(known, return_counts=True)
    inside = np.ones(len(levels), bool)
    if len(levels) > STEPS:
        low, high = np.quantile(known.astype(np.float64), (0.25, 0.75))
        reach = _FENCE * (high - low)
        if reach > 0:
            inside = (levels >= low - reach) & (levels <= high + reach)
    else:
        few = counts <= _OUTLIERS * len(known)
        while few[inside][-1] and _alone(levels[inside][::-1]):
            inside[np.flatnonzero(inside)[-1]] = False
        while few[inside][0] and _alone(levels[inside]):
            inside[np.flatnonzero(inside)[0]] = False
    return float(levels[inside][0]), float(levels[inside][-1])


def _alone(levels: Floats) -> bool:
    """Return whether the first step lies far from all others, which are at least two."""
    away, others = np.abs(np.float64(levels[:1]) - levels[1:2]), np.abs(np.float64(levels[-1:]) - levels[1:2])
    return bool(len(levels) > 2 and away[0] > _APART * others[0])


class RatingColumn(NamedTuple):
    """What a column of ratings holds, and how it is used unless `train.task` says otherwise.

    Args:
        predicted: whether later ratings are predicted.
        text: both, in words; empty in a log without ratings.
    """

    predicted: bool
    text: str


def inspect_ratings(table: pl.DataFrame) -> RatingColumn:
    """Return what the ratings of a table of events hold.

    Ratings are predicted where at least half of the rows have one, the ratings differ, and they are
    no quantity. Quantities such as prices, plays and dwell times have a heavy tail: a predicted
    mean says little of them. A column is a quantity if it has more than `STEPS` distinct values and
    more than one in a hundred is an outlier (`ends_of`).

    Example:
        >>> inspect_ratings(pl.DataFrame({"rating": [4.0, 2.0]})).text
        '2 to 4, 2 steps, mean 3: predicted beside the next item'
        >>> inspect_ratings(pl.DataFrame({"rating": [1.5**n for n in range(40)]})).predicted
        False
    """
    if "rating" not in table.columns:
        return RatingColumn(False, "")
    ratings = ratings_of(table)
    known = ratings[np.isfinite(ratings)]
    if not len(known):
        return RatingColumn(False, "no row has a number: not read")
    lowest, highest = ends_of(known)
    values, beyond = len(np.unique(known)), int(np.count_nonzero((known < lowest) | (known > highest)))
    steps = f"{values} steps" if values <= STEPS else f"{values:,} values"
    mean = np.clip(known, lowest, highest).mean(dtype=np.float64)
    summary = f"{known.min():g} to {known.max():g}, {steps}, mean {mean:.4g}"
    if known.min() == known.max():
        return RatingColumn(False, f"{summary}: all are equal, so none is predicted")
    if 2 * len(known) < len(ratings):
        share = f"{len(known):,} of {len(ratings):,} rows have one"
        return RatingColumn(False, f"{summary}; {share}: read with each event, none predicted")
    if values > STEPS and beyond > _OUTLIERS * len(known):
        tail = f"a quantity with a heavy tail, {beyond:,} lie outside {lowest:g} to {highest:g}"
        return RatingColumn(False, f"{summary}; {tail}: read with each event, none predicted (--task both would)")
    outliers = f"; {beyond:,} far outside {lowest:g} to {highest:g} count as the nearer end" if beyond else ""
    return RatingColumn(True, f"{summary}{outliers}: predicted beside the next item")
