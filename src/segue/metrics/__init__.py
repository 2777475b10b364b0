"""Metrics of any model's lists, ranks, scores and ratings, Segue's or not: one pure function each.

    metrics.py          metrics of ranks and of predicted ratings
    several_targets.py  the same for queries with several targets, from the hits in each list
    lists.py            what lists cover, how new, varied, surprising and popular their items are
    probabilities.py    log-loss and calibration
    any_lists.py        lists by id, numbered for the metrics above, and all metrics at once
    ranks.py            the rank of a target among all items, and how ties count
    bootstrap.py        confidence intervals of differences
    comparison.py       whether one model may take the place of another
    coordinate_search.py  the best settings of a simple model, one setting at a time

The path through it: scores become ranks, ranks become a number per query, and numbers a mean with
its interval.

Knows: scores, rows, ranks.
Does not know: models, logs, reports.
"""

from segue.metrics.any_lists import NumberedLists, list_metrics, numbered
from segue.metrics.bootstrap import Interval, bootstrap_means, paired_bootstrap
from segue.metrics.lists import coverage, diversity, gini, novelty, popularity_bias, serendipity
from segue.metrics.metrics import (
    auc,
    f1,
    hit_rate,
    mae,
    mean_average_precision,
    mrr,
    ndcg,
    next_item_metrics,
    precision,
    recall,
    rmse,
)
from segue.metrics.probabilities import calibration, calibration_error, log_loss
from segue.metrics.ranks import target_ranks
from segue.metrics.several_targets import (
    Relevance,
    relevance,
    set_auc,
    set_f1,
    set_hit_rate,
    set_mean_average_precision,
    set_mrr,
    set_ndcg,
    set_precision,
    set_recall,
)

__all__ = [
    "Interval",
    "NumberedLists",
    "Relevance",
    "auc",
    "bootstrap_means",
    "calibration",
    "calibration_error",
    "coverage",
    "diversity",
    "f1",
    "gini",
    "hit_rate",
    "list_metrics",
    "log_loss",
    "mae",
    "mean_average_precision",
    "mrr",
    "ndcg",
    "next_item_metrics",
    "novelty",
    "numbered",
    "paired_bootstrap",
    "popularity_bias",
    "precision",
    "recall",
    "relevance",
    "rmse",
    "serendipity",
    "set_auc",
    "set_f1",
    "set_hit_rate",
    "set_mean_average_precision",
    "set_mrr",
    "set_ndcg",
    "set_precision",
    "set_recall",
    "target_ranks",
]
