"""Recall by lag: how often each cell gives back what it saw that many events ago, over noise.

    python benchmarks/recall_by_lag.py [--lags 20 100] [--cells linear ...] [--passes 110] [--json] [--out FILE]
    python benchmarks/recall_by_lag.py --draw benchmarks/results/recall_by_lag.json -o recall-by-lag.png

The shop is `segue.data.log.synthetic.copy`; the test is the last event of users who were not learnt, and best is 1.
All cells train with the same settings, for the same number of updates. A window is two rounds, so that the
gradient reaches the cue. `--draw` trains nothing: it draws the rows of such a file, in the style of `segue insight`.
"""

import argparse
import itertools
import json
import os
import platform
import time
from pathlib import Path

import numpy as np

import segue
from segue.data.log import synthetic
from segue.errors import TrainingError

CELLS = {
    "linear": {"model.cell": "linear"},
    "gru": {"model.cell": "gru"},
    "lstm": {"model.cell": "lstm"},
    "simple_rnn, tanh": {"model.cell": "simple_rnn", "model.activation": "tanh"},
    "simple_rnn, relu": {"model.cell": "simple_rnn", "model.activation": "relu"},
    "simple_rnn, leaky_relu": {"model.cell": "simple_rnn", "model.activation": "leaky_relu"},
}
SETTINGS = {
    "model.width": 32,
    "model.depth": 1,
    "model.dropout": 0.0,
    "model.time_features": False,
    "train.batch_size": 8,
    "train.learning_rate": 0.003,
    "experiment.weight_average": 0.95,
    "experiment.item_dropout": 0.0,
    "train.patience": 100,
    "train.repeats": "allow",
}


def measure(cell: str, lag: int, *, items: int, fillers: int, users: int, rounds: int, passes: int, seed: int) -> dict:
    size = {"lag": lag, "items": items, "fillers": fillers, "rounds": rounds}
    train = segue.read_events(synthetic.copy(**size, users=users, seed=seed).events)
    _, test = segue.split_last(segue.read_events(synthetic.copy(**size, users=300, seed=seed + 1).events))
    config = {**SETTINGS, **CELLS[cell], "train.bptt_steps": 2 * lag + 2, "train.epochs": passes, "train.seed": seed}
    began = time.perf_counter()
    try:
        rec = segue.train(train, config=config)
        recall = float(segue.evaluate(rec, test, ks=(1,)).rows["segue"]["hr@1"])
        best_epoch = rec.facts["best_epoch"]
    except TrainingError:  # the loss is not a number: nothing was learnt
        recall, best_epoch = float("nan"), 0
    seconds = time.perf_counter() - began
    return {"cell": cell, "lag": lag, "recall": recall, "best_epoch": best_epoch, "seconds": round(seconds, 1)}


def table(rows: list[dict], lags: list[int]) -> str:
    found = {(row["cell"], row["lag"]): row["recall"] for row in rows}
    lines = [f"{'cell':<18}" + "".join(f"  lag {lag:>4}" for lag in lags)]
    cells = dict.fromkeys(row["cell"] for row in rows)
    lines += [f"{cell:<18}" + "".join(f"  {found.get((cell, lag)) or np.nan:8.3f}" for lag in lags) for cell in cells]
    return "\n".join(lines)


def draw(kept: Path, out: Path) -> None:
    """Draw the recall by lag and cell that a file holds; a run that learnt nothing recalls nothing."""
    from segue.insight.figures import recall_figure, save_figure  # needs matplotlib

    found = json.loads(kept.read_text())
    names = [row["cell"].replace(", ", ":") for row in found["rows"]]
    rows = [
        row | {"cell": name, "recall": row["recall"] or 0.0} for name, row in zip(names, found["rows"], strict=True)
    ]
    save_figure(recall_figure(rows, found["chance"]), out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lags", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--cues", type=int, default=4)
    parser.add_argument("--fillers", type=int, default=2)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=110)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--out", "-o", type=Path, help="keep each row here, and go on from what is kept; with --draw the figure"
    )
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw what --out has kept")
    asked = parser.parse_args()
    if asked.draw:
        draw(asked.draw, asked.out or Path("recall-by-lag.png"))
        return
    size = {"items": asked.cues, "fillers": asked.fillers, "users": asked.users, "rounds": asked.rounds}
    found = {
        "shop": size,
        "chance": 1 / asked.cues,
        "settings": SETTINGS,
        "passes": asked.passes,
        "seed": asked.seed,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "rows": [],
    }
    if asked.out and asked.out.exists():
        found["rows"] = json.loads(asked.out.read_text())["rows"]
    met = {(row["cell"], row["lag"]) for row in found["rows"]}
    for lag, cell in itertools.product(asked.lags, asked.cells):
        if (cell, lag) in met:
            continue
        row = measure(cell, lag, **size, passes=asked.passes, seed=asked.seed)
        found["rows"].append(row | {"recall": row["recall"] if np.isfinite(row["recall"]) else None})
        if asked.out:
            asked.out.write_text(json.dumps(found) + "\n")
        if not asked.json:
            print(f"{cell}, lag {lag}: {row['recall']:.3f} in {row['seconds']} s", flush=True)
    print(json.dumps(found) if asked.json else "\n" + table(found["rows"], asked.lags))


if __name__ == "__main__":
    main()
