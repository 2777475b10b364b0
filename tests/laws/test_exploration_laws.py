"""law: a list drawn by chance says how likely each item was at its place, as counting all draws does."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from segue.errors import ArgumentError
from segue.recommend.index.approximate import exact_index
from segue.recommend.lists.candidates import ListQuery, list_query, score
from segue.recommend.lists.item_filters import ItemFilters, Rule, lay_rules
from segue.recommend.lists.options import ListOptions
from segue.recommend.lists.rerank import plackett_luce, rerank
from tests_support import small_recommender

LOGITS = [0.9, 0.1, -0.4, -1.5]


def every_list(logits, k):
    """The probability of each ordered list, place by place."""
    weights, found = np.exp(logits), {}
    for drawn in itertools.permutations(range(len(logits)), k):
        left, found[drawn] = weights.sum(), 1.0
        for item in drawn:
            found[drawn] *= weights[item] / left
            left -= weights[item]
    return found


def test_law_draws_come_as_often_as_enumeration_says():
    expected, draws, rng = every_list(LOGITS, 2), 4_000, np.random.default_rng(3)
    counted = dict.fromkeys(expected, 0)
    for _ in range(draws):
        drawn = plackett_luce(LOGITS, 2, rng)
        places = tuple(place for place, _ in drawn)
        counted[places] += 1
        assert np.prod([likely for _, likely in drawn]) == pytest.approx(expected[places])
    for places, count in counted.items():  # within five standard errors
        assert abs(count / draws - expected[places]) < 5 * np.sqrt(expected[places] / draws)


def lists_of(rec, options, filters=None):
    """The lists of some options, for a user without events."""
    filters = filters or ItemFilters()
    queries = [list_query(rec, rec.start(), one, filters, who=b"ann") for one in options]
    return rerank(rec, filters, queries, score(rec, filters, queries))


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
def test_law_probabilities_of_a_list_are_those_of_the_scores(temperature):
    rec = small_recommender()
    scores = dict(zip(rec.items, rec.score(rec.start())[0].tolist(), strict=True))
    (found,) = lists_of(rec, [ListOptions(5, temperature=temperature, list_id="a")])
    left = dict(scores)
    for line, likely in zip(found, found.probabilities, strict=True):
        weights = np.array(list(left.values()), np.float64) / temperature
        own = left.pop(line.item) / temperature
        assert likely == pytest.approx(float(np.exp(own - np.logaddexp.reduce(weights))), rel=1e-4)
        assert line.score == pytest.approx(scores[line.item], abs=1e-5)


def test_a_list_is_drawn_by_its_id_and_a_seed_comes_first():
    rec = small_recommender()
    same = ListOptions(5, temperature=1.0, list_id="a")
    lists = lists_of(rec, [same, same, *(replace(same, list_id=f"{n}") for n in range(20))])
    assert list(lists[0]) == list(lists[1]) and lists[0].probabilities == lists[1].probabilities
    assert len({tuple(line.item for line in one) for one in lists}) > 10
    by_seed = lists_of(rec, [replace(same, seed=3), replace(same, seed=3, list_id="b")])
    assert list(by_seed[0]) == list(by_seed[1])


def test_law_the_share_of_explored_places_is_what_the_list_says():
    rec, options = small_recommender(), ListOptions(3, explore=0.4)
    best = [line.item for line in lists_of(rec, [ListOptions(3)])[0]]
    lists = lists_of(rec, [replace(options, list_id=f"{n}") for n in range(2000)])
    first = [one[0].item for one in lists]
    said = {one[0].item: one.probabilities[0] for one in lists}
    assert sum(said.values()) == pytest.approx(1) and said[best[0]] == 0.6
    for item, likely in said.items():
        assert abs(first.count(item) / len(first) - likely) < 5 * np.sqrt(likely / len(first))
    assert {sum(p < 0.5 for p in one.probabilities) for one in lists} == {0, 1, 2, 3}
    seconds = {one.probabilities[:2] for one in lists}  # of 12 items 9 are not in the best list
    assert seconds == {(a, b) for a in (0.6, 0.4 / 9) for b in (0.6, 0.4 / (9 - (a < 0.5)))}


def test_a_pinned_item_is_certain_and_chance_has_the_rest():
    rec = small_recommender()
    filters = lay_rules(rec, [Rule("pin", items=("007",))])
    (found,) = lists_of(rec, [ListOptions(4, temperature=1.0, list_id="a")], filters)
    assert found[0].item == "007" and found.probabilities[0] == 1
    assert "007" not in [line.item for line in found[1:]] and max(found.probabilities[1:]) < 1
    assert lists_of(rec, [ListOptions(4)])[0].probabilities is None


def test_an_estimate_from_the_log_of_another_policy_finds_the_value():
    """Inverse propensity scoring of the first place: what the best item would earn, from lists by chance."""
    rec, rng = small_recommender(), np.random.default_rng(1)
    rates = dict(zip(rec.items, np.linspace(0.1, 0.9, len(rec.items)), strict=True))
    wanted = rec.recommend(rec.start(), 1)[0].item
    log = lists_of(rec, [ListOptions(1, temperature=1.5, list_id=f"{n}") for n in range(3000)])
    earned = [(one[0].item == wanted) * (rng.random() < rates[one[0].item]) / one.probabilities[0] for one in log]
    error = np.std(earned) / np.sqrt(len(earned))
    assert abs(np.mean(earned) - rates[wanted]) < 3 * error < 0.2


def test_chance_takes_one_form_at_a_time():
    with pytest.raises(ArgumentError, match="temperature: expected no explore"):
        ListOptions(explore=0.1, temperature=1.0)
    rec = small_recommender()
    with pytest.raises(ArgumentError, match="temperature: expected a number from 0"):
        rec.recommend(rec.start(), temperature=-1.0)
    assert ListQuery(rec.start(), ListOptions(3, temperature=1.0), None, np.zeros(0, np.int32)).places == 53


def test_law_boosts_and_discounts_of_a_list_are_added_to_its_scores():
    rec = small_recommender()
    scores = dict(zip(rec.items, rec.score(rec.start())[0].tolist(), strict=True))
    boosts = [Rule("boost", items=("003", "004"), by=0.7), Rule("boost", items=("004",), by=0.5)]
    added = {"003": 0.7, "004": 1.2, "001": -2.0}
    found = rec.recommend(rec.start(), 12, boosts=boosts, discounts={"001": 2.0, "unknown": 1.0})
    assert {line.item: line.score for line in found} == pytest.approx(
        {item: value + added.get(item, 0) for item, value in scores.items()}, abs=1e-5
    )
    assert [line.score for line in found] == sorted((line.score for line in found), reverse=True)


def test_an_index_finds_what_boosts_raise_and_discounts_leave():
    rec = replace(small_recommender(), counts=None)  # with counts an index finds more than it is asked for
    every = [line.item for line in rec.recommend(rec.start(), 12)]
    boosts = [Rule("boost", items=(every[-1], every[-3]), by=20.0)]
    wanted = {"boosts": boosts, "discounts": dict.fromkeys(every[:5], 30.0)}
    found = rec.recommend(rec.start(), 4, **wanted)
    assert {line.item for line in found} == {every[-1], every[-3], every[5], every[6]}
    indexed = rec.with_index(exact_index(rec)).recommend(rec.start(), 4, **wanted)
    assert [line.item for line in indexed] == [line.item for line in found]
