"""The tree of a filter, and how it is written."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal, TypeAlias

Value: TypeAlias = str | bool | int | float | timedelta
Scope: TypeAlias = Literal["item", "user", "current", "$"]

#: Words of the language; a column of such a name stands in backticks.
KEYWORDS = frozenset({"and", "or", "not", "in", "is", "missing", "true", "false"})
#: Units of durations, in seconds, the largest first.
UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "min": 60, "s": 1}


@dataclass(frozen=True)
class Constant:
    """A text, a truth value, a number or a duration.

    Args:
        value: itself.
        at: where it stands in the text of its filter, from 1; 0 where there is no text. So for all parts of a tree.
    """

    value: Value
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        if isinstance(self.value, bool):
            return str(self.value).lower()
        if isinstance(self.value, timedelta):
            seconds = self.value.total_seconds()
            unit = next((unit for unit, size in UNITS.items() if seconds % size == 0), "s")
            return f"{seconds / UNITS[unit]:.15g}{unit}"
        if isinstance(self.value, str):
            return '"' + self.value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return repr(self.value)


@dataclass(frozen=True)
class Field:
    """A column of the items, of the user's profile, of the item being looked at; or a parameter."""

    scope: Scope
    name: str
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        plain = self.name.isidentifier() and self.name.lower() not in KEYWORDS
        plain = plain and not (self.scope == "item" and self.name == "now")
        name = self.name if plain else f"`{self.name}`"
        return name if self.scope == "item" else f"${name}" if self.scope == "$" else f"{self.scope}.{name}"


@dataclass(frozen=True)
class Now:
    """The time of the request, to the minute."""

    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return "now()"


@dataclass(frozen=True)
class Arithmetic:
    """A sum, a difference, a product or a quotient."""

    operator: str
    left: "Term"
    right: "Term"
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"({self.left} {self.operator} {self.right})"


@dataclass(frozen=True)
class Compare:
    """Two terms, compared by `=`, `!=`, `<`, `<=`, `>` or `>=`."""

    operator: str
    left: "Term"
    right: "Term"
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True)
class Among:
    """Whether a term is one of some values, or of a field that holds several."""

    left: "Term"
    values: "tuple[Term, ...] | Field"
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        several = f"({', '.join(map(str, self.values))})" if isinstance(self.values, tuple) else str(self.values)
        return f"{self.left} in {several}"


@dataclass(frozen=True)
class Absent:
    """Whether a field has no value."""

    of: Field
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.of} is missing"


@dataclass(frozen=True)
class Negation:
    """What does not hold."""

    of: "Condition"
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"not {_inside(self.of)}"


@dataclass(frozen=True)
class AllOf:
    """Conditions that all hold; of none, what always holds."""

    of: "tuple[Condition, ...]"
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return " and ".join(map(_inside, self.of))


@dataclass(frozen=True)
class AnyOf:
    """Conditions of which one holds."""

    of: "tuple[Condition, ...]"
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return " or ".join(map(_inside, self.of))


Term: TypeAlias = Constant | Field | Now | Arithmetic
Condition: TypeAlias = Compare | Among | Absent | Negation | AllOf | AnyOf
Node: TypeAlias = Term | Condition


def _inside(condition: Condition) -> str:
    return f"({condition})" if isinstance(condition, AllOf | AnyOf) else str(condition)


def parts_of(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes in it."""
    yield node
    match node:
        case Arithmetic() | Compare():
            inner: tuple[Node, ...] = (node.left, node.right)
        case Among():
            inner = (node.left, *(node.values if isinstance(node.values, tuple) else (node.values,)))
        case Absent() | Negation():
            inner = (node.of,)
        case AllOf() | AnyOf():
            inner = node.of
        case _:
            inner = ()
    for each in inner:
        yield from parts_of(each)


def plain(value: object) -> Value | None:
    """Return what a constant may hold for a Python value; None where there is none.

    Example:
        >>> plain(date(2024, 1, 31)), plain(3), plain([1])
        ('2024-01-31', 3, None)
    """
    if isinstance(value, str | bool | int | float | timedelta):
        return value
    return value.isoformat() if isinstance(value, date | datetime) else None
