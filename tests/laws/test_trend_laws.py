"""Trends: C loops equal their twin, order does not matter, removing is exact, a flood of one user is bound."""

import numpy as np
import pytest

from segue.kernels import build
from segue.kernels.trend_loops import ITEMS, LAST, PAIRS, PureTrends, trend_table
from segue.trends.moves import RECENT, SPAN, Trail, moves_of
from segue.trends.ranker import item_key
from segue.trends.trends import Trends
from tests_support import moves_of_user

HOUR = 3_600_000_000
SHORTEST = 300_000_000


def stream(count: int, seed: int = 0, hours: int = 300) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    keys = rng.zipf(1.5, count) % 40 + 1
    before = np.stack([np.roll(keys, back + 1) for back in range(LAST)], axis=1)
    before[rng.random(before.shape) < 0.3] = 0
    return keys, before, np.sort(rng.integers(0, hours * HOUR, count)), np.ones(count, np.int64)


def compiled(**most: int):
    if build.trends() is None:
        pytest.skip("no C compiler")
    return trend_table(SHORTEST, **most)


def test_loops_equal_their_twin():
    loops, twin = compiled(), PureTrends(SHORTEST, ITEMS, PAIRS)
    events = stream(2000)
    for table in (loops, twin):
        table.add(*events)
    assert len(twin.lines()) > 500 and np.array_equal(loops.lines(), twin.lines())
    now, last = np.full(2, events[2][-1] + 5_000_000), np.array([[1, 2, 3], [5, 0, 1]])
    asked = now, last, np.array([[77, 1, 0], [2, 3, 4]])
    found, expected = loops.candidates(*asked), twin.candidates(*asked)
    order, other = found.keys.argsort(axis=1), expected.keys.argsort(axis=1)  # of equals either may come first
    pairs = [np.take_along_axis(*pair, axis=1) for pair in ((found.keys, order), (expected.keys, other))]
    assert np.array_equal(*pairs) and (found.keys > 0).sum() > 40
    features = [
        np.take_along_axis(one.features, at[..., None], axis=1) for one, at in ((found, order), (expected, other))
    ]
    assert np.abs(features[0] - features[1]).max() < 1e-5
    copied = loops.copy()
    copied.add(*(part[-100:] for part in events))
    assert np.array_equal(loops.lines(), twin.lines()) and not np.array_equal(copied.lines(), twin.lines())


@pytest.mark.parametrize("table", [compiled, lambda: PureTrends(SHORTEST, ITEMS, PAIRS)], ids=["loops", "twin"])
def test_order_does_not_matter_and_removing_is_exact(table):
    rng, events = np.random.default_rng(1), stream(1200)
    whole, part, last = table(), table(), tuple(array[-1:] for array in events)
    order = rng.permutation(len(events[0]) - 1)
    gone, kept = order[:600], order[600:]
    whole.add(*(array[order] for array in events))
    whole.add(*(array[gone] for array in events[:3]), -events[3][gone])
    part.add(*(array[kept] for array in events))
    for one in (whole, part):
        one.add(*last)
    assert np.array_equal(whole.lines(), part.lines()) and len(part.lines()) > 100


def test_memory_is_bounded_and_the_recent_stay():
    table = compiled(items=4096, pairs=8192)
    for begin in range(0, 200_000, 20_000):
        keys = np.arange(begin, begin + 20_000) + 1
        before = np.stack([np.roll(keys, back + 1) for back in range(LAST)], axis=1)
        table.add(keys, before, keys * 1_000_000, np.ones(len(keys), np.int64))
        lines = table.lines()
        assert len(np.unique(lines[lines[:, 0] == 0, 1])) <= 4096 and keys[-1] in lines[:, 1]
    assert table.bytes < 4_000_000


def test_moves_of_a_log_are_those_one_by_one():
    rng = np.random.default_rng(2)
    users, keys = np.repeat([0, 1, 2], [200, 3, 70]), rng.integers(1, 60, 273)
    times = np.concatenate([np.sort(rng.integers(0, SPAN * 4, n)) for n in (200, 3, 70)])
    trails = {user: Trail() for user in range(3)}
    steps = [trails[user].push(*one) for user, *one in zip(users.tolist(), keys.tolist(), times.tolist(), strict=True)]
    moves = moves_of(keys, times, users)
    assert moves.keys.tolist() == [key for key, _ in steps] and 0 < (moves.keys == 0).mean() < 1
    assert moves.before.tolist() == [list(before) for _, before in steps]


@pytest.mark.parametrize("items", [1, 7, 1000])
def test_a_flood_of_one_user_is_bound(items):
    """A thousand clicks a minute for an hour count at most RECENT in SPAN, of one item once in SPAN."""
    clicks, minute = 60_000, 60_000_000
    ids = [str(n % items) for n in range(clicks)]
    times = [n * minute // 1000 for n in range(clicks)]
    moves = moves_of_user(ids, times)
    spans = np.array(times) // SPAN
    counted = moves.keys != 0
    assert np.bincount(spans[counted]).max() <= 2 * RECENT and counted.sum() <= (spans[-1] + 2) * RECENT
    one = moves.keys == item_key("0")
    assert np.bincount(spans[one], minlength=1).max() <= 2
    trends = Trends(SHORTEST)
    trends.add(moves, ids[:items])
    before = trends.lines()
    trends.remove(moves)
    assert len(before) and not len(trends.lines())


def test_an_event_without_a_time_does_not_count():
    trends = Trends(SHORTEST)
    trends.observe("ann", "17", time=None)
    assert not len(trends.lines()) and trends.newest is None
