"""Filters as Python objects: `F.genre == "Comedy"` is the filter that `genre = "Comedy"` writes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from segue.errors import ArgumentError
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
    Scope,
    Term,
    plain,
)
from segue.recommend.filters.parser import parse


@dataclass(frozen=True)
class Filter:
    """A condition that items must meet; `&`, `|` and `~` join and turn conditions, `str` writes one.

    Example:
        >>> comedy = (F.genre == "Comedy") & ~F.tag.isin(["adult", "trailer"])
        >>> print(comedy | (F.price <= F.current.price * 1.2))
        (genre = "Comedy" and not tag in ("adult", "trailer")) or price <= (current.price * 1.2)
        >>> Filter.of(str(comedy)) == comedy
        True
    """

    tree: Condition

    @classmethod
    def of(cls, where: "Where") -> "Filter | None":
        """Return the filter that a text, or names and values, stand for; None for nothing.

        Raises:
            ArgumentError: the text is no filter, a value is no text, truth value, number, duration or date.
        """
        if where is None or isinstance(where, Filter):
            return where
        if isinstance(where, str):
            return cls(parse(where)) if where.strip() else None
        if not isinstance(where, Mapping):
            raise ArgumentError(
                f"where: expected a text, a filter made with F, or column -> value, came {type(where).__name__}. "
                "Write where='genre = \"Comedy\"'."
            )
        parts = tuple(_among(Field("item", name), value) for name, value in where.items())
        return cls(parts[0] if len(parts) == 1 else AllOf(parts)) if parts else None

    def __str__(self) -> str:
        return str(self.tree)

    def __and__(self, other: "Filter") -> "Filter":
        return Filter(AllOf(_parts(AllOf, self, other)))

    def __or__(self, other: "Filter") -> "Filter":
        return Filter(AnyOf(_parts(AnyOf, self, other)))

    def __invert__(self) -> "Filter":
        return Filter(Negation(self.tree))

    def __bool__(self) -> bool:
        raise TypeError("a filter has no truth value: join filters with &, | and ~ in place of and, or and not")


#: What a filter may be given as: a text, Python objects, column -> value or values, or nothing.
Where: TypeAlias = Filter | str | Mapping[str, Any] | None


class FilterTerm:
    """A value of a filter: comparisons give a `Filter`, arithmetic gives a value.

    Args:
        node: of the tree.
    """

    __slots__ = ("node",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, node: Term) -> None:
        self.node = node

    def __eq__(self, other: object) -> Filter:  # type: ignore[override]
        return self._compared("=", other)

    def __ne__(self, other: object) -> Filter:  # type: ignore[override]
        return self._compared("!=", other)

    def __lt__(self, other: object) -> Filter:
        return self._compared("<", other)

    def __le__(self, other: object) -> Filter:
        return self._compared("<=", other)

    def __gt__(self, other: object) -> Filter:
        return self._compared(">", other)

    def __ge__(self, other: object) -> Filter:
        return self._compared(">=", other)

    def __add__(self, other: object) -> "FilterTerm":
        return FilterTerm(Arithmetic("+", self.node, _term(other)))

    def __sub__(self, other: object) -> "FilterTerm":
        return FilterTerm(Arithmetic("-", self.node, _term(other)))

    def __mul__(self, other: object) -> "FilterTerm":
        return FilterTerm(Arithmetic("*", self.node, _term(other)))

    def __truediv__(self, other: object) -> "FilterTerm":
        return FilterTerm(Arithmetic("/", self.node, _term(other)))

    def __radd__(self, other: object) -> "FilterTerm":
        return FilterTerm(Arithmetic("+", _term(other), self.node))

    def __rsub__(self, other: object) -> "FilterTerm":
        return FilterTerm(Arithmetic("-", _term(other), self.node))

    def __rmul__(self, other: object) -> "FilterTerm":
        return FilterTerm(Arithmetic("*", _term(other), self.node))

    def isin(self, values: "Iterable[object] | FilterTerm") -> Filter:
        """Return whether it is one of some values, or of a field that holds several."""
        if isinstance(values, FilterTerm):
            if isinstance(values.node, Field):
                return Filter(Among(self.node, values.node))
            raise ArgumentError(f"isin: expected values or a field, came {values.node}. Give a list.")
        return Filter(_among(self.node, values if isinstance(values, str | bytes) else list(values)))

    def is_missing(self) -> Filter:
        """Return whether it has no value."""
        if not isinstance(self.node, Field):
            raise ArgumentError(f"is_missing: expected a field, came {self.node}. Write F.price.is_missing().")
        return Filter(Absent(self.node))

    def __repr__(self) -> str:
        return f"F({self.node})"

    def _compared(self, operator: str, other: object) -> Filter:
        return Filter(Compare(operator, self.node, _term(other)))


@dataclass(frozen=True, repr=False)
class FieldsOf:
    """Makes the fields of a scope: `F.price` or `F["price"]` of items, `F.user.country`, `F.current.price`."""

    scope: Scope = "item"

    def __getitem__(self, name: str) -> FilterTerm:
        return FilterTerm(Field(self.scope, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.scope == "item" and name in ("user", "current"):
            return FieldsOf("user" if name == "user" else "current")
        return self[name]

    @staticmethod
    def now() -> FilterTerm:
        """Return the time of the request, to the minute."""
        return FilterTerm(Now())

    @staticmethod
    def param(name: str) -> FilterTerm:
        """Return a parameter, `$name` in the language."""
        return FilterTerm(Field("$", name))


F = FieldsOf()


def _parts(kind: type[AllOf] | type[AnyOf], *filters: Filter) -> tuple[Condition, ...]:
    return tuple(part for each in filters for part in (each.tree.of if isinstance(each.tree, kind) else (each.tree,)))


def _term(value: object) -> Term:
    if isinstance(value, FilterTerm):
        return value.node
    found = plain(value)
    if found is None:
        raise ArgumentError(
            f"where: expected a text, true or false, a number, a date or a timedelta, came {type(value).__name__}. "
            "For several values write F.genre.isin([...]), for none F.genre.is_missing()."
        )
    return Constant(found)


def _among(left: Term | Field, value: Any) -> Condition:
    if isinstance(value, list | tuple | set | frozenset):
        return Among(left, tuple(_term(each) for each in value))
    return Compare("=", left, _term(value))
