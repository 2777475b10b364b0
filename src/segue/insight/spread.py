"""The middle and the spread of a quantity along an axis, over many users or channels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Spread:
    """The median at some places, such as lags, and the 10 % (`low`) and 90 % quantiles (`high`)."""

    at: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def spread(values: ArrayLike, at: ArrayLike | None = None) -> Spread:
    """Return the spread of `values` [place, one], with the numbers of the places.

    Example:
        >>> spread([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]).median
        (2.0, 5.0)
    """
    array = np.asarray(values, np.float64)
    low, middle, high = np.quantile(array, (0.1, 0.5, 0.9), axis=1)
    places = np.arange(len(array)) if at is None else np.asarray(at)
    return Spread(
        tuple(int(place) for place in places), *(tuple(float(x) for x in line) for line in (middle, low, high))
    )
