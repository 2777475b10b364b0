"""Baselines against loops over their formulas; tuning finds what was planted and looks at no test event."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from segue.data.sequences import Sequences
from segue.errors import ArgumentError
from segue.evaluation import baselines
from segue.evaluation.baselines import DecayedMarkov, ItemKNN, Popularity, RecentPopularity, tuned


def sequences_of(*lists, times=None):
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    rows = np.concatenate([np.array(one, np.int32) for one in lists])
    return Sequences(pl.Series([f"u{i}" for i in range(len(lists))]), offsets, rows, times)


def rows(*items):
    return np.array(items, np.int32)


def random_lists(users=25, items=9, unknown=True, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0 if unknown else 1, items, size).tolist() for size in rng.integers(0, 12, users)]


def slow_markov(lists, n_items, setting, history):
    """Scores of the items 1 on, one pair of events at a time; unknown items are not there."""
    known = [[item for item in one if item] for one in lists]
    counts = np.zeros((n_items, n_items))
    for one in known:
        for i in range(len(one)):
            for j in range(i + 1, min(i + setting.window, len(one) - 1) + 1):
                counts[one[i], one[j]] += 2 ** (-(j - i - 1) / setting.half_life)
    shares = np.bincount(np.concatenate(known).astype(int), minlength=n_items) / sum(map(len, known))
    scores = setting.smoothing * shares
    for lag, x in enumerate([item for item in reversed(history) if item][: setting.window]):
        if counts[x].sum():
            scores = scores + 2 ** (-lag / setting.half_life) * counts[x] / counts[x].sum() ** setting.norm
    return scores[1:]


@pytest.mark.parametrize("norm", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("block", [1, 2**23])
def test_markov_equals_the_slow_twin(norm, block, monkeypatch):
    monkeypatch.setattr(baselines, "_PAIRS", block)
    lists, setting = random_lists(), DecayedMarkov(window=3, half_life=1.5, norm=norm, smoothing=0.3)
    fitted = setting.fit(sequences_of(*lists), 10)
    for history in ([], [0, 0], [4], [1, 0, 2, 3], [7, 7, 1, 2, 3, 5], [9, 8]):
        expected = slow_markov(lists, 10, setting, history)
        np.testing.assert_allclose(fitted.score([rows(*history)])[0, 1:], expected, rtol=1e-5)


def slow_knn(lists, n_items, setting, history):
    users = [{user for user, one in enumerate(lists) if item in one} for item in range(n_items)]
    scores = np.zeros(n_items)
    known = [item for item in history if item]
    for x in known if setting.window is None else known[-setting.window :]:
        likeness = np.zeros(n_items)
        for y in range(1, n_items):
            if y != x and users[x] & users[y]:
                below = np.sqrt(len(users[x]) * len(users[y])) + setting.shrinkage
                likeness[y] = len(users[x] & users[y]) / below
        likeness = likeness.astype(np.float32)
        for y in sorted(range(n_items), key=lambda y: (-likeness[y], y))[: setting.neighbours]:
            scores[y] += likeness[y]
    return scores[1:]


@pytest.mark.parametrize("setting", [ItemKNN(3, 0.0, None), ItemKNN(4, 2.0, 2), ItemKNN(100, 1.0, None)])
@pytest.mark.parametrize("block", [1, 60, 2**23])
def test_knn_equals_the_slow_twin(setting, block, monkeypatch):
    monkeypatch.setattr(baselines, "_PAIRS", block)
    lists = random_lists(seed=3)
    fitted = setting.fit(sequences_of(*lists), 10)
    for history in ([4], [1, 0, 2, 3], [7, 7, 1, 2]):
        expected = slow_knn(lists, 10, setting, history)
        np.testing.assert_allclose(fitted.score([rows(*history)])[0, 1:], expected, rtol=1e-5, atol=2e-6)


def test_of_equal_neighbours_the_first_rows_are_kept():
    fitted = ItemKNN(neighbours=2, shrinkage=0.0).fit(sequences_of([4, 1, 3, 2]), 5)
    assert fitted.score([rows(1)])[0, 1:].round(3).tolist() == [0.0, 1.0, 1.0, 0.0]


def test_recent_popularity_halves_by_share_of_the_log_and_equal_times_weigh_alike():
    times = np.array([0, 30, 10, 30])
    log = sequences_of([1, 2], [3, 4], times=times)
    found = RecentPopularity(half_life=0.25).fit(log, 5).score([rows()])[0, 1:]
    raw = np.array([2.0**-3, 1.0, 2.0**-2, 1.0])  # 3 of 4 events are later, 0, 2, 0
    np.testing.assert_allclose(found, raw / raw.sum(), rtol=1e-6)


def test_recent_popularity_without_times_goes_by_the_place_in_the_sequence():
    found = RecentPopularity(half_life=0.5).fit(sequences_of([1, 2], [3]), 4).score([rows()])[0, 1:]
    np.testing.assert_allclose(found, np.array([0.5, 1.0, 1.0]) / 2.5, rtol=1e-6)


def test_tuning_finds_the_planted_setting_and_fits_on_everything():
    # An item says what comes two steps later; what is between them is noise.
    rng = np.random.default_rng(0)
    lists = [[x, int(rng.integers(5, 60)), x + 60] for x in rng.integers(1, 5, 200).tolist()]
    log = sequences_of(*[[*one, int(rng.integers(1, 5))] for one in lists], *[[*one] for one in lists])
    found = tuned(DecayedMarkov, log, 65, grid={"window": (1, 2)}, max_queries=200)
    train, histories, targets = baselines._held_out(log, 200)
    trial = baselines._trial(train, histories, targets, 65, False)
    worth = {window: trial(DecayedMarkov(window=window)) for window in (10, 1, 2)}
    assert found.settings["window"] == max(worth, key=worth.__getitem__) != 1
    assert len(set(worth.values())) == 3
    expected = found.baseline.fit(log, 65).score([rows(1, 2)])
    np.testing.assert_array_equal(found.score([rows(1, 2)]), expected)


def test_tuning_changes_the_settings_one_by_one_to_the_highest_and_keeps_the_first_of_equals():
    worth = {(1, 0.0): 1.0, (5, 0.0): 3.0, (5, 1.0): 4.0, (1, 1.0): 9.0, (9, 0.0): 3.0, (9, 1.0): 4.0}
    asked = []

    def trial(setting):
        asked.append((setting.window, setting.norm))
        return worth[asked[-1]]

    start = DecayedMarkov(window=1, norm=0.0)
    found = baselines._climb(start, {"window": (1, 5, 9), "norm": (0.0, 1.0)}, trial, 99)
    assert (found.window, found.norm) == (1, 1.0)  # a second round leaves 5 for 1
    assert len(asked) == len(set(asked))


def test_when_the_trials_are_used_up_the_best_so_far_is_taken():
    found = baselines._climb(
        DecayedMarkov(window=1), {"window": (2, 3, 4)}, lambda setting: {1: 0, 2: 5, 3: 9, 4: 99}[setting.window], 3
    )
    assert found.window == 3


def test_held_out_are_the_last_events_and_nothing_else():
    log = sequences_of([1, 2, 3], [4], [], [5, 6])
    train, histories, targets = baselines._held_out(log, 2000)
    assert train.items.tolist() == [1, 2, 5]
    assert [one.tolist() for one in histories] == [[1, 2], [5]]
    assert targets.tolist() == [3, 6]


def test_tuning_leaves_out_what_was_seen_when_the_report_does():
    log = sequences_of([1, 1, 1, 2], [1, 1, 1, 2])
    train, histories, targets = baselines._held_out(log, 2000)
    assert baselines._trial(train, histories, targets, 4, False)(Popularity()) < 1
    with_filter = baselines._trial(sequences_of([1, 1, 2]), histories, targets, 4, True)
    assert with_filter(Popularity()) == 1.0


def test_the_report_shows_the_settings():
    fitted = ItemKNN(neighbours=7).fit(sequences_of([1, 2]), 3)
    assert fitted.name == "item-kNN (neighbours 7, shrinkage 10.0, window None)"
    assert Popularity().fit(sequences_of([1]), 2).name == "popularity"


LOG = sequences_of([1, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Popularity().fit(LOG, 2), "sequences: expected rows from 0 to 1, came 1 to 2"),
        (lambda: ItemKNN().fit(LOG, 3).score([rows(3)]), "histories: expected rows from 0 to 2, came 3 to 3"),
        (lambda: ItemKNN().fit(LOG, 3).score([rows(-1)]), "histories: expected rows from 0 to 2, came -1 to -1"),
        (lambda: DecayedMarkov(window=0), "decayed Markov, window: expected a number above 0, came 0"),
        (lambda: replace(DecayedMarkov(), norm=-1.0), "decayed Markov, norm: expected 0 or more, came -1.0"),
        (lambda: RecentPopularity(half_life=float("nan")), "half_life: expected a number above 0, came nan"),
        (lambda: ItemKNN(window=0), "item-kNN, window: expected a number above 0, came 0"),
        (
            lambda: tuned(ItemKNN, LOG, 3, grid={"depth": (1,)}),
            "item-kNN, grid: expected settings among ['neighbours',",
        ),
    ],
)
def test_what_cannot_hold_is_refused(call, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        call()
