"""The windows of the drawn example, number by number, and what cannot be made into windows."""

import numpy as np
import polars as pl
import pytest

import segue
from segue.data.log.events import Events
from segue.data.sequences.windows import FEATURES, windows
from segue.errors import ArgumentError, ColumnError


def drawn():
    """Read the log and the windows out of the drawing in the docstring, so that it cannot say anything else."""
    lines = windows.__doc__.split("rating        y\n")[1].split("\n\n")[0].splitlines()
    cells = [line.split() for line in lines]  # row, time, user, item, rating, sample, three items, three ratings, y
    log = pl.DataFrame([row[1:5] for row in cells], schema=["time", "user", "item", "rating"], orient="row")
    log = log.cast({"time": pl.Int64, "rating": pl.Float64})
    return segue.read_events(log), [(row[6:9], row[9:12], float(row[12])) for row in cells]


def test_the_drawn_example_is_what_comes_out():
    log, expected = drawn()
    w = windows(log, length=3)
    assert w.X.shape == (5, 3, len(FEATURES)) and w.X.dtype == w.y.dtype == np.float32
    for sample, (items, ratings, y) in enumerate(expected):
        x = w.X[sample]
        assert [w.items.id(int(c)) if c else "." for c in x[:, 1]] == items
        steps = zip(x[:, 3], x[:, 4], w.mask[sample], strict=True)
        shown = [f"{rating:.0f}" if rated else "?" if real else "." for rating, rated, real in steps]
        assert shown == ratings
        assert w.y[sample] == y
    assert w.rows.tolist() == [0, 1, 2, 3, 4]
    assert w.times.tolist() == [10_000_000, 20_000_000, 30_000_000, 40_000_000, 40_000_000]
    assert w.features("gap")[4, :, 0].tolist() == [20.0, 10.0, 0.0]
    assert w.full.tolist() == [False, False, False, True, True]
    assert {w.users.id(int(c)) for c in w.X[3, :, 0]} == {"ann"}


def test_a_split_by_time_is_a_split_of_the_samples():
    log, _ = drawn()
    w, cut = windows(log, length=2), segue.split_by_time(log, test=0.4)[1]
    test = w.select(w.times >= cut.table["time"][0])
    assert test.decode().select("user", "item", "rating").rows() == [("ann", "b", 4.0), ("ann", "d", 2.0)]
    assert test.rows.tolist() == [3, 4] and len(test) == 2


def test_rows_without_a_rating_are_left_out_and_the_rest_keep_their_row():
    log = Events(pl.DataFrame({"user": ["a"] * 3, "item": ["x", "y", "z"], "rating": [1.0, None, 3.0]}))
    w = windows(log, length=2)
    assert w.rows.tolist() == [0, 2] and w.times is None
    # Without times the order is the moment: x was rated before z.
    assert w.X[1].tolist() == [[1, 1, 0, 1, 1], [1, 2, 0, 0, 0]]


def test_a_log_that_cannot_be_made_into_windows_is_refused():
    log, _ = drawn()
    for bad in (0, -1, 2.0, True):
        with pytest.raises(ArgumentError, match=r"windows: expected length from 1, a whole number, came"):
            windows(log, length=bad)
    bare = Events(log.table.drop("rating"), "clicks.csv")
    with pytest.raises(ColumnError, match=r"clicks.csv: expected ratings to make windows of.*rating=NAME"):
        windows(bare)
    with pytest.raises(ColumnError, match="expected ratings"):
        windows(Events(log.table.with_columns(rating=pl.lit(None, pl.Float32))))
    with pytest.raises(ArgumentError, match='expected names among user, item, gap, rating, rated, came "film"'):
        windows(log).features("film")
