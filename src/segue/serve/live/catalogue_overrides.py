"""What changed of the items since a model was trained: new ones, other attributes, out of stock, rules.

Knows: how such changes are kept in the store and laid over any model.
Does not know: which model runs.
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import asdict
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec
from weakref import WeakKeyDictionary

import msgspec
import polars as pl

from segue.data.features.catalogue import TITLES, table_of
from segue.data.log.columns import guess_column, plain_name
from segue.errors import ArgumentError, StoreError
from segue.recommend.changed_items import Changed, fitted_attributes
from segue.recommend.lists.item_filters import ItemFilters, Rule, in_stock, lay_out, lay_rules, rows_of
from segue.recommend.new_items import new_items
from segue.recommend.recommender import Recommender
from segue.store.base import ATTEMPTS, Store, version_of

P = ParamSpec("P")
logger = logging.getLogger("segue.serve")
_VALUE = "items"


class _Laid(NamedTuple):
    """What has been laid over a model: items added, attributes by item, and what came of them."""

    added: list[dict[str, Any]]
    attributes: Mapping[str, Mapping[str, Any]]
    changed: Changed


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
        self._laid: WeakKeyDictionary[Recommender, _Laid] = WeakKeyDictionary()
        self._ruled: WeakKeyDictionary[Recommender, tuple[tuple[Rule, ...], ItemFilters]] = WeakKeyDictionary()
        self.follow()

    def follow(self) -> None:
        """Take over what the store has."""
        value = self._store.get_value(_VALUE)
        kept, self._version = json.loads(value or b"{}"), version_of(value)
        self._added: list[dict[str, Any]] = kept.get("added", [])
        self._attributes: dict[str, dict[str, Any]] = kept.get("attributes", {})
        self._unavailable: list[str] = kept.get("unavailable", [])
        self._rules = tuple(Rule(**rule) for rule in kept.get("rules", []))
        self._shelves: WeakKeyDictionary[Recommender, ItemFilters] = WeakKeyDictionary()

    def applied(self, rec: Recommender) -> Recommender:
        """Return a model with all changes laid over it.

        Cost: O(items x width) where items were added since the last call; else that of what changed since.
        """
        found = self._applied(rec)
        lay_out(found)
        return found

    def _applied(self, rec: Recommender) -> Recommender:
        if not self._added and not self._attributes:
            return rec
        laid = self._laid.get(rec)
        if laid is None or laid.added != self._added or laid.attributes.keys() - self._attributes.keys():
            grown = self._grown(rec)
            laid = _Laid(self._added, {}, Changed(grown, grown))
        known, base = laid.attributes, laid.changed.base
        new = {
            item: said
            for item, said in self._attributes.items()
            if (old := known.get(item)) is not said and old != said
        }
        rows = {item: base.vocabulary.row(item) for item in new}  # another model may have been trained without it
        lines = {
            row: {**base.catalogue.line(row), **_kept(base, item, new[item])}
            for item, row in rows.items()
            if row and base.catalogue
        }
        self._laid[rec] = laid = _Laid(self._added, self._attributes, laid.changed.with_lines(lines))
        return laid.changed.rec

    def _grown(self, rec: Recommender) -> Recommender:
        """Return a model with the items added: another value, for what is laid over a model must not keep it."""
        if not self._added or rec.encoders.items is None:
            return copy(rec)
        lines = [{"item": line["item"]} | _kept(rec, line["item"], line) for line in self._added]
        return copy(rec.add_items(table_of(lines)))

    def overtaken(self) -> bool:
        """Return whether another replica has changed something; `follow` takes it over."""
        return self._store.value_version(_VALUE) != self._version

    def filters(self, rec: Recommender) -> ItemFilters:
        """Return what may be shown by a model."""
        shelves = self._shelves  # before what it is made of, which is changed first
        found = shelves.get(rec)
        if found is None:
            rules, ruled = self._ruled.get(rec, ((), ItemFilters()))
            if rules != self._rules:
                rules, ruled = self._ruled[rec] = self._rules, lay_rules(rec, self._rules)
            if rec.live is not None:  # an item that it has not met has no row to be left out by
                blocks = (rule.items for rule in self._rules if rule.kind == "block" and not rule.where)
                rec.live.hidden = frozenset().union(self._unavailable, *blocks)
            found = shelves[rec] = in_stock(rec, ruled, self._unavailable)
        return found

    def tried(self, rec: Recommender, rules: Sequence[Rule]) -> ItemFilters:
        """Return what may be shown by a model under other rules; nothing is kept.

        Raises:
            ArgumentError: a rule names an attribute that items do not have.
        """
        for rule in rules:
            rows_of(rec, rule)
        return in_stock(rec, lay_rules(rec, rules), self._unavailable)

    @_on_top
    def add_items(self, items: pl.DataFrame | Sequence[Mapping[str, Any]], rec: Recommender) -> None:
        """Keep new items. Raises as `Recommender.add_items`, before anything is kept.

        Args:
            items: a table, or lines of which each is checked alone, as a change of one item is.
            rec: the model.

        Raises:
            ArgumentError: there is no such attribute, too.
        """
        table = items if isinstance(items, pl.DataFrame) else _table(rec, items)
        new, known = new_items(rec, table), {line["item"] for line in self._added}
        fitted_attributes(rec, dict.fromkeys(new.unread))  # refuses the first that there is
        lines = [line for line in new.lines.to_dicts() if line["item"] not in known]
        if lines:
            self._keep(added=self._added + lines)

    @_on_top
    def change_item(self, rec: Recommender, item: str, available: bool | None, attributes: Mapping[str, Any]) -> None:
        """Keep a change of one item.

        Raises:
            ArgumentError: there is no such attribute, or a value is of another kind than was learnt.
        """
        fitted_attributes(rec, attributes)
        gone = [other for other in self._unavailable if other != item]
        if available is False or (available is None and item in self._unavailable):
            gone.append(item)
        merged = {**self._attributes.get(item, {}), **attributes}
        self._keep(unavailable=gone, attributes={**self._attributes, **({item: merged} if merged else {})})

    @_on_top
    def set_rules(self, rules: Sequence[Rule], rec: Recommender) -> None:
        """Keep the rules of the shop, in the order in which they are applied. Raises as `tried`."""
        self.tried(rec, rules)
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
        value = msgspec.json.encode(written, enc_hook=str)
        if not self._store.replace_value(_VALUE, self._version, value):
            raise _OvertakenError
        self._version = version_of(value)
        self._added, self._attributes, self._unavailable, self._rules = new.values()
        self._shelves = WeakKeyDictionary()


def _table(rec: Recommender, lines: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return lines of new items as a table in the types of the catalogue; of a known item nothing but its id.

    Raises:
        ArgumentError: there is no such attribute, or a value is of another kind than was learnt.
    """
    if rec.encoders.items is None or rec.catalogue is None:
        return pl.DataFrame({"item": [line["item"] for line in lines]})  # which is refused, for whatever they say
    missing = {word.strip() for word in rec.facts.get("reading", {}).get("missing", ())}
    fitted: list[dict[str, Any]] = []
    for line in lines:
        said = {name: None if _is_of(missing, value) else value for name, value in line.items() if name != "item"}
        title = None if "title" in said else guess_column([name for name in said if name not in rec.columns], TITLES)
        if title is not None:
            said["title"] = said.pop(title)
        try:
            fitted.append(fitted_attributes(rec, dict.fromkeys(said) if line["item"] in rec.vocabulary else said))
        except ArgumentError as error:
            raise ArgumentError(f'item "{line["item"]}": {error}') from None
    named = [column for column in rec.columns.values() if any(column.name in line for line in fitted)]
    ids = pl.Series("item", [line["item"] for line in lines], pl.String)
    return pl.DataFrame([ids, *(column.series(line.get(column.name) for line in fitted) for column in named)])


def _is_of(words: Collection[str], value: object) -> bool:
    return isinstance(value, str) and value.strip() in words


def _kept(rec: Recommender, item: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an item's attributes a model can say, by its columns; it may have been trained on others."""
    columns, found = rec.columns, {}
    for name, value in attributes.items():
        column = columns.get(plain_name(name))
        if column is not None:
            try:
                found[column.name] = column.cast(value)
            except ArgumentError as error:
                logger.error("item %s of model %s: %s", item, rec.fingerprint[:12], error)
    return found
