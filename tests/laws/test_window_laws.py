"""law: windows ask for each rating once, never show the future or the target, and decode to the log."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.data.log.events import Events
from segue.data.sequences.windows import windows

ROW = st.tuples(
    st.integers(0, 4),  # user
    st.integers(0, 5),  # item
    st.integers(0, 6),  # time, so that many are equal
    st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 0.5, 5.0])),
)


def log_of(rows):
    rows = sorted(rows, key=lambda row: row[2])
    table = pl.DataFrame(rows, schema=["user", "item", "time", "rating"], orient="row")
    return Events(table.cast({"user": pl.String, "item": pl.String, "rating": pl.Float32}))


@given(rows=st.lists(ROW, min_size=1, max_size=40).filter(lambda rows: any(r[3] is not None for r in rows)),
       length=st.integers(1, 6), timed=st.booleans())  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_law_windows_are_the_slow_windows(rows, length, timed):
    log = log_of(rows)
    if not timed:
        log = Events(log.table.drop("time"))
    before = log.table.clone()
    w = windows(log, length=length)
    assert log.table.equals(before)

    table = log.table.with_row_index("row").filter(pl.col("rating").is_not_null())
    own = ["user", "item", *(["time"] if timed else []), "rating"]
    assert w.decode().equals(table.select(own))
    assert w.rows.tolist() == table["row"].to_list()

    rated = table.rows(named=True)
    for sample, target in enumerate(rated):
        mine = [row for row in rated[: sample + 1] if row["user"] == target["user"]]
        expected = np.zeros((length, 5), np.float32)
        for step, row in enumerate(reversed(mine[-length:]), start=1):
            earlier = row["time"] < target["time"] if timed else row["row"] < target["row"]
            at = mine.index(row)
            gap = (row["time"] - mine[at - 1]["time"]) / 1e6 if timed and at else 0.0
            codes = (w.users.row(row["user"]), w.items.row(row["item"]))
            expected[-step] = (*codes, gap, row["rating"] if earlier else 0.0, earlier)
        np.testing.assert_array_equal(w.X[sample], expected)
    assert not w.X[:, -1, 3:].any()  # the target's own rating


@given(rows=st.lists(ROW, min_size=2, max_size=30), cut=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_law_what_comes_later_changes_nothing(rows, cut):
    log = log_of([(u, i, t, 3.0 if r is None else r) for u, i, t, r in rows])
    earlier = log.with_table(log.table.filter(pl.col("time") < cut))
    if len(earlier):
        whole, part = windows(log, length=4), windows(earlier, length=4)
        np.testing.assert_array_equal(whole.X[: len(part)], part.X)
        np.testing.assert_array_equal(whole.y[: len(part)], part.y)
