"""Ranks, metrics and baselines against loops that can be read at a glance."""

import numpy as np
import polars as pl
import pytest

from segue.data.sequences.sequences import Sequences
from segue.evaluation.baselines.counting import DecayedMarkov, ItemKNN, Popularity, RecentPopularity
from segue.metrics.bootstrap import paired_bootstrap
from segue.metrics.metrics import next_item_metrics
from segue.metrics.ranks import target_ranks


def test_ranks_are_counted_one_by_one():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (40, 9)).astype(np.float32)
    targets = rng.integers(1, 9, 40)
    slow = [sum(scores[q, i] >= scores[q, t] for i in range(1, 9)) for q, t in enumerate(targets)]
    np.testing.assert_array_equal(target_ranks(scores, targets), slow)


def test_metrics_of_ranks_by_hand():
    found = next_item_metrics(np.array([1.0, 3.0, 11.0]), ks=(10,))
    assert found["hr@10"] == pytest.approx(2 / 3)
    assert found["recall@10"] == pytest.approx(2 / 3)
    assert found["precision@10"] == pytest.approx(2 / 30)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / np.log2(4)) / 3)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 3) / 3)


def test_bootstrap_holds_the_difference_and_a_tie_holds_zero():
    rng = np.random.default_rng(1)
    a = rng.random(400)
    better = paired_bootstrap(a + 0.1, a)
    assert better.low == pytest.approx(0.1)
    noise = paired_bootstrap(a, rng.permutation(a))
    assert noise.low < 0 < noise.high


@pytest.mark.parametrize("kind", [Popularity, RecentPopularity, DecayedMarkov, ItemKNN])
def test_every_baseline_keeps_the_contract(kind):
    rng = np.random.default_rng(2)
    items = rng.integers(0, 8, 60).astype(np.int32)
    sequences = Sequences(pl.Series([str(u) for u in range(6)]), np.arange(0, 61, 10), items)
    before = items.copy()
    fitted = kind().fit(sequences, 9)
    none = np.array([], np.int32)
    scores = fitted.score([none, np.array([3, 0, 4], np.int32), np.array([3, 4], np.int32)])
    assert scores.shape == (3, 9)
    assert np.all(scores[:, 0] == -np.inf)
    assert np.isfinite(scores[:, 1:]).all()
    np.testing.assert_array_equal(scores[1], scores[2])
    np.testing.assert_array_equal(items, before)


def test_markov_prefers_what_followed():
    sequences = Sequences(pl.Series(["a", "b"]), np.array([0, 3, 6]), np.array([1, 2, 3, 1, 2, 3], np.int32))
    scores = DecayedMarkov().fit(sequences, 4).score([np.array([1], np.int32), np.array([1, 2], np.int32)])
    assert scores.argmax(axis=1).tolist() == [2, 3]
