"""Whether one model may take the place of another: a loss beyond a margin is excluded, or more events are needed.

Knows: two numbers for each query, higher is better, and whose query each is.
Does not know: which metric or which models.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from segue.metrics.bootstrap import Interval, paired_bootstrap
from segue.shapes import Rows

Numbers = NDArray[np.float64]


class Comparison(NamedTuple):
    """A difference, new less old, and what follows from it.

    Args:
        difference: the mean with its 95 % interval.
        margin: the loss that is tolerated, in units of the metric.
        queries: how many were compared on.
        users: whose these are.
        known: whether there is anything to tell the models apart by: two users, and a number other than 0.
    """

    difference: Interval
    margin: float
    queries: int
    users: int
    known: bool

    @property
    def excluded(self) -> bool:
        """Whether the interval excludes a loss beyond the margin."""
        return self.known and self.difference.low >= -self.margin

    @property
    def worse(self) -> bool:
        """Whether the interval excludes that the new model is as good."""
        return self.known and self.difference.high < 0

    @property
    def needed(self) -> int | None:
        """About how many queries would tell; None where that cannot be said.

        The interval narrows with the root of their number, and has to fit between the difference and the margin; where
        the difference lies near the margin, into half of the margin, as if the models were more alike than they seem.
        """
        mean, low = self.difference.mean, self.difference.low
        apart = max(abs(mean + self.margin), self.margin / 2)
        if not self.known or apart <= 0:
            return None
        wanted = self.queries * max(2.0, ((mean - low) / apart) ** 2)
        unit = 10.0 ** max(np.floor(np.log10(max(wanted, 1.0))) - 1, 0)
        return int(np.ceil(wanted / unit) * unit)


def compare(new: Numbers, old: Numbers, users: Rows, margin: float) -> Comparison:
    """Return what the numbers of two models on the same queries say of them.

    The interval holds the bootstrap interval over users, which follows the shape of the differences, and Student's by
    the variance between users, which is wider where users are few. To that variance two queries are added, one won and
    one lost by a whole hit: where few queries differ, or none, that says little, and not that there is no difference.

    Args:
        new: float[query], of the model that might take the place of the other; higher is better.
        old: float[query], of the other.
        users: int[query], whose each query is.
        margin: the loss of the mean that is tolerated, from 0.

    Cost: that of `paired_bootstrap`.

    Example:
        >>> new, old = np.zeros(500), np.zeros(500)
        >>> new[:100] = old[1:101] = 1
        >>> compare(new, old, np.arange(500), margin=0.01).excluded
        True
        >>> few = compare(new[90:140], old[90:140], np.arange(50), margin=0.01)
        >>> few.excluded, few.worse, few.needed
        (False, False, 2500)
    """
    drawn = paired_bootstrap(new, old, groups=users)
    differences = new - old - drawn.mean
    _, place = np.unique(users, return_inverse=True)
    sums = np.bincount(place, weights=differences)
    scores = np.abs(np.concatenate([new, old]))
    known = bool(len(sums) > 1 and scores.any())
    half = np.inf
    if known:
        hit = float(scores[scores > 0].mean())
        variance = len(sums) / (len(sums) - 1) * float(np.sum(sums**2)) + 2 * hit**2
        half = float(stdtrit(len(sums) - 1, 0.975)) * variance**0.5 / len(new)
    low, high = min(drawn.low, drawn.mean - half), max(drawn.high, drawn.mean + half)
    ends = (low, high) if known else (drawn.low, drawn.high)
    return Comparison(Interval(drawn.mean, *ends, drawn.share_above_zero), margin, len(new), len(sums), known)
