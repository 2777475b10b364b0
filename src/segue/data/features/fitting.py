"""Whether a value that comes later fits a column that was learnt, and how the column keeps it.

Knows: the type of a column in the table of items, and the kind that was learnt of it; neither ever changes.
Does not know: rows, vectors, where the value came from.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import polars as pl

from segue.data.features.column_encoders import Block, Categories, Ignored, Texts
from segue.data.features.kinds import plain_name
from segue.data.features.numeric import Vectors
from segue.data.values.parsing import distinct, is_present, number_of, vector_of, word, words_of
from segue.data.values.times import moment_of
from segue.errors import ArgumentError

_TEXTS = (pl.String, pl.Categorical, pl.Enum, pl.Null)


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the table of items.

    Args:
        name: in the table.
        type: of its cells.
        block: how it becomes numbers; None where nothing was learnt of items.

    Example:
        >>> price = Column("price", pl.Float64(), None)
        >>> price.fitted("$1,299.50"), price.fitted(7), price.fitted(None)
        (1299.5, 7.0, None)
        >>> price.fitted("x")
        Traceback (most recent call last):
        ...
        segue.errors.ArgumentError: column "price": expected numbers, came "x". Send such a value, or leave it out.
    """

    name: str
    type: pl.DataType
    block: Block | None

    def fitted(self, value: object) -> Any:
        """Return a value as the column keeps it; None where nothing is said.

        Raises:
            ArgumentError: it is of another kind than was learnt, is no finite number of 64 bits, or a vector of
                another length.
        """
        if not is_present(value):
            return None
        found = None
        if self.block is None or self.block.reads(value):
            found = _kept(value, self.type, self.block)
        if found is None:
            shown = str(value) if len(str(value)) <= 40 else str(value)[:40] + "..."
            raise ArgumentError(
                f'column "{plain_name(self.name)}": expected {self._kind()}, came "{shown}". '
                "Send such a value, or leave it out."
            )
        return found

    def series(self, values: Iterable[Any]) -> pl.Series:
        """Return fitted values as a column that can be put under the one that there is."""
        fitted = list(values)
        with suppress(TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            same = pl.Series(self.name, fitted, self.type, strict=True)
            if same.null_count() == fitted.count(None) and not _overflown(same):
                return same
        return pl.Series(self.name, fitted, _wide_enough(self.type, fitted), strict=True)

    def _kind(self) -> str:
        if self.block is not None and not isinstance(self.block, Ignored):
            said = self.block.describe()
            return said if self.type.base_type() in _TEXTS or "number" in said else f"{said}, as {_words(self.type)}"
        return _words(self.type)


def columns_of(schema: Mapping[str, pl.DataType], blocks: Iterable[Block]) -> dict[str, Column]:
    """Return the columns of a table of items by their plain names, without the ids.

    Example:
        >>> list(columns_of({"item": pl.String(), "year:token": pl.Int64()}, ()))
        ['year']
    """
    learnt = {block.name: block for block in blocks}
    return {plain_name(name): Column(name, kind, learnt.get(name)) for name, kind in schema.items() if name != "item"}


def fitted_table(table: pl.DataFrame, columns: Mapping[str, Column], source: str) -> pl.DataFrame:
    """Return the lines of a table with `item` and what is known of the columns, each of the type that it has there.

    Raises:
        ArgumentError: a value does not fit its column.

    Cost: O(rows), and a look at the distinct values of each column.

    Example:
        >>> shop = pl.DataFrame({"item": ["a", "b"], "price": ["3", None], "colour": ["red", "red"]})
        >>> fitted_table(shop, columns_of({"price": pl.Float64()}, ()), "table").rows()
        [('a', 3.0), ('b', None)]
    """
    made = [table["item"]]
    for column in columns.values():
        if column.name not in table.columns:
            continue
        values, which = distinct(table[column.name])
        fitted = []
        for number, value in enumerate(values):
            try:
                fitted.append(column.fitted(value))
            except ArgumentError as error:
                row = int((which == number).argmax())
                raise ArgumentError(f'{source}, item "{table["item"][row]}": {error}') from None
        made.append(column.series(fitted[number] for number in which))
    return pl.DataFrame(made)


def _kept(value: object, kind: pl.DataType, block: Block | None) -> Any:
    """Return a value of a kind that is read as cells of this type have it, None where they cannot."""
    base = kind.base_type()
    if base in _TEXTS:
        return _text(value, block)
    if kind == pl.Boolean:
        return {"true": True, "false": False}.get((word(value) or "").lower())
    if kind.is_numeric():
        return _number(value, whole=kind.is_integer())
    if base in (pl.Date, pl.Datetime):
        return _moment(value, kind)
    if base in (pl.List, pl.Array):
        return _several(value, kind, block)
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


def _text(value: object, block: Block | None) -> str | None:
    if isinstance(value, str):
        return value
    if not hasattr(value, "__len__"):
        return word(value)
    words = words_of(value, None)
    if isinstance(block, Texts):
        return " ".join(words)
    if isinstance(block, Vectors):
        return json.dumps(vector_of(value))
    separator = block.separator if isinstance(block, Categories) and block.several else None
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


def _several(value: object, kind: pl.DataType, block: Block | None) -> list[Any] | None:
    inner: pl.DataType = getattr(kind, "inner", pl.String())
    if inner.is_numeric():
        vector = vector_of(value)
        if vector is None or (isinstance(kind, pl.Array) and len(vector) != kind.size):
            return None
        return [_number(each, whole=inner.is_integer()) for each in vector]
    parts = [_kept(each, inner, None) for each in words_of(value, None)]
    return None if not parts or None in parts else parts


def _time(value: object) -> time | None:
    try:
        return value if isinstance(value, time) else time.fromisoformat(str(value))
    except ValueError:
        return None


def _overflown(column: pl.Series) -> bool:
    """Return whether a number was too large for 32 bits: none is infinite before."""
    inner = column.explode() if column.dtype.is_nested() and column.dtype != pl.Struct else column
    return inner.dtype == pl.Float32 and bool(inner.is_infinite().any())


def _wide_enough(kind: pl.DataType, values: list[Any]) -> pl.DataType:
    """Return the next type of the same kind, for values that one does not hold: whole numbers may get fractions."""
    if kind.base_type() in _TEXTS:
        return pl.String()
    inner: Any = getattr(kind, "inner", None)
    if inner is not None:
        return pl.List(_wide_enough(inner, [each for some in values if some is not None for each in some]))
    whole = kind.is_integer() and not any(isinstance(each, float) for each in values)
    return pl.Int64() if whole else pl.Float64() if kind.is_numeric() else kind


def _words(kind: pl.DataType) -> str:
    """Return a type as a message calls it."""
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
