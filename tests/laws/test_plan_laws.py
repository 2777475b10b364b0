"""law: a plan is the recurrence run over its own choices, and what its paths are worth adds up."""

import itertools

import numpy as np
import polars as pl
import pytest

from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import ArgumentError
from segue.model.backend import leaves
from segue.model.cells import CELLS
from segue.recommend.plan import Beam, Sample
from tests_support import small_recommender


def asked(cell="linear", repeats="allow", items=12, seed=5):
    vocabulary = Vocabulary(pl.Series([f"{i:03d}" for i in range(items)]))
    rec = small_recommender(vocabulary, cell=cell, repeats=repeats, seed=seed)
    state = rec.observe(rec.observe(rec.start(), "001", time=100), "004", time=160)
    return rec, state


def ids(plan):
    return [line.item for line in plan.items]


def log_softmax(scores):
    return scores - np.logaddexp.reduce(scores)


def worth(rec, state, path, *, twice=False):
    """Return the log-probability of a path by observing and scoring, one item at a time."""
    total, chosen = 0.0, []
    for item in path:
        scores = rec.score(state)[0].astype(np.float64)
        scores[[] if twice else [rec.items.index(one) for one in chosen]] = -np.inf
        total += log_softmax(scores)[rec.items.index(item)]
        state, chosen = rec.observe(state, item), [*chosen, item]
    return total


@pytest.mark.parametrize("cell", list(CELLS))
def test_law_greedy_is_the_slow_loop(cell):
    rec, state = asked(cell)
    plan, now, chosen = rec.plan(state, 6), state, []
    for line in plan.items:
        best = rec.recommend(now, k=1, exclude=chosen)[0]
        assert (line.item, line.title) == (best.item, best.title)
        assert line.score == pytest.approx(best.score, abs=1e-4)
        now, chosen = rec.observe(now, best.item), [*chosen, best.item]
    assert plan.log_probability == pytest.approx(worth(rec, state, ids(plan)), abs=1e-4)


@pytest.mark.parametrize("repeats", ["allow", "exclude"])
def test_law_a_plan_of_one_is_a_list_of_one(repeats):
    rec, state = asked(repeats=repeats)
    for options in ({}, {"at": 5000.0}, {"exclude": ["002", "007", "not there"]}, {"repeats": "exclude"}):
        plan = rec.plan(state, 1, **options)
        [best] = rec.recommend(state, k=1, **options)
        assert plan.items[0].item == best.item and plan.items[0].score == pytest.approx(best.score, abs=1e-5)
        assert plan == rec.plan(state, 1, by=Beam(4), **options)


def test_law_times_are_those_of_the_loop():
    rec, state = asked()
    plan, now, chosen = rec.plan(state, 4, at=400, every=60), state, []
    for time, line in zip((400, 460, 520, 580), plan.items, strict=True):
        assert line.item == rec.recommend(now, k=1, at=time, exclude=chosen)[0].item
        assert line.score == pytest.approx(rec.recommend(now, k=1, at=time, exclude=chosen)[0].score, abs=1e-4)
        now, chosen = rec.observe(now, line.item, time=time), [*chosen, line.item]
    alone = rec.plan(state, 2, at=400)
    after = rec.observe(state, alone.items[0].item, time=400)
    best = rec.recommend(after, k=1, exclude=[alone.items[0].item])[0]
    assert alone.items[1].score == pytest.approx(best.score, abs=1e-4)


def test_law_a_full_beam_finds_the_best_path_and_all_paths_sum_to_one():
    rec, state = asked(items=5)
    paths = [*itertools.permutations(rec.items, 3)]
    worths = {path: worth(rec, state, path) for path in paths}
    assert np.exp(list(worths.values())).sum() == pytest.approx(1.0, abs=1e-5)
    best = rec.plan(state, 3, by=Beam(len(paths)))
    assert tuple(ids(best)) == max(worths, key=worths.get)
    assert best.log_probability == pytest.approx(max(worths.values()), abs=1e-4)
    assert best.log_probability >= rec.plan(state, 3).log_probability - 1e-6


def test_law_a_beam_of_one_is_greedy_and_two_items_are_never_worse():
    for seed in range(20):
        rec, state = asked(seed=seed)
        assert rec.plan(state, 6, by=Beam(1)) == rec.plan(state, 6)
        assert rec.plan(state, 2, by=Beam(3)).log_probability >= rec.plan(state, 2).log_probability - 1e-6


def test_law_no_repeats_unless_asked():
    rec, _ = asked(items=4)
    state = rec.observe(rec.start(), "001", time=100)
    free = rec.plan(state, 9, repeats="allow", by=Sample(seed=1))
    assert len(free.items) == 9
    assert free.log_probability == pytest.approx(worth(rec, state, ids(free), twice=True), abs=1e-4)
    for by in (Beam(), Beam(3), Sample()):
        assert sorted(ids(rec.plan(state, 9, by=by))) == rec.items
        assert sorted(ids(rec.plan(state, 9, by=by, repeats="exclude"))) == ["000", "002", "003"]
        assert sorted(ids(rec.plan(state, 9, by=by, exclude=["000", "003"]))) == ["001", "002"]
    assert rec.plan(state, 3, exclude=rec.items).items == []


def test_law_a_seed_is_a_path_and_draws_as_the_model_believes():
    rec, state = asked(items=3)
    assert rec.plan(state, 3, by=Sample(seed=7)) == rec.plan(state, 3, by=Sample(seed=7))
    drawn = [rec.plan(state, 1, by=Sample(temperature=2.0, seed=seed)).items[0].item for seed in range(600)]
    chances = np.exp(log_softmax(rec.score(state)[0].astype(np.float64) / 2.0))
    for item, chance in zip(rec.items, chances, strict=True):
        assert abs(drawn.count(item) / 600 - chance) < 4 * np.sqrt(chance * (1 - chance) / 600)
    assert rec.plan(state, 3, by=Sample(temperature=1e-6)).items == rec.plan(state, 3).items


def test_law_a_state_stays_as_it_is():
    rec, state = asked()
    before = [array.copy() for _, array in leaves(state.memory)]
    rec.plan(state, 5, by=Beam(3))
    for old, (path, array) in zip(before, leaves(state.memory), strict=True):
        np.testing.assert_array_equal(old, array, err_msg=path)
    assert (state.count, state.time, state.seen.to_rows().tolist()) == (2, 160_000_000, [2, 5])


def test_arguments_that_do_not_fit_are_refused():
    rec, state = asked()
    with pytest.raises(ArgumentError, match=r"expected n from 1, a whole number, came 0\. Ask for 1 item or more"):
        rec.plan(state, 0)
    with pytest.raises(ArgumentError, match=r"expected a beam of width 1 or more, came 0\. 8 is a good one"):
        Beam(0)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match=rf"expected a temperature above 0, came {temperature}\. 1 draws"):
            Sample(temperature=temperature)
    other, foreign = asked(seed=6)
    with pytest.raises(ArgumentError, match="A state means nothing to other weights"):
        rec.plan(foreign, 2)
    assert other.plan(foreign, 2).items
