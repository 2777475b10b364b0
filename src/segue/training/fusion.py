"""How much what followed what is worth beside the network: counted on what was learnt, weighed on validation.

Knows: which settings are tried, and that a mixture is kept only where it is better by more than noise.
Does not know: how the network was trained, or how a mixture is scored (`segue.model.counts`).
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.data.counting import followers, highest, shares
from segue.data.sequences import Sequences
from segue.measure.metrics import ndcg
from segue.measure.ranks import target_ranks
from segue.model.counts import RECENT, Counts, followed, mixed
from segue.shapes import Floats
from segue.training.validation import Answers

#: What is tried: half-lives in events, smoothing, weights of the log of the shares.
HALF_LIVES, SMOOTHING = (0.75, 1.5, 3.0, 6.0), (0.02, 0.2)
WEIGHTS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0)
#: Scales tried, as shares of the way from 1 / (1 + weight), which leaves the order of popularity alone, to 1.
SCALES = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
#: Events whose followers are counted, at most; of more, those of users evenly spread.
EVENTS = 10_000_000
#: Pairs kept of an item, the most frequent, and of all items together.
PAIRS_OF_ITEM, PAIRS = 1000, 50_000_000
#: Standard errors by which a mixture must be better than the network alone.
SURE = 2.0
#: Scores computed while trying, at most.
_SCORES = 1_500_000_000


@dataclass(frozen=True)
class Fusion:
    """A mixture and what it gains on validation.

    Args:
        counts: the mixture; None where it is no better than the network alone.
        alone: NDCG@10 of the network.
        mixture: NDCG@10 of the best mixture.
        half_life: of it.
    """

    counts: Counts | None
    alone: float
    mixture: float
    half_life: float

    def __str__(self) -> str:
        found = f"NDCG@10 on validation {self.alone:.4f} alone, {self.mixture:.4f} with counts of what followed"
        if self.counts is None:
            return f"Counts of what followed the last items are left out: {found}, no more than noise."
        weight, smoothing = float(self.counts.weight), float(self.counts.smoothing)
        return f"{found} the last items (half-life {self.half_life}, weight {weight:.1f}, smoothing {smoothing:.2f})."


def count_pairs(known: Sequences, size: int, half_life: float) -> Counts:
    """Return the shares of what followed each item within `RECENT` events, with a weight of 0.

    Args:
        known: what was learnt.
        size: rows of the catalogue.
        half_life: in events, of a pair's distance and of the last items of a history.

    Cost: O(events x RECENT), of at most `EVENTS` events.
    """
    popularity = shares(known.items, size, total=1.0)
    floor = np.float32(1.0 / max(len(known.items), 1))
    some = _spread(known.keep(known.items > 0))
    pairs = sparse.csr_array(followers(some, size, RECENT, half_life))
    kept = highest(pairs, max(1, min(PAIRS_OF_ITEM, PAIRS // size)))
    sums = np.maximum(np.asarray(pairs.sum(axis=1)).ravel(), np.finfo(np.float32).tiny)
    return Counts(
        offsets=kept.indptr.astype(np.int64),
        rows=kept.indices.astype(np.int32),
        shares=(kept.data / np.repeat(sums, np.diff(kept.indptr))).astype(np.float32),
        popularity=np.maximum(popularity, floor),
        decay=np.exp2(-np.arange(RECENT - 1, -1, -1) / half_life).astype(np.float32),
        weight=np.float32(0.0),
        smoothing=np.float32(SMOOTHING[0]),
        scale=np.float32(1.0),
    )


def learn_fusion(known: Sequences, answers: Answers, size: int) -> Fusion:
    """Return the mixture of network and counts that ranks validation best.

    Args:
        known: what the network has learnt; validation is not in it.
        answers: the network's scores at the questions of validation.
        size: rows of the catalogue.

    Cost: a count for each half-life, and about `_SCORES` scores.
    """
    bases = [count_pairs(known, size, half_life) for half_life in HALF_LIVES]
    dials = list(product(SMOOTHING, WEIGHTS))
    answers = answers.some(max(200, _SCORES // (size * (len(bases) * len(dials) + 1))))
    gains = np.concatenate([_gains(block, bases, dials) for block in answers.blocks()])
    means = gains.mean(axis=0)
    best = 1 + int(np.argmax(means[1:]))
    which, dial = divmod(best - 1, len(dials))
    lead = gains[:, best] - gains[:, 0]
    better = lead.mean() > SURE * lead.std() / len(lead) ** 0.5
    counts = _calibrated(_with(bases[which], *dials[dial]), answers) if better else None
    return Fusion(counts, float(means[0]), float(means[best]), HALF_LIVES[which])


def _with(base: Counts, smoothing: float, weight: float) -> Counts:
    return base._replace(smoothing=np.float32(smoothing), weight=np.float32(weight))


def _gains(block: Answers, bases: list[Counts], dials: list[tuple[float, float]]) -> NDArray[np.float64]:
    """Return float64[question, 1 + mixtures]: NDCG@10 of the network alone and of each mixture."""
    alone = block.scores()
    found = [_ndcg(block, alone)]
    for base in bases:
        shares = followed(base, block.recent)
        found += [_ndcg(block, mixed(_with(base, *dial), alone, shares)) for dial in dials]
    return np.stack(found, axis=1)


def _ndcg(block: Answers, scores: Floats) -> NDArray[np.float64]:
    return ndcg(target_ranks(block.hidden(scores), block.targets), k=10)


def _calibrated(counts: Counts, answers: Answers) -> Counts:
    """Return the mixture with the scale that makes the targets likeliest; the order of a list is the same."""
    low = 1.0 / (1.0 + float(counts.weight))
    scales = np.array([low + share * (1.0 - low) for share in SCALES], np.float32)
    losses = np.zeros(len(scales))
    for block in answers.blocks():
        scores = block.hidden(mixed(counts, block.scores(), followed(counts, block.recent)))
        scores -= scores.max(axis=1, keepdims=True)
        goals = scores[np.arange(len(scores)), block.targets]
        for i, scale in enumerate(scales):
            losses[i] += float((np.log(np.exp(scale * scores).sum(axis=1)) - scale * goals).sum())
    return counts._replace(scale=scales[int(np.argmin(losses))])


def _spread(known: Sequences) -> Sequences:
    """Return all users of a log of bounded size, or as many of a larger one, evenly spread."""
    if len(known.items) <= EVENTS:
        return known
    users = max(1, int(len(known) * EVENTS / len(known.items)))
    return known.select(np.linspace(0, len(known) - 1, users).astype(np.int64))
