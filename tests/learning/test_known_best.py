"""Logs whose best score is known: most of it is reached, and noise stays at chance."""

import numpy as np
import pytest

import segue
from segue.data.log import synthetic


def hit_rate(shop, settings):
    train, test = segue.split_last(segue.read_events(shop.events))
    rec = segue.train(train, config={"train.repeats": "allow", "model.width": 32} | settings)
    asked = segue.evaluate(rec, test, ks=(1,))
    return asked.rows["segue"]["hr@1"]


@pytest.mark.parametrize("cell", ["linear", "gru"])
def test_markov_shop_reaches_97_percent_of_the_best(cell):
    shop = synthetic.markov(users=1000, length=30)
    assert hit_rate(shop, {"train.epochs": 8, "model.cell": cell}) >= 0.97 * shop.best


def test_noise_stays_at_chance():
    shop = synthetic.noise()
    spread = np.sqrt(shop.best * (1 - shop.best) / 400)
    assert abs(hit_rate(shop, {"train.epochs": 4}) - shop.best) < 4 * spread


def test_markov_best_is_what_the_true_matrix_scores():
    shop = synthetic.markov(users=3000)
    rows = shop.events["item"].str.slice(1).cast(int).to_numpy().reshape(40, 3000)
    hits = shop.transitions[rows[-2]].argmax(axis=1) == rows[-1]
    assert hits.mean() == pytest.approx(shop.best, abs=0.03)
