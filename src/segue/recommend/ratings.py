"""Predicted ratings, and the biases that move online across users.

The shared value sums the distances of ratings from the predictions of the frozen model, by item and in all. Only the
output reads the shared value: a user's state depends on that user's events alone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError
from segue.model.encoder import encode_users
from segue.model.heads import ItemSide, RatingHead
from segue.model.model import Model
from segue.shapes import Floats, Rows, Times

#: Sums are whole millionths, so that subtracting a rating leaves no rounding error.
UNIT = 1_000_000
#: The prior weights, in ratings, of an item's bias and of the bias of all items.
ITEM_PRIOR, ALL_PRIOR = 5.0, 200.0


class Rated(NamedTuple):
    """One rating in the shared value: the item, and the distance from the prediction of the frozen model, in units."""

    row: int
    residual: float

    @property
    def amount(self) -> int:
        """The residual in whole millionths."""
        return round(self.residual * UNIT)


class Tally(NamedTuple):
    """Ratings together: the sum of their amounts, and their number."""

    sum: int = 0
    number: int = 0


class Shared(NamedTuple):
    """The ratings since the training, of all users. A value: adding and subtracting return another one.

    Args:
        items: by row of the item; items without a rating have no entry.
        every: of all items together, unknown items included.
    """

    items: Mapping[int, Tally]
    every: Tally = Tally()

    def moved(self, event: Rated, times: int) -> "Shared":
        """Return the value with an event added (`times` 1) or subtracted (-1). Cost: O(items rated), a copy."""

        def moved(old: Tally) -> Tally:
            return Tally(old.sum + times * event.amount, old.number + times)

        items = {**self.items, event.row: moved(self.items.get(event.row, Tally()))}
        return Shared({row: tally for row, tally in items.items() if tally.number}, moved(self.every))


class RatingDistribution(NamedTuple):
    """A predicted rating: its mean and standard deviation in the scale of the log, and the share of each step.

    The shares have that mean and that deviation; see `segue.model.rating_distribution`. A scale without steps has no
    shares.
    """

    mean: float
    deviation: float
    shares: dict[float, float]


def moved_bias(sums: Any, counts: Any, learnt: Floats, total: Any, number: Any) -> Floats:
    """Return float32[n], how far the ratings of items lie above the predictions, shrunk, in units.

        all   = total / (number + 200)
        above = (sum - count all) / (learnt + count + 5) + all

    Args:
        sums: float[n], of each item's residuals.
        counts: float[n], number of residuals of each item.
        learnt: float[n], ratings of the item in training.
        total: sum of all residuals, a number or float[n].
        number: number of all residuals.

    Example:
        >>> round(float(moved_bias(np.array([2.0]), np.array([2]), np.array([0]), 2.0, 2.0)[0]), 3)
        0.293
    """
    everybody = total / (number + ALL_PRIOR)
    above: Floats = ((sums - counts * everybody) / (learnt + counts + ITEM_PRIOR) + everybody).astype(np.float32)
    return above


def shared_bias(model: Model, shared: Shared | None, rows: Rows) -> Floats:
    """Return float32[n]: what the shared value adds to the biases of items; 0 without a shared value."""
    if shared is None:
        return np.zeros(len(rows), np.float32)
    # Ratings of unknown items count for all items together, and for no item.
    tallies = [shared.items.get(int(row), Tally()) if row else Tally() for row in rows]
    sums, counts = np.array(tallies, np.float64).reshape(-1, 2).T
    learnt = model.params.rating.tables.count[rows]
    return moved_bias(sums / UNIT, counts, learnt, shared.every.sum / UNIT, shared.every.number)


def head_of(model: Model) -> RatingHead:
    """Return the rating head.

    Raises:
        ArgumentError: the model was trained without one.
    """
    if model.network.rating is None:
        raise ArgumentError(
            "ratings: expected a model that learnt ratings, came one of the next item alone. "
            "Train on a log with ratings: segue train --task both, or --task rating."
        )
    return model.network.rating


def rate(model: Model, outputs: Floats, gaps: Floats, rows: Rows, above: Floats | None = None) -> tuple[Floats, Floats]:
    """Return latent value and spread of a rating for each user and item, float32[n] each.

    Args:
        model: with a rating head.
        outputs: float32[n, read_width], of states.
        gaps: float32[n], seconds from the last event to the request; NaN unknown.
        rows: int32[n], the items; 0 for an unknown item.
        above: float32[n], see `shared_bias`.
    """
    head_of(model)
    bias = model.params.rating.tables.bias[rows]
    side = ItemSide(bias if above is None else bias + above, model.params.items[rows])
    latent, spread = model.network.rate(model.params, outputs, gaps, side)
    return latent, spread


def residuals_of(head: RatingHead, ratings: Any, latent: Floats) -> NDArray[np.float64]:
    """Return float64[n]: the distances of ratings, clipped to the scale, from the predictions, in units."""
    held = head.scale.clip(np.asarray(ratings, np.float32))
    return np.subtract(held, latent, dtype=np.float64) / head.unit


def outputs_at(model: Model, sequences: Sequences, users: Times, places: Times) -> Floats:
    """Return float32[n, read_width]: the output of a user's state just before an event, or after the last one.

    Args:
        model: of the states.
        sequences: the events.
        users: int64[n], positions in `sequences`.
        places: int64[n], events of those users, `sequences.offsets[user + 1]` for the end.
    """
    wanted = np.zeros(len(sequences.items) + 1, bool)
    at_end = places == sequences.offsets[users + 1]
    wanted[places[~at_end]] = True
    memory, outputs = encode_users(model.network, model.params, sequences, wanted[:-1])
    read = memory.output[users]
    read[~at_end] = outputs[(np.cumsum(wanted) - 1)[places[~at_end]]]
    return np.asarray(read, np.float32)
