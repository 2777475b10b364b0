"""The blend with transition counts: counted on learnt events, tuned on validation data.

A blend is kept only where it is better than the network alone.
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
from segue.model.transitions import REACH, RECENT, TransitionCounts, blend_scores
from segue.shapes import Floats
from segue.training.budget import Budget, Every
from segue.training.validation import Answers

#: The weight at which the counts rank alone; the network orders only the items without a share.
ALONE = 1000.0
#: What is tried, one setting at a time.
GRID: dict[str, tuple[float, ...]] = {
    "weight": (0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0, 10.0, ALONE),
    "half_life": (0.1, 0.5, 1.0, 1.5, 3.0, 6.0, 12.0),
    "norm": (0.0, 0.5, 1.0),
    "rarity": (0.0, 0.15, 0.3, 0.5),
    "smoothing": (0.02, 0.1, 0.5),
}
#: Tried besides where users consume items again.
HABITS: dict[str, tuple[float, ...]] = {
    "habit": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
    "habit_half_life": (5.0, 20.0, 100.0),
}
#: Scales tried: 1 / (1 + weight) to these powers; 1 keeps the order of popularity, 0 is no scale.
SCALES = (1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.0)
#: Events that are counted, at most; of more, those of users evenly spread.
EVENTS = 10_000_000
#: Pairs kept of an item, the most frequent, and of all items together.
PAIRS_OF_ITEM, PAIRS = 1000, 50_000_000
#: Below so many questions the standard error is large; a smaller weight may lose this share there.
_FEW, _GIVEN = 500, 0.01
#: Scores computed while trying, at most.
_SCORES = 3_000_000_000


class BlendSettings(NamedTuple):
    """The settings of a blend.

    Args:
        weight: of the log of the transition share.
        half_life: in events, of a pair's distance and of the last items of a history.
        norm: 1 gives each of the last items the same influence, 0 more to items that many events
            followed.
        rarity: 0 takes pairs as counted; higher values favour a rare second item, since a common
            item says little of a user, and the network knows it already.
        smoothing: of popularity beside the shares.
        habit: the part of the share that is the last items themselves, 0 where lists exclude seen
            items.
        habit_half_life: in events, of the last items themselves.
    """

    weight: float = 0.6
    half_life: float = 1.5
    norm: float = 0.5
    rarity: float = 0.0
    smoothing: float = 0.1
    habit: float = 0.0
    habit_half_life: float = 20.0


#: Where the search begins: the last items, a longer past, and the counts alone.
STARTS = (
    BlendSettings(),
    BlendSettings(weight=1.0, half_life=6.0, norm=1.0, smoothing=0.02),
    BlendSettings(weight=ALONE, half_life=0.5, norm=1.0),
)
#: And where users consume items again.
REPEATS = BlendSettings(weight=2.5, habit=0.5)


@dataclass(frozen=True)
class Blend:
    """The best blend and what it gains on validation.

    Args:
        counts: with its settings; None where it is no better than the network alone.
        alone: NDCG@10 of the network.
        blended: NDCG@10 of the blend.
        settings: of the blend.
        short: in words, what the time budget left untried; empty where the search ended by itself.
    """

    counts: TransitionCounts | None
    alone: float
    blended: float
    settings: BlendSettings
    short: str = ""

    def __str__(self) -> str:
        scores = f"NDCG@10 on validation {self.alone:.4f} alone, {self.blended:.4f} with transition counts"
        if self.counts is None:
            return f"Transition counts are left out: {scores}{self.short}."
        alone = ", which rank alone" if self.settings.weight == ALONE else ""
        habit = self.settings.habit
        used = {name: value for name, value in self.settings._asdict().items() if habit or "habit" not in name}
        settings = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in used.items())
        return f"{scores}{alone} ({settings}){self.short}."


def tune_blend(
    known: Sequences,
    answers: Answers,
    size: int,
    budget: Budget | None = None,
    say: Callable[[str], None] | None = None,
) -> Blend:
    """Return the blend that ranks validation best, with the least weight it needs.

    The search varies one setting at a time, from several starts, until a whole round changes
    nothing. Then the weight is lowered to the least that is within one standard error of the best
    on more of validation (Breiman et al. 1984, "Classification and Regression Trees", 3.4.3): the
    best of many similar blends is best by chance in part, and transition counts describe the past.

    Args:
        known: what the network has learnt, without validation.
        answers: the network's scores at the questions of validation.
        size: rows of the catalogue.
        budget: of the whole run. With little time left, the search uses fewer questions and
            settings.
        say: called every few seconds with a line of progress.

    Cost: a count for each half-life tried, and about twice `_SCORES` scores.
    """
    grid, starts = _plan(answers)
    trials, weights = trials_of(answers), 1 + len(grid["weight"])
    few, many = (answers.subset(max(200, _SCORES // (size * times))) for times in (trials, weights))
    budget = budget or Budget()
    search = _Search(known, few, size, budget, Every(say or (lambda text: None), budget.clock))
    stops = 0.0
    if budget.seconds is not None:
        counting, asking = search.pace(starts[0])
        stops = budget.kept + counting  # all events are counted once more at the end
        left = budget.left() - stops - (len(grid["half_life"]) - 1) * counting
        fit = left / 3 / asking
        few, many = few.subset(max(200, int(fit / trials))), many.subset(max(200, int(fit / 15)))
        search = replace(search, answers=few, stops=stops + max(left, 0.0) / 3)
    climbed = [coordinate_search(start, grid, search.value, BlendSettings._replace) for start in starts]
    best = max(climbed, key=search.value)
    short, search, answers = search.short(), replace(search, answers=many, stops=stops), many
    best = _lightest(search, best, grid["weight"])
    alone = np.concatenate([_ndcg(block, block.scores()) for block in answers.blocks()])
    blended = float(search.gains(best).mean())
    better = blended > alone.mean() or (short and blended == alone.mean())  # a short training learnt less than counts
    counts = _calibrated(search.counts(best), answers) if better else None
    return Blend(counts, float(alone.mean()), blended, best, short)


def _plan(answers: Answers) -> tuple[dict[str, tuple[float, ...]], tuple[BlendSettings, ...]]:
    """Return what is tried, and where the search begins."""
    return (GRID, STARTS) if answers.seen else (GRID | HABITS, (*STARTS, REPEATS))


def trials_of(answers: Answers) -> int:
    """Return about how many settings a search tries."""
    grid, starts = _plan(answers)
    return 2 * len(starts) * sum(len(values) for values in grid.values())


def recounted(blend: Blend, known: Sequences, size: int) -> TransitionCounts | None:
    """Return the same blend counted over more events, those of validation among them."""
    if blend.counts is None:
        return None
    counts = transition_counts(count_pairs(known, size, blend.settings.half_life), blend.settings, known)
    return replace(counts, scale=blend.counts.scale)


def _lightest(search: "_Search", best: BlendSettings, weights: tuple[float, ...]) -> BlendSettings:
    """Return the settings with the least weight within one standard error of the best.

    With few questions they may lose at most `_GIVEN` of its NDCG@10. A weight of `ALONE` stays.
    """
    if best.weight == ALONE:
        return best
    for weight in sorted(weights):
        if search.late():
            break
        lighter = best._replace(weight=min(weight, best.weight))
        behind = search.gains(best) - search.gains(lighter)
        least = _GIVEN * search.value(best) if len(behind) < _FEW else np.inf
        if behind.mean() <= min(behind.std() / np.sqrt(len(behind)), least):
            return lighter
    return best


@dataclass(eq=False)
class _Search:
    """Blends of one log, each measured once while more than `stops` seconds of budget are left."""

    known: Sequences
    answers: Answers
    size: int
    budget: Budget
    said: Every
    stops: float = 0.0
    pairs: Any = None

    def __post_init__(self) -> None:
        self.pairs = self.pairs or cache(lambda half_life: count_pairs(self.known, self.size, half_life))
        self.measured: dict[BlendSettings, NDArray[np.float64]] = {}
        self.left_out: set[BlendSettings] = set()

    def late(self) -> bool:
        """Whether there is no time for another blend."""
        return self.budget.left() <= self.stops

    def pace(self, settings: BlendSettings) -> tuple[float, float]:
        """Return the seconds that counting takes, and those of one question with one blend."""
        begin = self.budget.clock()
        self.pairs(settings.half_life)
        counted = self.budget.clock()
        sample = replace(self, answers=self.answers.subset(100))
        sample.gains(settings)
        return counted - begin, max(self.budget.clock() - counted, 1e-9) / len(sample.answers.targets)

    def short(self) -> str:
        """Return in words what the time budget left untried."""
        if not self.left_out:
            return ""
        tried = f"{len(self.measured)} settings tried on {len(self.answers.targets):,} questions"
        return f"; stopped early by train.minutes: {tried}"

    def counts(self, settings: BlendSettings) -> TransitionCounts:
        """Return the counts with these settings; their scale is not tuned yet."""
        return transition_counts(self.pairs(settings.half_life), settings, self.known)

    def value(self, settings: BlendSettings) -> float:
        """Return the mean NDCG@10 of a blend; -1 where there is no time to measure it."""
        if settings not in self.measured and self.late():
            self.left_out.add(settings)
            return -1.0
        return float(self.gains(settings).mean())

    def gains(self, settings: BlendSettings) -> NDArray[np.float64]:
        """Return float64[question]: NDCG@10 of a blend."""
        if settings not in self.measured:
            counts, blocks = self.counts(settings), self.answers.blocks()
            scores = [_ndcg(block, blend_scores(counts, block.scores(), block.recent)) for block in blocks]
            self.measured[settings] = np.concatenate(scores)
            self.said(f"Tuning the blend: {len(self.measured)} settings tried.")
        return self.measured[settings]


def count_pairs(known: Sequences, size: int, half_life: float) -> sparse.csr_array:
    """Return sparse float32[V, V]: decayed counts of what followed each item within `REACH` events.

    `half_life` is the distance of a pair, in events, at which it counts half.

    Cost: O(events x REACH), of at most `EVENTS` events. Memory: at most `PAIRS` pairs stay.
    """
    pairs = sparse.csr_array(followers(_spread(known.keep(known.items > 0)), size, REACH, half_life))
    return highest(pairs, max(1, min(PAIRS_OF_ITEM, PAIRS // size)))


def transition_counts(pairs: sparse.csr_array, settings: BlendSettings, known: Sequences) -> TransitionCounts:
    """Return counted pairs (`count_pairs`) with the settings of a blend; `known` gives popularity."""
    size = pairs.shape[0]
    sums = np.maximum(np.asarray(pairs.sum(axis=1)).ravel(), np.finfo(np.float32).tiny)
    firsts = np.repeat(sums**settings.norm, np.diff(pairs.indptr))
    seconds = (np.maximum(np.bincount(known.items, minlength=size), 1) ** settings.rarity)[pairs.indices]
    rarest = np.float32(1.0 / max(len(known.items), 1))
    return TransitionCounts(
        offsets=pairs.indptr.astype(np.int64),
        rows=pairs.indices.astype(np.int32),
        shares=(pairs.data / (firsts * seconds)).astype(np.float32),
        popularity=np.maximum(shares(known.items, size, total=1.0), rarest),
        decay=_decay(REACH, settings.half_life),
        weight=np.float32(settings.weight),
        smoothing=np.float32(settings.smoothing),
        scale=np.float32(1.0),
        habit=np.float32(settings.habit),
        habit_decay=_decay(RECENT, settings.habit_half_life),
    )


def _decay(places: int, half_life: float) -> NDArray[np.float32]:
    """Return float32[places]: 1 for the newest, at the end, half for each half-life before."""
    return np.exp2(-np.arange(places - 1, -1, -1) / half_life).astype(np.float32)


def _ndcg(block: Answers, scores: Floats) -> NDArray[np.float64]:
    return ndcg(target_ranks(block.hidden(scores), block.targets), k=10)


def _calibrated(counts: TransitionCounts, answers: Answers) -> TransitionCounts:
    """Return the counts with the scale of the likeliest targets; the order of a list stays."""
    low = 1.0 / (1.0 + float(counts.weight))
    powers = (1.0,) if counts.weight == ALONE else SCALES  # ranking alone, the shares need no scale
    scales = np.array([low**power for power in powers], np.float32)
    losses = np.zeros(len(scales))
    for block in answers.blocks():
        scores = block.hidden(blend_scores(counts, block.scores(), block.recent))
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
