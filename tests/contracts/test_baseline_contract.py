"""Every baseline in the registry keeps the contract that the evaluator relies on."""

import inspect
from dataclasses import fields, is_dataclass

import numpy as np
import polars as pl
import pytest

from segue.data.sequences import Sequences
from segue.evaluation import baselines
from segue.evaluation.baselines import BASELINES, Baseline, Fitted, RecentPopularity, tuned

ITEMS = 12


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
    written = {
        kind
        for _, kind in inspect.getmembers(baselines, inspect.isclass)
        if kind.__module__ == baselines.__name__ and hasattr(kind, "grid") and kind is not Baseline
    }
    assert written == set(BASELINES)


@pytest.mark.parametrize("kind", BASELINES)
class TestBaseline:
    def test_it_is_a_frozen_dataclass_whose_grid_names_its_settings(self, kind):
        assert is_dataclass(kind)
        assert kind.__dataclass_params__.frozen
        assert isinstance(kind(), Baseline)
        assert set(kind.grid) == {field.name for field in fields(kind)}

    def test_scores_are_float32_finite_and_never_of_unknown(self, kind):
        fitted = kind().fit(log(), ITEMS + 3)  # three items without events
        scores = fitted.score(HISTORIES)
        assert isinstance(fitted, Fitted)
        assert scores.dtype == np.float32
        assert scores.shape == (len(HISTORIES), ITEMS + 3)
        assert (scores[:, 0] == -np.inf).all()
        assert np.isfinite(scores[:, 1:]).all()
        assert fitted.score([]).shape == (0, ITEMS + 3)

    def test_unknown_items_of_a_history_are_as_if_they_were_not_there(self, kind):
        scores = kind().fit(log(), ITEMS).score(HISTORIES)
        np.testing.assert_array_equal(scores[0], scores[1])
        np.testing.assert_array_equal(scores[3], scores[4])

    def test_queries_do_not_see_each_other(self, kind):
        fitted = kind().fit(log(), ITEMS)
        together = fitted.score(HISTORIES)
        alone = np.concatenate([fitted.score([history]) for history in HISTORIES])
        np.testing.assert_allclose(together, alone, rtol=1e-6)

    def test_the_order_of_the_users_does_not_matter(self, kind):
        one = kind().fit(log(), ITEMS).score(HISTORIES)
        other = kind().fit(log(order=[4, 0, 5, 3, 2, 1]), ITEMS).score(HISTORIES)
        np.testing.assert_allclose(one, other, rtol=1e-5)

    def test_nothing_that_is_given_changes(self, kind):
        given, histories = log(), [one.copy() for one in HISTORIES]
        fitted = tuned(kind, given, ITEMS, exclude_seen=True)
        first = fitted.score(histories)
        expected = first.copy()
        first[:] = 7
        np.testing.assert_array_equal(given.items, log().items)
        np.testing.assert_array_equal(given.offsets, log().offsets)
        for one, before in zip(histories, HISTORIES, strict=True):
            np.testing.assert_array_equal(one, before)
        np.testing.assert_array_equal(fitted.score(histories), expected)

    def test_a_log_without_events_scores_all_alike(self, kind):
        nobody = Sequences(pl.Series([], dtype=pl.String), np.zeros(1, np.int64), np.zeros(0, np.int32))
        scores = tuned(kind, nobody, 4).score([np.array([2], np.int32)])
        assert scores[0, 1:].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", [kind for kind in BASELINES if kind is not RecentPopularity])
def test_an_empty_history_is_ranked_by_popularity(kind):
    known = log()
    counts = np.bincount(known.items[known.items > 0], minlength=ITEMS)[1:]
    scores = kind().fit(known, ITEMS).score([np.array([], np.int32)])[0, 1:]
    np.testing.assert_array_equal(np.argsort(-scores, kind="stable"), np.argsort(-counts, kind="stable"))
