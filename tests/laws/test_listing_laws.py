"""law: the blocks of the list maker give what sorting all scores gives."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segue.serve.scores import Scored


@given(st.integers(0, 2**31), st.integers(1, 3000), st.integers(1, 60), st.booleans())
def test_law_top_is_the_head_of_a_sort(seed, size, count, level):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (3, size)) if level else rng.standard_normal((3, size))
    scores = scores.astype(np.float32)
    for line in scores:
        line[rng.random(size) < rng.choice([0.2, 0.99, 1.0])] = -np.inf
    before = scores.copy()
    for line, (rows, best) in zip(scores, Scored(scores).best(count), strict=True):
        order = np.lexsort((np.arange(size), -line))
        expected = [int(row) for row in order[:count] if line[row] > -np.inf]
        assert rows == expected
        assert best == line[expected].tolist()
    np.testing.assert_array_equal(scores, before)
