"""Recall by lag: whether a cell learns to give back what it saw that many events ago, over noise."""

import time
from collections.abc import Mapping
from typing import Any

import segue
from segue.data.log import synthetic
from segue.errors import TrainingError
from segue.insight.cell_choices import settings_of

#: Of every run, so that cells differ in nothing else.
SETTINGS = {
    "model.width": 32,
    "model.depth": 1,
    "model.dropout": 0.0,
    "model.time_features": False,
    "train.learning_rate": 3e-3,
    "experiment.weight_average": 0.95,
    "experiment.item_dropout": 0.0,
    "train.patience": 1000,
    "train.repeats": "allow",
}
#: Users on whom recall is measured.
MEASURED = 300


def recall_at(
    cell: str,
    lag: int,
    *,
    cues: int = 4,
    fillers: int = 2,
    users: int = 1000,
    rounds: int = 5,
    epochs: int = 25,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a cell on the copy task and return how often it recalls the cue; one in `cues` is chance.

    Args:
        cell: one of `segue.insight.cell_choices.NAMES`.
        lag: events from a cue to its return.
        cues: items to be recalled.
        fillers: items between them.
        users: to train on; recall is measured on others.
        rounds: of each user.
        epochs: the same for every cell and lag.
        batch_size: users in an update. A window is three rounds long, so that the gradient reaches the cue.
        seed: of log and weights.

    Returns:
        cell, lag, recall (NaN where the loss became NaN), best_epoch, seconds.

    Raises:
        ArgumentError: there is no such cell.

    Cost: a training run, from seconds to minutes.
    """
    size: Mapping[str, int] = {"lag": lag, "items": cues, "fillers": fillers, "rounds": rounds}
    train = segue.read_events(synthetic.copy(**size, users=users, seed=seed).events)
    _, test = segue.split_last(segue.read_events(synthetic.copy(**size, users=MEASURED, seed=seed + 1).events))
    windows = {"train.bptt_steps": 3 * lag + 3, "train.batch_size": batch_size}
    windows |= {"train.epochs": epochs, "train.seed": seed}
    began = time.perf_counter()
    try:
        rec = segue.train(train, config=SETTINGS | settings_of(cell) | windows)
        recall = float(segue.evaluate(rec, test, ks=(1,)).rows["segue"]["hr@1"])
        best = rec.facts["best_epoch"]
    except TrainingError:  # nothing was learnt
        recall, best = float("nan"), 0
    seconds = round(time.perf_counter() - began, 1)
    return {"cell": cell, "lag": lag, "recall": recall, "best_epoch": best, "seconds": seconds}
