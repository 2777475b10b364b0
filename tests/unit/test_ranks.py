"""Ranks: ties, filtered items, refused input, blocks."""

import re

import numpy as np
import pytest

from segue.errors import ArgumentError
from segue.metrics import ranks
from segue.metrics.ranks import target_ranks

INF = np.inf


def slow_rank(row, target, ties):
    """Rank of one target among columns 1 on, by the words of the docstring."""
    if row[target] == -INF:
        return len(row) - 1
    others = [row[i] for i in range(1, len(row)) if i != target]
    above = sum(other > row[target] for other in others)
    level = sum(other == row[target] for other in others)
    return 1 + above + {"pessimistic": level, "optimistic": 0, "mean": level / 2}[ties]


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic", "mean"])
@pytest.mark.parametrize("block", [1, 50, 2**20])
def test_ranks_equal_the_slow_twin_with_ties_and_filters_in_any_block(ties, block, monkeypatch):
    monkeypatch.setattr(ranks, "_BLOCK", block)
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (60, 12)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = -INF
    scores[:, 0] = rng.choice([np.nan, INF, -INF, 1.0], 60)
    targets = rng.integers(1, 12, 60)
    before = scores.copy()
    expected = [slow_rank(row, target, ties) for row, target in zip(scores, targets, strict=True)]
    np.testing.assert_array_equal(target_ranks(scores, targets, ties=ties), expected)
    np.testing.assert_array_equal(scores, before)


def test_scores_that_are_all_alike_give_the_worst_rank_and_not_the_best():
    assert target_ranks(np.zeros((1, 6)), [2]).tolist() == [5.0]


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic", "mean"])
def test_a_filtered_target_is_last_whatever_the_ties(ties):
    assert target_ranks(np.array([[0, -INF, -INF, 1.0]]), [1], ties=ties).tolist() == [3.0]


SCORES = np.zeros((2, 4))


@pytest.mark.parametrize(
    ("scores", "targets", "ties", "message"),
    [
        (SCORES, [1], "mean", "one target for each query, came scores of shape (2, 4) and targets of shape (1,)"),
        (SCORES, [1, 0], "mean", "query 1: target 0 is the row of unknown; expected a row from 1 to 3"),
        (SCORES, [4, 1], "mean", "query 0: target 4 is not a column of the scores; expected a row from 1 to 3"),
        (SCORES, [1, -1], "mean", "query 1: target -1 is not a column of the scores"),
        (SCORES, [1.0, 2.0], "mean", "targets: expected vocabulary rows as whole numbers, came float64"),
        (SCORES, [1, 2], "worst", "expected pessimistic, optimistic or mean, came 'worst'"),
        (np.array([[0, 1.0, 2], [0, 1, np.nan]]), [1, 1], "mean", "query 1: expected scores that are numbers or -inf"),
        (np.array([[0, 1.0, 2], [0, 1, np.nan]]), [1, 2], "mean", "query 1: expected scores that are numbers or -inf"),
    ],
)
def test_what_cannot_be_ranked_is_refused(scores, targets, ties, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        target_ranks(scores, targets, ties=ties)


def test_the_query_of_a_nan_is_named_in_later_blocks_too(monkeypatch):
    monkeypatch.setattr(ranks, "_BLOCK", 4)
    scores = np.zeros((9, 4))
    scores[7, 3] = np.nan
    with pytest.raises(ArgumentError, match="query 7: "):
        target_ranks(scores, np.ones(9, int))
