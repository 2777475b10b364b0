"""Baselines against loops over their formulas; tuning finds what was planted and looks at no test event."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from segue.data.sequences import transition_counts
from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError
from segue.evaluation.baselines import content_knn, ease, tuning
from segue.evaluation.baselines.als import ALS
from segue.evaluation.baselines.content_knn import ContentKNN
from segue.evaluation.baselines.counting import DecayedMarkov, ItemKNN, Popularity, RecentPopularity
from segue.evaluation.baselines.ease import EASE
from segue.evaluation.baselines.tuning import tuned
from segue.evaluation.registry import TrainingData, fit_all
from segue.metrics.coordinate_search import coordinate_search


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
    monkeypatch.setattr(transition_counts, "PAIRS", block)
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
    monkeypatch.setattr(transition_counts, "PAIRS", block)
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
    train, histories, targets = tuning._held_out(log, 200)
    trial = tuning._trial(tuning._fitter(train, 65, None), histories, targets, False)
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
    found = coordinate_search(start, {"window": (1, 5, 9), "norm": (0.0, 1.0)}, trial, replace, trials=99)
    assert (found.window, found.norm) == (1, 1.0)  # a second round leaves 5 for 1
    assert len(asked) == len(set(asked))


def test_when_the_trials_are_used_up_the_best_so_far_is_taken():
    worth, grid = {1: 0, 2: 5, 3: 9, 4: 99}, {"window": (2, 3, 4)}
    found = coordinate_search(DecayedMarkov(window=1), grid, lambda setting: worth[setting.window], replace, trials=3)
    assert found.window == 3


def test_held_out_are_the_last_events_and_nothing_else():
    log = sequences_of([1, 2, 3], [4], [], [5, 6])
    train, histories, targets = tuning._held_out(log, 2000)
    assert train.items.tolist() == [1, 2, 5]
    assert [one.tolist() for one in histories] == [[1, 2], [5]]
    assert targets.tolist() == [3, 6]


def test_tuning_leaves_out_what_was_seen_when_the_report_does():
    log = sequences_of([1, 1, 1, 2], [1, 1, 1, 2])
    train, histories, targets = tuning._held_out(log, 2000)
    assert tuning._trial(tuning._fitter(train, 4, None), histories, targets, False)(Popularity()) < 1
    fit = tuning._fitter(sequences_of([1, 1, 2]), 4, None)
    with_filter = tuning._trial(fit, histories, targets, True)
    assert with_filter(Popularity()) == 1.0


def slow_ease(lists, n_items, setting, history):
    """Each item's column solved on its own: all other items predict it, its own weight is held at zero."""
    used = np.zeros((len(lists), n_items))
    for user, one in enumerate(lists):
        used[user, [item for item in one if item]] = 1
    scores = np.zeros(n_items)
    known = [item for item in history if item]
    for y in range(1, n_items):
        others = [x for x in range(1, n_items) if x != y]
        X = used[:, others]
        weights = np.linalg.solve(X.T @ X + setting.regularisation * np.eye(len(others)), X.T @ used[:, y])
        for x in set(known):
            lag = known[::-1].index(x)
            if x != y:
                scores[y] += 2 ** (-lag / setting.half_life) * weights[others.index(x)]
    return scores[1:]


@pytest.mark.parametrize("setting", [EASE(0.5), EASE(20.0), EASE(3.0, half_life=1.5)])
def test_ease_equals_the_direct_solve_of_each_item(setting):
    lists = random_lists(seed=5)
    fitted = setting.fit(sequences_of(*lists), 10)
    for history in ([4], [1, 0, 2, 3], [7, 7, 1, 2, 7]):
        expected = slow_ease(lists, 10, setting, history)
        np.testing.assert_allclose(fitted.score([rows(*history)])[0, 1:], expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 50])
def test_blocks_invert_what_one_block_does(n, monkeypatch):
    monkeypatch.setattr(ease, "_WHOLE", 4)
    monkeypatch.setattr(ease, "_BLOCK", 8)
    drawn = np.random.default_rng(n).standard_normal((n, n))
    matrix = drawn @ drawn.T + np.eye(n)
    given = np.tril(matrix) + np.triu(np.full((n, n), np.nan), 1)  # the upper triangle is not read
    found = np.tril(ease.invert(given))
    np.testing.assert_allclose(found, np.tril(np.linalg.inv(matrix)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("whole", [4, 4096])
def test_a_matrix_that_is_not_positive_definite_is_refused(whole, monkeypatch):
    monkeypatch.setattr(ease, "_WHOLE", whole)
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        ease.invert(np.diag([1.0] * 9 + [-1.0]))


def test_lapack_has_one_thread_however_large_the_matrix(monkeypatch):
    """With two, OpenBLAS 0.3.30 writes beyond its buffer from some 18,000 rows on, and the process is gone."""
    from scipy.linalg import lapack
    from threadpoolctl import threadpool_info

    seen, factorise = [], lapack.dpotrf

    def watched(matrix, **options):
        seen.append((len(matrix), {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}))
        return factorise(matrix, **options)

    monkeypatch.setattr(lapack, "dpotrf", watched)
    monkeypatch.setattr(ease, "_WHOLE", 600)
    EASE().fit(sequences_of(*random_lists()), 600)
    EASE().fit(sequences_of(*random_lists()), 601)
    assert [rows for rows, _ in seen] == [600, 256, 256, 89]
    assert all(threads == {1} for _, threads in seen)


def slow_als(factors, alpha, regularisation, history):
    """The paper's equation 4 with a diagonal of confidences, one user at a time."""
    confidence, wanted = np.ones(len(factors)), np.zeros(len(factors))
    for x in history:
        confidence[x], wanted[x] = 1 + alpha, 1
    left = factors.T @ np.diag(confidence) @ factors + regularisation * np.eye(factors.shape[1])
    return factors @ np.linalg.solve(left, factors.T @ np.diag(confidence) @ wanted)


def test_als_solves_a_new_user_by_the_papers_equation_and_is_the_same_for_the_same_seed():
    pytest.importorskip("implicit")
    setting = ALS(factors=4, regularisation=0.3, alpha=5.0)
    log = sequences_of(*random_lists(users=40, seed=1))
    fitted, again, other = setting.fit(log, 10), setting.fit(log, 10), replace(setting, seed=1).fit(log, 10)
    factors = fitted.model.item_factors.astype(np.float64)
    expected = slow_als(factors, 5.0, 0.3, [1, 2, 3])
    found = fitted.score([rows(1, 0, 2, 3, 3)])
    np.testing.assert_allclose(found[0, 1:], expected[1:], atol=1e-4)
    np.testing.assert_array_equal(found, again.score([rows(1, 2, 3)]))
    assert not np.array_equal(found, other.score([rows(1, 2, 3)]))


def test_als_finds_two_kinds_of_users():
    pytest.importorskip("implicit")
    rng = np.random.default_rng(0)
    lists = [(1 + 10 * (user % 2) + rng.choice(10, 6, replace=False)).tolist() for user in range(60)]
    scores = ALS(factors=2, regularisation=1.0).fit(sequences_of(*lists), 21).score([rows(2), rows(13)])
    assert scores[0, 1:11].min() > scores[0, 11:].max()
    assert scores[1, 1:11].max() < scores[1, 11:].min()


def slow_content(features, setting, history):
    """Scores of the items 1 on, one pair of items at a time."""
    n_items = len(features)
    scores = np.zeros(n_items)
    known = [item for item in history if item]
    for lag, x in enumerate(known[::-1][: setting.window]):
        likeness = np.zeros(n_items)
        for y in range(1, n_items):
            lengths = np.linalg.norm(features[x]) * np.linalg.norm(features[y])
            if y != x and lengths:
                likeness[y] = max(features[x] @ features[y] / lengths, 0)
        for y in sorted(range(n_items), key=lambda y: (-round(likeness[y], 6), y))[: setting.neighbours]:
            scores[y] += 2 ** (-lag / setting.half_life) * likeness[y]
    return scores[1:]


@pytest.mark.parametrize("setting", [ContentKNN(3, None, np.inf), ContentKNN(4, 2, 1.5), ContentKNN(100, 3, 2.0)])
@pytest.mark.parametrize("block", [1, 60, 2**24])
def test_content_equals_the_slow_twin(setting, block, monkeypatch):
    monkeypatch.setattr(content_knn, "COSINES", block)
    features = np.random.default_rng(2).normal(size=(14, 3)).astype(np.float32)
    features[[5, 8]] = 0
    fitted = setting.fit(sequences_of([1, 2], [3]), 14, features)  # most items have no event
    for history in ([4], [5], [1, 0, 2, 3], [7, 7, 1, 12]):
        found = fitted.score([rows(*history)])[0, 1:]
        np.testing.assert_allclose(found, slow_content(features, setting, history), atol=2e-6)


def test_of_equally_like_items_the_first_rows_are_kept():
    fitted = ContentKNN(neighbours=2).fit(sequences_of([1]), 6, np.ones((6, 2), np.float32))
    assert fitted.score([rows(3)])[0, 1:].round(3).tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_settings_that_only_read_a_history_cost_no_fit(monkeypatch):
    fits, counts = [], []

    class Counting(ItemKNN):
        def of_counts(self, counts):
            fits.append(self)
            return super().of_counts(counts)

        def count(self, *given):
            counts.append(self)
            return super().count(*given)

    log = sequences_of(*random_lists())
    found = tuned(Counting, log, 10, grid={"window": (1, 2, 3), "shrinkage": (1.0,)})
    assert len(fits) <= 5
    assert len(counts) == 2  # once for all trials, once for the whole log
    expected = found.baseline.fit(log, 10).score([rows(1, 2, 3)])
    np.testing.assert_array_equal(found.score([rows(1, 2, 3)]), expected)


def test_when_one_trial_is_too_much_the_defaults_are_taken():
    assert tuned(ItemKNN, sequences_of(*random_lists()), 10, trials=1).settings == ItemKNN().settings


def test_what_cannot_be_fitted_is_named_with_the_reason(monkeypatch):
    monkeypatch.setattr(ease, "LARGEST", 5)
    monkeypatch.setattr("segue.evaluation.baselines.als.find_spec", lambda name: None)
    beside = fit_all(TrainingData(sequences_of([1, 2, 3, 1]), 10))
    assert [name.partition(" (")[0] for name in beside.fitted] == [
        "popularity",
        "recent popularity",
        "own popularity",
        "decayed Markov",
        "item-kNN",
        "session-kNN",
    ]
    for sentence, said in zip(
        beside.left_out,
        (
            "Left out: EASE: expected at most 5 items, came 9: its matrix of items by items would take 0 GB",
            'Left out: ALS: expected the package implicit, it is not installed. pip install "segue[als]"',
            "Left out: content-kNN: expected features of the items, came none.",
            "Left out: transition graph: expected features of the items, came none.",
        ),
        strict=True,
    ):
        assert sentence.startswith(said)


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
        (lambda: ContentKNN().fit(LOG, 3), "content-kNN: expected features of the items, came none"),
        (
            lambda: ContentKNN().fit(LOG, 3, np.ones((2, 4), np.float32)),
            "expected features of shape (3, m), a row for each of the scores, came (2, 4)",
        ),
        (
            lambda: ContentKNN().fit(LOG, 3, np.full((3, 1), np.nan, np.float32)),
            "features: expected numbers, came NaN or an infinity",
        ),
        (lambda: EASE().fit(LOG, 20_002), "EASE: expected at most 20,000 items, came 20,001: its matrix"),
        (lambda: EASE(regularisation=0.0), "EASE, regularisation: expected a number above 0, came 0.0"),
        (lambda: ALS(alpha=0.0), "ALS, alpha: expected a number above 0, came 0.0"),
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
