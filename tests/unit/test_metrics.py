"""Metrics against loops over their formulas, their edges, and the bootstrap against its known spread."""

import math
import re

import numpy as np
import pytest

from segue.errors import ArgumentError
from segue.metrics import bootstrap, list_metrics, metrics, probabilities, several_targets
from segue.metrics.bootstrap import paired_bootstrap
from segue.metrics.lists import coverage, diversity, gini, novelty, popularity_bias, serendipity
from segue.metrics.metrics import auc, mae, next_item_metrics, rmse
from segue.metrics.probabilities import calibration, calibration_error, log_loss
from segue.metrics.ranks import target_ranks
from segue.metrics.several_targets import Relevance, set_auc


def slow(name, hits, relevant, k):
    """One metric of one list, by its formula."""
    hits = list(hits[:k])
    if name == "hit_rate":
        return float(any(hits))
    if name == "precision":
        return sum(hits) / k
    if name == "recall":
        return sum(hits) / relevant
    if name == "mrr":
        return 1 / (hits.index(True) + 1) if any(hits) else 0.0
    if name == "ndcg":
        gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
        return gain / sum(1 / math.log2(place + 2) for place in range(min(k, relevant)))
    if name == "f1":
        p, r = sum(hits) / k, sum(hits) / relevant
        return 2 * p * r / (p + r) if p else 0.0
    precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
    return sum(precisions) / min(k, relevant)


NAMES = ["hit_rate", "precision", "recall", "f1", "ndcg", "mrr", "mean_average_precision"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 4, 8])
def test_several_targets_equal_the_slow_formula(name, k):
    rng = np.random.default_rng(0)
    hits = rng.random((200, 8)) < 0.3
    relevant = hits.sum(axis=1) + rng.integers(0, 12, 200)
    relevant = np.maximum(relevant, 1)
    expected = [slow(name, row, int(n), k) for row, n in zip(hits.tolist(), relevant, strict=True)]
    found = getattr(several_targets, f"set_{name}")(Relevance(hits, relevant), k=k)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 5, 10])
def test_one_target_by_rank_equals_a_list_with_one_hit(name, k):
    ranks = np.arange(1.0, 15)
    places = np.arange(1, 11) == ranks[:, None]
    by_list = getattr(several_targets, f"set_{name}")(Relevance(places, np.ones(14, int)), k=k)
    np.testing.assert_allclose(getattr(metrics, name)(ranks, k=k), by_list, rtol=1e-12)


def test_lists_by_id_equal_the_slow_formulas_and_short_lists_count_as_wrong():
    rng = np.random.default_rng(5)
    catalogue = [f"i{n}" for n in range(12)]
    lists = [rng.permutation(catalogue)[: rng.integers(0, 7)].tolist() for _ in range(60)]
    targets = [rng.permutation(catalogue)[: rng.integers(1, 5)].tolist() for _ in range(60)]
    found = list_metrics(lists, targets, ks=(3, 6), events=dict.fromkeys(catalogue, 2))
    for name, short in zip(NAMES, ["hr", "precision", "recall", "f1", "ndcg", "mrr", "map"], strict=True):
        for k in (3, 6):
            hits = [[id in wanted for id in shown[:k]] for shown, wanted in zip(lists, targets, strict=True)]
            slow_mean = np.mean([slow(name, hit, len(wanted), k) for hit, wanted in zip(hits, targets, strict=True)])
            assert found[f"{short}@{k}"] == pytest.approx(slow_mean), (name, k)
    assert found["coverage@6"] == 1.0
    empty = sum(not shown for shown in lists) / 60
    assert found["popularity_bias@6"] == pytest.approx(-empty)


def test_auc_counts_pairs_and_ties_in_the_middle_count_half():
    rng = np.random.default_rng(6)
    scores = rng.integers(0, 5, (30, 9)).astype(float)
    wanted = [rng.permutation(np.arange(1, 9))[: rng.integers(1, 4)] for _ in scores]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in wanted])])
    whole = np.repeat(scores, np.diff(offsets), axis=0)
    ranks = target_ranks(whole, np.concatenate(wanted), ties="mean")
    expected = []
    for row, own in zip(scores, wanted, strict=True):
        pairs = [(row[a] > row[b]) + (row[a] == row[b]) / 2 for a in own for b in range(1, 9) if b not in own]
        expected.append(np.mean(pairs))
    np.testing.assert_allclose(set_auc(ranks, offsets=offsets, n_items=9), expected)
    one = target_ranks(scores, np.array([own[0] for own in wanted]), ties="mean")
    np.testing.assert_allclose(auc(one, n_items=9), set_auc(one, offsets=np.arange(31), n_items=9))


def test_metrics_of_lists_equal_loops_over_their_formulas():
    rng = np.random.default_rng(7)
    top = np.array([rng.permutation(9)[:5] for _ in range(40)])  # row 0 is among them
    counts, features = rng.integers(1, 50, 9), rng.normal(size=(9, 3))
    features[4] = 0
    shown = [np.count_nonzero(top == item) for item in range(1, 9)]
    pairs = sum(abs(a - b) for a in shown for b in shown)
    assert gini(top, n_items=9) == pytest.approx(pairs / (2 * 8 * sum(shown)))
    unit = [row / (np.linalg.norm(row) or 1) for row in features]
    kept = [[item for item in row if item] for row in top.tolist()]
    apart = [[1 - unit[a] @ unit[b] for a in row for b in row if a != b] for row in kept]
    np.testing.assert_allclose(diversity(top, features=features), [np.mean(row) for row in apart])
    usual = sum(n**2 for n in counts[1:]) / sum(counts[1:])
    bias = [np.mean([counts[item] for item in row]) / usual - 1 for row in kept]
    np.testing.assert_allclose(popularity_bias(top, counts=counts), bias)
    hits, common = rng.random((40, 5)) < 0.5, [3, 5]
    lucky = [np.mean([hit and item not in common for hit, item in zip(*both, strict=True)]) for both in zip(hits, top, strict=True)]  # fmt: skip  # noqa: E501
    found = serendipity(top, found=Relevance(hits, np.ones(40, int)), expected=np.array([common]))
    np.testing.assert_allclose(found, lucky)
    assert diversity(np.array([[0, 3], [0, 0]]), features=features).tolist() == [0.0, 0.0]
    assert gini(np.zeros((1, 2), int), n_items=4) == 0.0


def test_log_loss_is_that_of_the_softmax_without_column_0_in_any_block(monkeypatch):
    rng = np.random.default_rng(8)
    scores, targets = rng.normal(0, 30, (20, 7)), rng.integers(1, 7, 20)
    scores[:, 0], scores[3, 1 + targets[3] % 6] = np.nan, -np.inf
    shares = np.exp(scores[:, 1:]) / np.exp(scores[:, 1:]).sum(axis=1, keepdims=True)
    expected = -np.log(shares[np.arange(20), targets - 1])
    np.testing.assert_allclose(log_loss(scores, targets), expected)
    monkeypatch.setattr(probabilities, "_BLOCK", 1)
    np.testing.assert_allclose(log_loss(scores + 1e4, targets), expected)
    scores[0, targets[0]] = -np.inf
    assert log_loss(scores, targets)[0] == np.inf


def test_calibration_of_honest_probabilities_is_near_0_and_of_bold_ones_their_excess():
    rng = np.random.default_rng(9)
    p = rng.random(40_000)
    came = rng.random(40_000) < p
    assert calibration_error(p, came) < 0.01
    assert calibration_error(np.ones(1000), np.repeat([0, 1], 500)) == 0.5
    assert sum(count for *_, count in calibration(p, came, bins=7)) == 40_000


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
        (
            lambda: several_targets.set_ndcg(Relevance(np.ones((1, 3), bool), np.ones(1, int)), k=4),
            "k: expected 1 to 3, the width of the lists, came 4",
        ),
        (
            lambda: coverage(np.array([[5]]), n_items=5),
            "coverage: expected lists[query, k] of rows below 5, the length of a score row",
        ),
        (
            lambda: novelty(np.array([[5]]), counts=np.zeros(5, int)),
            "novelty: expected lists[query, k] of rows below 5, the length of counts",
        ),
        (lambda: gini(np.array([[-1]]), n_items=5), "gini: expected lists[query, k] of rows below 5"),
        (lambda: auc(np.array([6.0]), n_items=6), "came 5 items and ranks up to 6.0"),
        (
            lambda: set_auc(np.array([1.0]), offsets=np.array([0, 1]), n_items=2),
            "at least one target and one other item",
        ),
        (
            lambda: log_loss(np.array([[0, np.nan, 1]]), np.array([1])),
            "log_loss, query 0: expected scores that are num",
        ),
        (lambda: log_loss(np.zeros((1, 3)), np.array([0])), "expected targets from 1 to 2, came 0 to 0"),
        (lambda: calibration([0.5], []), "came shapes (1,) and (0,)"),
        (lambda: list_metrics([["a", "a"]], [["b"]]), "lists, query 0: expected each id once"),
        (lambda: list_metrics([["a"]], []), "came 1 lists and targets of 0 queries"),
        (lambda: list_metrics([["a"]], [["b"]], events={"b": 1}), "expected items of `events`, came 'a'"),
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


def test_novelty_of_items_alike_is_log2_of_their_number_and_row_0_is_skipped():
    top = np.array([[3, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(novelty(top, counts=np.array([99, 7, 7, 7, 7])), [2.0, 0.0])


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
