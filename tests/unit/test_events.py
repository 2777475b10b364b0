"""Reading: each form a log may have, and each message, word for word."""
# ruff: noqa: E501

import gzip
import json
import re
from datetime import UTC, datetime

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from segue.data.log.columns import choose_columns
from segue.data.log.events import Events, Reading, inspect, read_events
from segue.data.values.times import TimeRule
from segue.errors import ArgumentError, ColumnError, DataError, SegueError, TimeParseError

LOG = b"user,item,time\n7,x,1700000000\n8,y,1700000060\n"
MICROS = 1_700_000_000_000_000


def zst(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def ids(events):
    return events.as_text().select("user", "item").rows()


def ndjson(*rows):
    return "\n".join(json.dumps(row) for row in rows).encode()


NDJSON = ndjson({"user": 7, "item": "x", "time": 1700000000}, {"user": 8, "item": "y", "time": 1700000060})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", LOG),
        ("a.csv", b"\xef\xbb\xbf" + LOG.replace(b"\n", b"\r\n")),
        ("a.tsv", LOG.replace(b",", b"\t")),
        ("a.inter", LOG.replace(b",", b"\t").replace(b"user\t", b"user_id:token\t").replace(b"time", b"t:float", 1)),
        ("a.csv.gz", gzip.compress(LOG, mtime=0)),
        ("a.tsv.zst", zst(LOG.replace(b",", b"\t"))),
        ("a.csv.zst", zst(LOG)),
        ("a.ndjson", NDJSON),
        ("a.jsonl.gz", gzip.compress(NDJSON, mtime=0)),
        ("a.ndjson.zst", zst(NDJSON)),
    ],
)
def test_every_kind_of_file_gives_the_same_events(write, name, content):
    time = "t" if name == "a.inter" else None
    events = read_events(write(content, name), time=time)
    assert ids(events) == [("7", "x"), ("8", "y")]
    assert events.table["time"].to_list() == [MICROS, MICROS + 60_000_000]


def test_parquet_and_arrow_keep_64_bit_ids(tmp_path):
    table = pl.DataFrame({"user": [2**63 - 1, 9007199254740993], "item": ["a", "b"], "time": [1, 2]})
    table.write_parquet(tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", table, table.lazy(), table.to_arrow()):
        assert ids(read_events(source)) == [("9223372036854775807", "a"), ("9007199254740993", "b")]


def test_ndjson_ids_of_both_types_stay_what_they_were(write):
    path = write(
        ndjson({"user": "007", "item": 9007199254740993, "time": 1}, {"user": 7, "item": "x", "time": 2}), "a.ndjson"
    )
    assert ids(read_events(path)) == [("007", "9007199254740993"), ("7", "x")]
    late = [{"user": 2**64 - 1, "item": 1, "time": 1}] * 200 + [{"user": "007", "item": 1, "time": 2, "rating": 3.5}]
    events = read_events(write(ndjson(*late), "a.ndjson"))
    assert events.users.to_list() == ["18446744073709551615", "007"]
    assert events.table["rating"].to_list()[-1] == 3.5


def test_an_empty_text_is_no_id(write):
    events = read_events(pl.DataFrame({"user": ["", "b", "c"], "item": ["x", "y", ""], "time": [1, 2, 3]}))
    assert ids(events) == ids(read_events(write('user,item,time\n"",x,1\nb,y,2\nc,"",3\n'))) == [("b", "y")]
    assert dict(events.intake.dropped) == {"no user": 1, "no item": 1}


def test_pandas_floats_made_of_integers_with_gaps_are_whole_numbers_again():
    frame = pd.DataFrame({"user": [17, None, 3], "item": ["a", "b", "c"], "time": [1, 2, 3]})
    events = read_events(frame)
    assert ids(events) == [("17", "a"), ("3", "c")]
    assert dict(events.intake.dropped) == {"no user": 1}


HEADS = [
    ("userId,movieId,rating,timestamp", "userId movieId timestamp rating"),
    ("timestamp,visitorid,event,itemid,transactionid", "visitorid itemid timestamp event"),
    (
        "user_id:token,item_id:token,rating:float,timestamp:float",
        "user_id:token item_id:token timestamp:float rating:float",
    ),
    ("reviewerID,asin,overall,unixReviewTime,reviewTime", "reviewerID asin unixReviewTime overall"),
    ("event_time,event_type,product_id,user_id,user_session", "user_id product_id event_time event_type"),
    ("userId,user_id,item,time", "userId item time"),
    ("session_id,user_id,item,event_id,date", "user_id item date event_id"),
]


@pytest.mark.parametrize(("head", "chosen"), HEADS)
def test_columns_are_guessed_from_usual_headers(head, chosen):
    assert " ".join(choose_columns(head.split(","), {}, source="log").columns.values()) == chosen


def test_a_named_column_goes_before_the_guess_and_none_leaves_a_role_out():
    names = ["user", "item", "time", "rating", "ts"]
    asked = {"time": "ts", "rating": "none"}
    assert choose_columns(names, asked, source="log").columns == {"user": "user", "item": "item", "time": "ts"}


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        ("1 5 4.5 964982703", {"user": "1", "item": "2", "time": "4", "rating": "3"}),
        ("1 5 964982703", {"user": "1", "item": "2", "time": "3"}),
        ("1 5 964982703 3", {"user": "1", "item": "2", "time": "3", "rating": "4"}),
        ("1 5 2020-02-02", {"user": "1", "item": "2", "time": "3"}),
    ],
)
def test_a_file_without_header_is_read_by_position(write, lines, columns):
    events = read_events(write(lines + "\n", "bare.txt"), reading=Reading(header=False, sep=" "))
    assert dict(events.intake.columns) == columns
    assert ids(events) == [("1", "5")]


@pytest.mark.parametrize("line", ["1 5\n", "1 5 3\n"])
def test_a_bare_file_without_times_asks_for_time_col_none(write, line):
    path, reading = write(line, "bare.txt"), Reading(header=False, sep=" ")
    with pytest.raises(ColumnError, match="--time-col none"):
        read_events(path, reading=reading)
    assert not read_events(path, reading=reading, time="none").has_times


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1700000000", MICROS),
        ("1700000000123", MICROS + 123_000),
        ("1700000000123456", MICROS + 123_456),
        ("1700000000123456789", MICROS + 123_456),
        ("1700000000.25", MICROS + 250_000),
        ("1.7e9", MICROS),
        ("-1", -1_000_000),
        ("2023-11-14T22:13:20Z", MICROS),
        ("2023-11-15T00:13:20+02:00", MICROS),
        ("2023-11-15 00:13:20.5+0200", MICROS + 500_000),
        ("2023-11-14 22:13:20 UTC", MICROS),
        ("2023-11-14T22:13", MICROS - 20_000_000),
        ("2023-11-14", MICROS - (22 * 3600 + 13 * 60 + 20) * 1_000_000),
    ],
)
def test_every_form_of_time(write, text, micros):
    path = write(f"user,item,time\na,x,{text}\n")
    assert read_events(path).table["time"].to_list() == [micros]


def test_a_form_that_is_not_in_the_first_rows_is_read_all_the_same(write):
    rows = ["a,x,1700000000"] * 1500 + ["b,y,1700000000.5"]
    assert read_events(write("user,item,time\n" + "\n".join(rows))).table["time"][-1] == MICROS + 500_000
    rows = ["a,x,2023-11-14T22:13:20Z"] * 1500 + ["b,y,2023-11-14 22:13:21"]
    assert read_events(write("user,item,time\n" + "\n".join(rows))).table["time"][-1] == MICROS + 1_000_000


def test_date_columns_of_tables_are_utc():
    moment = datetime(2023, 11, 14, 22, 13, 20)
    table = pl.DataFrame({"user": ["a"], "item": ["x"], "when": [moment]})
    here = table.with_columns(pl.col("when").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"))
    nano = table.with_columns(pl.col("when").cast(pl.Datetime("ns")))
    for each in (table, here, nano, here.to_pandas()):
        assert read_events(each).table["time"].to_list() == [MICROS]
    assert read_events(table.with_columns(pl.col("when").dt.date())).table["time"][0] == 1_699_920_000_000_000


def test_a_unit_or_format_that_was_given_is_not_questioned(write):
    path = write("user,item,time\na,x,20231114\n")
    by_format = read_events(path, reading=Reading(time_format="%Y%m%d"))
    assert by_format.table["time"].to_list() == [1_699_920_000_000_000]
    by_unit = read_events(path, reading=Reading(time_format="ms"))
    assert by_unit.table["time"].to_list() == [20231114_000]
    assert by_unit.intake.time == "epoch milliseconds"


@pytest.mark.parametrize(("size", "unit"), [(10**10, "seconds"), (10**12, "milliseconds"), (10**15, "microseconds")])
def test_the_unit_is_guessed_by_magnitude(size, unit):
    assert TimeRule.guess(pl.Series([size])).unit == unit


MESSAGES = [
    ("nothing.csv", None, {}, DataError, "nothing.csv: expected a file to read, found no such file. Check the path"),
    ("clicks.csv", "", {}, DataError, "clicks.csv: expected rows of events, the file is empty (0 bytes). Check its export."),
    ("clicks.csv", "user,item,time\n", {}, DataError, "it has a header but no rows. Check its export."),
    ("clicks.csv", "user,item\na,x\n", {}, ColumnError, 'expected a column that names the time, found user, item. '
     'Give time= (--time-col), or --time-col none (time="none") if the order of the rows is the order.'),
    ("clicks.csv", "who,item,time\na,x,1\n", {}, ColumnError,
     "clicks.csv: expected a column that names the user, found who, item, time. Give user= (--user-col)."),
    ("clicks.csv", "user,what,time\na,x,1\n", {}, ColumnError, "names the item, found user, what, time. Give item= (--item-col)."),
    ("clicks.csv", "who,what\na,x\n", {}, ColumnError, 'clicks.csv: expected columns that name the user and the item and '
     'the time, found who, what. Give user= (--user-col), item= (--item-col), time= (--time-col), or --time-col none'),
    ("clicks.csv", "user^item^time\na^x^1\n", {}, ColumnError, "One column only: is the separator another? Give sep= (--sep)."),
    ("clicks.csv", "user,item,time\na,x,1\n", {"item": "itm"}, ColumnError,
     'clicks.csv: expected a column "itm", found user, item, time. Did you mean "item"?'),
    ("clicks.csv", "user,item,time\na,x,1\n", {"rating": "q"}, ColumnError, "Give rating= (--rating-col) one of these."),
    ("clicks.csv", "user,item,time\na,x,1\n", {"reading": Reading(context=("shop",))}, ColumnError,
     'expected a column "shop", found user, item, time. Give context= (--context-col) one of these.'),
    ("clicks.csv", "user,item,time\na,x,1\n", {"item": "user"}, ColumnError,
     'column "user" was named for both item and user. Give user= (--user-col) another column.'),
    ("clicks.csv", "user,item,time,item\na,x,1,y\n", {}, ColumnError,
     'expected one column "item" for the item, the header has it more than once. Rename one of them.'),
    ("clicks.csv", "user,item,time\n" + "a,x,1700000000\n" * 18203 + "a,x,yesterday\n", {}, TimeParseError,
     'clicks.csv, row 18,204: time "yesterday" is not a timestamp. Give --time-format, or ISO 8601, or epoch seconds.'),
    ("clicks.csv", "user,item,time\na,x,\nb,y,yesterday\nc,z,3\n", {}, TimeParseError, 'row 2: time "yesterday"'),
    ("clicks.csv", "user,item,time\n" + "a,x,1700000000\n" * 2 + "a,x,1700000000000\n", {}, TimeParseError, 'row 3: time "1700000000000"'),
    ("clicks.csv", "user,item,time\na,x,1.1.2020\n", {"reading": Reading(time_format="%d/%m/%Y")}, TimeParseError,
     'row 1: time "1.1.2020" is not a timestamp written as "%d/%m/%Y". Give another --time-format.'),
    ("clicks.csv", "user,item,rating,time\na,x,4.5,1\na,y,good,2\n", {}, ColumnError,
     'clicks.csv, row 2: rating "good" is not a number. Correct it'),
    ("clicks.csv", "user,item,time\n,x,1\na,,2\n", {}, DataError,
     "every row was left out (1 with no user, 1 with no item). Check the columns: user = user, item = item, time = time."),
    ("clicks.xlsx", "PK", {}, DataError, 'clicks.xlsx: expected CSV, TSV, Parquet or NDJSON'),
    ("clicks.csv.gz", gzip.compress(LOG * 9, mtime=0)[:-12], {}, DataError,
     "clicks.csv.gz: expected a whole .gz file, it is damaged or cut short. Copy or download it again."),
    ("clicks.csv.zst", zst(LOG)[:-9], {}, DataError, "expected a whole .zst file, it is damaged or cut short"),
    ("clicks.csv", "user,item,time\nä,ö,2\n".encode() + "é,x,1\n".encode("latin-1"), {}, DataError,
     'clicks.csv: expected text in UTF-8, byte 0xE9 in line 3 is not. Give its encoding, for example encoding="latin-1"'),
    ("clicks.csv", "user,item,time\na,x,1\na,x,y,2\n", {}, DataError,
     "clicks.csv, line 3: expected 3 values as in the first line, came 4. Put a value that contains the separator"),
    ("clicks.csv", 'user,item,time\na,"x,1\nb,y,2\n', {}, DataError, "expected each double quote to be closed"),
    ("clicks.parquet", "PAR", {}, DataError, "clicks.parquet: expected a file of its kind, the reader says"),
    ("clicks.ndjson", '{"user": \n', {}, DataError, "clicks.ndjson: expected a file of its kind, the reader says"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "options", "error", "said"), MESSAGES)
def test_bad_files_are_refused_in_four_parts(tmp_path, write, name, content, options, error, said):
    path = tmp_path / name if content is None else write(content, name)
    with pytest.raises(error, match=re.escape(said)):
        read_events(path, **options)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"user": [1.5, 2.0]}, 'table, row 1: expected user ids as text or whole numbers below 2**53, column "user" holds 1.5'),
        ({"user": [[1], [2]]}, 'expected user ids as text or whole numbers, column "user" has type List(Int64)'),
        ({"time": [True, False]}, 'expected times as numbers, text or dates, column "time" has type Boolean'),
        ({"rating": ["a", "b"]}, 'table, row 1: rating "a" is not a number'),
    ],
)  # fmt: skip
def test_tables_with_wrong_types_are_refused(columns, said):
    table = pl.DataFrame({"user": [1, 2], "item": [3, 4], "time": [5, 6]} | columns)
    with pytest.raises(ColumnError, match=re.escape(said)):
        read_events(table)


def test_tables_of_mixed_ids_and_things_that_are_no_tables_are_refused():
    with pytest.raises(DataError, match=r"pandas says.*astype\(str\)"):
        read_events(pd.DataFrame({"user": [1, "a"], "item": [1, 2], "time": [1, 2]}))
    with pytest.raises(ArgumentError, match="expected a path or a Polars, pandas or Arrow table, came dict"):
        read_events({"user": [1]})


def test_settings_of_reading_are_checked_when_they_are_given():
    with pytest.raises(ArgumentError, match=r'sep \(--sep\): expected one ASCII character, came "::"'):
        Reading(sep="::")
    with pytest.raises(ArgumentError, match='expected a name that Python knows, came "latin-99"'):
        Reading(encoding="latin-99")


def test_another_encoding_is_read_when_it_is_named(write):
    text = "user,item,time\né,x,1\n"
    for name, content in (("a.csv", text.encode("latin-1")), ("a.csv.gz", gzip.compress(text.encode("latin-1")))):
        assert ids(read_events(write(content, name), reading=Reading(encoding="latin-1"))) == [("é", "x")]
    with pytest.raises(DataError, match="expected text in ascii, byte 15 is not"):
        read_events(write(text), reading=Reading(encoding="ascii"))


def test_optional_columns_have_their_types_and_context_is_read_on_request(write):
    path = write("user,item,time,rating,type,event_id,shop\na,x,1,4.5,view,e1,5\nb,y,2,,buy,e2,6\n")
    table = read_events(path, reading=Reading(context=("shop",))).table
    assert table.drop("user", "item").to_dict(as_series=False) == {
        "time": [1_000_000, 2_000_000], "rating": [4.5, None], "type": ["view", "buy"], "id": ["e1", "e2"],
        "shop": ["5", "6"],
    }  # fmt: skip
    assert table.schema["rating"] == pl.Float32
    assert "shop" not in read_events(path).table.columns
    with pytest.raises(ColumnError, match='"type" is the name of a role'):
        read_events(path, reading=Reading(context=("type",)))


def test_findings_say_all_that_was_seen_and_done(write):
    lines = ["a,x,5,1", "a,x,5,1", "a,y,5,2", "b,x,1,", ",x,1,3", "b,x,,3", "b,z,9,4", "b,x,9,4"]
    found = inspect(read_events(write("user,item,ts,rating\n" + "\n".join(lines))))
    assert found.to_dict() == {
        "source": "clicks.csv", "rows": 8, "dropped": {"no user": 1, "no time": 1}, "events": 6, "users": 2,
        "items": 3, "first": "1970-01-01T00:00:01Z", "last": "1970-01-01T00:00:09Z", "equal_times": 5,
        "duplicates": 1, "out_of_order": 1, "repeats": 2, "repeat_share": 2 / 6,
        "ratings": "1 to 4, 3 steps, mean 2.4: predicted beside the next item",
        "missing": {"user": 0, "item": 0, "time": 0, "rating": 1},
        "events_per_user": {"min": 3, "25%": 3, "median": 3, "75%": 3, "max": 3},
        "columns": {"user": "user", "item": "item", "time": "ts", "rating": "rating"},
        "guessed": ["user", "item", "time", "rating"], "time": "epoch seconds (guessed by magnitude)",
        "order": "by time; rows of equal time stay in the order of the file", "notes": [],
    }  # fmt: skip
    json.dumps(found.to_dict())
    for line in (
        "source       clicks.csv",
        "columns      user = user (guessed)",
        "             time = ts (guessed)",
        "dropped      1: no user",
        "repeats      2 (33.3%) an item that the user has an earlier event with",
        "out of order 1 rows earlier than a row above them",
        "missing      1 without rating",
    ):
        assert line in str(found).splitlines()


def test_late_rows_are_counted_across_blocks():
    rows = (1 << 20) + 5
    table = pl.select(user=pl.repeat("a", rows), item=pl.repeat("x", rows), time=pl.int_range(rows) - 9)
    late = table.with_columns(time=pl.when(pl.int_range(rows) > 0).then("time").otherwise(10**9))
    assert read_events(late).intake.out_of_order == rows - 1


def test_a_log_without_times_says_so():
    events = read_events(pl.DataFrame({"user": ["b", "a"], "item": ["x", "y"]}), time="none")
    assert "order        the order of the rows: the log has no times" in str(inspect(events)).splitlines()
    assert repr(events) == "Events(table: 2 events, no times)"


def test_a_table_given_directly_is_checked():
    good = {"user": ["a", "b"], "item": ["x", "y"], "time": [1, 2]}
    assert len(Events(pl.DataFrame(good))) == 2
    for change, said in (
        ({"user": [1, 2]}, "expected user as Categorical or String without nulls, came Int64 with 0 nulls"),
        ({"item": ["x", None]}, "expected item as Categorical or String without nulls, came String with 1 nulls"),
        ({"time": [2, 1]}, "expected rows in the order of time"),
        ({"time": [1.0, 2.0]}, "expected time as Int64 without nulls, came Float64"),
    ):
        with pytest.raises(SegueError, match=said):
            Events(pl.DataFrame(good | change))


def test_times_are_written_in_iso():
    events = read_events(pl.DataFrame({"user": ["a"], "item": ["x"], "time": [datetime(2020, 1, 2, tzinfo=UTC)]}))
    assert repr(events) == "Events(table: 1 events, 2020-01-02T00:00:00Z to 2020-01-02T00:00:00Z)"
