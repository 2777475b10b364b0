"""Items by words, filter and popularity against a search that reads every line; facets against counts of every line."""

import polars as pl
import pytest

import segue
from segue.data.values.lookup import folded_text
from segue.recommend.changed_items import Changed
from segue.recommend.lists.item_search import attributes, facets, search
from tests_support import described_recommender

GENRES = ["Drama|War", "Comedy", "War", None, "Comedy|Drama", "War"]
TITLES = ["Star Wars", "Star Trek", "A Star is Born", "Starship", "Wars of the Stars", None]


@pytest.fixture(name="rec", scope="module")
def a_recommender():
    ids = [f"i{n}" for n in range(24)]
    log = pl.DataFrame({"user": [f"{n % 5}" for n in range(300)], "item": [ids[n % (n % 24 + 1)] for n in range(300)]})
    table = {"item": ids, "title": TITLES * 4, "genre": GENRES * 4, "year": [1990 + n % 7 for n in range(24)]}
    return described_recommender(segue.read_events(log.with_columns(time=pl.int_range(300))), items=pl.DataFrame(table))


def by_reading(rec, words, passes=lambda line: True):
    """Return the ids in order, by reading every line."""
    typed, found = folded_text(words).strip(), []
    for row in range(1, len(rec.vocabulary) + 1):
        line = rec.catalogue.line(row)
        texts = [folded_text(text) for text in (line["item"], line["title"]) if text]
        parts = typed.split()
        steps = (
            lambda text: text == typed,
            lambda text: text.startswith(typed),
            lambda text, parts=parts: all(any(word.startswith(part) for word in text.split()) for part in parts),
            lambda text, parts=parts: all(part in text for part in parts),
        )
        place = next((n for n, step in enumerate(steps) if any(map(step, texts))), None)
        if place is not None and passes(line):
            found.append((place, row, line["item"]))
    return [item for _, _, item in sorted(found)]


@pytest.mark.parametrize(
    "words", ["star", "STAR wars", "wars star", "ar", "i1", "I2 ", "tr", "no such", "star zz", "  "]
)
def test_search_is_that_by_reading_every_line(rec, words):
    changed = (
        Changed(rec, rec).with_lines({3: {**rec.catalogue.line(3), "title": "Warship of stars", "year": 1995}}).rec
    )
    for one in (rec, changed):
        expected = by_reading(one, words)
        found = search(one, words)
        assert [one.vocabulary.id(row) for row in found.rows.tolist()] == expected and found.total == len(expected)
        few = search(one, words, limit=2)
        assert few.rows.tolist() == found.rows[:2].tolist() and few.total == found.total
        filtered = by_reading(
            one, words, lambda line: "War" in (line["genre"] or "").split("|") and line["year"] > 1991
        )
        found = search(one, words, 'genre = "War" and year > 1991', limit=24)
        assert [one.vocabulary.id(row) for row in found.rows.tolist()] == filtered


def test_facets_count_every_line_of_the_items_found(rec):
    changed = Changed(rec, rec).with_lines({1: {**rec.catalogue.line(1), "genre": "Drama|Western"}}).rec
    for one in (rec, changed):
        for rows in (None, search(one, "star").rows):
            lines = [one.catalogue.line(row) for row in (range(1, 25) if rows is None else rows.tolist())]
            words = [word for line in lines for word in (line["genre"] or "").split("|") if word]
            found = {facet.name: facet for facet in facets(one, rows)}
            assert found["genre"].values == {word: words.count(word) for word in set(words)}
            years = [line["year"] for line in lines]
            assert (found["year"].lowest, found["year"].highest) == (min(years), max(years))


def test_attributes_are_what_the_catalogue_says_by_the_names_of_filters(rec):
    row = rec.vocabulary.row("i4")
    assert attributes(rec, row) == {"genre": ["Comedy", "Drama"], "year": 1994.0}
    assert attributes(rec, 0) == attributes(rec, 999) == {}
