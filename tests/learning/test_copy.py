"""copy: a cue must be remembered over noise until its turn. Longer lags: benchmarks/recall_by_lag.py."""

import pytest

import segue
from segue.data.log import synthetic

LAG = 20
#: The window is longer than the lag, so that the gradient reaches the cue.
SETTINGS = {
    "model.width": 32,
    "model.depth": 1,
    "model.dropout": 0.0,
    "model.time_features": False,
    "train.batch_size": 16,
    "train.bptt_steps": 3 * LAG + 3,
    "train.epochs": 25,
    "train.learning_rate": 3e-3,
    "experiment.weight_average": 0.95,
    "experiment.item_dropout": 0.0,
    "train.repeats": "allow",
}


@pytest.mark.slow
def test_linear_recalls_over_noise():
    train = segue.read_events(synthetic.copy(lag=LAG, users=1000).events)
    rec = segue.train(train, config=SETTINGS)
    _, test = segue.split_last(segue.read_events(synthetic.copy(lag=LAG, users=300, seed=1).events))
    assert segue.evaluate(rec, test, ks=(1,)).rows["segue"]["hr@1"] >= 0.9
