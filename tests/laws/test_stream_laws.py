"""A stream is what a slow loop says: each event is ranked from all strictly earlier events, counted anew."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import segue
from segue.data.log.split import split_after
from segue.evaluation.online.contract import MISS, read_on
from segue.evaluation.online.decayed_counts import OnlinePopularity, OnlineSum, OnlineTransitions
from segue.evaluation.online.neighbours import ITEMS, SESSIONS, OnlineItemKNN, OnlineSessionKNN
from segue.evaluation.online.session_window import LENGTH, SessionWindow
from segue.evaluation.online.stream_log import HOUR, StreamLog
from segue.evaluation.stream_model import StreamedModel
from segue.kernels.trend_loops import TrendLoops
from segue.recommend.batch import score_each, state_from_bytes, state_to_bytes
from segue.recommend.lists import live_scores
from tests_support import (
    USERS,
    described_log,
    described_recommender,
    random_ranker,
    rated_log,
    small_rater,
    small_recommender,
)

GAP = 1800 * 1_000_000
BASELINES = [
    OnlinePopularity(0.37),
    OnlineTransitions(1.3),
    OnlineSum(0.37, 1.3, 0.3),
    OnlineSum(0.0137, 0.0151, 3.0),  # so short that the base of the powers moves
    OnlineItemKNN(40, 0.5),
    OnlineItemKNN(1000, 0.25),
    OnlineSessionKNN(60, 5),
    OnlineSessionKNN(1000, 100),
]


def planted(seed, events=500, users=25, items=30, hours=12):
    """Many events, some of one moment; every user repeats items and pauses."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, hours * HOUR, events))
    tied = rng.random(events) < 0.3
    for at in np.flatnonzero(tied[1:]) + 1:
        times[at] = times[at - 1]
    return rng.integers(0, users, events), (rng.random(events) ** 2 * items).astype(np.int64), times


def slow_scores(baseline, user, item, time, earlier, me, now):
    """Return a score for each item from the events of `earlier`, a list of places in the order of the log."""
    own = [e for e in earlier if user[e] == me]
    last = item[own[-1]] if own else None
    if isinstance(baseline, OnlinePopularity):
        return popularity(item, time, earlier, now, baseline.half_life)
    if isinstance(baseline, OnlineTransitions):
        return followers(user, item, time, earlier, now, baseline.half_life).get(last, {})
    if isinstance(baseline, OnlineSum):
        popular = popularity(item, time, earlier, now, baseline.popularity_half_life)
        row = followers(user, item, time, earlier, now, baseline.transition_half_life).get(last, {})
        total, sum_of_row = sum(popular.values()), sum(row.values())
        return {y: row.get(y, 0) / (sum_of_row + 1) + baseline.weight * popular[y] / total for y in popular if total}
    if last is None:
        return {}
    sessions, of = sessions_of(user, time, earlier)
    window = earlier[-int(baseline.window) :]
    held = {s: [item[e] for e in window if sessions[e] == s][-LENGTH:] for s in {sessions[e] for e in window}}
    latest = {s: max(e for e in window if sessions[e] == s) for s in held}
    place = {(s, item[e]): e for e in window for s in [sessions[e]]}
    mine = of[me]

    def holding(x):
        found = [s for s in held if s != mine and x in held[s]]
        return sorted(found, key=lambda s: -place[s, x])[:SESSIONS]

    if isinstance(baseline, OnlineItemKNN):
        number = Counter(y for s in held for y in set(held[s]))
        shared = Counter(y for s in holding(last) for y in set(held[s]) if y != last)
        return {y: count * (number[y] + 20.0) ** -baseline.norm for y, count in shared.items()}
    likeness = defaultdict(float)
    for i, x in enumerate(list(dict.fromkeys(held.get(mine, [])[::-1]))[:ITEMS]):
        for s in holding(x):
            likeness[s] += 1 / (1 + i)
    likeness = {s: np.rint(each / np.sqrt(len(set(held[s]))) * 2**30) for s, each in likeness.items()}
    best = sorted(likeness, key=lambda s: (-likeness[s], -latest[s]))[: int(baseline.neighbours)]
    scores = defaultdict(float)
    for s in best:
        for y in set(held[s]):
            scores[y] += likeness[s]
    return scores


def popularity(item, time, earlier, now, half_life):
    scores = defaultdict(float)
    for e in earlier:
        scores[item[e]] += 2.0 ** (-(now - time[e]) / (half_life * HOUR))
    return scores


def followers(user, item, time, earlier, now, half_life):
    rows, before = defaultdict(lambda: defaultdict(float)), {}
    for e in earlier:
        if user[e] in before:
            rows[before[user[e]]][item[e]] += 2.0 ** (-(now - time[e]) / (half_life * HOUR))
        before[user[e]] = item[e]
    return rows


def sessions_of(user, time, earlier):
    """Return the session of each event, and of each user the last one."""
    sessions, of, at = {}, {}, {}
    for e in earlier:
        if user[e] not in at or time[e] - at[user[e]] > GAP:
            of[user[e]] = e
        sessions[e], at[user[e]] = of[user[e]], time[e]
    return sessions, of


def slow_ranks(baseline, user, item, time, begin, exclude_seen):
    user, item, time, ranks = user.tolist(), item.tolist(), time.tolist(), []
    for query in range(begin, len(user)):
        earlier = [e for e in range(len(user)) if time[e] < time[query]]
        scores = slow_scores(baseline, user, item, time, earlier, user[query], time[query])
        seen = {item[e] for e in earlier if user[e] == user[query]} if exclude_seen else set()
        goal, target = scores.get(item[query], 0.0), item[query]
        lost = goal <= 0 or target in seen
        ranks.append(MISS if lost else sum(score >= goal for y, score in scores.items() if y not in seen))
    return np.array(ranks, float)


def ranked(baseline, user, item, time, begin, exclude_seen=True):
    log = StreamLog.of(user, item, time)
    return read_on(log, baseline.start(log, begin, exclude_seen=exclude_seen), begin, len(log))


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("baseline", BASELINES, ids=lambda one: one.name)
def test_a_baseline_ranks_as_a_slow_loop_over_all_strictly_earlier_events(baseline, exclude_seen):
    user, item, time = planted(3)
    begin = int(StreamLog.of(user, item, time).begins[200])
    found = ranked(baseline, user, item, time, begin, exclude_seen)
    expected = slow_ranks(baseline, user, item, time, begin, exclude_seen)
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(expected).mean() > 0.03


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda one: one.name)
def test_a_reader_that_starts_later_has_learnt_the_same(baseline):
    user, item, time = planted(4)
    log = StreamLog.of(user, item, time)
    early, late = int(log.begins[100]), int(log.begins[400])
    whole = ranked(baseline, user, item, time, early)
    np.testing.assert_array_equal(whole[late - early :], ranked(baseline, user, item, time, late))
    np.testing.assert_array_equal(whole, ranked(baseline, user, item, time, early))


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda one: one.name)
def test_nothing_after_a_query_changes_its_rank(baseline):
    user, item, time = planted(5)
    log = StreamLog.of(user, item, time)
    begin, now = int(log.begins[100]), int(log.begins[350])
    before = ranked(baseline, user, item, time, begin)
    order = np.concatenate([np.arange(now), now + np.random.default_rng(0).permutation(len(user) - now)])
    shuffled = ranked(baseline, user[order], item[order] + 7 * (np.arange(len(user)) >= now), time, begin)
    np.testing.assert_array_equal(before[: now - begin], shuffled[: now - begin])
    assert (before[now - begin :] != shuffled[now - begin :]).any()


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda one: one.name)
def test_events_of_one_moment_do_not_see_each_other(baseline):
    """In whatever order they stand, they have the same ranks."""
    user, item, time = planted(6, events=300)
    time[250:] = time[250]
    back = np.concatenate([np.arange(250), np.arange(300)[:249:-1]])
    ranks = ranked(baseline, user, item, time, 250)
    np.testing.assert_array_equal(ranks, ranked(baseline, user[back], item[back], time, 250)[::-1])


def test_a_window_keeps_no_more_than_its_events():
    rng, window = np.random.default_rng(0), SessionWindow(50, 1000)
    for _ in range(3000):
        window.learn(int(rng.integers(0, 400)), int(rng.integers(0, 1000)))
    assert window.table.shape == (50, LENGTH) and window.lengths.sum() == window.held.sum() <= 50
    assert len(window._slots) + len(window._free) == 50 and len(window._holders) <= 50
    assert sum(len(holders) for holders in window._holders.values()) == window.lengths.sum()


def log_with_ties(seed=2, events=160):
    user, item, time = planted(seed, events, users=9, items=14)  # two of the items are unknown to the model
    table = {"user": [f"u{n}" for n in user], "item": [f"{n:03d}" for n in item], "time": time / 1e6}
    return segue.read_events(pl.DataFrame(table))


@pytest.mark.parametrize("repeats", ["allow", "exclude"])
def test_the_model_ranks_as_its_states_do_event_by_event(repeats):
    """A state is observed event by event, and asked before any event of the same moment."""
    rec, log = small_recommender(repeats=repeats), log_with_ties()
    train, test = split_after(log, int(log.table["time"][79]))
    stream = coded(log)
    found = StreamedModel(rec, test, None, stream, len(train), ids_of(log)).ranks()
    rows, states, expected = log.table.rows(named=True), defaultdict(rec.start), []
    by_moment = [list(moment) for moment in stream.moments(0, len(log))]
    for moment in by_moment:
        for n in moment if moment[0] >= len(train) else ():
            state, target = states[rows[n]["user"]], rows[n]["item"]
            items = rec.recommend(state, 12, at=rows[n]["time"] / 1e6, repeats=repeats)
            scores = {each.item: each.score for each in items}
            near = [y for y in scores if target in scores and scores[y] >= scores[target] - 1e-4]
            least = [y for y in scores if target in scores and scores[y] >= scores[target] + 1e-4]
            expected.append((len(least) + 1, len(near)) if target in scores else (MISS, MISS))
        for n in moment:
            states[rows[n]["user"]] = rec.observe(states[rows[n]["user"]], rows[n]["item"], time=rows[n]["time"] / 1e6)
    low, high = np.array(expected).T
    assert ((low <= found) & (found <= high)).all()
    assert np.isfinite(found).any() and np.isinf(found).any()


def ids_of(log):
    return sorted(log.table["item"].cast(pl.String).unique().to_list())


@pytest.mark.parametrize("repeats", ["allow", "exclude"])
def test_with_trends_the_model_ranks_as_its_lists_do_event_by_event(repeats):
    """States and trends are observed event by event, each asked before any event of the same moment."""
    rec, log = replace(small_recommender(repeats=repeats), ranker=random_ranker()), log_with_ties()
    train, test = split_after(log, int(log.table["time"][79]))
    stream, rows = coded(log), log.table.rows(named=True)
    live = rec.with_trends(rec.trends())
    found = StreamedModel(live, test, None, stream, len(train), ids_of(log)).ranks()
    live = rec.with_trends(trends := rec.trends())
    states, expected, unknown = defaultdict(rec.start), [], 0
    for moment in stream.moments(0, len(log)):
        for n in moment if moment[0] >= len(train) else ():
            state, target = states[rows[n]["user"]], rows[n]["item"]
            items = live.recommend(state, 99, at=rows[n]["time"] / 1e6, repeats=repeats)
            places = [place for place, one in enumerate(items, start=1) if one.item == target]
            expected.append(places[0] if places else MISS)
            unknown += bool(places) and target not in rec.vocabulary
        for n in moment:
            user, item, time = rows[n]["user"], rows[n]["item"], rows[n]["time"] / 1e6
            states[user] = live.observe(states[user], item, time=time)
            trends.observe(user, item, time=time)
    assert found.tolist() == expected and unknown > 3


@pytest.mark.parametrize("repeats", ["allow", "exclude"])
def test_scores_that_follow_trends_in_c_equal_their_twin(repeats, monkeypatch):
    rec, log = replace(small_recommender(repeats=repeats), ranker=random_ranker()), log_with_ties()
    found = []
    for pure in (False, True):
        monkeypatch.setattr(live_scores, "TrendLoops", type(None) if pure else TrendLoops)
        live = rec.with_trends(trends := rec.trends())
        states = defaultdict(live.start)
        for row in log.table.rows(named=True):
            states[row["user"]] = live.observe(states[row["user"]], row["item"], time=row["time"] / 1e6)
            trends.observe(row["user"], row["item"], time=row["time"] / 1e6)
        at = [int(log.table["time"][-1])] * len(states)
        scores = score_each(live, list(states.values()), at)
        before = scores.copy()
        found.append(live_scores.follow_trends(live, scores, list(states.values()), at))
        known = np.isfinite(before)
        assert (np.abs(found[-1][known] - before[known]) > 0.01).mean() > 0.3
    finite = np.isfinite(found[0])
    assert np.array_equal(finite, np.isfinite(found[1])) and np.abs(found[0][finite] - found[1][finite]).max() < 1e-4


def test_rows_for_new_items_grow_while_a_stream_is_read(monkeypatch):
    monkeypatch.setattr(live_scores, "ROOM", 1)
    rec, log = replace(small_recommender(), ranker=random_ranker()), log_with_ties()
    train, test = split_after(log, int(log.table["time"][9]))
    model = StreamedModel(rec.with_trends(rec.trends()), test, None, coded(log), len(train), ids_of(log))
    first, ranks = model.rec.vocabulary, model.ranks()
    unknown = ~np.isin(log.table["item"][len(train) :].cast(pl.String).to_list(), rec.vocabulary.texts)
    assert model.rec.vocabulary.size > first.size and np.isfinite(ranks[unknown]).sum() > 3


def test_states_are_the_same_with_trends_and_without():
    rec, log = replace(small_recommender(), ranker=random_ranker()), log_with_ties()
    live = rec.with_trends(trends := rec.trends())
    frozen_state, live_state = rec.start(), live.start()
    for row in log.table.rows(named=True)[:60]:
        trends.observe(row["user"], row["item"], time=row["time"] / 1e6)
        live.recommend(live_state, 3)  # unknown items get rows meanwhile
        live_state = live.observe(live_state, row["item"], time=row["time"] / 1e6)
        frozen_state = rec.observe(frozen_state, row["item"], time=row["time"] / 1e6)
    assert state_to_bytes(live_state) == state_to_bytes(frozen_state) and len(live_state.unknown) > 1
    assert live.vocabulary.size > rec.vocabulary.size and len(live.items) > len(rec.items)
    assert state_to_bytes(state_from_bytes(rec, state_to_bytes(live_state))) == state_to_bytes(live_state)
    one = log.with_table(log.table[:60].with_columns(user=pl.lit("u")))
    assert state_to_bytes(rec.encode(one)[0])[-200:] == state_to_bytes(frozen_state)[-200:]


def coded(log):
    codes = log.as_text().select(pl.col("user", "item").rank("dense") - 1, "time")
    return StreamLog.of(codes["user"], codes["item"], codes["time"])


def test_states_are_dropped_after_the_last_event_of_their_user():
    rec, log = small_recommender(), log_with_ties()
    train, test = split_after(log, int(log.table["time"][79]))
    model = StreamedModel(rec, test, None, coded(log), len(train), ids_of(log))
    model.ranks()
    assert not model.states and not model.coming


def without_ties(log):
    """The same rows in the same order, a second or more apart."""
    times = np.cumsum(np.random.default_rng(0).integers(1, 9000, len(log))) * 1_000_000
    return log.with_table(log.table.with_columns(time=pl.Series(times)))


@pytest.mark.parametrize("kind", ["ids", "attributes, profiles, types, context", "ratings"])
def test_without_ties_the_model_ranks_as_without_a_stream(kind):
    """The same states and questions: `segue.evaluate` at the time of each event."""
    users = None
    if kind == "ids":
        rec, log = small_recommender(), log_with_ties()
    elif kind == "ratings":
        rec, log = small_rater(), rated_log(users=9, events=160)
    else:
        log, users = described_log(), USERS
        rec = described_recommender(log)
    log = without_ties(log)
    _, test = split_after(log, int(log.table["time"][59]))
    report = segue.evaluate_stream(rec, test, users=users).rows["segue"]
    alone = segue.evaluate(rec, test, request_time="event", users=users).rows["segue"]
    assert {name: one.mean for name, one in report.items()} == pytest.approx({name: alone[name] for name in report})
    assert 0.05 < alone["ndcg@10"] < 1
