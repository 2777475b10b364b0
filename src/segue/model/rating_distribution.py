"""The probability of each step of a scale, from mean and deviation of a predicted rating."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.shapes import Floats

Doubles = NDArray[np.float64]

#: How near to an end of the scale a mean may come, as a share of the last step.
END = 0.01
#: How near to its least a variance may come, as a share of what lies above that least.
_LEAST = 1e-3
#: Ratings at a time; steps of a search, and halvings of one step.
_AT_ONCE, _STEPS, _HALVINGS = 1 << 14, 100, 40


class StepShares(NamedTuple):
    """Mean and deviation, float32[n], of shares of steps, float32[n, steps], if there are steps."""

    mean: Floats
    deviation: Floats
    shares: Floats


def shares_of(mean: Floats, deviation: Floats, levels: tuple[float, ...]) -> StepShares:
    """Return the flattest shares with a given mean and at most a given deviation.

    These shares have the most entropy of all with this mean and no higher deviation, so their
    logarithms are a line or a hill over the scale (Jaynes, 1957):
    `log share = c + a rating + b rating^2` with b at most 0. A mean beyond the scale is moved
    inside; an impossible deviation is replaced by a possible one.

    Args:
        mean: float[n], finite.
        deviation: float[n], above 0.
        levels: the steps of the scale, ascending, three or more.

    Cost: O(n x steps), some 20 times.

    Example:
        >>> shares = shares_of(np.float32([4.5, 9]), np.float32([0.7, 1]), (1.0, 2.0, 3.0, 4.0, 5.0))
        >>> print(shares.mean, shares.deviation.round(1), shares.shares[0].round(2))
        [4.5  4.99] [0.7 0.1] [0.   0.01 0.08 0.3  0.61]
    """
    steps = np.array(levels, np.float64)
    parts = range(0, max(len(mean), 1), _AT_ONCE)
    shares = [_shares(mean[at : at + _AT_ONCE], deviation[at : at + _AT_ONCE], steps) for at in parts]
    return with_moments(np.concatenate(shares), levels)


def with_moments(shares: NDArray[np.floating], levels: tuple[float, ...]) -> StepShares:
    """Return shares, float[n, steps], with their mean and deviation.

    Example:
        >>> with_moments(np.float32([[0.5, 0.0, 0.5]]), (1.0, 2.0, 3.0))[:2]
        (array([2.], dtype=float32), array([1.], dtype=float32))
    """
    steps = np.array(levels, np.float64)
    mean = shares @ steps
    variance = np.sum(shares * (steps - mean[:, None]) ** 2, axis=1)
    return StepShares(mean.astype(np.float32), np.sqrt(variance).astype(np.float32), shares.astype(np.float32))


def within(mean: Floats, deviation: Floats, lowest: float, highest: float) -> StepShares:
    """Return mean and deviation limited to what a closed scale without steps permits.

    Nothing between `lowest` and `highest` has a variance above `(mean - lowest) (highest - mean)`.

    Example:
        >>> shares = within(np.float32([0.8, 2.0]), np.float32([0.9, 0.9]), 0.0, 1.0)
        >>> print(shares.mean, shares.deviation.round(2))
        [0.8  0.99] [0.4 0.1]
    """
    end = END * (highest - lowest)
    inside = np.clip(mean.astype(np.float64), lowest + end, highest - end)
    most = np.sqrt((inside - lowest) * (highest - inside))
    held = np.minimum(deviation, most).astype(np.float32)
    return StepShares(inside.astype(np.float32), held, np.zeros((len(mean), 0), np.float32))


def _shares(mean: Floats, deviation: Floats, steps: Doubles) -> Doubles:
    low, high = steps[0] + END * (steps[1] - steps[0]), steps[-1] - END * (steps[-1] - steps[-2])
    mean = np.clip(mean.astype(np.float64), low, high)
    width = steps[-1] - steps[0]
    apart = (steps - mean[:, None]) / width
    line = _matched(apart[..., None], np.zeros((len(mean), 1)))
    shares, most = line.shares, np.sum(line.shares * apart**2, axis=1)
    above = np.searchsorted(steps, mean).clip(1, len(steps) - 1)
    least = (mean - steps[above - 1]) * (steps[above] - mean) / width**2
    wanted = np.maximum((deviation / width) ** 2, least + _LEAST * (most - least))
    hill = wanted < most
    if hill.any():
        both = np.stack([apart, apart**2], axis=-1)[hill]
        goals = np.stack([np.zeros(hill.sum()), wanted[hill]], axis=-1)
        start = np.concatenate([line.slopes, np.zeros_like(line.slopes)], axis=1)[hill]
        shares[hill] = _matched(both, goals, start).shares
    return shares


class _Matched(NamedTuple):
    shares: Doubles  # [n, steps]
    slopes: Doubles  # [n, d]


def _matched(features: Doubles, goals: Doubles, start: Doubles | None = None) -> _Matched:
    """Return the shares of most entropy under which features have given means.

    The shares are `softmax(features @ slopes)`; the slopes minimise the convex
    `logsumexp(features @ slopes) - goals @ slopes`, by Newton's method with each step halved until
    the value falls.

    Args:
        features: float64[n, steps, d].
        goals: float64[n, d], within what shares can have.
        start: float64[n, d], where the search begins; 0 where None.
    """
    slopes = np.zeros_like(goals) if start is None else start

    def valued(slopes: Doubles) -> tuple[Doubles, Doubles]:
        logits = np.einsum("nkd,nd->nk", features, slopes)
        top = logits.max(axis=1)
        shares = np.exp(logits - top[:, None])
        total = shares.sum(axis=1)
        return top + np.log(total) - np.sum(goals * slopes, axis=1), shares / total[:, None]

    value, shares = valued(slopes)
    for _ in range(_STEPS):
        means = np.einsum("nk,nkd->nd", shares, features)
        off = means - goals
        if np.abs(off).max(initial=0.0) < 1e-9:
            break
        centred = features - means[:, None]
        curvature = np.einsum("nk,nkd,nke->nde", shares, centred, centred)
        curvature += 1e-14 * np.eye(goals.shape[1])
        step = np.linalg.solve(curvature, off[..., None])[..., 0]
        size = np.ones(len(step))
        for _ in range(_HALVINGS):
            tried = valued(slopes - size[:, None] * step)
            worse = tried[0] > value + 1e-15
            if not worse.any():
                break
            size[worse] /= 2
        slopes, (value, shares) = slopes - size[:, None] * step, valued(slopes - size[:, None] * step)
    return _Matched(shares, slopes)
