"""law: the blend of network and transition counts equals its formula, and is kept only where it gains."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import segue
from segue.api import without_last
from segue.data.sequences.sequences import encode, item_vocabulary
from segue.kernels import build
from segue.metrics.metrics import ndcg
from segue.metrics.ranks import target_ranks
from segue.model import transitions as counting
from segue.model.transitions import REACH, RECENT, blend_scores, blend_shares, likeliest, transition_shares
from segue.recommend.new_items import grown
from segue.training import blend
from segue.training.blend import ALONE, GRID, SCALES, BlendSettings, count_pairs, transition_counts, tune_blend
from segue.training.validation import Answers
from tests_support import random_counts, small_recommender

needs_compiler = pytest.mark.skipif(build.serving() is None, reason="no C compiler: the pure code is used")


def test_law_the_blend_is_its_formula_and_rows_alone_score_as_among_all():
    rng = np.random.default_rng(0)
    counts = random_counts(9, rng)
    recent = rng.integers(0, 11, (6, RECENT)).astype(np.int32)  # 9 and 10 came after the counts
    recent[0] = 0
    scores = rng.normal(size=(6, 11)).astype(np.float32)
    pairs = np.zeros((9, 9))
    for row in range(9):
        for at in range(counts.offsets[row], counts.offsets[row + 1]):
            pairs[row, counts.rows[at]] = counts.shares[at]
    right = np.zeros((6, 11))
    for user in range(6):
        after, own = np.zeros(11), np.zeros(11)
        for item, decay in zip(recent[user, -REACH:], counts.decay, strict=True):
            if 0 < item < 9:
                after[:9] += decay * pairs[item]
        for item, decay in zip(recent[user], counts.habit_decay, strict=True):
            if 0 < item < 9:
                own[item] += decay
        share = 0.7 * after / (after.sum() or 1.0) + 0.3 * own / (own.sum() or 1.0)
        base = np.append(counts.popularity, [counts.popularity[1:].min()] * 2)
        right[user] = 0.8 * (scores[user] + 0.6 * np.log(share + 0.1 * base))
    shares = transition_shares(counts, recent)
    found = blend_shares(counts, scores, shares)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, right, atol=1e-5)
    rows = np.array([3, 10, 7], np.int32)
    np.testing.assert_array_equal(blend_shares(counts, scores[:, rows], shares, rows), found[:, rows])
    own = np.stack([rng.permutation(11)[:4] for _ in range(6)]).astype(np.int32)
    some = np.take_along_axis(scores, own, axis=1)
    np.testing.assert_array_equal(blend_shares(counts, some, shares, own), np.take_along_axis(found, own, axis=1))
    best = likeliest(shares, 2)[1]
    assert set(best) == set(np.argsort(-shares.toarray()[1])[:2])


@needs_compiler
@given(st.integers(0, 2**31), st.integers(2, 400), st.integers(0, 20), st.booleans())
def test_law_the_compiled_blend_is_the_pure_one(seed, size, added, habits):
    rng = np.random.default_rng(seed)
    counts = random_counts(size, rng)
    counts = replace(counts, habit=counts.habit if habits else np.float32(0), added=np.int64(min(added, size - 2)))
    width = size + added
    recent = rng.integers(0, width, (5, RECENT)).astype(np.int32)
    recent[0], recent[1, :-1] = 0, 0
    scores = rng.normal(size=(5, width)).astype(np.float32) * 9
    scores[:, 0] = -np.inf
    pure = blend_shares(counts, scores, transition_shares(counts, recent))
    whole = blend_scores(counts, scores.copy(), recent)
    np.testing.assert_allclose(whole, pure, rtol=1e-5, atol=2e-5)
    for one in range(5):
        np.testing.assert_array_equal(
            blend_scores(counts, scores[one : one + 1].copy(), recent[one : one + 1])[0], whole[one]
        )


def test_law_the_last_items_are_those_of_the_log_stepped_or_scanned():
    rng = np.random.default_rng(1)
    table = pl.DataFrame({"user": rng.integers(0, 3, 450).astype(str), "item": rng.integers(0, 14, 450).astype(str)})
    rec, log = small_recommender(), segue.read_events(table, time="none")
    states = rec.encode(log)
    for place, user in enumerate(states.users):
        state = rec.start()
        for item in table.filter(pl.col("user") == user)["item"]:
            state = rec.observe(state, item)
        last = rec.vocabulary.rows(table.filter(pl.col("user") == user)["item"])[-RECENT:]
        assert states[place].recent.tolist() == state.recent.tolist() == [last.tolist()]
        np.testing.assert_allclose(rec.score(states[place]), rec.score(state), atol=1e-4)


def test_law_a_new_item_follows_what_it_is_like_and_leaves_the_others_as_they_were():
    rng = np.random.default_rng(4)
    counts = random_counts(9, rng)
    items = rng.normal(size=(11, 5)).astype(np.float32)
    recent = rng.integers(0, 9, (4, RECENT)).astype(np.int32)
    more = grown(counts, items)
    before, after = transition_shares(counts, recent).toarray(), transition_shares(more, recent).toarray()
    np.testing.assert_allclose(after[:, :9], before, atol=1e-6)
    unit = items / np.linalg.norm(items, axis=1, keepdims=True)
    cosines = unit[9:] @ unit[:9].T
    cosines[:, 0] = 0
    pairs, nearest = counts.pairs.toarray(), cosines.argmax(axis=1)
    right = pairs[:, nearest] + (np.maximum(cosines, 0) * pairs.max(axis=1)).T
    np.testing.assert_allclose(more.pairs.toarray()[:9, 9:], right, atol=1e-6)
    np.testing.assert_allclose(more.pairs.toarray()[9:, :9], pairs[nearest], atol=1e-6)
    np.testing.assert_array_equal(more.popularity[9:], counts.popularity[nearest])
    twice = grown(grown(counts, items[:10]), items)  # one after the other: the first is there for the second
    assert twice.added == 2 and twice.pairs.shape == (11, 11)
    np.testing.assert_allclose(transition_shares(twice, recent).toarray()[:, :9], before, atol=1e-6)


def answers_of(rng, users, size, follow):
    """Return what a network of chance answers where each target is `follow` of the item before."""
    recent = np.zeros((users, RECENT), np.int32)
    recent[:, -1] = rng.integers(1, size, users)
    queries, table = (rng.normal(size=(n, 4)).astype(np.float32) for n in (users, size))
    return Answers(queries, follow(recent[:, -1]), table, np.zeros(size, np.float32), recent, [])


def cycles(rng, size, users=60, length=12):
    """Return a log in which 1 is followed by 2 and so on, each user from anywhere."""
    items = (rng.integers(0, size - 1, users)[:, None] + np.arange(length)) % (size - 1) + 1
    table = pl.DataFrame({"user": np.repeat(np.arange(users), length).astype(str), "item": items.ravel().astype(str)})
    log = segue.read_events(table, time="none")
    return encode(log), item_vocabulary(log)


def test_what_follows_surely_is_blended_in():
    rng = np.random.default_rng(2)
    known, vocabulary = cycles(rng, 40)
    after = np.zeros(vocabulary.size, np.int32)
    for row in range(1, vocabulary.size):
        after[row] = vocabulary.row(str(int(vocabulary.id(row)) % 39 + 1))
    sure = tune_blend(known, answers_of(rng, 300, vocabulary.size, lambda last: after[last]), vocabulary.size)
    assert sure.counts is not None
    assert sure.alone < 0.3 < 0.9 < sure.blended


def test_what_the_network_knows_needs_no_counts():
    rng = np.random.default_rng(3)
    known, vocabulary = cycles(rng, 40)
    answers = answers_of(rng, 300, vocabulary.size, lambda last: rng.integers(1, vocabulary.size, len(last)))
    table = np.eye(vocabulary.size, dtype=np.float32)
    knows = replace(answers, queries=100 * table[answers.targets], items=table)
    found = tune_blend(known, knows, vocabulary.size)
    assert (found.counts, found.alone) == (None, 1.0)


def test_the_weight_is_the_least_that_validation_cannot_tell_from_the_best(monkeypatch):
    rng = np.random.default_rng(13)
    known, vocabulary = cycles(rng, 60)
    size = vocabulary.size
    after = vocabulary.rows(pl.Series([str(int(vocabulary.id(row)) % (size - 1) + 1) for row in range(1, size)]))

    def often(last):
        return np.where(rng.random(len(last)) < 0.7, after[last - 1], rng.integers(1, size, len(last)))

    answers, table = answers_of(rng, 400, size, often), np.eye(size, dtype=np.float32)
    vague = (rng.normal(size=(400, size)) + 2.0 * table[answers.targets]).astype(np.float32)
    answers = replace(answers, queries=vague, items=table)
    monkeypatch.setitem(blend.GRID, "half_life", (0.5, 1.0, 1.5, 3.0, 6.0, 12.0))
    monkeypatch.setattr(blend, "_SCORES", 400 * size * 10)  # the search asks half of them, the weight all
    found = tune_blend(known, answers, size)
    monkeypatch.setattr(blend, "_lightest", lambda search, best, weights: best)
    best = tune_blend(known, answers, size)
    assert (
        best.settings.weight > found.settings.weight
        and best.settings._replace(weight=found.settings.weight) == found.settings
    )
    pairs = count_pairs(known, size, best.settings.half_life)

    def gains(weight):
        counts = transition_counts(pairs, best.settings._replace(weight=weight), known)
        return ndcg(target_ranks(blend_scores(counts, answers.scores(), answers.recent), answers.targets), k=10)

    for weight in [weight for weight in GRID["weight"] if weight <= found.settings.weight]:
        behind = gains(best.settings.weight) - gains(weight)
        within = behind.mean() <= behind.std() / 20
        assert within == (weight == found.settings.weight)


def test_what_a_list_leaves_out_is_left_out_of_the_comparison_and_the_scale_is_the_likeliest(monkeypatch):
    monkeypatch.setattr(blend, "STARTS", blend.STARTS[:2])
    monkeypatch.setitem(blend.GRID, "weight", blend.GRID["weight"][:-1])  # the counts are not tried alone
    rng = np.random.default_rng(5)
    known, vocabulary = cycles(rng, 20)
    size = vocabulary.size
    answers = answers_of(rng, 80, size, lambda last: rng.integers(1, size, len(last)))
    had = (answers.targets % (size - 1) + 1).astype(np.int32)  # the next row is liked still better, and was had
    table = np.eye(size, dtype=np.float32)
    repeated = [np.append(row, target).astype(np.int32) for row, target in zip(had, answers.targets, strict=True)]
    better = replace(answers, queries=100 * table[answers.targets] + 200 * table[had], items=table, seen=repeated)
    assert tune_blend(known, better, size).alone == 1.0
    after = vocabulary.rows(pl.Series([str(int(vocabulary.id(int(row))) % (size - 1) + 1) for row in range(1, size)]))
    sure = answers_of(rng, 80, size, lambda last: np.where(rng.random(80) < 0.7, after[last - 1], last))
    every = np.arange(1, size, dtype=np.int32)
    sure = replace(sure, seen=[np.delete(every, [row - 1, row % (size - 1)]) for row in sure.targets])
    counts = tune_blend(known, sure, size).counts
    losses = []
    scales = [(1 / (1 + float(counts.weight))) ** power for power in SCALES]
    for scale in scales:
        scores = blend_shares(
            replace(counts, scale=np.float32(scale)), sure.scores(), transition_shares(counts, sure.recent)
        )
        left = [np.setdiff1d(every, seen) for seen in sure.seen]
        both = [(line[rows].astype(float), line[t]) for line, rows, t in zip(scores, left, sure.targets, strict=True)]
        losses.append(sum(np.logaddexp.reduce(some) - goal for some, goal in both))
    assert counts.scale == np.float32(scales[int(np.argmin(losses))])


def test_pairs_are_counted_by_distance():
    table = pl.DataFrame({"user": ["a"] * 3, "item": ["x", "y", "z"]})
    log = segue.read_events(table, time="none")
    vocabulary, known = item_vocabulary(log), encode(log)
    counts = transition_counts(count_pairs(known, vocabulary.size, 1.0), BlendSettings(half_life=1.0, norm=1.0), known)
    recent = np.zeros((1, RECENT), np.int32)
    recent[0, -1] = vocabulary.row("x")
    shares = transition_shares(counts, recent).toarray()[0]
    np.testing.assert_allclose(shares[vocabulary.rows(pl.Series(["x", "y", "z"]))], [0, 2 / 3, 1 / 3], atol=1e-6)
    # The later of two counts more: what followed y at once is z, half as much what followed x before.
    recent[0, -2:] = vocabulary.rows(pl.Series(["x", "y"]))
    shares = transition_shares(counts, recent).toarray()[0]
    np.testing.assert_allclose(shares[vocabulary.rows(pl.Series(["y", "z"]))], [2 / 9, 7 / 9], atol=1e-6)
    raw = transition_counts(count_pairs(known, vocabulary.size, 1.0), BlendSettings(half_life=1.0, norm=0.0), known)
    np.testing.assert_allclose(np.sort(raw.shares), [0.5, 1, 1], atol=1e-6)
    # An unknown item between two is as if it were not there, and nothing follows it.
    gap = encode(segue.read_events(pl.DataFrame({"user": ["a"] * 3, "item": ["x", "?", "y"]}), time="none"), vocabulary)
    pairs = count_pairs(gap, vocabulary.size, 1.0).toarray()
    x, y = vocabulary.rows(["x", "y"])
    assert pairs[x, y] == pairs.sum() == 1.0


def test_a_rare_second_item_says_more_the_higher_the_rarity():
    table = pl.DataFrame({"user": list("aabbccddd"), "item": list("xyxyxzwyy")})
    log = segue.read_events(table, time="none")
    vocabulary, known = item_vocabulary(log), encode(log)
    recent = np.zeros((1, RECENT), np.int32)
    recent[0, -1] = vocabulary.row("x")
    y, z = vocabulary.rows(["y", "z"])  # x was followed by y twice, which is there four times, by z once
    for rarity in (0.0, 0.3, 0.5):
        mix = BlendSettings(half_life=1.0, norm=0.5, rarity=rarity)
        shares = transition_shares(
            transition_counts(count_pairs(known, vocabulary.size, 1.0), mix, known), recent
        ).toarray()[0]
        np.testing.assert_allclose(shares[y] / shares[z], 2 / 4**rarity, rtol=1e-5)
        np.testing.assert_allclose(shares.sum(), 1, rtol=1e-5)


def test_pairs_are_added_up_the_same_by_sorting_and_by_the_library(monkeypatch):
    rng = np.random.default_rng(0)
    log = segue.read_events(
        pl.DataFrame({"user": rng.integers(0, 30, 400).astype(str), "item": rng.integers(0, 50, 400).astype(str)}),
        time="none",
    )
    vocabulary, known = item_vocabulary(log), encode(log)
    counts = transition_counts(count_pairs(known, vocabulary.size, 2.0), BlendSettings(habit=0.3), known)
    recent = rng.integers(0, vocabulary.size + 3, (7, RECENT)).astype(np.int32)  # some are unknown, one user is new
    recent[3] = 0
    found = []
    for sorted_ in (0, 10**9):
        monkeypatch.setattr(counting, "_SORTED", sorted_)
        found.append(transition_shares(counts, recent).toarray())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-9)
    assert not found[0][3].any() and found[0].any(axis=1).sum() == 6


def test_refit_counts_the_events_kept_for_validation():
    table = pl.DataFrame(
        {
            "user": [f"u{u}" for u in range(60) for _ in range(6)],
            "item": [f"i{(7 * u + t) % 30}" for u in range(60) for t in range(6)],
        }
    )
    log, quick = segue.read_events(table, time="none"), {"train.epochs": 1, "model.width": 8}
    found = {refit: segue.train(log, config=quick | {"train.refit": refit}) for refit in (True, False)}
    whole = encode(log, found[True].vocabulary)
    for refit, rec in found.items():
        pairs = count_pairs(
            whole if refit else without_last(whole), rec.vocabulary.size, rec.facts["blend_settings"]["half_life"]
        )
        expected = transition_counts(
            pairs, BlendSettings(**rec.facts["blend_settings"]), whole if refit else without_last(whole)
        )
        np.testing.assert_allclose(rec.counts.shares, expected.shares, rtol=1e-6)
        np.testing.assert_allclose(rec.counts.popularity, expected.popularity, rtol=1e-6)
    assert found[True].counts.scale == found[False].counts.scale


def test_repeat_consumption_is_blended_in_only_where_it_may_be_listed():
    rng = np.random.default_rng(7)
    users, size = 200, 40
    habits = rng.integers(1, size, (users, 3)).astype(np.int32)  # three items of each user, again and again
    items = np.concatenate([rng.choice(own, 12) for own in habits])
    table = pl.DataFrame({"user": np.repeat(np.arange(users), 12).astype(str), "item": items.astype(str)})
    log = segue.read_events(table, time="none")
    known, vocabulary = encode(log), item_vocabulary(log)
    recent = np.zeros((users, RECENT), np.int32)
    recent[:, -12:] = vocabulary.rows(table["item"]).reshape(users, 12)
    targets = recent[np.arange(users), -rng.integers(1, 12, users)]
    queries, table = (rng.normal(size=(n, 4)).astype(np.float32) for n in (users, vocabulary.size))
    bias = np.zeros(vocabulary.size, np.float32)
    found = tune_blend(known, Answers(queries, targets, table, bias, recent, []), vocabulary.size)
    assert found.settings.habit > 0
    assert found.blended > 0.75 > 0.3 > found.alone  # three items in any order: (1 + .63 + .5) / 3 is .71
    hidden = [np.array([0], np.int32)] * users
    assert (
        tune_blend(known, Answers(queries, targets, table, bias, recent, hidden), vocabulary.size).settings.habit == 0
    )


def test_all_is_learnt_but_what_validation_needs(monkeypatch):
    monkeypatch.setattr("segue.training.validation.LEAST", 5)  # a tenth of the events is 8
    table = pl.DataFrame({"user": [f"u{n // 4}" for n in range(80)], "item": [f"i{n % 7}" for n in range(80)]})
    log, quick = segue.read_events(table, time="none"), {"train.epochs": 1, "model.width": 8}
    learnt = {refit: segue.train(log, config=quick | {"train.refit": refit}).facts["events"] for refit in (True, False)}
    assert learnt == {True: 80 - 8, False: 80 - 20}


def test_the_counts_rank_alone_where_validation_says_so():
    """What comes next follows from the last item alone, and the network says nothing of it."""
    rng = np.random.default_rng(3)
    known, vocabulary = cycles(rng, 60)
    size = vocabulary.size
    after = vocabulary.rows(pl.Series([str(int(vocabulary.id(row)) % (size - 1) + 1) for row in range(1, size)]))
    answers = answers_of(rng, 300, size, lambda last: after[last - 1])
    noise = (5 * rng.normal(size=(300, size))).astype(np.float32)
    answers = replace(answers, queries=noise, items=np.eye(size, dtype=np.float32))
    found = tune_blend(known, answers, size)
    assert found.settings.weight == ALONE
    assert "which rank alone" in str(found)
    alone = blend_scores(found.counts, np.zeros((300, size), np.float32), answers.recent)
    both = blend_scores(found.counts, answers.scores(), answers.recent)
    best = both[:, 1:].argmax(axis=1)
    assert (best == alone[:, 1:].argmax(axis=1)).mean() > 0.95
    assert np.isfinite(both[:, 1:]).all()
    assert np.abs(both[:, 1:]).max() < 50  # still log-odds
