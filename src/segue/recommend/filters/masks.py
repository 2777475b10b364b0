"""From a filter to the items that pass it; the last masks are kept."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from segue.data.features.catalogue import Catalogue
from segue.data.features.column_types import Column
from segue.data.log.columns import plain_name
from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import nearest
from segue.recommend.filters.binding import FilterColumn, Known, bind, columns_for_filters, holds
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
    Term,
)
from segue.recommend.filters.fields import Filter, Where
from segue.shapes import Bools, Rows

K = TypeVar("K")
V = TypeVar("V")
#: Bytes of masks, and texts of filters, that are kept.
KEPT, TEXTS = 1 << 25, 1_000
#: Values of a column among which the one that was meant is looked for.
_LIKE = 2_000
_NUMBERS = ("number", "date", "duration")


@dataclass(frozen=True, eq=False)
class Passing:
    """The items that pass a filter.

    Args:
        mask: bool[row], not to be changed; row 0 is false.
        count: how many pass.
        notes: what of the filter is not known, or that no item has, in sentences.
        unknown: ids of candidates that the model does not know.
    """

    mask: Bools
    count: int
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class FilterMasks:
    """The filters over the items of one model. Safe for several threads.

    Args:
        vocabulary: the ids of the items.
        catalogue: their attributes, if there are any.
        columns: of the catalogue, by plain name.

    Example:
        >>> import polars as pl
        >>> films = pl.DataFrame({"item": ["a", "b", "c"], "title": None, "price": [9, 25, None]})
        >>> from segue.data.features.column_types import columns_of
        >>> ids = Vocabulary(films["item"])
        >>> masks = FilterMasks(ids, Catalogue(films), columns_of({"price": pl.Int64()}, ()))
        >>> [masks.passing(text).count for text in ("price < 20", "not price < 20", "price is missing")]
        [1, 2, 1]
    """

    def __init__(self, vocabulary: Vocabulary, catalogue: Catalogue | None, columns: Mapping[str, Column]) -> None:
        self.columns = columns_for_filters(columns)
        self._vocabulary, self._catalogue = vocabulary, catalogue
        self._kinds = {column.name: column for column in self.columns.values()}
        self._texts: _Latest[str, Filter | None] = _Latest(TEXTS)
        self._masks: _Latest[Condition, Passing] = _Latest(max(4, min(TEXTS, KEPT // vocabulary.size)))

    def check(self, where: Where, known: Known | None = None) -> None:
        """Do nothing if a filter fits the columns; see `binding.bind` for what it raises. Finds no items."""
        found = self._read(where)
        if found is not None:
            bind(found.tree, self.columns, known)

    def passing(self, where: Where, known: Known | None = None) -> Passing | None:
        """Return the items that pass a filter; None where there is no filter.

        Args:
            where: the filter.
            known: what the request knows; None for a filter of items alone.

        Raises:
            ArgumentError: see `binding.bind`.

        Cost: a look-up where the filter was used lately with the same values; else a few passes over the items, and
        O(items) once for each column.
        """
        found = self._read(where)
        if found is None:
            return None
        condition, notes = bind(found.tree, self.columns, known or Known(0))
        passing = self._masks.get(condition, lambda: self._found(condition))
        return Passing(passing.mask, passing.count, (*notes, *passing.notes)) if notes else passing

    def lay_out(self) -> None:
        """Read the columns of numbers and of categories before the first request. Cost: O(items) for each, once."""
        if self._catalogue is None:
            return
        columns = self._kinds.values()
        self._catalogue.lay_out([(one.name, _reader(one)) for one in columns if one.kind in _NUMBERS])
        for one in columns:
            if one.shared:
                self._catalogue.postings(one.name, several=one.kind == "words", separator=one.separator)

    def _read(self, where: Where) -> Filter | None:
        return self._texts.get(where, lambda: Filter.of(where)) if isinstance(where, str) else Filter.of(where)

    def _found(self, condition: Condition) -> Passing:
        notes: list[str] = []
        mask = self._mask(condition, notes).copy()
        mask[0] = False
        mask.flags.writeable = False
        return Passing(mask, int(np.count_nonzero(mask)), tuple(notes))

    def _mask(self, node: Condition, notes: list[str]) -> Bools:
        """Return bool[row] of a bound condition; row 0 means nothing."""
        match node:
            case AllOf() | AnyOf():
                join = np.logical_and if isinstance(node, AllOf) else np.logical_or
                joined = np.full(self._vocabulary.size, isinstance(node, AllOf))
                for part in node.of:
                    join(joined, self._mask(part, notes), out=joined)
                return joined
            case Negation():
                negated: Bools = ~self._mask(node.of, notes)
                return negated
            case Absent():
                if self._catalogue is None or node.of.name == "item":
                    return np.zeros(self._vocabulary.size, bool)
                absent: Bools = np.isnan(self._catalogue.numbers(node.of.name, "present"))
                return absent
            case Compare():
                compared: Bools = np.broadcast_to(
                    holds(node.operator, self._values(node.left), self._values(node.right)), self._vocabulary.size
                )
                return compared
            case Among(left=Field(name=name), values=tuple(values)) if self._kinds[name].kind in ("word", "words"):
                return self._having(self._kinds[name], [str(each) for each in _constants(values)], notes)
            case Among(values=tuple(values)):
                among: Bools = np.isin(self._values(node.left), _constants(values))
                return among
        raise TypeError(f"expected a bound condition, came {node}")

    def _values(self, term: Term) -> Any:
        """Return float64[row], or one number, of a bound term."""
        if isinstance(term, Constant):
            return term.value
        if isinstance(term, Field):
            return self._numbers(self._kinds[term.name])
        assert isinstance(term, Arithmetic)
        left, right = self._values(term.left), self._values(term.right)
        with np.errstate(all="ignore"):  # a quotient by zero is missing
            if term.operator == "/":
                quotient = np.true_divide(left, right)
                return np.where(np.isfinite(quotient), quotient, np.nan)
            return left + right if term.operator == "+" else left - right if term.operator == "-" else left * right

    def _numbers(self, column: FilterColumn) -> NDArray[np.float64]:
        assert self._catalogue is not None
        return self._catalogue.numbers(column.name, _reader(column))

    def _having(self, column: FilterColumn, keys: Iterable[str], notes: list[str]) -> Bools:
        """Return which items have one of some values, and note each value that no item has."""
        lists: list[Rows] = []
        for key in keys:
            rows = self._rows(column, key)
            if not len(rows):
                notes.append(self._unmet(column, key))
            lists.append(rows)
        found = np.zeros(self._vocabulary.size, bool)
        for rows in lists:
            found[rows] = True
        return found

    def _rows(self, column: FilterColumn, key: str) -> Rows:
        if column.name == "item" or self._catalogue is None:
            rows: Rows = self._vocabulary.rows([key])
            return rows[rows > 0]
        several = column.kind == "words"
        return self._catalogue.postings(column.name, several=several, separator=column.separator).find([key])

    def _unmet(self, column: FilterColumn, key: str) -> str:
        like = None
        if column.name != "item" and self._catalogue is not None:
            several = column.kind == "words"
            codes = self._catalogue.postings(column.name, several=several, separator=column.separator).codes
            like = nearest(key, codes) if len(codes) <= _LIKE else None
        return f'no item has {plain_name(column.name)} "{key[:60]}"' + (f'; did you mean "{like}"?' if like else ".")


@dataclass
class _Latest(Generic[K, V]):
    """The values that were used last, by key."""

    most: int
    kept: OrderedDict[K, V] = field(default_factory=OrderedDict)
    lock: Any = field(default_factory=Lock)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key, which is made if it is not here; two threads may both make it."""
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
        value = make()
        with self.lock:
            self.kept[key] = value
            while len(self.kept) > self.most:
                self.kept.popitem(last=False)
        return value


def _reader(column: FilterColumn) -> str:
    """Return how `Catalogue.numbers` reads a column of numbers."""
    return "date" if column.kind == "date" else "number"


def _constants(values: Iterable[Term]) -> list[Any]:
    return [each.value for each in values if isinstance(each, Constant)]
