"""law: many at once equals one by one; saving and loading changes nothing; old states stay good."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import segue
from segue.data.sequences.sequences import encode, item_vocabulary
from segue.data.sequences.vocabulary import Vocabulary
from segue.model import encoder
from segue.model.backend import leaves
from segue.model.cells import CELLS
from segue.recommend import scorer
from segue.recommend.index.approximate import exact_index
from segue.recommend.state import Seen
from tests_support import small_recommender


def log(rng, users=9, items=12, rows=80, times=True):
    table = pl.DataFrame(
        {
            "user": rng.integers(0, users, rows).astype(str),
            "item": [f"{i:03d}" for i in rng.integers(0, items, rows)],
            "time": np.sort(rng.integers(0, 10**7, rows)),
        }
    )
    return segue.read_events(table) if times else segue.read_events(table.drop("time"), time="none")


def untrained(events, cell="linear", repeats="allow"):
    return small_recommender(item_vocabulary(events), cell=cell, repeats=repeats, clock=events.has_times)


@pytest.mark.parametrize("times", [True, False])
@pytest.mark.parametrize("cell", list(CELLS))
def test_law_encode_is_observe_one_by_one(cell, times):
    events = log(np.random.default_rng(1), times=times)
    rec = untrained(events, cell)
    states = rec.encode(events)
    for place, user in enumerate(states.users):
        state = rec.start()
        for row in events.table.filter(pl.col("user") == user).iter_rows(named=True):
            state = rec.observe(state, row["item"], time=row["time"] / 1e6 if times else None)
        for (path, a), (_, b) in zip(leaves(states[place].memory), leaves(state.memory), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=path)
            assert a.dtype == b.dtype == np.float32
        assert states[place].time == state.time
        assert states[place].count == state.count
        assert states[place].seen.to_rows().tolist() == state.seen.to_rows().tolist()
        np.testing.assert_allclose(rec.score(states[place], at=1e7), rec.score(state, at=1e7), atol=1e-4)


def test_law_users_without_events_are_as_nobody():
    rec = untrained(events := log(np.random.default_rng(1)))
    none = encode(events, rec.vocabulary).keep(np.zeros(len(events), bool))
    np.testing.assert_allclose(rec.score(rec.encode(none)[0]), rec.score(rec.start()), atol=1e-5)


def test_law_outputs_before_are_states_before():
    events = log(np.random.default_rng(2))
    rec = untrained(events)
    sequences = encode(events, rec.vocabulary)
    outputs = rec.outputs_before(sequences, np.ones(len(sequences.items), bool))
    for user in range(len(sequences)):
        state = rec.start()
        for event in range(sequences.offsets[user], sequences.offsets[user + 1]):
            np.testing.assert_allclose(outputs[event], state.memory.output[0], atol=1e-5)
            item = rec.vocabulary.id(sequences.items[event])
            state = rec.observe(state, item, time=sequences.times[event] / 1e6)


@pytest.mark.parametrize(("users", "numbers"), [(4, 1), (4, 100), (9, 300)])
def test_law_states_and_outputs_do_not_depend_on_windows(users, numbers, monkeypatch):
    events = log(np.random.default_rng(5), users=20, rows=400)
    rec = untrained(events)
    sequences, wanted = rec.sequences(events), np.ones(len(events), bool)
    states, outputs = rec.encode(events), rec.outputs_before(sequences, wanted)
    monkeypatch.setattr(encoder, "USERS", users)
    monkeypatch.setattr(encoder, "NUMBERS", numbers)
    np.testing.assert_allclose(rec.outputs_before(sequences, wanted), outputs, atol=1e-5)
    for (path, a), (_, b) in zip(leaves(rec.encode(events).memory), leaves(states.memory), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=path)


def test_law_load_after_save_is_the_same(tmp_path):
    events = log(np.random.default_rng(3))
    rec = untrained(events)
    rec.save(tmp_path / "m.segue")
    again = segue.load(tmp_path / "m.segue")
    state = rec.observe_all(rec.start(), ["003", "004", "not there"])
    assert again.fingerprint == rec.fingerprint
    assert again.config == rec.config
    assert again.recommend(state, k=5, at=1e6) == rec.recommend(state, k=5, at=1e6)


def test_law_an_old_state_stays_good_and_unknown_items_do_not_raise():
    rec = untrained(log(np.random.default_rng(4)), repeats="exclude")
    old = rec.observe(rec.start(), "001", time=10)
    before = rec.recommend(old, k=12)
    rec.observe(rec.observe(old, "002", time=20), "nobody knows this", time=30)
    assert rec.recommend(old, k=12) == before
    assert "001" not in [line.item for line in before]
    assert len(before) == len(rec.items) - 1
    allowed = rec.recommend(old, k=12, repeats="allow", exclude=["005"])
    assert {"001"} <= {line.item for line in allowed} and "005" not in {line.item for line in allowed}


def test_law_lists_do_not_depend_on_who_else_is_there():
    events = log(np.random.default_rng(6))
    rec = untrained(events)
    whole = rec.encode(events)
    one = str(whole.users[3])
    alone = segue.read_events(events.table.filter(pl.col("user") == one).with_columns(pl.col("time") // 10**6))
    np.testing.assert_allclose(rec.score(rec.encode(alone)), rec.score(whole.of(one)), atol=1e-4)


@pytest.mark.parametrize("by", ["all", "index"])
@pytest.mark.parametrize("repeats", ["allow", "exclude"])
def test_law_lists_of_many_are_those_of_each(by, repeats, monkeypatch):
    monkeypatch.setattr(scorer, "SCORES", 900)  # three users at a time
    vocabulary = Vocabulary(pl.Series([f"{i:03d}" for i in range(300)]))
    rec, events = small_recommender(vocabulary, repeats=repeats), log(np.random.default_rng(7), items=300)
    # Nothing that the network likes was met before; what followed is found by the counts alone.
    counts = replace(rec.counts, weight=np.float32(50.0), smoothing=np.float32(1e-6))
    whole = replace(rec, counts=counts)
    states, at = whole.encode(events), 10.0
    liked = [[line.item for line in whole.recommend(states[place], 3, at=at)] for place in range(len(states))]
    left_out = [vocabulary.rows(ids) for ids in liked]
    if repeats == "exclude":
        left_out = [np.append(rows, seen.to_rows()) for rows, seen in zip(left_out, states.seen, strict=True)]
    found = (whole.with_index(exact_index(whole)) if by == "index" else whole).best_each(
        states.memory.output,
        np.array([max(at - time / 1e6, 0) for time in states.times], np.float32),
        states.recent,
        5,
        excluded=left_out,
    )
    for place in range(len(states)):
        lines = whole.recommend(states[place], 5, at=at, exclude=liked[place])
        assert vocabulary.ids_of(found.rows[place]) == [line.item for line in lines]
        np.testing.assert_allclose(found.scores[place], [line.score for line in lines], rtol=1e-4)


def test_law_seen_is_a_set_of_rows():
    rng, seen, known = np.random.default_rng(0), Seen(200), set()
    for row in rng.integers(0, 200, 150):
        seen, known = seen.add(int(row)), known | ({int(row)} - {0})
        assert seen.to_rows().tolist() == sorted(known)
        assert seen.to_rows().tolist() == Seen.of(200, np.array(sorted(known), np.int32)).to_rows().tolist()
    assert all((row in seen) == (row in known) for row in range(200))
    assert len(seen.bits) == 25


def test_law_a_whole_number_is_the_id_of_its_digits():
    vocabulary = Vocabulary(pl.Series(["17", "007"]))
    assert [vocabulary.row(id) for id in ("17", 17, np.int64(17), "007", 7)] == [1, 1, 1, 2, 0]


def test_a_recommender_and_its_states_say_in_a_line_what_they_are():
    rec = replace(small_recommender(), fingerprint="1f3a" * 16)
    assert repr(rec) == "Recommender(12 items, linear 2 x 8, model 1f3a1f3a1f3a)"
    rec = replace(rec, facts={"source": "ratings.csv", "range": [0, 1_046_476_800_000_000]})
    assert ", trained on ratings.csv to 2003-03-01, model" in str(rec)
    assert ", trained, model" in str(replace(rec, facts={"curve": []}))
    assert repr(rec.start()) == "State(0 events, 0 seen items, model 1f3a1f3a1f3a)"
    state = rec.observe(rec.start(), "003", time=1_046_476_800)
    last = "last at 2003-03-01T00:00:00Z"
    assert repr(state) == f"State(1 event, {last}, 1 seen item, model 1f3a1f3a1f3a)"
    events = pl.DataFrame({"user": ["a", "b"], "item": ["003", "004"], "time": [5, 1_046_476_800]})
    states = rec.encode(segue.read_events(events))
    assert repr(states) == f"States(2 users, 2 events, {last}, model 1f3a1f3a1f3a)"
    assert repr(states[:0]) == "States(0 users, 0 events, model 1f3a1f3a1f3a)"
    timeless = rec.encode(segue.read_events(events[["user", "item"]], time="none"))
    assert repr(timeless) == "States(2 users, 2 events, model 1f3a1f3a1f3a)"
