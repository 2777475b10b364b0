"""Metrics by the length of the list, metrics of lists beside accuracy, and calibration."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.evaluation.comparison_report.compared import Compared
from segue.evaluation.comparison_report.pairs import WITH_INTERVAL
from segue.metrics.lists import diversity, gini, novelty, popularity_bias, serendipity
from segue.metrics.probabilities import calibration, calibration_error
from segue.metrics.several_targets import Relevance
from segue.shapes import Floats

#: The longest list of a curve.
LONGEST = 50


def curves_of(measured: Compared) -> dict[str, Any]:
    """Return metric -> model -> a value for each k from 1; None beyond the lists of a model that gave lists alone."""
    ks = range(1, LONGEST + 1)
    curves: dict[str, Any] = {"k": list(ks)}
    for metric, function in WITH_INTERVAL.items():
        curves[metric] = {
            name: [float(function(ranked.ranks, k=k).mean()) if ranked.reaches(k) else None for k in ks]
            for name, ranked in measured.models.items()
        }
    return curves


def catalogue_of(measured: Compared) -> dict[str, dict[str, float]]:
    """Return for each model the means of the metrics of its lists beside accuracy (`segue.metrics.lists`).

    Novelty, popularity bias and serendipity need the training events, diversity needs attributes of items. Serendipity
    is over the ten most popular items.
    """
    found = {}
    for name, ranked in measured.models.items():
        row, lists = {"gini@10": gini(ranked.lists, n_items=len(measured.items))}, ranked.lists
        if measured.features is not None:
            row["diversity@10"] = float(diversity(lists, features=measured.features).mean())
        if measured.counts is not None:
            counts = measured.counts.copy()
            counts[0] = 0
            popular = np.argsort(-counts[1:], kind="stable")[None, :10] + 1
            hits = Relevance((lists == measured.targets[:, None]) & (lists > 0), np.ones(len(lists), np.int64))
            row["serendipity@10"] = float(serendipity(lists, found=hits, expected=popular).mean())
            row["novelty@10"] = float(novelty(lists, counts=counts).mean())
            row["popularity bias@10"] = float(popularity_bias(lists, counts=counts).mean())
        found[name] = row
    return found


def calibration_of(chances: Floats, hits: NDArray[np.bool_], log_losses: NDArray[np.float64]) -> dict[str, Any]:
    """Return how often items came next that a model said would come with some chance.

    Args:
        chances: float32[query, 10], of the items of each list, best first.
        hits: bool[query, 10], whether the item came next.
        log_losses: float64[n], of the known targets that a list may hold.

    Returns:
        "bins": as many items in each, with the mean chance and the share that came; "error": the expected calibration
        error; "log_loss": the mean in nats.
    """
    flat, came = chances.ravel(), hits.ravel()
    bins = [{"predicted": p, "observed": o, "items": n} for p, o, n in calibration(flat, came)]
    loss = float(log_losses.mean()) if len(log_losses) else None
    return {"bins": bins, "error": calibration_error(flat, came), "log_loss": loss, "queries": len(chances)}
