"""What honest logs hold, by each way in: ids, missing words, times, columns, separators, encodings.

Each case is one that was once read wrongly without a word.
"""

# ruff: noqa: E501

import gzip
import json
from datetime import date, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.api import describe_tables
from segue.cli.app import app
from segue.data.features.catalogue import read_items, read_profiles
from segue.data.features.kinds import kinds_of
from segue.data.log.columns import choose_columns
from segue.data.sequences.vocabulary import Vocabulary
from segue.data.values.times import TimeRule, microseconds
from segue.errors import ArgumentError, ColumnError, DataError, TimeParseError
from segue.serve.api.schemas import EventIn, RecommendIn, Time
from segue.serve.http.bodies import convert
from segue.serve.http.problems import Invalid
from tests_support import read_catalogue, small_recommender

NAN = float("nan")
TINY = {"model.width": 4, "train.epochs": 1}


def every_table(frame, folder):
    """Give a Polars table by every way in: Polars, lazy, Arrow, pandas, Parquet."""
    frame.write_parquet(folder / "t.parquet")
    return [frame, frame.lazy(), frame.to_arrow(), frame.to_pandas(), folder / "t.parquet"]


def every_file(rows, header, folder):
    """Give rows of texts as files: CSV, packed CSV, NDJSON, Parquet."""
    frame = pl.DataFrame(rows, schema=header, orient="row")
    frame.write_csv(folder / "t.csv")
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes()))
    frame.write_ndjson(folder / "t.ndjson")
    frame.write_parquet(folder / "t.parquet")
    return [folder / name for name in ("t.csv", "t.csv.gz", "t.ndjson", "t.parquet")]


def run_cli(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.output + str(done.exception or "")


def rows(events):
    return events.as_text().select("user", "item").rows()


@pytest.mark.parametrize("kind", [pl.Float32, pl.Float64])
def test_nan_is_no_id_whatever_the_table(tmp_path, kind):
    frame = pl.DataFrame({"user": [1, 2, 3], "item": pl.Series([17, NAN, 19], dtype=kind), "time": [1, 2, 3]})
    for source in every_table(frame, tmp_path):
        events = segue.read_events(source)
        assert rows(events) == [("1", "17"), ("3", "19")] and dict(events.intake.dropped) == {"no item": 1}
    for source in every_table(frame.select("item", price=pl.lit(5)), tmp_path):
        table, _, notes = read_items(source)
        assert table["item"].to_list() == ["17", "19"] and "1 row without an item was left out" in notes[0]


@pytest.mark.parametrize(("kind", "size"), [(pl.Float32, 2**24), (pl.Float64, 2**53)])
def test_floats_that_lost_digits_are_refused_and_decimals_are_whole_numbers(tmp_path, kind, size):
    frame = pl.DataFrame({"user": [1, 2], "item": pl.Series([7, size * 2], dtype=kind), "time": [1, 2]})
    for source in every_table(frame, tmp_path):
        with pytest.raises(ColumnError, match=r"row 2: expected item ids .* has lost the last digits"):
            segue.read_events(source)
    for source in every_table(frame.select("item"), tmp_path):
        with pytest.raises(ColumnError, match="has lost the last digits of such ids: read them anew"):
            read_items(source)
    with pytest.raises(ColumnError, match="has lost the last digits"):
        read_profiles(frame.select(user="item"))
    whole = pl.DataFrame({"user": ["a"], "item": pl.Series([17], dtype=pl.Decimal(38, 2)), "time": [1]})
    assert rows(segue.read_events(whole)) == [("a", "17")] and read_items(whole)[0]["item"].to_list() == ["17"]


def test_words_for_missing_are_named_or_left_out_and_blanks_around_ids_do_not_count(tmp_path):
    table = [("a", "NULL"), ("a", "\\N"), ("b", "nan"), ("b", " "), ("c", "x"), ("", "x"), ("c", "a "), (" c", "a")]
    table = [(*row, str(number)) for number, row in enumerate(table)]
    for source in every_file(table, ["user", "item", "time"], tmp_path):
        events = segue.read_events(source)
        assert dict(events.intake.dropped) == {"no user": 1, "no item": 1}
        assert rows(events)[-2:] == [("c", "a"), ("c", "a")] and ("a", "\\N") in rows(events)
        output = str(segue.inspect(events))
        assert '"NULL" in 1 row, "\\N" in 1 row, "nan" in 1 row' in output and "--missing 'NULL'" in output
        assert "item: 1 id had blanks around" in output and "user: 1 id had blanks around" in output
        clean = segue.read_events(source, missing=["NULL", "\\N", "nan"])
        assert rows(clean) == [("c", "x"), ("c", "a"), ("c", "a")] and clean.intake.dropped["no item"] == 4
        assert 'item: left out as missing: "NULL" in 1 row' in str(segue.inspect(clean))
        items, _, notes = read_items(source, reading=segue.Reading(missing=("NULL", "\\N", "nan", "x", "a")))
        assert not len(items) and "8 rows without an item were left out" in notes[0]
    code, output = run_cli("inspect", tmp_path / "t.csv", "--missing", "NULL,\\N", "--missing", "nan")
    assert code == 0 and "dropped      4: no item" in output
    with pytest.raises(ArgumentError, match="missing: expected a list"):
        segue.read_events(tmp_path / "t.csv", missing="NULL")


@pytest.mark.parametrize("word", ["nan", "NaT", "null"])
def test_a_word_in_place_of_a_time_says_how_to_leave_it_out(write, word):
    path = write(f"user,item,time\na,x,1700000000\na,y,{word}\n")
    with pytest.raises(
        TimeParseError, match=rf'row 2: time "{word}" is not a timestamp\..* give missing= \(--missing\)'
    ):
        segue.read_events(path)
    assert dict(segue.read_events(path, missing=[word]).intake.dropped) == {"no time": 1}


def test_words_for_missing_hold_in_all_columns(tmp_path):
    table = [("a", "x", "1", "4", "buy"), ("a", "y", "NaT", "-", "-"), ("b", "x", "3", "-", "view")]
    for source in every_file(table, ["user", "item", "time", "rating", "type"], tmp_path):
        with pytest.raises(TimeParseError, match=r'row 2: time "NaT" is not a timestamp.*give missing= \(--missing\)'):
            segue.read_events(source, rating="none")
        with pytest.raises(ColumnError, match=r'row 2: rating "-" is not a number.*give missing= \(--missing\)'):
            segue.read_events(source, missing=["NaT"])
        events = segue.read_events(source, missing=["NaT", "-"])
        assert events.table["rating"].to_list() == [4, None] and dict(events.intake.dropped) == {"no time": 1}


def test_single_ids_follow_the_rule_of_columns():
    known = Vocabulary(pl.Series(["007", "17", "17.5"]))
    assert [known.row(id) for id in ("007", " 17", 17, 17.0, np.float32(17), 17.5, "7", "17.0")] == [
        1,
        2,
        2,
        2,
        2,
        3,
        0,
        0,
    ]


def log_of(id, users=12):
    return pl.DataFrame(
        [(f"u{u}", id((u + j) % 8 + 10), 1_700_000_000 + 60 * j + u) for u in range(users) for j in range(4)],
        schema=["user", "item", "time"], orient="row",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("in_log", "in_table", "shown"),
    [
        (
            lambda n: f"{n}.0",
            str,
            r"\d\d\.0 in the log, \d\d in the catalogue\? Whole numbers became floats in the log",
        ),
        (
            str,
            lambda n: f"{n}.0",
            r"\d\d in the log, \d\d\.0 in the catalogue\? Whole numbers became floats in the cat",
        ),
        (lambda n: f"00{n}", str, r"00\d\d in the log, \d\d in the catalogue\? Zeros in front stand in the log alone"),
        (lambda n: f"B{n}", lambda n: f"b{n}", r"B\d\d in the log, b\d\d in the catalogue\? Capital letters"),
        (lambda n: f"film-{n}", str, r"film-\d\d in the log, \d\d in the catalogue\? The log has something in front"),
        (lambda n: f"x{n}y", str, r"x\d\dy in the log, \d\d in the catalogue\? Name the columns of ids"),
    ],
)
def test_a_catalogue_of_other_ids_stops_the_training(tmp_path, in_log, in_table, shown):
    log_of(in_log).write_csv(tmp_path / "log.csv")
    table = pl.DataFrame({"item": [in_table(n + 10) for n in range(8)], "genre": ["a", "b"] * 4})
    table.write_csv(tmp_path / "films.csv")
    events = segue.read_events(tmp_path / "log.csv")
    with pytest.raises(DataError, match=r"films.csv: expected items of log.csv, none of its 8 ids .*" + shown):
        segue.train(events, catalogue=tmp_path / "films.csv", config=TINY)


def test_profiles_of_other_ids_stop_training_and_measuring_and_new_items_under_old_names_are_refused():
    events = segue.read_events(log_of(str))
    people = pl.DataFrame({"user": [f"u{n}.0" for n in range(12)], "age": [20, 30] * 6})
    with pytest.raises(DataError, match="expected users of table, none of its 12 ids is in the log"):
        segue.train(events, users=people, config=TINY)
    films = pl.DataFrame({"item": [str(n + 10) for n in range(7)], "genre": ["a", "b"] * 3 + ["a"]})
    train, test = segue.split_last(events)
    lines = []
    rec = segue.train(train, catalogue=films, config=TINY, say=lines.append)
    assert any("0 of 7 items have no event to learn from; 1 item of the log has no row." in line for line in lines)
    with pytest.raises(DataError, match="none of its 12 ids is in the log"):
        segue.evaluate(rec, test, users=people)
    with pytest.raises(DataError, match=r"came (1\d)\.0 for \1: 7 of 7 items would be known twice"):
        rec.add_items(films.with_columns(item=pl.col("item") + ".0"))
    assert len(rec.add_items(films.with_columns(item="x" + pl.col("item"))).items) == len(rec.items) + 7


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (lambda n: f"{n}.0", r"(\w+) in the log, \1\.0 in the {0}\. Whole numbers became floats in the {0}"),
        (lambda n: f"0{n}", r"(\w+) in the log, 0\1 in the {0}\. Zeros in front stand in the {0} alone"),
    ],
)
def test_tables_of_which_some_ids_are_written_in_another_way_stop_the_training(other, shown):
    log = segue.read_events(log_of(str).with_columns(user=pl.col("user").str.strip_prefix("u")))
    written = [other(n) if n % 2 else str(n) for n in range(10, 18)]
    films = pl.DataFrame({"item": written, "genre": ["a", "b"] * 4})
    why = r"expected {} ids written as table has them, {} are written in another way: "
    with pytest.raises(DataError, match=why.format("item", "4 of 8") + shown.format("catalogue")):
        segue.train(log, catalogue=films, config=TINY)
    users = log.users.to_list()
    people = pl.DataFrame({"user": [other(u) if n % 2 else u for n, u in enumerate(users)], "age": range(len(users))})
    with pytest.raises(DataError, match=why.format("user", r"\d+ of 12") + shown.format("profiles")):
        describe_tables(log, users=people)
    both = pl.DataFrame(
        {"item": [str(n) for n in range(10, 18)] + [other(n) for n in range(10, 18)], "year": range(16)}
    )
    assert read_catalogue(both, Vocabulary(films["item"].filter(films["item"].str.len_chars() == 2))).notes


def test_a_log_of_which_a_model_knows_no_item_is_refused(tmp_path):
    rec = segue.train(segue.read_events(log_of(str)), config=TINY)
    rec.save(tmp_path / "b.segue")
    log_of(lambda n: f"{n}.0").write_csv(tmp_path / "log.csv")
    why = r"model: expected items of .*, none of its 8 ids is in the log: 1\d\.0 in the log, 1\d in the model\?"
    with pytest.raises(DataError, match=why):
        segue.evaluate(rec, segue.split_last(segue.read_events(tmp_path / "log.csv"))[1])
    for words in (("evaluate", "--in-sample"), ("recommend", "--user", "u1", "--events")):
        code, output = run_cli(words[0], tmp_path / "b.segue", *words[1:], tmp_path / "log.csv")
        assert code == 1 and "in the model? Whole numbers became floats in the log" in output


def test_ids_written_as_floats_are_noted(tmp_path):
    log_of(lambda n: f"{n}.0").write_csv(tmp_path / "log.csv")
    assert (
        "item: all ids are whole numbers written as floats, such as 10.0" in run_cli("inspect", tmp_path / "log.csv")[1]
    )


COLUMNS = [
    ("number", [*("-", "-", "call us"), *(f"{n}.5" for n in range(10, 37))]),
    ("number", [*("n/a" for _ in range(16)), *(f"{n}.5" for n in range(10, 24))]),
    ("date", [*("soon", "", "-"), *(f"2024-01-{n:02d}" for n in range(1, 28))]),
    ("vector", [*("-", "none"), *(f"[{n}, {n + 1}]" for n in range(28))]),
    ("category", [*("S", "M", "L") * 5, *("38", "40", "42") * 5]),
]


@pytest.mark.parametrize(("kind", "values"), COLUMNS)
def test_a_column_that_is_mostly_of_a_kind_is_of_that_kind(kind, values):
    assert kinds_of(pl.DataFrame({"c": values})) == {"c": kind}


def test_unreadable_values_of_items_users_and_context_are_reported_with_an_example():
    price = ["-", "-", *(f"{n}.5" for n in range(10, 16))]
    films = pl.DataFrame({"item": [str(n + 10) for n in range(8)], "price": price})
    people = pl.DataFrame(
        {"user": [f"u{n}" for n in range(12)], "born": ["?", *(f"19{n}-01-01" for n in range(60, 71))]}
    )
    log = log_of(str).with_columns(dwell=pl.Series(["oops", *(f"{n / 7:.2f}" for n in range(47))]))
    lines, events = [], segue.read_events(log, reading=segue.Reading(context=("dwell",)))
    rec = segue.train(events, catalogue=films, users=people, config=TINY, say=lines.append)
    whole = "\n".join(lines)
    assert (
        'column "price": expected number, 10.5 to 15.5, 2 of 8 values cannot be read so, the first is "-" of item 1'
        in whole
    )
    assert (
        'column "born": expected date, 1960-01-01 to 1970-01-01, 1 of 12 values cannot be read so, the first is "?"'
        in whole
    )
    assert '1 of 48 values cannot be read so, the first is "oops" of user u' in whole
    assert {"price", "born", "dwell"} <= {
        block.name for part in rec.encoders[:3] for block in part.columns if block.width
    }


def test_few_unreadable_ratings_are_missing_and_noted_and_many_are_an_error(write):
    lines = ["a,x,5,1", "a,y,good,2", "a,z,3,3", "b,x,4,4", "b,y,,5"]
    events = segue.read_events(write("user,item,rating,time\n" + "\n".join(lines)))
    assert events.table["rating"].to_list() == [5, None, 3, 4, None]
    note = 'rating: 1 of 4 values are no numbers, the first is "good" in row 2; they count as missing.'
    assert note in str(segue.inspect(events))
    with pytest.raises(ColumnError, match='row 2: rating "good" is not a number'):
        segue.read_events(write("user,item,rating,time\n" + "\n".join(lines[:3])))


DAYS = [
    ("20231231", "2023-12-31T00:00:00Z", "YYYYMMDD"),
    ("202312", "2023-12-01T00:00:00Z", "YYYYMM"),
    ("2023123123", "2023-12-31T23:00:00Z", "YYYYMMDDHH"),
    ("202312312359", "2023-12-31T23:59:00Z", "YYYYMMDDHHMM"),
    ("20231231235958", "2023-12-31T23:59:58Z", "YYYYMMDDHHMMSS"),
]


@pytest.mark.parametrize(("text", "moment", "form"), DAYS)
def test_dates_written_as_numbers_are_dates(tmp_path, text, moment, form):
    table = [("a", "x", text), ("b", "y", text)]
    numbers = pl.DataFrame(table, schema=["user", "item", "time"], orient="row")
    sources = [*every_file(table, ["user", "item", "time"], tmp_path)]
    sources += [numbers.with_columns(pl.col("time").cast(kind)) for kind in (pl.Int64, pl.Float64)]
    for source in sources:
        found = segue.inspect(segue.read_events(source)).to_dict()
        assert found["first"] == moment and f"dates written as numbers, {form}" in found["time"]
    if len(text) <= 8:
        counted = segue.read_events(sources[0], reading=segue.Reading(time_format="s"))
        assert counted.table["time"][0] == int(text) * 1_000_000


def test_a_number_that_is_no_date_among_dates_is_an_error(write):
    for others in ("20241399", "0"):
        with pytest.raises(
            TimeParseError, match=f'row 2: time "{others}" is not a date written as YYYYMMDD, as the others'
        ):
            segue.read_events(write(f"user,item,time\na,x,20240131\na,y,{others}\n"))


def test_years_are_refused_with_the_options_that_decide(write):
    path = write("user,item,time\na,x,2021\na,y,2022\n")
    with pytest.raises(TimeParseError, match=r'seems to hold years, such as 2021. Give --time-format "%Y" if'):
        segue.read_events(path)
    found = segue.inspect(segue.read_events(path, reading=segue.Reading(time_format="%Y")))
    assert found.to_dict()["first"] == "2021-01-01T00:00:00Z"
    assert segue.read_events(write("user,item,time\na,x,1\na,y,2021\n")).table["time"][0] == 1_000_000  # a clock from 0


@pytest.mark.parametrize(
    ("times", "row"),
    [
        (["1700000000000", "1700000060000", "1700000120", "1700000180000"], 3),
        (["1700000000", "1700000060", "1700000120000", "1700000180"], 3),
        (["1700000000000000", "1700000060000", "1700000120", "1700000180000000", "1700000180000001"], 3),
        (["1700000000.5", "1700000060.5", "1700000120000.5"], 3),
    ],
)
def test_times_of_two_units_are_refused(tmp_path, times, row):
    table = [("a", f"i{number}", time) for number, time in enumerate(times)]
    for source in every_file(table, ["user", "item", "time"], tmp_path):
        with pytest.raises(TimeParseError, match=rf"row {row}: time .*Write all times in one unit"):
            segue.read_events(source)
    plain = pl.DataFrame(table, schema=["user", "item", "time"], orient="row").with_columns(
        pl.col("time").cast(pl.Float64)
    )
    with pytest.raises(TimeParseError, match="Write all times in one unit"):
        segue.read_events(plain)


def test_a_given_unit_is_taken_and_other_units_are_noted(write):
    path = write("user,item,time\na,x,1700000000000\na,y,1700000120\n")
    output = str(segue.inspect(segue.read_events(path, reading=segue.Reading(time_format="ms"))))
    assert 'row 2: time "1700000120" differs from others by a factor of 1,000 or more' in output


def test_blanks_around_times_do_not_count_and_dates_are_detected_by_content(write):
    assert (
        segue.read_events(write("user,item,time\na,x, 1700000000\nb,y,1700000060 \n")).table["time"].is_not_null().all()
    )
    assert segue.read_events(write("user,item,time\na,x, 2024-01-31\n")).table["time"][0] == 1_706_659_200_000_000
    assert segue.read_events(write("t_dat,customer_id,article_id\n2018-09-20,a,x\n")).intake.columns["time"] == "t_dat"


GOOD = [
    (1.5, 1_500_000), (np.int64(5), 5_000_000), (" 60", 60_000_000), ("2024-01-31", 1_706_659_200_000_000),
    ("20240131", 1_706_659_200_000_000), (date(2024, 1, 31), 1_706_659_200_000_000),
    (np.datetime64("2024-01-31"), 1_706_659_200_000_000), (pd.Timestamp("2024-01-31", tz="UTC"), 1_706_659_200_000_000),
    (datetime(9999, 12, 31, 23, 59, 59, 999_999), 253_402_300_799_999_999), (-62_135_596_800, -62_135_596_800_000_000),
]  # fmt: skip
BAD = [
    (1_700_000_000_000, "count milliseconds: divide it by 1,000"), (1.7e18, "count nanoseconds"), (1e300, "year 1 to year 9999"),
    (-10**13, "year 1 to year 9999"), (20240131, "write a date as YYYYMMDD"), (20240131120000, "write a date as YYYYMMDDHHMMSS"),
    (NAN, "came nan"), (float("inf"), "came inf"), (True, "came True"), (pd.NaT, "came NaT"), (np.datetime64("NaT"), "NaT"),
    ("NaT", "came 'NaT'"), ("soon", "came 'soon'"), ("2024", "a year or month"), (b"5", "came b'5'"), ([5], r"came \[5\]"),
]  # fmt: skip


def test_one_reader_of_times_is_behind_python_http_and_the_command_line(tmp_path):
    rec = small_recommender()
    rec.save(tmp_path / "b.segue")
    for value, expected in GOOD:
        assert microseconds(value) == expected
        assert rec.observe(rec.start(), "001", time=value).time == expected
        if isinstance(value, int | float | str):
            event = convert({"user": "u", "item": "i", "time": value}, EventIn, "body")
            assert event.time.micros == convert({"user": "u", "at": value}, RecommendIn, "body").at.micros == expected
    for value, why in BAD:
        for call in (
            lambda at: rec.observe(rec.start(), "001", time=at),
            lambda at: rec.recommend(rec.start(), at=at),
            lambda at: rec.plan(rec.start(), 2, at=at),
            lambda at: rec.score(rec.start(), at=at),
            microseconds,
            Time.read,
        ):
            with pytest.raises(ValueError, match=why):
                call(value)
        if isinstance(value, int | float | str):
            with pytest.raises(Invalid, match=r"body\.at: expected"):
                convert({"user": "u", "at": value}, RecommendIn, "body")
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            asked = ("recommend", tmp_path / "b.segue", "--history", "001", "--at")
            if value != 20240131:  # as a text this is the short form of ISO 8601
                code, output = run_cli(*asked, value)
                assert code == 1 and "--at: expected seconds since 1970" in output
    assert run_cli("recommend", tmp_path / "b.segue", "--history", "001", "--at", "20240131")[0] == 0


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-12:00"])
def test_a_zone_moves_no_time_beyond_the_years_that_there_are(text):
    for value in (text, datetime.fromisoformat(text)):
        with pytest.raises(ArgumentError, match=r"time: .* from year 1 to year 9999 in UTC, came .*Leave it out"):
            microseconds(value)
    with pytest.raises(Invalid, match=r"body.time: .* from year 1 to year 9999"):
        convert({"user": "u", "item": "i", "time": text}, EventIn, "body")
    column = pl.Series([text, "1970-01-01T00:00:01+00:00"])
    assert pl.select(TimeRule.guess(column).microseconds(pl.lit(column))).to_series().to_list() == [None, 1_000_000]


def test_a_list_of_ids_may_be_a_list_that_was_recommended_and_has_no_holes():
    rec = small_recommender()
    state = rec.start()
    shown = rec.recommend(state, k=4)
    assert not {x.item for x in shown} & {x.item for x in rec.recommend(state, k=20, exclude=shown)}
    assert not {x.item for x in shown} & {x.item for x in rec.plan(state, 2, exclude=shown).items}
    assert rec.observe(state, shown[0]).seen.to_rows().tolist() == [rec.vocabulary.row(shown[0].item)]
    frame = pl.DataFrame({"item": ["001"]})
    for wrong in ([None], ["001", NAN], [pd.NA], np.array([NAN]), frame, frame.to_pandas(), shown[0]):
        for call in (rec.recommend, rec.plan):
            with pytest.raises(ArgumentError, match="exclude: expected a list of ids, came"):
                call(state, 2, exclude=wrong)


def test_a_table_given_directly_has_times_in_microseconds():
    table = pl.DataFrame({"user": ["a"], "item": ["x"], "time": [1_700_000_000_000_000_000]})
    with pytest.raises(DataError, match=r"expected times in microseconds .* from year 1 to year 9999"):
        segue.Events(table)


def test_counts_and_lists_of_ids_are_what_they_say():
    rec = small_recommender()
    state = rec.start()
    for k in (2.0, True, "3", 0, None):
        for call in (rec.recommend, rec.plan):
            with pytest.raises(ArgumentError, match=r"expected . from 1, a whole number, came"):
                call(state, k)
        with pytest.raises(ArgumentError, match="expected k from 1, a whole number"):
            rec.similar("001", k)
    assert len(rec.recommend(state, np.int64(2))) == 2
    for call in (rec.recommend, rec.plan):
        with pytest.raises(
            ArgumentError, match=r"exclude: expected a list of ids, came '10'. Put it in a list: \['10'\]"
        ):
            call(state, exclude="10")
    with pytest.raises(ArgumentError, match="items: expected a list of ids, came '001'"):
        rec.observe_all(state, "001")
    with pytest.raises(ArgumentError, match="context: expected a list"):
        segue.Reading(context="device")


@pytest.mark.parametrize("id", [" ", "\t", ""])
def test_blanks_are_no_id_over_http(id):
    for body in ({"user": id, "item": "x"}, {"user": "u", "item": id}):
        with pytest.raises(Invalid, match=r"body\.(user|item): expected"):
            convert(body, EventIn, "body")


NAMES = [
    ("user_id,session_id,session_start,click_article_id,click_timestamp", "user_id click_article_id click_timestamp"),
    ("session_id,click_article_id,click_timestamp", "session_id click_article_id click_timestamp"),
    ("customerNumber,productCode,orderDate,price", "customerNumber productCode orderDate"),
    ("listener_uuid,played_track_id,played_at_ms,track_name", "listener_uuid played_track_id played_at_ms"),
    ("visitor,sku_nr,category_id,event_datetime", "visitor sku_nr event_datetime"),
    ("buyer_id,listing_key,dwell_time,created_at,release_date", "buyer_id listing_key created_at"),
    ("clicked_item,click_user_id,session_id,ts_utc", "click_user_id clicked_item ts_utc"),
    ("reader_id,book_title,book_isbn,read_on,epoch_s", "reader_id book_isbn epoch_s"),
]


@pytest.mark.parametrize(("head", "chosen"), NAMES)
def test_columns_are_guessed_by_the_words_of_their_names(head, chosen):
    assert " ".join(choose_columns(head.split(","), {}, source="log").columns.values()) == chosen


def test_other_columns_that_could_be_meant_are_noted_and_all_missing_roles_named_at_once(write):
    path = write("user_id,session_id,movie_id,book_id,time\na,s,x,y,1\n")
    output = str(segue.inspect(segue.read_events(path)))
    assert "user: user_id was taken, session_id could be meant too; user= (--user-col) names another." in output
    assert "item: movie_id was taken, book_id could be meant too" in output
    with pytest.raises(
        ColumnError, match=r"names? the user and the item, found q, w, time. Give user= .*, item= \(--item-col\)\."
    ):
        segue.read_events(write("q,w,time\n1,2,3\n"))


TEXT = "user;item;time\nann;Käse;1700000000\nbob;Brot;1700000060\n"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (TEXT.encode(), "separated by semicolon"),
        (TEXT.replace(";", "\t").encode(), "separated by tab"),
        (TEXT.replace(";", "|").encode("utf-8-sig"), "separated by vertical bar"),
        (TEXT.replace(";", ",").encode("latin-1"), "latin-1 (guessed: the bytes are not UTF-8"),
        (TEXT.encode("utf-16"), "UTF-16, as the mark at its beginning says; columns separated by semicolon"),
        (TEXT.replace(";", ",").encode("utf-16-be"), "UTF-16-BE (guessed)"),
        (TEXT.replace(";", ",").encode("utf-8-sig"), ""),
    ],
)
def test_separator_and_encoding_are_detected_in_each_file(write, content, note):
    for name, bytes_ in (("log.csv", content), ("log.csv.gz", gzip.compress(content))):
        events = segue.read_events(write(bytes_, name))
        assert rows(events) == [("ann", "Käse"), ("bob", "Brot")]
        assert note in str(segue.inspect(events)) and bool(note) == bool(events.intake.notes)
    text = content.replace(b"\0", b"") and content
    table, _, notes = read_items(write(text, "items.csv"))
    assert sorted(table["item"].to_list()) == ["Brot", "Käse"] and note in " ".join(notes)


def test_a_mark_before_ndjson_does_not_count(write):
    line = '{"user": "a", "item": "é", "time": 1}\n'
    for encoding in ("utf-8-sig", "utf-16", "latin-1"):
        assert rows(segue.read_events(write(line.encode(encoding), "log.ndjson"))) == [("a", "é")]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A folder with a log whose columns cannot be guessed, and a model of it."""
    folder = tmp_path_factory.mktemp("odd")
    lines = [f"{u}^{i}^{1000 * t}^{'tv' if t % 2 else 'pc'}^NULL" for u, i, t in log_of(str).iter_rows()]
    (folder / "log.txt").write_text("who^what^wann^how^stars\n" + "\n".join(lines) + "\nNULL^10^1700000000000^tv^3\n")
    (folder / "other.csv").write_text("user,item,time\nu1,11,1700000000\nu1,12,1700000060\n")
    options = ["--sep", "^", "--user-col", "who", "--item-col", "what", "--time-col", "wann", "--rating-col", "none"]
    options += ["--time-format", "ms", "--context-col", "how", "--missing", "NULL", "--hold-out", "last:1"]
    code, output = run_cli("train", folder / "log.txt", "-o", folder / "b.segue", *options, "--set", "model.width=4",
                      "--set", "train.epochs=1", "--log", folder / "run.jsonl")  # fmt: skip
    assert code == 0, output
    return folder


def test_a_model_remembers_how_its_log_was_read(odd):
    kept = segue.load(odd / "b.segue").facts["reading"]
    assert kept["columns"] == {"user": "who", "item": "what", "time": "wann", "rating": "none"}
    assert kept | {"columns": 0} == {
        "columns": 0,
        "context": ["how"],
        "time_format": "ms",
        "sep": "^",
        "missing": ["NULL"],
    }
    (epoch,) = [json.loads(line) for line in (odd / "run.jsonl").read_text().splitlines()]
    assert epoch["epoch"] == 1 and epoch["loss"] > 0 and "ndcg@10" in epoch
    model, log = odd / "b.segue", odd / "log.txt"
    for words in (
        ("evaluate", model, log),
        ("recommend", model, "--user", "u1", "--events", log),
        ("recommend", model, "--all", "--events", log, "-o", odd / "lists.parquet"),
        ("insight", model, "--events", log, "--user", "u1", "-o", odd / "insights"),
    ):
        code, output = run_cli(*words)
        assert code == 0, output
    events = segue.read_events(log, like=kept)
    assert list(events.table.columns) == ["user", "item", "time", "how"] and len(events) == 48
    code, output = run_cli("recommend", model, "--user", "u1", "--events", log, "--item-col", "nothing")
    assert code == 1 and 'expected a column "nothing"' in output


def test_a_log_in_another_form_is_read_as_it_is(odd):
    code, output = run_cli("recommend", odd / "b.segue", "--user", "u1", "--events", odd / "other.csv")
    assert code == 0 and "context: other.csv has no column how, it is unknown." in output, output
    kept = segue.load(odd / "b.segue").facts["reading"]
    for like in (kept, kept | {"header": False, "columns": {"user": "1", "item": "2", "time": "3"}}):
        events = segue.read_events(odd / "other.csv", like=like)
        assert rows(events) == [("u1", "11"), ("u1", "12")] and events.table["time"][0] == 1_700_000_000_000_000


def test_the_separator_of_the_log_is_not_that_of_the_catalogue(odd, tmp_path):
    (tmp_path / "films.csv").write_text("what;genre\n" + "\n".join(f"{n + 10};{'ab'[n % 2]}" for n in range(8)))
    options = ["--sep", "^", "--user-col", "who", "--item-col", "what", "--time-col", "wann", "--missing", "NULL"]
    code, output = run_cli("train", odd / "log.txt", "-o", tmp_path / "b.segue", "--items", tmp_path / "films.csv", *options,
                      "--set", "model.width=4", "--set", "train.epochs=1")  # fmt: skip
    assert (
        code == 0 and "genre: category, 2" in output and "films.csv is read as columns separated by semicolon" in output
    )
