"""A table of attributes becomes an array: what was learnt of each column, kept in a model.

Knows: the blocks of columns that lie side by side, and how they are written down and read again.
Does not know: how one kind of column is encoded, or what the rows are: items, users or events.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from segue.data.features.calendar import Calendar
from segue.data.features.column_encoders import Block, Categories, Ignored, Texts
from segue.data.features.kinds import Kind, plain_name, why_ignored
from segue.data.features.numeric import Numbers, Vectors
from segue.data.features.text import TextEncoder, text_encoder, text_encoder_from
from segue.data.values import plain
from segue.data.values.parsing import distinct, is_present, text_of
from segue.errors import ArgumentError, ColumnError, ModelError, listed
from segue.shapes import Floats

_FORMAT = 1


@dataclass(frozen=True)
class Encoding:
    """How the rows of a table become float32 vectors.

    Args:
        blocks: one per column, in the order of the vector.
        text: what encodes the columns of text; None where there are none.

    Example:
        >>> films = pl.DataFrame({"year": [1990, 2000], "genres": ["Drama|War", "Drama"]})
        >>> encoding = learn_encoding(films, {"year": "number", "genres": "categories"}, text="words")
        >>> encoding.encode(films).tolist()
        [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
        >>> encoding.encode_row({"year": 1995, "genres": "Western"}).tolist()
        [0.5, 0.5, 0.0]
        >>> encoding.describe()
        ['year: number, 1990 to 2000', 'genres: categories by |, 1 value']
        >>> Encoding.from_json(encoding.to_json()) == encoding
        True
    """

    blocks: tuple[Block, ...]
    text: TextEncoder | None = None

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where the numbers of each column stand in a vector."""
        ends = np.cumsum([block.width for block in self.blocks]).tolist()
        return {block.name: slice(end - block.width, end) for block, end in zip(self.blocks, ends, strict=True)}

    @cached_property
    def width(self) -> int:
        """The numbers per row."""
        return sum(block.width for block in self.blocks)

    def encode(self, table: pl.DataFrame) -> Floats:
        """Return float32[row, width] of a table.

        A column that is not there, a null, a NaN, a value never met in learning and a value of a wrong
        type all give zeros; `complaints` says which types were wrong.

        Raises:
            ArgumentError: there is text, and the package that encoded it in learning is not installed.

        Cost: O(rows x width) memory; texts as their encoder. Give slices of a table that is too large.
        """
        out = np.zeros((table.height, self.width), np.float32)
        for block in self.blocks:
            if block.name in table.columns and block.width and table.height:
                out[:, self.slices[block.name]] = block.encode(table[block.name])
        return out

    def encode_row(self, values: Mapping[str, object]) -> Floats:
        """Return float32[width], equal to `encode` of a table of this one row.

        Cost: about a microsecond a column, more for texts.
        """
        out = np.zeros(self.width, np.float32)
        self.add_row(values, out)
        return out

    def add_row(self, values: Mapping[str, object], out: Floats) -> None:
        """Add what `encode_row` returns to float32[width], in place."""
        for name, block, where in self._used:
            value = values.get(name)
            if value is not None:
                block.add(value, out[where])

    def unmet(self, values: Mapping[str, object]) -> list[str]:
        """Return "name=value" for each value that says nothing: never met in learning, or of another type.

        Example:
            >>> encoding = learn_encoding(pl.DataFrame({"device": ["tv", "tv"]}), {"device": "category"})
            >>> encoding.unmet({"device": "phone"}), encoding.unmet({"device": "tv"})
            (['device=phone'], [])
        """
        given = {name: value for name, value in values.items() if value is not None and name in self.slices}
        return [f"{name}={value}" for name, value in given.items() if not self.encode_row({name: value}).any()]

    def check(self, values: Mapping[str, object], source: str) -> None:
        """Do nothing if each value has the kind that was learnt; one never met in learning is no error.

        Args:
            values: by column; what is not said is unknown.
            source: what the message calls them.

        Raises:
            ArgumentError: one has another kind.

        Example:
            >>> learn_encoding(pl.DataFrame({"age": [20, 40]}), {"age": "number"}).check({"age": "x"}, "profile")
            Traceback (most recent call last):
            ...
            segue.errors.ArgumentError: profile: column "age": expected number, 20 to 40, came "x". Leave it out.
        """
        for block in self.blocks:
            value = values.get(block.name)
            if is_present(value) and not block.reads(value):
                raise ArgumentError(
                    f'{source}: column "{plain_name(block.name)}": expected {block.describe()}, '
                    f'came "{str(value)[:40]}". Leave it out.'
                )

    @cached_property
    def _used(self) -> list[tuple[str, Block, slice]]:
        return [(block.name, block, self.slices[block.name]) for block in self.blocks if block.width]

    def describe(self) -> list[str]:
        """Return a line per column: its name, its kind, what became of it."""
        return [f"{plain_name(block.name)}: {block.describe()}" for block in self.blocks]

    def labels(self, values: Mapping[str, object]) -> list[str]:
        """Return the attributes of one row that count, in words: "genres Action", "year 1995".

        Texts and vectors have none, and neither has a value that was never met in learning.
        """
        return [label for block in self.blocks for label in block.labels(values.get(block.name))]

    def complaints(self, table: pl.DataFrame, by: str | None = None) -> list[str]:
        """Return a sentence for each column that is missing or whose values have another type than in learning.

        Args:
            table: the rows.
            by: the column that names a row, such as "item"; None counts the rows.

        Cost: O(rows), on the distinct values of each column.

        Example:
            >>> films = pl.DataFrame({"year": [1990, 2000]})
            >>> encoding = learn_encoding(films, {"year": "number"}, text="words")
            >>> encoding.complaints(pl.DataFrame({"year": ["nineteen", "2000"]}))  # doctest: +NORMALIZE_WHITESPACE
            ['column "year": expected number, 1990 to 2000, 1 of 2 values cannot be read so, the first is
            "nineteen" in row 1. They count as missing; correct them, or train again.']
        """
        found = (_complaint(block, table, by) for block in self.blocks if block.width)
        return [each for each in found if each is not None]

    def to_json(self) -> str:
        """Return all that was learnt as JSON; `from_json` of it is equal."""
        kept = {
            "format": _FORMAT,
            "text": None if self.text is None else self.text.kept(),
            "columns": [_kept(block) for block in self.blocks],
        }
        return json.dumps(kept, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Encoding":
        """Return the encoding that was written down; no package is imported and no folder opened.

        Raises:
            ModelError: it is not such JSON, or of a later format.
        """
        try:
            kept = plain.json_of(text)
            if kept["format"] != _FORMAT:
                raise ModelError(
                    f"encoding: expected format {_FORMAT}, came {kept['format']}. Update Segue to read this model."
                )
            encoder = None if kept["text"] is None else text_encoder_from(kept["text"])
            blocks = tuple(_block(column, encoder) for column in kept["columns"])
            plain.distinct([block.name for block in blocks], "columns")
            return cls(blocks, encoder)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ModelError(
                f"encoding: expected what Encoding.to_json wrote, came {text[:40]!r} ({error!r}). "
                "Take the model from its source again."
            ) from error


def learn_encoding(table: pl.DataFrame, kinds: Mapping[str, Kind], *, text: TextEncoder | str = "auto") -> Encoding:
    """Learn from a table how its columns become numbers.

    Args:
        table: the rows that may be learnt from: no held-out ones.
        kinds: column -> kind, as `kinds_of` returns; a column that is not named is left out.
        text: what encodes texts; a name makes an encoder learnt from all texts of the table.

    Raises:
        ColumnError: a column is not in the table.
        ArgumentError: see `text_encoder`.

    Cost: O(rows) for each column, and what encoding the texts costs.

    Example:
        >>> users = pl.DataFrame({"age": [20, 40, None], "device": ["tv", "tv", "phone"]})
        >>> encoding = learn_encoding(users, {"age": "number", "device": "category"})
        >>> encoding.encode(users).tolist()
        [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    absent = [name for name in kinds if name not in table.columns]
    if absent:
        raise ColumnError(
            f'attributes: expected a column "{absent[0]}", found {listed(table.columns)}. Take kinds_of(table) anew.'
        )
    encoder = None
    if "text" in kinds.values():
        encoder = text_encoder(text, texts_of(table, kinds)) if isinstance(text, str) else text
    return Encoding(tuple(_learnt(table[name], kind, encoder) for name, kind in kinds.items()), encoder)


def texts_of(table: pl.DataFrame, kinds: Mapping[str, Kind]) -> list[str]:
    """Return all texts of the columns of that kind, cleaned, without empty ones: what a `TextEncoder` learns from.

    Example:
        >>> texts_of(pl.DataFrame({"title": ["<b>Heat</b>", None]}), {"title": "text"})
        ['Heat']
    """
    columns = [table[name] for name, kind in kinds.items() if kind == "text"]
    return [text for column in columns for value in column.to_list() if (text := text_of(value))]


def _learnt(column: pl.Series, kind: Kind, encoder: TextEncoder | None) -> Block:
    if kind in ("number", "date"):
        return Numbers.learnt(column, kind)
    if kind in ("category", "categories"):
        return Categories.learnt(column, several=kind == "categories")
    if kind == "vector":
        return Vectors.learnt(column)
    if kind == "calendar":
        return Calendar.learnt(column)
    if kind == "text":
        assert encoder is not None
        return Texts(column.name, encoder)
    return Ignored(column.name, why_ignored(column))


def _kept(block: Block) -> dict[str, Any]:
    match block:
        case Numbers():
            return {"name": block.name, "kind": block.kind, "knots": list(block.knots)}
        case Categories():
            kind = "categories" if block.several else "category"
            return {"name": block.name, "kind": kind, "separator": block.separator, "values": list(block.words)}
        case Vectors():
            return {"name": block.name, "kind": "vector", "mean": list(block.mean)}
        case Calendar():
            return {"name": block.name, "kind": "calendar", "hours": block.hours, "days": block.days}
        case Ignored():
            return {"name": block.name, "kind": "ignored", "why": block.why}
        case _:
            return {"name": block.name, "kind": "text"}


def _block(kept: Mapping[str, Any], encoder: TextEncoder | None) -> Block:
    name, kind = plain.text(kept["name"], "a column", empty=True), kept["kind"]
    if kind in ("number", "date"):
        return Numbers(name, kind, plain.numbers(kept["knots"], f"knots of {name}", ascending=True))
    if kind in ("category", "categories"):
        separator = None if kept["separator"] is None else plain.text(kept["separator"], f"separator of {name}")
        return Categories(name, kind == "categories", separator, plain.texts(kept["values"], f"values of {name}"))
    if kind == "vector":
        return Vectors(name, plain.numbers(kept["mean"], f"mean of {name}"))
    if kind == "calendar":
        return Calendar(
            name, plain.truth(kept["hours"], f"hours of {name}"), plain.truth(kept["days"], f"days of {name}")
        )
    if kind == "ignored":
        return Ignored(name, plain.text(kept["why"], f"why {name} is ignored"))
    if encoder is None or kind != "text":
        raise ValueError(f"column {name} is of kind {kind}")
    return Texts(name, encoder)


def _complaint(block: Block, table: pl.DataFrame, by: str | None) -> str | None:
    start = f'column "{plain_name(block.name)}": expected {block.describe()}, '
    if block.name not in table.columns:
        return f"{start}found {listed(table.columns)}. It counts as missing; add or rename a column, or train again."
    values, which = distinct(table[block.name])
    there = np.array([is_present(value) for value in values], bool)
    wrong = np.array([present and not block.reads(v) for present, v in zip(there, values, strict=True)], bool)
    rows = np.flatnonzero(wrong[which]) if len(values) else np.zeros(0, int)
    if len(rows):
        shown = str(values[which[rows[0]]])[:40]
        where = f"in row {rows[0] + 1:,}" if by is None else f"of {by} {table[by][int(rows[0])]}"
        return (
            f"{start}{len(rows):,} of {int(there[which].sum()):,} values cannot be read so, the first is "
            f'"{shown}" {where}. They count as missing; correct them, or train again.'
        )
    if isinstance(block, Categories) and there.any() and not any(block.labels(value) for value in values):
        shown = str(next(value for value in values if is_present(value)))[:40]
        return f'{start}none of its values was met in learning, for example "{shown}". Write them as they were then.'
    return None
