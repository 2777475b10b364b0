"""Cells of Keras in models and conversion; what cannot be taken over says so. examples/keras_cell.py trains one."""

import copy
import hashlib
import json
import logging
import pickle
import random
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.cli import app as cli
from segue.config import configure
from segue.data.log import synthetic
from segue.errors import ArgumentError, ConfigError, ModelError
from segue.files import read_arrays, write_arrays
from segue.interop import KerasCell, from_keras, to_keras
from segue.model.backend import map_tree
from segue.model.cells import GRU, LSTM, Linear, SimpleRNN
from segue.model_file import build_network, with_fingerprint
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest, IngestResult, ListOptions
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import minimal_gated_cell, small_recommender

UNITS = 8


def recommender(cell):
    """The small recommender with a cell of Keras in it, random weights everywhere."""
    known, rng = small_recommender(), np.random.default_rng(6)
    config = configure({"model.cell": "keras"}, base=known.config)
    network = build_network(config, items=known.vocabulary.size, longest_gap=1e6, cell=KerasCell(cell))
    params = map_tree(lambda a: a + rng.normal(0, 0.3, a.shape).astype(np.float32), network.init(0))
    return with_fingerprint(replace(known, network=network, params=params, config=config))


def answers(rec):
    state = rec.observe(rec.observe(rec.start(), "003", time=50), "nothing known", time=60)
    return rec.score(rec.observe(state, "007"), at=90)


@pytest.fixture(scope="module")
def gru(keras):
    return recommender(keras.layers.GRUCell(UNITS))


def test_a_model_keeps_its_cell_and_says_what_answering_takes(gru, tmp_path, caplog):
    gru.save(tmp_path / "gru.segue")
    with caplog.at_level(logging.WARNING, "segue"):
        again = segue.load(tmp_path / "gru.segue")
    assert "gru.segue: the cell is one of Keras, so serving imports Keras and JAX (segue convert)" in caplog.text
    assert again.fingerprint == gru.fingerprint and again.network == gru.network
    assert answers(again).tolist() == answers(gru).tolist() and answers(again).dtype == np.float32


@pytest.mark.parametrize("copied", [lambda rec: pickle.loads(pickle.dumps(rec)), copy.deepcopy])
def test_it_is_pickled_and_copied_by_its_description(gru, copied):
    said = answers(gru)
    again = copied(gru)
    assert again.fingerprint == gru.fingerprint and answers(again).tolist() == said.tolist()
    assert copied(gru.network.cell) == gru.network.cell


def test_a_pickle_whose_class_is_not_registered_here_says_so(keras):
    rec = recommender(minimal_gated_cell(keras)(UNITS))
    data = pickle.dumps(rec)
    assert b"MinimalGatedCell" in data
    with pytest.raises(segue.errors.SegueError, match="OfSomebodyElse_"):
        pickle.loads(data.replace(b"MinimalGatedCell", b"OfSomebodyElse__"))


def test_a_log_at_once_and_a_server_give_the_states_of_one_by_one(keras, tmp_path):
    rec = recommender(keras.layers.LSTMCell(UNITS))
    rows = [("ann", "003", 1), ("bob", "004", 2), ("ann", "no such", 3), ("ann", "007", 9)]
    log = segue.read_events(pl.DataFrame(rows, schema=["user", "item", "time"], orient="row"))
    state = rec.start()
    for _, item, time in rows[:1] + rows[2:]:
        state = rec.observe(state, item, time=time)
    np.testing.assert_allclose(rec.score(rec.encode(log))[0], rec.score(state)[0], atol=1e-5)
    service = Service(rec, SqliteStore(tmp_path / "s.db"))
    told = service.ingest(
        [IngestRequest((Event(user, item, time=time * 10**6),), "shop", None) for user, item, time in rows]
    )
    assert all(isinstance(each, IngestResult) for each in told)
    answer = service.recommend("ann", ListOptions(k=3))
    service.close()
    expected = rec.recommend(state, k=3)
    assert [line.item for line in answer.items] == [line.item for line in expected]
    assert [line.score for line in answer.items] == pytest.approx([line.score for line in expected], abs=1e-5)


def test_a_model_of_a_class_that_is_not_registered_here_is_refused(keras, tmp_path):
    own = minimal_gated_cell(keras)
    recommender(own(UNITS)).save(tmp_path / "own.segue")
    known = keras.saving.get_custom_objects()
    kept = known.pop("tests>MinimalGatedCell")
    try:
        with pytest.raises(ModelError, match=r"own.segue: .*registered ones, came \"tests>MinimalGatedCell\". Put"):
            segue.load(tmp_path / "own.segue")
    finally:
        known["tests>MinimalGatedCell"] = kept
    assert answers(segue.load(tmp_path / "own.segue")).shape == (1, 12)


def test_a_description_of_more_than_there_is_or_of_another_thing_is_refused(gru, tmp_path):
    arrays, metadata = read_arrays(gru_path(gru, tmp_path))
    manifest = json.loads(metadata["segue"])
    cell = json.loads(manifest["cell"])
    lookup = {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}
    wrong = {
        "expected units whose square is at most": {**cell, "config": {**cell["config"], "units": 10**9}},
        'registered ones, came "StringLookup"': {**cell, "config": {**cell["config"], "kernel_initializer": lookup}},
        "expected a description in JSON": [],
        "expected a configuration that makes a cell": {**cell, "config": 7},
    }
    for words, description in wrong.items():
        text = json.dumps(manifest | {"cell": json.dumps(description)})
        write_arrays(tmp_path / "x.segue", arrays, {"segue": text, "digest": hashlib.sha256(text.encode()).hexdigest()})
        with pytest.raises(ModelError, match=words):
            segue.load(tmp_path / "x.segue")


def gru_path(rec, folder):
    rec.save(folder / "gru.segue")
    return folder / "gru.segue"


def test_without_keras_a_model_says_what_to_install(gru, tmp_path, monkeypatch):
    gru.save(tmp_path / "gru.segue")
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ModelError, match=r'gru.segue: keras: expected .* Run: pip install "segue\[keras\]"'):
        segue.load(tmp_path / "gru.segue")
    with pytest.raises(ArgumentError, match=r'Run: pip install "segue\[keras\]"'):
        to_keras(GRU(), GRU().init(np.random.default_rng(0), 4))


def test_another_backend_is_refused(keras, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ArgumentError, match=r'imported with the backend "torch". Set KERAS_BACKEND=jax'):
        KerasCell(keras.layers.GRUCell(4))


@pytest.mark.parametrize(
    ("make", "own"),
    [
        (lambda layers: layers.SimpleRNNCell(UNITS), SimpleRNN("tanh")),
        (lambda layers: layers.SimpleRNNCell(UNITS, activation="relu"), SimpleRNN("relu")),
        (lambda layers: layers.SimpleRNNCell(UNITS, activation=layers.LeakyReLU(0.01)), SimpleRNN("leaky_relu")),
        (lambda layers: layers.GRUCell(UNITS), GRU()),
        (lambda layers: layers.LSTMCell(UNITS, use_bias=False), LSTM()),
    ],
    ids=["tanh", "relu", "leaky_relu", "gru", "lstm"],
)
def test_converted_models_give_the_same_scores(keras, tmp_path, make, own):
    rec = recommender(make(keras.layers))
    rec.save(tmp_path / "keras.segue")
    done = CliRunner().invoke(cli.app, ["convert", str(tmp_path / "keras.segue"), "-o", str(tmp_path / "own.segue")])
    assert done.exit_code == 0 and "the same scores" in done.output
    converted = segue.load(tmp_path / "own.segue")
    assert converted.network.cell == own and converted.fingerprint != rec.fingerprint
    assert "cell" not in json.loads(read_arrays(tmp_path / "own.segue")[1]["segue"])
    np.testing.assert_allclose(answers(converted), answers(rec), atol=1e-4)
    assert np.ptp(answers(rec)) > 0.1


def test_what_has_another_equation_is_not_converted(keras):
    layers = keras.layers
    refused = {
        "its reset gate acts before the product. Train it with reset_after=True": layers.GRUCell(4, reset_after=False),
        "its activations are others. Use tanh": layers.LSTMCell(4, activation="relu"),
        "its activation is another. Use tanh, relu, or": layers.SimpleRNNCell(4, activation="leaky_relu"),
        "its class is another": minimal_gated_cell(keras)(4),
        "it has dropout of its own": layers.LSTMCell(4, recurrent_dropout=0.1),
        "it reads backwards": layers.GRU(4, go_backwards=True),
    }
    for words, layer in refused.items():
        with pytest.raises(ArgumentError, match=words):
            from_keras(layer)
    wide = layers.GRU(4)
    wide.build((1, 2, 3))
    with pytest.raises(ArgumentError, match=r"as many numbers as it has units, came weights \(3, 12\)"):
        from_keras(wide)
    with pytest.raises(ArgumentError, match="came weights none: it was not built"):
        from_keras(layers.LSTM(4))
    with pytest.raises(ArgumentError, match="to_keras: expected SimpleRNN, GRU or LSTM, came Linear"):
        to_keras(Linear(), None)
    with pytest.raises(ArgumentError, match=r"convert: expected .* came Linear\(taps=4\): nothing to do"):
        segue.convert(small_recommender())


def test_what_cannot_be_a_cell_is_refused(keras, gru):
    layers = keras.layers

    @keras.saving.register_keras_serializable(package="tests")
    class Frozen(layers.SimpleRNNCell):
        def build(self, shape):
            super().build(shape)
            self.fixed = self.add_weight(shape=(1,), trainable=False)

    @keras.saving.register_keras_serializable(package="tests")
    class Doubled(layers.SimpleRNNCell):
        def call(self, *read, **settings):
            y, states = super().call(*read, **settings)
            return keras.ops.concatenate([y, y], axis=-1), states

    class Unregistered(layers.SimpleRNNCell):
        pass

    class Bare(layers.SimpleRNNCell):
        def get_config(self):
            return super().get_config() | {"rng": np.random.default_rng(0)}

    refused = {
        "expected a cell with state_size and call": layers.Dense(4),
        "without dropout, GRUCell has dropout=0.5": layers.GRUCell(4, dropout=0.5),
        "weights are all trained, Frozen has 3 trained and 1 others": Frozen(4),
        "registered ones, came .*Unregistered": Unregistered(4),
        "can be written as JSON, Bare cannot": Bare(4),
        "that of SimpleRNNCell does not: .*Could not interpret activation": layers.SimpleRNNCell(
            4, activation=lambda x: x
        ),
        "a cell of float32, SimpleRNNCell has float16": layers.SimpleRNNCell(4, dtype="float16"),
        r"output \[batch, 4\] .* Doubled gives float32, output \(2, 8\)": Doubled(4),
    }
    for words, cell in refused.items():
        with pytest.raises(ArgumentError, match=words):
            KerasCell(cell)
    log = segue.read_events(synthetic.ring().events)
    with pytest.raises(ArgumentError, match=r"expected cell as segue.interop.KerasCell, came GRUCell. Write cell="):
        segue.train(log, cell=layers.GRUCell(4))
    with pytest.raises(ConfigError, match="expected linear, gru, lstm, simple_rnn, came keras, which is no cell by"):
        segue.train(log, config={"model.cell": "keras"})
    with pytest.raises(ConfigError, match=r"model.width: expected 8, the units of the Keras cell, came 16"):
        segue.train(log, cell=gru.network.cell, config={"model.width": 16})


def test_what_was_given_and_the_generator_of_the_process_stay_as_they_were(keras):
    cell = keras.layers.SimpleRNNCell(4)
    random.seed(5)
    before = random.getstate()
    KerasCell(cell).init(np.random.default_rng(0), 4)
    assert random.getstate() == before and not cell.built
