"""law: hours and days are those of UTC; a question at a time is the same by every way of asking."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import segue
from segue.data.features.calendar import DAYS, KNOTS, Calendar
from segue.data.features.feature_encoders import fit_feature_encoders
from segue.data.features.table_encoder import TableEncoder, fit_table_encoder
from segue.errors import ColumnError
from segue.evaluation.protocols import queries_of, rank_targets
from segue.jobs.batch_recommend import recommend_all
from segue.recommend.batch import observe_each, observe_long
from segue.store.events import Event
from tests_support import described_log, described_recommender

HOUR = 3600
MONDAY = 1_700_438_400  # 20 November 2023, 0:00 UTC


@given(st.lists(st.none() | st.integers(-(2**45), 2**52), min_size=1, max_size=20))
def test_law_hours_and_days_are_those_of_utc(times):
    calendar = Calendar("time", True, True)
    found = calendar.encode(pl.Series("time", times, dtype=pl.Int64))
    for row, time in zip(found, times, strict=True):
        one = np.zeros(calendar.width, np.float32)
        calendar.add(time, one)
        np.testing.assert_allclose(one, row, atol=1e-6)
        if time is None:
            assert not row.any()
            continue
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)
        place = (moment - moment.replace(hour=0, minute=0, second=0, microsecond=0)) / timedelta(hours=1)
        distance = np.abs(np.arange(KNOTS) - place)
        hats = np.maximum(1 - np.minimum(distance, KNOTS - distance), 0)  # the shorter way around the circle
        np.testing.assert_allclose(row[:KNOTS], hats, atol=1e-6)
        assert row[KNOTS:].tolist() == [day == moment.weekday() for day in range(DAYS)]


@pytest.mark.parametrize(
    ("step", "count", "read"),
    [
        (HOUR, 7 * 24, (True, False)),
        (HOUR, 6 * 24, (False, False)),  # an hour met on few days is a coincidence
        (24 * HOUR, 60, (False, True)),  # days without hours
        (7 * 24 * HOUR, 60, (False, False)),  # Mondays at midnight
        (HOUR, 22 * 24, (True, True)),  # begins on a Monday, reaches into a fourth week
        (HOUR, 21 * 24, (True, False)),
        (1, 100, (False, False)),
    ],
)
def test_what_is_read_is_what_may_be_a_habit(step, count, read):
    times = pl.Series("time", (MONDAY + step * np.arange(count)) * 1_000_000)
    found = Calendar.fit(times)
    assert (found.hours, found.days) == read
    assert found.width == KNOTS * read[0] + DAYS * read[1]
    encoding = fit_table_encoder(times.to_frame(), {"time": "calendar"})
    assert TableEncoder.from_json(encoding.to_json()) == encoding == TableEncoder((found,))


def test_times_are_left_out_where_one_says_so():
    assert fit_feature_encoders(described_log()).events.describe()[1] == "time: hour of the day, UTC"
    assert fit_feature_encoders(described_log()).timed == (3, 3 + KNOTS)
    assert "time" not in fit_feature_encoders(described_log(), kinds={"time": "ignored"}).events.slices
    with pytest.raises(ColumnError, match="kind time=number: expected ignored"):
        fit_feature_encoders(described_log(), kinds={"time": "number"})
    short = segue.Events(described_log().table.head(20).select("user", "item", "time"))
    assert fit_feature_encoders(short).events is None


def test_law_a_question_at_a_time_is_the_same_by_every_way(tmp_path):
    events = described_log()
    rec, at = described_recommender(events), 2 * 10**6 + 5 * HOUR
    states = rec.encode(events)
    scores = rec.score(states, at=at)
    recommend_all(rec, events, tmp_path / "lists.parquet", k=5, at=at)
    listed = pl.read_parquet(tmp_path / "lists.parquet")
    for place, user in enumerate(states.users):
        lines = rec.recommend(states[place], 5, at=at)
        rows = rec.vocabulary.rows([line.item for line in lines]) - 1
        np.testing.assert_allclose([line.score for line in lines], scores[place, rows], rtol=1e-4, atol=1e-4)
        own = listed.filter(pl.col("user") == user)
        assert own["item"].to_list() == [line.item for line in lines]
        np.testing.assert_allclose(own["score"], [line.score for line in lines], rtol=1e-4, atol=1e-4)
        assert rec.plan(states[place], 1, at=at).items[0].item == lines[0].item
    one_gap, two_gaps = rec.score(states[0], at=at), rec.score(states[0], at=at + 24 * HOUR)
    later = rec.score(states[0], at=at + 12 * HOUR)
    # The clock has little to say of half a day more or less after ten; the hour has.
    assert np.abs(later - one_gap).max() > 5 * np.abs(two_gaps - one_gap).max()


def test_law_many_events_are_read_with_their_times_as_one_by_one():
    rec = described_recommender(described_log())
    times = [2 * 10**12 + 5 * HOUR * 10**6 * n for n in range(6)]
    happened = [Event("u", f"{n:02d}", time=time, rating=3.0) for n, time in enumerate(times)]
    state = each = rec.start()
    for event in happened:
        state = rec.observe(state, event.item, time=event.time / 1e6, rating=event.rating)
        each = observe_each(rec, [each], [event])[0]
    for found in (each, observe_long(rec, rec.start(), happened)):
        np.testing.assert_allclose(found.memory.output, state.memory.output, rtol=1e-4, atol=1e-4)


def test_law_evaluation_at_the_event_asks_as_the_server_does():
    _, test = segue.split_last(described_log())
    rec = described_recommender(described_log())
    asked = queries_of(rec, test)
    found = np.concatenate(rank_targets(rec, asked, {}, at_event=True)["segue"].ranks)
    states = rec.encode(test.history)
    place = {user: n for n, user in enumerate(states.users)}
    later = {str(user): (str(item), time) for user, item, time in test.table.select("user", "item", "time").iter_rows()}
    for query, rank in enumerate(found):
        user = asked.sequences.users[int(asked.users[query])]
        item, time = later[user]
        lines = rec.recommend(states[place[user]], len(rec.items), at=time / 1e6)
        assert [line.item for line in lines].index(item) + 1 == rank


def test_a_habit_of_the_hour_is_learnt():
    rng, users, length = np.random.default_rng(3), 200, 40
    times = np.cumsum(rng.integers(2, 30, (users, length)), axis=1) * HOUR + MONDAY
    noon = times // HOUR % 24 // 12  # coffee in the first half of the day, tea in the second
    items = 3 * noon + rng.integers(0, 3, noon.shape)
    table = pl.DataFrame(
        {"user": np.repeat(np.arange(users), length), "item": items.ravel(), "time": times.ravel()}
    ).sort("time")
    settings = {"train.repeats": "allow", "model.width": 16, "train.epochs": 8, "model.transitions": False}
    train, test = segue.split_last(segue.read_events(table))
    rec = segue.train(train, config=settings)
    hits = {
        at: segue.evaluate(rec, test, request_time=at, ks=(3,)).rows["segue"]["hr@3"] for at in ("event", "unknown")
    }
    assert hits["event"] > 0.85 > 0.65 > hits["unknown"]
