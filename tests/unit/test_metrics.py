"""Metrics against loops over their formulas, their edges, and the bootstrap against its known spread."""

import math
import re

import numpy as np
import pytest

from segue.errors import ArgumentError
from segue.metrics import bootstrap, metrics
from segue.metrics.bootstrap import paired_bootstrap
from segue.metrics.metrics import coverage, mae, next_item_metrics, rmse


def slow(name, rank, k):
    """One metric of a list with one hit, by the formula of lists."""
    hits = [place == rank for place in range(1, k + 1)]
    if name == "hit_rate":
        return float(any(hits))
    if name == "precision":
        return sum(hits) / k
    if name == "recall":
        return float(sum(hits))
    if name == "mrr":
        return 1 / (hits.index(True) + 1) if any(hits) else 0.0
    if name == "ndcg":
        return sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
    return float(sum(sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit))


NAMES = ["hit_rate", "precision", "recall", "ndcg", "mrr", "mean_average_precision"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 5, 10])
def test_a_metric_of_ranks_equals_the_slow_formula_of_lists(name, k):
    ranks = np.arange(1.0, 15)
    expected = [slow(name, rank, k) for rank in ranks]
    np.testing.assert_allclose(getattr(metrics, name)(ranks, k=k), expected, rtol=1e-12)


def test_report_rows_are_the_means_in_order():
    rows = next_item_metrics(np.array([1.0, 10.0, 11.0]), ks=(1, 10))
    assert list(rows)[:7] == ["hr@1", "precision@1", "recall@1", "ndcg@1", "mrr@1", "map@1", "hr@10"]
    assert rows["hr@10"] == pytest.approx(2 / 3)
    assert rows["mrr@10"] == pytest.approx(1.1 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: next_item_metrics(np.array([])), "expected at least one query, came none"),
        (lambda: metrics.ndcg(np.array([0.0, 1.0]), k=10), "every rank to be 1 or more, came k 10 and lowest rank 0.0"),
        (lambda: metrics.mrr(np.array([1.0]), k=0), "came k 0"),
        (lambda: metrics.mrr(np.array([np.nan]), k=1), "every rank to be 1 or more"),
        (lambda: coverage(np.array([[5]]), n_items=5), "came rows 0 to 5 and n_items 5"),
        (lambda: rmse([1.0], [1.0, 2.0]), "two equally long lists of numbers, came shapes (1,) and (2,)"),
        (lambda: mae([np.nan], [1.0]), "with 1 NaN"),
        (lambda: rmse([], []), "came shapes (0,) and (0,)"),
        (lambda: paired_bootstrap([1.0], [1.0, 2.0]), "one number per query in both arrays"),
        (lambda: paired_bootstrap([1.0, np.nan], [1.0, 2.0]), "bootstrap, query 1: expected a number, came NaN"),
        (lambda: paired_bootstrap([1.0], [0.0], level=1.0), "a level between 0 and 1, came draws 2000 and level 1.0"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        call()


def test_coverage_of_all_is_1_and_row_0_is_not_an_item():
    assert coverage(np.array([[1, 2], [3, 0]]), n_items=4) == 1.0
    assert coverage(np.zeros((2, 2), int), n_items=4) == 0.0


def test_errors_of_ratings_by_hand():
    assert rmse([3.0, 5.0], [0.0, 1.0]) == pytest.approx(math.sqrt(12.5))
    assert mae([3.0, 5.0], [0.0, 9.0]) == 3.5


def test_interval_is_as_wide_as_the_standard_error_says():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.1, 1, 900), rng.normal(0, 1, 900)
    found = paired_bootstrap(a, b, draws=4000)
    error = (a - b).std() / 30
    assert found.mean == pytest.approx((a - b).mean())
    assert (found.low, found.high) == pytest.approx((found.mean - 1.96 * error, found.mean + 1.96 * error), abs=0.01)
    assert paired_bootstrap(a, b, draws=4000, level=0.5).high < found.high


def test_whole_users_are_drawn_so_copies_of_a_query_add_no_certainty():
    rng = np.random.default_rng(1)
    a, b, user = rng.random(50), rng.random(50), np.arange(50)
    once = paired_bootstrap(a, b, groups=user)
    copies = paired_bootstrap(np.repeat(a, 20), np.repeat(b, 20), groups=np.repeat(user, 20))
    blind = paired_bootstrap(np.repeat(a, 20), np.repeat(b, 20))
    assert copies.low == pytest.approx(once.low)
    assert blind.high - blind.low < 0.5 * (once.high - once.low)


def test_a_user_with_many_queries_weighs_as_many():
    found = paired_bootstrap([1.0, 1.0, 1.0, 0.0], [0.0] * 4, groups=["ann", "ann", "ann", "bob"])
    assert found.mean == 0.75
    assert (found.low, found.high) == (0.0, 1.0)
    # Half of the draws hold both users, and then 3 of 4 queries are won, not half.
    middle = paired_bootstrap([1.0, 1.0, 1.0, 0.0], [0.0] * 4, groups=["ann", "ann", "ann", "bob"], level=0.4)
    assert (middle.low, middle.high) == (0.75, 0.75)


def test_small_blocks_draw_on(monkeypatch):
    a, b = np.random.default_rng(2).random((2, 40))
    monkeypatch.setattr(bootstrap, "_BLOCK", 400)
    found = paired_bootstrap(a, b, draws=995)
    error = (a - b).std() / np.sqrt(40)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert found == paired_bootstrap(a, b, draws=995)
    assert found != paired_bootstrap(a, b, draws=995, seed=1)
