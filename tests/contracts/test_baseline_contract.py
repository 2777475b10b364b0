"""Every baseline in the registry keeps the contract that the evaluator relies on."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import polars as pl
import pytest

from segue.data.sequences.sequences import Sequences
from segue.evaluation.baselines.als import ALS
from segue.evaluation.baselines.content_knn import ContentKNN
from segue.evaluation.baselines.contract import Baseline, Fitted
from segue.evaluation.baselines.counting import RecentPopularity
from segue.evaluation.baselines.transition_graph import TransitionGraph
from segue.evaluation.baselines.tuning import tuned
from segue.evaluation.registry import BASELINES

ITEMS = 12
FEATURES = np.random.default_rng(8).normal(size=(ITEMS + 3, 4)).astype(np.float32)


@pytest.fixture(params=BASELINES)
def kind(request):
    if request.param is ALS:
        pytest.importorskip("implicit")
    return request.param


def log(order=None):
    rng = np.random.default_rng(4)
    lists = [rng.integers(0, ITEMS, size).astype(np.int32) for size in (5, 0, 1, 9, 30, 2)]
    stamps = [np.sort(rng.integers(0, 10**9, len(one))) for one in lists]
    order = range(len(lists)) if order is None else order
    offsets = np.concatenate([[0], np.cumsum([len(lists[i]) for i in order])])
    return Sequences(
        pl.Series([f"u{i}" for i in order]),
        offsets,
        np.concatenate([lists[i] for i in order]),
        np.concatenate([stamps[i] for i in order]),
    )


HISTORIES = [np.array(one, np.int32) for one in ([], [0, 0], [3], [3, 0, 4], [3, 4], [1] * 40, range(1, ITEMS))]


def test_no_baseline_is_forgotten():
    written = {kind for kind in Baseline.__subclasses__() if kind.__module__.startswith("segue.")}
    assert written == set(BASELINES)


class TestBaseline:
    def test_it_is_a_frozen_dataclass_whose_grid_names_its_settings(self, kind):
        assert is_dataclass(kind)
        assert kind.__dataclass_params__.frozen
        assert isinstance(kind(), Baseline)
        names = {field.name for field in fields(kind)}
        assert set(kind.grid) <= names
        assert kind.reading <= names & {"window", "half_life"}

    def test_scores_are_float32_finite_and_never_of_unknown(self, kind):
        fitted = kind().fit(log(), ITEMS + 3, FEATURES)  # three items without events
        scores = fitted.score(HISTORIES)
        assert isinstance(fitted, Fitted)
        assert scores.dtype == np.float32
        assert scores.shape == (len(HISTORIES), ITEMS + 3)
        assert (scores[:, 0] == -np.inf).all()
        assert np.isfinite(scores[:, 1:]).all()
        assert fitted.score([]).shape == (0, ITEMS + 3)

    def test_unknown_items_of_a_history_are_as_if_they_were_not_there(self, kind):
        scores = kind().fit(log(), ITEMS, FEATURES[:ITEMS]).score(HISTORIES)
        np.testing.assert_array_equal(scores[0], scores[1])
        np.testing.assert_array_equal(scores[3], scores[4])

    def test_queries_do_not_see_each_other(self, kind):
        fitted = kind().fit(log(), ITEMS, FEATURES[:ITEMS])
        together = fitted.score(HISTORIES)
        alone = np.concatenate([fitted.score([history]) for history in HISTORIES])
        np.testing.assert_allclose(together, alone, rtol=1e-6)

    def test_the_order_of_the_users_does_not_matter(self, kind):
        one = kind().fit(log(), ITEMS, FEATURES[:ITEMS]).score(HISTORIES)
        other = kind().fit(log(order=[4, 0, 5, 3, 2, 1]), ITEMS, FEATURES[:ITEMS]).score(HISTORIES)
        np.testing.assert_allclose(one, other, rtol=1e-5)

    def test_nothing_that_is_given_changes(self, kind):
        given, histories, features = log(), [one.copy() for one in HISTORIES], FEATURES[:ITEMS].copy()
        fitted = tuned(kind, given, ITEMS, features=features, exclude_seen=True)
        first = fitted.score(histories)
        expected = first.copy()
        first[:] = 7
        np.testing.assert_array_equal(given.items, log().items)
        np.testing.assert_array_equal(given.offsets, log().offsets)
        np.testing.assert_array_equal(features, FEATURES[:ITEMS])
        for one, before in zip(histories, HISTORIES, strict=True):
            np.testing.assert_array_equal(one, before)
        np.testing.assert_array_equal(fitted.score(histories), expected)

    def test_a_log_without_events_scores_all_alike(self, kind):
        nobody = Sequences(pl.Series([], dtype=pl.String), np.zeros(1, np.int64), np.zeros(0, np.int32))
        scores = tuned(kind, nobody, 4, features=np.eye(4, dtype=np.float32)).score([np.array([2], np.int32)])
        assert scores[0, 1:].tolist() == [0.0, 0.0, 0.0]

    def test_an_item_without_events_is_scored_by_content_alone(self, kind):
        cold = slice(ITEMS, None)
        scores = kind().fit(log(), ITEMS + 3, FEATURES).score(HISTORIES)
        none = kind().fit(log(), ITEMS + 3, np.zeros_like(FEATURES)).score(HISTORIES)
        assert np.all(none[:, cold] == 0)
        assert np.any(scores[:, cold] > 0) == (kind in (ContentKNN, TransitionGraph))

    def test_a_history_can_be_read_by_other_settings_without_a_fit(self, kind):
        one = kind()
        for name in kind.reading:
            other = replace(one, **{name: 2})
            assert one.learns_like(other)
            expected = other.fit(log(), ITEMS, FEATURES[:ITEMS])
            found = one.fit(log(), ITEMS, FEATURES[:ITEMS]).read_by(other)
            np.testing.assert_array_equal(found.score(HISTORIES), expected.score(HISTORIES))
            assert (found.name, found.settings) == (expected.name, expected.settings)
        for name in set(kind.grid) - kind.reading:
            assert not one.learns_like(
                replace(one, **{name: next(v for v in kind.grid[name] if v != one.settings[name])})
            )

    def test_an_obstacle_is_none_or_a_sentence(self, kind):
        for features in (None, FEATURES):
            for n_items in (len(FEATURES), 10**7):
                found = kind.obstacle(n_items, features)
                assert found is None or (found.startswith(f"{kind.title}: expected") and found[-1] in '."')
        assert 0 < kind.operations(100, 10) <= kind.operations(10**6, 10**4)


def test_an_empty_history_is_ranked_by_popularity(kind):
    if kind is RecentPopularity:
        pytest.skip("its popularity is another")
    known = log()
    counts = np.bincount(known.items[known.items > 0], minlength=ITEMS)[1:]
    scores = kind().fit(known, ITEMS, FEATURES[:ITEMS]).score([np.array([], np.int32)])[0, 1:]
    np.testing.assert_array_equal(np.argsort(-scores, kind="stable"), np.argsort(-counts, kind="stable"))
