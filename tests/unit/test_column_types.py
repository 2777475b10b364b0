"""A value that comes later fits the column that was learnt, or is refused with column, kind and value."""

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from typer.testing import CliRunner

from segue.cli.app import app
from segue.data.features.catalogue import Catalogue
from segue.data.features.column_encoders import Categories
from segue.data.features.column_types import Column
from segue.data.features.numeric import Numbers, Vectors
from segue.errors import ArgumentError
from tests_support import USERS, described_log, described_recommender

DAY = dt.date(2024, 2, 29)
KEPT = [
    (pl.Int64(), "12", 12),
    (pl.Int64(), 3.5, 3.5),  # a price without cents may get some
    (pl.Float64(), "$1,299.50", 1299.5),
    (pl.Float64(), float("nan"), None),
    (pl.Float64(), "", None),
    (pl.String(), 7, "7"),
    (pl.String(), True, "true"),
    (pl.Boolean(), "true", True),
    (pl.Date(), "2024-02-29", DAY),
    (pl.Datetime("us"), "2024-02-29T12:00:00+02:00", dt.datetime(2024, 2, 29, 10)),
    (pl.Time(), "12:30", dt.time(12, 30)),
    (pl.Duration("us"), 90, dt.timedelta(seconds=90)),
    (pl.List(pl.String()), "war", ["war"]),
    (pl.List(pl.Float32()), [1, 2.5], [1.0, 2.5]),
    (pl.Categorical(), "new", "new"),
]
REFUSED = [
    (pl.Int64(), "x", "numbers"),
    (pl.Int64(), 2**70, "numbers"),
    (pl.Float64(), "x", "numbers"),
    (pl.Float64(), float("inf"), "numbers"),
    (pl.Float64(), 1e301, "numbers"),
    (pl.Float64(), [1.0], "numbers"),
    (pl.String(), ["a", "b"], "a text"),
    (pl.String(), float("inf"), "a text"),
    (pl.Boolean(), "x", "true or false"),
    (pl.Date(), "soon", "a date"),
    (pl.Date(), 1e18 * 1e250, "a date"),
    (pl.Time(), "noon", "a time of day"),
    (pl.List(pl.Float32()), ["a"], "a list of numbers"),
    (pl.Array(pl.Float32(), 2), [1.0, 2.0, 3.0], "a list of numbers"),
    (pl.List(pl.String()), float("inf"), "a list of texts"),
    (pl.Struct({"a": pl.Int64()}), 1, "nothing that can be sent"),
]


@pytest.mark.parametrize(("kind", "value", "kept"), KEPT, ids=str)
def test_a_value_that_fits_is_cast_to_the_type_of_the_column(kind, value, kept):
    column = Column("c", kind, None)
    assert column.cast(value) == kept
    below = pl.concat(
        [pl.Series("c", [None], kind).to_frame(), column.series([kept]).to_frame()], how="vertical_relaxed"
    )
    assert below["c"].to_list() == [None, kept]


@pytest.mark.parametrize(("kind", "value", "words"), REFUSED, ids=str)
def test_a_value_that_does_not_fit_is_refused_with_column_kind_and_value(kind, value, words):
    with pytest.raises(ArgumentError, match=f'column "c": expected {words}, came ".*". Send such a value'):
        Column("c:token", kind, None).cast(value)


def test_the_kind_that_was_learnt_counts_beside_the_type():
    tags = Column("tags", pl.String(), Categories("tags", True, "|", ("a", "b")))
    assert tags.cast(["a", "new"]) == "a|new" and tags.cast("a|b") == "a|b"
    with pytest.raises(ArgumentError, match=r'"tags": expected categories by \|, 2 values, came'):
        tags.cast(["a|b", "c"])  # would be read as three
    price = Column("price", pl.String(), Numbers("price", "number", (0.0, 9.0)))
    assert price.cast(5.0) == "5" and price.cast("$7") == "$7"
    with pytest.raises(ArgumentError, match='"price": expected number, 0 to 9, came "x"'):
        price.cast("x")
    vector = Column("v", pl.List(pl.Float64()), Vectors("v", (0.0, 0.0)))
    with pytest.raises(ArgumentError, match='"v": expected vector of 2 numbers'):
        vector.cast([1.0, 2.0, 3.0])
    year = Column("year", pl.Int64(), Categories("year", False, None, ("1995",)))
    with pytest.raises(ArgumentError, match='"year": expected category, 1 value, as numbers, came "x"'):
        year.cast("x")


@pytest.mark.parametrize("price", ["x", float("inf"), 1e301, [1.0, 2.0]])
def test_items_are_added_with_values_of_the_kind_that_was_learnt(price, tmp_path):
    rec = described_recommender(described_log())
    table = pl.DataFrame({"item": ["new", "other"], "title": ["red car", "boat"], "price": pl.Series([price, None])})
    with pytest.raises(ArgumentError, match=r'table, item "new": column "price": expected number, 0 to 4, came ".*"'):
        rec.add_items(table)
    table = table.with_columns(price=pl.Series([3, 4]), colour=pl.lit("red"))
    more = rec.add_items(table)
    assert more.catalogue.table.schema == rec.catalogue.table.schema
    assert more.catalogue.table["price"].to_list()[-2:] == [3.0, 4.0]
    assert any("left out colour" in note for note in more.catalogue.notes)
    again = rec.add_items(table.with_columns(price=pl.Series(["3", "$4"])))
    assert again.params.items.tobytes() == more.params.items.tobytes()


def test_the_command_line_refuses_such_items_and_writes_nothing(tmp_path):
    described_recommender(described_log()).save(tmp_path / "m.segue")
    (tmp_path / "new.csv").write_text("item,title,price\nnew,red car,x\n")
    run = CliRunner().invoke(
        app, ["add-items", *(str(tmp_path / name) for name in ("m.segue", "new.csv")), "-o", str(tmp_path / "n.segue")]
    )
    assert run.exit_code != 0 and not (tmp_path / "n.segue").exists()


def test_a_profile_has_values_of_the_kind_that_was_learnt():
    rec = described_recommender(described_log())
    assert rec.encoders.users is not None and "age" in USERS.columns
    for age in ("x", float("inf"), [1, 2]):
        with pytest.raises(ArgumentError, match=r'profile: column "age": expected .*, came ".*". Leave it out'):
            rec.start({"age": age})
    nobody = rec.start().memory.output.tolist()
    assert rec.start({"age": None}).memory.output.tolist() == nobody
    assert rec.start({"age": float("nan")}).memory.output.tolist() == nobody
    assert rec.start({"age": "30"}).memory.output.tolist() == rec.start({"age": 30}).memory.output.tolist() != nobody


def test_of_an_event_a_value_of_another_kind_is_unknown():
    rec = described_recommender(described_log())
    plain = rec.observe(rec.start(), "01", time=5)
    assert (
        rec.score(rec.observe(rec.start(), "01", time=5, context={"device": ["x"]})).tolist()
        == rec.score(plain).tolist()
    )


ANY_TYPE = {
    "decimal": pl.Series([Decimal("1.50"), Decimal("2.25")]),
    "struct": pl.Series([{"x": 1}, {"x": 2}]),
    "bytes": pl.Series([b"x", b"y"]),
    "categorical": pl.Series(["u", "v"], dtype=pl.Categorical),
    "enum": pl.Series(["u", "v"], dtype=pl.Enum(["u", "v"])),
    "zoned": pl.Series([dt.datetime(2020, 1, 1)] * 2).dt.replace_time_zone("Europe/Zurich"),
    "single": pl.Series([1.5, 2.5], dtype=pl.Float32),
    "unsigned": pl.Series([1, 2**63 + 5], dtype=pl.UInt64),
    "array": pl.Series([[1.0, 2.0], [3.0, 4.0]], dtype=pl.Array(pl.Float32, 2)),
    "lists": pl.Series([["a"], []]),
    "nothing": pl.Series([None, None]),
    "truth": pl.Series([True, None]),
}


@pytest.mark.parametrize("name", ANY_TYPE)
def test_another_column_of_a_changed_line_stays_whatever_its_type(name):
    table = pl.DataFrame({"item": ["a", "b"], "title": ["A", "B"], name: ANY_TYPE[name]})
    catalogue = Catalogue(table)
    changed = catalogue.changed({2: {**catalogue.line(2), "title": "Z"}}).table
    assert changed.schema == table.schema and changed[name].equals(table[name], null_equal=True)
