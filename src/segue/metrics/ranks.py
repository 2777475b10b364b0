"""Target ranks: the place of the item that came next among all items."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segue.errors import ArgumentError

Ties: TypeAlias = Literal["pessimistic", "optimistic", "mean"]

#: Scores compared at once: the temporaries of a block stay near one megabyte.
_BLOCK = 2**20


def target_ranks(
    scores: NDArray[np.floating], targets: ArrayLike, *, ties: Ties = "pessimistic"
) -> NDArray[np.float64]:
    """Return the rank that each query gave to the item that came next.

    Rank 1 is the best. An item ranks below every item with a higher score; `ties` says where it
    stands among items with an equal score. A score of `-inf` means *filtered*: such an item stands
    below all others, and a target that is itself filtered gets the last rank whatever `ties` says.
    Recall@k, MRR@k and NDCG@k are means over these ranks, so this function alone decides what
    "better" means in a report.

    Args:
        scores: float[query, item]. Higher is better. Column 0 is *unknown* and is never ranked,
            whatever its score, NaN included.
        targets: int[query]. The vocabulary row of the item that came next, 1 to item - 1.
        ties: "pessimistic" puts the target last among its equals, so that a model which scores all
            items alike gets the worst rank and not the best; "optimistic" puts it first; "mean" in
            the middle. Reports always say which was used.

    Returns:
        float64[query], from 1 to item - 1. Whole numbers unless `ties="mean"`.

    Raises:
        ArgumentError: `scores` is not a table or `targets` has not one entry for each of its rows;
            a target is 0 (*unknown*) or not a column of `scores`; a score is NaN (the message names
            the first such query); `ties` is none of the three.

    Cost: O(query x item) time; nothing is sorted, and temporaries stay near one megabyte or one
    row.

    Source: the tie modes of GRU4Rec's evaluation ("standard", "conservative", "median"),
    re-derived.

    Example:
        >>> scores = np.array([[9., .1, .7, .7],     # target 3 ties with item 2
        ...                    [9., .9, .2, .1]])    # target 1 is alone at the top
        >>> target_ranks(scores, np.array([3, 1])).tolist()
        [2.0, 1.0]
        >>> target_ranks(scores, np.array([3, 1]), ties="mean").tolist()
        [1.5, 1.0]
        >>> target_ranks(scores, np.array([0, 1]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        segue.errors.ArgumentError: query 0: target 0 is the row of unknown; expected a row from 1 to 3. ...
    """
    scores, rows = np.asarray(scores), np.asarray(targets)
    _check(scores, rows, ties)
    queries, width = scores.shape
    step = max(1, _BLOCK // width)
    ranks = np.empty(queries)
    for begin in range(0, queries, step):
        end = min(begin + step, queries)
        ranks[begin:end] = _block_ranks(scores[begin:end], rows[begin:end], ties, begin)
    return ranks


def _block_ranks(
    scores: NDArray[np.floating], targets: NDArray[np.integer], ties: Ties, first_query: int
) -> NDArray[np.float64]:
    """Return the ranks of one block of queries, by counting one comparison or two."""
    goals = scores[np.arange(len(scores)), targets][:, None]
    ranked = scores[:, 1:]
    broken = np.flatnonzero(np.isnan(ranked.max(axis=1)))
    if broken.size:
        raise ArgumentError(
            f"query {first_query + broken[0]}: expected scores that are numbers or -inf, came NaN. "
            "Look for a division by zero or an overflow in what made the scores."
        )
    last = _true(ranked >= goals) if ties != "optimistic" else 0
    first = _true(ranked > goals) + 1 if ties != "pessimistic" else 0
    ranks = (last + first) / 2 if ties == "mean" else last + first
    return np.where(np.isneginf(goals[:, 0]), float(ranked.shape[1]), ranks)


def _true(table: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count by line; this is four times as fast as `axis=1`."""
    return np.array([np.count_nonzero(line) for line in table], np.int64)


def _check(scores: NDArray[np.floating], targets: NDArray[np.integer], ties: Ties) -> None:
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        raise ArgumentError(
            f"expected scores[query, item] and one target for each query, came scores of shape "
            f"{scores.shape} and targets of shape {targets.shape}. Give one row of scores per target."
        )
    if ties not in ("pessimistic", "optimistic", "mean"):
        raise ArgumentError(f"ties: expected pessimistic, optimistic or mean, came {ties!r}. Choose one of the three.")
    if targets.size and not np.issubdtype(targets.dtype, np.integer):
        raise ArgumentError(
            f"targets: expected vocabulary rows as whole numbers, came {targets.dtype}. Cast them to int32."
        )
    wrong = np.flatnonzero((targets < 1) | (targets >= scores.shape[1]))
    if wrong.size:
        query, last = int(wrong[0]), scores.shape[1] - 1
        what = "is the row of unknown" if targets[query] == 0 else "is not a column of the scores"
        raise ArgumentError(
            f"query {query}: target {targets[query]} {what}; expected a row from 1 to {last}. "
            "Leave such queries out and report their share."
        )
