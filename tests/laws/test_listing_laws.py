"""law: what the server does with lines of scores gives what sorting and adding up all of them gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import ArgumentError
from segue.kernels import build, serving_loops
from segue.recommend.lists.candidates import Scored

#: Each by its name: in C where there is a compiler, and as it stands in Python.
BEST = {
    "compiled": serving_loops.best,
    "pure": lambda scores, count: lists_of(serving_loops.pure_top_k(scores, count)),
    "double": lambda scores, count: lists_of(serving_loops.pure_top_k(scores.astype(np.float64), count)),
    "of a server": lambda scores, count: Scored(scores).best(count),
}
FORESEEN = {"compiled": serving_loops.ranks_and_log_sums, "pure": serving_loops.pure_ranks_and_log_sums}
needs_compiler = pytest.mark.skipif(build.serving() is None, reason="no C compiler: the pure code is used")
WAYS = [pytest.param("compiled", marks=needs_compiler), "pure"]


def lists_of(top):
    return [(row[:n], best[:n]) for row, best, n in zip(*(part.tolist() for part in top), strict=True)]


def drawn(seed, size, level, hidden=(0.2, 0.99, 1.0)):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (3, size)) if level else rng.standard_normal((3, size)) * 20
    scores = scores.astype(np.float32)
    for line in scores:
        line[rng.random(size) < rng.choice(hidden)] = -np.inf
    return scores


@pytest.mark.parametrize("way", [*WAYS, "double", "of a server"])
@given(st.integers(0, 2**31), st.integers(1, 3000), st.one_of(st.integers(1, 60), st.just(400)), st.booleans())
def test_law_top_is_the_head_of_a_sort(way, seed, size, count, level):
    scores = drawn(seed, size, level)
    before = scores.copy()
    for line, (rows, best) in zip(scores, BEST[way](scores, count), strict=True):
        order = np.lexsort((np.arange(size), -line))
        expected = [int(row) for row in order[:count] if line[row] > -np.inf]
        assert rows == expected
        assert best == line[expected].tolist()
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("way", WAYS)
@given(st.integers(0, 2**31), st.integers(2, 3000), st.booleans())
def test_law_rank_and_sum_are_those_of_the_whole_line(way, seed, size, level):
    scores = drawn(seed, size, level, hidden=(0.0, 0.2, 0.9))
    places = np.random.default_rng(seed).integers(1, size, 3)
    scores[np.arange(3), places] = np.where(np.isneginf(own := scores[np.arange(3), places]), np.float32(1.5), own)
    before = scores.copy()
    ranks, sums = FORESEEN[way](scores, places)
    exact = scores.astype(np.float64)
    top = exact.max(axis=1)
    np.testing.assert_allclose(sums, np.log(np.exp(exact - top[:, None]).sum(axis=1)) + top, rtol=1e-5, atol=1e-5)
    own = exact[np.arange(3), places][:, None]
    assert ranks.tolist() == (exact[:, 1:] >= own).sum(axis=1).tolist()
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("way", WAYS)
def test_a_score_that_is_no_number_is_told(way):
    scores = np.zeros((2, 100), np.float32)
    scores[1, 70] = np.nan
    with pytest.raises(ArgumentError, match="query 1: expected scores that are numbers"):
        FORESEEN[way](scores, np.array([3, 4]))
