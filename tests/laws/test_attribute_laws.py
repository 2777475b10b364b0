"""Laws of attributes: a row alone equals the row in a table, what is kept is equal, nothing given is changed."""

import copy
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.data.features.kinds import KINDS, kinds_of
from segue.data.features.table_encoder import TableEncoder, fit_table_encoder
from segue.data.features.text import text_encoder

quick = settings(max_examples=60, deadline=None)

WORDS = st.sampled_from(
    ["Drama", "War", " War ", "Drama|War", "a,b", "007", "3.5", "$1,200", "", "  ", "nan", "<b>x</b>"]
)
ANY_TEXT = st.one_of(WORDS, st.text(st.characters(codec="utf-8"), max_size=12))
NUMBERS = st.one_of(st.floats(), st.floats(-1e6, 1e6), st.integers(-(2**60), 2**60).map(float))
COLUMNS = st.sampled_from([
    (pl.String, ANY_TEXT),
    (pl.Float64, NUMBERS),
    (pl.Float32, st.floats(width=32)),
    (pl.Int64, st.integers(-(2**63), 2**63 - 1)),
    (pl.Boolean, st.booleans()),
    (pl.Date, st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    (pl.Datetime("us"), st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))),
    (pl.Datetime("us", "UTC"), st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))),
    (pl.List(pl.String), st.lists(st.one_of(st.none(), WORDS), max_size=3)),
    (pl.List(pl.Float64), st.lists(st.one_of(st.none(), NUMBERS), min_size=2, max_size=3)),
    (pl.Array(pl.Float32, 3), st.lists(st.floats(width=32), min_size=3, max_size=3)),
    (pl.Null, st.none()),
])  # fmt: skip


@st.composite
def tables(draw, names=("a", "b", "c")):
    rows = draw(st.integers(0, 45))
    columns = {}
    for name in names:
        kind, values = draw(COLUMNS)
        some = draw(st.lists(st.one_of(st.none(), values), min_size=1, max_size=8))
        columns[name] = pl.Series(name, [some[draw(st.integers(0, len(some) - 1))] for _ in range(rows)], kind)
    return pl.DataFrame(columns)


def learnt(table, data):
    guessed = kinds_of(table)
    kinds = {name: data.draw(st.sampled_from([guessed[name], *KINDS])) for name in table.columns}
    return fit_table_encoder(table, kinds, text=text_encoder("words", ["drama war", "war b", "x drama"]))


@quick
@given(tables(), tables(), st.data())
def test_a_row_alone_equals_the_row_in_a_table_and_in_a_table_of_one(table, other, data):
    encoding = learnt(table, data)
    for each in (table, other, other.drop("b")):
        whole = encoding.encode(each)
        assert whole.shape == (each.height, encoding.width)
        assert whole.dtype == np.float32
        assert np.isfinite(whole).all()
        for place, row in enumerate(each.iter_rows(named=True)):
            alone = encoding.encode_row(row)
            assert alone.dtype == np.float32
            np.testing.assert_allclose(alone, whole[place], atol=2e-6)
            np.testing.assert_allclose(encoding.encode(each[place : place + 1])[0], whole[place], atol=2e-6)


@quick
@given(tables(), st.data())
def test_the_norm_of_each_block_is_about_one_or_nothing(table, data):
    encoding = learnt(table, data)
    whole = encoding.encode(table)
    for block in encoding.columns:
        norms = np.linalg.norm(whole[:, encoding.slices[block.name]], axis=1)
        assert ((norms == 0) | ((norms > 0.5) & (norms < 1.5))).all(), block


@quick
@given(tables(), st.data())
def test_what_is_written_down_is_read_back_equal(table, data):
    encoding = learnt(table, data)
    back = TableEncoder.from_json(encoding.to_json())
    assert back == encoding
    assert back.to_json() == encoding.to_json()
    np.testing.assert_array_equal(back.encode(table), encoding.encode(table))


@quick
@given(tables(), st.data())
def test_tables_and_rows_that_are_given_stay_as_they_were_and_every_answer_is_words(table, data):
    before = table.clone()
    encoding = learnt(table, data)
    encoding.encode(table)
    assert all(isinstance(line, str) for line in [*encoding.describe(), *encoding.warnings(table)])
    assert table.equals(before)
    for row in table[:3].iter_rows(named=True):
        kept = copy.deepcopy(row)
        encoding.encode_row(row)
        assert all(isinstance(label, str) for label in encoding.labels(row))
        assert repr(row) == repr(kept)


@quick
@given(tables())
def test_the_kind_of_a_column_does_not_depend_on_the_others(table):
    whole = kinds_of(table)
    assert {name: kinds_of(table.select(name))[name] for name in table.columns} == whole
