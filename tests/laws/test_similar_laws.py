"""law: items like an item are those that a slow reading of the equations finds, in all ways of asking."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from segue.errors import ArgumentError
from segue.recommend.changed_items import Changed
from segue.recommend.index.approximate import exact_index
from segue.recommend.new_items import grown
from segue.recommend.similar import WEIGHTS
from tests_support import ITEMS, described_log, described_recommender, random_counts, small_recommender

PLAIN = described_recommender(described_log())
REC = replace(PLAIN, counts=random_counts(PLAIN.vocabulary.size, np.random.default_rng(2)))
SHOP = ITEMS.with_columns(pl.col("title").replace({"blue boat 0": "Blue: the blue BOAT, 0"}))
LARGER = REC.add_items(SHOP)
CHANGED = Changed(LARGER, LARGER).with_lines(
    {2: {"item": "01", "title": "a red Car", "kind": "c|z", "price": 1.0}, 5: {"item": "04", **dict.fromkeys(
        ("title", "kind", "price"))}}
).rec  # fmt: skip


def people(rec, row):
    """The root of the cosine of co-occurrence, of matrices; 1 for the nearest."""
    size = len(rec.counts.popularity)
    pairs, popularity = rec.counts.pairs.toarray().astype(float), rec.counts.popularity.astype(float)
    joint = pairs * (popularity / np.maximum(pairs.sum(axis=1), 1e-300))[:, None]
    joint *= popularity / np.maximum(joint.sum(axis=0), 1e-300)
    both, events = joint + joint.T, popularity / popularity[1:].min() + 10
    cosines = both[row] / np.sqrt(events * events[row])
    cosines[[0, row]] = 0
    found = np.zeros(rec.vocabulary.size)
    found[:size] = np.sqrt(cosines / cosines.max())
    return found


def vectors(rec, row):
    """The cosine of vectors half-way to white."""
    all_items = rec.params.items.astype(float)
    learnt = all_items[1 : rec.learnt_rows]
    centred = learnt - learnt.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(learnt))
    damped = directions / (variances + variances.mean()) ** 0.25
    white = (all_items - learnt.mean(axis=0)) @ damped
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    return white @ white[row]


def attributes(rec, row):
    """The mean of the cosines of categories and of words, by dictionaries."""
    lines = [rec.catalogue.line(n) for n in range(1, rec.vocabulary.size)]
    likeness, weights = np.zeros(rec.vocabulary.size), []
    for name in ("kind", "title"):
        texts = [line[name] or "" for line in lines]
        sets = [
            set(text.split("|")) if name == "kind" else {w for w in re.findall(r"\w+", text.lower()) if w.isalpha()}
            for text in texts
        ]
        sets = [set(), *(found - {""} for found in sets)]
        having = {key: sum(key in found for found in sets) for found in sets for key in found}
        square = {key: np.log1p(len(sets) / count) ** 2 for key, count in having.items()}
        if sets[row]:
            weights.append(1 - min(having[key] for key in sets[row]) / len(sets))
            for other, found in enumerate(sets):
                if found:
                    lengths = [np.sqrt(sum(square[key] for key in one)) for one in (found, sets[row])]
                    likeness[other] += weights[-1] * sum(square[key] for key in found & sets[row]) / np.prod(lengths)
    return likeness / max(sum(weights), 1e-300)


def reference(rec, item, mix):
    """Ids and scores of all items, best first."""
    row = rec.vocabulary.row(item)
    described = attributes(rec, row)
    counted = row < rec.learnt_rows  # others have the counts of an item like them
    weights = [
        2 * (1 - mix) * WEIGHTS.people * counted,
        WEIGHTS.vectors,
        2 * mix * WEIGHTS.attributes * described.any(),
    ]
    parts = [people(rec, row), vectors(rec, row), described]
    scores = sum(weight * part for weight, part in zip(weights, parts, strict=True)) / sum(weights)
    scores[[0, row, *rec.unreachable]] = -np.inf
    order = np.argsort(-scores, kind="stable")
    return [(rec.vocabulary.id(int(n)), scores[n]) for n in order if scores[n] > -np.inf]


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("rec", [REC, LARGER, CHANGED], ids=["learnt", "with new items", "with changed items"])
def test_law_similar_items_are_those_of_the_equations(rec, mix):
    for item in (rec.items[0], "01", rec.items[-2]):
        expected = reference(rec, item, mix)
        for one in (rec, rec.with_index(exact_index(rec))):
            found = one.similar(item, 50, mix=mix)
            np.testing.assert_allclose([line.score for line in found], [score for _, score in expected], atol=1e-4)
            assert [line.item for line in found][:3] == [id for id, _ in expected][:3]


def test_law_a_filter_leaves_the_order_of_the_others():
    for rec in (LARGER, LARGER.with_index(exact_index(LARGER))):
        every = rec.similar("03", 50)
        for where in ('kind = "b"', "price >= current.price", 'item in ("01", "07", "nobody")', "price > 100"):
            passing = rec.filters.passing(where, None if "current" not in where else _known(rec)).mask
            wanted = [line for line in every if passing[rec.vocabulary.row(line.item)]]
            assert [line.item for line in rec.similar("03", 50, where=where)] == [line.item for line in wanted]
            assert rec.similar("03", 2, where=where) == rec.similar("03", 50, where=where)[:2]


def _known(rec):
    from segue.recommend.filters.binding import Known

    return Known(0, current=rec.catalogue.line(rec.vocabulary.row("03")))


def test_similar_without_counts_or_attributes():
    plain = small_recommender()
    alone, bare = replace(plain, counts=None, catalogue=None), replace(plain, catalogue=None)
    order = np.argsort(-vectors(alone, 3), kind="stable")
    ids = [alone.vocabulary.id(int(row)) for row in order if row not in (0, 3)]
    for mix in (0, 0.5, 1):
        assert [line.item for line in alone.similar("002", 20, mix=mix)] == ids
    assert [line.item for line in bare.similar("002", 20, mix=1)] == ids
    assert bare.similar("002", 20, mix=0) != alone.similar("002", 20, mix=0)
    with pytest.raises(ArgumentError, match='expected a known item, came "nobody"'):
        plain.similar("nobody")


def test_law_popularity_is_taken_out_whatever_the_powers_of_the_blend_were():
    rng, size = np.random.default_rng(0), 9
    counted = rng.integers(1, 20, (size, size)).astype(np.float32)
    counted[0] = counted[:, 0] = 0
    np.fill_diagonal(counted, 0)
    counted *= counted.sum(axis=1, keepdims=True) > 0
    popularity = np.maximum(counted.sum(axis=1), 1)
    near = []
    for norm, rarity in ((0, 0), (1, 0), (0.5, 0.3)):
        counts = random_counts(size, rng)
        shares = counted / np.maximum(counted.sum(axis=1, keepdims=True), 1) ** norm / popularity**rarity
        dense = np.nonzero(shares)
        offsets = np.concatenate([[0], np.cumsum((shares > 0).sum(axis=1))])
        counts = replace(
            counts, offsets=offsets, rows=dense[1].astype(np.int32), shares=shares[dense].astype(np.float32),
            popularity=(popularity / popularity.sum()).astype(np.float32),
        )  # fmt: skip
        rec = replace(small_recommender(), counts=counts)
        near.append(rec.co_counts.near(4)[1])
    np.testing.assert_allclose(near[1], near[0], atol=1e-5)
    np.testing.assert_allclose(near[2], near[0], atol=0.05)
    assert len(grown(counts, np.eye(12, dtype=np.float32)).popularity) == 12
