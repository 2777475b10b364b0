"""Checks a filter against the columns of a catalogue, and puts in what the request knows.

Of a tree that is bound, the fields are columns of items, and each constant has the kind of what it stands beside:
numbers for numbers, seconds since 1970 for dates, texts for categories. What compares with a missing value is false.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

import polars as pl

from segue.data.features.column_encoders import Categories
from segue.data.features.column_types import Column
from segue.data.features.numeric import Numbers, Vectors
from segue.data.log.columns import plain_name
from segue.data.values.parsing import number_of, plain_value, word, words_of
from segue.data.values.times import moment_of
from segue.errors import listed, nearest
from segue.recommend.filters.expressions import (
    Absent,
    AllOf,
    Among,
    AnyOf,
    Arithmetic,
    Compare,
    Condition,
    Constant,
    Field,
    Negation,
    Now,
    Term,
    parts_of,
    plain,
)
from segue.recommend.filters.parser import wrong

Kind: TypeAlias = Literal["number", "date", "duration", "word", "words", "value", "nothing"]
NEVER, ALWAYS = AnyOf(()), AllOf(())
_MINUTE = 60_000_000
#: The kind of a sum, difference, product or quotient.
_RESULTS: Mapping[tuple[str, ...], Kind] = {
    **{(operator, "number", "number"): "number" for operator in "+-*/"},
    **{(operator, "duration", "duration"): "duration" for operator in "+-"},
    **{(operator, "date", "duration"): "date" for operator in "+-"},
    **{(operator, "duration", "number"): "duration" for operator in "*/"},
    ("+", "duration", "date"): "date",
    ("-", "date", "date"): "duration",
    ("*", "number", "duration"): "duration",
    ("/", "duration", "duration"): "number",
}
_NAMES = {"number": "a number", "date": "a date", "duration": "a duration such as 90d"}
_KINDS = {**_NAMES, "word": "a category", "words": "categories", "value": "a value", "nothing": "vectors"}


class FilterColumn(NamedTuple):
    """A column as filters read it.

    Args:
        name: in the catalogue.
        kind: of its values: "number", "date", "duration", "word", "words" (several); "nothing" can be missing alone.
        separator: between the values of a text of several.
        shared: whether many items share a value, so that the rows of each value are worth an index from the start.
    """

    name: str
    kind: Kind
    separator: str | None = None
    shared: bool = False


@dataclass(frozen=True)
class Known:
    """What a request knows, for the names in its filter.

    Args:
        now: microseconds since 1970.
        profile: of the user, by column.
        params: by name.
        current: the row of the item being looked at by column; empty where nothing is known of it; None for no item.
    """

    now: int
    profile: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    current: Mapping[str, Any] | None = None


class _Bound(NamedTuple):
    """A term: its kind, and what is there of it. All three are None of a value that is missing, or not known yet."""

    kind: Kind
    term: Term | None = None
    several: tuple[Constant, ...] | None = None

    @property
    def constants(self) -> tuple[Constant, ...]:
        """The values, where they are known."""
        return (self.term,) if isinstance(self.term, Constant) else self.several or ()

    @property
    def column(self) -> Field | None:
        """The column of items that this is."""
        return self.term if isinstance(self.term, Field) else None


def columns_for_filters(columns: Mapping[str, Column]) -> dict[str, FilterColumn]:
    """Return the columns of a catalogue by their plain names, as filters read them; `item` is the id."""
    return {"item": FilterColumn("item", "word")} | {name: _as_filtered(column) for name, column in columns.items()}


def _as_filtered(column: Column) -> FilterColumn:
    encoder, kind, name = column.encoder, column.type, column.name
    inner: Any = getattr(kind, "inner", None)
    if isinstance(encoder, Numbers):
        return FilterColumn(name, "date" if encoder.kind == "date" else "duration" if kind == pl.Duration else "number")
    if isinstance(encoder, Categories) and (encoder.several or not kind.is_numeric()):
        return FilterColumn(name, "words" if encoder.several else "word", encoder.separator, shared=True)
    if isinstance(encoder, Vectors) or kind.base_type() in (pl.Struct, pl.Object, pl.Binary):
        return FilterColumn(name, "nothing")
    if inner is not None:
        return FilterColumn(name, "nothing" if inner.is_numeric() else "words")
    if kind.base_type() in (pl.Date, pl.Datetime):
        return FilterColumn(name, "date")
    return FilterColumn(name, "duration" if kind == pl.Duration else "number" if kind.is_numeric() else "word")


def bind(tree: Condition, columns: Mapping[str, FilterColumn], known: Known | None) -> tuple[Condition, list[str]]:
    """Return a filter of columns and constants alone, and notes on what is not known.

    Args:
        tree: of the filter.
        columns: of the items, by plain name.
        known: what the request knows; None checks the filter alone, as when it is stored.

    Raises:
        ArgumentError: a column does not exist, kinds do not fit, or the request lacks a parameter or the current item;
            the message has the position.

    Cost: O(parts of the filter).
    """
    binder = _Binder(columns, known)
    return binder.condition(tree), list(dict.fromkeys(binder.notes))


def of_items_alone(tree: Condition, what: str) -> None:
    """Do nothing if a filter reads items alone, so that it holds for every request.

    Raises:
        ArgumentError: it names the user, the current item, a parameter or the time.
    """
    for node in parts_of(tree):
        if isinstance(node, Now) or (isinstance(node, Field) and node.scope != "item"):
            wrong(node.at, f"columns of items alone in {what}", f'"{node}"', "Put it into the filter of a request.")


def of_all_users(tree: Condition) -> None:
    """Do nothing if a filter is the same for all users.

    Raises:
        ArgumentError: it names the user or the current item.
    """
    for node in parts_of(tree):
        if isinstance(node, Field) and node.scope in ("user", "current"):
            wrong(node.at, "a filter that is the same for all users", f'"{node}"', "Use columns and parameters.")


class _Binder:
    """Binds one filter."""

    def __init__(self, columns: Mapping[str, FilterColumn], known: Known | None) -> None:
        self._columns, self._known = columns, known
        self.notes: list[str] = []

    def condition(self, node: Condition) -> Condition:
        """Return a condition, bound."""
        match node:
            case AllOf():
                return AllOf(tuple(map(self.condition, node.of)))
            case AnyOf():
                return AnyOf(tuple(map(self.condition, node.of)))
            case Negation():
                return Negation(self.condition(node.of))
            case Absent():
                return self._absent(node)
            case Among():
                return self._among(node)
            case _:
                return self._compared(node)

    # --- terms ------------------------------------------------------------------------------------------------

    def _term(self, node: Term) -> _Bound:
        match node:
            case Constant():
                is_duration = isinstance(node.value, timedelta)
                return _Bound("duration" if is_duration else "value", _seconds(node) if is_duration else node)
            case Now():
                now = None if self._known is None else float(self._known.now // _MINUTE * 60)
                return _Bound("date", None if now is None else Constant(now))
            case Field(scope="item"):
                column = self._column(node)
                return _Bound(column.kind, Field("item", column.name))
            case Field(scope="current"):
                return self._current(node)
            case Field():
                return self._given(node)
            case _:
                return self._calculated(node)

    def _column(self, node: Field) -> FilterColumn:
        found = self._columns.get(node.name) or self._columns.get(plain_name(node.name))
        if found is None:
            known = [name for name in self._columns if name != "item"]
            like = nearest(node.name, known)
            wrong(
                node.at,
                f"an attribute of the items ({listed(known) or 'there are none'})",
                f'"{node.name}"',
                f'Did you mean "{like}"?' if like else "Filter by one of these.",
            )
        return found

    def _current(self, node: Field) -> _Bound:
        column = self._column(node)
        if self._known is None:
            return _Bound(column.kind)
        if self._known.current is None:
            wrong(node.at, f"the item being looked at, for {node}", "none", "Give current, the id of the item.")
        cell = self._known.current.get(column.name)
        if column.kind == "words":
            values = tuple(map(Constant, words_of(cell, column.separator)))
            return _Bound("words", None, values or None)
        value = _read(column.kind, cell)
        if value is None:
            self.notes.append(f"{node} is missing: what compares with it is false.")
        return _Bound(column.kind, None if value is None else Constant(value))

    def _given(self, node: Field) -> _Bound:
        if self._known is None:
            return _Bound("value")
        source, name = (self._known.params if node.scope == "$" else self._known.profile), node.name
        if node.scope == "$" and name not in source:
            wrong(node.at, f"a parameter {name}", "none", f'Give params, such as {{"{name}": 20}}.')
        value = plain_value(source.get(name, {plain_name(key): each for key, each in source.items()}.get(name)))
        if isinstance(value, list | tuple | set | frozenset):
            constants = tuple(Constant(each, node.at) for one in value if (each := plain(plain_value(one))) is not None)
            return _Bound("value", None, constants)
        if (single := plain(value)) is None:
            self.notes.append(f"{node} is not known: what compares with it is false.")
            return _Bound("value")
        return self._term(Constant(single, node.at))

    def _calculated(self, node: Arithmetic) -> _Bound:
        left, right = self._term(node.left), self._term(node.right)
        if any(side.kind == "value" and not side.constants for side in (left, right)):
            return _Bound("value")
        kinds = tuple("number" if side.kind == "value" else side.kind for side in (left, right))
        kind = _RESULTS.get((node.operator, *kinds))
        if kind is None:
            wrong(
                node.at,
                "numbers, or a date and a duration",
                f"{_called(node.left, left)} {node.operator} {_called(node.right, right)}",
            )
        sides = [
            self._as(side, of, each)
            for side, of, each in zip((left, right), kinds, (node.left, node.right), strict=True)
        ]
        a, b = sides
        if a is None or b is None:
            return _Bound(kind)
        if isinstance(a, Constant) and isinstance(b, Constant):
            value = _folded(node.operator, float(a.value), float(b.value))  # type: ignore[arg-type]
            return _Bound(kind, None if value is None else Constant(value))
        return _Bound(kind, Arithmetic(node.operator, a, b))

    def _as(self, side: _Bound, kind: Kind, node: Term) -> Term | None:
        """Return a side of a number-like kind; None where it is missing."""
        if side.several is not None:
            wrong(node.at, _NAMES[kind], f"several values of {node}", "Compare several values with in.")
        if side.kind != "value":
            if side.kind != kind:
                self._unfit(node, side, kind)
            return side.term
        return None if side.term is None else self._coerced(side.constants[0], kind)

    def _coerced(self, constant: Constant, kind: Kind) -> Constant:
        value = None if isinstance(constant.value, bool) else _read(kind, constant.value)
        if value is None:
            wrong(constant.at, _NAMES[kind], str(constant)[:60])
        return Constant(value)

    def _unfit(self, node: Term, side: _Bound, kind: Kind) -> NoReturn:
        wrong(node.at, _NAMES.get(kind, "a text"), _called(node, side))

    # --- conditions -------------------------------------------------------------------------------------------

    def _absent(self, node: Absent) -> Condition:
        if node.of.scope == "item":
            return Absent(Field("item", self._column(node.of).name))
        before = len(self.notes)
        bound = self._term(node.of)
        del self.notes[before:]
        return ALWAYS if bound.term is None and not bound.several else NEVER

    def _compared(self, node: Compare) -> Condition:
        left, right, operator = self._term(node.left), self._term(node.right), node.operator
        if "nothing" in (left.kind, right.kind):
            wrong(node.at, "a column of numbers, dates or categories", "vectors", "Write is missing.")
        if left.kind in ("word", "words") or right.kind in ("word", "words"):
            return self._equal(node, left, right)
        kind = next((side.kind for side in (left, right) if side.kind != "value"), None)
        if kind is None:
            return self._of_values(node, left, right)
        a, b = self._as(left, kind, node.left), self._as(right, kind, node.right)
        if a is None or b is None:
            return NEVER
        if isinstance(a, Constant) and isinstance(b, Constant):
            return _truth(holds(operator, a.value, b.value))
        return Compare(operator, a, b)

    def _equal(self, node: Compare, left: _Bound, right: _Bound) -> Condition:
        """Return an equation in which one side holds texts."""
        if node.operator not in ("=", "!="):
            text = left if left.kind in ("word", "words") else right
            name = node.left if text is left else node.right
            wrong(node.at, f"=, != or in after the category {name}", node.operator, "Numbers and dates have an order.")
        found = self._one_of(node.left, left, right, node.at) or self._one_of(node.right, right, left, node.at)
        if found is None:
            same = {key_of(each.value) for each in left.constants} & {key_of(each.value) for each in right.constants}
            known = bool(left.constants and right.constants)
            return _truth(known and bool(same) == (node.operator == "="))
        if node.operator == "=" or found is NEVER or isinstance(found, AnyOf):
            return found
        return AllOf((Negation(Absent(found.left)), Negation(found)))  # type: ignore[union-attr, arg-type]

    def _one_of(self, node: Term, column: _Bound, values: _Bound, at: int) -> Condition | None:
        """Return whether a column of texts has one of some values; None where this is no such column."""
        if column.column is None:
            return None
        if values.kind not in ("value", "word", "words") or values.column is not None:
            wrong(at, f"a value to compare the category {node} with", _KINDS[values.kind], 'Write genre = "Comedy".')
        keys = tuple(dict.fromkeys(Constant(key_of(each.value)) for each in values.constants))
        return Among(column.column, keys) if keys else NEVER

    def _of_values(self, node: Compare, left: _Bound, right: _Bound) -> Condition:
        """Return what a comparison of known values says."""
        if not left.constants or not right.constants:
            return NEVER
        sides: list[Any] = [number_of(side.constants[0].value) for side in (left, right)]
        if None in sides and node.operator in ("=", "!="):
            sides = [word(side.constants[0].value) for side in (left, right)]
        if None in sides:
            self._coerced((left if sides[0] is None else right).constants[0], "number")
        return _truth(holds(node.operator, *sides))

    def _among(self, node: Among) -> Condition:
        left = self._term(node.left)
        if isinstance(node.values, Field) and node.values.scope == "item":
            of = self._term(node.values)
            return self._equal(Compare("=", node.values, node.left, node.at), of, left)
        several = (node.values,) if isinstance(node.values, Field) else node.values
        bound = [(each, self._term(each)) for each in several]
        if any(side.column for _, side in bound) or left.kind == "nothing":
            wrong(node.at, "values after in", "a column", 'Write genre in ("Drama", "Comedy").')
        kind = left.kind
        if kind in ("number", "date", "duration"):
            values = [
                self._coerced(each, kind) if side.kind == "value" else each
                for _, side in bound
                for each in side.constants
            ]
            for part, side in bound:
                if side.kind not in ("value", kind):
                    self._unfit(part, side, kind)
            if left.term is None or not values:
                return NEVER
            if isinstance(left.term, Constant):
                return _truth(left.term.value in {each.value for each in values})
            return Among(left.term, tuple(dict.fromkeys(values)))
        keys = tuple(dict.fromkeys(key_of(each.value) for _, side in bound for each in side.constants))
        if left.column is None:
            return _truth(bool({key_of(each.value) for each in left.constants} & set(keys)))
        return Among(left.column, tuple(map(Constant, keys))) if keys else NEVER


def holds(operator: str, a: Any, b: Any) -> Any:
    """Return whether numbers, texts or arrays of numbers compare so; NaN compares with nothing."""
    match operator:
        case "=":
            return a == b
        case "<":
            return a < b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case ">=":
            return a >= b
    return (a < b) | (a > b)


def _folded(operator: str, a: float, b: float) -> float | None:
    if operator == "/":
        return a / b if b else None
    return a + b if operator == "+" else a - b if operator == "-" else a * b


def _seconds(constant: Constant) -> Constant:
    assert isinstance(constant.value, timedelta)
    return Constant(constant.value.total_seconds(), constant.at)


def _read(kind: Kind, value: Any) -> float | str | None:
    """Return a value as a kind reads it."""
    return moment_of(value) if kind == "date" else word(value) if kind == "word" else number_of(value)


def key_of(value: Any) -> str:
    """Return the text under which a value of a category is found."""
    return word(value) or str(value)


def _called(node: Term, side: _Bound) -> str:
    return f"{node} ({_KINDS[side.kind]})"


def _truth(value: Any) -> Condition:
    return ALWAYS if value else NEVER
