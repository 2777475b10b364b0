"""Recall and latency of exact and approximate search over a large catalogue.

The vectors are synthetic: drawn around centres of very unequal size, longer where an item is popular, with a
bias that follows popularity, and queries near items. Vectors that were learnt may be easier or harder; the
recall of a real model is measured when its index is built, and kept with it.

    nice python benchmarks/index.py [--items 1000000] [--width 64] [--queries 1000] [-o benchmarks/results/index.json]
"""

import argparse
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two sets of threads on the same cores wait for each other

import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl

from segue.config import DataSize, configure, derive
from segue.data.sequences.vocabulary import Vocabulary
from segue.model_file import build_network
from segue.recommend.index.approximate import build_index, exact_index, open_index, recall_of
from segue.recommend.index.exact import ExactIndex
from segue.recommend.recommender import Recommender

K = 20


def catalogue(items, width, centres, rng):
    """Return vectors and bias of so many items, row 0 included."""
    middle = rng.normal(0, 1 / 8, (centres, width)).astype(np.float32)
    popular = rng.normal(0, 1, items + 1).astype(np.float32)
    spread = rng.normal(0, 0.08, (items + 1, width)).astype(np.float32)
    vectors = (middle[rng.zipf(1.3, items + 1) % centres] + spread) * (1 + 0.3 * popular.clip(-2, 2))[:, None]
    return vectors, 0.8 * popular


def recommender(vectors, bias):
    """Return a recommender of these items, its network untrained."""
    config = derive(configure({"model.width": vectors.shape[1]}), DataSize(100, 9, len(bias), True, 0.0))
    network = replace(build_network(config, items=2, longest_gap=1e6), items=len(bias))
    params = network.init(0)._replace(items=vectors, bias=bias)
    ids = pl.Series(np.arange(1, len(bias))).cast(pl.String)
    return Recommender(network, params, Vocabulary(ids), config, fingerprint="benchmark")


def near_items(vectors, count, rng):
    """Return queries that point at items, not quite."""
    chosen = vectors[rng.integers(1, len(vectors), count)]
    return (6 * chosen + rng.normal(0, 0.6, chosen.shape)).astype(np.float32)


def latency(index, queries, excluded=None):
    """Return milliseconds of single searches, p50, p90 and p99, and queries a second of all at once."""
    times = []
    for query in range(len(queries)):
        left_out = None if excluded is None else excluded[query : query + 1]
        began = time.perf_counter()
        index.search(queries[query : query + 1], K, excluded=left_out)
        times.append(1e3 * (time.perf_counter() - began))
    cuts = statistics.quantiles(times, n=100)
    began = time.perf_counter()
    index.search(queries, K, excluded=excluded)
    rate = len(queries) / (time.perf_counter() - began)
    return {"p50_ms": cuts[49], "p90_ms": cuts[89], "p99_ms": cuts[98], "queries_per_second_in_batches": rate}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--centres", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    rec = recommender(*catalogue(asked.items, asked.width, asked.centres, rng))
    tuned, queries = (near_items(rec.params.items, count, rng) for count in (512, asked.queries))
    exact = exact_index(rec)
    best = exact.search(queries, K)
    seen = [rng.integers(1, asked.items + 1, 50).astype(np.int32) for _ in queries]
    for rows, found in zip(seen, best.rows, strict=True):
        rows[:10] = found[:10]  # half of the best were had before
    results = {
        "vectors": "synthetic, clustered",
        "items": asked.items,
        "width": asked.width,
        "cores": os.cpu_count(),
        "k": K,
        "load_of_other_work": os.getloadavg()[0],
        "threads_of_blas": os.environ["OPENBLAS_NUM_THREADS"],
    }
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "large.segue"
        built = build_index(rec, model, queries=tuned, of="512 queries near items", say=print)
        began = time.perf_counter()
        index, said = open_index(rec, model)
        results["opened_in_seconds"] = time.perf_counter() - began
        print(said)
        results["facts"] = asdict(built.facts)
        results["recall_on_other_queries"] = recall_of(index, best, queries)
        first = index.search(queries, K, excluded=seen).rows
        second = exact.search(queries, K, excluded=seen).rows
        results["recall_with_50_left_out"] = float(
            np.mean([np.isin(a, b).mean() for a, b in zip(second, first, strict=True)])
        )
        results["approximate"] = latency(index, queries)
        results["approximate_with_50_left_out"] = latency(index, queries, seen)
    results["exact"] = latency(exact, queries[:200])
    results["exact_one_thread"] = latency(ExactIndex(exact.vectors, exact.bias, threads=1), queries[:100])
    text = json.dumps(results, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
