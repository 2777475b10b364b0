"""The clock: elapsed time as linear-spline weights on a log scale of seconds.

Absolute time stays int64 microseconds outside the network: float32 has steps of two minutes there.
"""

import math
from dataclasses import dataclass

from segue.model.backend import namespace
from segue.shapes import Array


@dataclass(frozen=True)
class Clock:
    """Knots on the log scale of elapsed seconds.

    Args:
        longest: the longest gap in the training data, in seconds; longer gaps count as this.
        knots: the number of knots from 0 seconds to `longest`.

    Example:
        >>> import numpy as np
        >>> clock = Clock(longest=np.expm1(4.0), knots=5)         # knots at log(1 + s) = 0, 1, 2, 3, 4
        >>> clock.weights(np.float32([0.0, np.expm1(1.5), np.nan])).round(2).tolist()
        [[0.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """

    longest: float
    knots: int = 16

    @property
    def rows(self) -> int:
        """Rows of the table: unknown, then a row for each knot."""
        return self.knots + 1

    def weights(self, gaps: Array) -> Array:
        """Return the linear-spline weights of gaps, float32[..., rows].

        Args:
            gaps: float32[...], seconds; NaN means unknown.

        Returns:
            Weights that sum to 1. Column 0 is 1 where the gap is unknown.
        """
        xp = namespace(gaps)
        unknown = xp.isnan(gaps)
        seconds = xp.minimum(xp.maximum(xp.where(unknown, 0.0, gaps), 0.0), float(self.longest))
        place = xp.log1p(seconds) * ((self.knots - 1) / math.log1p(max(self.longest, 1.0)))
        knots = xp.arange(self.knots, dtype=gaps.dtype)
        weights = xp.maximum(1.0 - xp.abs(place[..., None] - knots), 0.0)
        none = unknown[..., None]
        return xp.concat([none.astype(gaps.dtype), xp.where(none, 0.0, weights)], axis=-1)
