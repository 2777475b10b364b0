"""A change of one item changes that item alone, and is what laying all changes over the model at once would be."""

import json
import pickle

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import ArgumentError
from segue.recommend import new_items
from segue.recommend.changed_items import ROWS, Changed, fitted_attributes
from segue.recommend.copy_on_write import Pages
from segue.recommend.index.approximate import exact_index
from segue.serve.live.service import Service
from segue.serve.ranking.types import ListOptions
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import ITEMS, described_log, described_recommender

REC = described_recommender(described_log())
KNOWN = [item for item in REC.items if item in set(ITEMS["item"])]
VALUES = {
    "title": ["red boat", "Blue CAR", "", None, 1984],
    "kind": ["a", "b|c", ["a", "c"], "d", None],
    "price": [0, 2.5, "3", 4, None, float("nan")],
}
WRONG = {"title": [["a"], {"b": 1}], "kind": [float("inf")], "price": ["x", float("inf"), 2**2000, [1.0], "12 kg"]}
CHANGE = st.tuples(st.sampled_from(KNOWN), st.sampled_from(sorted(VALUES)), st.integers(0, 9), st.booleans())
ROUNDS = settings(max_examples=40, deadline=None)


def rows_where(rec, where):
    """bool[row]: the items that a filter lets pass."""
    return rec.filters.passing(where).mask


def drawn(name, number, wrong):
    some = WRONG[name] if wrong else VALUES[name]
    return some[number % len(some)]


@ROUNDS
@given(st.lists(CHANGE, max_size=12))
def test_kinds_stay_and_other_items_are_the_same_to_the_last_bit(changes):
    done, before, touched, said = Changed(REC, REC), REC.params.items.copy(), set(), {}
    shown = REC.recommend(REC.start(), 5)
    for item, name, number, wrong in changes:
        value, row = drawn(name, number, wrong), REC.vocabulary.row(item)
        if wrong and (name, value) != ("title", WRONG["title"][0]):  # a text may be written as a list of texts
            with pytest.raises(ArgumentError, match=f'column "{name}": expected .* came '):
                fitted_attributes(done.rec, {name: value})
            continue
        line = done.rec.columns[name].cast(value)
        said.setdefault(row, {})[name] = line
        done = done.with_lines({row: {**REC.catalogue.line(row), **said[row]}})
        touched.add(row)
    rec, others = done.rec, [row for row in range(REC.vocabulary.size) if row not in touched]
    assert rec.catalogue.table.schema == REC.catalogue.table.schema
    assert rec.params.items[others].tobytes() == REC.params.items[others].tobytes()
    assert rec.params.bias[others].tobytes() == REC.params.bias[others].tobytes()
    assert rec.catalogue.table[[r - 1 for r in others if r]].equals(REC.catalogue.table[[r - 1 for r in others if r]])
    assert REC.params.items.tobytes() == before.tobytes() and REC.recommend(REC.start(), 5) == shown
    at_once = Changed(REC, REC).with_lines({row: {**REC.catalogue.line(row), **line} for row, line in said.items()})
    assert at_once.rec.params.items.tobytes() == rec.params.items.tobytes()
    assert at_once.rec.catalogue.table.equals(rec.catalogue.table)
    plain = pickle.loads(pickle.dumps(rec))  # nothing laid out, nothing shared
    state, again = rec.observe(rec.start(), "03", time=9), plain.observe(plain.start(), "03", time=9)
    np.testing.assert_allclose(rec.score(state, at=20), plain.score(again, at=20), rtol=1e-5, atol=1e-5)
    for where in (
        {"kind": "a"},
        {"kind": ["b", "d"]},
        {"price": 3},
        {"title": "red boat"},
        {"price": 2.5, "kind": "c"},
    ):
        assert rows_where(rec, where).tolist() == rows_where(plain, where).tolist() == naive(plain, where)
    for words in ("", "RED", "boat", "1984", "no"):
        assert rec.catalogue.find(words) == plain.catalogue.find(words) == searched(plain, words)


def naive(rec, where):
    """bool[row] by reading every line."""
    found = [False]
    for line in rec.catalogue.table.iter_rows(named=True):
        cells = {name: str(line[name]).split("|") if name == "kind" else [line[name]] for name in where}
        wanted = {name: value if isinstance(value, list) else [value] for name, value in where.items()}
        found.append(all(line[name] is not None and set(cells[name]) & set(wanted[name]) for name in where))
    return found


def searched(rec, words):
    pairs = zip(rec.catalogue.table["item"], rec.catalogue.table["title"], strict=True)
    hits = [(item, title) for item, title in pairs if title is not None and words.casefold() in title.casefold()]
    return [item for item, _ in sorted(hits, key=lambda pair: len(pair[1]))]


@pytest.mark.parametrize("indexed", [False, True])
def test_a_server_answers_after_changes_as_one_that_is_started_on_them(tmp_path, indexed):
    rec = REC.with_index(exact_index(REC)) if indexed else REC
    store = SqliteStore(tmp_path / "s.db")
    service = Service(rec, store)
    new = pl.DataFrame({"item": ["90", "91"], "title": ["red car 90", "boat"], "kind": ["a|b", "c"], "price": [3, 1]})
    question = ListOptions(12, 0, where={"kind": ["a", "c"]}, debug=True)
    lists = []
    for n, item in enumerate([*KNOWN, "90", *KNOWN]):
        if n == 3:
            service.add_items(new)
        if item in service.rec.vocabulary:
            service.change_item(item, available=n % 3 != 0, attributes={"price": n % 5, "kind": "abc"[n % 3]})
        lists.append(service.recommend("ann", question))
        restarted = Service(rec, store)
        again = restarted.recommend("ann", question)
        assert [line.item for line in again.items] == [line.item for line in lists[-1].items]
        np.testing.assert_allclose([x.score for x in again.items], [x.score for x in lists[-1].items], rtol=1e-4)
        assert restarted.rec.params.items.tobytes() == service.rec.params.items.tobytes()
        assert restarted.rec.catalogue.table.equals(service.rec.catalogue.table)
        assert service.rec.catalogue.table.schema == rec.catalogue.table.schema
        restarted.close()
    service.close()
    store.close()


def test_what_an_older_server_kept_of_another_kind_is_left_out_and_said(tmp_path, caplog):
    store = SqliteStore(tmp_path / "s.db")
    kept = {
        "added": [{"item": "90", "title": "t", "price": "x"}],
        "attributes": {"01": {"price": "y", "kind": "a", "gone": 1}},
    }
    store.put_value("items", json.dumps(kept).encode())
    service = Service(REC, store)
    assert "item 90 of model" in caplog.text and "item 01 of model" in caplog.text
    assert service.rec.catalogue.line(REC.vocabulary.row("01")) == {
        **REC.catalogue.line(REC.vocabulary.row("01")),
        "kind": "a",
    }
    assert service.rec.catalogue.table.schema == REC.catalogue.table.schema and "90" in service.rec.vocabulary
    service.close()
    store.close()


def test_pages_are_laid_out_anew_after_many_rows_and_every_copy_stands():
    table = np.arange(3 * (ROWS + 40), dtype=np.float32).reshape(-1, 3)
    pages, copies = Pages.of(table), []
    for row in range(5):
        copies.append(pages.copy_with(np.array([row], np.int32), np.full((1, 3), -1, np.float32)))
    for row, copy in enumerate(copies):
        expected = table.copy()
        expected[row] = -1
        assert np.array_equal(copy, expected)
    del pages
    assert copies[2][3].tolist() == table[3].tolist()  # the file is closed, the copies stand


@pytest.mark.parametrize("few", [0, 3, 100])
def test_items_added_one_by_one_are_those_added_at_once(few, monkeypatch):
    monkeypatch.setattr(new_items, "FEW", few)
    new = pl.DataFrame(
        {
            "item": list("pqrstu"),
            "title": ["red car"] * 5 + [None],
            "kind": ["a|b", "c", "a", "", None, "b"],
            "price": 1.5,
        }
    )
    REC.fused.lay_out(table=True)
    REC.vocabulary.lay_out()
    rows_where(REC, {"kind": "a"})
    at_once, one_by_one = REC.add_items(new), REC
    for n in range(len(new)):
        one_by_one = one_by_one.add_items(new[n : n + 1])
    np.testing.assert_allclose(one_by_one.params.items, at_once.params.items, rtol=1e-5, atol=1e-6)
    assert one_by_one.catalogue.table.equals(at_once.catalogue.table) and one_by_one.items == at_once.items
    assert one_by_one.vocabulary.rows(["q", "01", "no"]).tolist() == at_once.vocabulary.rows(["q", "01", "no"]).tolist()
    for rec in (one_by_one, at_once):
        plain = pickle.loads(pickle.dumps(rec))
        state, again = rec.observe(rec.start(), "q", time=9), plain.observe(plain.start(), "q", time=9)
        np.testing.assert_allclose(rec.score(state), plain.score(again), rtol=1e-5, atol=1e-5)
        assert rows_where(rec, {"kind": "b"}).tolist() == naive(plain, {"kind": "b"})
        assert rec.catalogue.find("CAR") == searched(plain, "CAR") and list(rec.vocabulary.find("Q")) == ["q"]
        assert [rec.title(item) for item in rec.items] == [plain.title(item) for item in plain.items]
        assert [x.item for x in rec.similar("01", 20)] == [x.item for x in plain.similar("01", 20)]
