"""Every baseline: all are fitted to one log and rank the same queries; the failure of one costs no other."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from segue.data.sequences.sequences import Sequences
from segue.evaluation.baselines.als import ALS
from segue.evaluation.baselines.content_knn import ContentKNN
from segue.evaluation.baselines.contract import Baseline, Fitted
from segue.evaluation.baselines.counting import DecayedMarkov, ItemKNN, OwnPopularity, Popularity, RecentPopularity
from segue.evaluation.baselines.ease import EASE
from segue.evaluation.baselines.separate_process import Failure, attempt, call_each
from segue.evaluation.baselines.session_knn import SessionKNN
from segue.evaluation.baselines.transition_graph import TransitionGraph
from segue.evaluation.baselines.tuning import tuned
from segue.evaluation.queries import Rankings, RankingTask, rank_queries
from segue.shapes import Floats

#: Every baseline, in the order of a report.
BASELINES: tuple[type[Baseline], ...] = (
    Popularity,
    RecentPopularity,
    OwnPopularity,
    DecayedMarkov,
    ItemKNN,
    SessionKNN,
    EASE,
    ALS,
    ContentKNN,
    TransitionGraph,
)

Say = Callable[[str], None]
Result = TypeVar("Result")


class TrainingData(NamedTuple):
    """What baselines are tuned on and fitted to.

    Args:
        sequences: the training events.
        n_items: the length of a score row, row 0 included.
        features: float32[item, m], what is known of each item beside events, or None.
        exclude_seen: whether lists exclude the items of the history.
    """

    sequences: Sequences
    n_items: int
    features: Floats | None = None
    exclude_seen: bool = False


class FittedBaselines(NamedTuple):
    """The baselines beside a recommender.

    Args:
        fitted: by name with settings.
        left_out: a sentence for each baseline that could not be fitted, with the reason.
    """

    fitted: dict[str, Fitted]
    left_out: tuple[str, ...]


class BaselineRankings(NamedTuple):
    """How baselines rank.

    Args:
        rankings: for each task, by name with settings.
        left_out: a sentence for each baseline that could not be fitted or did not rank, with the reason.
    """

    rankings: dict[str, list[Rankings]]
    left_out: tuple[str, ...]


def rank_baselines(data: TrainingData, tasks: Sequence[RankingTask], say: Say | None = None) -> BaselineRankings:
    """Return how every baseline ranks that can be fitted, tuned on the last training event of each user.

    All work is done in a separate process (`call_each`). A baseline that crashes, takes too much memory or does not
    end is named in `left_out`, and the others stand.

    Args:
        say: called with a line for each baseline before it is tuned.

    Cost: `tuned` for each and its scores, half a second for the process, and a copy of the events.
    """
    able, obstacles = _able(data)
    plain = [RankingTask(task.queries.items_only(), task.seen and task.seen.items_only()) for task in tasks]
    results = call_each(_tune_and_rank, (data, plain), _announced(able, say))
    return BaselineRankings(*_collected(able, results, obstacles))


def rank_fitted(fitted: Mapping[str, Fitted], tasks: Sequence[RankingTask]) -> BaselineRankings:
    """Return how fitted baselines rank; a baseline that raises is named in `left_out`."""
    rankings, left_out = {}, []
    for name, baseline in fitted.items():
        result = attempt(_rank, baseline, tasks)
        if isinstance(result, Failure):
            left_out.append(f"Left out: {name}: {result.why}")
        else:
            rankings[name] = result
    return BaselineRankings(rankings, tuple(left_out))


def fit_all(data: TrainingData, say: Say | None = None) -> FittedBaselines:
    """Return every baseline that can be fitted, in this process; a baseline that raises is named in `left_out`.

    Cost: `tuned` for each.

    Example:
        >>> import numpy as np, polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 3]), np.array([1, 2, 1], np.int32))
        >>> fit_all(TrainingData(log, 3)).left_out[-2]
        'Left out: content-kNN: expected features of the items, came none. Give a catalogue with attributes.'
    """
    able, obstacles = _able(data)
    results = (attempt(_tune, data, kind) for kind in _announced(able, say))
    return FittedBaselines(*_collected(able, results, obstacles))


def _able(data: TrainingData) -> tuple[list[type[Baseline]], dict[type[Baseline], str]]:
    """Return the baselines that can be fitted, and for the others why not."""
    useful = [kind for kind in BASELINES if not (kind.repeats and data.exclude_seen)]
    reasons = {kind: kind.obstacle(data.n_items, data.features) for kind in useful}
    obstacles = {kind: why for kind, why in reasons.items() if why is not None}
    return [kind for kind in useful if kind not in obstacles], obstacles


def _announced(kinds: Sequence[type[Baseline]], say: Say | None) -> Iterator[type[Baseline]]:
    for number, kind in enumerate(kinds, start=1):
        if say:
            say(f"Tuning baseline {number} of {len(kinds)}: {kind.title}.")
        yield kind


def _tune(data: TrainingData, kind: type[Baseline]) -> tuple[str, Fitted]:
    fitted = tuned(kind, data.sequences, data.n_items, features=data.features, exclude_seen=data.exclude_seen)
    return fitted.name, fitted


def _tune_and_rank(
    given: tuple[TrainingData, Sequence[RankingTask]], kind: type[Baseline]
) -> tuple[str, list[Rankings]]:
    name, fitted = _tune(given[0], kind)
    return name, _rank(fitted, given[1])


def _rank(fitted: Fitted, tasks: Sequence[RankingTask]) -> list[Rankings]:
    def ranked(task: RankingTask) -> Rankings:
        return rank_queries(task, lambda block: fitted.score([task.queries.history(query) for query in block]))

    return [ranked(task) for task in tasks]


def _collected(
    able: Sequence[type[Baseline]],
    results: Iterable[tuple[str, Result] | Failure],
    obstacles: dict[type[Baseline], str],
) -> tuple[dict[str, Result], tuple[str, ...]]:
    """Return the results by name, and a sentence for each baseline that is missing, in the order of a report."""
    named, reasons = {}, dict(obstacles)
    for kind, result in zip(able, results, strict=True):
        if isinstance(result, Failure):
            reasons[kind] = f"{kind.title}: {result.why}"
        else:
            named[result[0]] = result[1]
    return named, tuple(f"Left out: {reasons[kind]}" for kind in BASELINES if kind in reasons)
