"""Trains a model on the newest log, and publishes it if the events show that it is not worse.

A server takes the published model at its next start or roll-out.

A comparison needs events that neither model has learnt. So the log is cut where the newest 5 % of
its events begin (more of a small log, because few events decide nothing), or where the running
model stopped learning, if that is later. The candidate learns the events before the cut, and both
models are evaluated on the events after the cut. The candidate passes if the 95 % confidence
interval of the difference excludes a loss beyond the tolerance, which is a share of the running
model's metric.

The final model learns the whole log with the same settings, and this model is published. No events
are left to evaluate the final model, so its metric on its own validation (the last event of each
user, held out in training) must come near the candidate's.

Models are compared by NDCG@10, but by the squared error of the ratings of these events if either
learnt ratings alone, and so makes no useful lists. Each rating is predicted as a server does: from
earlier events, with the shared value.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from segue.api import train
from segue.config import Config, asked_of, configure
from segue.data.features.catalogue import Profiles, read_items, read_profiles
from segue.data.log.columns import plain_name
from segue.data.log.events import Events
from segue.data.log.split import split_after, split_by_time, split_last
from segue.data.sequences.type_weights import check_types, types_of
from segue.errors import ArgumentError, ColumnError, LockedError, ModelError
from segue.evaluation import ratings
from segue.evaluation.comparison_report.gate import Condition, condition_of, failures
from segue.evaluation.protocols import evaluate, queries_of, rank_targets
from segue.interop.keras_cell import KerasCell
from segue.metrics.bootstrap import Interval
from segue.metrics.comparison import Comparison, compare
from segue.metrics.metrics import ndcg
from segue.model_file import name_running, running_model
from segue.recommend.arguments import profiles_of
from segue.recommend.recommender import Recommender, load_model
from segue.training.budget import Budget

#: Share of the log that is held out, the largest share of a small log, and the events needed.
SLICE, LARGEST_SLICE, LEAST = 0.05, 0.2, 50
#: Up to so many events are held out where they are at most a tenth of the log.
WANTED = 2000
#: The tolerated loss, as a share of the running model's NDCG@10 or RMSE.
TOLERANCE = 0.05
#: The share of the candidate's validation metric that the final model must reach.
_NEAR = 0.8


@dataclass(frozen=True)
class RetrainReport:
    """What a retraining did.

    Args:
        published: whether a new model is in the folder and is named as the current one.
        why: in a sentence.
        model: the name of the new file; None without a new model.
        running: the name of the running model; None in a folder without models.
        events: of the log.
        questions: held-out events on which both models were evaluated.
        ndcg: NDCG@10 of candidate and running model; None where ratings were compared.
        rmse: root mean squared error of candidate and running model; None where lists were
            compared.
        improvement: the candidate's NDCG@10 minus the running model's, or the running model's
            squared error minus the candidate's, with its confidence interval over users. Above 0
            the candidate is better.
        tolerance: the tolerated loss, as a share of the running model's NDCG@10 or RMSE.
        needed: about how many events would decide; None where these decide or no number can.
        notes: what a reader must know.
    """

    published: bool
    why: str
    model: str | None = None
    running: str | None = None
    events: int = 0
    questions: int = 0
    ndcg: tuple[float, float] | None = None
    rmse: tuple[float, float] | None = None
    improvement: Interval | None = None
    tolerance: float = TOLERANCE
    needed: int | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{'Published' if self.published else 'Not published'}: {self.why}"]
        means = self.rmse or self.ndcg
        if means and self.improvement:
            name, difference = ("RMSE", "squared error less by") if self.rmse else ("NDCG@10", "improvement")
            lines.append(
                f"{name} of the candidate {means[0]:.4f}, of {self.running} {means[1]:.4f}: {difference} "
                f"{self.improvement} (95 % confidence interval), on {self.questions:,} events that neither had learnt."
            )
        return "\n".join([*lines, *self.notes])


def retrain(
    log: Events,
    folder: str | Path,
    *,
    catalogue: object = None,
    users: object = None,
    kinds: Mapping[str, str] | None = None,
    config: Config | Mapping[str, Any] | None = None,
    minutes: float | None = None,
    tolerance: float = TOLERANCE,
    fail_if: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
    now: datetime | None = None,
) -> RetrainReport:
    """Train a candidate, compare it with the running model on new events, and publish if not worse.

    Where the events cannot decide, nothing is published, and the report says about how many events
    would decide. Fewer than `LEAST` new events are not compared. The first model of a folder is
    published without comparison.

    Args:
        log: what to learn; see `segue.jobs.import_export.read_log`.
        folder: of the models. The file `current` names the running model; else the newest runs.
        catalogue: as for `train`. Items without a line keep the running model's; None keeps all.
        users: as for `train`; needed if the running model reads profiles, which no model holds.
        kinds: as for `train`; None takes those of the running model.
        config: as for `train`; settings that a mapping leaves out are as in the running model.
        minutes: for everything. Half trains the candidate; the final model gets what the comparison
            leaves of the other half. The first model of a folder gets all.
        tolerance: the tolerated loss, as a share of the running model's metric, from 0 to 1. With 0
            the events must show that the candidate is no worse at all.
        fail_if: conditions such as "ndcg@10 < baseline"; where one holds for the candidate on the held-out events,
            nothing is published. They hold back the first model of a folder, too.
        say: called with lines to show.
        now: for the name of the model; None takes the clock.

    Raises:
        LockedError: another run is at work in this folder.
        ModelError: there is no such folder, or the running model cannot be read.
        DataError: there is too little to learn.
        ArgumentError: `users` is missing for a model that reads profiles; a wrong tolerance or condition.
        ConfigError: `train.type_weights` is given and names a type that the log does not have.

    Cost: two trainings and the evaluation of two models.
    """
    folder, say = Path(folder), say or (lambda text: None)
    if not 0 <= tolerance <= 1:
        raise ArgumentError(f"--tolerance: expected a share from 0 to 1, came {tolerance:g}. Give 0.05 for 5 %.")
    conditions = tuple(condition_of(text) for text in fail_if)
    with _alone(folder):
        path = running_model(folder)
        running = load_model(path) if path else None
        settings, cell = _settings(config, running)
        if running and path:
            catalogue, kinds = _as_before(running, path.name, catalogue, users, kinds, say)
        _check_types(log, settings, config, running, say)
        profiles = profiles_of(running.facts, users) if running else None if users is None else read_profiles(users)
        if running and "columns" not in log.intake.reading:  # a store has columns of its own
            reading = running.facts.get("reading", {})
            log = replace(log, intake=replace(log.intake, reading=reading))
        given = {"catalogue": catalogue, "users": users, "kinds": kinds, "config": settings, "cell": cell}
        budget = Budget(minutes and 60 * minutes)
        now = now or datetime.now(UTC)
        trainings = 2 if running or conditions else 1
        job = _Retraining(log, folder, given, profiles, say, now, tolerance, conditions, budget, trainings)
        return job.compared(running, path.name) if running and path else job.first()


def _settings(
    config: Config | Mapping[str, Any] | None, running: Recommender | None
) -> tuple[Config, KerasCell | None]:
    """Return the given settings over those of the running model, and its cell if of Keras."""
    if isinstance(config, Config):
        return config, None
    before = configure(running.facts.get("asked", {}) if running else {})
    cell = running.network.cell if running and "model.cell" not in (config or {}) else None
    return configure(config, base=before), cell if isinstance(cell, KerasCell) else None


def _check_types(
    log: Events,
    settings: Config,
    config: Config | Mapping[str, Any] | None,
    running: Recommender | None,
    say: Callable[[str], None],
) -> None:
    """Refuse weights given for types that the log lacks.

    A weight that the running model has for such a type is kept for later logs, which is reported.
    """
    weights, known = settings.train.weight_of_type(), types_of(log)
    absent = [name for name in weights if name not in known]
    before = running is not None and not isinstance(config, Config) and "train.type_weights" not in (config or {})
    if not before or (weights and not known):
        check_types(log, weights)
    elif absent:
        say(f"train.type_weights: {log.source} has no event of {', '.join(absent)}; the weight is kept for later logs.")


def _as_before(
    running: Recommender,
    name: str,
    catalogue: object,
    users: object,
    kinds: Mapping[str, str] | None,
    say: Callable[[str], None],
) -> tuple[object, Mapping[str, str]]:
    """Return table and kinds of the items: those given, or else those of the running model.

    An item without a line in the given table keeps the running model's line.
    """
    if users is None and running.encoders.users is not None:
        raise ArgumentError(
            f"--users: expected the table of profiles that {name} was trained with, came none, and a model holds "
            "none. Give --users FILE, or train without profiles: segue train STORE -o MODEL."
        )
    if running.catalogue is not None:
        table = running.catalogue.table
        kept = table.filter(pl.any_horizontal(pl.exclude("item").is_not_null()))
        if catalogue is None:
            say(f"No --items: items keep the {len(kept):,} lines that {name} holds; newer items are ids alone.")
            catalogue = kept
        else:
            like = running.facts.get("reading", {}).get("columns", {}).get("item")
            catalogue = _with_lines_of(kept, catalogue, name, say, like)
    return catalogue, running.facts.get("kinds", {}) if kinds is None else kinds


def _with_lines_of(
    kept: pl.DataFrame, catalogue: object, name: str, say: Callable[[str], None], like: str | None
) -> object:
    """Return a table of items, extended by the kept lines of items that it lacks."""
    given, source, _ = read_items(catalogue, like=like)
    names = {plain_name(column): column for column in given.columns}
    missing = kept.join(given, on="item", how="anti").rename(lambda column: names.get(plain_name(column), column))
    if missing.is_empty():
        return catalogue
    say(f"{source}: {len(missing):,} items that have no line there keep the line of {name}.")
    both = {column: kind for column, kind in given.schema.items() if column in missing.columns}
    for column, kind in both.items():
        if kind.is_nested() != missing.schema[column].is_nested():
            raise ColumnError(
                f"{source}: expected {column} as {missing.schema[column]}, as {name} has it, came {kind}. "
                "Write it so, or give a line for every item."
            )
    same = [pl.col(column).cast(kind, strict=False) for column, kind in both.items()]
    return pl.concat([given, missing.with_columns(same)], how="diagonal")


def newest_slice(log: Events, facts: Mapping[str, Any]) -> tuple[Events, Events, tuple[str, ...]]:
    """Return the events for the candidate, the held-out events, and notes; `facts` are those of the running model.

    Example:
        >>> log = Events(pl.DataFrame({"user": ["a", "b"] * 50, "item": ["x", "y"] * 50, "time": range(100)}))
        >>> [len(part) for part in newest_slice(log, {"range": [0, 50]})[:2]]  # the newest fifth of a small log
        [80, 20]
        >>> [len(part) for part in newest_slice(log, {"range": [0, 97]})[:2]]  # the events after the range
        [98, 2]
    """
    span = facts.get("range")
    if not log.has_times:
        note = "The log has no times: compared on the last event of each user, which the running model may have learnt."
        return *split_last(log), (note,)
    events = max(1, len(log))
    share = max(SLICE, 2 * LEAST / events, min(2 * SLICE, WANTED / events))
    learnt, test = split_by_time(log, test=min(LARGEST_SLICE, share))
    note = ""
    if span is None:
        note = "The running model does not say until when it learnt: it may have learnt these events."
    elif len(test) and span[1] >= test.table["time"][0]:
        learnt, test = split_after(log, span[1])
    elif len(learnt) and span[1] < learnt.table["time"][-1]:
        note = "The running model has learnt less than the candidate: it is older than the events compared on."
    return learnt, test, (note,) if note else ()


@dataclass(frozen=True)
class _Retraining:
    """A run in a locked folder; `given` are arguments of `train`, `trainings` its models."""

    log: Events
    folder: Path
    given: Mapping[str, Any]
    profiles: Profiles | None
    say: Callable[[str], None]
    now: datetime
    tolerance: float
    conditions: tuple[Condition, ...]
    budget: Budget
    trainings: int

    def first(self) -> RetrainReport:
        """Publish the first model without a comparison, unless a condition holds it back."""
        report = RetrainReport(
            False, "", events=len(self.log), notes=(f"{self.folder} held no model: nothing to compare with.",)
        )
        if self.conditions:
            learnt, test, _ = newest_slice(self.log, {})
            candidate = self._trained(learnt, {})
            report = replace(report, questions=len(test))
            if why := self._failed(candidate, learnt, test):
                return replace(report, why=why)
            return self._final(candidate, _by_ratings(candidate, candidate), report)
        return self._published(self._trained(self.log, {}), report)

    def compared(self, running: Recommender, name: str) -> RetrainReport:
        """Train a candidate, and go on to the final model if the candidate is not worse."""
        learnt, test, notes = newest_slice(self.log, running.facts)
        report = RetrainReport(False, "", None, name, len(self.log), len(test), tolerance=self.tolerance, notes=notes)
        if len(test) < LEAST:
            return replace(report, why=f"{len(test):,} events are new to {name}, a comparison needs {LEAST}.")
        self.say(f"{name} is the running model. A candidate learns {len(learnt):,} events.")
        self.say(f"{len(test):,} newer events are held out for the comparison.")
        candidate = self._trained(learnt, {})
        rated = _by_ratings(candidate, running)
        (new, users), (old, _) = (self._scored(rec, test, rated) for rec in (candidate, running))
        if len(new) < LEAST:
            return replace(report, why=f"{len(new):,} new events have ratings, a comparison needs {LEAST}.")
        means = float(new.mean()), float(old.mean())
        margin = -means[1] * ((1 + self.tolerance) ** 2 - 1) if rated else self.tolerance * means[1]
        compared = compare(new, old, users, margin)
        metric = {"rmse": tuple((-mean) ** 0.5 for mean in means)} if rated else {"ndcg": means}
        report = replace(report, questions=len(new), improvement=compared.difference, **metric)
        if not compared.excluded:
            needed = None if compared.worse else compared.needed
            return replace(report, why=_why(compared, name, self.tolerance, rated), needed=needed)
        if why := self._failed(candidate, learnt, test):
            return replace(report, why=why)
        difference = f"{'squared error less by' if rated else 'NDCG@10'} {compared.difference}"
        self.say(f"Not worse than {name}: {difference}. The final model learns all {len(self.log):,} events.")
        return self._final(candidate, rated, report)

    def _failed(self, candidate: Recommender, learnt: Events, test: Events) -> str:
        """Return why a condition holds the candidate back; nothing if none does."""
        if not self.conditions:
            return ""
        beside = learnt if any(condition.needs_baselines for condition in self.conditions) else None
        how: dict[str, Any] = {"train": beside, "users": self.given["users"]}
        if candidate.config.train.task == "rating":
            rows = ratings.evaluate_ratings(candidate, test, **how).rows
        else:
            rows = evaluate(candidate, test, say=self.say, **how).rows
        return " ".join(failures(self.conditions, rows))

    def _final(self, candidate: Recommender, rated: bool, report: RetrainReport) -> RetrainReport:
        """Train on the whole log, and publish if the validation comes near the candidate's."""
        final = self._trained(self.log, {"retrained": json.loads(json.dumps(report.to_dict()))})
        before, after = _validated(candidate, rated), _validated(final, rated)
        if before is not None:
            if after is None:
                return replace(report, why="no time was left to validate the final model: give --minutes more.")
            if after > before / _NEAR if rated else after < _NEAR * before:
                reached = f"the final model reaches {'RMSE' if rated else 'NDCG@10'} {after:.4f} on its validation"
                return replace(report, why=f"{reached}, the candidate had {before:.4f}.")
        return self._published(final, report)

    def _trained(self, log: Events, facts: Mapping[str, Any]) -> Recommender:
        settings = self.given["config"]
        known = types_of(log)
        weights = settings.train.weight_of_type()
        type_weights = ",".join(f"{name}:{weight!r}" for name, weight in weights.items() if name in known)
        minutes = settings.train.minutes
        if self.budget.seconds is not None:
            minutes = max(0.01, min(self.budget.seconds / self.trainings, self.budget.left()) / 60)
        section = replace(settings.train, type_weights=type_weights, minutes=minutes)
        given = {**self.given, "config": replace(settings, train=section)}
        return train(log, **given, say=self.say, facts={"asked": asked_of(settings), **facts})

    def _scored(self, rec: Recommender, test: Events, rated: bool) -> tuple[Any, Any]:
        """Return NDCG@10, or minus the squared error, of each held-out event, and its user."""
        if rated:
            rated_rows = ratings.rating_queries(rec, test, self.given["users"], "all")
            predicted = ratings.predict_ratings(rec, rated_rows)[0]
            return -((predicted - rated_rows.ratings).astype(np.float64) ** 2), rated_rows.users
        queries = queries_of(rec, test, self.profiles)
        ranks = np.concatenate(rank_targets(rec, queries)["segue"].ranks)
        return ndcg(ranks, k=10), queries.users

    def _published(self, rec: Recommender, report: RetrainReport) -> RetrainReport:
        name = f"{self.now:%Y-%m-%d}-{rec.fingerprint[:12]}.segue"
        rec.save(self.folder / name)
        name_running(self.folder / name)
        return replace(report, published=True, model=name, why=f"{self.folder / name} is the current model.")


def _why(compared: Comparison, name: str, tolerance: float, rated: bool) -> str:
    """Return why the comparison does not publish a candidate."""
    if compared.worse:
        return f"the candidate is worse than {name}, by more than noise."
    those = f"{compared.queries:,} events of {compared.users:,} user{'s' * (compared.users != 1)}"
    cannot = f"{those} cannot decide whether the candidate is worse than {name}"
    if not compared.known:
        why = "an interval needs two users" if compared.users < 2 else "neither lists any of them among its first 10"
        return f"{cannot}: {why}. Retrain when there are more new events."
    loss = f"a loss of {compared.margin:.4f} {'in squared error' if rated else 'NDCG@10'} (tolerance {tolerance:.2g})"
    needed = f"About {compared.needed:,} new events would decide: retrain" if compared.needed else "Retrain"
    return f"{cannot}: {loss} is not excluded. {needed} when there are more, or give a larger --tolerance."


def _by_ratings(candidate: Recommender, running: Recommender) -> bool:
    """Return whether ratings compare two models: one learnt ratings alone, both predict them."""
    alone = any(rec.config.train.task == "rating" for rec in (candidate, running))
    return alone and all(rec.network.rating is not None for rec in (candidate, running))


def _validated(rec: Recommender, rated: bool) -> float | None:
    """Return RMSE or NDCG@10 of the kept epoch on the model's own validation, if measured."""
    name = "rmse" if rated else "ndcg@10"
    known = [row["validation"][name] for row in rec.facts.get("curve", []) if name in row.get("validation", {})]
    return None if not known else known[-1] if rated else max(known)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock other runs out of a folder; a crash releases the lock."""
    if not folder.is_dir():
        raise ModelError(f"--models {folder}: expected an existing folder, found none. Make it first.")
    handle = os.open(folder / ".retrain.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LockedError(
            f"{folder}: expected no other run, but one is at work here. Wait for it, or give --minutes."
        ) from None
    finally:
        os.close(handle)
