"""The encoder of a table: one encoder per column, fitted in training and kept in the model as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from segue.data.features.calendar import Calendar
from segue.data.features.column_encoders import Categories, ColumnEncoder, Ignored, Texts
from segue.data.features.kinds import Kind, why_ignored
from segue.data.features.numeric import Numbers, Vectors
from segue.data.features.text import TextEncoder, text_encoder, text_encoder_from_dict
from segue.data.log.columns import plain_name
from segue.data.values import plain
from segue.data.values.parsing import distinct, is_present, text_of
from segue.errors import ArgumentError, ColumnError, ModelError, listed
from segue.shapes import Floats

_FORMAT = 1


@dataclass(frozen=True)
class TableEncoder:
    """How the rows of a table become float32 vectors.

    Args:
        columns: an encoder per column, in the order of the vector.
        text: the encoder of the columns of text; None where there are none.

    Example:
        >>> films = pl.DataFrame({"year": [1990, 2000], "genres": ["Drama|War", "Drama"]})
        >>> encoding = fit_table_encoder(films, {"year": "number", "genres": "categories"}, text="words")
        >>> encoding.encode(films).tolist()
        [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
        >>> encoding.encode_row({"year": 1995, "genres": "Western"}).tolist()
        [0.5, 0.5, 0.0]
        >>> encoding.describe()
        ['year: number, 1990 to 2000', 'genres: categories by |, 1 value']
        >>> TableEncoder.from_json(encoding.to_json()) == encoding
        True
    """

    columns: tuple[ColumnEncoder, ...]
    text: TextEncoder | None = None

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The place of each column's numbers in a vector."""
        ends = np.cumsum([column.width for column in self.columns]).tolist()
        return {column.name: slice(end - column.width, end) for column, end in zip(self.columns, ends, strict=True)}

    @cached_property
    def width(self) -> int:
        """The numbers per row."""
        return sum(column.width for column in self.columns)

    def encode(self, table: pl.DataFrame) -> Floats:
        """Return float32[row, width] of a table.

        A missing column, a null, a NaN, a value that training did not have and a value of a wrong
        type all give zeros; `warnings` names the wrong types.

        Raises:
            ArgumentError: there is text, and the package that encodes it is not installed.

        Cost: O(rows x width) memory; texts as their encoder. Slice a table that is too large.
        """
        out = np.zeros((table.height, self.width), np.float32)
        for column in self.columns:
            if column.name in table.columns and column.width and table.height:
                out[:, self.slices[column.name]] = column.encode(table[column.name])
        return out

    def encode_row(self, values: Mapping[str, object]) -> Floats:
        """Return float32[width], as `encode` does. Cost: about a microsecond a column, more a text."""
        out = np.zeros(self.width, np.float32)
        self.add_row(values, out)
        return out

    def add_row(self, values: Mapping[str, object], out: Floats) -> None:
        """Add what `encode_row` returns to float32[width], in place."""
        for name, column, place in self._used:
            value = values.get(name)
            if value is not None:
                column.add(value, out[place])

    def unknown_values(self, values: Mapping[str, object]) -> list[str]:
        """Return "name=value" for each value that gives zeros: a new value, or a wrong type.

        Example:
            >>> encoding = fit_table_encoder(pl.DataFrame({"device": ["tv", "tv"]}), {"device": "category"})
            >>> encoding.unknown_values({"device": "phone"}), encoding.unknown_values({"device": "tv"})
            (['device=phone'], [])
        """
        given = {name: value for name, value in values.items() if value is not None and name in self.slices}
        return [f"{name}={value}" for name, value in given.items() if not self.encode_row({name: value}).any()]

    def check(self, values: Mapping[str, object], source: str) -> None:
        """Do nothing if each value has the kind of its column; new values are no error.

        Args:
            values: by column; a column that is left out is unknown.
            source: what the message calls them.

        Raises:
            ArgumentError: a value has another kind.

        Example:
            >>> fit_table_encoder(pl.DataFrame({"age": [20, 40]}), {"age": "number"}).check({"age": "x"}, "profile")
            Traceback (most recent call last):
            ...
            segue.errors.ArgumentError: profile: column "age": expected number, 20 to 40, came "x". Leave it out.
        """
        for column in self.columns:
            value = values.get(column.name)
            if is_present(value) and not column.reads(value):
                raise ArgumentError(
                    f'{source}: column "{plain_name(column.name)}": expected {column.describe()}, '
                    f'came "{str(value)[:40]}". Leave it out.'
                )

    @cached_property
    def _used(self) -> list[tuple[str, ColumnEncoder, slice]]:
        return [(column.name, column, self.slices[column.name]) for column in self.columns if column.width]

    def describe(self) -> list[str]:
        """Return a line per column: its name, its kind, how it is encoded."""
        return [f"{plain_name(column.name)}: {column.describe()}" for column in self.columns]

    def labels(self, values: Mapping[str, object]) -> list[str]:
        """Return known attributes, without texts and vectors: "genres Action", "year 1995"."""
        return [label for column in self.columns for label in column.labels(values.get(column.name))]

    def warnings(self, table: pl.DataFrame, by: str | None = None) -> list[str]:
        """Return a sentence for each column that is missing or has values of a wrong type.

        Args:
            table: the rows.
            by: the column that identifies a row, such as "item"; None names rows by number.

        Cost: O(rows), on the distinct values of each column.

        Example:
            >>> films = pl.DataFrame({"year": [1990, 2000]})
            >>> encoding = fit_table_encoder(films, {"year": "number"}, text="words")
            >>> encoding.warnings(pl.DataFrame({"year": ["nineteen", "2000"]}))  # doctest: +NORMALIZE_WHITESPACE
            ['column "year": expected number, 1990 to 2000, 1 of 2 values cannot be read so, the first is
            "nineteen" in row 1. They count as missing; correct them, or train again.']
        """
        warnings = (_warning(column, table, by) for column in self.columns if column.width)
        return [warning for warning in warnings if warning is not None]

    def to_json(self) -> str:
        """Return the encoder as JSON; `from_json` gives an equal encoder."""
        fields = {
            "format": _FORMAT,
            "text": None if self.text is None else self.text.to_dict(),
            "columns": [_to_dict(column) for column in self.columns],
        }
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "TableEncoder":
        """Return the encoder that `to_json` wrote; no package is imported and no folder opened.

        Raises:
            ModelError: the text is not such JSON, or of a later format.
        """
        try:
            fields = plain.json_of(text)
            if fields["format"] != _FORMAT:
                raise ModelError(
                    f"encoding: expected format {_FORMAT}, came {fields['format']}. Update Segue to read this model."
                )
            encoder = None if fields["text"] is None else text_encoder_from_dict(fields["text"])
            columns = tuple(_from_dict(column, encoder) for column in fields["columns"])
            plain.distinct([column.name for column in columns], "columns")
            return cls(columns, encoder)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ModelError(
                f"encoding: expected what TableEncoder.to_json wrote, came {text[:40]!r} ({error!r}). "
                "Take the model from its source again."
            ) from error


def fit_table_encoder(
    table: pl.DataFrame, kinds: Mapping[str, Kind], *, text: TextEncoder | str = "auto"
) -> TableEncoder:
    """Fit an encoder to each column of a table.

    Args:
        table: the rows to fit, without held-out rows.
        kinds: column -> kind, as `kinds_of` returns; other columns are left out.
        text: the text encoder; a name fits such an encoder to all texts of the table.

    Raises:
        ColumnError: a column is not in the table.
        ArgumentError: see `text_encoder`.

    Cost: O(rows) for each column, and what encoding the texts costs.

    Example:
        >>> users = pl.DataFrame({"age": [20, 40, None], "device": ["tv", "tv", "phone"]})
        >>> encoding = fit_table_encoder(users, {"age": "number", "device": "category"})
        >>> encoding.encode(users).tolist()
        [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    absent = [name for name in kinds if name not in table.columns]
    if absent:
        raise ColumnError(
            f'attributes: expected a column "{absent[0]}", found {listed(table.columns)}. Call kinds_of(table) again.'
        )
    encoder = None
    if "text" in kinds.values():
        encoder = text_encoder(text, texts_of(table, kinds)) if isinstance(text, str) else text
    return TableEncoder(tuple(_fit(table[name], kind, encoder) for name, kind in kinds.items()), encoder)


def texts_of(table: pl.DataFrame, kinds: Mapping[str, Kind]) -> list[str]:
    """Return all texts of columns of kind "text", cleaned: what a `TextEncoder` is fitted to.

    Example:
        >>> texts_of(pl.DataFrame({"title": ["<b>Heat</b>", None]}), {"title": "text"})
        ['Heat']
    """
    columns = [table[name] for name, kind in kinds.items() if kind == "text"]
    return [text for column in columns for value in column.to_list() if (text := text_of(value))]


def _fit(column: pl.Series, kind: Kind, encoder: TextEncoder | None) -> ColumnEncoder:
    if kind in ("number", "date"):
        return Numbers.fit(column, kind)
    if kind in ("category", "categories"):
        return Categories.fit(column, several=kind == "categories")
    if kind == "vector":
        return Vectors.fit(column)
    if kind == "calendar":
        return Calendar.fit(column)
    if kind == "text":
        assert encoder is not None
        return Texts(column.name, encoder)
    return Ignored(column.name, why_ignored(column))


def _to_dict(column: ColumnEncoder) -> dict[str, Any]:
    match column:
        case Numbers():
            return {"name": column.name, "kind": column.kind, "knots": list(column.knots)}
        case Categories():
            kind = "categories" if column.several else "category"
            return {"name": column.name, "kind": kind, "separator": column.separator, "values": list(column.words)}
        case Vectors():
            return {"name": column.name, "kind": "vector", "mean": list(column.mean)}
        case Calendar():
            return {"name": column.name, "kind": "calendar", "hours": column.hours, "days": column.days}
        case Ignored():
            return {"name": column.name, "kind": "ignored", "why": column.why}
        case _:
            return {"name": column.name, "kind": "text"}


def _from_dict(fields: Mapping[str, Any], encoder: TextEncoder | None) -> ColumnEncoder:
    name, kind = plain.text(fields["name"], "a column", empty=True), fields["kind"]
    if kind in ("number", "date"):
        return Numbers(name, kind, plain.numbers(fields["knots"], f"knots of {name}", ascending=True))
    if kind in ("category", "categories"):
        separator = None if fields["separator"] is None else plain.text(fields["separator"], f"separator of {name}")
        return Categories(name, kind == "categories", separator, plain.texts(fields["values"], f"values of {name}"))
    if kind == "vector":
        return Vectors(name, plain.numbers(fields["mean"], f"mean of {name}"))
    if kind == "calendar":
        hours, days = (plain.truth(fields[part], f"{part} of {name}") for part in ("hours", "days"))
        return Calendar(name, hours, days)
    if kind == "ignored":
        return Ignored(name, plain.text(fields["why"], f"why {name} is ignored"))
    if encoder is None or kind != "text":
        raise ValueError(f"column {name} is of kind {kind}")
    return Texts(name, encoder)


def _warning(column: ColumnEncoder, table: pl.DataFrame, by: str | None) -> str | None:
    start = f'column "{plain_name(column.name)}": expected {column.describe()}, '
    if column.name not in table.columns:
        return f"{start}found {listed(table.columns)}. It counts as missing; add or rename a column, or train again."
    values, which = distinct(table[column.name])
    present = np.array([is_present(value) for value in values], bool)
    wrong = np.array([there and not column.reads(v) for there, v in zip(present, values, strict=True)], bool)
    rows = np.flatnonzero(wrong[which]) if len(values) else np.zeros(0, int)
    if len(rows):
        shown = str(values[which[rows[0]]])[:40]
        where = f"in row {rows[0] + 1:,}" if by is None else f"of {by} {table[by][int(rows[0])]}"
        return (
            f"{start}{len(rows):,} of {int(present[which].sum()):,} values cannot be read so, the first is "
            f'"{shown}" {where}. They count as missing; correct them, or train again.'
        )
    if isinstance(column, Categories) and present.any() and not any(column.labels(value) for value in values):
        shown = str(next(value for value in values if is_present(value)))[:40]
        return f'{start}training had none of its values, for example "{shown}". Write them as they were in training.'
    return None
