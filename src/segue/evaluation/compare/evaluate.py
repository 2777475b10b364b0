"""`evaluate` and `evaluate_ratings`, for one model and for several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

from segue.data.log.events import Events
from segue.errors import ArgumentError
from segue.evaluation.compare.given_lists import Lists, read_lists
from segue.evaluation.compare.lists import ListsJob, RequestTime
from segue.evaluation.compare.ratings import RatingsJob
from segue.evaluation.comparison_report.report import ComparisonReport
from segue.evaluation.protocols import Targets, measure, report_of
from segue.evaluation.ratings import RatingReport, measure_ratings, rating_report_of
from segue.evaluation.registry import Baselines
from segue.evaluation.report import Report
from segue.recommend.arguments import check_count
from segue.recommend.recommender import Recommender

#: Users with history and lists in a report, unless another number is given.
CASES = 40

Say = Callable[[str], None]


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
    targets: Targets = "all",
    notes: Sequence[str] = (),
    say: Say | None = None,
    log: Events | None = None,
    cases: int = CASES,
    command: str | None = None,
) -> Report: ...


@overload
def evaluate(
    models: Sequence[Recommender | Lists] | Mapping[str, Recommender | Lists],
    test: Events,
    *,
    train: Events | None = None,
    ks: Sequence[int] = (5, 10, 20),
    baselines: Baselines = None,
    keep: str | Path | None = None,
    users: object = None,
    request_time: RequestTime = "unknown",
    targets: Targets = "all",
    notes: Sequence[str] = (),
    say: Say | None = None,
    log: Events | None = None,
    cases: int = CASES,
    command: str | None = None,
) -> ComparisonReport: ...


def evaluate(
    models: Recommender | Sequence[Recommender | Lists] | Mapping[str, Recommender | Lists],
    test: Events,
    *,
    train: Events | None = None,
    ks: Sequence[int] = (5, 10, 20),
    baselines: Baselines = None,
    keep: str | Path | None = None,
    users: object = None,
    request_time: RequestTime = "unknown",
    targets: Targets = "all",
    notes: Sequence[str] = (),
    say: Say | None = None,
    log: Events | None = None,
    cases: int = CASES,
    command: str | None = None,
) -> Report | ComparisonReport:
    """Measure one recommender, or several side by side, on held-out events.

    Each event is predicted from the state just before it.

    Args:
        models: what to measure: one, a list, or several by name. Beside recommenders of Segue, a path or a table of
            Polars, pandas or Arrow stands for the lists of another library: a row for each place of a list, with the
            user, the item, and the rank from 1 or a score. Where a user has several held-out events, the column
            `event` has their number from 1.
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
        targets: which held-out events are predicted: all, one after the other; the "first" or the "last" of each user;
            "prefixes" for all with an event of the user before them. Held-out events before a target are read, not
            learnt.
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
        ArgumentError: no model is given, a name is none of a baseline, names are given without training events, or
            `targets` is none of the four.
        EvaluationError: there is no held-out event, or all of these events were learnt by a model.

    Cost: O(events x network + queries x items) for each model.
    """
    for k in ks:
        check_count(k, "evaluate: expected each of ks")
    one = isinstance(models, Recommender)
    everything = {"segue": models} if isinstance(models, Recommender) else _by_name(models)
    recs = _named({name: each for name, each in everything.items() if not _is_table(each)} or everything)
    given = {name: read_lists(name, each) for name, each in everything.items() if _is_table(each)}
    if not one:
        _check_lists(recs)
    first, *others = recs
    how: Any = {"users": users, "request_time": request_time, "targets": targets, "say": say}
    measurements = {first: measure(recs[first], test, train=train, baselines=baselines, keep=keep, notes=notes, **how)}
    measurements |= {name: measure(recs[name], test, **how) for name in others}
    job = ListsJob(recs, test, train, log, users, command, measurements, request_time, tuple(ks), cases, given)
    if one:
        return replace(report_of(measurements[first], ks, recs[first].vocabulary.size), details=job.report)
    return job.report()


@overload
def evaluate_ratings(
    models: Recommender,
    test: Events,
    *,
    train: Events | None = None,
    users: object = None,
    reads: Literal["all", "history"] | None = None,
    notes: Sequence[str] = (),
    log: Events | None = None,
    command: str | None = None,
) -> RatingReport: ...


@overload
def evaluate_ratings(
    models: Sequence[Recommender] | Mapping[str, Recommender],
    test: Events,
    *,
    train: Events | None = None,
    users: object = None,
    reads: Literal["all", "history"] | None = None,
    notes: Sequence[str] = (),
    log: Events | None = None,
    command: str | None = None,
) -> ComparisonReport: ...


def evaluate_ratings(
    models: Recommender | Sequence[Recommender] | Mapping[str, Recommender],
    test: Events,
    *,
    train: Events | None = None,
    users: object = None,
    reads: Literal["all", "history"] | None = None,
    notes: Sequence[str] = (),
    log: Events | None = None,
    command: str | None = None,
) -> RatingReport | ComparisonReport:
    """Measure predicted ratings, of one recommender or of several side by side.

    Each rating is predicted from earlier ratings only.

    Args:
        models: what to measure: one, a list, or several by name.
        test: the held-out events; `test.history` holds the earlier events of their users.
        train: the training events, to fit the usual baselines beside the models, in a separate process.
        users: a path or table with the profiles of the users, where a recommender reads them.
        reads: "all" updates states and the shared value with held-out ratings once they are past, as a server does;
            "history" reads none of them, for comparison with models that are not updated; None takes "history" where
            the first model held rows out at random, and "all" elsewhere.
        notes: sentences for the report.
        log: the whole log before it was split, for the data card of the page.
        command: what makes the report again, for the page.

    Returns:
        Of one model a `RatingReport`, of several a `ComparisonReport` by RMSE.

    Raises:
        ArgumentError: no model is given, or a model was trained without ratings.
        DataError: a held-out rating lies outside the scale.
        EvaluationError: there is no held-out rating, or all of these were learnt by a model.

    Cost: O(events x network) for each model, and the baselines.
    """
    recs = _named(models)
    first, *others = recs
    measurements = {first: measure_ratings(recs[first], test, train=train, users=users, reads=reads, notes=notes)}
    alike: Any = measurements[first].reads
    measurements |= {name: measure_ratings(recs[name], test, users=users, reads=alike) for name in others}
    if isinstance(models, Recommender):
        return rating_report_of(measurements[first])
    return RatingsJob(recs, test, train, log, users, command, measurements).report()


def _by_name(models: Sequence[Any] | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the models by name."""
    if isinstance(models, Mapping):
        return models
    return {f"model {number}": each for number, each in enumerate(models, start=1)}


def _is_table(model: object) -> bool:
    """Return whether a model is a path or a table with its lists."""
    return not isinstance(model, Recommender) and (isinstance(model, str | Path) or hasattr(model, "columns"))


def _named(models: Recommender | Sequence[Recommender] | Mapping[str, Recommender]) -> dict[str, Recommender]:
    """Return the recommenders by name."""
    recs = {"segue": models} if isinstance(models, Recommender) else _by_name(models)
    wrong = next((rec for rec in recs.values() if not isinstance(rec, Recommender)), None)
    if not recs or wrong is not None:
        came = "none" if not recs else type(wrong).__name__
        raise ArgumentError(
            f'evaluate: expected recommenders, came {came}. Give rec, [rec_a, rec_b] or {{"name": rec_a}}, with tables '
            "of other libraries' lists beside."
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
