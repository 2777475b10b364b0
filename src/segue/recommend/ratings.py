"""What a user will think of an item: the answer of the rating head, and what moves online across users.

Knows: a prediction with its spread; the shared value, sums of how far ratings lay from what the frozen model
foretold, by item and in all. It stands beside the states and is read by the output only: a user's state depends
on that user's events alone.
Does not know: training, files, HTTP.
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

#: Sums are whole millionths, so that what was added can be taken away without a trace.
UNIT = 1_000_000
#: Ratings that an item's bias, and everybody's, is worth beside those it was learnt from.
ITEM_PRIOR, ALL_PRIOR = 5.0, 200.0


class Rated(NamedTuple):
    """One rating as others see it: of which item, and how far from what the frozen model predicted, in units."""

    row: int
    residual: float

    @property
    def amount(self) -> int:
        """The residual in whole millionths."""
        return round(self.residual * UNIT)


class Tally(NamedTuple):
    """Some ratings together: the sum of their amounts, and how many they are."""

    sum: int = 0
    number: int = 0


class Shared(NamedTuple):
    """What moves online across users. A value: adding and taking away give another one.

    Args:
        items: by row of the item; one that nobody rated is left out.
        every: of all items together, those that are unknown too.
    """

    items: Mapping[int, Tally]
    every: Tally = Tally()

    def moved(self, event: Rated, times: int) -> "Shared":
        """Return the value with an event added (`times` 1) or taken away (-1). Cost: O(items rated), a copy."""

        def moved(old: Tally) -> Tally:
            return Tally(old.sum + times * event.amount, old.number + times)

        items = {**self.items, event.row: moved(self.items.get(event.row, Tally()))}
        return Shared({row: tally for row, tally in items.items() if tally.number}, moved(self.every))


class RatingDistribution(NamedTuple):
    """A rating to come: its mean and standard deviation in the scale of the log, and the share of each step.

    The shares have that mean and that deviation; see `segue.model.rating_distribution`. There are none
    where ratings are measurements and not steps.
    """

    mean: float
    deviation: float
    shares: dict[float, float]


def moved_bias(sums: Any, counts: Any, learnt: Floats, total: Any, number: Any) -> Floats:
    """Return float32[n], what items' ratings lie above what was predicted, shrunken, in units.

        all   = total / (number + 200)
        above = (sum - count all) / (learnt + count + 5) + all

    Args:
        sums: float[n], of each item's residuals.
        counts: float[n], how many.
        learnt: float[n], ratings of the item in training.
        total: of all residuals, a number or float[n].
        number: how many these are.

    Example:
        >>> one = np.ones(1)
        >>> round(float(moved_bias(one * 2.0, one * 2, one * 0, 2.0, 2.0)[0]), 3)
        0.293
    """
    everybody = total / (number + ALL_PRIOR)
    above: Floats = ((sums - counts * everybody) / (learnt + counts + ITEM_PRIOR) + everybody).astype(np.float32)
    return above


def shared_bias(model: Model, shared: Shared | None, rows: Rows) -> Floats:
    """Return float32[n]: what the shared value adds to the bias of some items; 0 without one."""
    if shared is None:
        return np.zeros(len(rows), np.float32)
    # An unknown item has no ratings of its own; what was rated as unknown tells of everybody alone.
    tallies = [shared.items.get(int(row), Tally()) if row else Tally() for row in rows]
    own = np.array(tallies, np.float64).reshape(-1, 2)
    learnt = model.params.rating.tables.count[rows]
    return moved_bias(own[:, 0] / UNIT, own[:, 1], learnt, shared.every.sum / UNIT, shared.every.number)


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
        gaps: float32[n], seconds from the last event to the question; NaN unknown.
        rows: int32[n], the items asked for; 0 for an unknown one.
        above: float32[n], see `shared_bias`.
    """
    head_of(model)
    bias = model.params.rating.tables.bias[rows]
    side = ItemSide(bias if above is None else bias + above, model.params.items[rows])
    latent, spread = model.network.rate(model.params, outputs, gaps, side)
    return latent, spread


def residuals_of(head: RatingHead, ratings: Any, latent: Floats) -> NDArray[np.float64]:
    """Return float64[n]: how far ratings, held within the scale, lie from what was predicted, in units."""
    held = head.scale.clip(np.asarray(ratings, np.float32))
    return np.subtract(held, latent, dtype=np.float64) / head.unit


def outputs_at(model: Model, sequences: Sequences, users: Times, places: Times) -> Floats:
    """Return float32[n, read_width]: the output of a user's state just before an event, or after the last one.

    Args:
        model: whose network reads.
        sequences: the events.
        users: int64[n], positions in `sequences`.
        places: int64[n], events of those users, `sequences.offsets[user + 1]` for the end.
    """
    wanted = np.zeros(len(sequences.items) + 1, bool)
    at_end = places == sequences.offsets[users + 1]
    wanted[places[~at_end]] = True
    memory, outputs = encode_users(model.network, model.params, sequences, wanted[:-1])
    found = memory.output[users]
    found[~at_end] = outputs[(np.cumsum(wanted) - 1)[places[~at_end]]]
    return np.asarray(found, np.float32)
