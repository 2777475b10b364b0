"""How much what followed what is worth beside the network: counted on what was learnt, weighed on validation.

Knows: which settings are tried, and that a mixture is kept where it is better than the network alone.
Does not know: how the network was trained, or how a mixture is scored (`segue.model.transitions`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.data.sequences.sequences import Sequences
from segue.data.sequences.transition_counts import followers, highest, shares
from segue.metrics.coordinate_search import coordinate_search
from segue.metrics.metrics import ndcg
from segue.metrics.ranks import target_ranks
from segue.model.transitions import REACH, RECENT, Counts, with_counts
from segue.shapes import Floats
from segue.training.budget import Budget, Every
from segue.training.validation import Answers

#: The weight at which the counts rank alone, and the network orders those items that they say nothing of.
ALONE = 1000.0
#: What is tried, one setting at a time.
GRID: dict[str, tuple[float, ...]] = {
    "weight": (0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0, 10.0, ALONE),
    "half_life": (0.1, 0.5, 1.0, 1.5, 3.0, 6.0, 12.0),
    "norm": (0.0, 0.5, 1.0),
    "rarity": (0.0, 0.15, 0.3, 0.5),
    "smoothing": (0.02, 0.1, 0.5),
}
#: What is tried besides where items are had again.
HABITS: dict[str, tuple[float, ...]] = {
    "habit": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
    "habit_half_life": (5.0, 20.0, 100.0),
}
#: Scales tried, 1 / (1 + weight) to these powers: 1 of them leaves the order of popularity alone, 0 is no scale.
SCALES = (1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.0)
#: Events whose followers are counted, at most; of more, those of users evenly spread.
EVENTS = 10_000_000
#: Pairs kept of an item, the most frequent, and of all items together.
PAIRS_OF_ITEM, PAIRS = 1000, 50_000_000
#: Of fewer questions than this the standard error is large: what a lighter mixture may then lose, as a share.
_FEW, _GIVEN = 500, 0.01
#: Scores computed while trying, at most.
_SCORES = 3_000_000_000


class Mix(NamedTuple):
    """The settings of a mixture.

    Args:
        weight: of the log of the share of what followed.
        half_life: in events, of a pair's distance and of the last items of a history.
        norm: 1 gives each of the last items the same say, 0 more to those that were followed often.
        rarity: 0 takes pairs as they were counted; above, those with a rare second item say more, for what is common
            everywhere says little of a user, and the network knows it already.
        smoothing: of popularity beside the shares.
        habit: the part of the share that is the last items themselves, 0 where lists leave out what was had.
        habit_half_life: in events, of those.
    """

    weight: float = 0.6
    half_life: float = 1.5
    norm: float = 0.5
    rarity: float = 0.0
    smoothing: float = 0.1
    habit: float = 0.0
    habit_half_life: float = 20.0


#: Where the search begins: what came just before, a longer past, and the counts alone.
STARTS = (
    Mix(),
    Mix(weight=1.0, half_life=6.0, norm=1.0, smoothing=0.02),
    Mix(weight=ALONE, half_life=0.5, norm=1.0),
)
#: And where items are had again: much of one's own.
OWN = Mix(weight=2.5, habit=0.5)


@dataclass(frozen=True)
class Fusion:
    """A mixture and what it gains on validation.

    Args:
        counts: the mixture; None where it is no better than the network alone.
        alone: NDCG@10 of the network.
        mixture: NDCG@10 of the best mixture.
        mix: its settings.
        short: what was left out for want of time, in words; nothing where the search came to its end.
    """

    counts: Counts | None
    alone: float
    mixture: float
    mix: Mix
    short: str = ""

    def __str__(self) -> str:
        found = f"NDCG@10 on validation {self.alone:.4f} alone, {self.mixture:.4f} with counts of what followed"
        if self.counts is None:
            return f"Counts of what followed the last items are left out: {found}{self.short}."
        alone = ", which rank alone" if self.mix.weight == ALONE else ""
        used = {name: value for name, value in self.mix._asdict().items() if self.mix.habit or "habit" not in name}
        settings = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in used.items())
        return f"{found} the last items{alone} ({settings}){self.short}."


def learn_fusion(
    known: Sequences,
    answers: Answers,
    size: int,
    budget: Budget | None = None,
    say: Callable[[str], None] | None = None,
) -> Fusion:
    """Return the mixture of network and counts that ranks validation best, with no more weight than that needs.

    One setting is varied at a time, from several places, until a whole round changes nothing. Then the weight goes down
    as far as more of validation is within one standard error (Breiman et al. 1984, "Classification and Regression
    Trees", 3.4.3): the best of many mixtures that differ little was best by chance in part, and counts are of the past.

    Args:
        known: what the network has learnt; validation is not in it.
        answers: the network's scores at the questions of validation.
        size: rows of the catalogue.
        budget: of the whole run; the search asks fewer questions and tries fewer settings where less than that is left.
        say: called every few seconds with a line on how far the search is.

    Cost: a count for each half-life tried, and about twice `_SCORES` scores.
    """
    grid, starts = _search(answers)
    trials, weights = trials_of(answers), 1 + len(grid["weight"])
    few, many = (answers.some(max(200, _SCORES // (size * times))) for times in (trials, weights))
    budget = budget or Budget()
    job = _Job(known, few, size, budget, Every(say or (lambda text: None), budget.clock))
    stops = 0.0
    if budget.seconds is not None:
        counting, asking = job.pace(starts[0])
        stops = budget.kept + counting  # all is counted once more at the end
        left = budget.left() - stops - (len(grid["half_life"]) - 1) * counting
        few, many = (part.some(max(200, int(left / 3 / times / asking))) for part, times in ((few, trials), (many, 15)))
        job = replace(job, answers=few, stops=stops + max(left, 0.0) / 3)
    best = max((coordinate_search(start, grid, job.value, Mix._replace) for start in starts), key=job.value)
    short, job, answers = job.short(), replace(job, answers=many, stops=stops), many
    best = _lightest(job, best, grid["weight"])
    alone = np.concatenate([_ndcg(block, block.scores()) for block in answers.blocks()])
    mixture = float(job.gains(best).mean())
    better = mixture > alone.mean() or (short and mixture == alone.mean())  # a short training learnt less than counts
    counts = _calibrated(job.counts(best), answers) if better else None
    return Fusion(counts, float(alone.mean()), mixture, best, short)


def _search(answers: Answers) -> tuple[dict[str, tuple[float, ...]], tuple[Mix, ...]]:
    """Return what is tried, and where the search begins."""
    return (GRID, STARTS) if answers.seen else (GRID | HABITS, (*STARTS, OWN))


def trials_of(answers: Answers) -> int:
    """Return about how many settings a search tries."""
    grid, starts = _search(answers)
    return 2 * len(starts) * sum(len(values) for values in grid.values())


def recounted(fusion: Fusion, known: Sequences, size: int) -> Counts | None:
    """Return the same mixture counted over more events, those kept for validation among them."""
    if fusion.counts is None:
        return None
    counts = weighed(count_pairs(known, size, fusion.mix.half_life), fusion.mix, known)
    return replace(counts, scale=fusion.counts.scale)


def _lightest(job: "_Job", best: Mix, weights: tuple[float, ...]) -> Mix:
    """Return the mixture with the least weight that is behind the best by no more than a standard error, of pairs.

    Of few questions by no more than `_GIVEN` of it, too.

    Where the counts alone are the best there is nothing of the network to keep.
    """
    if best.weight == ALONE:
        return best
    for weight in sorted(weights):
        if job.late():
            break
        mix = best._replace(weight=min(weight, best.weight))
        behind = job.gains(best) - job.gains(mix)
        least = _GIVEN * job.value(best) if len(behind) < _FEW else np.inf
        if behind.mean() <= min(behind.std() / np.sqrt(len(behind)), least):
            return mix
    return best


@dataclass(eq=False)
class _Job:
    """Mixtures of one log, each counted and measured once, while there is time.

    `stops` is how many seconds of the budget must be left for a mixture to be measured.
    """

    known: Sequences
    answers: Answers
    size: int
    budget: Budget
    said: Every
    stops: float = 0.0
    pairs: Any = None

    def __post_init__(self) -> None:
        self.pairs = self.pairs or cache(lambda half_life: count_pairs(self.known, self.size, half_life))
        self.measured: dict[Mix, NDArray[np.float64]] = {}
        self.left_out: set[Mix] = set()

    def late(self) -> bool:
        """Whether there is no time for another mixture."""
        return self.budget.left() <= self.stops

    def pace(self, mix: Mix) -> tuple[float, float]:
        """Return the seconds that counting takes, and those of a question about one mixture."""
        begin = self.budget.clock()
        self.pairs(mix.half_life)
        counted = self.budget.clock()
        some = replace(self, answers=self.answers.some(100))
        some.gains(mix)
        return counted - begin, max(self.budget.clock() - counted, 1e-9) / len(some.answers.targets)

    def short(self) -> str:
        """Return in words what there was no time for."""
        if not self.left_out:
            return ""
        tried = f"{len(self.measured)} settings tried on {len(self.answers.targets):,} questions"
        return f"; cut short for want of time (train.minutes): {tried}"

    def counts(self, mix: Mix) -> Counts:
        """Return the mixture with these settings, its scale not found yet."""
        return weighed(self.pairs(mix.half_life), mix, self.known)

    def value(self, mix: Mix) -> float:
        """Return the mean NDCG@10 of a mixture; -1 where there is no time to measure it."""
        if mix not in self.measured and self.late():
            self.left_out.add(mix)
            return -1.0
        return float(self.gains(mix).mean())

    def gains(self, mix: Mix) -> NDArray[np.float64]:
        """Return float64[question]: NDCG@10 of a mixture."""
        if mix not in self.measured:
            counts, blocks = self.counts(mix), self.answers.blocks()
            found = [_ndcg(block, with_counts(counts, block.scores(), block.recent)) for block in blocks]
            self.measured[mix] = np.concatenate(found)
            self.said(f"Tuning the blend: {len(self.measured)} settings tried.")
        return self.measured[mix]


def count_pairs(known: Sequences, size: int, half_life: float) -> sparse.csr_array:
    """Return sparse float32[V, V]: decayed counts of what followed each item within `REACH` events.

    Args:
        known: what was learnt.
        size: rows of the catalogue.
        half_life: in events, of a pair's distance.

    Cost: O(events x REACH), of at most `EVENTS` events. Memory: at most `PAIRS` pairs stay.
    """
    some = _spread(known.keep(known.items > 0))
    pairs = sparse.csr_array(followers(some, size, REACH, half_life))
    return highest(pairs, max(1, min(PAIRS_OF_ITEM, PAIRS // size)))


def weighed(pairs: sparse.csr_array, mix: Mix, known: Sequences) -> Counts:
    """Return counts with the settings of a mixture.

    Args:
        pairs: see `count_pairs`.
        mix: the settings.
        known: what was learnt, for popularity.
    """
    size = pairs.shape[0]
    sums = np.maximum(np.asarray(pairs.sum(axis=1)).ravel(), np.finfo(np.float32).tiny)
    firsts = np.repeat(sums**mix.norm, np.diff(pairs.indptr))
    seconds = (np.maximum(np.bincount(known.items, minlength=size), 1) ** mix.rarity)[pairs.indices]
    rarest = np.float32(1.0 / max(len(known.items), 1))
    return Counts(
        offsets=pairs.indptr.astype(np.int64),
        rows=pairs.indices.astype(np.int32),
        shares=(pairs.data / (firsts * seconds)).astype(np.float32),
        popularity=np.maximum(shares(known.items, size, total=1.0), rarest),
        decay=_decay(REACH, mix.half_life),
        weight=np.float32(mix.weight),
        smoothing=np.float32(mix.smoothing),
        scale=np.float32(1.0),
        habit=np.float32(mix.habit),
        habit_decay=_decay(RECENT, mix.habit_half_life),
    )


def _decay(places: int, half_life: float) -> NDArray[np.float32]:
    """Return float32[places]: 1 for the newest, at the end, and half for every half-life before it."""
    return np.exp2(-np.arange(places - 1, -1, -1) / half_life).astype(np.float32)


def _ndcg(block: Answers, scores: Floats) -> NDArray[np.float64]:
    return ndcg(target_ranks(block.hidden(scores), block.targets), k=10)


def _calibrated(counts: Counts, answers: Answers) -> Counts:
    """Return the mixture with the scale that makes the targets likeliest; the order of a list is the same."""
    low = 1.0 / (1.0 + float(counts.weight))
    powers = (1.0,) if counts.weight == ALONE else SCALES  # alone their shares are what they are
    scales = np.array([low**power for power in powers], np.float32)
    losses = np.zeros(len(scales))
    for block in answers.blocks():
        scores = block.hidden(with_counts(counts, block.scores(), block.recent))
        scores -= scores.max(axis=1, keepdims=True)
        goals = scores[np.arange(len(scores)), block.targets]
        for i, scale in enumerate(scales):
            losses[i] += float((np.log(np.exp(scale * scores).sum(axis=1)) - scale * goals).sum())
    return replace(counts, scale=scales[int(np.argmin(losses))])


def _spread(known: Sequences) -> Sequences:
    """Return all users of a log of bounded size, or as many of a larger one, evenly spread."""
    if len(known.items) <= EVENTS:
        return known
    users = max(1, int(len(known) * EVENTS / len(known.items)))
    return known.select(np.linspace(0, len(known) - 1, users).astype(np.int64))
