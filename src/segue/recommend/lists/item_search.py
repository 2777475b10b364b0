"""Items by words and a filter, what is known of an item, and by which attributes items can be narrowed down.

Knows: titles, ids and attributes of the items of one model. Does not know: users, scores, requests.
"""

import heapq
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from segue.data.log.columns import plain_name
from segue.data.values.lookup import first, folded_text
from segue.data.values.parsing import number_of, plain_value, word, words_of
from segue.recommend.filters.binding import FilterColumn, Known
from segue.recommend.filters.fields import Where
from segue.recommend.scorer import Scorer
from segue.shapes import Bools, Rows

#: Items that hold all words, at most, among which the best are looked for; those with the shortest titles.
LOOKED_AT = 5_000
#: Values of an attribute that are shown, the most frequent ones.
SHOWN = 30
_NUMBERS = ("number", "date", "duration")


class FoundRows(NamedTuple):
    """Items that were found.

    Args:
        rows: int32[n], the best first.
        total: how many there are in all, up to 5,000 where words were searched.
    """

    rows: Rows
    total: int


class Facet(NamedTuple):
    """An attribute of items, with its frequent values or the range of its numbers.

    Args:
        name: as filters name it.
        kind: "number", "date" or "duration" (seconds), "word", or "words" where an item has several.
        values: value -> how many items have it, the most frequent first; empty where there is a range.
        lowest, highest: of numbers; dates in seconds since 1970.
    """

    name: str
    kind: str
    values: dict[str, int]
    lowest: float | None = None
    highest: float | None = None


def search(rec: Scorer, words: str = "", where: Where = None, *, limit: int | None = None, now: int = 0) -> FoundRows:
    """Return the items that have all words in title or id and pass a filter, the best first.

    The order: the title (or id) is what was typed, begins so, has words that begin so, holds them. Within each of
    these the more popular item comes first, which is the one with more events in training. No words find all items.

    Args:
        rec: the model.
        words: in any case and order.
        where: a filter.
        limit: of rows; None for all.
        now: of the filter, microseconds since 1970.

    Raises:
        ArgumentError: the filter does not fit the columns.

    Cost: O(items) for the filter; about 1 ms for 100,000 titles and a rare word, 10 ms for a frequent one.
    """
    passing = rec.filters.passing(where, Known(now))
    mask = None if passing is None else passing.mask
    if not words.strip():
        total = len(rec.vocabulary) if passing is None else passing.count
        rows = np.arange(1, 1 + min(total, limit or total)) if mask is None else np.flatnonzero(mask)[:limit]
        return FoundRows(rows.astype(np.int32), total)
    total = 0

    def ranked() -> Iterator[tuple[int, int]]:
        nonlocal total
        for place, row in islice(_ranked(rec, folded_text(words)), LOOKED_AT):
            if mask is None or mask[row]:
                total += 1
                yield place, row

    best = sorted(ranked()) if limit is None else heapq.nsmallest(limit, ranked())
    return FoundRows(np.array([row for _, row in best], np.int32), total)


def _ranked(rec: Scorer, typed: str) -> Iterator[tuple[int, int]]:
    """Yield the place of how well an item fits what was typed, and its row, each item once."""
    typed, parts = typed.strip(), sorted(typed.split(), key=len, reverse=True)
    titled = rec.catalogue.with_title(parts[0]) if rec.catalogue is not None else iter(())
    by_id = (rec.vocabulary.row(id) for id in rec.vocabulary.find(parts[0]))
    for row in titled:
        if (place := _place(_texts(rec, row), parts, typed)) < len(_PLACES):
            yield place, row
    for row in by_id:
        texts = _texts(rec, row)
        if (place := _place(texts, parts, typed)) < len(_PLACES) and not any(parts[0] in text for text in texts[1:]):
            yield place, row


#: How well a text fits words: each is asked of the text, the words, and what was typed; the first that holds counts.
_PLACES: tuple[Callable[[str, list[str], str], bool], ...] = (
    lambda text, parts, typed: text == typed,
    lambda text, parts, typed: text.startswith(typed),
    lambda text, parts, typed: all(any(one.startswith(part) for one in text.split()) for part in parts),
    lambda text, parts, typed: all(part in text for part in parts),
)


def _place(texts: list[str], parts: list[str], typed: str) -> int:
    """Return how well the best of some texts fits words; `len(_PLACES)` where none holds all of them."""
    return next((n for n, fits in enumerate(_PLACES) if any(fits(text, parts, typed) for text in texts)), len(_PLACES))


def _texts(rec: Scorer, row: int) -> list[str]:
    """Return the id of an item and the title, if there is one, folded."""
    title = rec.catalogue.title(row) if rec.catalogue is not None and row <= rec.catalogue.height else None
    return [folded_text(text) for text in (rec.vocabulary.id(row), title) if text]


def attributes(rec: Scorer, row: int) -> dict[str, Any]:
    """Return what the catalogue says of an item, by the names that filters use; vectors and nothing are left out.

    Several values are a list, a date is ISO 8601, a duration is in seconds.
    """
    if rec.catalogue is None or not 0 < row <= rec.catalogue.height:
        return {}
    line = rec.catalogue.line(row)
    columns = [column for name, column in rec.filters.columns.items() if name not in ("item", "title")]
    said = {plain_name(column.name): _said(column, line.get(column.name)) for column in columns}
    return {name: value for name, value in said.items() if value not in (None, "", [])}


def _said(column: FilterColumn, value: object) -> Any:
    value = plain_value(value)
    if value is None or column.kind == "nothing":
        return None
    if column.kind == "words":
        return words_of(value, column.separator)
    return number_of(value) if column.kind in ("number", "duration") else word(value)


def facets(rec: Scorer, among: Rows | None = None) -> list[Facet]:
    """Return the attributes by which items can be narrowed down, in the order of the catalogue.

    Args:
        rec: the model.
        among: int32[n], rows of the items that count; None counts all.

    Cost: O(items) for each attribute.
    """
    if rec.catalogue is None:
        return []
    mask = np.zeros(rec.vocabulary.size, bool)
    mask[slice(1, None) if among is None else among] = True
    found = [_facet(rec, name, column, mask) for name, column in rec.filters.columns.items() if name != "item"]
    return [facet for facet in found if facet is not None]


def _facet(rec: Scorer, name: str, column: FilterColumn, mask: Bools) -> Facet | None:
    """Return one attribute; None where it has no values that items share, and no numbers that differ."""
    assert rec.catalogue is not None
    if column.shared:
        postings = rec.catalogue.postings(column.name, several=column.kind == "words", separator=column.separator)
        values = postings.counts(mask)
        return Facet(name, column.kind, dict(first(values.items(), SHOWN))) if values else None
    if column.kind not in _NUMBERS:
        return None
    numbers = rec.catalogue.numbers(column.name, "date" if column.kind == "date" else "number")
    known = numbers[mask[: len(numbers)] & np.isfinite(numbers)]
    return Facet(name, column.kind, {}, float(known.min()), float(known.max())) if len(known) else None
