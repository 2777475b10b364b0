"""What changed of the items since a bundle was trained: new ones, other attributes, out of stock, rules.

Knows: how such changes are kept in the store and laid over any bundle.
Does not know: which bundle runs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from weakref import WeakKeyDictionary

import polars as pl

from segue.data.attributes import plain_name
from segue.data.catalogue import Catalogue, read_items
from segue.data.described import as_learnt
from segue.errors import ArgumentError
from segue.recommend.recommender import Recommender
from segue.serve.shelf import Rule, Shelf, make_shelf
from segue.serve.store import Store

_VALUE = "items"


class Changes:
    """The changes of a store. Not safe for several writers at a time: the service calls it under its lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        kept = json.loads(store.get_value(_VALUE) or b"{}")
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

    def shelf(self, rec: Recommender) -> Shelf:
        """Return what may be shown by a bundle."""
        shelves = self._shelves  # before what it is made of, which is changed first
        found = shelves.get(rec)
        if found is None:
            found = shelves[rec] = make_shelf(rec, self._unavailable, self._rules)
        return found

    def add_items(self, table: pl.DataFrame, rec: Recommender) -> None:
        """Keep new items. Raises as `Recommender.add_items`, before anything is kept."""
        rec.add_items(table)
        named, _, _ = read_items(table)
        known = {line["item"] for line in self._added}
        new = named.filter(~pl.col("item").is_in(rec.vocabulary.ids.implode()))
        self._keep(added=self._added + [line for line in new.to_dicts() if line["item"] not in known])

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
        self._store.put_value(_VALUE, json.dumps(written, default=str).encode())
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
