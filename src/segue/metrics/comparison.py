"""Whether one model may take the place of another: a loss beyond a margin is excluded."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from segue.metrics.bootstrap import Interval, paired_bootstrap
from segue.shapes import Rows

Numbers = NDArray[np.float64]


class Comparison(NamedTuple):
    """The difference of two models, new less old, and the conclusions from it.

    Args:
        difference: the mean with its 95 % interval.
        margin: the loss that is tolerated, in units of the metric.
        queries: how many were compared.
        users: how many users these are of.
        known: whether the models can be told apart: there are two users, and a number other than 0.
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
        """About how many queries would decide; None where this cannot be estimated.

        The interval narrows with the root of their number and must fit between the difference and
        the margin. Where the difference lies near the margin, half of the margin counts.
        """
        mean, low = self.difference.mean, self.difference.low
        apart = max(abs(mean + self.margin), self.margin / 2)
        if not self.known or apart <= 0:
            return None
        wanted = self.queries * max(2.0, ((mean - low) / apart) ** 2)
        unit = 10.0 ** max(np.floor(np.log10(max(wanted, 1.0))) - 1, 0)
        return int(np.ceil(wanted / unit) * unit)


def compare(new: Numbers, old: Numbers, users: Rows, margin: float) -> Comparison:
    """Return the comparison of two models on the same queries.

    The interval covers the bootstrap interval over users, which follows the shape of the
    differences, and Student's interval by the variance between users, which is wider where users
    are few. Two queries are added to that variance, one won and one lost by a whole hit, so that
    few or no differing queries do not look like no difference.

    Args:
        new: float[query], of the new model; higher is better.
        old: float[query], of the old model.
        users: int[query], the user of each query.
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
    spread = student(new, old, users)
    low, high = min(drawn.low, drawn.mean - spread.half), max(drawn.high, drawn.mean + spread.half)
    ends = (low, high) if spread.known else (drawn.low, drawn.high)
    return Comparison(Interval(drawn.mean, *ends, drawn.share_above_zero), margin, len(new), spread.users, spread.known)


class Student(NamedTuple):
    """The spread of a difference by the variance between users.

    Args:
        error: the standard error of the mean difference; infinite where not known.
        users: how many users the queries are of.
        known: whether there are two users, and a number other than 0.
    """

    error: float
    users: int
    known: bool

    @property
    def half(self) -> float:
        """Half of the 95 % interval."""
        return float(stdtrit(self.users - 1, 0.975)) * self.error if self.known else np.inf

    def p(self, mean: float) -> float:
        """Return how often users without a difference would show one of this size or more, 0 to 1."""
        return 2 * float(stdtr(self.users - 1, -abs(mean) / self.error)) if self.known else 1.0


def student(new: Numbers, old: Numbers, users: NDArray[np.integer]) -> Student:
    """Return the spread of the mean of `new - old` between users, with two queries added; see `compare`."""
    differences = new - old
    differences = differences - differences.mean()
    _, place = np.unique(users, return_inverse=True)
    sums = np.bincount(place, weights=differences)
    scores = np.abs(np.concatenate([new, old]))
    if not (len(sums) > 1 and scores.any()):
        return Student(np.inf, len(sums), False)
    hit = float(scores[scores > 0].mean())
    variance = len(sums) / (len(sums) - 1) * float(np.sum(sums**2)) + 2 * hit**2
    return Student(variance**0.5 / len(new), len(sums), True)
