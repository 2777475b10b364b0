"""The simplest answer that a rating head can give: an item's bias and a user's, which moves with every rating.

Knows: which item and user biases predict the ratings learnt best, each from what is strictly earlier; whether a head
that was trained is better than they are, on validation.
Does not know: how the head was trained. What it returns are weights of the same head, so that they are kept, served
and moved as those of a trained one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.data.log.rating_scale import Doubles, Scale, shrunken_biases
from segue.data.sequences.sequences import Sequences, moment_begins
from segue.model.heads import DECAYS, RatingHead, RatingParams
from segue.model.network import Network, NetworkParams
from segue.training.rating_tables import ITEM_PRIOR, USER_PRIOR
from segue.training.validation import Validation

#: What is tried: how much of the item biases is taken, which decay, and the ratings that a user's mean is worth
#: beforehand; infinitely many leave the users out.
ITEMS, PRIORS = (0.0, 0.5, 1.0, 1.5), (1.0, 3.0, 8.0, 20.0, np.inf)
#: Events looked at, at most, and of one user; of more, those of users evenly spread.
EVENTS, OF_USER = 200_000, 2_000


class Biases(NamedTuple):
    """The settings of the simplest answer, and how far it lies from the ratings learnt.

    Args:
        items: the share of the item biases that is taken.
        decay: what of a user's sums is left after each further event, one of `DECAYS`.
        prior: the ratings that a user's mean is worth beforehand.
        deviation: root mean square of the errors, in units.
    """

    items: float
    decay: float
    prior: float
    deviation: float


def best_biases(sequences: Sequences, scale: Scale, items: int) -> Biases:
    """Return the biases that predict the ratings of a log best, each rating from what is strictly earlier.

    An item's bias leaves the rating out that it is asked for.

    Args:
        sequences: the log, with ratings.
        scale: of the ratings.
        items: V.

    Cost: O(events looked at) for each of 60 settings.
    """
    some = _looked_at(sequences)
    assert some.ratings is not None
    known = np.isfinite(some.ratings) & (some.items > 0)
    above = np.where(known, np.nan_to_num(scale.standardise(some.ratings)), 0.0).astype(np.float64)
    user = np.repeat(np.arange(len(some)), some.lengths)
    size, priors = (len(some), items), (USER_PRIOR, ITEM_PRIOR)
    own, bias = shrunken_biases(user[known], some.items[known], above[known], size, priors)
    count = np.bincount(some.items[known], minlength=items)[some.items]
    others = (bias[some.items] * (count + ITEM_PRIOR) - (above - own[user])) / np.maximum(count - 1 + ITEM_PRIOR, 1)
    begins = moment_begins(some)
    numbers = {decay: _sums_before(known.astype(np.float64), some, decay)[begins] for decay in DECAYS}
    found = []
    for share in ITEMS:
        left = np.where(known, above - share * others, 0.0)
        read = np.where(known, above - share * bias[some.items], 0.0)
        for decay in DECAYS:
            sums = _sums_before(read, some, decay)[begins]
            for prior in PRIORS:
                errors = (left - sums / (numbers[decay] + prior))[known]
                found.append(Biases(share, decay, prior, float(np.sqrt(np.mean(errors**2)))))
    return min(found, key=lambda one: one.deviation)


class Answer(NamedTuple):
    """Which of two heads answers, and their root mean square errors on validation, in the scale of the ratings.

    Args:
        params: the weights of the network with that head.
        trained, simple: the errors; NaN where validation has no ratings.
        falls_back: whether the biases alone answer.
    """

    params: NetworkParams
    trained: float
    simple: float
    falls_back: bool

    def __str__(self) -> str:
        errors = f"RMSE on validation {self.trained:.4f}, of moving biases {self.simple:.4f}"
        if not self.falls_back:
            return f"Ratings: {errors}."
        if np.isnan(self.trained):
            return "Ratings: validation has none to compare with, so moving biases of users and items answer."
        return f"Ratings: {errors}. The network is no better, so moving biases of users and items answer."


def better_head(network: Network, params: NetworkParams, biases: Biases, validation: Validation) -> Answer:
    """Return the network with the head that is better on validation: the trained one, or biases that move alone.

    Args:
        network: with a rating head.
        params: as trained, with tables.
        biases: see `best_biases`.
        validation: whose last ratings are predicted.

    Cost: two scans over the sequences of validation.
    """
    assert network.rating is not None
    simple = params._replace(rating=with_biases(network.rating, params.rating, biases))
    errors = [validation.rating_errors(network, one) for one in (params, simple)]
    known = bool(np.isfinite(errors[0]).any())
    trained, alone = (float(np.sqrt(np.mean(some[np.isfinite(some)] ** 2))) if known else np.nan for some in errors)
    falls_back = not trained < alone
    return Answer(simple if falls_back else params, trained, alone, falls_back)


def with_biases(head: RatingHead, params: RatingParams, biases: Biases) -> RatingParams:
    """Return the weights of a head that answers by these biases alone."""
    none = {
        name: np.zeros_like(getattr(params, name))
        for name in ("preference", "kindred", "taste", "user", "offset", "spread", "cuts")
    }
    used = np.array([decay == biases.decay and np.isfinite(biases.prior) for decay in DECAYS], np.float32)
    shrink = np.array(params.shrink)
    shrink[: len(DECAYS)] = np.log(np.float32(biases.prior if np.isfinite(biases.prior) else 1.0))
    width = biases.deviation * (1.0 if head.loss == "squared" else 3.0**0.5 / np.pi)
    tables = params.tables._replace(bias=(np.float32(biases.items) * params.tables.bias).astype(np.float32))
    spread_offset = np.full(1, np.log(max(width, 1e-3)), np.float32)
    return params._replace(**none, weight=used, shrink=shrink, spread_offset=spread_offset, tables=tables)


def _looked_at(sequences: Sequences) -> Sequences:
    """Return the first events of users evenly spread."""
    if len(sequences.items) > EVENTS:
        users = max(1, int(len(sequences) * EVENTS / len(sequences.items)))
        sequences = sequences.select(np.unique(np.linspace(0, len(sequences) - 1, users).astype(np.int64)))
    place = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    return sequences.keep(place < OF_USER)


def _sums_before(values: Doubles, sequences: Sequences, decay: float) -> Doubles:
    """Return float64[event]: the decayed sum of what a user had before each event."""
    out, offsets = np.zeros(len(values)), sequences.offsets
    users: NDArray[np.int64] = np.argsort(-sequences.lengths, kind="stable")
    lengths, sums = sequences.lengths[users], np.zeros(len(users))
    for place in range(int(lengths.max(initial=0))):
        live = int(np.searchsorted(-lengths, -place, side="left"))
        events = offsets[:-1][users[:live]] + place
        out[events] = sums[:live]
        sums[:live] = decay * sums[:live] + values[events]
    return out
