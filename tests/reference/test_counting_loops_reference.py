"""The compiled counts of simple models against their pure twins."""

import numpy as np
import pytest

from segue.errors import ArgumentError
from segue.kernels import build, counting_loops
from segue.kernels.counting_loops import followers_table, highest_places, pure_followers_table, pure_highest_places

RNG = np.random.default_rng(0)


@pytest.mark.skipif(build.counting() is None, reason="no C compiler: the twins are used")
@pytest.mark.parametrize("window", [1, 3, 50])
def test_followers_are_those_of_the_twin(window, monkeypatch):
    offsets = np.concatenate([[0], np.cumsum(RNG.integers(0, 9, 30))])
    items, decay = RNG.integers(0, 7, offsets[-1]).astype(np.int32), np.exp2(-np.arange(window) / 1.5)
    monkeypatch.setattr(counting_loops, "PAIRS", 40)
    found, expected = (count(items, offsets, 7, decay) for count in (followers_table, pure_followers_table))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.sum() > 0


@pytest.mark.skipif(build.counting() is None, reason="no C compiler: the twins are used")
@pytest.mark.parametrize("count", [1, 5, 40])
def test_the_highest_are_those_of_the_twin_and_of_equals_the_first(count):
    lengths = RNG.integers(0, 60, 200)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    for values in (RNG.integers(-2, 6, offsets[-1]), RNG.standard_normal(offsets[-1]), np.ones(offsets[-1])):
        found, expected = (
            of(values.astype(np.float32), offsets, count) for of in (highest_places, pure_highest_places)
        )
        np.testing.assert_array_equal(found.places, expected.places)
        np.testing.assert_array_equal(found.found, expected.found)


def test_what_does_not_fit_never_reaches_c():
    for items, offsets in (([1, 3], [0, 2]), ([1, -1], [0, 2]), ([1, 2], [0, 1]), ([1, 2], [0, 3, 2])):
        with pytest.raises(ArgumentError, match="followers: expected rows below 3"):
            followers_table(np.int32(items), np.array(offsets), 3, np.ones(1))
    for values, offsets, count in (
        (np.ones(2), [0, 2], 1),
        (np.float32([1, 2]), [0, 3], 1),
        (np.float32([1]), [0, 1], 0),
    ):
        with pytest.raises(ArgumentError, match="highest: expected float32 values in rows"):
            highest_places(values, np.array(offsets), count)
