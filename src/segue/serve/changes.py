"""What changed of the items since a bundle was trained: new ones, other attributes, out of stock, rules.

Knows: how such changes are kept in the store and laid over any bundle.
Does not know: which bundle runs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from weakref import WeakKeyDictionary

import polars as pl

from segue.data.attributes import plain_name
from segue.data.catalogue import Catalogue, read_items
from segue.data.described import as_learnt
from segue.errors import ArgumentError, StoreError
from segue.recommend.recommender import Recommender
from segue.serve.shelf import Rule, Shelf, make_shelf
from segue.serve.store import ATTEMPTS, Store, version_of

P = ParamSpec("P")
_VALUE = "items"


class _OvertakenError(Exception):
    """Another replica changed something meanwhile."""


def _on_top(change: Callable[Concatenate["Changes", P], None]) -> Callable[Concatenate["Changes", P], None]:
    """Make a change again on top of that of another replica, where that came first."""

    @wraps(change)
    def made(self: "Changes", /, *args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(ATTEMPTS):
            try:
                return change(self, *args, **kwargs)
            except _OvertakenError:
                self.follow()
        raise StoreError("items: expected to keep a change, other replicas were faster each time. Send it again.")

    return made


class Changes:
    """The changes of a store. Not safe for several writers at a time: the service calls it under its lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.follow()

    def follow(self) -> None:
        """Take over what the store has."""
        value = self._store.get_value(_VALUE)
        kept, self._version = json.loads(value or b"{}"), version_of(value)
        self._added: list[dict[str, Any]] = kept.get("added", [])
        self._attributes: dict[str, dict[str, Any]] = kept.get("attributes", {})
        self._unavailable: list[str] = kept.get("unavailable", [])
        self._rules = tuple(Rule(**rule) for rule in kept.get("rules", []))
        self._shelves: WeakKeyDictionary[Recommender, Shelf] = WeakKeyDictionary()

    def applied(self, rec: Recommender) -> Recommender:
        """Return a bundle with all changes laid over it. Cost: O(items x width)."""
        if self._added and rec.encodings.items is not None:
            rec = rec.add_items(pl.DataFrame(self._added, infer_schema_length=None, strict=False))
        columns = _columns(rec)
        for item, attributes in self._attributes.items():
            if item in rec.vocabulary:  # another bundle may have been trained without this item or attribute
                known = {name: value for name, value in attributes.items() if plain_name(name) in columns}
                rec = with_attributes(rec, item, known)
        return rec

    def overtaken(self) -> bool:
        """Return whether another replica has changed something; `follow` takes it over."""
        return self._store.value_version(_VALUE) != self._version

    def shelf(self, rec: Recommender) -> Shelf:
        """Return what may be shown by a bundle."""
        shelves = self._shelves  # before what it is made of, which is changed first
        found = shelves.get(rec)
        if found is None:
            found = shelves[rec] = make_shelf(rec, self._unavailable, self._rules)
        return found

    @_on_top
    def add_items(self, table: pl.DataFrame, rec: Recommender) -> None:
        """Keep new items. Raises as `Recommender.add_items`, before anything is kept."""
        rec.add_items(table)
        named, _, _ = read_items(table)
        known = {line["item"] for line in self._added}
        new = named.filter(~pl.col("item").is_in(rec.vocabulary.ids.implode()))
        self._keep(added=self._added + [line for line in new.to_dicts() if line["item"] not in known])

    @_on_top
    def change_item(self, rec: Recommender, item: str, available: bool | None, attributes: Mapping[str, Any]) -> None:
        """Keep a change of one item.

        Raises:
            ArgumentError: there is no such attribute.
        """
        if attributes:
            with_attributes(rec, item, attributes)
        gone = [other for other in self._unavailable if other != item]
        if available is False or (available is None and item in self._unavailable):
            gone.append(item)
        merged = {**self._attributes.get(item, {}), **attributes}
        self._keep(unavailable=gone, attributes={**self._attributes, **({item: merged} if merged else {})})

    @_on_top
    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Keep the rules of the shop, in the order in which they are applied."""
        self._keep(rules=tuple(rules))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of the shop."""
        return self._rules

    def _keep(self, **changed: Any) -> None:
        new = {
            "added": self._added,
            "attributes": self._attributes,
            "unavailable": self._unavailable,
            "rules": self._rules,
        } | changed
        written = new | {"rules": [asdict(rule) for rule in new["rules"]]}
        value = json.dumps(written, default=str).encode()
        if not self._store.replace_value(_VALUE, self._version, value):
            raise _OvertakenError
        self._version = version_of(value)
        self._added, self._attributes, self._unavailable, self._rules = new.values()
        self._shelves = WeakKeyDictionary()


def with_attributes(rec: Recommender, item: str, attributes: Mapping[str, Any]) -> Recommender:
    """Return a bundle in which one item has other attributes; what was learnt of it alone stays.

    Raises:
        ArgumentError: there is no such attribute.
    """
    columns = _columns(rec)
    for name in attributes:
        if plain_name(name) not in columns:
            raise ArgumentError(
                f'attributes: expected columns among {", ".join(columns) or "none"}, came "{name}". Leave it out.'
            )
    if rec.catalogue is None or not attributes:
        return rec
    row, table = rec.vocabulary.row(item), rec.catalogue.table
    old = table.row(row - 1, named=True)
    new = old | {columns[plain_name(name)]: value for name, value in attributes.items()}
    line = pl.DataFrame([new], schema=table.schema, strict=False)
    catalogue = Catalogue(pl.concat([table[: row - 1], line, table[row:]]), rec.catalogue.notes)
    params = rec.params
    if rec.encodings.items is not None:
        encoded = [as_learnt(rec.encodings.items.encode_row(one)) for one in (old, new)]
        change, (items, bias) = encoded[1] - encoded[0], (params.items.copy(), params.bias.copy())
        items[row] += change @ params.attributes.vector
        bias[row] += change @ params.attributes.bias
        params = params._replace(items=items, bias=bias)
    changed = replace(rec, catalogue=catalogue, params=params)
    if rec.index is None:
        return changed
    return changed.with_index(rec.index.over(params.items, params.bias, changed.unreachable))


def _columns(rec: Recommender) -> dict[str, str]:
    """Return the attributes of items, by their plain names."""
    columns = {} if rec.catalogue is None else {plain_name(name): name for name in rec.catalogue.table.columns}
    columns.pop("item", None)
    return columns
