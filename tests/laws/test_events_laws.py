"""Laws of the way from a log to arrays, each beside a slow and obvious twin in plain Python."""

from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.data.log.events import Events, inspect, read_events
from segue.data.log.split import digest, split_by_time, split_last
from segue.data.sequences.sequences import encode, gaps, item_vocabulary

IDS = st.sampled_from(
    ["7", "007", "a,b", 'say "x"', "ünï", " pad", "9223372036854775808", "x", "long-id-of-more-than-12"]
)
ROW = st.tuples(IDS, IDS, st.integers(0, 6), st.one_of(st.none(), st.sampled_from([0.5, 3.0])))
LOGS = st.lists(ROW, min_size=1, max_size=40)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def table_of(rows):
    schema = {"user": pl.String, "item": pl.String, "time": pl.Int64, "rating": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def rows_of(events):
    return events.as_text().rows()


@quick
@given(LOGS)
def test_every_way_in_gives_the_rows_in_stable_order_and_changes_nothing(tmp_path, rows):
    table = table_of(rows)
    before = table.clone()
    table.write_csv(tmp_path / "a.csv")
    table.write_ndjson(tmp_path / "a.ndjson")
    table.write_parquet(tmp_path / "a.parquet")
    expected = [(u.strip(), i.strip(), t * 1_000_000, r) for u, i, t, r in sorted(rows, key=lambda row: row[2])]
    for source in (
        table,
        table.to_arrow(),
        table.to_pandas(),
        *(tmp_path / f"a.{end}" for end in ("csv", "ndjson", "parquet")),
    ):
        assert rows_of(read_events(source)) == expected
    assert table.equals(before)


@quick
@given(LOGS)
def test_encoding_decodes_to_each_users_events_in_order(rows):
    events = read_events(table_of(rows))
    ordered = rows_of(events)
    vocabulary, sequences = item_vocabulary(events), encode(events)
    counts = Counter(item for _, item, _, _ in ordered)
    first = list(dict.fromkeys(item for _, item, _, _ in ordered))
    assert vocabulary.ids.to_list() == sorted(first, key=lambda item: -counts[item])
    assert sequences.users.to_list() == list(dict.fromkeys(user for user, *_ in ordered)) == events.users.to_list()
    gap = gaps(sequences)
    for position, user in enumerate(sequences.users):
        own = slice(*sequences.offsets[position : position + 2])
        mine = [row for row in ordered if row[0] == user]
        assert vocabulary.ids_of(sequences.items[own]) == [item for _, item, _, _ in mine]
        assert sequences.times[own].tolist() == [time for _, _, time, _ in mine]
        assert [None if np.isnan(r) else r for r in sequences.ratings[own]] == [rating for *_, rating in mine]
        assert np.isnan(gap[own][0])
        assert gap[own][1:].tolist() == [(b[2] - a[2]) / 1e6 for a, b in pairwise(mine)]


@quick
@given(LOGS, st.data())
def test_unknown_items_are_row_0_and_a_selection_is_the_users_alone(rows, data):
    events = read_events(table_of(rows))
    known = item_vocabulary(events.with_table(events.table[: 1 + len(rows) // 2]))
    sequences = encode(events, known)
    assert [row == 0 for row in sequences.items] == [
        item not in known for user in sequences.users for u, item, *_ in rows_of(events) if u == user
    ]
    chosen = np.array(data.draw(st.permutations(range(len(sequences)))), np.int64)[: len(rows) // 2]
    some = sequences.select(chosen)
    assert some.users.to_list() == [sequences.users[int(user)] for user in chosen]
    for position, user in enumerate(chosen):
        ours, theirs = (s.offsets[p : p + 2] for s, p in ((some, position), (sequences, user)))
        for name in ("items", "times", "ratings"):
            np.testing.assert_array_equal(getattr(some, name)[slice(*ours)], getattr(sequences, name)[slice(*theirs)])


@quick
@given(LOGS, st.floats(0.01, 0.99))
def test_a_time_split_loses_nothing_and_never_sees_the_future(rows, share):
    events = read_events(table_of(rows))
    ordered = rows_of(events)
    if len({time for _, _, time, _ in ordered}) == 1:
        return
    train, test = split_by_time(events, test=share)
    assert rows_of(train) + rows_of(test) == ordered
    cut = test.table["time"].min()
    assert train.table["time"].max() < cut
    assert len(test) >= max(1, round(share * len(ordered))) or len(set(train.table["time"])) == 1
    later = sum(time > cut for _, _, time, _ in ordered)
    assert later < max(1, round(share * len(ordered)))
    users = {user for user, *_ in rows_of(test)}
    assert rows_of(test.history) == [row for row in rows_of(train) if row[0] in users]


@quick
@given(LOGS, st.integers(1, 3), st.booleans())
def test_the_last_events_are_the_last_of_each_user(rows, n, times):
    events = read_events(table_of(rows)) if times else read_events(table_of(rows).drop("time"), time="none")
    ordered = rows_of(events)
    places, counts = {}, Counter(user for user, *_ in ordered)
    for position, (user, *_) in enumerate(ordered):
        places.setdefault(user, []).append(position)
    out = {p for user, own in places.items() if counts[user] > n for p in own[-n:]}
    if not out:
        return
    train, test = split_last(events, n=n)
    assert rows_of(test) == [row for position, row in enumerate(ordered) if position in out]
    assert rows_of(train) == [row for position, row in enumerate(ordered) if position not in out]
    whole = test.joined_with_history()
    assert encode(whole, item_vocabulary(events)).lengths.sum() == sum(c for c in counts.values() if c > n)


@quick
@given(LOGS)
def test_findings_count_as_a_loop_would(rows):
    events = read_events(table_of(rows))
    ordered, found = rows_of(events), inspect(events)
    moments, seen, had, twice, late = Counter((u, t) for u, _, t, _ in ordered), set(), 0, 0, 0
    for user, item, _, _ in ordered:
        had += (user, item) in seen
        seen.add((user, item))
    twice = len(ordered) - len(set(ordered))
    late = sum(time < max(t for _, _, t, _ in rows[: place + 1]) for place, (_, _, time, _) in enumerate(rows))
    assert found.equal_times == sum(count for count in moments.values() if count > 1)
    assert (found.repeats, found.duplicates, found.intake.out_of_order) == (had, twice, late)
    assert (found.users, found.items) == (len({u for u, *_ in rows}), len({i for _, i, *_ in rows}))
    assert found.missing["rating"] == sum(rating is None for *_, rating in rows)


@quick
@given(LOGS, st.data())
def test_the_digest_sees_every_change_of_a_row(rows, data):
    table = read_events(table_of(rows)).as_text()
    place = data.draw(st.integers(0, len(rows) - 1))
    known = digest(Events(table))
    for name in ("user", "item"):
        values = table[name].to_list()
        values[place] += "!"
        assert digest(Events(table.with_columns(pl.Series(name, values)))) != known
    assert digest(Events(table[:place])) != known


def test_a_gap_is_subtracted_before_it_is_rounded():
    now = 1_700_000_000_000_000
    events = Events(pl.DataFrame({"user": ["a"] * 3, "item": ["x"] * 3, "time": [now, now + 1_500, now + 31_501_500]}))
    assert gaps(encode(events)).tolist()[1:] == pytest.approx([0.0015, 31.5], rel=1e-7)
    assert gaps(encode(events)).dtype == np.float32
