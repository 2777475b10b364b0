"""The search for settings: trials on validation, kept in a file, and what the best gained over the defaults.

    log ──► train | validation          the last tenth in time, or the last event of each user
    validation ──► users who choose     the trial with the highest NDCG@10 of these users wins
               └─► users who check      half of the users, never read by the search: the gain is measured on them

Knows: settings, `segue.train`, how validation is ranked. Does not know: the test part, which is held out before.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.api import train
from segue.config import Config, asked_of, configure
from segue.data.log.events import Events, as_events
from segue.data.log.split import digest, split_by_time, split_last
from segue.errors import ArgumentError, ConfigError, TrainingError
from segue.evaluation.protocols import queries_of, rank_targets
from segue.evaluation.queries import Queries
from segue.metrics.bootstrap import Interval, paired_bootstrap
from segue.metrics.metrics import ndcg
from segue.recommend.arguments import profiles_of
from segue.recommend.recommender import Recommender

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from segue.training.trainer import Progress

#: Validation events that are ranked in a trial at most.
QUERIES = 10_000

Values = NDArray[np.float64]
Watch = Callable[["Progress"], None]
Say = Callable[[str], None]


class OnValidation(NamedTuple):
    """One model on validation.

    Args:
        config: its settings, derived.
        values: float64[query], NDCG@10.
        users: int64[query], whose the queries are.
    """

    config: Config
    values: Values
    users: NDArray[np.int64]


#: Trains with settings by path and measures; calls what watches after each epoch.
Measure = Callable[[Mapping[str, Any], Watch | None], OnValidation]


class Tuned(NamedTuple):
    """The result of a search.

    Args:
        settings: by path, those of the best trial and the fixed ones, as far as they are not the defaults.
        found: whether a trial is better than the defaults.
        gain: NDCG@10 of the best trial minus that of the defaults, on the users who check, with a 95 % interval.
        best: NDCG@10 of the best trial on the users who chose it; too high, for it is the best of many.
        trials: how many trained to the end, of all runs, the defaults among them.
        stopped: how many were stopped early.
    """

    settings: dict[str, Any]
    found: bool
    gain: Interval
    best: float
    trials: int
    stopped: int

    @property
    def noise(self) -> bool:
        """Whether the interval of the gain holds 0, so that the gain may be noise."""
        return self.gain.low <= 0

    def __str__(self) -> str:
        said = f"{self.trials} trials and {self.stopped} stopped early. "
        if not self.found:
            return said + "No trial is better than the defaults."
        said += f"Gain over the defaults in NDCG@10, on users who did not choose: {self.gain}, 95 % interval."
        return said + (" The gain may be noise: the defaults are the safer choice." if self.noise else "")

    def to_toml(self, title: str) -> str:
        """Return a file for `segue train --config`, with how it came about as comments."""
        lines = [f"# {title}", *(f"# {line}." for line in str(self).rstrip(".").split(". "))]
        parts: dict[str, list[str]] = {}
        for path, value in sorted(self.settings.items()):
            part, name = path.split(".")
            written = (
                str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else value
            )
            parts.setdefault(part, []).append(f"{name} = {written}")
        return "\n".join([*lines, *(line for part in parts for line in ("", f"[{part}]", *parts[part]))]) + "\n"


def tune(
    events: Events,
    *,
    minutes: float,
    kept: Path,
    settings: Mapping[str, Any] | None = None,
    catalogue: object = None,
    users: object = None,
    kinds: Mapping[str, str] | None = None,
    say: Say | None = None,
    note: Callable[[Mapping[str, Any]], None] | None = None,
) -> Tuned:
    """Search settings that rank validation better than the defaults.

    The first trial has the defaults. Each other is stopped early where it falls behind (median pruning), or when the
    time is over. All trials are kept in a file: a second call with the same log goes on.

    Args:
        events: the log without its test part, which no search may read.
        minutes: when no trial is begun any more, and the one at work is stopped; the first trial always ends.
        kept: the file of the trials.
        settings: by path, fixed; not searched.
        catalogue, users, kinds: as for `segue.train`.
        say: called with a line for each trial.
        note: called with plain values for each trial, for a log of machines.

    Raises:
        ArgumentError: the package `optuna` is not installed, or nothing is left to search.
        ConfigError: a setting does not exist or does not fit, or `train.task` is rating.
        DataError: the log is too short to hold out validation.

    Cost: a training for each trial, and the ranking of 10,000 validation events.

    Source: tree-structured Parzen estimators (Bergstra et al. 2011) and median pruning, both of optuna.
    """
    if find_spec("optuna") is None:
        raise ArgumentError('tune: expected the package optuna, it is not installed. pip install "segue[optuna]"')
    fixed = dict(settings or {})
    if configure(fixed).train.task == "rating":
        raise ConfigError("tune: expected a task with lists, came train.task rating. Ratings are not searched yet.")
    as_events(events, "tune")
    learnt, validation = split_by_time(events, test=0.1) if events.has_times else split_last(events)
    tables = {"catalogue": catalogue, "users": users, "kinds": kinds}
    measure = partial(_measure, learnt, validation, tables)
    named = [str(each) if isinstance(each, str | Path) else each is not None for each in (catalogue, users)]
    asked = f"{digest(events)} {sorted(fixed.items())} {named} {sorted((kinds or {}).items())}"
    name = hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()
    study = study_in(kept, name, seed=configure(fixed).train.seed)
    return search(lambda asked, watch: measure({**fixed, **asked}, watch), study, fixed, 60 * minutes, say, note=note)


def _measure(
    learnt: Events, validation: Events, tables: dict[str, Any], settings: Mapping[str, Any], watch: Watch | None
) -> OnValidation:
    rec: Recommender = train(learnt, config=settings, report=watch, **tables)
    queries = queries_of(rec, validation, profiles_of(rec.facts, tables["users"], validation))
    some = np.linspace(0, len(queries.events) - 1, min(len(queries.events), QUERIES)).astype(np.int64)
    queries = Queries(queries.sequences, queries.events[some], queries.users[some])
    ranks = np.concatenate(rank_targets(rec, queries)["segue"].ranks)
    return OnValidation(rec.config, ndcg(ranks, k=10), queries.users)


def study_in(kept: Path, name: str, seed: int = 0) -> "Study":
    """Return the study of that name in a file, made where it is not there."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = JournalStorage(JournalFileBackend(str(kept)))
        study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, direction="maximize")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"{kept}: expected the trials of an earlier search or no file, it cannot be read: {error}. Remove the "
            "file, or give another name."
        ) from None
    # A search that goes on draws anew, not what it drew before.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
    return study


def space(default: Config, fixed: Mapping[str, Any]) -> "dict[str, BaseDistribution]":
    """Return what is searched, by path: ranges around what was derived, without what is fixed."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    model, how = default.model, default.train
    every: dict[str, BaseDistribution] = {
        "model.width": CategoricalDistribution(sorted({64, 128, 256, model.width or 64})),
        "model.depth": IntDistribution(1, max(3, model.depth)),
        "model.dropout": FloatDistribution(0.0, 0.7),
        "train.learning_rate": FloatDistribution(5e-4, 3e-2, log=True),
        "train.batch_size": CategoricalDistribution(sorted({8, 16, 32, 64, how.batch_size or 8})),
        "train.bptt_steps": CategoricalDistribution(sorted({4, 8, 16, 32, how.bptt_steps})),
        "train.weight_decay": FloatDistribution(1e-4, 0.3, log=True),
    }
    return {path: each for path, each in every.items() if path not in fixed}


def search(
    measure: Measure,
    study: "Study",
    fixed: Mapping[str, Any],
    seconds: float,
    say: Say | None = None,
    *,
    note: Callable[[Mapping[str, Any]], None] | None = None,
    trials: int | None = None,
) -> Tuned:
    """Measure trial after trial until the time is over, and return the best.

    Args:
        measure: trains and measures.
        study: with the trials of earlier runs, or none.
        fixed: settings that are not searched.
        seconds: from now.
        say: called with a line for each trial.
        note: called with plain values for each trial.
        trials: how many there are at most, those of earlier runs among them; None for no limit.

    Raises:
        ArgumentError: nothing is left to search.
    """
    from optuna.trial import TrialState

    end, say, note = time.monotonic() + seconds, say or (lambda line: None), note or (lambda values: None)
    if "default" not in study.user_attrs:
        say("Training with the defaults first.")
        _first(measure, study, fixed)
        say(f"Trial {len(study.trials)}: NDCG@10 {study.trials[-1].value:.4f}; the defaults.")
        note(_noted(study.trials[-1]))
    default = study.trials[study.user_attrs["default"]]
    spaces = default.distributions
    while time.monotonic() < end and (trials is None or len(study.trials) < trials):
        trial = study.ask(spaces)
        words = ", ".join(f"{path}={value}" for path, value in _asked(trial.params).items())
        said = _one(measure, study, trial, end)
        say(f"Trial {trial.number + 1}: {said}; {words}.")
        note(_noted(study.trials[trial.number]))
    done = [each for each in study.trials if each.state is TrialState.COMPLETE]
    best = study.best_trial
    users = np.array(study.user_attrs["users"])
    gain = paired_bootstrap(best.user_attrs["check"], default.user_attrs["check"], groups=users)
    found = best.number != default.number
    settings = asked_of(configure(dict(fixed) | (_asked(best.params) if found else {})))
    return Tuned(settings, found, gain, float(best.value or 0.0), len(done), len(study.trials) - len(done))


def _first(measure: Measure, study: "Study", fixed: Mapping[str, Any]) -> None:
    """Measure the defaults, and keep them with what is searched as the first trial."""
    import optuna

    measured = measure({}, None)
    spaces = space(measured.config, fixed)
    if not spaces:
        raise ArgumentError("tune: expected settings left to search, all of them are fixed. Leave some out.")
    own = {path: getattr(getattr(measured.config, path.split(".")[0]), path.split(".")[1]) for path in spaces}
    checks = _who_checks(measured.users)
    attributes = {"check": _rounded(measured.values[checks])}
    value = float(measured.values[~checks].mean())
    study.add_trial(optuna.trial.create_trial(params=own, distributions=spaces, value=value, user_attrs=attributes))
    study.set_user_attr("users", measured.users[checks].tolist())
    study.set_user_attr("default", len(study.trials) - 1)


def _one(measure: Measure, study: "Study", trial: "Trial", end: float) -> str:
    """Train and measure one trial, and return in words how it went."""
    import optuna
    from optuna.trial import TrialState

    def watch(progress: "Progress") -> None:
        if time.monotonic() > end:
            raise optuna.TrialPruned
        if progress.epoch_ended and "ndcg@10" in progress.validation:
            trial.report(progress.validation["ndcg@10"], progress.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

    try:
        measured = measure(_asked(trial.params), watch)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        return "stopped early" if time.monotonic() < end else "stopped, the time is over"
    except (TrainingError, ConfigError) as error:
        study.tell(trial, state=TrialState.FAIL)
        return f"failed: {error}"
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    checks = _who_checks(measured.users)
    trial.set_user_attr("check", _rounded(measured.values[checks]))
    value = float(measured.values[~checks].mean())
    study.tell(trial, value)
    return f"NDCG@10 {value:.4f}"


def _noted(trial: "FrozenTrial") -> dict[str, Any]:
    """Return a trial as plain values."""
    state, value = trial.state.name.lower(), trial.value
    return {"trial": trial.number + 1, "state": state, "ndcg@10": value, "settings": _asked(trial.params)}


def _who_checks(users: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return bool[query]: whether the query's user checks and does not choose; every second user, at random."""
    distinct, place = np.unique(users, return_inverse=True)
    half = np.random.default_rng(0).permutation(len(distinct)) % 2 == 1
    checks: NDArray[np.bool_] = half[place]
    return checks


def _rounded(values: Values) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def _asked(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that were drawn, to three digits: what is trained is what the file says."""
    return {path: float(f"{value:.3g}") if isinstance(value, float) else value for path, value in params.items()}


def titled(source: str, minutes: float) -> str:
    """Return the first line of a file of settings.

    Example:
        >>> titled("events.tsv", 60).partition(", ")[0]
        'segue tune on events.tsv'
    """
    return f"segue tune on {source}, {datetime.now(UTC):%Y-%m-%d}, --minutes {minutes:g}"
