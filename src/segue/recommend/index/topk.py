"""The best rows of many users at once: the lists of `Recommender.recommend`, as arrays.

Knows: blocks of users whose scores fit into memory; an index where there is one.
Does not know: where states come from, titles, files.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from segue.recommend.index.approximate import exact_index
from segue.recommend.index.exact import SCORES, Found, best_columns, side_by_side
from segue.recommend.recommender import Recommender
from segue.shapes import Floats, Rows


def best_each(
    rec: Recommender,
    outputs: Floats,
    gaps: Floats,
    recent: Rows,
    k: int,
    details: Floats | None = None,
    *,
    excluded: Sequence[Rows] | None = None,
) -> Found:
    """Return the k best rows of each user, best first, of equals the first row.

    Args:
        rec: whose states these are; its index finds the rows if it has one.
        outputs: float32[user, n], the last output of the memory of each.
        gaps: float32[user], seconds from the last event to the question; NaN unknown.
        recent: int32[user, RECENT], the last items of each.
        k: how many.
        details: float32[user, m], what is known of the events to come.
        excluded: for each user the rows to leave out; None leaves out nothing.

    Cost: O(users x items x width) without an index; memory of `SCORES` scores.
    """
    k = min(k, rec.vocabulary.size)
    if rec.index is None and rec.counts is None:
        return exact_index(rec).search(rec.network.query(rec.params, outputs, gaps, details), k, excluded=excluded)
    rows, scores = np.zeros((len(outputs), k), np.int32), np.full((len(outputs), k), -np.inf, np.float32)
    for users in _blocks(len(outputs), rec.vocabulary.size):
        asked = (outputs[users], gaps[users], recent[users])
        known_of = None if details is None else details[users]
        left_out = excluded[users] if excluded is not None else [np.zeros(0, np.int32)] * len(asked[0])
        if rec.index is None:
            found = rec.score_outputs(*asked, known_of)
            for line, out in zip(found, left_out, strict=True):
                line[out] = -np.inf
            known = np.broadcast_to(np.arange(found.shape[1], dtype=np.int32), found.shape)
        else:
            known = side_by_side(rec.candidates(*asked, k, known_of, excluded=left_out))
            found = rec.score_outputs(*asked, known_of, known)
        found[known == 0] = -np.inf
        rows[users], scores[users] = best_columns(known, found, k)
    return Found(rows, scores)


def _blocks(users: int, items: int) -> Iterator[slice]:
    step = max(1, SCORES // items)
    return (slice(begin, begin + step) for begin in range(0, users, step))
