"""Whether a value of a new item fits its column of the catalogue, cast to the column's type."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import polars as pl

from segue.data.features.column_encoders import Categories, ColumnEncoder, Ignored, Texts
from segue.data.features.numeric import Vectors
from segue.data.log.columns import plain_name
from segue.data.values.parsing import distinct, is_present, number_of, vector_of, word, words_of
from segue.data.values.times import moment_of
from segue.errors import ArgumentError

_TEXTS = (pl.String, pl.Categorical, pl.Enum, pl.Null)


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the catalogue: its name, the type of its cells, its encoder if the model has one.

    Example:
        >>> price = Column("price", pl.Float64(), None)
        >>> price.cast("$1,299.50"), price.cast(7), price.cast(None)
        (1299.5, 7.0, None)
        >>> price.cast("x")
        Traceback (most recent call last):
        ...
        segue.errors.ArgumentError: column "price": expected numbers, came "x". Send such a value, or leave it out.
    """

    name: str
    type: pl.DataType
    encoder: ColumnEncoder | None

    def cast(self, value: object) -> Any:
        """Return a value in the type of the column; None for a missing value.

        Raises:
            ArgumentError: the value is of another kind than in training, is no finite number of 64
                bits, or is a vector of another length.
        """
        if not is_present(value):
            return None
        cell = None
        if self.encoder is None or self.encoder.reads(value):
            cell = _cell(value, self.type, self.encoder)
        if cell is None:
            shown = str(value) if len(str(value)) <= 40 else str(value)[:40] + "..."
            raise ArgumentError(
                f'column "{plain_name(self.name)}": expected {self._kind()}, came "{shown}". '
                "Send such a value, or leave it out."
            )
        return cell

    def series(self, cells: Iterable[Any]) -> pl.Series:
        """Return cast values as a column that can be appended to the catalogue's."""
        values = list(cells)
        with suppress(TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            same = pl.Series(self.name, values, self.type, strict=True)
            if same.null_count() == values.count(None) and not _has_overflown(same):
                return same
        return pl.Series(self.name, values, _wide_enough(self.type, values), strict=True)

    def _kind(self) -> str:
        if self.encoder is not None and not isinstance(self.encoder, Ignored):
            kind = self.encoder.describe()
            return kind if self.type.base_type() in _TEXTS or "number" in kind else f"{kind}, as {_words(self.type)}"
        return _words(self.type)


def columns_of(schema: Mapping[str, pl.DataType], encoders: Iterable[ColumnEncoder]) -> dict[str, Column]:
    """Return the columns of a catalogue by their plain names, without the ids.

    Example:
        >>> list(columns_of({"item": pl.String(), "year:token": pl.Int64()}, ()))
        ['year']
    """
    by_name = {encoder.name: encoder for encoder in encoders}
    return {plain_name(name): Column(name, kind, by_name.get(name)) for name, kind in schema.items() if name != "item"}


def cast_table(table: pl.DataFrame, columns: Mapping[str, Column], source: str) -> pl.DataFrame:
    """Return the `item` of each row of a table and its values cast to these columns.

    Raises:
        ArgumentError: a value does not fit its column.

    Cost: O(rows), and a cast of the distinct values of each column.

    Example:
        >>> shop = pl.DataFrame({"item": ["a", "b"], "price": ["3", None], "colour": ["red", "red"]})
        >>> cast_table(shop, columns_of({"price": pl.Float64()}, ()), "table").rows()
        [('a', 3.0), ('b', None)]
    """
    series = [table["item"]]
    for column in columns.values():
        if column.name not in table.columns:
            continue
        values, which = distinct(table[column.name])
        cells = []
        for number, value in enumerate(values):
            try:
                cells.append(column.cast(value))
            except ArgumentError as error:
                row = int((which == number).argmax())
                raise ArgumentError(f'{source}, item "{table["item"][row]}": {error}') from None
        series.append(column.series(cells[number] for number in which))
    return pl.DataFrame(series)


def _cell(value: object, kind: pl.DataType, encoder: ColumnEncoder | None) -> Any:
    """Return a value as a cell of a type, None where no such cell can hold it."""
    base = kind.base_type()
    if base in _TEXTS:
        return _text(value, encoder)
    if kind == pl.Boolean:
        return {"true": True, "false": False}.get((word(value) or "").lower())
    if kind.is_numeric():
        return _number(value, whole=kind.is_integer())
    if base in (pl.Date, pl.Datetime):
        return _moment(value, kind)
    if base in (pl.List, pl.Array):
        return _several(value, kind)
    number = number_of(value)
    if kind == pl.Duration and number is not None and abs(number) < 1e12:
        return timedelta(seconds=number)
    return _time(value) if kind == pl.Time else None


def _number(value: object, *, whole: bool) -> int | float | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value if whole else float(value)
    number = number_of(value)
    if number is None or (whole and abs(number) >= 2**63):
        return None
    return int(number) if whole and number.is_integer() and abs(number) < 2**53 else number


def _text(value: object, encoder: ColumnEncoder | None) -> str | None:
    if isinstance(value, str):
        return value
    if not hasattr(value, "__len__"):
        return word(value)
    words = words_of(value, None)
    if isinstance(encoder, Texts):
        return " ".join(words)
    if isinstance(encoder, Vectors):
        return json.dumps(vector_of(value))
    separator = encoder.separator if isinstance(encoder, Categories) and encoder.several else None
    if separator is None:
        return words[0] if len(words) == 1 else None
    return None if any(separator in each for each in words) else separator.join(words)


def _moment(value: object, kind: pl.DataType) -> Any:
    seconds = moment_of(value)
    try:
        moment = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    if moment is None or kind == pl.Date:
        return moment and moment.date()
    return moment if getattr(kind, "time_zone", None) else moment.replace(tzinfo=None)


def _several(value: object, kind: pl.DataType) -> list[Any] | None:
    inner: pl.DataType = getattr(kind, "inner", pl.String())
    if inner.is_numeric():
        vector = vector_of(value)
        if vector is None or (isinstance(kind, pl.Array) and len(vector) != kind.size):
            return None
        return [_number(each, whole=inner.is_integer()) for each in vector]
    parts = [_cell(each, inner, None) for each in words_of(value, None)]
    return None if not parts or None in parts else parts


def _time(value: object) -> time | None:
    try:
        return value if isinstance(value, time) else time.fromisoformat(str(value))
    except ValueError:
        return None


def _has_overflown(column: pl.Series) -> bool:
    """Return whether a number was too large for 32 bits; none was infinite before."""
    inner = column.explode() if column.dtype.is_nested() and column.dtype != pl.Struct else column
    return inner.dtype == pl.Float32 and bool(inner.is_infinite().any())


def _wide_enough(kind: pl.DataType, values: list[Any]) -> pl.DataType:
    """Return a wider type for values that do not fit `kind`: text, 64 bits, floats."""
    if kind.base_type() in _TEXTS:
        return pl.String()
    inner: Any = getattr(kind, "inner", None)
    if inner is not None:
        return pl.List(_wide_enough(inner, [part for parts in values if parts is not None for part in parts]))
    whole = kind.is_integer() and not any(isinstance(each, float) for each in values)
    return pl.Int64() if whole else pl.Float64() if kind.is_numeric() else kind


def _words(kind: pl.DataType) -> str:
    """Return the name of a type in messages."""
    base = kind.base_type()
    if base in _TEXTS:
        return "a text"
    if kind == pl.Boolean:
        return "true or false"
    if kind.is_numeric() or kind == pl.Duration:
        return "numbers"
    if base in (pl.List, pl.Array):
        inner: Any = getattr(kind, "inner", pl.String())
        return f"a list of {'numbers' if inner.is_numeric() else 'texts'}"
    return {pl.Date: "a date", pl.Datetime: "a date", pl.Time: "a time of day"}.get(base, "nothing that can be sent")
