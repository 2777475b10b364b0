"""law: what is known beside ids in bulk equals one by one; added items change nothing for the others."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import segue
from segue.data.features.catalogue import read_profiles
from segue.data.features.feature_encoders import as_float16, attributes_of
from segue.errors import ArgumentError
from segue.model.backend import leaves, map_tree
from segue.model.cells import CELLS
from segue.recommend.index.approximate import exact_index
from segue.recommend.lists.candidates import list_query, score
from segue.recommend.lists.item_filters import ItemFilters
from segue.serve.ranking.types import ListOptions
from tests_support import ITEMS, USERS, described_log, described_recommender


def close(a, b):
    for (path, x), (_, y) in zip(leaves(a), leaves(b), strict=True):
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=2e-5, err_msg=path)


@pytest.mark.parametrize("session", [None, 20_000.0])
@pytest.mark.parametrize("cell", list(CELLS))
def test_law_encode_is_start_with_profile_and_observe_one_by_one(cell, session):
    events = described_log()
    rec, people = described_recommender(events, cell, session), read_profiles(USERS)
    states = rec.encode(events, USERS)
    for place, user in enumerate(states.users):
        state = rec.start(people.of(user))
        for row in events.table.filter(pl.col("user") == user).iter_rows(named=True):
            details = {"rating": row["rating"], "type": row["type"], "context": {"device": row["device"]}}
            state = rec.observe(state, row["item"], time=row["time"] / 1e6, **details)
        close(states[place].memory, state.memory)


def test_law_every_part_of_what_is_known_counts():
    rec = described_recommender(described_log())
    state = rec.observe(rec.start(), "03", time=10)
    lists = [
        rec.score(state),
        rec.score(rec.observe(rec.start({"age": 50}), "03", time=10)),
        rec.score(rec.observe(rec.start(), "03", time=10, rating=1.0)),
        rec.score(rec.observe(rec.start(), "03", time=10, type="buy")),
        rec.score(rec.observe(rec.start(), "03", time=10, context={"device": "tv"})),
    ]
    for i, one in enumerate(lists):
        for other in lists[:i]:
            assert np.abs(one - other).max() > 1e-3
    plain = [line.score for line in rec.recommend(state, 5)]
    assert [line.score for line in rec.recommend(state, 5, type="buy")] != plain
    assert [line.score for line in rec.recommend(state, 5, context={"device": "tv"})] != plain
    # A rating is not known when a question is asked, and what was not learnt is not read.
    for unread in ({"rating": 5}, {"weather": "wet"}):
        with pytest.raises(ArgumentError, match="expected columns among device, type"):
            rec.recommend(state, 5, context=unread)
    # In training a question has all that its event was like, but the rating of it says nothing.
    unknown = np.full(1, np.nan, np.float32)
    queries = [
        rec.network.query(rec.params, state.memory.output, unknown, rec.encoders.of_events([values]))
        for values in ({"type": "buy", "device": "tv", "rating": rating} for rating in (1.0, 5.0))
    ]
    np.testing.assert_array_equal(*queries)


@pytest.mark.parametrize("by", ["all", "index"])
def test_law_requests_in_a_batch_equal_requests_alone(by):
    plain = described_recommender(events := described_log())
    rec = plain.with_index(exact_index(plain)) if by == "index" else plain
    rng, states, asked = np.random.default_rng(8), plain.encode(events), []
    for place in range(len(states)):
        item = plain.items[int(rng.integers(len(plain.items)))]
        where = {"price": "1.0"} if place % 3 == 0 else {}
        options = ListOptions(
            k=3, at=2 * 10**6 + place, type=["view", "buy"][place % 2], context={"device": ["tv", "pc"][place % 2]},
            exclude=(item,), repeats=["exclude", "allow"][place // 2 % 2], where=where,
        )  # fmt: skip
        asked.append(list_query(rec, states[place], options, ItemFilters()))
    for one, (rows, scores) in zip(asked, score(rec, ItemFilters(), asked).best(3), strict=True):
        ask = one.options
        lines = plain.recommend(
            one.state, len(plain.items), at=ask.at / 1e6, type=ask.type, context=ask.context,
            exclude=ask.exclude, repeats=ask.repeats,
        )  # fmt: skip
        shown = [x for x in lines if one.allowed is None or one.allowed[plain.vocabulary.row(x.item)]][:3]
        assert plain.vocabulary.ids_of(rows) == [x.item for x in shown]
        np.testing.assert_allclose(scores, [x.score for x in shown], atol=1e-4)


def test_law_load_after_save_is_the_same(tmp_path):
    rec = described_recommender(described_log(), session=20_000.0)
    rec.save(tmp_path / "m.segue")
    again = segue.load(tmp_path / "m.segue")
    assert again.fingerprint == rec.fingerprint
    assert again.encoders == rec.encoders
    ask = {"type": "buy", "context": {"device": "pc"}}
    for one in (rec, again):
        state = one.observe(one.start({"age": 30, "sex": "f"}), "03", rating=2)
        assert one.recommend(state, 12, **ask) == rec.recommend(state, 12, **ask)


def test_law_added_items_leave_the_others_as_they_were(tmp_path):
    rec = described_recommender(described_log())
    before = rec.observe_all(rec.start(), ["03", "12", "04"])
    more = rec.add_items(ITEMS)
    assert more.items == [*rec.items, "12", "13"]
    np.testing.assert_array_equal(more.score(before)[:, : len(rec.items)], rec.score(before))
    # The new item is what its attributes are; the other says nothing and is in no list.
    shown = [line.item for line in more.recommend(before, 14, repeats="allow")]
    assert "12" in shown and "13" not in shown
    assert more.vocabulary.ids_of(more.unreachable) == ["13"]
    [values] = ITEMS.filter(item="12").rows(named=True)
    own, numbers = rec.params.attributes, as_float16(rec.encoders.items.encode_row(values))
    np.testing.assert_allclose(more.params.items[more.vocabulary.row("12")], numbers @ own.vector, atol=1e-6)
    np.testing.assert_allclose(more.params.bias[more.vocabulary.row("12")], numbers @ own.bias, atol=1e-6)
    assert rec.add_items(ITEMS.head(12)) is rec
    after = more.observe(before, "12")
    assert more.observe(after, "13").count == 5
    assert "12" in [line.item for line in more.recommend(before, 14, repeats="exclude")]
    assert "12" not in [line.item for line in more.recommend(after, 14, repeats="exclude")]
    more.save(tmp_path / "m.segue")
    again = segue.load(tmp_path / "m.segue")
    assert again.fingerprint == more.fingerprint == rec.fingerprint
    assert again.recommend(after, 14) == more.recommend(after, 14)
    # A column is the same with and without RecBole's `:type`.
    typed = rec.add_items(ITEMS.rename({"price": "price:float"}))
    np.testing.assert_array_equal(typed.params.items, more.params.items)
    assert typed.labels("12") == more.labels("12")
    # An item added twice over is the item added once.
    np.testing.assert_array_equal(again.add_items(ITEMS).params.items, more.params.items)


def test_law_a_new_item_is_an_item_whose_own_row_is_left_out():
    events = described_log()
    rec = described_recommender(events)
    rng, network = np.random.default_rng(2), rec.network
    own = map_tree(lambda a: a + rng.standard_normal(a.shape, np.float32), network.init(3))
    attributes = attributes_of(rec.catalogue, rec.encoders)
    for values in rec.catalogue.table.iter_rows(named=True):
        alone = rec.encoders.items.encode_row(values)
        np.testing.assert_allclose(attributes[rec.vocabulary.row(values["item"])], alone, atol=1e-3)
    known = np.ones(len(attributes), np.float32)
    known[4] = 0
    folded = network.with_attributes(own, attributes, known)
    np.testing.assert_allclose(folded.items[4], attributes[4] @ own.attributes.vector, atol=1e-5)
    np.testing.assert_allclose(folded.items[5], own.items[5] + attributes[5] @ own.attributes.vector, atol=1e-5)
    np.testing.assert_allclose(folded.bias[4], attributes[4] @ own.attributes.bias, atol=1e-5)
    np.testing.assert_allclose(folded.bias[5], own.bias[5] + attributes[5] @ own.attributes.bias, atol=1e-5)


def test_law_a_long_gap_empties_the_first_block_alone():
    rec = described_recommender(described_log(), session=1000.0)
    one = rec.observe(rec.start(), "03", time=0)
    other = rec.observe(rec.observe(rec.start(), "07", time=-50), "05", time=0)
    near = [rec.observe(state, "04", time=999).memory.cells for state in (one, other)]
    far = [rec.observe(state, "04", time=1001).memory.cells for state in (one, other)]
    close(far[0][0], far[1][0])
    for different in (near, [cells[1:] for cells in far]):
        with pytest.raises(AssertionError):
            close(different[0], different[1])


def test_labels_say_what_items_share():
    rec = described_recommender(described_log()).add_items(ITEMS)
    assert rec.labels("12") == ["kind a", "kind b", "price 2"]


def test_a_profile_that_was_not_learnt_is_named():
    rec = described_recommender(described_log())
    with pytest.raises(ArgumentError, match='expected columns among age, sex, came "shoe"'):
        rec.start({"shoe": 42})
    assert rec.start({"age": None, "sex": "unheard of"}).count == 0
    ids = replace(rec, encoders=rec.encoders._replace(items=None))
    with pytest.raises(ArgumentError, match="trained with attributes of items, came one of ids alone"):
        ids.add_items(ITEMS)
