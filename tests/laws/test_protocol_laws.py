"""Nothing from after the cut is learnt, whatever the protocol: a log in which every event has an item of its own."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

import segue
from segue.data.log.events import Events
from segue.data.log.split import split_tail
from segue.data.sequences.sequences import item_vocabulary
from segue.evaluation.protocols import queries_of
from tests_support import small_recommender

ROWS = 240


def log(seed):
    """Return events of 15 users with few distinct times; item n is that of event n."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 90, ROWS)) * 900 * 10**6 + 10**15
    return Events(pl.DataFrame({"user": rng.integers(0, 15, ROWS).astype(str), "item": np.arange(ROWS).astype(str), "time": times}))  # fmt: skip  # noqa: E501


def numbers(events):
    return events.table["item"].cast(pl.String).cast(pl.Int64).to_numpy()


#: Name -> the pairs that a protocol makes of a log, and whether one moment parts them for all users.
PROTOCOLS = {
    "last": (lambda events: [segue.split_last(events, n=2)], False),
    "tail": (lambda events: [split_tail(events, share=0.3)], False),
    "time": (lambda events: [segue.split_by_time(events, test=0.3)], True),
    "users": (lambda events: [segue.split_users(events, share=0.3)], False),
    "items": (lambda events: [segue.split_items(events, share=0.3)], False),
    "sessions": (lambda events: [segue.split_sessions(events, test=0.3, gap=2000)], False),
    "rolling": (lambda events: segue.split_rolling(events, test=0.4, windows=3), True),
}


@pytest.fixture(params=PROTOCOLS)
def protocol(request):
    return request.param


def test_no_event_is_in_both_parts_and_none_is_lost(protocol):
    pairs = PROTOCOLS[protocol][0](log(1))
    for train, test in pairs:
        learnt, held = set(numbers(train)), set(numbers(test))
        assert learnt and held and not learnt & held
        assert protocol == "rolling" or learnt | held == set(range(ROWS))
    if protocol == "rolling":
        assert set(numbers(pairs[-1][0])) | set(numbers(pairs[-1][1])) == set(range(ROWS))
        for (earlier, test), (later, _) in pairwise(pairs):
            assert sorted([*numbers(earlier), *numbers(test)]) == sorted(numbers(later))


def test_what_is_learnt_ends_before_the_cut(protocol):
    for train, test in PROTOCOLS[protocol][0](log(2)):
        if PROTOCOLS[protocol][1]:
            assert train.table["time"].max() < test.table["time"].min()
        else:  # of each user, as far as the user is in both
            ends = dict(train.table.group_by("user").agg(pl.col("time").max()).rows())
            firsts = dict(test.table.group_by("user").agg(pl.col("time").min()).rows())
            assert protocol == "items" or all(ends[user] <= firsts[user] for user in ends.keys() & firsts.keys())
        assert not {"users", "sessions"} & {protocol} or not set(train.users) & set(test.users)


def test_a_session_is_whole_and_trains_only_if_it_ended_before_the_cut():
    events = log(3)
    train, test = segue.split_sessions(events, test=0.3, gap=2000)
    cut = events.table["time"][int(0.7 * ROWS)]
    ends = pl.concat([train.table, test.table]).group_by("user").agg(pl.col("time").max())
    late = set(ends.filter(pl.col("time") >= cut)["user"].cast(pl.String).to_list())
    assert set(test.users) == late and train.table["time"].max() < cut
    assert test.table["time"].min() < cut  # one begins before the cut
    whole = pl.concat([train.as_text(), test.as_text()]).sort("time", maintain_order=True)
    parts = whole.with_columns(owner=pl.col("user").str.split("/").list.first())
    inside = parts.select((pl.col("time").diff().over("user") <= 2000 * 10**6).fill_null(True)).to_series()
    between = parts.group_by("owner", "user").agg(pl.col("time").min().alias("a"), pl.col("time").max().alias("b"))
    pauses = between.sort("owner", "a").select((pl.col("a") - pl.col("b").shift(1)).over("owner")).drop_nulls()
    assert inside.all() and (pauses.to_series() > 2000 * 10**6).all()


@pytest.mark.parametrize("targets", ["all", "first", "last", "prefixes"])
def test_a_query_reads_all_earlier_events_of_its_user_and_no_later_one(protocol, targets):
    events = log(4)
    rec = small_recommender(item_vocabulary(events))
    for train, test in PROTOCOLS[protocol][0](events):
        asked = queries_of(rec, test, targets=targets)
        held, found = set(numbers(test)), []
        parts = pl.concat([train.as_text(), test.as_text()])
        owner = dict(zip(parts["item"].cast(pl.Int64).to_list(), parts["user"].to_list(), strict=True))
        for query, target in enumerate(asked.targets):
            at = int(rec.vocabulary.id(int(target)))
            history = [int(rec.vocabulary.id(int(row))) for row in asked.history(query)]
            assert history == [n for n in range(at) if owner.get(n) == owner[at]]
            found.append((str(asked.sequences.users[int(asked.users[query])]), at, len(history)))
        assert {at for _, at, _ in found} <= held
        users = [user for user, _, _ in found]
        known = sorted(test.table.select("user", n=pl.Series(numbers(test))).cast({"user": pl.String}).rows())
        if targets == "all":
            assert sorted((user, at) for user, at, _ in found) == known
        elif targets == "prefixes":
            assert all(length for *_, length in found)
        else:
            border = dict(known[::-1] if targets == "first" else known)
            assert {user: at for user, at, _ in found} == border and len(users) == len(set(users))


def test_a_report_says_whether_anything_later_was_learnt():
    events = log(5)
    for split, said in (
        (segue.split_by_time, "learnt nothing from after the cut"),
        (segue.split_last, "are not later"),
    ):
        train, test = split(events)
        times = train.table["time"]
        rec = small_recommender(item_vocabulary(train))
        rec = replace(rec, facts={"range": [times[0], times[-1]]})
        assert said in segue.evaluate(rec, test).protocol
    late = int((test.table["time"] <= times[-1]).sum())
    assert f"{late:,} of the {len(test):,} held-out events" in segue.evaluate(rec, test).protocol
