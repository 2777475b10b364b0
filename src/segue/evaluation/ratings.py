"""The measurement of predicted ratings: of a recommender and of the baselines beside it.

Each held-out rating is predicted from earlier ratings only; ratings with the same timestamp do not influence each
other. What users share of an item moves with the held-out ratings in the order of time, over all users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.log.events import Events, as_events
from segue.data.log.rating_columns import ratings_of
from segue.data.log.rating_scale import Scale
from segue.data.sequences.sequences import Sequences, moment_begins, sequence_order
from segue.errors import EvaluationError
from segue.evaluation.baselines.rating_baselines import Numbers, Predictions, Ratings, Size, predict_all
from segue.evaluation.held_out import check_not_learnt
from segue.evaluation.report import improvement_line
from segue.metrics.bootstrap import Interval, paired_bootstrap
from segue.metrics.metrics import mae, rmse
from segue.metrics.probabilities import calibration
from segue.recommend.arguments import profiles_of
from segue.recommend.ratings import UNIT, head_of, moved_bias, outputs_at, rate, residuals_of
from segue.recommend.recommender import Recommender
from segue.shapes import Floats, Rows, Times

#: Shares of the ratings that an interval should hold, and its half-width in standard deviations.
COVERAGES = {"50 %": 0.674, "80 %": 1.282, "90 %": 1.645, "95 %": 1.960}


@dataclass(frozen=True)
class RatingReport:
    """A table of errors, a row per model, how well means and spreads are calibrated, and how it was measured.

    Args:
        rows: name of the model -> "rmse", "mae". The first row is the model that is measured.
        calibration: a row per tenth of the predictions: the mean predicted, the mean given, how many.
        coverage: share that the interval should hold -> share that it held.
        protocol: what was measured, in words.
        improvement: the squared error of the best baseline minus the model's, with its interval over users.
        best_baseline: its name.
        notes: anything that a reader must know before believing the numbers.
    """

    rows: dict[str, dict[str, float]]
    calibration: tuple[tuple[float, float, int], ...]
    coverage: dict[str, float]
    protocol: str
    improvement: Interval | None = None
    best_baseline: str | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        bins = [{"predicted": p, "given": g, "ratings": n} for p, g, n in self.calibration]
        return {
            "protocol": self.protocol,
            "models": self.rows,
            "calibration": bins,
            "coverage": self.coverage,
            "improvement": self.improvement and self.improvement.over(self.best_baseline),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        width = max(len(name) for name in self.rows)
        lines = [self.protocol, " " * width + "     RMSE      MAE"]
        lines += [f"{name:<{width}}{row['rmse']:9.4f}{row['mae']:9.4f}" for name, row in self.rows.items()]
        held = ", ".join(f"{share:.1%} at {name}" for name, share in self.coverage.items())
        lines += ["predicted   given   ratings"]
        lines += [f"{p:9.2f}{g:8.2f}{n:10,}" for p, g, n in self.calibration]
        lines += [f"Coverage of the prediction intervals: {held}."]
        if self.improvement:
            lines.append(improvement_line(self.improvement, self.best_baseline or "", "squared error"))
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True)
class RatingQueries:
    """Held-out ratings with the events before them.

    Args:
        sequences: the events that are read.
        users: int64[n], whose the ratings are.
        places: int64[n], the event of `sequences` before which each is predicted; one past the user's last for the end.
        rows: int32[n], the items; 0 for an unknown one.
        ratings: float32[n], held within the scale.
        times: int64[n], or None in a log without.
    """

    sequences: Sequences
    users: Times
    places: Times
    rows: Rows
    ratings: Floats
    times: Times | None


def rating_queries(rec: Recommender, test: Events, users: object, reads: Literal["all", "history"]) -> RatingQueries:
    """Return a query for each rating of `test`, after all strictly earlier events of its user.

    Args:
        rec: whose terms are used.
        test: the held-out events with their history.
        users: a path or table with profiles, or None.
        reads: "all" reads held-out events once they are past, as a server does; "history" never.
    """
    whole, held = test.joined_with_marks()
    sequences = rec.sequences(whole, profiles_of(rec.facts, users, whole))
    held_out = held.to_numpy()[sequence_order(whole)]
    assert sequences.ratings is not None
    rated = np.flatnonzero(held_out & np.isfinite(sequences.ratings))
    user = np.repeat(np.arange(len(sequences)), sequences.lengths)[rated]
    read = np.ones(len(held_out), bool) if reads == "all" else ~held_out
    places = np.concatenate([[0], np.cumsum(read)])[moment_begins(sequences)[rated]]
    times = None if sequences.times is None else sequences.times[rated]
    ratings = head_of(rec).scale.clip(sequences.ratings[rated])
    return RatingQueries(sequences.keep(read), user, places, sequences.items[rated], ratings, times)


def predict_ratings(rec: Recommender, queries: RatingQueries, *, shared: bool = True) -> tuple[Floats, Floats]:
    """Return the mean and the standard deviation of each rating, float32[n] each.

    Args:
        rec: with a rating head.
        queries: the held-out ratings.
        shared: whether the shared value moves with the held-out ratings, in the order of time.

    Cost: O(events read x network + n log n).
    """
    outputs = outputs_at(rec, queries.sequences, queries.users, queries.places)
    gaps = rating_gaps(queries)
    head = head_of(rec)
    latent, spread = rate(rec, outputs, gaps, queries.rows)
    if shared and queries.times is not None:
        residuals = np.rint(residuals_of(head, queries.ratings, latent) * UNIT).astype(np.int64)
        latent = latent + np.float32(head.unit) * shared_bias(rec, queries.rows, residuals, queries.times)
    rating = head.distribution(rec.params.rating, latent, spread)
    return rating.mean, rating.deviation


def shared_bias(rec: Recommender, rows: Rows, residuals: Times, times: Times) -> Floats:
    """Return float32[n]: what the shared value adds to each prediction, after all ratings of strictly earlier times.

    Equal to `observe_shared` one by one (a test); by sums over sorted ratings.

    Args:
        rec: with a rating head.
        rows: int32[n].
        residuals: int64[n], millionths.
        times: int64[n].
    """
    by_time, by_item = np.argsort(times, kind="stable"), np.lexsort((times, rows))
    number, total = _before(times[by_time], residuals[by_time], np.zeros(len(rows), np.int64))
    counts, sums = _before(times[by_item], residuals[by_item], rows[by_item])
    every, each = np.empty((2, len(rows))), np.empty((2, len(rows)))
    every[:, by_time], each[:, by_item] = (number, total), (counts, sums)
    known = rows > 0
    learnt = rec.params.rating.tables.count[rows]
    return moved_bias(each[1] * known / UNIT, each[0] * known, learnt, every[1] / UNIT, every[0])


def _before(times: Times, values: Times, groups: NDArray[Any]) -> tuple[Times, Times]:
    """Return how many of a group are strictly earlier and the sum of theirs; sorted by group, then time."""
    places, sums = np.arange(len(values)), np.concatenate([[0], np.cumsum(values)])
    new_group = np.ones(len(values), bool)
    new_group[1:] = groups[1:] != groups[:-1]
    new_time = new_group.copy()
    new_time[1:] |= times[1:] != times[:-1]
    first = np.maximum.accumulate(np.where(new_group, places, 0))
    here = np.maximum.accumulate(np.where(new_time, places, 0))
    return here - first, sums[here] - sums[first]


def rating_gaps(queries: RatingQueries) -> Floats:
    """Return float32[n]: seconds from a user's last event read to the rating; NaN where there is none."""
    before = queries.places > queries.sequences.offsets[queries.users]
    if queries.times is None or queries.sequences.times is None or not len(queries.sequences.times):
        return np.full(len(queries.users), np.nan, np.float32)
    since = (queries.times - queries.sequences.times[np.maximum(queries.places - 1, 0)]) / 1e6
    return np.where(before, np.maximum(since, 0), np.nan).astype(np.float32)


def evaluate_ratings(
    rec: Recommender,
    test: Events,
    *,
    train: Events | None = None,
    users: object = None,
    reads: Literal["all", "history"] | None = None,
    notes: Sequence[str] = (),
) -> RatingReport:
    """Measure the predicted ratings of held-out events, each predicted from earlier ratings only.

    Args:
        rec: what to measure.
        test: the held-out events; `test.history` holds the earlier events of their users.
        train: the training events, to fit the usual baselines beside it, in a separate process.
        users: a path or table with the profiles of the users, where the recommender reads them.
        reads: "all" updates states and the shared value with held-out ratings once they are past, as a server does;
            "history" reads none of them, for comparison with models that are not updated; None takes "history" where
            the model held rows out at random, and "all" elsewhere.
        notes: sentences for the report.

    Raises:
        ArgumentError: the model was trained without ratings.
        DataError: a held-out rating lies outside the scale.
        EvaluationError: there is no held-out rating, or all of these were learnt.

    Cost: O(events x network), and the baselines.
    """
    return rating_report_of(measure_ratings(rec, test, train=train, users=users, reads=reads, notes=notes))


class RatingMeasurement(NamedTuple):
    """How a recommender, under the name "segue", and the baselines beside it predict the same ratings.

    Args:
        queries: in the terms of the recommender.
        predicted: float64[query] by name, the recommender first.
        deviation: float32[query], of the recommender.
        reads: "all" or "history".
        notes: anything that a reader must know.
    """

    queries: RatingQueries
    predicted: dict[str, Numbers]
    deviation: Floats
    reads: str
    notes: tuple[str, ...]

    @property
    def errors(self) -> dict[str, Numbers]:
        """float64[query] by name: predicted less given."""
        return {name: each - self.queries.ratings for name, each in self.predicted.items()}


def measure_ratings(
    rec: Recommender,
    test: Events,
    *,
    train: Events | None = None,
    users: object = None,
    reads: Literal["all", "history"] | None = None,
    notes: Sequence[str] = (),
) -> RatingMeasurement:
    """Return how a recommender and baselines predict ratings; arguments and errors as of `evaluate_ratings`."""
    head = head_of(rec)
    for log in (test,) if train is None else (test, train):
        as_events(log, "evaluate_ratings")
    ratings = ratings_of(test.table)
    known = np.isfinite(ratings)
    if not known.any():
        raise EvaluationError(
            f"{test.source}: expected held-out ratings, found none in {len(test):,} rows. Hold out more."
        )
    check_not_learnt(rec.facts, test, what="ratings", split="split_by_time or split_last")
    head.scale.check_log(test)
    reads = reads or ("history" if str(rec.facts.get("hold_out", "")).startswith("random") else "all")
    queries = rating_queries(rec, test, users, reads)
    mean, deviation = predict_ratings(rec, queries, shared=reads == "all")
    outside = int(np.count_nonzero(known & (head.scale.clip(ratings) != ratings)))
    if outside:
        ends = f"{head.scale.lowest:g} to {head.scale.highest:g}"
        notes = (*notes, f"{outside:,} held-out ratings lie outside {ends} and count as the nearer end.")
    if not known.all():
        notes = (*notes, f"{int((~known).sum()):,} held-out events have no rating and are not measured.")
    others = Predictions({}, ())
    if train is not None:
        others = _predict_beside(train, test, queries, head.scale, moving=reads == "all")
    predicted = {"segue": mean.astype(np.float64), **others.predicted}
    return RatingMeasurement(queries, predicted, deviation, reads, (*notes, *others.left_out))


def _predict_beside(train: Events, test: Events, queries: RatingQueries, scale: Scale, *, moving: bool) -> Predictions:
    """Return the baselines' predictions in the order of the queries."""
    parts = [events.as_text().with_columns(rating=scale.clip(ratings_of(events.table))) for events in (train, test)]
    marked = [part.with_columns(test=pl.lit(place == 1)) for place, part in enumerate(parts)]
    table = pl.concat(marked, how="diagonal").with_row_index("place").filter(pl.col("rating").is_not_nan())
    coded = table.with_columns(pl.col("user", "item").rank("dense").cast(pl.Int64) - 1)
    moment = coded["time"] if "time" in coded.columns else coded["place"].cast(pl.Int64)
    user, item = coded["user"].to_numpy(), coded["item"].to_numpy()
    every = Ratings(user, item, coded["rating"].cast(pl.Float64).to_numpy(), moment.to_numpy())
    held = coded["test"].to_numpy()
    size = Size(int(user.max()) + 1, int(item.max()) + 1)
    predicted, left_out = predict_all(every.rows(~held), every.rows(held), size, moving=moving)
    # Baselines predict in the order of the log, the queries stand user by user.
    place = {name: at for at, name in enumerate(queries.sequences.users.to_list())}
    order = np.argsort([place[name] for name in table.filter("test")["user"].to_list()], kind="stable")
    in_order = {name: np.clip(each[order], scale.lowest, scale.highest) for name, each in predicted.items()}
    return Predictions(in_order, left_out)


def rating_report_of(measurement: RatingMeasurement) -> RatingReport:
    """Return the report of a measurement."""
    queries, predicted, deviation, reads, notes = measurement
    errors = measurement.errors
    rows = {
        name: {"rmse": rmse(each, queries.ratings), "mae": mae(each, queries.ratings)}
        for name, each in predicted.items()
    }
    improvement = best = None
    if len(rows) > 1:
        best = min(list(rows)[1:], key=lambda name: rows[name]["rmse"])
        improvement = paired_bootstrap(errors[best] ** 2, errors["segue"] ** 2, groups=queries.users)
    new = len(np.unique(queries.users[queries.sequences.lengths[queries.users] == 0]))
    moments = "Ratings with the same timestamp do not influence each other." if queries.times is not None else ""
    read = "update the states once they are past" if reads == "all" else "never update the states"
    protocol = (
        f"{len(queries.ratings):,} held-out ratings of {len(np.unique(queries.users)):,} users"
        f"{f', {new:,} of them without an earlier event' if new else ''}. Each rating is predicted from earlier "
        f"ratings only; held-out ratings {read}. {moments or 'Order: that of the file.'}"
    )
    unknown = int(np.count_nonzero(queries.rows == 0))
    if unknown:
        notes = (*notes, f"{unknown:,} ratings are of items never met in training.")
    coverage = {name: float(np.mean(np.abs(errors["segue"]) <= reach * deviation)) for name, reach in COVERAGES.items()}
    parts = calibration(predicted["segue"], queries.ratings)
    return RatingReport(rows, parts, coverage, protocol, improvement, best, tuple(notes))
