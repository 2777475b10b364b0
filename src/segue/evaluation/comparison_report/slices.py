"""Metrics by kinds of queries: where a model is good and where it is not."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.evaluation.comparison_report.compared import Compared
from segue.evaluation.comparison_report.pairs import PerQuery
from segue.metrics.bootstrap import drawn_means
from segue.metrics.comparison import student
from segue.shapes import Floats, Times

Labels = list[tuple[str, NDArray[np.bool_]]]

_HISTORIES = (
    (0, "no event before"),
    (1, "1 to 4"),
    (5, "5 to 9"),
    (10, "10 to 19"),
    (20, "20 to 49"),
    (50, "50 to 199"),
)
_COUNTS = ((0, "0: new"), (1, "1 to 9"), (10, "10 to 99"), (100, "100 to 999"), (1000, "1,000 or more"))
_GAPS = ((0, "under a minute"), (60, "under an hour"), (3600, "under a day"), (86_400, "under a week"))
#: Values of a column that get a row each, and the users that each needs.
VALUES, LEAST = 12, 5
#: Draws of a slice; fewer than for the table, because slices are many.
DRAWS = 500


def slices_of(measured: Compared, values: Mapping[str, PerQuery], *, root: bool = False) -> list[dict[str, Any]]:
    """Return for each way to slice the queries a row per slice: queries, users, and the metric of some models.

    A slice of one user has no interval and is left out.

    Args:
        measured: the queries.
        values: model -> float64[query]; higher is better; the first two models are compared in each slice.
        root: whether the values are negative squared errors, of whose means the root is shown.
    """
    found = []
    for by, labels in _ways(measured):
        able = [(label, wanted) for label, wanted in labels if len(np.unique(measured.users[wanted])) > 1]
        rows = [_row(label, wanted, values, measured, root) for label, wanted in able]
        if len(rows) > 1:
            found.append({"by": by, "rows": rows})
    return found


def _row(
    label: str, wanted: NDArray[np.bool_], values: Mapping[str, PerQuery], measured: Compared, root: bool
) -> dict[str, Any]:
    users = measured.users[wanted]
    columns = {name: value[wanted] for name, value in values.items()}
    drawn = drawn_means(columns.values(), groups=users, draws=DRAWS)
    models = {
        name: _interval(column, np.zeros(len(column)), users, drawn[:, place])
        for place, (name, column) in enumerate(columns.items())
    }
    if root:
        models = {name: _rooted(value) for name, value in models.items()}
    row = {"slice": label, "queries": int(wanted.sum()), "users": len(np.unique(users)), "models": models}
    if len(columns) > 1:
        first, second, *_ = columns.values()
        row["difference"] = _interval(first, second, users, drawn[:, 0] - drawn[:, 1])
    return row


def _rooted(value: Mapping[str, float]) -> dict[str, float]:
    """Return the root mean squared error of a negative mean squared error, with its interval."""
    ends = {"mean": value["mean"], "low": value["high"], "high": value["low"]}
    return {name: max(0.0, -each) ** 0.5 for name, each in ends.items()}


def _interval(
    a: NDArray[np.float64], b: NDArray[np.float64], users: Times, drawn: NDArray[np.float64]
) -> dict[str, float]:
    """Return the mean of a less b with the interval that covers the bootstrap interval and Student's, as of `pairs`."""
    mean, spread = float((a - b).mean()), student(a, b, users)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    if spread.known:
        low, high = min(low, mean - spread.half), max(high, mean + spread.half)
    return {"mean": mean, "low": low, "high": high}


def _ways(measured: Compared) -> Iterator[tuple[str, Labels]]:
    """Give each way to slice the queries, with its slices."""
    yield "events of the user before", _steps(measured.lengths, [*_HISTORIES, (200, "200 or more")])
    if measured.counts is not None:
        counts = np.where(measured.targets > 0, measured.counts[measured.targets], 0)
        yield "training events of the target", _steps(counts, _COUNTS)
        new = counts == 0
        if measured.new_users is not None:
            user = measured.new_users
            yield (
                "met in training",
                [
                    ("user and item", ~user & ~new),
                    ("item only, a new user", user & ~new),
                    ("user only, a new item", ~user & new),
                    ("neither", user & new),
                ],
            )
    if measured.gaps is not None:
        gaps: Floats = np.nan_to_num(measured.gaps, nan=-1.0)
        yield (
            "time since the last event",
            [("no event before", gaps < 0), *_steps(gaps, [*_GAPS, (604_800, "a week or more")])],
        )
    again = _repeated(measured)
    yield "target seen before", [("yes", again), ("no", ~again)]
    for column in measured.attributes():
        yield column.name, _of_column(column, measured.users)


def _steps(values: NDArray[Any], steps: Sequence[tuple[float, str]]) -> Labels:
    """Return a slice from each step up to the next."""
    ends = [*(begin for begin, _ in steps[1:]), np.inf]
    return [(label, (values >= begin) & (values < end)) for (begin, label), end in zip(steps, ends, strict=True)]


def _repeated(measured: Compared) -> NDArray[np.bool_]:
    """Return bool[query]: whether the item of the held-out event stands earlier in the same user's events."""
    begins = np.zeros(len(measured.rows), np.int64)
    begins[np.unique(measured.begins)] = 1
    pairs = np.cumsum(begins) * len(measured.items) + measured.rows
    repeated = np.ones(len(pairs), bool)
    repeated[np.unique(pairs, return_index=True)[1]] = False
    return repeated[measured.places]


def _of_column(column: pl.Series, users: Times) -> Labels:
    """Return the slices of a column: quarters of numbers, the most frequent of other values."""
    known = column.is_not_null()
    labels: Labels = []
    if column.dtype.is_numeric() and column.n_unique() > VALUES:
        numbers: Floats = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
        edges = np.unique(np.nanquantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
        for low, high in pairwise(edges.tolist()):
            inside = (numbers >= low) & ((numbers < high) | ((numbers == high) & (high == edges[-1])))
            labels.append((f"{low:,.5g} to {high:,.5g}" if low >= 10_000 else f"{low:.5g} to {high:.5g}", inside))
    else:
        words = pl.DataFrame({"query": np.arange(len(column)), "user": users, "value": column})
        if isinstance(column.dtype, pl.List):
            words = words.explode("value")
        words = words.drop_nulls().with_columns(pl.col("value").cast(pl.String)).unique()
        counts = words.group_by("value").agg(pl.len(), pl.col("user").n_unique()).filter(pl.col("user") >= LEAST)
        frequent = counts.sort("len", "value", descending=[True, False])["value"].head(VALUES).sort().to_list()
        other = known.to_numpy().copy()
        for value in frequent:
            wanted = np.zeros(len(column), bool)
            wanted[words.filter(pl.col("value") == value)["query"].to_numpy()] = True
            other &= ~wanted
            labels.append((value, wanted))
        labels += [("another value", other)] if labels else []
    return [*labels, ("unknown", ~known.to_numpy())]
