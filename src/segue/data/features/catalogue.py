"""The tables of items and of users: titles and attributes, a row for each item or user."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.features.column_types import Column
from segue.data.log.columns import KNOWN_NAMES, candidates, find_column, guess_column
from segue.data.log.sources import Reading, open_source, without_words
from segue.data.sequences.vocabulary import Vocabulary
from segue.data.values.ids import check_ids, clean_ids, id_of, text_of_ids
from segue.data.values.lookup import Haystack, Postings, first, folded_text
from segue.data.values.parsing import is_present, number_of, numbers_of, word, words_of
from segue.data.values.times import moment_of
from segue.errors import ColumnError, DataError, ModelError, listed

_ITEM = ("item", "itemid", "movieid", "movie", "sku", "productid", "product", "asin", "id")
#: Columns that hold titles, by their usual names.
TITLES = ("title", "movietitle", "name", "itemtitle", "productname")
#: How `Catalogue.numbers` reads a value.
_READERS: Mapping[str, Callable[[object], float | None]] = {
    "number": number_of,
    "date": moment_of,
    "present": lambda value: 1.0 if is_present(value) else None,
}
_NAMES = {"item": (*_ITEM, *KNOWN_NAMES["item"]), "user": (*KNOWN_NAMES["user"], "id")}


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items of a vocabulary, in its order from row 1.

    `table` has `item`, `title` (null where unknown) and the attributes.

    Args:
        table: a row per item; of an item that the source does not have, all but the id is null.
        notes: how the source matches the log and which of its rows were left out, a sentence each.
    """

    table: pl.DataFrame
    notes: tuple[str, ...] = ()

    def check(self, vocabulary: Vocabulary) -> None:
        """Do nothing if the table, read from a model file, has the items of a vocabulary.

        Raises:
            ModelError: its ids are others, its titles are no texts, or a date in it is out of
                range.
        """
        kinds = {name: self.table[name].dtype for name in ("item", "title")}
        fits = set(kinds.values()) == {pl.String} and self.table["item"].equals(vocabulary.ids)
        try:
            for column in self.table:
                if column.dtype.is_temporal() or column.dtype.is_nested():
                    column.to_list() if column.dtype.is_nested() else (column.min(), column.max())
        except (ValueError, OverflowError, pl.exceptions.PanicException):
            fits = False
        if not fits:
            raise ModelError(
                "catalogue: expected a row with id and title for each id of the vocabulary, came others. "
                "Take the model from its source again."
            )

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """The types of the columns."""
        return self.table.schema

    @property
    def height(self) -> int:
        """The number of items."""
        return self.table.height

    @cached_property
    def _titles(self) -> list[str | None]:
        return self.table["title"].cast(pl.String).to_list()

    def title(self, row: int) -> str | None:
        """Return the title of a vocabulary row, None where there is none."""
        return self._titles[row - 1]

    def line(self, row: int) -> Mapping[str, Any]:
        """Return the id, title and attributes of a vocabulary row. O(1)."""
        return self.table.row(row - 1, named=True)

    def lay_out(self, numbers: Iterable[tuple[str, str]] = ()) -> None:
        """Build the index of titles, and what `numbers` returns for these, before the first use. O(items), once."""
        self._by_length  # noqa: B018
        for name, kind in numbers:
            self.numbers(name, kind)

    def find(self, words: str, limit: int | None = None) -> list[str]:
        """Return the ids of items whose title holds these words in any case, shortest title first.

        Cost: once O(items); then about 1 ms for 100,000 titles, less for frequent words.
        """
        return [self.line(row)["item"] for row in first(self.with_title(words), limit)]

    def with_title(self, words: str) -> Iterator[int]:
        """Yield the vocabulary rows of titles that hold these words in any case, shortest title first."""
        rows, titles = self._by_length
        return (rows[number] for number in titles.find(words))

    @cached_property
    def _by_length(self) -> tuple[list[int], Haystack]:
        titled = [(len(title), row) for row, title in enumerate(self._titles, start=1) if title is not None]
        rows = [row for _, row in sorted(titled)]
        return rows, Haystack.of([self._titles[row - 1] or "" for row in rows])

    def postings(self, name: str, *, several: bool = False, separator: str | None = None) -> Postings:
        """Return the rows of each value of a column. Cost: O(items) once for each column."""
        key = (name, several, separator)
        if key not in self._postings:
            self._postings[key] = self._posted(*key)
        return self._postings[key]

    def numbers(self, name: str, kind: str) -> NDArray[np.float64]:
        """Return float64[row] of a column, row 0 first; NaN where there is no number. Not to be changed.

        Args:
            name: of the column.
            kind: "number"; "date" for seconds since 1970; "present" for 1 where there is any value.

        Cost: O(items) once for each column.
        """
        if (name, kind) not in self._numbers:
            self._numbers[name, kind] = self._numbered(name, kind)
            self._numbers[name, kind].flags.writeable = False
        return self._numbers[name, kind]

    def changed(self, lines: Mapping[int, Mapping[str, Any]]) -> "ChangedCatalogue":
        """Return a catalogue with other lines, of all columns, in these rows or in new rows behind.

        Cost: O(lines), and a copy of the postings of each value that changed.
        """
        return ChangedCatalogue(self, lines, self._new_titles(lines), self._new_postings(lines))

    def _new_titles(self, lines: Mapping[int, Mapping[str, Any]]) -> dict[int, str | None]:
        """Return the titles that differ from those here, folded for search."""
        titles = {row: line["title"] for row, line in lines.items()}
        other = {row: title for row, title in titles.items() if row > self.height or title != self.title(row)}
        return {row: title and folded_text(title) for row, title in other.items()}

    def _new_postings(self, lines: Mapping[int, Mapping[str, Any]]) -> dict[tuple[str, bool, str | None], Postings]:
        old = {row: self.line(row) if row <= self.height else {} for row in lines}
        return {
            key: postings.updated({row: (old[row].get(key[0]), line[key[0]]) for row, line in lines.items()})
            for key, postings in list(self._postings.items())
        }

    def _posted(self, name: str, several: bool, separator: str | None) -> Postings:
        return Postings.of(self.table[name], several=several, separator=separator)

    def _numbered(self, name: str, kind: str) -> NDArray[np.float64]:
        return np.concatenate([[np.nan], numbers_of(self.table[name], _READERS[kind])])

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        return {}

    @cached_property
    def _postings(self) -> dict[tuple[str, bool, str | None], Postings]:
        return {}


class ChangedCatalogue(Catalogue):
    """A catalogue with changed or new lines; the others are shared with its base.

    Args:
        base: the catalogue without the changes.
        lines: by vocabulary row, all columns as they are now.
        titles: by row, the titles that differ from the base, folded for search.
        postings: those that were built before, with the changes.

    Example:
        >>> films = Catalogue(pl.DataFrame({"item": ["a", "b"], "title": ["Heat", "Casino"], "year": [1995, 1995]}))
        >>> changed = films.changed({2: {"item": "b", "title": "Casino", "year": 1996}})
        >>> changed.table["year"].to_list(), films.table["year"].to_list(), changed.find("S")
        ([1995, 1996], [1995, 1995], ['b'])
    """

    base: Catalogue
    lines: Mapping[int, Mapping[str, Any]]
    titles: Mapping[int, str | None]

    def __init__(
        self,
        base: Catalogue,
        lines: Mapping[int, Mapping[str, Any]],
        titles: Mapping[int, str | None],
        postings: Mapping[tuple[str, bool, str | None], Postings],
    ) -> None:
        vars(self).update(base=base, lines=lines, titles=titles, notes=base.notes, _postings=dict(postings))

    def changed(self, lines: Mapping[int, Mapping[str, Any]]) -> "ChangedCatalogue":
        """Return the catalogue with other lines too; see `Catalogue.changed`."""
        titles = self.base._new_titles(lines)
        reverted = self.titles.keys() & lines.keys() - titles.keys()
        earlier = {row: title for row, title in self.titles.items() if row not in reverted} if reverted else self.titles
        return ChangedCatalogue(self.base, {**self.lines, **lines}, {**earlier, **titles}, self._new_postings(lines))

    @cached_property
    def table(self) -> pl.DataFrame:
        """All lines with the changes. Cost: O(items), once."""
        columns = {name: Column(name, kind, None) for name, kind in self.base.schema.items()}
        cells = [column.series(line[name] for line in self.lines.values()) for name, column in columns.items()]
        both = pl.concat([self.base.table, pl.DataFrame(cells)], how="vertical_relaxed")
        places = np.arange(self.height)
        places[np.fromiter(self.lines, np.int64) - 1] = np.arange(self.base.height, both.height)
        return both[places]

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """The types of the columns."""
        return self.base.schema

    @cached_property
    def height(self) -> int:
        """The number of items."""
        return max(self.base.height, *self.lines)

    def lay_out(self, numbers: Iterable[tuple[str, str]] = ()) -> None:
        """Build the indexes of the base; see `Catalogue.lay_out`. The numbers are copied when a filter needs them."""
        self.base.lay_out(numbers)

    def title(self, row: int) -> str | None:
        """Return the title of a vocabulary row, None where there is none."""
        line = self.lines.get(row)
        return self.base.title(row) if line is None else line["title"]

    def line(self, row: int) -> Mapping[str, Any]:
        """Return the id, title and attributes of a vocabulary row. O(1)."""
        return self.lines.get(row) or self.base.line(row)

    def with_title(self, words: str) -> Iterator[int]:
        """Yield the vocabulary rows of titles that hold these words; see `Catalogue.with_title`."""
        folded = folded_text(words)
        other = [(len(self.title(row) or ""), row) for row, title in self.titles.items() if title and folded in title]
        same = ((len(self.base.title(r) or ""), r) for r in self.base.with_title(words) if r not in self.titles)
        return (row for _, row in heapq.merge(sorted(other), same))

    def _posted(self, name: str, several: bool, separator: str | None) -> Postings:
        postings = self.base.postings(name, several=several, separator=separator)
        old = {row: self.base.line(row)[name] if row <= self.base.height else None for row in self.lines}
        return postings.updated({row: (old[row], line[name]) for row, line in self.lines.items()})

    def _numbered(self, name: str, kind: str) -> NDArray[np.float64]:
        numbers = np.full(self.height + 1, np.nan)
        numbers[: self.base.height + 1] = self.base.numbers(name, kind)
        for row, line in self.lines.items():
            number = _READERS[kind](line[name])
            numbers[row] = np.nan if number is None else number
        return numbers


@dataclass(frozen=True, eq=False)
class Profiles:
    """The attributes of users, a row per user; `table` has `user` (text, distinct) and the rest.

    Args:
        table: the rows.
        source: what messages call the table.
        notes: which rows were left out, a sentence each.

    Example:
        >>> people = read_profiles(pl.DataFrame({"userId": [7, 8, None], "age": [30, None, 50]}))
        >>> people.of("7"), people.of("9"), people.notes
        ({'age': 30}, {}, ('table: 1 row without a user was left out.',))
        >>> people.rows(["8", "9", "7"])["age"].to_list()
        [None, None, 30]
    """

    table: pl.DataFrame
    source: str = "table"
    notes: tuple[str, ...] = ()

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {user: row for row, user in enumerate(self.table["user"])}

    def of(self, user: str) -> Mapping[str, Any]:
        """Return the attributes of a user, nothing for a user without a row. O(1)."""
        row = self._row_of.get(user, self._row_of.get(id_of(user)))
        if row is None:
            return {}
        return {name: value for name, value in self.table.row(row, named=True).items() if name != "user"}

    def rows(self, users: Iterable[str]) -> pl.DataFrame:
        """Return a row per user in the order given, nulls for a user without a row. O(users)."""
        order = pl.DataFrame({"user": pl.Series(users, dtype=pl.String)})
        return order.join(self.table, on="user", how="left", maintain_order="left")


def in_order_of(vocabulary: Vocabulary, table: pl.DataFrame, source: str, notes: tuple[str, ...] = ()) -> Catalogue:
    """Return a table of items, as `read_items` returns it, in the order of the vocabulary."""
    rows = pl.DataFrame({"item": vocabulary.ids})
    match = unmatched(table["item"], vocabulary.ids, source=source)
    return Catalogue(rows.join(table, on="item", how="left", maintain_order="left"), (*notes, match))


def read_items(
    source: object,
    *,
    item: str | None = None,
    title: str | None = None,
    reading: Reading | None = None,
    like: str | None = None,
) -> tuple[pl.DataFrame, str, tuple[str, ...]]:
    """Read a table of items: all of its rows that have an id, all of its columns.

    Returns:
        the table with `item` (text, distinct) and `title` (text) first; what messages call the
        source; which rows were left out, in sentences.

    Raises:
        ColumnError: there is no column of ids, or an id stands twice.

    Example:
        >>> shop = pl.DataFrame({"sku": [1.0, None], "name": ["shoe", "hat"], "price": [9, 5]})
        >>> table, name, notes = read_items(shop)
        >>> table.columns, table["item"].to_list(), notes
        (['item', 'title', 'price'], ['1'], ('table: 1 row without an item was left out.',))
    """
    table, name, notes = _read(source, reading)
    title = title or guess_column(table.columns, TITLES)
    if title is not None:
        title = find_column(title, table.columns, source=name, option="title=")
    named, more = _with_ids(table, "item", item, name, reading, like)
    titles = _titles(title, named.schema[title], name) if title in named.columns else pl.lit(None, pl.String)
    others = [other for other in named.columns if other not in (title, "item", "title")]
    return named.select("item", titles.alias("title"), *others), name, (*notes, *more)


def _titles(column: str, kind: pl.DataType, source: str) -> pl.Expr:
    """Return titles as texts; the parts of a list are joined with blanks."""
    inner: Any = getattr(kind, "inner", None)
    if (kind if inner is None else inner).is_nested() or kind == pl.Object:
        raise ColumnError(
            f'{source}: expected titles that are texts, column "{column}" holds {kind}. Convert or drop the column.'
        )
    if inner is None:
        return pl.col(column).cast(pl.String)
    text = pl.col(column).cast(pl.List(inner)).cast(pl.List(pl.String)).list.join(" ")
    return pl.when(text != "").then(text)


def table_of(lines: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return lines of names and values as a table; values of mixed types become texts.

    Example:
        >>> table_of([{"item": "a", "price": 5.5}, {"item": "b", "price": "x"}]).rows()
        [('a', '5.5'), ('b', 'x')]
    """
    names = dict.fromkeys(name for line in lines for name in line)
    return pl.DataFrame([_of_one_type(name, [line.get(name) for line in lines]) for name in names])


def read_profiles(
    source: object, *, user: str | None = None, reading: Reading | None = None, like: str | None = None
) -> Profiles:
    """Read a table of users: all of its rows that have an id, all of its columns.

    Args:
        source: a path or a table, as for `read_events`.
        user: the name of the column of ids; None guesses.
        reading: how the file is written.
        like: the log's column of users; a column of this name is taken before others.

    Raises:
        ColumnError: there is no column of ids, or an id stands twice.
    """
    table, name, notes = _read(source, reading)
    named, more = _with_ids(table, "user", user, name, reading, like)
    return Profiles(named, name, (*notes, *more))


def unmatched(ids_of_table: pl.Series, ids_of_log: pl.Series, *, source: str = "table", role: str = "item") -> str:
    """Return in a sentence how many ids of a table are not in the log, and the reverse.

    Example:
        >>> unmatched(pl.Series(["1", "2", "3"]), pl.Series(["3", "4"]), source="films.csv")
        'films.csv: 2 of 3 items have no event to learn from; 1 item of the log has no row.'
    """
    table, log = ids_of_table.cast(pl.String).unique(), ids_of_log.cast(pl.String).unique()
    both = table.is_in(log.implode()).sum()
    silent, absent = len(table) - both, len(log) - both
    return (
        f"{source}: {silent:,} of {len(table):,} {role}s {'has' if silent == 1 else 'have'} no event to learn from; "
        f"{absent:,} {role}{'s' * (absent != 1)} of the log {'has' if absent == 1 else 'have'} no row."
    )


def _read(source: object, reading: Reading | None) -> tuple[pl.DataFrame, str, tuple[str, ...]]:
    try:
        opened = open_source(source, reading or Reading())
    except DataError:
        if type(source).__module__.partition(".")[0] != "pandas":
            raise
        return _from_pandas(source), "table", ()
    with opened.explained():
        table = opened.frame.collect()
    mixed = [column for column in table.columns if table[column].dtype == pl.Object]
    return table.with_columns(_of_one_type(name, table[name].to_list()) for name in mixed), opened.name, opened.notes


def _from_pandas(table: Any) -> pl.DataFrame:
    # Column by column: mixed types in one column must not hinder the others.
    names = [str(name) for name in table.columns]
    return pl.DataFrame([_of_one_type(name, table.iloc[:, place].tolist()) for place, name in enumerate(names)])


def _of_one_type(name: str, values: list[Any]) -> pl.Series:
    """Return values of mixed types as one type: lists of words, or words."""
    try:
        column = pl.Series(name, values)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        column = pl.Series(name, [], pl.Object)
    if column.dtype != pl.Object:
        return column
    if any(isinstance(value, (list, tuple)) for value in values):
        return pl.Series(name, [words_of(value, None) for value in values], pl.List(pl.String))
    return pl.Series(name, [word(value) for value in values], pl.String)


def _with_ids(
    table: pl.DataFrame, role: str, column: str | None, source: str, reading: Reading | None, like: str | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """Return the table with a first column `role` of distinct ids, and notes on the ids."""
    column = column or _column_of(table.columns, role, like)
    if column is None:
        raise ColumnError(
            f"{source}: expected a column of {role}s, found {listed(table.columns)}. Name it with {role}=."
        )
    column = find_column(column, table.columns, source=source, option=f"{role}=")
    check_ids(table.lazy(), column, source=source, role=role)
    missing = reading.missing if reading else ()
    texts = table.select(text_of_ids(pl.col(column), table.schema[column]).alias(role)).to_series()
    clean = clean_ids(texts, missing)
    others = table.drop(column, *([role] if role in table.columns and column != role else []))
    others = without_words(others.lazy(), others.columns, {}, missing).collect()
    rows = others.insert_column(0, clean.ids).filter(pl.col(role).is_not_null())
    doubled = rows.filter(pl.col(role).is_duplicated())
    if len(doubled):
        raise ColumnError(
            f'{source}: expected one row per {role}, found {role} "{doubled[role][0]}" more than once. '
            "Remove the doubled rows."
        )
    lost = len(table) - len(rows)
    an, s, were = ("an" if role == "item" else "a"), "s" * (lost > 1), "were" if lost > 1 else "was"
    left_out = [f"{source}: {lost:,} row{s} without {an} {role} {were} left out."] * bool(lost)
    return rows, [*left_out, *(f"{source}: {note}" for note in clean.notes(role))]


def _column_of(names: list[str], role: str, like: str | None) -> str | None:
    """Return a table's column of ids: named as in the log, by a usual name, or similar."""
    similar = candidates([name for name in names if name not in TITLES], role)
    return like if like in names else guess_column(names, _NAMES[role]) or next(iter(similar), None)
