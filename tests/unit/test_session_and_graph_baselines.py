"""Session-kNN and the transition graph against loops over their formulas."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from segue.data.sequences.sequences import Sequences
from segue.evaluation.baselines import content_knn, session_knn
from segue.evaluation.baselines.session_knn import SessionKNN
from segue.evaluation.baselines.transition_graph import TransitionGraph


def sequences_of(lists, times=None):
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
    items = np.concatenate([np.array(one, np.int32) for one in lists])
    return Sequences(pl.Series([f"u{n}" for n in range(len(lists))]), offsets, items, times)


def random_lists(seed, users=40, items=12):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, items, size).tolist() for size in rng.integers(0, 15, users)]


HISTORIES = [[], [0, 0], [4], [1, 0, 2, 3], [7, 7, 1, 2, 3, 5], [13]]


def slow_sessions(lists, stamps, n_items, setting, history, most):
    """Scores of the items 1 on, one session and one place at a time."""
    known = [[(item, at) for item, at in zip(*both, strict=True) if item] for both in zip(lists, stamps, strict=True)]
    every = sorted(at for one in known for _, at in one)
    shares = np.bincount([item for one in known for item, _ in one], minlength=n_items) / len(every)
    sessions = sorted((one for one in known if one), key=lambda one: one[-1][1])
    own = [item for item in history if item][::-1][: setting.window]
    alike = []
    for number, one in enumerate(sessions):
        items = [item for item, _ in one]
        later = sum(at > one[-1][1] for at in every) / len(every)
        likeness = 0.0
        for lag, item in enumerate(own):
            latest = [n for n, other in enumerate(sessions) if item in [held for held, _ in other]][-most:]
            if item not in own[:lag] and number in latest:
                likeness += 2 ** (-lag / setting.half_life)
        likeness *= 2 ** (-later / setting.fresh) / np.sqrt(len(items))
        if likeness:
            alike.append((likeness, items))
    scores = 1e-6 * shares
    for likeness, items in sorted(alike, key=lambda each: -each[0])[: setting.neighbours]:
        matched = next(len(items) - 1 - items[::-1].index(item) for item in own if item in items)
        for place, item in enumerate(items):
            if abs(place - matched) <= np.ceil(4 * setting.near):
                scores[item] += likeness * 2 ** (-abs(place - matched) / setting.near)
    return scores[1:]


@pytest.mark.parametrize(
    ("setting", "most"),
    [(SessionKNN(100, 0.5, np.inf, 3, 1.5), 1000), (SessionKNN(3, 2.0, 0.2, 5, 2.0), 1000), (SessionKNN(5, 1.0), 4)],
)
def test_session_knn_equals_the_slow_twin(setting, most, monkeypatch):
    monkeypatch.setattr(session_knn, "SESSIONS", most)
    monkeypatch.setattr(session_knn, "PAIRS", 300)
    lists, rng = random_lists(1), np.random.default_rng(2)
    # No two sessions end at the same time: of equal sessions any may be kept.
    stamps = [np.sort(rng.permutation(10**6)[: len(one)]).tolist() for one in lists]
    times = np.array([at for one in stamps for at in one])
    fitted = setting.fit(sequences_of(lists, times), 14)
    found = fitted.score([np.array(history, np.int32) for history in HISTORIES])
    for scores, history in zip(found, HISTORIES, strict=True):
        expected = slow_sessions(lists, stamps, 14, setting, history, most)
        np.testing.assert_allclose(scores[1:], expected, rtol=1e-5, atol=1e-9)


def slow_graph(lists, features, setting, history):
    n_items = len(features)
    known = [[item for item in one if item] for one in lists]
    counts = np.zeros((n_items, n_items))
    for one in known:
        for x, y in pairwise(one):
            counts[x, y] += x != y
    shares = np.bincount(np.concatenate(known).astype(int), minlength=n_items) / sum(map(len, known))
    scores = 1e-6 * shares
    for lag, x in enumerate([item for item in history if item][::-1][: setting.window]):
        worth = np.zeros(n_items)
        for y in range(1, n_items):
            if y == x:
                continue
            lengths = np.linalg.norm(features[x]) * np.linalg.norm(features[y])
            cosine = max(features[x] @ features[y] / lengths, 0) if lengths else 0
            path = any(counts[x, z] and counts[z, y] for z in range(n_items))
            worth[y] = cosine * (1 if counts[x, y] else setting.two if path else setting.rest)
            if counts[x, y]:
                worth[y] += setting.edges * np.log1p(counts[x, y]) / np.log1p(counts[x].max())
        kept = sorted(range(n_items), key=lambda y: (-worth[y], y))[: setting.neighbours]
        scores[kept] += 2 ** (-lag / setting.half_life) * worth[kept]
    return scores[1:]


@pytest.mark.parametrize("setting", [TransitionGraph(), TransitionGraph(2.0, 0.3, 0.0, 4, None, 1.5)])
@pytest.mark.parametrize("block", [1, 40, 2**24])
def test_the_transition_graph_equals_the_slow_twin(setting, block, monkeypatch):
    monkeypatch.setattr(content_knn, "COSINES", block)
    lists, features = random_lists(3, users=8), np.random.default_rng(4).normal(size=(14, 5)).astype(np.float32)
    features[[5, 8]] = 0
    fitted = setting.fit(sequences_of(lists), 14, features)
    found = fitted.score([np.array(history, np.int32) for history in HISTORIES])
    for scores, history in zip(found, HISTORIES, strict=True):
        np.testing.assert_allclose(scores[1:], slow_graph(lists, features, setting, history), atol=2e-6)
