"""The measurement of one model or several on the same held-out events, and the numbers of its report."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.features.feature_encoders import attributes_of as features_of
from segue.data.log.events import Events
from segue.data.log.rating_columns import ratings_of
from segue.data.log.split import digest
from segue.data.sequences.sequences import sequence_order
from segue.data.values.times import iso
from segue.errors import ArgumentError
from segue.evaluation.comparison_report.attributes import attributes_of
from segue.evaluation.comparison_report.lists import calibration_of
from segue.evaluation.comparison_report.measured import Measured, Ranked, rows_of
from segue.evaluation.comparison_report.numbers import numbers_of
from segue.evaluation.comparison_report.report import ComparisonReport
from segue.evaluation.protocols import Measurement, measure, report_of, scorer_of, task_of
from segue.evaluation.queries import BLOCK, Queries
from segue.evaluation.ratings import evaluate_ratings
from segue.evaluation.registry import Baselines
from segue.evaluation.report import Report
from segue.kernels.serving_loops import leave_out, log_sums, top_k
from segue.recommend.arguments import check_count, profiles_of
from segue.recommend.recommender import Recommender
from segue.shapes import Floats

#: Queries on which the calibration is measured, evenly spread.
CALIBRATED = 2000
#: Facts of a training that a report shows.
_FACTS = (
    "asked",
    "kinds",
    "source",
    "events",
    "users",
    "range",
    "digest",
    "hold_out",
    "best_epoch",
    "blend",
    "training",
)
#: Users with history and lists in a report, unless another number is given.
CASES = 40

Say = Callable[[str], None]
RequestTime = Literal["unknown", "event"]


@overload
def evaluate(
    models: Recommender,
    test: Events,
    *,
    train: Events | None = None,
    ks: Sequence[int] = (5, 10, 20),
    baselines: Baselines = None,
    keep: str | Path | None = None,
    users: object = None,
    request_time: RequestTime = "unknown",
    notes: Sequence[str] = (),
    say: Say | None = None,
    log: Events | None = None,
    cases: int = CASES,
    command: str | None = None,
) -> Report: ...


@overload
def evaluate(
    models: Sequence[Recommender] | Mapping[str, Recommender],
    test: Events,
    *,
    train: Events | None = None,
    ks: Sequence[int] = (5, 10, 20),
    baselines: Baselines = None,
    keep: str | Path | None = None,
    users: object = None,
    request_time: RequestTime = "unknown",
    notes: Sequence[str] = (),
    say: Say | None = None,
    log: Events | None = None,
    cases: int = CASES,
    command: str | None = None,
) -> ComparisonReport: ...


def evaluate(
    models: Recommender | Sequence[Recommender] | Mapping[str, Recommender],
    test: Events,
    *,
    train: Events | None = None,
    ks: Sequence[int] = (5, 10, 20),
    baselines: Baselines = None,
    keep: str | Path | None = None,
    users: object = None,
    request_time: RequestTime = "unknown",
    notes: Sequence[str] = (),
    say: Say | None = None,
    log: Events | None = None,
    cases: int = CASES,
    command: str | None = None,
) -> Report | ComparisonReport:
    """Measure one recommender, or several side by side, on held-out events.

    Each event is predicted from the state just before it.

    Args:
        models: what to measure: one, a list, or several by name.
        test: the held-out events; `test.history` holds the earlier events of their users.
        train: the training events, to tune and fit the usual baselines beside the models, in a separate process. The
            report names a baseline that crashes, raises or has not ended after an hour, and leaves it out.
        ks: lengths of lists.
        baselines: names of some of the usual, such as `["markov", "ease"]` or "markov,ease"; "none" for none; or fitted
            baselines by name in place of the usual, of which one that raises is left out. They rank the items of the
            first model.
        keep: a file that keeps the tuned settings of the baselines, such as "films.segue.baselines.json": a second
            evaluation with the same training events and code does not tune again.
        users: a path or table with the profiles of the users, where a recommender reads them.
        request_time: when each list is requested: at an unknown time, or at the time of the event, as from a server.
        notes: sentences for the report.
        say: called with lines on what is being done; it can take minutes. None shows a bar in a terminal or a notebook.
        log: the whole log before it was split, for the data card of the page.
        cases: how many users the page shows with their last events and lists; 0 for none.
        command: what makes the report again, for the page.

    Returns:
        Of one model a `Report`: hit rate, precision, recall, NDCG, MRR and MAP at each k, and coverage, a row per
        model; with baselines the improvement over the best of them, with its interval over users. Of several a
        `ComparisonReport`: the same with intervals, and whether the difference of any two is noise.

    Raises:
        ArgumentError: no model is given, a name is none of a baseline, or names are given without training events.
        EvaluationError: there is no held-out event, or all of these events were learnt by a model.

    Cost: O(events x network + queries x items) for each model.
    """
    for k in ks:
        check_count(k, "evaluate: expected each of ks")
    one = isinstance(models, Recommender)
    recs = _named(models)
    if not one:
        _check_lists(recs)
    first, *others = recs
    how: Any = {"users": users, "request_time": request_time, "say": say}
    measurements = {first: measure(recs[first], test, train=train, baselines=baselines, keep=keep, notes=notes, **how)}
    measurements |= {name: measure(recs[name], test, **how) for name in others}
    job = _Job(recs, measurements, test, train, log, users, request_time, tuple(ks), cases, command)
    if one:
        return replace(report_of(measurements[first], ks, recs[first].vocabulary.size), details=job.report)
    return job.report()


def _named(models: Recommender | Sequence[Recommender] | Mapping[str, Recommender]) -> dict[str, Recommender]:
    """Return the models by name."""
    if isinstance(models, Recommender):
        return {"segue": models}
    recs = models if isinstance(models, Mapping) else {f"model {n}": rec for n, rec in enumerate(models, start=1)}
    wrong = next((rec for rec in recs.values() if not isinstance(rec, Recommender)), None)
    if not recs or wrong is not None:
        came = "none" if not recs else type(wrong).__name__
        raise ArgumentError(
            f'evaluate: expected recommenders, came {came}. Give rec, [rec_a, rec_b] or {{"name": rec_a}}.'
        )
    return dict(recs)


def _check_lists(recs: Mapping[str, Recommender]) -> None:
    """Do nothing if every model makes lists."""
    rated = [name for name, rec in recs.items() if rec.config.train.task == "rating"]
    if rated:
        raise ArgumentError(
            f"evaluate: expected models that make lists, came {rated[0]}, which learnt ratings alone. Leave the model "
            "out, or measure its ratings with evaluate_ratings."
        )


@dataclass(frozen=True, eq=False)
class _Job:
    """What a report is made of: models by name with what each ranked, and the arguments of `evaluate`."""

    recs: Mapping[str, Recommender]
    measurements: Mapping[str, Measurement]
    test: Events
    train: Events | None
    log: Events | None
    users: object
    request_time: RequestTime
    ks: tuple[int, ...]
    cases: int
    command: str | None

    def report(self) -> ComparisonReport:
        """Return the report with all numbers."""
        first, ks = next(iter(self.recs)), sorted({*self.ks, 10})
        reports = {
            name: report_of(each, ks, self.recs[name].vocabulary.size) for name, each in self.measurements.items()
        }
        rows = {name: each.rows["segue"] for name, each in reports.items()}
        rows |= {name: row for name, row in reports[first].rows.items() if name != "segue"}
        measured = self.measured()
        about = {
            "protocol": self.measurements[first].protocol,
            "notes": [*reports[first].notes, *self.differences()],
            "data": self.data(measured),
            "settings": {name: settings_of(rec) for name, rec in self.recs.items()},
            "calibration": {name: self.calibration(name) for name in self.recs},
            "ratings": self.ratings(),
            "learning": {name: curve_of(rec) for name, rec in self.recs.items()},
            "made": self.made(),
        }
        return ComparisonReport(numbers_of(measured, rows, about, ks=ks, cases=self.cases))

    def measured(self) -> Measured:
        """Return ranks and lists of all models in the rows of one catalogue."""
        first = self.measurements[next(iter(self.recs))].queries
        whole = self.test.joined_with_history()
        table = whole.as_text()[sequence_order(whole)]
        ids = [pl.Series([""]), *(rec.vocabulary.ids for rec in self.recs.values()), table["item"]]
        items = pl.concat([each.cast(pl.String) for each in ids]).unique(maintain_order=True)
        models: dict[str, Ranked] = {}
        for name, measurement in self.measurements.items():
            known = measurement.queries.targets > 0
            own = rows_of(items, pl.concat([pl.Series([""]), self.recs[name].vocabulary.ids.cast(pl.String)]))
            for other, ranked in measurement.rankings.items():
                ranks, lists = np.concatenate(ranked.ranks), own[np.concatenate(ranked.lists)]
                models[name if other == "segue" else other] = Ranked(ranks, lists, known, other == "segue")
        ordered = sorted(models.items(), key=lambda pair: not pair[1].is_model)
        counts = new_users = None
        if self.train is not None:
            learnt = self.train.as_text()
            counts = np.bincount(rows_of(items, learnt["item"]), minlength=len(items))
            new_users = ~table["user"].gather(first.events).is_in(learnt["user"].unique().to_list()).to_numpy()
        begins = first.sequences.offsets[first.users]
        return Measured(
            dict(ordered),
            items,
            self.titles(),
            table.select("user", "item", *(["time"] if whole.has_times else [])),
            first.events,
            begins,
            first.users,
            counts,
            new_users,
            self.features(items),
            partial(self.attributes, table[first.events]),
        )

    def titles(self) -> dict[str, str]:
        """Return the titles of items by id; those of an earlier model stand before those of a later one."""
        titles: dict[str, str] = {}
        for rec in reversed(list(self.recs.values())):
            if rec.catalogue is not None:
                known = rec.catalogue.table.select("item", "title").drop_nulls()
                titles |= dict(zip(known["item"], known["title"].cast(pl.String), strict=True))
        return titles

    def features(self, items: pl.Series) -> Floats | None:
        """Return float32[row, m], attributes of all items as numbers, from the first model that reads attributes."""
        for rec in self.recs.values():
            known = features_of(rec.catalogue, rec.encoders)
            if known is not None:
                features = np.zeros((len(items), known.shape[1]), np.float32)
                features[rows_of(items, rec.vocabulary.ids)] = known[1:]
                return features
        return None

    def attributes(self, test: pl.DataFrame) -> pl.DataFrame:
        """Return what the model that reads most attributes knows of each held-out event."""
        name = max(self.recs, key=lambda each: sum(part is not None for part in self.recs[each].encoders[:2]))
        rec, targets = self.recs[name], self.measurements[name].queries.targets
        return attributes_of(rec.encoders, rec.catalogue, profiles_of(rec.facts, self.users), test, targets)

    def differences(self) -> list[str]:
        """Return a sentence for each way in which the models were not measured alike."""
        catalogues = {len(rec.vocabulary) for rec in self.recs.values()}
        notes = []
        if len(catalogues) > 1:
            sizes = ", ".join(f"{name} {len(rec.vocabulary):,}" for name, rec in self.recs.items())
            notes.append(f"The models rank catalogues of different sizes: {sizes}. A smaller one is easier.")
        if len({rec.repeats for rec in self.recs.values()}) > 1:
            policies = ", ".join(f"{name}: {rec.repeats}" for name, rec in self.recs.items())
            notes.append(f"The models differ in whether lists hold seen items ({policies}).")
        return notes

    def calibration(self, name: str) -> dict[str, Any] | None:
        """Return how often items came next that a model said would come with some chance; None for ratings alone."""
        rec, queries = self.recs[name], self.measurements[name].queries
        sample = np.unique(np.linspace(0, len(queries.events) - 1, CALIBRATED).astype(np.int64))
        queries = _some(queries, sample)
        task, score = task_of(rec, queries), scorer_of(rec, queries, at_event=self.request_time == "event")
        chances, hits, losses = [], [], []
        for begin in range(0, len(sample), BLOCK):
            block = range(begin, min(begin + BLOCK, len(sample)))
            targets = queries.targets[block.start : block.stop]
            scores = leave_out(score(block), task.excluded(block))
            best, sums = top_k(np.ascontiguousarray(scores), 10), log_sums(scores)
            chances.append(np.where(best.places > 0, np.exp(best.scores - sums[:, None]), 0.0))
            hits.append((best.places == targets[:, None]) & (best.places > 0))
            of_targets = scores[np.arange(len(targets)), targets]
            losses.append((sums - of_targets)[np.isfinite(of_targets)])
        return calibration_of(np.concatenate(chances), np.concatenate(hits), np.concatenate(losses))

    def ratings(self) -> dict[str, Any]:
        """Return the report of the predicted ratings of each model that learnt ratings."""
        rated = np.isfinite(ratings_of(self.test.table)).any()
        able = {name: rec for name, rec in self.recs.items() if rated and rec.network.rating is not None}
        return {name: evaluate_ratings(rec, self.test, users=self.users).to_dict() for name, rec in able.items()}

    def data(self, measured: Measured) -> dict[str, Any]:
        """Return the data card: what was read and dropped, the split, what of the test is after the cut."""
        test, train = self.test, self.train
        card: dict[str, Any] = {"source": test.source, "test": _part(test), "notes": list(test.intake.notes)}
        if self.log is not None:
            card["log"] = self.log.findings.to_dict()
        if train is not None:
            card["train"] = _part(train)
            if train.has_times and test.has_times:
                cut = int(train.table["time"][-1])
                after = int((test.table["time"] > cut).sum())
                card["cut"] = {"last_training_event": iso(cut), "after": after, "share": after / len(test)}
        new_items = None if measured.counts is None else int((measured.counts[measured.targets] == 0).sum())
        new_users = None if measured.new_users is None else int(measured.new_users.sum())
        card["queries"] = {"events": len(test), "new_items": new_items, "new_users": new_users, "digest": digest(test)}
        return card

    def made(self) -> dict[str, Any]:
        """Return when, with what, and how the report was made."""
        return {
            "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "segue": version("segue"),
            "python": platform.python_version(),
            "command": self.command,
            "bootstrap": {"draws": 2000, "seed": 0, "level": 0.95},
            "request_time": self.request_time,
        }


def _some(queries: Queries, wanted: NDArray[np.int64]) -> Queries:
    """Return some of the queries, with the sequences of their users alone."""
    users, new = np.unique(queries.users[wanted], return_inverse=True)
    sequences = queries.sequences.select(users)
    places = queries.events[wanted] - queries.sequences.offsets[queries.users[wanted]]
    return Queries(sequences, places + sequences.offsets[new], new)


def _part(events: Events) -> dict[str, Any]:
    """Return the size and the range of a part of a log."""
    part: dict[str, Any] = {"events": len(events), "users": events.table["user"].n_unique()}
    part["items"] = events.table["item"].n_unique()
    if events.has_times and len(events):
        part |= {"first": iso(events.table["time"][0]), "last": iso(events.table["time"][-1])}
    return part


def settings_of(rec: Recommender) -> dict[str, Any]:
    """Return the settings, the seed, the fingerprint and the facts of a model."""
    settings = {
        f"{part}.{name}": value for part, values in asdict(rec.config).items() for name, value in values.items()
    }
    facts = {name: rec.facts[name] for name in _FACTS if rec.facts.get(name) not in (None, {})}
    if "range" in facts:
        facts["range"] = " to ".join(iso(time) for time in facts["range"])
    return {"fingerprint": rec.fingerprint, "items": len(rec.vocabulary), "facts": facts, "settings": settings}


def curve_of(rec: Recommender) -> list[dict[str, Any]]:
    """Return the learning curve: epoch, loss, seconds and the validation metrics of each epoch."""
    return [
        {"epoch": row["epoch"] + 1, "loss": row["loss"], "seconds": row["seconds"], **row.get("validation", {})}
        for row in rec.facts.get("curve", [])
    ]
