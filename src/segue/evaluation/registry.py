"""Every baseline: all are fitted to one log and rank the same queries; the failure of one costs no other."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError, nearest
from segue.evaluation.baselines.als import ALS
from segue.evaluation.baselines.content_knn import ContentKNN
from segue.evaluation.baselines.contract import Baseline, Fitted
from segue.evaluation.baselines.counting import DecayedMarkov, ItemKNN, OwnPopularity, Popularity, RecentPopularity
from segue.evaluation.baselines.ease import EASE, LARGEST
from segue.evaluation.baselines.kept_settings import data_key, read_settings, write_settings
from segue.evaluation.baselines.progress import TuningStep
from segue.evaluation.baselines.separate_process import Failure, attempt, call_each, run_beside
from segue.evaluation.baselines.session_knn import SessionKNN
from segue.evaluation.baselines.transition_graph import TransitionGraph
from segue.evaluation.baselines.tuning import tuned
from segue.evaluation.queries import Rankings, RankingTask, rank_queries
from segue.free_memory import GIB, memory_available
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

#: Processes that tune at the same time, at most.
MOST = 4

Say = Callable[[str], None]
#: Baselines of a caller: fitted, by name; names of some of the usual; or None for all of the usual.
Baselines: TypeAlias = Mapping[str, Fitted] | Sequence[str] | str | None
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

    @property
    def key(self) -> str:
        """What stands for all that the tuning reads, the code included."""
        whole = self.sequences
        arrays = (whole.offsets, whole.items, whole.times, self.features)
        return data_key(arrays, self.n_items, self.exclude_seen)


class Chosen(NamedTuple):
    """Which baselines stand beside a recommender, and how their settings come about.

    Args:
        words: the names of some, such as "markov"; None for all that suit the log.
        keep: a file that keeps tuned settings, or None. Settings that it has for the same data and code are taken.
        say: called with a line for each baseline before it is tuned.
        progress: called after each trial.
    """

    words: Sequence[str] | None = None
    keep: Path | None = None
    say: Say | None = None
    progress: Callable[[TuningStep], None] | None = None

    @property
    def kinds(self) -> tuple[type[Baseline], ...]:
        """The classes, in the order of a report."""
        return tuple(kind for kind in BASELINES if self.words is None or (kind.word or kind.title) in self.words)


def words_of(baselines: Baselines, *, fitting: bool = True) -> tuple[str, ...] | None:
    """Return the names that a caller gave, none for "none"; None for fitted baselines, or for the usual ones.

    Args:
        baselines: of the caller.
        fitting: whether there are training events to fit them to.

    Raises:
        ArgumentError: a name is none of a baseline, or names are given and nothing to fit them to.

    Example:
        >>> words_of("markov, own"), words_of("none"), words_of(None)
        (('markov', 'own'), (), None)
    """
    if baselines is None or isinstance(baselines, Mapping):
        return None
    parts = baselines.split(",") if isinstance(baselines, str) else list(baselines)
    known = {kind.title.lower(): kind.word or kind.title for kind in BASELINES}
    words = [known.get(word.strip().lower(), word.strip().lower()) for word in parts]
    words = [word for word in words if word != "none"]
    for word in words:
        if word not in known.values():
            like = nearest(word, known.values())
            hint = f' Did you mean "{like}"?' if like else " Choose of these."
            raise ArgumentError(
                f'baselines: expected names among {", ".join(known.values())}, or none, came "{word[:50]}".{hint}'
            )
    if words and not fitting:
        raise ArgumentError(
            f"baselines: expected the training events beside names such as {words[0]}, came none. Give train=."
        )
    return tuple(words)


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


class _Ranked(NamedTuple):
    """How one baseline ranks each task, and its settings."""

    settings: dict[str, Any]
    rankings: list[Rankings]


def rank_baselines(data: TrainingData, tasks: Sequence[RankingTask], chosen: Chosen | None = None) -> BaselineRankings:
    """Return how baselines rank, tuned on the last training event of each user.

    All work is done in separate processes (`call_each`), side by side where cores and memory allow. A baseline that
    crashes, takes too much memory or does not end is named in `left_out`, and the others stand. Settings that
    `chosen.keep` has are not tuned again.

    Cost: `tuned` for each and its scores, half a second for a process, and a copy of the events.
    """
    chosen = chosen or Chosen()
    able, obstacles = _able(data, chosen)
    key = data.key if chosen.keep else ""
    kept = read_settings(chosen.keep, key) if chosen.keep else {}
    keys = [_with_settings(kind, kept.get(kind.title)) for kind in able]
    plain = [RankingTask(task.queries.items_only(), task.seen and task.seen.items_only()) for task in tasks]
    found, left_out = _collected(able, _side_by_side((data, plain), keys, chosen), obstacles)
    settings = {name.partition(" (")[0]: each.settings for name, each in found.items()}
    if chosen.keep and any(kept.get(title) != each for title, each in settings.items()):
        try:
            write_settings(chosen.keep, key, settings)
        except OSError as error:
            left_out = (*left_out, f"{chosen.keep}: the settings of the baselines were not kept: {error.strerror}.")
    return BaselineRankings({name: each.rankings for name, each in found.items()}, left_out)


def _side_by_side(
    given: tuple[TrainingData, Sequence[RankingTask]], keys: Sequence[type[Baseline] | Baseline], chosen: Chosen
) -> list[tuple[str, "_Ranked"] | Failure]:
    """Return the result for each key, in order; each of several processes takes the next key when it is free."""
    cores, numbered = os.cpu_count() or 1, iter(list(enumerate(keys, start=1)))
    side = min(len(keys), cores, int(memory_available() * GIB / _bytes(given[0])), MOST)
    threads = max(1, cores // side) if side > 1 else None
    results: dict[int, tuple[str, _Ranked] | Failure] = {}

    def work() -> None:
        mine = _Announced(keys, chosen, numbered)
        for result in call_each(_tune_and_rank, given, mine, heard=mine.heard, threads=threads):
            results[mine.at] = result

    run_beside(work, side)
    return [results[number] for number in sorted(results)]


def _bytes(data: TrainingData) -> float:
    """Return about how much memory a process takes at most: tables of pairs of items, and the events."""
    return 40.0 * min(data.n_items, LARGEST) ** 2 + 200.0 * len(data.sequences.items) + 2.0**28


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


def fit_all(data: TrainingData, chosen: Chosen | None = None) -> FittedBaselines:
    """Return every baseline that can be fitted, in this process; a baseline that raises is named in `left_out`.

    Args:
        data: what to fit to.
        chosen: which baselines; its file is neither read nor written.

    Cost: `tuned` for each.

    Example:
        >>> import numpy as np, polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 3]), np.array([1, 2, 1], np.int32))
        >>> fit_all(TrainingData(log, 3)).left_out[-2]
        'Left out: content-kNN: expected features of the items, came none. Give a catalogue with attributes.'
    """
    chosen = chosen or Chosen()
    able, obstacles = _able(data, chosen)
    results = (attempt(_tune, data, kind) for kind in _Announced(able, chosen, enumerate(able, start=1)))
    return FittedBaselines(*_collected(able, results, obstacles))


def _able(data: TrainingData, chosen: Chosen) -> tuple[list[type[Baseline]], dict[type[Baseline], str]]:
    """Return the baselines that can be fitted, and for the others why not."""
    useless = {kind for kind in chosen.kinds if kind.repeats and data.exclude_seen}
    reasons = {kind: kind.obstacle(data.n_items, data.features) for kind in chosen.kinds if kind not in useless}
    obstacles = {kind: why for kind, why in reasons.items() if why is not None}
    if chosen.words is not None:
        obstacles |= {kind: f"{kind.title}: it ranks seen items, and lists exclude these here." for kind in useless}
    return [kind for kind in reasons if kind not in obstacles], obstacles


def _with_settings(kind: type[Baseline], settings: Mapping[str, Any] | None) -> type[Baseline] | Baseline:
    """Return a baseline with kept settings; its class, to be tuned, where there are none that fit."""
    try:
        return kind if settings is None else kind(**settings)
    except (TypeError, ValueError):  # an ArgumentError is a ValueError: the file was edited
        return kind


class _Announced:
    """Gives the baselines that are left, one after the other; says which is next, and how far its tuning is.

    Args:
        baselines: all of them.
        chosen: what is called.
        numbered: those that are left, with their numbers from 1; several may take from it.
    """

    def __init__(
        self,
        baselines: Sequence[type[Baseline] | Baseline],
        chosen: Chosen,
        numbered: Iterator[tuple[int, type[Baseline] | Baseline]],
    ) -> None:
        self.baselines, self.chosen, self.numbered, self.at = baselines, chosen, numbered, 0

    def __iter__(self) -> Iterator[type[Baseline] | Baseline]:
        for number, each in self.numbered:
            self.at = number
            if self.chosen.say:
                what = "Tuning" if isinstance(each, type) else "Fitting, with kept settings,"
                self.chosen.say(f"{what} baseline {self.at} of {len(self.baselines)}: {each.title}.")
            self.heard((0, 1))
            yield each
            self.heard((1, 1))

    def heard(self, trials: tuple[int, int]) -> None:
        """Pass on how many trials are done, of how many at most."""
        if self.chosen.progress:
            step = TuningStep(self.baselines[self.at - 1].title, self.at, len(self.baselines), *trials)
            self.chosen.progress(step)


def _tune(
    data: TrainingData, one: type[Baseline] | Baseline, tell: Callable[[tuple[int, int]], None] | None = None
) -> tuple[str, Fitted]:
    if isinstance(one, Baseline):
        fitted = one.fit(data.sequences, data.n_items, data.features)
    else:
        sequences, n_items, features, exclude_seen = data
        fitted = tuned(one, sequences, n_items, features=features, exclude_seen=exclude_seen, tell=tell)
    return fitted.name, fitted


def _tune_and_rank(
    given: tuple[TrainingData, Sequence[RankingTask]],
    one: type[Baseline] | Baseline,
    tell: Callable[[tuple[int, int]], None],
) -> tuple[str, _Ranked]:
    name, fitted = _tune(given[0], one, tell)
    rankings = _rank(fitted, given[1])
    return name, _Ranked(fitted.settings, rankings)


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
