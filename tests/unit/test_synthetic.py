"""Made shops are what they say: the same seed the same log, and the law of each holds in every row."""

import numpy as np
import pytest

import segue
from segue.data.log import synthetic

SHOPS = {
    "ring": synthetic.ring,
    "markov": lambda seed=0: synthetic.markov(users=50, length=10, seed=seed),
    "copy": lambda seed=0: synthetic.copy(lag=5, seed=seed),
    "noise": lambda seed=0: synthetic.noise(users=50, seed=seed),
    "shop": lambda seed=0: synthetic.shop(users=40, seed=seed),
}


def walks(events):
    """Return each user's items in order of time."""
    ordered = events.sort("time").group_by("user", maintain_order=True).agg("item")
    return [[int(item[1:]) for item in one] for one in ordered["item"].to_list()]


@pytest.mark.parametrize("name", SHOPS)
def test_same_seed_same_log_and_another_seed_another(name):
    one, same, other = SHOPS[name](seed=3), SHOPS[name](seed=3), SHOPS[name](seed=4)
    assert one.events.equals(same.events)
    assert not one.events.equals(other.events)
    assert len(segue.read_events(one.events)) == one.events.height


def test_ring_goes_on_by_one():
    steps = np.diff(walks(synthetic.ring(items=7, length=20).events), axis=1) % 7
    assert (steps == 1).all()


def test_copy_gives_the_cue_back_after_the_signal_and_nothing_else_reveals_it():
    lag, items, fillers = 9, 8, 5
    shop = synthetic.copy(lag=lag, items=items, fillers=fillers, users=4000, rounds=2)
    rounds = np.array(walks(shop.events)).reshape(-1, lag + 1)
    np.testing.assert_array_equal(rounds[:, -1], rounds[:, 0])
    assert set(rounds[:, -2]) == {items + fillers}
    assert set(np.unique(rounds[:, 0])) == set(range(items))
    assert set(np.unique(rounds[:, 1:-2])) == set(range(items, items + fillers))
    before, now = rounds[::2, 0], rounds[1::2, 0]
    assert (before == now).mean() == pytest.approx(1 / items, abs=0.03)
    for place in range(1, lag - 1):
        chance = [(rounds[rounds[:, place] == filler, 0] == 0).mean() for filler in range(items, items + fillers)]
        np.testing.assert_allclose(chance, 1 / items, atol=0.05)


def test_markov_rows_are_chances_and_the_log_follows_them():
    shop = synthetic.markov(items=4, users=500, length=60, concentration=1.0)
    np.testing.assert_allclose(shop.transitions.sum(axis=1), 1.0)
    walk = np.array(walks(shop.events))
    counts = np.zeros((4, 4))
    np.add.at(counts, (walk[:, :-1], walk[:, 1:]), 1)
    np.testing.assert_allclose(counts / counts.sum(axis=1, keepdims=True), shop.transitions, atol=0.03)


def test_noise_has_no_order():
    walk = np.array(walks(synthetic.noise(items=5, users=2000, length=10).events))
    counts = np.zeros((5, 5))
    np.add.at(counts, (walk[:, :-1], walk[:, 1:]), 1)
    np.testing.assert_allclose(counts / counts.sum(), 1 / 25, atol=0.005)


def test_shop_sells_nothing_twice_to_one_and_its_catalogue_names_everything():
    shop = synthetic.shop(users=60)
    assert all(len(set(one)) == len(one) for one in walks(shop.events))
    assert set(shop.events["item"]) <= set(shop.catalogue["item"])
    assert shop.catalogue["title"].is_unique().all()
    assert shop.events["rating"].is_between(1, 5).all()
