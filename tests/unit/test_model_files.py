"""A model file that is damaged or crafted is refused as such, or answers: it never leads out of an array.

`python benchmarks/fuzz_model_files.py` asks the same of thousands of files, in processes that may crash.
"""

import copy
import hashlib
import io
import json
import struct
from dataclasses import replace

import msgspec
import numpy as np
import polars as pl
import pytest

import segue
from damage import Parts, damaged, outcome, whole_files
from segue.data.values.arrow_file import table_from_bytes, table_to_bytes
from segue.errors import ArgumentError, ModelError
from segue.kernels import build, serving_loops
from segue.recommend.batch import state_from_bytes, state_to_bytes
from tests_support import ITEMS, described_log, described_recommender, random_counts, small_rater, small_recommender

FILES = 300


@pytest.fixture(name="whole", scope="module")
def parts_of_whole_files(tmp_path_factory):
    paths = whole_files(tmp_path_factory.mktemp("whole"))
    assert {outcome(path) for path in paths} == {"answered"}
    return {path.stem: Parts(path) for path in paths}


@pytest.mark.parametrize("begin", range(0, FILES, 50))
def test_a_damaged_file_is_refused_or_answers(whole, tmp_path, begin):
    path, found = tmp_path / "x.segue", set()
    for seed in range(begin, begin + 50):
        path.write_bytes(damaged(list(whole.values()), seed))
        found.add(outcome(path))
    assert found == {"refused", "answered"}


def put(name, value, *, at=...):
    def change(parts):
        array = parts.arrays[name].copy()
        array[at] = value
        parts.arrays[name] = array

    return change


def replaced(name, make):
    def change(parts):
        parts.arrays[name] = make(parts.arrays[name])

    return change


def said(**given):
    return lambda parts: parts.manifest.update(given)


def set_model(**given):
    return lambda parts: parts.manifest["config"]["model"].update(given)


def table(make):
    return lambda array: np.frombuffer(make(pl.read_ipc(io.BytesIO(array.tobytes()))), np.uint8)


def written(frame, **how):
    buffer = io.BytesIO()
    frame.write_ipc(buffer, **how)
    return buffer.getvalue()


def of_encoding(role, change):
    def make(array):
        kept = json.loads(array.tobytes())
        change(kept)
        return np.frombuffer(json.dumps(kept).encode(), np.uint8)

    return replaced(f"encoding.{role}", make)


def knots_the_other_way(kept):
    column = next(column for column in kept["columns"] if column["kind"] == "number")
    column["knots"].reverse()


CRAFTED = {
    "a pair beyond the rows": ("linear", put("counts.rows", 2**30, at=0), "counts: expected offsets that rise"),
    "a pair before the rows": ("linear", put("counts.rows", -1, at=3), "counts: expected offsets that rise"),
    "an offset that falls": ("linear", put("counts.offsets", 2**40, at=2), "counts: expected offsets that rise"),
    "offsets from below": ("linear", put("counts.offsets", -8, at=0), "counts: expected offsets that rise"),
    "shares too few": ("linear", replaced("counts.shares", lambda a: a[:-1]), "counts: expected offsets that rise"),
    "a share below 0": ("linear", put("counts.shares", -1.0, at=0), "counts: expected finite shares from 0"),
    "no popularity": ("linear", put("counts.popularity", 0.0, at=1), "counts: expected a popularity of each row"),
    "decays too few": ("linear", replaced("counts.decay", lambda a: a[1:]), "counts: expected decays of 20 and 100"),
    "a habit above 1": ("linear", put("counts.habit", 1.5), "a habit up to 1"),
    "offsets of another type": (
        "linear", replaced("counts.offsets", lambda a: a.astype(np.int32)), "offsets of int64 with 1 axes",
    ),
    "counts of more rows": ("linear", said(items=9, learnt=9), r"expected float32\[9, 8\] .* came float32\[13, 8\]"),
    "a weight that is no number": ("gru", put("weights.items", np.nan, at=(3, 2)), "items: expected finite numbers"),
    "an infinite weight": ("rater", put("weights.rating.taste", -np.inf, at=0), "rating.taste: expected finite"),
    "ratings below 0": ("rater", put("weights.rating.tables.count", -5.0, at=2), "expected numbers of ratings from 0"),
    "items without end": ("lstm", said(items=10**12), "items: expected a whole number from 1 to 2,147,483,647"),
    "many items": ("lstm", said(items=2**31 - 1, learnt=2**31 - 1), "weights: expected 19,.* numbers or more"),
    "width without end": ("lstm", set_model(width=10**12), "weights: expected .* numbers or more"),
    "depth without end": ("linear", set_model(depth=10**12), "weights: expected .* numbers or more"),
    "a block too few": ("linear", set_model(depth=1), "weights: expected those of its settings, blocks.1"),
    "another cell": ("lstm", set_model(cell="gru"), "weights: expected those of its settings, blocks.0.cell"),
    "a cell of Keras without one": ("lstm", set_model(cell="keras"), "x.segue: config model.cell: expected"),
    "a setting of another kind": ("lstm", set_model(width="wide"), "the manifest of a model, came an invalid manifest"),
    "a width to derive": ("lstm", set_model(width=None), "a width or a session gap is left to derive"),
    "more learnt than there are": ("lstm", said(learnt=99), "learnt: expected a whole number from 1 to 13"),
    "a range of words": ("lstm", said(facts={"range": ["a", "b"]}), "range: expected a whole number"),
    "a question of more than is read": ("described", said(asked=10**9), "encoders: expected numbers of items"),
    "levels that fall": ("rater", said(ratings={"levels": [5, 1], "mean": 3}), "levels of ratings: .* ascending"),
    "no finite gap": ("lstm", said(longest_gap=float("nan")), "longest_gap: expected a finite number"),
    "knots that fall": ("described", of_encoding("items", knots_the_other_way), "encoding: .* in ascending order"),
    "a column twice": (
        "described", of_encoding("events", lambda kept: kept["columns"].append(kept["columns"][0])), "columns: .* once",
    ),
    "an id twice": (
        "linear", replaced("vocabulary", table(lambda t: written(pl.concat([t.head(11), t.head(1)])))), "distinct ids",
    ),
    "ids too few": ("linear", replaced("vocabulary", table(lambda t: written(t.head(11)))), "vocabulary: .* 12 rows"),
    "ids under another name": (
        "linear", replaced("vocabulary", table(lambda t: written(t.rename({"id": "x"})))), "expected columns id",
    ),
    "a compressed table": (
        "linear",
        replaced("catalogue", table(lambda t: written(t.with_columns(x=pl.lit("y" * 10**5)), compression="zstd"))),
        r"catalogue: expected an Arrow file of 12 rows, its bytes are none \(compressed\)",
    ),
    "a catalogue of others": ("linear", replaced("catalogue", table(lambda t: written(t.reverse()))), "a row with id"),
    "a moment after all": (
        "linear",
        replaced("catalogue", table(lambda t: written(t.with_columns(x=pl.lit(2**30, pl.Int32).cast(pl.Date))))),
        "a moment in it is none|catalogue: expected a row",
    ),
    "a part that nobody names": ("linear", lambda parts: None, "part extra was edited or damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_is_refused_by_what_is_wrong_with_it(whole, tmp_path, name):
    base, change, message = CRAFTED[name]
    parts, path = copy.deepcopy(whole[base]), tmp_path / "x.segue"
    change(parts)
    data = parts.bytes()
    if name == "a part that nobody names":
        parts.arrays["extra"] = np.zeros(3)
        data = parts.bytes(digests=False)
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        segue.load(path)


def test_json_that_never_ends_and_arrays_that_numpy_lacks_are_refused(whole, tmp_path):
    path = tmp_path / "x.segue"
    for text in ("[" * 10**6, '{"format": ' + "9" * 10**5 + "}", '{"format": 1e999}', "7", '"\\ud800"'):
        head = json.dumps(
            {"__metadata__": {"segue": text, "digest": hashlib.sha256(text.encode()).hexdigest()}}
        ).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head)
        with pytest.raises(ModelError, match="expected the manifest of a model, came an invalid manifest"):
            segue.load(path)
    for kind in ("BF16", "F8_E4M3"):
        head = json.dumps({"a": {"dtype": kind, "shape": [1, 0], "data_offsets": [0, 0]}}).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head)
        with pytest.raises(ModelError, match=r"NumPy has none|another kind of file"):  # with JAX at hand it has one
            segue.load(path)


def test_a_table_that_says_more_than_it_has_is_not_given_to_a_reader(tmp_path):
    """Polars sets memory aside for what such a file says, and the process ends where there is none."""
    data = bytearray(table_to_bytes(pl.DataFrame({"id": [f"item number {i}" for i in range(300)]})))
    whole, refused = bytes(data), 0
    for at in range(len(data) - 700, len(data) - 8, 4):
        data[at : at + 8] = (2**41).to_bytes(8, "little")
        try:
            assert table_from_bytes(bytes(data), 300).height == 300
        except ModelError:
            refused += 1
        data[:] = whole
    assert refused > 50


# --- below files ---------------------------------------------------------------------------------------------------


def test_the_loops_in_c_are_not_asked_for_what_is_not_there():
    scores = np.zeros((2, 5), np.float32)
    for count in (0, -3):
        with pytest.raises(ArgumentError, match="a count from 1"):
            serving_loops.best(scores, count)
    for places in ([0, 5], [-1, 0], [0], [[0], [1]]):
        with pytest.raises(ArgumentError, match="a place inside each line"):
            serving_loops.ranks_and_log_sums(scores, np.array(places))


@pytest.mark.skipif(build.serving() is None, reason="no C compiler: the pure code is used")
def test_arrays_that_do_not_fit_never_reach_c():
    rng = np.random.default_rng(0)
    with pytest.raises(ArgumentError, match="in one piece of memory"):
        serving_loops.best(np.zeros((5, 2), np.float32).T, 1)
    with pytest.raises(ArgumentError, match="in one piece of memory"):
        serving_loops.best(np.zeros((2, 5)), 1)
    counts = random_counts(13, rng)
    recent = np.zeros((2, 100), np.int32)
    for scores, last in (((2, 12), recent), ((3, 13), recent), ((2, 13), recent[:, 1:])):
        with pytest.raises(ArgumentError, match="scores of 13 rows or more"):
            counts.loop(np.zeros(scores, np.float32), last)
    counts.rows[0] = 99
    with pytest.raises(ArgumentError, match="pairs of rows that are there"):
        _ = replace(counts).loop
    rec = small_recommender()
    [step, _] = rec.fused._loops
    x, state = np.zeros((2, 8), np.float32), np.zeros((2, 32), np.float32)
    for before, after in (
        (state[:, :31], state[:, :31]),
        (state, state[:1]),
        (state.T, state.T),
        (state[:, ::2], state),
    ):
        with pytest.raises(ArgumentError, match=r"states of shape \[2, 32\] in lines"):
            step(before, x, after, True)


def test_a_state_of_other_bytes_is_refused():
    rec = described_recommender(described_log())
    state = rec.observe(rec.observe(rec.start(), "03"), "05")
    body = state_to_bytes(state)
    rng, whole = np.random.default_rng(2), 0
    for _ in range(2_000):
        other = bytearray(body)
        for _ in range(int(rng.integers(1, 4))):
            other[int(rng.integers(len(other)))] = int(rng.integers(256))
        other = bytes(other[: int(rng.integers(len(other)))] if rng.random() < 0.1 else other)
        try:
            again = state_from_bytes(rec, other)
        except ArgumentError:
            continue
        with np.errstate(all="ignore"):
            rec.recommend(again, 3, repeats="exclude")
            rec.observe(again, "04", time=5)
        whole += 1
    assert whole > 500
    parts = msgspec.msgpack.decode(body)
    wrong = {0: "x", 1: -1, 2: 10**12, 3: b"\x00" * 4, 4: b"\xff" * 9, 5: b"", 6: b"abc"}
    for at, value in wrong.items():
        with pytest.raises(ArgumentError, match="expected the bytes of a state"):
            state_from_bytes(rec, msgspec.msgpack.encode([*parts[:at], value, *parts[at + 1 :]]))


def test_a_column_of_another_type_is_refused_when_items_are_added():
    rec = described_recommender(described_log())
    with pytest.raises(ArgumentError, match='column "price": expected number, 0 to 4, came'):
        rec.add_items(ITEMS.with_columns("new-" + pl.col("item"), price=pl.lit(b"x").repeat_by(2)))


def test_a_rater_of_numbers_that_overflow_still_says_nothing_wrong(tmp_path):
    rec = small_rater()
    rec.params.rating.taste[:] = 1e38
    rec.save(tmp_path / "x.segue")
    assert outcome(tmp_path / "x.segue") == "answered"
