"""Small things that several tests need."""

import numpy as np
import polars as pl
from scipy import sparse

from segue.bundle import build_network, with_fingerprint
from segue.config import DataSize, configure, derive
from segue.data.catalogue import read_catalogue
from segue.data.vocabulary import Vocabulary
from segue.model.backend import map_tree
from segue.model.counts import RECENT, Counts
from segue.recommend.recommender import Recommender


def small_recommender(vocabulary=None, *, cell="linear", repeats="allow", clock=True, seed=5):
    """A network with random weights everywhere: laws hold for any weights."""
    rng = np.random.default_rng(seed)
    vocabulary = vocabulary or Vocabulary(pl.Series([f"{i:03d}" for i in range(12)]))
    config = configure({"model.cell": cell, "model.width": 8, "train.repeats": repeats})
    config = derive(config, DataSize(80, 9, vocabulary.size, clock, 0.0))
    network = build_network(config, items=vocabulary.size, longest_gap=1e6)
    params = map_tree(lambda a: a + rng.normal(0, 0.3, a.shape).astype(np.float32), network.init(0))
    titles = pl.DataFrame({"item": vocabulary.ids, "title": "film " + vocabulary.ids})
    catalogue, counts = read_catalogue(titles, vocabulary), random_counts(vocabulary.size, rng)
    return with_fingerprint(Recommender(network, params, vocabulary, config, catalogue, counts=counts))


def random_counts(size, rng):
    """Counts of pairs of which half were never met, of a large catalogue nearly all."""
    pairs = sparse.random_array((size, size), density=min(0.5, 5 / size), rng=rng, dtype=np.float32, format="csr")
    return Counts(
        offsets=pairs.indptr.astype(np.int64),
        rows=pairs.indices.astype(np.int32),
        shares=pairs.data,
        popularity=rng.random(size, np.float32) + np.float32(0.01),
        decay=np.exp2(np.linspace(-3, 0, RECENT)).astype(np.float32),
        weight=np.float32(0.6),
        smoothing=np.float32(0.1),
        scale=np.float32(0.8),
    )
