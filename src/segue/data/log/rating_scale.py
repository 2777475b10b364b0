"""The scale of a log's ratings, and a rating as a feature of an event."""

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
#: Numbers of a rating among an event's features: the standardised rating and 1, or zeros.
RATING_WIDTH = 2


@dataclass(frozen=True)
class Scale:
    """The values that a rating can have.

    Args:
        levels: the values, ascending; the two ends alone where there are more than `STEPS`.
        mean: the mean of the training ratings.
        closed: whether a rating outside is an error. It is none for measurements, whose range in a
            log is only a sample, and in a log with outliers.
        unit: the standard deviation of the training ratings; None in older models.

    Example:
        >>> scale = Scale.fit(np.float32([1, 2, 5, np.nan, 5]))
        >>> scale.levels, scale.mean
        ((1.0, 2.0, 5.0), 3.25)
        >>> scale.encode(np.float32([5, np.nan])).tolist()
        [[0.9801960587501526, 1.0], [0.0, 0.0]]
        >>> scale.outside(np.float32([3.5, 6, np.nan])).tolist()
        [False, True, False]
    """

    levels: tuple[float, ...]
    mean: float
    closed: bool = True
    unit: float | None = None

    @classmethod
    def fit(cls, ratings: Floats, declared: tuple[float, float] | None = None) -> "Scale":
        """Return the scale of a log's ratings; NaN is no rating.

        Args:
            ratings: float32[event]; at least two known ratings differ.
            declared: the lowest and the highest possible rating; None takes the log's.
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
    def from_dict(cls, fields: Mapping[str, Any]) -> "Scale":
        """Return the scale of a model file; older files lack `closed` or `unit`.

        Raises:
            ValueError, KeyError, TypeError: this is no such scale.

        Example:
            >>> Scale.from_dict({"levels": [1, 5], "mean": 3.5})
            Scale(levels=(1.0, 5.0), mean=3.5, closed=False, unit=None)
        """
        levels = plain.numbers(fields["levels"], "levels of ratings", ascending=True)
        if len(levels) < 2 or not levels[0] <= plain.number(fields["mean"], "mean of ratings") <= levels[-1]:
            raise ValueError(f"ratings: expected two levels or more around the mean, came {len(levels)}")
        closed = plain.truth(fields.get("closed", len(levels) > 2), "closed")
        unit = fields.get("unit")
        if unit is not None and not plain.number(unit, "unit of ratings") > 0:
            raise ValueError(f"ratings: expected a unit above 0, came {unit}")
        return cls(levels, float(fields["mean"]), closed, None if unit is None else float(unit))

    @property
    def lowest(self) -> float:
        """The lowest rating."""
        return self.levels[0]

    @property
    def highest(self) -> float:
        """The highest rating."""
        return self.levels[-1]

    @property
    def has_steps(self) -> bool:
        """Whether the values between the ends are known, as with stars."""
        return len(self.levels) > 2

    def outside(self, ratings: Floats) -> NDArray[np.bool_]:
        """Return bool[event]: which ratings lie outside a closed scale; NaN does not."""
        result: NDArray[np.bool_] = ((ratings < self.lowest) | (ratings > self.highest)) & self.closed
        return result

    def check(self, rating: float | None, item: str, *, needed: bool = False) -> None:
        """Do nothing if a rating of an item is possible, or missing (None or NaN) and not needed.

        Raises:
            ArgumentError: the rating is outside the scale, no number, or missing and needed.

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
        """Do nothing if all ratings of a log are possible.

        Raises:
            DataError: a rating lies outside the scale; the message names its user and item.
        """
        outside = np.flatnonzero(self.outside(ratings_of(events.table)))
        if len(outside):
            row = events.table.row(int(outside[0]), named=True)
            raise DataError(
                f"{events.source}: expected ratings from {self.lowest:g} to {self.highest:g} as in training, "
                f"came {row['rating']:g} by user {row['user']} of item {row['item']}. Correct it, or train with a "
                "wider train.rating_scale."
            )

    def encode(self, ratings: Floats) -> Floats:
        """Return float32[event, RATING_WIDTH]: the standardised rating and 1, or zeros."""
        known = np.isfinite(ratings)
        return np.stack([np.where(known, self.standardise(ratings), 0.0), known], axis=-1).astype(np.float32)

    def clip(self, ratings: Floats) -> Floats:
        """Return ratings, outliers too (`ends_of`), clipped to the ends of the scale; NaN stays."""
        inside: Floats = np.clip(ratings, np.float32(self.lowest), np.float32(self.highest))
        return inside

    def standardise(self, ratings: Floats) -> Floats:
        """Return clipped ratings less the mean, in units; NaN stays."""
        result: Floats = (self.clip(ratings) - np.float32(self.mean)) / np.float32(self.unit or 1.0)
        return result


def scale_of(events: Events, declared: str = "") -> Scale:
    """Return the scale of a log's ratings, checked.

    Args:
        events: the log; rows may lack a rating.
        declared: "lowest:highest"; empty takes the range of the log.

    Raises:
        ConfigError: `declared` is not two numbers.
        DataError: there is no rating, all are equal, or a rating lies outside the declared scale.

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
    scale = Scale.fit(ratings, bounds)
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
        ConfigError: the text is not "lowest:highest".

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
    """Return the bias of each user and of each item, estimated together.

    `bias_i = sum (above - bias_u) / (count_i + prior)`, the same for users; ten rounds.

    Args:
        user: int[n], of each rating.
        item: int[n].
        above: float64[n], the rating less the mean of all.
        size: the number of users and of items.
        prior: the weight of a bias of 0, in ratings, for a user and for an item.

    Cost: O(ratings), ten times.

    Example:
        >>> user, item, above = np.array([0, 0]), np.array([0, 1]), np.array([1.0, -1.0])
        >>> of_users, of_items = shrunken_biases(user, item, above, (1, 2), (1, 1))
        >>> of_users.tolist(), of_items.tolist()
        ([0.0], [0.5, -0.5])
    """
    users, items = size
    user_counts = np.bincount(user, minlength=users) + float(prior[0])
    item_counts = np.bincount(item, minlength=items) + float(prior[1])
    of_users, of_items = np.zeros(users), np.zeros(items)
    for _ in range(_ROUNDS):
        of_items = np.bincount(item, above - of_users[user], minlength=items) / item_counts
        of_users = np.bincount(user, above - of_items[item], minlength=users) / user_counts
    return of_users, of_items
