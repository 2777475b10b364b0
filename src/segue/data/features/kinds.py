"""The kind of each column of a table, guessed from its type, its name and its values."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import numpy as np
import polars as pl

from segue.data.log.columns import KNOWN_NAMES, find_column, letters_of, plain_name
from segue.data.values.ids import seems_missing
from segue.data.values.parsing import distinct, number_of, vector_of, word, words_of
from segue.data.values.times import moment_of, written_date
from segue.errors import ColumnError, nearest

#: Only the times of events are of kind "calendar"; the other kinds can be requested by name.
Kind: TypeAlias = Literal["number", "category", "categories", "text", "date", "vector", "ignored", "calendar"]
KINDS: tuple[Kind, ...] = get_args(Kind)[:-1]

_NO_KINDS: Mapping[str, str] = MappingProxyType({})
#: Whole numbers with at most this many values are codes such as an age band.
_FEW = 32
#: Ids and codes: at least this share of the rows have a distinct value.
_NEARLY_ALL = 0.95
#: A column is of numbers, dates or vectors when this share of its present values is.
_MOST = 0.75
#: The most values that are read; distinct values are counted over all rows.
_SAMPLE = 5_000
#: A column that is named like a time and has numbers of this size counts from 1970.
_AN_EPOCH = 1e8
#: Pieces between separators: their greatest median length, and greatest distinct share, by separator.
_SHORT = 30
_RECURRING = {"|": 0.8, ";": 0.6, ",": 0.5}

_TITLE = re.compile(r".*(title|description|summary|overview|plot|synopsis|abstract|headline|text|review|name)")
_CODE = re.compile(r".*(zip|zipcode|postcode|postalcode|postal)")
_IDS = {*KNOWN_NAMES["user"], *KNOWN_NAMES["item"], *KNOWN_NAMES["id"], "id"} - {"artist", "artistid", "book", "game"}
_ID_NAME = re.compile(r"(^|[_\W])(id|ID|Id)$|[a-z]I[dD]$")


def kinds_of(table: pl.DataFrame, requested: Mapping[str, str] = _NO_KINDS) -> dict[str, Kind]:
    """Return the kind of each column: the requested kind, or else the likeliest.

    The rules, the first that holds: lists of numbers are vectors, other lists categories. A column
    that is empty, constant, or made of codes that no two rows share is ignored. Dates are dates.
    Values that are mostly numbers are numbers, unless they are whole and few or begin with zeros.
    Titles, and long or mostly distinct texts, are text. Texts whose pieces between `|`, `;` or `,`
    recur are categories, and so is a RecBole column `:token_seq` with blanks. Others are a
    category.

    Args:
        table: attributes, a row per item, user or event.
        requested: column -> kind, where the guess is wrong; without RecBole's `:type`, too.

    Raises:
        ColumnError: a requested column or kind does not exist.

    Cost: O(rows) to count distinct values of each column, the rest on at most 5,000 of them.

    Example:
        >>> films = pl.DataFrame({
        ...     "title": ["Heat (1995)", "Casino (1995)", "Alien (1979)", "Big Fish (2003)"],
        ...     "genres": ["Crime|Drama", "Crime|Drama", "Horror|Sci-Fi", "Drama"],
        ...     "minutes": [170.5, 178.0, 117.0, 125.0],
        ... })
        >>> kinds_of(films)
        {'title': 'text', 'genres': 'categories', 'minutes': 'number'}
        >>> kinds_of(films, {"minutes": "ignored"})["minutes"]
        'ignored'
    """
    kinds: dict[str, Kind] = {}
    for name, kind in requested.items():
        column = find_column(name, table.columns, source="attributes", option="the name of")
        kinds[column] = _known_kind(kind, column)
    return {name: kinds.get(name) or _guess(table[name]) for name in table.columns}


def separator_of(column: pl.Series) -> str | None:
    """Return the separator between the categories of a text column, None where there is none.

    The likeliest separator is one whose pieces recur. Where there is none, but the column was
    declared categories, it is the separator that most values hold.
    """
    if column.dtype.base_type() in (pl.List, pl.Array):
        return None
    texts = _sample(column)
    counts = {separator: sum(separator in text for text in texts) for separator in _RECURRING}
    most = max(counts, key=lambda separator: counts[separator])
    return _separator(column.name, texts) or (most if counts[most] else None)


def why_ignored(column: pl.Series) -> str:
    """Return in words why a column is ignored.

    Example:
        >>> why_ignored(pl.Series("asin", ["B1", "B2", "B3"]))
        'no two rows share a value'
    """
    present = column.drop_nulls()
    if column.dtype in (pl.Object, pl.Struct, pl.Binary, pl.Null):
        return "empty" if not len(present) else f"values of type {column.dtype}"
    if not any(word(value) or isinstance(value, list) for value in present.head(_SAMPLE).to_list()):
        return "empty"
    if column.dtype.is_nested():
        return "as requested"
    if present.n_unique() == 1 and len(present) == len(column):
        return "the same in every row"
    if present.n_unique() >= _NEARLY_ALL * len(present):
        return "no two rows share a value" if present.n_unique() == len(present) else "hardly two rows share a value"
    return "as requested"


def _known_kind(kind: str, column: str) -> Kind:
    for known in KINDS:
        if known == kind:
            return known
    like = nearest(kind, KINDS, cutoff=0.4)
    advice = f'Did you mean "{like}"?' if like else "Give one of these."
    raise ColumnError(f'column "{column}": expected a kind among {", ".join(KINDS)}, came "{kind}". {advice}')


def _guess(column: pl.Series) -> Kind:
    kind = column.dtype
    if kind.base_type() in (pl.List, pl.Array):
        return _guess_of_lists(column)
    if kind in (pl.Object, pl.Struct, pl.Binary, pl.Null):
        return "ignored"
    if kind in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        column = column.str.strip_chars().replace("", None)
    elif kind.is_float():
        column = column.fill_nan(None)
    present = column.drop_nulls()
    values = present.n_unique() if len(present) else 0
    if values == 0 or (values == 1 and len(present) == len(column)) or _is_id(column.name, values, len(present)):
        return "ignored"
    if kind.is_temporal():
        return "number" if kind == pl.Duration else "category" if kind == pl.Time else "date"
    if kind.is_numeric():
        return _guess_of_numbers(column.name, present, values)
    if kind == pl.Boolean:
        return "category"
    return _guess_of_texts(column.name, present, values)


def _guess_of_lists(column: pl.Series) -> Kind:
    inner = getattr(column.dtype, "inner", None)
    if inner is not None and inner.is_numeric():
        return "vector"
    rows = [words_of(value, None) for value in column.drop_nulls().head(_SAMPLE).to_list()]
    pieces = [piece for row in rows for piece in row]
    if not pieces:
        return "ignored"
    longish = float(np.median([len(piece) for piece in pieces])) > _SHORT
    return "text" if longish and len(set(pieces)) > len(pieces) / 2 else "categories"


def _is_id(name: str, values: int, rows: int) -> bool:
    named = letters_of(name) in _IDS or _ID_NAME.search(plain_name(name)) is not None
    return named and rows > 1 and values >= _NEARLY_ALL * rows


def _guess_of_numbers(name: str, present: pl.Series, values: int) -> Kind:
    numbers = np.array([number_of(value) for value in present.to_list()], np.float64)
    read = np.isfinite(numbers)
    if not read.any():
        return "ignored"
    if not read.all():
        numbers, present = numbers[read], present.filter(pl.Series(read))
        values = present.n_unique()
    whole = bool((numbers == np.round(numbers)).all()) and not name.endswith(":float")
    span = numbers.max() - numbers.min() + 1
    if whole and values == len(present) == span and values >= 10:
        return "ignored"  # row numbers
    if letters_of(name) in KNOWN_NAMES["time"] and float(np.median(numbers)) >= _AN_EPOCH:
        return "date"
    if whole and np.abs(numbers).max() < 1e15 and all(map(written_date, numbers.astype(np.int64)[:_SAMPLE].tolist())):
        return "date"
    return "category" if whole and values <= _FEW and 4 * values <= len(present) else "number"


def _guess_of_texts(name: str, present: pl.Series, values: int) -> Kind:
    texts = _sample(present)
    plain = letters_of(name)
    share = values / len(present)
    if name.endswith(":float_seq") or _mostly(texts, lambda text: text[:1] in "[(" and vector_of(text) is not None):
        return "vector"
    code = _CODE.fullmatch(plain) or any(re.match(r"0\d", text) for text in texts)
    if not code and _mostly(texts, lambda text: number_of(text) is not None):
        return _guess_of_numbers(name, present, values)
    if _mostly(texts, lambda text: not text.isdigit() and number_of(text) is None and moment_of(text) is not None):
        return "date"
    titled = _TITLE.fullmatch(plain) is not None
    if titled and 4 * values > len(present):
        return "text"
    if not titled and _separator(name, texts) is not None:
        return "categories"
    words = float(np.median([len(text.split()) for text in texts]))
    if words <= 1:
        return "ignored" if share >= _NEARLY_ALL and len(present) > 1 else "category"
    return "category" if share <= (0.8 if words <= 3 else 0.5) else "text"


def _mostly(texts: list[str], rule: Callable[[str], bool]) -> bool:
    present = [text for text in texts if not seems_missing(text)]
    return sum(map(rule, present)) >= _MOST * len(present) > 0


def _separator(name: str, texts: list[str]) -> str | None:
    for separator, recurring in _RECURRING.items():
        if _recur(texts, separator, recurring):
            return separator
    return " " if name.endswith(":token_seq") and _recur(texts, " ", 0.5) else None


def _recur(texts: list[str], separator: str, recurring: float) -> bool:
    if sum(separator in text for text in texts) < max(1, 0.05 * len(texts)):
        return False
    pieces = [piece for text in texts for piece in words_of(text, separator)]
    return len(set(pieces)) <= recurring * len(pieces) and float(np.median([len(piece) for piece in pieces])) <= _SHORT


def _sample(column: pl.Series) -> list[str]:
    """Return values evenly spaced over the rows, as trimmed texts."""
    present = column.drop_nulls()
    sample = present.gather_every(max(1, len(present) // _SAMPLE)) if len(present) else present
    values, which = distinct(sample)
    words = [word(value) for value in values]
    return [text for number in which if (text := words[number]) is not None]
