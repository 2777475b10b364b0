"""What a column of ratings looks like: stars, a measurement, or a quantity with a heavy tail.

Knows: numbers. Does not know: users, items, how ratings are learnt.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from segue.shapes import Floats

#: Up to so many different values are steps of a scale; more are measurements.
STEPS = 25
#: What an outlier is, see `ends_of`: of steps at most this share, so many times as far away as all others are apart;
#: of measurements so many distances between the quartiles beyond these.
_OUTLIERS, _APART, _FENCE = 0.01, 10.0, 3.0


def ratings_of(table: pl.DataFrame) -> Floats:
    """Return float32[event] of a table of events, NaN where there is no rating."""
    if "rating" not in table.columns:
        return np.full(table.height, np.nan, np.float32)
    return table["rating"].cast(pl.Float32).fill_null(np.nan).to_numpy()


def ends_of(known: Floats) -> tuple[float, float]:
    """Return the lowest and the highest rating that are no outliers; those beyond count as these.

    Of steps, the ends are outliers if they lie as far from the next step as ten times all others, and are at most one
    rating in a hundred. Of measurements they are what lies beyond the outer fences, three times the distance of the
    quartiles away from these (Tukey, 1977, "Exploratory Data Analysis").

    Args:
        known: float32[n], finite, some.

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
    """Say whether the first of some steps lies far from all others, of which there are two at least."""
    away, others = np.abs(np.float64(levels[:1]) - levels[1:2]), np.abs(np.float64(levels[-1:]) - levels[1:2])
    return bool(len(levels) > 2 and away[0] > _APART * others[0])


class Ratings(NamedTuple):
    """What a column of ratings looks like, and what is done with it unless `train.task` says otherwise.

    Args:
        predicted: whether ratings to come are learnt.
        text: both, in words; empty where a log has no such column.
    """

    predicted: bool
    text: str


def inspect_ratings(table: pl.DataFrame) -> Ratings:
    """Return what the ratings of a table of events look like.

    Ratings to come are learnt where at least half of the rows have one, they differ, and they are no quantity: prices,
    plays and dwell times have a heavy tail, of which a mean says little. A column is taken for a quantity if it has
    more than `STEPS` different values, of which more than one in a hundred lie beyond the outer fences (`ends_of`).

    Example:
        >>> inspect_ratings(pl.DataFrame({"rating": [4.0, 2.0]})).text
        '2 to 4, 2 steps, mean 3: predicted beside the next item'
        >>> inspect_ratings(pl.DataFrame({"rating": [1.5**n for n in range(40)]})).predicted
        False
    """
    if "rating" not in table.columns:
        return Ratings(False, "")
    ratings = ratings_of(table)
    known = ratings[np.isfinite(ratings)]
    if not len(known):
        return Ratings(False, "no row has a number: not read")
    lowest, highest = ends_of(known)
    values, beyond = len(np.unique(known)), int(np.count_nonzero((known < lowest) | (known > highest)))
    steps = f"{values} steps" if values <= STEPS else f"{values:,} values"
    mean = np.clip(known, lowest, highest).mean(dtype=np.float64)
    text = f"{known.min():g} to {known.max():g}, {steps}, mean {mean:.4g}"
    if known.min() == known.max():
        return Ratings(False, f"{text}: all are equal, so none is predicted")
    if 2 * len(known) < len(ratings):
        return Ratings(
            False, f"{text}; {len(known):,} of {len(ratings):,} rows have one: read with each event, none predicted"
        )
    if values > STEPS and beyond > _OUTLIERS * len(known):
        tail = f"a quantity with a heavy tail, {beyond:,} lie outside {lowest:g} to {highest:g}"
        return Ratings(False, f"{text}; {tail}: read with each event, none predicted (--task both would)")
    held = f"; {beyond:,} far outside {lowest:g} to {highest:g} count as the nearer end" if beyond else ""
    return Ratings(True, f"{text}{held}: predicted beside the next item")
