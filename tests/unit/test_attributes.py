"""Tables of items, users and events: the kind of each column, its numbers, and input that is not as it should be."""

import time
from datetime import date, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from segue.data.features.catalogue import read_items, read_profiles, unmatched
from segue.data.features.hashing import places
from segue.data.features.kinds import kinds_of
from segue.data.features.table_encoder import TableEncoder, fit_table_encoder
from segue.data.log.events import Reading
from segue.data.sequences.vocabulary import Vocabulary
from segue.data.values.parsing import text_of
from segue.data.values.times import moment_of
from segue.errors import ColumnError, ModelError
from tests_support import read_catalogue

N = 200
GENRES = ["Drama", "Comedy", "Drama|War", "Comedy|Drama", "War"]


def repeated(values, n=N):
    return [values[i % len(values)] for i in range(n)]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("v", [[1.0, float(i)] for i in range(N)], "vector"),
        ("v:float_seq", [f"0.5 {i}.25" for i in range(N)], "vector"),
        ("v", [f"[0.5, {i}]" for i in range(N)], "vector"),
        ("tags", repeated([["a", "b"], ["b"], ["c", "a"]]), "categories"),
        ("features", [[f"A long sentence on what the thing number {i} can do"] for i in range(N)], "text"),
        ("genres", repeated(GENRES), "categories"),
        ("genres", repeated(["a; b", "b; c", "c", "a"]), "categories"),
        ("cast", [f"Actor {i % 50}, Actor {i % 37}, Actor {i % 41}" for i in range(N)], "categories"),
        ("class:token_seq", repeated(["Action War", "War", "Action Comedy"]), "categories"),
        ("movie_title:token_seq", [f"Film the {i}th" for i in range(N)], "text"),
        ("2", [f"City of Children, The ({i})" for i in range(N)], "text"),
        ("title", [f"word{i}" for i in range(N)], "text"),
        ("job_title", repeated(["cook", "smith"]), "category"),
        ("flag", repeated([True, False]), "category"),
        ("age", repeated([1, 18, 25, 35]), "category"),
        ("age", repeated(["1", "18", "25"]), "category"),
        ("year", [1900 + i % 90 for i in range(N)], "number"),
        ("price", [f"${i}.99" for i in range(N)], "number"),
        ("stars", repeated([0.5, 1.0, 1.5]), "number"),
        ("zip", [f"{10000 + i // 2}" for i in range(N)], "category"),
        ("agent", [f"{i // 2:03d}" for i in range(N)], "category"),
        ("brand", [f"Brand {i // 3}" for i in range(N)], "category"),
        ("released", [f"19{10 + i % 80}-01-01" for i in range(N)], "date"),
        ("released", [date(2000, 1, 1 + i % 28) for i in range(N)], "date"),
        ("released", [f"{1 + i % 28:02d}-Jan-1995" for i in range(N)], "date"),
        ("timestamp", [1_700_000_000 + 60 * i for i in range(N)], "date"),
        ("asin", [f"B00{i:04d}X" for i in range(N)], "ignored"),
        ("movieId", list(range(0, 3 * N, 3)), "ignored"),
        ("row", list(range(N)), "ignored"),
        ("shop", ["x"] * N, "ignored"),
        ("nothing", [None] * N, "ignored"),
        ("blank", ["", " "] * (N // 2), "ignored"),
        ("award", ["Oscar", None] * (N // 2), "category"),
        ("unread", [float("nan")] * N, "ignored"),
    ],
)
def test_kinds(name, values, kind):
    assert kinds_of(pl.DataFrame({name: values})) == {name: kind}


def test_a_requested_kind_holds_and_a_wrong_kind_names_the_nearest():
    table = pl.DataFrame({"age:token": repeated([1, 18, 25]), "shop": ["x"] * N})
    assert kinds_of(table, {"age": "number", "shop": "category"}) == {"age:token": "number", "shop": "category"}
    with pytest.raises(ColumnError, match=r'expected a column "shopp", found age:token, shop. Did you mean "shop"\?'):
        kinds_of(table, {"shopp": "number"})
    with pytest.raises(ColumnError, match=r'column "shop": expected a kind among number, .*, came "categorical". Did'):
        kinds_of(table, {"shop": "categorical"})


def test_a_table_without_rows_or_columns_is_no_problem():
    assert kinds_of(pl.DataFrame()) == {}
    empty = pl.DataFrame(schema={"a": pl.String, "b": pl.Float64, "c": pl.List(pl.Float64)})
    assert set(kinds_of(empty).values()) <= {"ignored", "vector"}
    every = {"a": "text", "b": "number", "c": "vector"}
    encoding = fit_table_encoder(empty, every, text="words")
    assert encoding.encode(pl.DataFrame({"a": ["x"], "b": [1.0], "c": [[1.0]]})).shape == (1, encoding.width)
    assert fit_table_encoder(pl.DataFrame(), {}).encode_row({}).shape == (0,)


def one(column, kind, **others):
    return fit_table_encoder(pl.DataFrame({"x": column}), {"x": kind}, text="words")


def test_numbers_lie_between_knots_and_are_clipped_at_the_ends():
    encoding = one(list(range(0, 701)), "number")
    assert encoding.width == 8
    assert encoding.encode_row({"x": 150}).tolist() == [0, 0.5, 0.5, 0, 0, 0, 0, 0]
    assert encoding.encode_row({"x": 1e9}).tolist() == [0] * 7 + [1]
    assert encoding.encode_row({"x": -1e9}).tolist() == [1] + [0] * 7
    assert one([0.0] * 90 + list(range(1, 11)), "number").width == 8
    assert one([3, 3, None], "number").encode_row({"x": 99}).tolist() == [1]


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), None, "", "n/a", [1.0], {}, b"1", 10**400]
)
def test_what_is_no_number_gives_zeros(value):
    encoding = one([1.0, float("nan"), float("inf"), 2.0, None], "number")
    assert encoding.describe() == ["x: number, 1 to 2"]
    assert not encoding.encode_row({"x": value}).any()


def test_nan_and_infinity_in_a_whole_column_give_zeros():
    encoding = one([1.0, 2.0], "number")
    bad = pl.DataFrame({"x": [float("nan"), float("inf"), -float("inf"), None, 1e308]})
    assert not encoding.encode(bad).any()
    vectors = fit_table_encoder(pl.DataFrame({"x": [[1.0, 2.0], [3.0, float("inf")]]}), {"x": "vector"})
    assert not vectors.encode(pl.DataFrame({"x": [[float("nan"), 1.0], [1.0], [], None]})).any()


def test_dates_of_every_writing_are_one():
    day = 788_918_400.0
    for value in ("1995-01-01", "01-Jan-1995", date(1995, 1, 1), datetime(1995, 1, 1), 1995, "1995", int(day) * 1_000):
        assert moment_of(value) == day
    encoding = one(["1995-01-01", "2005-01-01"], "date")
    assert encoding.describe() == ["x: date, 1995-01-01 to 2005-01-01"]
    assert encoding.labels({"x": "2000-06-01T12:00:00Z"}) == ["x 2000-06-01"]
    assert moment_of("2000-06-01T14:00:00+02:00") == moment_of("2000-06-01 12:00:00 UTC")


def test_categories_that_two_rows_share_have_a_column_and_others_none():
    encoding = one(["tv", " tv ", "phone", "phone", "fridge"], "category")
    assert encoding.encode(pl.DataFrame({"x": ["phone", "tv", "fridge", None]})).sum(axis=1).tolist() == [1, 1, 0, 0]
    assert encoding.labels({"x": "tv"}) == ["x tv"]
    assert encoding.labels({"x": "fridge"}) == []
    assert one(["a", "b"], "category").describe() == ["x: category, no two rows share a value"]


def test_genres_are_divided_by_the_root_of_their_number():
    encoding = one(repeated(GENRES), "categories")
    assert encoding.describe() == ["x: categories by |, 3 values"]
    assert np.linalg.norm(encoding.encode_row({"x": "War| Drama |Western|"})) == pytest.approx(1)
    assert encoding.encode_row({"x": ["War", "Drama"]}).tolist() == encoding.encode_row({"x": "War|Drama"}).tolist()
    assert encoding.labels({"x": "War|Western"}) == ["x War"]


def test_many_categories_share_256_columns_and_stay_apart():
    values = [f"v{i}" for i in range(300)]
    encoding = one(values * 2, "category")
    whole = encoding.encode(pl.DataFrame({"x": values}))
    assert whole.shape == (300, 256)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1)
    alike = whole @ whole.T - np.eye(300)
    assert abs(alike.mean()) < 0.01
    assert alike.max() < 1
    np.testing.assert_array_equal(encoding.encode_row({"x": "v7"}), whole[7])
    assert encoding.describe() == ["x: category, 300 values in 256 columns, 4 for each"]
    several = one([f"v{i}|v{i + 1}" for i in range(300)] * 2, "categories")
    assert several.width == 256
    row = {"x": "v3|v4|v5"}
    np.testing.assert_allclose(several.encode_row(row), several.encode(pl.DataFrame(row))[0], atol=1e-6)


def test_the_places_of_a_value_are_the_same_for_ever():
    columns, shares = places("genre", ["Drama"])
    assert columns.tolist() == [[40, 95, 185, 241]]
    assert shares.tolist() == [[0.5, 0.5, -0.5, 0.5]]


def test_a_million_categories_cost_256_columns_and_seconds():
    start = time.perf_counter()
    values = pl.select(pl.int_range(1_000_000)).to_series().cast(pl.String) + "x"
    table = pl.DataFrame({"x": pl.concat([values, values])})
    assert kinds_of(table) == {"x": "category"}
    encoding = fit_table_encoder(table, {"x": "category"})
    assert encoding.width == 256
    assert encoding.encode(table[:20_000]).any(axis=1).all()
    assert encoding.encode_row({"x": "999999x"}).any()
    assert time.perf_counter() - start < 30


def test_text_is_cleaned_and_cut():
    assert text_of("<p>One &lt; two</p><br/>I <3 you") == "One < two I <3 you"
    assert len(text_of("word " * 2_000_000)) <= 10_000
    start = time.perf_counter()
    for huge in ("<" * 10_000_000, "<b>" * 3_000_000, "&amp;" * 2_000_000, "x" * 10_000_000):
        assert len(text_of(huge)) <= 10_000
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("empty", ["", "   ", "<br>", "&nbsp;", None])
def test_empty_text_is_zeros(empty):
    encoding = one(["red shoe", "red hat"], "text")
    assert not encoding.encode_row({"x": empty}).any()
    assert not encoding.encode(pl.DataFrame({"x": [empty]}, schema={"x": pl.String})).any()


def test_a_text_of_ten_megabytes_is_encoded_like_its_beginning():
    encoding = one(["red shoe", "red hat"], "text")
    huge = "red " * 2_500_000
    assert (
        encoding.encode(pl.DataFrame({"x": [huge]})).tolist() == encoding.encode(pl.DataFrame({"x": ["red"]})).tolist()
    )


LEARNT = pl.DataFrame({
    "year": [1990, 2000, 2010, 2020],
    "genre": ["Drama", "Drama", "War", "War"],
    "tags": [["a"], ["a", "b"], ["b"], None],
    "v": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], None],
    "day": ["2000-01-01", "2001-01-01", None, None],
    "about": ["red shoe", "red hat", None, "blue hat"],
})  # fmt: skip
KINDS = {"year": "number", "genre": "category", "tags": "categories", "v": "vector", "day": "date", "about": "text"}
STRANGE = {
    "year": ["nineteen", "1990", None, "x"],
    "genre": [1.5, 2.5, None, float("nan")],
    "tags": [7, 8, 9, None],
    "v": ["up", "down", None, ""],
    "day": [True, False, None, True],
    "about": [[1, 2], None, [3], None],
}


def test_types_that_change_after_learning_count_as_missing_and_are_reported():
    encoding = fit_table_encoder(LEARNT, KINDS, text="words")
    assert encoding.warnings(LEARNT) == []
    strange = pl.DataFrame(STRANGE)
    whole = encoding.encode(strange)
    assert np.count_nonzero(whole) == 1
    assert whole[1, 0] == 1
    said = encoding.warnings(strange)
    assert [line.split('"')[1] for line in said] == list(KINDS)
    assert said[0] == (
        'column "year": expected number, 1990 to 2020, 2 of 3 values cannot be read so, the first is "nineteen" in '
        "row 1. They count as missing; correct them, or train again."
    )
    assert said[1].endswith('training had none of its values, for example "1.5". Write them as they were in training.')


def test_columns_that_are_gone_give_zeros_and_are_reported_and_new_ones_are_nothing():
    encoding = fit_table_encoder(LEARNT, KINDS, text="words")
    other = LEARNT.select("genre", new=pl.lit(1))
    assert encoding.encode(other).sum() == 4
    assert len(encoding.warnings(other)) == 5
    assert 'column "year": expected number, 1990 to 2020, found genre, new.' in encoding.warnings(other)[0]
    assert not encoding.encode_row({}).any()


def test_rows_of_any_python_value_never_raise():
    encoding = fit_table_encoder(LEARNT, KINDS, text="words")
    odd = [
        object(),
        {"a": 1},
        {1, 2},
        b"x",
        10**400,
        float("nan"),
        np.float32(3),
        np.array([1, 2]),
        np.bool_(True),
        [[]],
    ]
    for value in odd:
        assert np.isfinite(encoding.encode_row(dict.fromkeys(KINDS, value))).all()
    same = encoding.encode_row({"v": [1.0, 0.0]})
    np.testing.assert_array_equal(encoding.encode_row({"v": np.array([1.0, 0.0])}), same)
    np.testing.assert_array_equal(encoding.encode_row({"v": pl.Series([1.0, 0.0])}), same)


def test_an_object_column_is_encoded_value_by_value():
    encoding = fit_table_encoder(LEARNT, {"year": "number"})
    mixed = pl.DataFrame({"year": pl.Series([1990, "2020", {}], dtype=pl.Object)})
    assert encoding.encode(mixed).sum(axis=1).tolist() == [1, 1, 0]


def test_describe_tells_what_became_of_each_column():
    table = LEARNT.with_columns(asin=pl.Series(["B1", "B2", "B3", "B4"]), shop=pl.lit("x"))
    encoding = fit_table_encoder(table, KINDS | {"asin": "ignored", "shop": "ignored"}, text="words")
    assert encoding.describe() == [
        "year: number, 1990 to 2020",
        "genre: category, 2 values",
        "tags: categories by lists, 2 values",
        "v: vector of 2 numbers, less their mean",
        "day: date, 2000-01-01 to 2001-01-01",
        'about: text by "words", 256 columns',
        "asin: ignored, no two rows share a value",
        "shop: ignored, the same in every row",
    ]
    assert encoding.labels(LEARNT.row(1, named=True)) == [
        "year 2000", "genre Drama", "tags a", "tags b", "day 2001-01-01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": 1}', '{"format": 1, "text": null, "columns": [{"name": 1}]}']
)
def test_json_that_is_no_encoding_is_refused(text):
    with pytest.raises(ModelError, match=r"encoding: expected what TableEncoder\.to_json wrote"):
        TableEncoder.from_json(text)


def test_a_later_format_is_refused():
    with pytest.raises(ModelError, match=r"expected format 1, came 2. Update Segue"):
        TableEncoder.from_json('{"format": 2}')


def test_a_kind_for_a_column_that_is_not_there_is_refused():
    with pytest.raises(ColumnError, match=r'attributes: expected a column "b", found a. Call kinds_of'):
        fit_table_encoder(pl.DataFrame({"a": [1]}), {"b": "number"})


ITEMS = Vocabulary(pl.Series(["1", "2", "9"]))


def test_a_catalogue_keeps_every_column_a_line_for_what_the_log_alone_has_and_says_how_it_fits(tmp_path):
    path = tmp_path / "films.csv"
    path.write_bytes("movieId;title;genres;año\n1;Amélie;a|b;2001\n2;Été;a;x\n3;Nuit;b;\n;Lost;b;1\n".encode("latin-1"))
    catalogue = read_catalogue(path, ITEMS, reading=Reading(sep=";", encoding="latin-1"))
    assert catalogue.table.columns == ["item", "title", "genres", "año"]
    assert catalogue.table.row(2) == ("9", None, None, None)
    assert catalogue.title(1) == "Amélie"
    assert catalogue.notes == (
        "films.csv: 1 row without an item was left out.",
        "films.csv: 1 of 3 items has no event to learn from; 1 item of the log has no row.",
    )


def test_doubled_ids_are_refused_in_both_tables():
    with pytest.raises(ColumnError, match='expected one row per item, found item "1" more than once'):
        read_catalogue(pl.DataFrame({"item": ["1", "1"], "title": ["a", "b"]}), ITEMS)
    with pytest.raises(ColumnError, match=r'expected one row per user, found user "7" more than once. Remove'):
        read_profiles(pl.DataFrame({"user_id": [7, 7], "age": [1, 2]}))


def test_profiles_find_their_column_and_keep_the_rest():
    people = read_profiles(
        pd.DataFrame({"visitor_id": [7.0, None, 8.0], "age": [30, 40, None], "mix": [1, "a", ["b"]]})
    )
    assert people.of("7") == {"age": 30.0, "mix": ["1"]}
    assert people.of("nobody") == {}
    assert people.notes == ("table: 1 row without a user was left out.",)
    assert people.rows(["8", "x"])["user"].to_list() == ["8", "x"]
    with pytest.raises(ColumnError, match=r"expected a column of users, found age. Name it with user="):
        read_profiles(pl.DataFrame({"age": [1]}))
    with pytest.raises(ColumnError, match=r'expected a column "usr", found user, age. Did you mean "user"'):
        read_profiles(pl.DataFrame({"user": ["1"], "age": [1]}), user="usr")
    with pytest.raises(
        ColumnError, match=r'row 1: expected user ids as text or whole numbers below 2\*\*53, column "user" holds 1\.5'
    ):
        read_profiles(pl.DataFrame({"user": [1.5]}))


def test_columns_of_mixed_types_become_words():
    mixed = pl.Series("mix", [1, "a", 2.5, None], pl.Object)
    table, _, _ = read_items(pl.DataFrame({"id": [1, 2, 3, 4]}).with_columns(mixed))
    assert table["mix"].to_list() == ["1", "a", "2.5", None]


def test_unmatched_counts_both_ways():
    said = unmatched(pl.Series(["a", "b", "c"]), pl.Series(["c", "d", "e", "c"]), source="u.csv", role="user")
    assert said == "u.csv: 2 of 3 users have no event to learn from; 2 users of the log have no row."
