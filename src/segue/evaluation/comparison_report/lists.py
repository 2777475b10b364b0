"""What lists hold beside the target: metrics by length, share of the catalogue, popularity, calibration."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.evaluation.comparison_report.measured import Measured
from segue.evaluation.comparison_report.pairs import WITH_INTERVAL
from segue.metrics.metrics import novelty
from segue.shapes import Floats, Times

#: The longest list of a curve, and the bins of a calibration.
LONGEST, BINS = 50, 10


def curves_of(measured: Measured) -> dict[str, Any]:
    """Return metric -> model -> a value for each k from 1."""
    ks = range(1, LONGEST + 1)
    curves: dict[str, Any] = {"k": list(ks)}
    for metric, function in WITH_INTERVAL.items():
        curves[metric] = {
            name: [float(function(ranked.ranks, k=k).mean()) for k in ks] for name, ranked in measured.models.items()
        }
    return curves


def catalogue_of(measured: Measured) -> dict[str, dict[str, float]]:
    """Return for each model what share of the catalogue its lists hold, and how popular their items are.

    "gini@10" is 0 where every item is in as many lists and 1 where one item fills them. "popularity@10" is the mean
    share of the items that are less popular than an item of a list, "target popularity" that of the targets: lists
    above it are biased to popular items.
    """
    found = {}
    percentile = None if measured.counts is None else percentiles(measured.counts)
    for name, ranked in measured.models.items():
        row = {"gini@10": gini(measured, name)}
        if measured.counts is not None and percentile is not None:
            row["novelty@10"] = float(novelty(ranked.lists, counts=measured.counts).mean())
            row["popularity@10"] = float(percentile[ranked.lists[ranked.lists > 0]].mean())
            row["target popularity"] = float(percentile[measured.targets].mean())
        found[name] = row
    return found


def percentiles(counts: Times) -> NDArray[np.float64]:
    """Return float64[row]: the share of the items with fewer events, half of those with as many; row 0 counts as 0.

    Example:
        >>> percentiles(np.array([0, 5, 1, 1, 9])).tolist()
        [0.0, 0.625, 0.25, 0.25, 0.875]
    """
    ordered = np.sort(counts[1:])
    below, up_to = (np.searchsorted(ordered, counts, side) for side in ("left", "right"))
    shares: NDArray[np.float64] = (below + up_to) / (2 * max(len(ordered), 1))
    shares[0] = 0.0
    return shares


def gini(measured: Measured, name: str) -> float:
    """Return how unevenly the places of a model's lists are shared out among the items, 0 to 1.

    Source: Fleder, Hosanagar 2009.
    """
    lists = measured.models[name].lists
    shown = np.sort(np.bincount(lists[lists > 0], minlength=len(measured.items))[1:])
    if not shown.sum():
        return 0.0
    place, items = np.arange(1, len(shown) + 1), len(shown)
    return float(((2 * place - items - 1) * shown).sum() / (items * shown.sum()))


def calibration_of(chances: Floats, hits: NDArray[np.bool_], target_logs: Floats) -> dict[str, Any]:
    """Return how often items came next that a model said would come with some chance.

    Args:
        chances: float32[query, 10], of the items of each list, best first.
        hits: bool[query, 10], whether the item came next.
        target_logs: float32[query], the log-probability of each known target.

    Returns:
        "bins": as many items in each, with the mean chance and the share that came; "error": the mean distance of the
        two, weighted by items (expected calibration error); "log_loss": in nats, of known targets.

    Source: Naeini, Cooper, Hauskrecht 2015, with bins of equal size.
    """
    flat, came = chances.ravel(), hits.ravel()
    parts = [part for part in np.array_split(np.argsort(flat, kind="stable"), BINS) if len(part)]
    bins = [
        {"predicted": float(flat[part].mean()), "observed": float(came[part].mean()), "items": len(part)}
        for part in parts
    ]
    error = sum(abs(each["predicted"] - each["observed"]) * each["items"] for each in bins) / max(len(flat), 1)
    finite = target_logs[np.isfinite(target_logs)]
    log_loss = -float(finite.mean()) if len(finite) else None
    return {"bins": bins, "error": float(error), "log_loss": log_loss, "queries": len(chances)}
