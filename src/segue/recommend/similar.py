"""Items like an item, by what people do with them, by their vectors, and by their attributes and titles."""

from typing import NamedTuple

import numpy as np

from segue.errors import ArgumentError
from segue.kernels.serving_loops import best, leave_out, top_k
from segue.recommend.arguments import check_count
from segue.recommend.filters.fields import Where
from segue.recommend.lists.candidates import narrowed
from segue.recommend.lists.options import ListOptions, RankedList
from segue.recommend.scorer import Scorer
from segue.shapes import Bools, Floats, Rows

#: Items of each likeness that are looked at, at least, and for an item of the list.
_LEAST, _EACH = 200, 2
#: Scores of an index hold a bias; beside a query so long the bias is nothing.
_LONG = 1e4
_NONE = np.zeros(0, np.int32)


class LikenessWeights(NamedTuple):
    """How much each likeness counts where `mix` is a half; chosen on half of the items of several logs.

    Args:
        people: how often items come near each other.
        vectors: the cosine of the whitened vectors.
        attributes: shared categories and words of the title.
    """

    people: float = 1.0
    vectors: float = 1.0
    attributes: float = 2.0


WEIGHTS = LikenessWeights()


def pool_for_user(k: int) -> int:
    """Return how many similar items are put in the order of a user, for a list of k."""
    return 5 * k + 20


def similar(
    rec: Scorer,
    item: str,
    k: int,
    mix: float,
    shown: Bools | None = None,
    where: Where = None,
    at: int | None = None,
    *,
    weights: LikenessWeights = WEIGHTS,
) -> RankedList:
    """Return what `Recommender.similar` does.

    The best by each likeness are found first, with an index where there is one. All three are summed up for these.

    Args:
        rec, item, k, mix: as there.
        shown: bool[row], the items that a list may hold; None for all.
        where: a filter; the item is the current one.
        at: the time of the request, microseconds since 1970; None takes that of the clock.
        weights: of each likeness.
    """
    row = rec.vocabulary.row(item)
    if row == 0:
        raise ArgumentError(f'similar: expected a known item, came "{item}". Add it (segue add-items) first.')
    check_count(k, "similar: expected k")
    if not 0 <= mix <= 1:
        raise ArgumentError(f"similar: expected mix from 0 to 1, came {mix}. 0.5 takes as much of both.")
    left = narrowed(rec, ListOptions(k, where=where, current=item), at)
    allowed = _allowed(rec, row, shown, None if left is None else left.mask)
    count = max(_LEAST, _EACH * k)
    near, closeness = (_NONE, np.zeros(0, np.float32)) if rec.co_counts is None else rec.co_counts.near(row)
    shared = None if rec.shared_attributes is None else rec.shared_attributes.likeness(row)
    found = [_by_vectors(rec, row, count, allowed), _highest(near, closeness, count, allowed)]
    if shared is not None:
        found.append(_highest(np.arange(len(shared), dtype=np.int32), shared, count, allowed))
    rows = np.unique(np.concatenate(found))
    parts = [
        (2 * (1 - mix) * weights.people * bool(len(near)), _at(near, closeness, rows)),
        (weights.vectors, rec.whitening.cosines(rec.params.items[row], rec.params.items[rows])),
    ]
    if shared is not None and shared.any():
        parts.append((2 * mix * weights.attributes, shared[rows]))
    scores = np.zeros((1, len(rows)), np.float32)
    for weight, likeness in parts:
        scores += np.float32(weight / sum(weight for weight, _ in parts)) * likeness
    chosen = best(scores, k)[0]
    return RankedList(rec._items(rows[chosen.places].tolist(), chosen.scores), () if left is None else left.notes)


def _allowed(rec: Scorer, row: int, *masks: Bools | None) -> Bools:
    """Return bool[row]: what a list of items like a row may hold."""
    allowed = np.ones(rec.vocabulary.size, bool)
    for mask in masks:
        if mask is not None:
            allowed &= mask
    allowed[0] = allowed[row] = False
    allowed[rec.unreachable] = False
    return allowed


def _by_vectors(rec: Scorer, row: int, count: int, allowed: Bools) -> Rows:
    """Return the rows whose vectors are most like that of a row."""
    query, count = rec.whitening.query(rec.params.items[row])[None], min(count, rec.vocabulary.size)
    if rec.index is not None:
        rows: Rows = rec.index.search(query * np.float32(_LONG), count, allowed=allowed).rows[0]
        return rows[rows > 0]
    products = rec.fused.scores(query) - rec.params.bias
    products /= np.maximum(rec.fused.lengths, 1e-9)
    top = top_k(leave_out(products, allowed=allowed), count)
    return top.places[0, : top.found[0]].astype(np.int32)


def _highest(rows: Rows, likeness: Floats, count: int, allowed: Bools) -> Rows:
    """Return those of some rows, at most `count`, whose likeness is highest and above 0."""
    scores = np.where(allowed[rows] & (likeness > 0), likeness, np.float32(-np.inf))
    if not len(rows):
        return _NONE
    top = top_k(scores[None], count)
    highest: Rows = rows[top.places[0, : top.found[0]]]
    return highest


def _at(rows: Rows, values: Floats, wanted: Rows) -> Floats:
    """Return the values of wanted rows, 0 where a row has none; `rows` ascend."""
    found = np.zeros(len(wanted), np.float32)
    if len(rows):
        place = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
        met = rows[place] == wanted
        found[met] = values[place[met]]
    return found
