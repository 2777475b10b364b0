"""The trends of a server equal those of all events in its log, whatever came late, was erased or merged."""

import numpy as np
import pytest

from segue.serve.live import trend_follower
from segue.serve.live.trend_follower import TrendFollower, TrendReplay
from segue.store.base import Write
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import small_recommender, trends_of_log, with_ranker

SECOND = 1_000_000


@pytest.fixture(name="store")
def sqlite_store(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    yield store
    store.close()


def equal(store, trends):
    expected = trends_of_log(store, SECOND, trends.newest)
    assert np.array_equal(trends.lines(), expected)
    return len(expected)


def events(rng, count, begin, seconds, users=5, late=0.2):
    """Events of few users, many of them late, some without a time."""
    times = np.sort(rng.uniform(begin, begin + seconds, count)) - rng.exponential(200, count) * (
        rng.random(count) < late
    )
    return [
        Event(
            f"u{rng.integers(users)}",
            f"{rng.zipf(1.5) % 30}",
            None if rng.random() < 0.05 else int(max(time, 0) * SECOND),
        )
        for time in times
    ]


def keep(store, some):
    store.commit([Write(event.user, None, (event,)) for event in some])


@pytest.mark.parametrize("seed", range(4))
def test_law_the_trends_are_a_function_of_the_log(store, seed, monkeypatch):
    monkeypatch.setattr(trend_follower, "USERS", 3)  # fewer than there are: the store is read again
    rng, now = np.random.default_rng(seed), [0.0]
    follower = TrendFollower(store, clock=lambda: now[0])
    model = follower.bound(with_ranker(small_recommender(), 1.0))
    trends = model.live.trends
    for part in range(6):
        keep(store, events(rng, 60, part * 200, 200))
        if part % 2:
            logged = store.log(limit=10_000)
            event = logged[rng.integers(len(logged))]
            changes = [
                lambda event=event: store.erase_event(event.user, event.seq), lambda: store.merge("u0", "u1"),
                lambda event=event: (store.erase_user(event.user), store.readmit(event.user)),
            ]  # fmt: skip
            changes[(seed + part) % 3]()
        follower.turn()
        assert equal(store, trends) > 50
        now[0] += 1


def test_law_a_restart_begins_at_a_mark_and_counts_the_same(store, monkeypatch):
    monkeypatch.setattr(trend_follower, "MARKED", 100)
    rng = np.random.default_rng(0)
    first = TrendReplay(store, SECOND)
    for part in range(6):
        keep(store, events(rng, 150, part * 2000, 2000, users=8))
        while not first.step(40):
            pass
    again = TrendReplay(store, SECOND)
    assert again.seq > 300
    while not again.step():
        pass
    assert again.events < first.events / 2 and equal(store, again.trends) > 100
    assert np.array_equal(again.trends.lines(), first.trends.lines())


def test_what_a_store_in_trouble_did_not_say_is_counted_later(store, monkeypatch):
    monkeypatch.setattr(trend_follower, "USERS", 2)
    rng, read = np.random.default_rng(1), store.events
    replay = TrendReplay(store, SECOND)
    keep(store, events(rng, 200, 0, 400))
    for fails in (1, 3, 7, 20):
        calls = iter(range(1000))
        monkeypatch.setattr(store, "events", lambda *a, n=fails, c=calls, **k: 1 / (next(c) != n) and read(*a, **k))
        with pytest.raises(ZeroDivisionError):
            replay.step()
        monkeypatch.setattr(store, "events", read)
    assert replay.step() and equal(store, replay.trends) > 100


def test_changes_of_the_past_take_a_share_of_the_time(store, monkeypatch):
    """While others are erased without end, the counts are made anew now and then, and events go on to count."""
    rng, now, made = np.random.default_rng(2), [0.0], []
    follower = TrendFollower(store, clock=lambda: now[0])
    model = follower.bound(with_ranker(small_recommender(), 1.0))
    trends = model.live.trends
    keep(store, events(rng, 300, 0, 400, users=100))
    follower.turn()
    take_over = TrendReplay.take_over
    monkeypatch.setattr(TrendReplay, "take_over", lambda self, other: (made.append(now[0]), take_over(self, other)))
    step = TrendReplay.step

    def slow(self, limit=1000):
        now[0] += 1
        return step(self, limit)

    monkeypatch.setattr(TrendReplay, "step", slow)
    for n in range(40):
        store.erase_user(f"u{n}")
        follower.turn()
    assert 2 <= len(made) <= 6 and trends.newest is not None
