"""Logs as people have them: read as they stand, or refused in words that help."""

import gzip

import pandas as pd
import polars as pl
import pytest

import segue
from segue.data.sequences.sequences import encode, gaps, item_vocabulary
from segue.errors import ColumnError, DataError, SegueError, TimeParseError


def rows(events):
    return events.table.select(pl.col("user", "item").cast(pl.String)).rows()


def test_ids_stay_text(write):
    log = write('userId,sku,ts\n007,"a,b",1700000000\n9223372036854775807,ünï,1700000001\n')
    assert rows(segue.read_events(log)) == [("007", "a,b"), ("9223372036854775807", "ünï")]


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1700000000", 1_700_000_000_000_000),
        ("1700000000000", 1_700_000_000_000_000),
        ("1700000000.5", 1_700_000_000_500_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000),
        ("2023-11-14 22:13:20", 1_700_000_000_000_000),
        ("2023-11-14", 1_699_920_000_000_000),
    ],
)
def test_times_are_microseconds(write, text, micros):
    log = segue.read_events(write(f"user,item,time\na,x,{text}\n"))
    assert log.table["time"].to_list() == [micros]


def test_a_given_format(write):
    log = write("user,item,time\na,x,14.11.2023 22:13\n")
    events = segue.read_events(log, reading=segue.Reading(time_format="%d.%m.%Y %H:%M"))
    assert events.table["time"].to_list() == [1_699_999_980_000_000]


def test_order_is_time_then_file_order(write):
    log = write("user,item,time\na,late,9\na,first,5\na,second,5\nb,x,1\n")
    assert [item for _, item in rows(segue.read_events(log))] == ["x", "first", "second", "late"]
    free = segue.read_events(log, time="none")
    assert [item for _, item in rows(free)] == ["late", "first", "second", "x"]
    assert not free.has_times


def test_compressed_bare_and_tables(write):
    packed = write(gzip.compress(b"user,item,time\na,x,5\n"), "c.csv.gz")
    bare = write("a x\na y\n", "bare.txt")
    reading = segue.Reading(header=False, sep=" ")
    frame = pd.DataFrame({"user": [1, 2], "item": ["x", "y"], "time": [5, 6]})
    before = frame.copy()
    assert rows(segue.read_events(packed)) == [("a", "x")]
    assert rows(segue.read_events(bare, time="none", reading=reading)) == [("a", "x"), ("a", "y")]
    assert rows(segue.read_events(frame)) == rows(segue.read_events(pl.from_pandas(frame).to_arrow()))
    pd.testing.assert_frame_equal(frame, before)


def test_rows_without_ids_are_counted_not_lost_in_silence(write):
    log = segue.read_events(write("user,item,time\na,x,5\n,y,6\nb,,7\n"))
    assert len(log) == 1
    assert sum(log.intake.dropped.values()) == 2
    assert "2" in str(segue.inspect(log))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("", DataError, "empty"),
        ("user,item,time\n", DataError, "no row"),
        ("user,item\na,x\n", ColumnError, "--time-col none"),
        ("when,what\n1,2\n", ColumnError, "--user-col"),
        ("user,item,time\na,x,5\na,x,yesterday\n", TimeParseError, r'row 2.*"yesterday"'),
        ("user,item,item,time\na,x,y,5\n", ColumnError, "item"),
    ],
)
def test_bad_files_say_what_to_do(write, text, error, said):
    path = write(text)
    with pytest.raises(error, match=said):
        segue.read_events(path)


def test_missing_file_and_unknown_kind(tmp_path, write):
    with pytest.raises(SegueError, match=r"no\.csv"):
        segue.read_events(tmp_path / "no.csv")
    path = write("x", "log.xlsx")
    with pytest.raises(SegueError, match="xlsx"):
        segue.read_events(path)


def test_findings_count_by_hand(write):
    log = segue.read_events(write("user,item,time\na,x,5\na,x,5\na,y,5\nb,x,1\n"))
    found = segue.inspect(log)
    assert (found.events, found.users, found.items) == (4, 2, 2)
    assert (found.equal_times, found.duplicates, found.repeats) == (3, 1, 1)


def test_encode_by_hand():
    table = pl.DataFrame({"user": ["b", "a", "b"], "item": ["x", "y", "x"], "time": [10, 20, 40]})
    log = segue.read_events(table)
    vocabulary = item_vocabulary(log)
    sequences = encode(log, vocabulary)
    assert list(vocabulary.ids) == ["x", "y"]
    assert list(sequences.users) == ["b", "a"]
    assert sequences.items.tolist() == [1, 1, 2]
    assert gaps(sequences).tolist()[1] == 30.0


def test_splits_by_hand():
    table = pl.DataFrame({"user": list("aabbb"), "item": list("xyxyz"), "time": [1, 2, 2, 3, 4]})
    log = segue.read_events(table)
    train, test = segue.split_by_time(log, test=0.4)
    assert train.table["time"].max() < test.table["time"].min()
    train, test = segue.split_last(log)
    assert rows(test) == [("a", "y"), ("b", "z")]
    assert len(train) == 3
    assert len(test.history) == 3
