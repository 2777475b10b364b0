"""Items like an item, by what people do next and by the vectors of the items."""

import numpy as np

from segue.errors import ArgumentError
from segue.kernels.serving_loops import best, leave_out
from segue.recommend.arguments import check_count
from segue.recommend.filters.fields import Where
from segue.recommend.lists.candidates import narrowed
from segue.recommend.lists.options import ListOptions, RankedList
from segue.recommend.scorer import Scorer
from segue.shapes import Bools, Floats


def pool_for_user(k: int) -> int:
    """Return how many similar items are put in the order of a user, for a list of k."""
    return 5 * k + 20


def similar(
    rec: Scorer, item: str, k: int, mix: float, shown: Bools | None = None, where: Where = None, at: int | None = None
) -> RankedList:
    """Return what `Recommender.similar` does.

    Args:
        rec, item, k, mix: as there.
        shown: bool[row], the items that a list may hold; None for all.
        where: a filter; the item is the current one.
        at: the time of the request, microseconds since 1970; None takes that of the clock.
    """
    row = rec.vocabulary.row(item)
    if row == 0:
        raise ArgumentError(f'similar: expected a known item, came "{item}". Add it (segue add-items) first.')
    check_count(k, "similar: expected k")
    if not 0 <= mix <= 1:
        raise ArgumentError(f"similar: expected mix from 0 to 1, came {mix}. 0.5 takes as much of both.")
    network, params, unknown = rec.network, rec.params, np.full(2, np.nan, np.float32)
    start, vector = rec.new_user.memory, params.items[row]
    read = network.step(params, start, np.array([row], np.int32), unknown[:1], rec.details(None))
    query = network.query(params, np.concatenate([read.output, start.output]), unknown)
    after, anyway, products = rec.fused.scores(np.concatenate([query, vector[None]]))[:, 1:]
    likeness = (products - rec.params.bias[1:]) / np.maximum(rec.fused.lengths[1:], 1e-9)
    scores = np.empty((1, rec.vocabulary.size), np.float32)
    scores[0, 1:] = (1 - mix) * _standard(after - anyway) + mix * _standard(likeness)
    left = narrowed(rec, ListOptions(k, where=where, current=item), at)
    for mask in (shown, None if left is None else left.mask):
        leave_out(scores, allowed=mask)
    leave_out(scores, [np.append(rec.unreachable, row)])
    return RankedList(rec._items(*best(scores, k)[0]), () if left is None else left.notes)


def _standard(values: Floats) -> Floats:
    """Return values in standard deviations from their mean."""
    standard: Floats = (values - values.mean()) / max(float(values.std()), 1e-9)
    return standard
