"""Every index keeps every promise of `Index`."""

import threading

import numpy as np
import polars as pl

from segue.data.sequences.vocabulary import Vocabulary
from segue.recommend.index.approximate import build_index, index_path, open_index
from segue.recommend.index.exact import ExactIndex
from segue.testing import IndexContract
from tests_support import small_recommender


class TestExactIndex(IndexContract):
    def make(self, vectors, bias, hidden, folder):
        return ExactIndex(vectors, bias, hidden)


class TestApproximateIndex(IndexContract):
    recall = 0.95

    def make(self, vectors, bias, hidden, folder):
        rec = recommender_of(vectors[:500], bias[:500])
        built = build_index(rec, folder / "a.segue", threads=1)
        index, said = open_index(rec, folder / "a.segue")
        assert (
            said == f"{index_path(folder / 'a.segue')}: {built.facts}." and "recall@20 0.9" in said
        ) or "1.0" in said
        return index.over(vectors, bias, hidden)


def recommender_of(vectors, bias):
    rec = small_recommender(Vocabulary(pl.Series([f"{i}" for i in range(1, len(bias))])))
    params = rec.params._replace(items=vectors, bias=bias)
    object.__setattr__(rec, "params", params)
    return rec


def test_threads_and_blocks_change_nothing(monkeypatch):
    from segue.recommend.index import exact as module

    rng = np.random.default_rng(0)
    vectors, bias = rng.integers(-2, 3, (30_000, 4)).astype(np.float32), np.zeros(30_000, np.float32)
    queries = rng.integers(-2, 3, (9, 4)).astype(np.float32)
    excluded = [rng.integers(0, 30_000, n).astype(np.int32) for n in range(9)]
    one = ExactIndex(vectors, bias, threads=1).search(queries, 50, excluded=excluded)
    monkeypatch.setattr(module, "_MANY", 1 << 12)
    monkeypatch.setattr(module, "_BLOCK", 1 << 9)
    two = ExactIndex(vectors, bias, threads=3).search(queries, 50, excluded=excluded)
    assert one.rows.tolist() == two.rows.tolist() and threading.active_count() >= 3
    slow = queries @ vectors.T
    slow[:, 0] = -np.inf
    for query, rows in enumerate(excluded):
        slow[query, rows] = -np.inf
    assert one.rows.tolist() == np.argsort(-slow, axis=1, kind="stable")[:, :50].tolist()
