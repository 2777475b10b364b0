"""Splits by hand, their messages, and the digest."""
# ruff: noqa: E501

import re

import polars as pl
import pytest

from segue.data.events import Events, read_events
from segue.data.split import digest, hold_out, split_by_time, split_last
from segue.errors import ArgumentError, ConfigError, DataError


def log(users, times=None):
    table = pl.DataFrame({"user": list(users), "item": [f"i{n}" for n in range(len(users))]})
    return Events(table if times is None else table.with_columns(time=pl.Series(times, dtype=pl.Int64)))


def items(events):
    return events.as_text()["item"].to_list()


def test_rows_of_equal_time_are_not_parted():
    train, test = split_by_time(log("abcde", [1, 2, 2, 2, 3]), test=0.4)
    assert items(train) == ["i0"]
    assert items(test) == ["i1", "i2", "i3", "i4"]


def test_when_the_oldest_time_would_be_cut_off_the_next_is_taken():
    train, test = split_by_time(log("abcd", [1, 1, 1, 2]), test=0.5)
    assert (items(train), items(test)) == (["i0", "i1", "i2"], ["i3"])


def test_history_is_what_the_users_of_the_test_did_before_and_new_users_have_none():
    _, test = split_by_time(log("abacan", [1, 2, 3, 4, 5, 6]), test=0.34)
    assert test.history is not None
    assert items(test) == ["i4", "i5"]
    assert items(test.history) == ["i0", "i2"]
    assert items(test.joined_with_history()) == ["i0", "i2", "i4", "i5"]


def test_a_split_of_a_test_part_keeps_the_history_before_it():
    _, late = split_by_time(log("bbabaa", [1, 2, 3, 4, 5, 6]), test=0.5)
    train, test = split_by_time(late, test=0.34)
    assert test.history is not None
    assert train.history is not None
    assert items(train.history) == ["i0", "i1", "i2"]
    assert items(test.history) == ["i2", "i4"]


def test_last_of_each_user_by_hand():
    train, test = split_last(log("aababc"), n=2)
    assert items(train) == ["i0", "i2", "i4", "i5"]
    assert items(test) == ["i1", "i3"]
    assert test.history is not None
    assert items(test.history) == ["i0"]
    assert "2 of 3 users had no more than 2 events and stay in train" in test.intake.notes[-1]


def test_last_with_equal_times_takes_the_last_in_file_order():
    _, test = split_last(log("aab", [5, 5, 5]))
    assert items(test) == ["i1"]
    assert items(test.joined_with_history()) == ["i0", "i1"]


@pytest.mark.parametrize(
    ("split", "error", "said"),
    [
        (lambda: split_by_time(log("ab")), DataError, 'table: expected times to split by, the log has none. Hold out the last event of each user: "last:1".'),
        (lambda: split_by_time(log("ab", [7, 7])), DataError, "expected events at different times, all 2 have the same"),
        (lambda: split_by_time(log("ab", [1, 2]), test=1.0), ArgumentError, "expected test between 0 and 1, came 1.0"),
        (lambda: split_last(log("ab")), DataError, "expected users with more than 1 events, none has"),
        (lambda: split_last(log("aa"), n=0), ArgumentError, "expected n from 1, a whole number, came 0"),
        (lambda: hold_out(log("aa"), "random:0.1"), ConfigError, '--hold-out: expected a rule and its size, came "random:0.1". Give "time:0.1"'),
        (lambda: hold_out(log("aa"), "time:2"), ConfigError, 'or "last:1" (the last event of each user).'),
        (lambda: hold_out(log("aa"), "last"), ConfigError, 'came "last"'),
        (lambda: hold_out(log("aa"), "last:0.5"), ConfigError, 'came "last:0.5"'),
        (lambda: hold_out(log("ab", [7, 7]), "time:0.5"), DataError, "all 2 have the same"),
    ],
)  # fmt: skip
def test_messages(split, error, said):
    with pytest.raises(error, match=re.escape(said)):
        split()


def test_hold_out_reads_both_rules():
    events = log("aabb", [1, 2, 3, 4])
    assert [digest(part) for part in hold_out(events, "time:0.25")] == [digest(part) for part in split_by_time(events, test=0.25)]  # fmt: skip
    assert [digest(part) for part in hold_out(events, "last:1")] == [digest(part) for part in split_last(events)]


def test_the_digest_is_of_content_alone():
    table = pl.DataFrame({"user": ["ab", "c"], "item": ["x", "yz"], "time": [1, 2]})
    known = digest(read_events(table))
    assert known == "062ecc30a32888e89f342f63237b400e14a8054319216e6c6431c7e117742cf4"
    assert digest(Events(table.with_columns(pl.col("time") * 1_000_000))) == known
    assert digest(read_events(table.with_columns(rating=pl.lit(1.0)))) == known
    for other in ({"user": ["a", "bc"]}, {"item": ["xy", "z"]}, {"time": [1, 3]}):
        assert digest(read_events(table.with_columns(**{k: pl.Series(v) for k, v in other.items()}))) != known
    assert digest(read_events(table.drop("time"), time="none")) != known


def test_the_digest_does_not_depend_on_how_the_rows_lie_in_memory(monkeypatch):
    table = pl.DataFrame({"user": ["ab", "c", "é"], "item": ["x", "yz", "w"]})
    parts = pl.concat([table[:1], table[1:]], rechunk=False)
    assert digest(Events(parts)) == digest(Events(table))
