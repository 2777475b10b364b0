"""The scale of a log's ratings, and how a rating is written among the details of an event.

Knows: the lowest and highest rating, the steps between, the mean; what a rating outside of it is.
Does not know: users, items, or what is predicted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segue.data.log.events import Events
from segue.data.log.rating_columns import STEPS, ends_of, ratings_of
from segue.data.values import plain
from segue.errors import ArgumentError, ConfigError, DataError
from segue.shapes import Floats

Doubles: TypeAlias = NDArray[np.float64]
_ROUNDS = 10
#: Numbers that say of an event what its rating was: the rating less the mean, and 1; zeros without a rating.
NOTED = 2


@dataclass(frozen=True)
class Scale:
    """What ratings can be.

    Args:
        levels: the values, ascending; of more than `STEPS` different ones the lowest and the highest alone.
        mean: of those learnt.
        closed: whether nothing lies outside. A measurement of which the log holds some may well lie outside of these,
            and where the log has outliers there may be more.
        unit: the standard deviation of those learnt; None in models of before ratings were measured in it.

    Example:
        >>> scale = Scale.learnt(np.float32([1, 2, 5, np.nan, 5]))
        >>> scale.levels, scale.mean
        ((1.0, 2.0, 5.0), 3.25)
        >>> scale.noted(np.float32([5, np.nan])).tolist()
        [[0.9801960587501526, 1.0], [0.0, 0.0]]
        >>> scale.outside(np.float32([3.5, 6, np.nan])).tolist()
        [False, True, False]
    """

    levels: tuple[float, ...]
    mean: float
    closed: bool = True
    unit: float | None = None

    @classmethod
    def learnt(cls, ratings: Floats, declared: tuple[float, float] | None = None) -> "Scale":
        """Return the scale of some ratings; NaN is no rating.

        Args:
            ratings: float32[event], some of them known and not all equal.
            declared: the lowest and the highest rating there can be, where the log need not hold them.
        """
        known = ratings[np.isfinite(ratings)]
        lowest, highest = ends_of(known) if declared is None else declared
        without_outliers = known.min() >= lowest and known.max() <= highest
        closed = declared is not None or (without_outliers and len(np.unique(known)) <= STEPS)
        known = np.clip(known, lowest, highest)
        levels = np.unique(known)
        if len(levels) > STEPS:
            levels = levels[[0, -1]]
        if declared is not None:
            levels = np.unique(np.append(levels, np.array(declared, np.float32)))
        mean, unit = (float(number) for number in (known.mean(dtype=np.float64), known.std(dtype=np.float64)))
        return cls(tuple(levels.tolist()), mean, closed, unit)

    @classmethod
    def kept(cls, kept: Mapping[str, Any]) -> "Scale":
        """Return the scale that a file holds; older ones do not say whether it is closed, nor its unit.

        Raises:
            ValueError, KeyError, TypeError: it is no such scale.

        Example:
            >>> Scale.kept({"levels": [1, 5], "mean": 3.5})
            Scale(levels=(1.0, 5.0), mean=3.5, closed=False, unit=None)
        """
        levels = plain.numbers(kept["levels"], "levels of ratings", ascending=True)
        if len(levels) < 2 or not levels[0] <= plain.number(kept["mean"], "mean of ratings") <= levels[-1]:
            raise ValueError(f"ratings: expected two levels or more around the mean, came {len(levels)}")
        closed = plain.truth(kept.get("closed", len(levels) > 2), "closed")
        unit = kept.get("unit")
        if unit is not None and not plain.number(unit, "unit of ratings") > 0:
            raise ValueError(f"ratings: expected a unit above 0, came {unit}")
        return cls(levels, float(kept["mean"]), closed, None if unit is None else float(unit))

    @property
    def lowest(self) -> float:
        """The lowest rating."""
        return self.levels[0]

    @property
    def highest(self) -> float:
        """The highest rating."""
        return self.levels[-1]

    @property
    def stepped(self) -> bool:
        """Whether the values between are known, as with stars."""
        return len(self.levels) > 2

    def outside(self, ratings: Floats) -> NDArray[np.bool_]:
        """Return bool[event]: which ratings lie outside the scale, where it is closed; NaN does not."""
        result: NDArray[np.bool_] = ((ratings < self.lowest) | (ratings > self.highest)) & self.closed
        return result

    def check(self, rating: float | None, item: str, *, needed: bool = False) -> None:
        """Do nothing if a rating of an item can be, or if there is none (None or NaN) and none is needed.

        Raises:
            ArgumentError: it lies outside the scale, is no number, or is needed and there is none.

        Example:
            >>> Scale((1.0, 5.0), 3.0).check(9, "17")  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            segue.errors.ArgumentError: rating of 17: expected 1 to 5, came 9. Correct it, or train with a wider ...
        """
        try:
            number = np.nan if rating is None else float(rating)
        except (TypeError, ValueError):
            number = None
        if number is not None and self.outside(np.array(number, np.float32)):
            raise ArgumentError(
                f"rating of {item}: expected {self.lowest:g} to {self.highest:g}, came {number:g}. "
                "Correct it, or train with a wider train.rating_scale."
            )
        if number is None or (needed and not np.isfinite(number)):
            advice = "Give a number." if needed else "Give a number, or None where there is no rating."
            raise ArgumentError(
                f"rating of {item}: expected {self.lowest:g} to {self.highest:g}, came {rating!r}. {advice}"
            )

    def check_log(self, events: Events) -> None:
        """Do nothing if all ratings of a log can be.

        Raises:
            DataError: one lies outside the scale; it is named with its user and item.
        """
        outside = np.flatnonzero(self.outside(ratings_of(events.table)))
        if len(outside):
            row = events.table.row(int(outside[0]), named=True)
            raise DataError(
                f"{events.source}: expected ratings from {self.lowest:g} to {self.highest:g} as in training, "
                f"came {row['rating']:g} by user {row['user']} of item {row['item']}. Correct it, or train with a "
                "wider train.rating_scale."
            )

    def noted(self, ratings: Floats) -> Floats:
        """Return float32[event, NOTED]: each rating less the mean, held within the scale, and whether there is one."""
        known = np.isfinite(ratings)
        return np.stack([np.where(known, self.units(ratings), 0.0), known], axis=-1).astype(np.float32)

    def held(self, ratings: Floats) -> Floats:
        """Return ratings of which those outside the scale are its ends; NaN stays.

        Those are few and far outside, see `ends_of`, or of a measurement that was met in learning in a smaller range.
        """
        inside: Floats = np.clip(ratings, np.float32(self.lowest), np.float32(self.highest))
        return inside

    def units(self, ratings: Floats) -> Floats:
        """Return ratings as numbers around 0: those held within the scale, less the mean, in units; NaN stays."""
        result: Floats = (self.held(ratings) - np.float32(self.mean)) / np.float32(self.unit or 1.0)
        return result


def scale_of(events: Events, declared: str = "") -> Scale:
    """Return the scale of a log's ratings, checked.

    Args:
        events: the log; rows without a rating are no obstacle.
        declared: "lowest:highest", or nothing to take what the log holds.

    Raises:
        ConfigError: `declared` is not two numbers.
        DataError: there is no rating, all are equal, or one lies outside the declared scale.

    Example:
        >>> import polars as pl
        >>> scale_of(Events(pl.DataFrame({"user": ["a", "b"], "item": ["x", "x"], "rating": [4.0, 2.0]}))).levels
        (2.0, 4.0)
    """
    bounds = declared_scale(declared)
    ratings = ratings_of(events.table)
    known = ratings[np.isfinite(ratings)]
    if not len(known):
        raise DataError(
            f"{events.source}: expected ratings to learn from, found none in {len(events):,} rows. "
            "Name their column with --rating-col, or train without: --task next."
        )
    scale = Scale.learnt(ratings, bounds)
    if bounds is not None and (known.min() < bounds[0] or known.max() > bounds[1]):
        row = int(np.flatnonzero((ratings < bounds[0]) | (ratings > bounds[1]))[0])
        raise DataError(
            f"{events.source}: expected ratings from {bounds[0]:g} to {bounds[1]:g}, came {ratings[row]:g} "
            f"by user {events.table['user'][row]} of item {events.table['item'][row]}. "
            "Correct it, or declare a wider train.rating_scale."
        )
    if known.min() == known.max():
        raise DataError(
            f"{events.source}: expected ratings that differ, all {len(known):,} are {known[0]:g}. "
            "There is nothing to predict: train without them, --task next."
        )
    return scale


def declared_scale(text: str) -> tuple[float, float] | None:
    """Return the two ends of a declared scale, None where nothing is declared.

    Raises:
        ConfigError: it is not "lowest:highest".

    Example:
        >>> declared_scale("0.5:5"), declared_scale("")
        ((0.5, 5.0), None)
    """
    if not text:
        return None
    try:
        lowest, highest = (float(part) for part in text.split(":"))
    except ValueError:
        lowest = highest = 0.0
    if not lowest < highest:
        raise ConfigError(f'config train.rating_scale: expected lowest:highest, came "{text}". Write 1:5.')
    return lowest, highest


def shrunken_biases(
    user: NDArray[np.integer],
    item: NDArray[np.integer],
    above: Doubles,
    size: tuple[int, int],
    prior: tuple[float, float],
) -> tuple[Doubles, Doubles]:
    """Return the bias of each user and of each item, one beside the other.

    `bias_i = sum (above - bias_u) / (count_i + prior)` and the same of users, ten times in turn, items first.

    Args:
        user: int[n], of each rating.
        item: int[n].
        above: float64[n], the rating less the mean of all.
        size: how many users and items there are.
        prior: ratings that the mean of a user, and of an item, is worth beforehand.

    Cost: O(ratings), ten times.

    Example:
        >>> own, other = shrunken_biases(np.array([0, 0]), np.array([0, 1]), np.array([1.0, -1.0]), (1, 2), (1, 1))
        >>> own.tolist(), other.tolist()
        ([0.0], [0.5, -0.5])
    """
    users, items = size
    of_user = np.bincount(user, minlength=users) + float(prior[0])
    of_item = np.bincount(item, minlength=items) + float(prior[1])
    own, other = np.zeros(users), np.zeros(items)
    for _ in range(_ROUNDS):
        other = np.bincount(item, above - own[user], minlength=items) / of_item
        own = np.bincount(user, above - other[item], minlength=users) / of_user
    return own, other
