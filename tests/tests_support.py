"""Small things that several tests need."""

import time
from dataclasses import replace
from functools import lru_cache

import numpy as np
import polars as pl
from scipy import sparse

import segue
from segue.config import Config, DataSize, configure, derive
from segue.data.features.catalogue import in_order_of, read_items, read_profiles
from segue.data.features.feature_encoders import FeatureEncoders, attributes_of, fit_feature_encoders
from segue.data.log.rating_scale import Scale
from segue.data.sequences.sequences import item_vocabulary
from segue.data.sequences.vocabulary import Vocabulary
from segue.data.values.ids import check_matched
from segue.model.backend import map_tree
from segue.model.transitions import REACH, RECENT, TransitionCounts
from segue.model_file import build_network, with_fingerprint
from segue.recommend.recommender import Recommender
from segue.trends.moves import moves_of
from segue.trends.ranker import INPUTS, TrendRanker, item_keys
from segue.trends.trends import Trends


def read_catalogue(source, vocabulary, **how):
    """A table of items in the order of a vocabulary, checked against its ids as `train` checks it."""
    lines, name, notes = read_items(source, **how)
    check_matched(lines["item"], vocabulary.ids, source=name, of_log="the log", role="item")
    return in_order_of(vocabulary, lines, name, notes)


def small_recommender(vocabulary=None, *, cell="linear", repeats="allow", clock=True, seed=5):
    """A network with random weights everywhere: laws hold for any weights."""
    rng = np.random.default_rng(seed)
    vocabulary = vocabulary or Vocabulary(pl.Series([f"{i:03d}" for i in range(12)]))
    config = configure({"model.cell": cell, "model.width": 8, "train.repeats": repeats})
    config = derive(config, DataSize(80, 9, vocabulary.size, clock, 0.0))
    network = build_network(config, items=vocabulary.size, longest_gap=1e6)
    noise = 0.15  # large enough to matter; without norms larger ones make scores of hundreds, which round much
    params = map_tree(lambda a: a + rng.normal(0, noise, a.shape).astype(np.float32), network.init(0))
    titles = pl.DataFrame({"item": vocabulary.ids, "title": "film " + vocabulary.ids})
    catalogue, counts = read_catalogue(titles, vocabulary), random_counts(vocabulary.size, rng)
    return with_fingerprint(Recommender(network, params, vocabulary, config, catalogue, counts=counts))


def random_ranker(seed=0, hidden=4):
    """A ranker with random weights, for counts with a shortest half-life of a minute."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return rng.normal(0, 0.3, shape).astype(np.float32)

    layers = weights(INPUTS, hidden), weights(hidden), weights(hidden, hidden), weights(hidden), weights(hidden)
    return TrendRanker(np.int64(60_000_000), *layers, weights(INPUTS), np.float32(1))


def small_rater(*, loss="squared", task="both", levels=(1.0, 2.0, 3.0, 4.0, 5.0), clock=True, seed=5):
    """A network with a rating head and random weights everywhere, on the items of `small_recommender`."""
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary(pl.Series([f"{i:03d}" for i in range(12)]))
    config = configure({"model.width": 8, "train.task": task, "train.rating_loss": loss})
    config = derive(config, DataSize(80, 9, vocabulary.size, clock, 0.0, rated=True))
    encoders = FeatureEncoders(scale=Scale(levels, float(np.clip(3.5, levels[0], levels[-1]))))
    network = build_network(config, items=vocabulary.size, longest_gap=1e6, encoders=encoders)
    params = map_tree(lambda a: a + rng.normal(0, 0.2, a.shape).astype(np.float32), network.init(0))
    tables = map_tree(np.abs, params.rating.tables)
    params = params._replace(rating=params.rating._replace(tables=tables))
    rec = Recommender(network, params, vocabulary, config, encoders=encoders, learnt=vocabulary.size)
    return with_fingerprint(rec)


def with_ranker(rec, shortest=300.0):
    """The model with a ranker that puts first what is popular in the shortest half-life, in seconds."""
    none, linear = np.zeros(1, np.float32), np.zeros(INPUTS, np.float32)
    linear[0] = 3.0
    half_life = np.int64(shortest * 1e6)
    ranker = TrendRanker(half_life, linear[:, None] * 0, none, none[:, None], none, none, linear, np.float32(0))
    return with_fingerprint(replace(rec, ranker=ranker))


def moves_of_user(items, times):
    """The moves of one user's events, in order; events without a time do not count."""
    timed = [(item, time) for item, time in zip(items, times, strict=True) if time is not None]
    keys, when = item_keys(item for item, _ in timed), np.array([time for _, time in timed], np.int64)
    return moves_of(keys, when, np.zeros(len(keys), np.int64))


def trends_of_log(store, shortest, newest):
    """The counts of a log, user by user: the slow way, without any of the code that follows it.

    They count at the time of the newest event that the others have met, which may have been erased since.
    """
    trends = Trends(shortest)
    for user in {event.user for event in store.log(limit=1_000_000)}:
        events = store.events(user, limit=1_000_000)
        moves = moves_of_user([event.item for event in events], [event.time for event in events])
        trends.add(moves, [event.item for event in events])
    if newest is not None:
        trends.advance(newest)
    return trends.lines()


def rated_log(*, users=6, events=60, seconds=20, seed=3, missing=0.1):
    """A log of ratings in which many of one user share a second, and some have none."""
    rng = np.random.default_rng(seed)
    ratings = [None if rng.random() < missing else float(rng.integers(1, 6)) for _ in range(events)]
    table = pl.DataFrame(
        {
            "user": [f"u{i}" for i in rng.integers(0, users, events)],
            "item": [f"{i:03d}" for i in rng.integers(0, 14, events)],  # two of them unknown
            "time": np.sort(rng.integers(0, seconds, events)),
            "rating": ratings,
        }
    )
    return segue.read_events(table)


def random_counts(size, rng):
    """Transition counts of pairs of which half were never met, of a large catalogue nearly all."""
    pairs = sparse.random_array((size, size), density=min(0.5, 5 / size), rng=rng, dtype=np.float32, format="csr")
    return TransitionCounts(
        offsets=pairs.indptr.astype(np.int64),
        rows=pairs.indices.astype(np.int32),
        shares=pairs.data,
        popularity=rng.random(size, np.float32) + np.float32(0.01),
        decay=np.exp2(np.linspace(-3, 0, REACH)).astype(np.float32),
        weight=np.float32(0.6),
        smoothing=np.float32(0.1),
        scale=np.float32(0.8),
        habit=np.float32(0.3),
        habit_decay=np.exp2(np.linspace(-5, 0, RECENT)).astype(np.float32),
    )


@lru_cache(maxsize=1)
def minimal_gated_cell(keras):
    """Return a cell of a user, in Keras: one gate, one learnt beginning (Zhou et al., 2016: MGU, in part)."""

    @keras.saving.register_keras_serializable(package="tests")
    class MinimalGatedCell(keras.layers.Layer):
        def __init__(self, units, **settings):
            super().__init__(**settings)
            self.units = self.state_size = units

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1] + self.units, 2 * self.units), name="kernel")
            self.begin = self.add_weight(shape=(self.units,), name="begin")
            self.built = True

        def get_initial_state(self, batch_size):
            return [keras.ops.broadcast_to(keras.ops.tanh(self.begin), (batch_size, self.units))]

        def call(self, inputs, states):
            both = keras.ops.concatenate([inputs, states[0]], axis=-1) @ self.kernel
            gate, new = keras.ops.split(both, 2, axis=-1)
            kept = keras.ops.sigmoid(gate)
            h = kept * states[0] + (1 - kept) * keras.ops.tanh(new)
            return h, [h]

        def get_config(self):
            return super().get_config() | {"units": self.units}

    return MinimalGatedCell


ITEMS = pl.DataFrame(
    {
        "item": [f"{i:02d}" for i in range(14)],
        "title": [f"{'red' if i % 2 else 'blue'} {'car' if i % 3 else 'boat'} {i}" for i in range(14)],
        "kind": ["a|b", "b|c", "c"] * 4 + ["a|b", ""],
        "price": [float(i % 5) for i in range(13)] + [None],
    }
).with_columns(pl.when(pl.col("item") != "13").then("title").alias("title"))
USERS = pl.DataFrame(
    {"user": [str(u) for u in range(8)], "age": [20, 30, 40, 50, 20, 30, 40, 50], "sex": list("fmfmfmfm")}
)


def described_log(seed=1, rows=120):
    rng = np.random.default_rng(seed)
    table = pl.DataFrame(
        {
            "user": rng.integers(0, 9, rows).astype(str),
            "item": [f"{i:02d}" for i in rng.integers(0, 12, rows)],
            "time": np.sort(rng.integers(0, 10**6, rows)),
            "rating": rng.integers(1, 6, rows).astype(float),
            "type": np.array(["view", "buy"])[rng.integers(0, 2, rows)],
            "device": np.array(["tv", "pc", "phone"])[rng.integers(0, 3, rows)],
        }
    )
    return segue.read_events(table, reading=segue.Reading(context=("device",)))


def described_recommender(events, cell="linear", session=None, items=ITEMS):
    """An untrained recommender whose every part counts."""
    vocabulary = item_vocabulary(events)
    catalogue, profiles = read_catalogue(items, vocabulary), read_profiles(USERS)
    encoders = fit_feature_encoders(events, catalogue, profiles, text="words")
    wanted = {"model.cell": cell, "model.width": 8, "model.session_gap": session, "train.repeats": "allow"}
    size = DataSize(len(events), 9, vocabulary.size, True, 0.0)
    config = derive(configure(wanted, base=Config()), size)
    network = build_network(config, items=vocabulary.size, longest_gap=1e5, encoders=encoders)
    rng = np.random.default_rng(5)
    params = map_tree(lambda a: a + 0.2 * rng.standard_normal(a.shape, np.float32), network.init(0))
    params = network.with_attributes(params, attributes_of(catalogue, encoders))
    rec = Recommender(network, params, vocabulary, config, catalogue, {}, "", encoders, vocabulary.size)
    return with_fingerprint(rec)


def until(true, seconds=20):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
