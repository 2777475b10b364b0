"""Splits by hand, their messages, and the digest."""
# ruff: noqa: E501

import re

import numpy as np
import polars as pl
import pytest

from segue.data.log.events import Events, read_events
from segue.data.log.split import digest, hold_out, split_by_time, split_items, split_last, split_users
from segue.data.sequences.sequences import encode, item_vocabulary
from segue.errors import ArgumentError, ConfigError, DataError
from segue.evaluation.protocols import queries_of
from tests_support import small_recommender


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


def random_log(seed=0, rows=200, times=True):
    rng = np.random.default_rng(seed)
    table = pl.DataFrame({"user": rng.integers(0, 20, rows).astype(str), "item": rng.integers(0, 30, rows).astype(str)})
    # Few distinct times, so that order within a time matters.
    return Events(table.with_columns(time=np.sort(rng.integers(0, 40, rows))) if times else table)


def pairs(events):
    return events.as_text().select("user", "item").rows()


def test_users_left_out_take_all_their_events_with_them():
    events = random_log()
    train, test = split_users(events, share=0.3)
    assert not set(train.users) & set(test.users)
    assert len(test.users) == 6
    assert len(test.history) == 0
    assert sorted(pairs(train) + pairs(test)) == sorted(pairs(events))
    assert pairs(test.joined_with_history()) == pairs(test)
    assert test.intake.notes[-1] == "held out users:0.3; 6 of 20 users"


def test_who_is_drawn_depends_on_ids_and_seed_alone():
    events = random_log(times=False)
    turned = Events(events.table[::-1])
    for split in (split_users, split_items):
        drawn = [{one for row in pairs(split(log, seed=seed)[1]) for one in row[split is split_items :][:1]} for log, seed in ((events, 0), (turned, 0), (events, 1))]  # fmt: skip
        assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("times", [True, False])
def test_a_held_out_item_has_all_earlier_events_of_its_user_as_history(times):
    events = random_log(times=times)
    train, test = split_items(events, share=0.2)
    cold = set(test.table["item"])
    assert len(cold) == 6
    assert not cold & set(train.table["item"])
    assert sorted(pairs(train) + pairs(test)) == sorted(pairs(events))
    rec = small_recommender(item_vocabulary(events), clock=times)
    asked, whole = queries_of(rec, test), encode(events, rec.vocabulary)
    expected = {}
    for place, user in enumerate(whole.users):
        rows = whole.items[whole.offsets[place] : whole.offsets[place + 1]].tolist()
        expected[user] = [(rows[:at], row) for at, row in enumerate(rows) if rec.vocabulary.id(row) in cold]
    found = {user: [] for user in whole.users}
    for query, user in enumerate(asked.users):
        found[asked.sequences.users[int(user)]].append((asked.history(query).tolist(), int(asked.targets[query])))
    assert found == expected


def test_the_history_of_items_left_out_holds_nothing_after_the_last_question():
    _, test = split_items(random_log(), share=0.2)
    joined, own = test.joined_with_marks()
    assert joined.table.select("user", own=own).group_by("user").agg(pl.col("own").last())["own"].all()


def test_items_left_out_of_a_test_part_keep_the_history_before_it():
    events = random_log()
    _, late = split_by_time(events, test=0.5)
    _, test = split_items(late, share=0.3)
    joined, own = test.joined_with_marks()
    assert joined.table["time"].is_sorted()
    assert pairs(joined.with_table(joined.table.filter(own))) == pairs(test)
    user = test.table["user"][-1]
    mine = events.table.filter(pl.col("user") == user)
    until = mine[: mine.with_row_index().filter(pl.col("item") == test.table["item"][-1])["index"][-1] + 1]
    assert joined.table.filter(pl.col("user") == user)["item"].to_list() == until["item"].to_list()


@pytest.mark.parametrize(
    ("split", "error", "said"),
    [
        (lambda: split_by_time(log("ab")), DataError, 'table: expected times to split by, the log has none. Hold out the last event of each user: "last:1".'),
        (lambda: split_by_time(log("ab", [7, 7])), DataError, "expected events at different times, all 2 have the same"),
        (lambda: split_by_time(log("ab", [1, 2]), test=1.0), ArgumentError, "expected test between 0 and 1, came 1.0"),
        (lambda: split_last(log("ab")), DataError, "expected users with more than 1 events, none has"),
        (lambda: split_last(log("aa"), n=0), ArgumentError, "expected n from 1, a whole number, came 0"),
        (lambda: split_users(log("ab"), share=0), ArgumentError, "split_users: expected share between 0 and 1, came 0. 0.1 is a tenth."),
        (lambda: split_items(log("ab"), share=1.0), ArgumentError, "split_items: expected share between 0 and 1, came 1.0"),
        (lambda: split_users(log("aa")), DataError, "table: expected at least two users to hold one out, found 1. Give a longer log."),
        (lambda: split_items(log("a")), DataError, "expected at least two items to hold one out, found 1"),
        (lambda: hold_out(log("aa"), "users:1"), ConfigError, 'came "users:1"'),
        (lambda: hold_out(log("aa"), "middle:0.1"), ConfigError, '--hold-out: expected a rule and its size, came "middle:0.1". Give "time:0.1"'),
        (lambda: hold_out(log("aa"), "time:2"), ConfigError, 'or "last:1" (the last event of each user); "users:0.1" or "items:0.1"'),
        (lambda: hold_out(log("aa"), "last"), ConfigError, 'came "last"'),
        (lambda: hold_out(log("aa"), "last:1.5"), ConfigError, 'came "last:1.5"'),
        (lambda: hold_out(log("ab", [7, 7]), "time:0.5"), DataError, "all 2 have the same"),
    ],
)  # fmt: skip
def test_messages(split, error, said):
    with pytest.raises(error, match=re.escape(said)):
        split()


@pytest.mark.parametrize(("rule", "split"), [("users:0.4", split_users), ("items:0.4", split_items)])
def test_hold_out_reads_the_rules_of_cold_start(rule, split):
    events = random_log()
    assert [digest(part) for part in hold_out(events, rule)] == [digest(part) for part in split(events, share=0.4)]


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
