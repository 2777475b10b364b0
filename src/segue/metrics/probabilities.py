"""Metrics of probabilities and of predicted values: whether a model is as sure as it is right.

Knows: scores, probabilities, outcomes. Does not know: how they came about.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segue.errors import ArgumentError
from segue.metrics.metrics import PerQuery

#: Scores turned into probabilities at once: the temporaries of a block stay near eight megabytes.
_BLOCK = 2**20


def log_loss(scores: NDArray[np.floating], targets: ArrayLike) -> PerQuery:
    """Return how improbable each target was, in nats: `-log(exp(score of target) / sum over items of exp(score))`.

    A score of `-inf` is an item that no list may hold; a target among these costs infinity. Column 0 (*unknown*)
    is not read.

    Args:
        scores: float[query, item], unnormalised log-probabilities; probabilities go in as their logarithms.
        targets: int[query], vocabulary rows from 1.

    Returns:
        float64[query]; `log(items)` where all scores are equal.

    Raises:
        ArgumentError: the shapes do not fit, a target is no column of the scores, a score is NaN or infinite, or no
            item of a query has a score.

    Cost: O(query x item).

    Source: Good 1952 (the logarithmic score).

    Example:
        >>> log_loss(np.log(np.array([[.5, .25, .5, .25]])), np.array([2])).round(4).tolist()
        [0.6931]
    """
    scores, rows = np.asarray(scores), np.asarray(targets)
    if scores.ndim != 2 or rows.shape != scores.shape[:1] or not np.issubdtype(rows.dtype, np.integer):
        raise ArgumentError(
            f"log_loss: expected scores[query, item] and a whole-numbered target for each query, came scores of shape "
            f"{scores.shape} and targets of shape {rows.shape}, {rows.dtype}. Give one row of scores per target."
        )
    if rows.size and not 1 <= rows.min() <= rows.max() < scores.shape[1]:
        raise ArgumentError(
            f"log_loss: expected targets from 1 to {scores.shape[1] - 1}, came {rows.min()} to {rows.max()}. "
            "Leave queries of unknown items out and report their share."
        )
    losses, step = np.empty(len(rows)), max(1, _BLOCK // max(scores.shape[1], 1))
    for begin in range(0, len(rows), step):
        block = scores[begin : begin + step, 1:].astype(np.float64)
        most = block.max(axis=1, keepdims=True)
        if not np.isfinite(most).all():
            query = begin + int(np.argmin(np.isfinite(most[:, 0])))
            raise ArgumentError(
                f"log_loss, query {query}: expected scores that are numbers or -inf, one number at least, came a "
                f"highest score of {most[query - begin, 0]}. Look for a division by zero in what made the scores."
            )
        own = block[np.arange(len(block)), rows[begin : begin + step] - 1]
        losses[begin : begin + step] = np.log(np.exp(block - most).sum(axis=1)) + most[:, 0] - own
    return losses


def calibration(predicted: ArrayLike, given: ArrayLike, *, bins: int = 10) -> tuple[tuple[float, float, int], ...]:
    """Return for each of `bins` equally large parts of the predictions, sorted: mean predicted, mean given, how many.

    Args:
        predicted: float[n], probabilities or predicted ratings.
        given: float[n], what came: 0 or 1 for a probability, the rating for a rating.
        bins: the number of parts; fewer where there are fewer predictions.

    Raises:
        ArgumentError: there is nothing to compare, the lengths differ, a value is NaN, or `bins` is below 1.

    Source: DeGroot, Fienberg 1983 (reliability diagram), with parts of equal size.

    Example:
        >>> calibration([1.0, 4.0, 2.0, 5.0], [1, 5, 2, 4], bins=2)
        ((1.5, 1.5, 2), (4.5, 4.5, 2))
    """
    sure, came = np.asarray(predicted, np.float64), np.asarray(given, np.float64)
    if sure.shape != came.shape or sure.ndim != 1 or not sure.size or np.isnan(sure + came).any() or bins < 1:
        raise ArgumentError(
            f"calibration: expected two equally long lists of numbers and bins from 1, came shapes {sure.shape} and "
            f"{came.shape}, bins {bins}. Leave out what has no outcome."
        )
    parts = np.array_split(np.argsort(sure, kind="stable"), bins)
    return tuple((float(sure[p].mean()), float(came[p].mean()), len(p)) for p in parts if len(p))


def calibration_error(predicted: ArrayLike, given: ArrayLike, *, bins: int = 10) -> float:
    """Return how far the predictions of a part lie from what came, on average over the parts of `calibration`.

    `sum over parts of (share of the part) * |mean predicted - mean given|`; 0 is as sure as right.

    Source: Naeini, Cooper, Hauskrecht 2015 (expected calibration error); arguments and errors as in `calibration`.

    Example:
        >>> calibration_error([.9, .9, .1, .1], [1, 0, 0, 0], bins=2)
        0.25
    """
    parts = calibration(predicted, given, bins=bins)
    return sum(abs(sure - came) * count for sure, came, count in parts) / sum(count for *_, count in parts)
