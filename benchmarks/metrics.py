"""The metrics of `segue.metrics` held against ranx and scikit-learn on random data: the largest difference of each.

    pip install ranx scikit-learn
    python benchmarks/metrics.py --out benchmarks/results/metrics-agreement.json

Metrics of lists with several targets are compared query by query with ranx, AUC, log-loss and errors of ratings with
scikit-learn. ranx divides the average precision by all targets and Segue by those that fit in the list: they are
compared where all targets fit.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ranx import Qrels, Run, evaluate
from sklearn.metrics import log_loss, mean_absolute_error, roc_auc_score, root_mean_squared_error

from segue import metrics
from segue.metrics.any_lists import OF_LISTS

QUERIES, ITEMS, KS = 1500, 400, (1, 5, 10, 20)
#: The names of ranx.
NAMES = {"hr": "hit_rate", "precision": "precision", "recall": "recall", "f1": "f1", "ndcg": "ndcg", "mrr": "mrr"}


def of_lists(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the largest difference of each metric and k from ranx, over all queries."""
    lists = [rng.permutation(ITEMS)[: rng.integers(1, 31)] for _ in range(QUERIES)]
    hits = [rng.choice(shown, rng.integers(0, len(shown) + 1)) for shown in lists]
    targets = [np.unique(np.concatenate([each, rng.integers(0, ITEMS, 3)])) for each in hits]
    found = []
    for name, metric in OF_LISTS.items():
        for k in KS:
            fit = [q for q, wanted in enumerate(targets) if name != "map" or len(wanted) <= k]
            if not fit:
                continue
            top = metrics.numbered([lists[q] for q in fit], [targets[q] for q in fit])
            ours = metric(top._replace(top=np.pad(top.top, ((0, 0), (0, 20)))).found, k=k)
            qrels = Qrels({f"q{q:05}": {f"i{item}": 1 for item in targets[q]} for q in fit})
            run = Run({f"q{q:05}": {f"i{item}": 1 / (n + 1) for n, item in enumerate(lists[q])} for q in fit})
            theirs = evaluate(qrels, run, f"{NAMES.get(name, name)}@{k}", return_mean=False)
            difference = float(np.abs(np.asarray(theirs) - ours).max())
            found.append({"metric": f"{name}@{k}", "beside": "ranx", "values": len(fit), "difference": difference})
    return found


def of_scores(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the largest differences of AUC and log-loss, query by query, and of RMSE and MAE, from scikit-learn."""
    scores = rng.integers(0, 40, (QUERIES, ITEMS)) / 8.0
    relevant = np.zeros((QUERIES, ITEMS), bool)
    for row in relevant:
        row[rng.permutation(np.arange(1, ITEMS))[: rng.integers(1, 20)]] = True
    query, target = np.nonzero(relevant)
    ranks = metrics.target_ranks(scores[query], target, ties="mean")
    offsets = np.concatenate([[0], np.cumsum(relevant.sum(axis=1))])
    auc = metrics.set_auc(ranks, offsets=offsets, n_items=ITEMS)
    theirs = [roc_auc_score(*both) for both in zip(relevant[:, 1:], scores[:, 1:], strict=True)]
    first = target[offsets[:-1]]
    shares = np.exp(scores[:, 1:]) / np.exp(scores[:, 1:]).sum(axis=1, keepdims=True)
    losses = [log_loss([goal], [row], labels=range(ITEMS - 1)) for goal, row in zip(first - 1, shares, strict=True)]
    given, predicted = rng.integers(1, 6, QUERIES * 10).astype(float), rng.normal(3, 1, QUERIES * 10)
    pairs = {
        "auc": np.abs(auc - theirs).max(),
        "log_loss": np.abs(metrics.log_loss(scores, first) - losses).max(),
        "rmse": abs(metrics.rmse(predicted, given) - root_mean_squared_error(given, predicted)),
        "mae": abs(metrics.mae(predicted, given) - mean_absolute_error(given, predicted)),
    }
    counts = {"auc": QUERIES, "log_loss": QUERIES, "rmse": 1, "mae": 1}
    return [
        {"metric": name, "beside": "scikit-learn", "values": counts[name], "difference": float(difference)}
        for name, difference in pairs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("ranx", "scikit-learn", "numpy")},
        "metrics": of_lists(rng) + of_scores(rng),
    }
    for row in found["metrics"]:
        print(f"{row['metric']:>14} {row['beside']:>13} {row['values']:>6} {row['difference']:.1e}")
    if asked.out:
        asked.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
