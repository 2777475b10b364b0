"""The simplest rating head: an item's bias plus a user's bias that moves with every rating.

The biases are weights of the same head, so they are kept and served like a trained head. They are
used where the trained head is no better on validation data.
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

#: Tried: shares of the item biases; prior weights of a user in ratings, infinite for no user bias.
ITEMS, PRIORS = (0.0, 0.5, 1.0, 1.5), (1.0, 3.0, 8.0, 20.0, np.inf)
#: Events read at most, in all and of one user; of more, those of users evenly spread.
EVENTS, OF_USER = 200_000, 2_000


class Biases(NamedTuple):
    """The settings of the simplest head, and its error on the learnt ratings.

    Args:
        items: the share of the item biases that is used.
        decay: the factor of a user's sums for each further event, one of `DECAYS`.
        prior: the weight of the prior mean of a user, in ratings.
        deviation: root mean square of the errors, in units.
    """

    items: float
    decay: float
    prior: float
    deviation: float


def best_biases(sequences: Sequences, scale: Scale, items: int) -> Biases:
    """Return the biases that predict each rating of a log best, from strictly earlier ones.

    The rating to be predicted is left out of its item's bias.

    Args:
        sequences: the log, with ratings.
        scale: of the ratings.
        items: V.

    Cost: O(events read) for each of 60 settings.
    """
    sample = _sampled(sequences)
    assert sample.ratings is not None
    known = np.isfinite(sample.ratings) & (sample.items > 0)
    above = np.where(known, np.nan_to_num(scale.standardise(sample.ratings)), 0.0).astype(np.float64)
    user = np.repeat(np.arange(len(sample)), sample.lengths)
    size, priors = (len(sample), items), (USER_PRIOR, ITEM_PRIOR)
    user_bias, bias = shrunken_biases(user[known], sample.items[known], above[known], size, priors)
    count = np.bincount(sample.items[known], minlength=items)[sample.items]
    others = (bias[sample.items] * (count + ITEM_PRIOR) - (above - user_bias[user])) / np.maximum(
        count - 1 + ITEM_PRIOR, 1
    )
    begins = moment_begins(sample)
    numbers = {decay: _sums_before(known.astype(np.float64), sample, decay)[begins] for decay in DECAYS}
    tried = []
    for share in ITEMS:
        left = np.where(known, above - share * others, 0.0)
        read = np.where(known, above - share * bias[sample.items], 0.0)
        for decay in DECAYS:
            sums = _sums_before(read, sample, decay)[begins]
            for prior in PRIORS:
                errors = (left - sums / (numbers[decay] + prior))[known]
                tried.append(Biases(share, decay, prior, float(np.sqrt(np.mean(errors**2)))))
    return min(tried, key=lambda biases: biases.deviation)


class Choice(NamedTuple):
    """The better of two heads, and their RMSE on validation, in the scale of the ratings.

    Args:
        params: the weights of the network with the better head.
        trained: the error of the trained head; NaN where validation has no ratings.
        simple: the error of moving biases.
        falls_back: whether moving biases are used.
    """

    params: NetworkParams
    trained: float
    simple: float
    falls_back: bool

    def __str__(self) -> str:
        errors = f"RMSE on validation {self.trained:.4f}, moving biases {self.simple:.4f}"
        if not self.falls_back:
            return f"Ratings: {errors}."
        if np.isnan(self.trained):
            return "Ratings: none in the validation data, so moving biases of users and items predict."
        return f"Ratings: {errors}. The network is no better, so moving biases of users and items predict."


def better_head(network: Network, params: NetworkParams, biases: Biases, validation: Validation) -> Choice:
    """Return the network with the better head on validation: the trained one or moving biases.

    Args:
        params: as trained, with tables.
        biases: see `best_biases`.
        validation: its last ratings are predicted.

    Cost: two scans over the sequences of validation.
    """
    assert network.rating is not None
    simple = params._replace(rating=with_biases(network.rating, params.rating, biases))
    errors = [validation.rating_errors(network, weights) for weights in (params, simple)]
    known = bool(np.isfinite(errors[0]).any())
    trained, alone = (float(np.sqrt(np.mean(error[np.isfinite(error)] ** 2))) if known else np.nan for error in errors)
    falls_back = not trained < alone
    return Choice(simple if falls_back else params, trained, alone, falls_back)


def with_biases(head: RatingHead, params: RatingParams, biases: Biases) -> RatingParams:
    """Return the weights of a head that predicts from these biases alone."""
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


def _sampled(sequences: Sequences) -> Sequences:
    """Return the first events of users evenly spread."""
    if len(sequences.items) > EVENTS:
        users = max(1, int(len(sequences) * EVENTS / len(sequences.items)))
        sequences = sequences.select(np.unique(np.linspace(0, len(sequences) - 1, users).astype(np.int64)))
    place = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    return sequences.keep(place < OF_USER)


def _sums_before(values: Doubles, sequences: Sequences, decay: float) -> Doubles:
    """Return float64[event]: the decayed sum of a user's values before each event."""
    out, offsets = np.zeros(len(values)), sequences.offsets
    users: NDArray[np.int64] = np.argsort(-sequences.lengths, kind="stable")
    lengths, sums = sequences.lengths[users], np.zeros(len(users))
    for place in range(int(lengths.max(initial=0))):
        live = int(np.searchsorted(-lengths, -place, side="left"))
        events = offsets[:-1][users[:live]] + place
        out[events] = sums[:live]
        sums[:live] = decay * sums[:live] + values[events]
    return out
