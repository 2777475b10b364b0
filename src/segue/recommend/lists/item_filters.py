"""Item filters and merchandising rules: what is in stock, pinned, blocked and boosted, by row of one model.

Knows: attributes, availability, rules. Does not know: users, scores, lists.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from segue.errors import ArgumentError
from segue.recommend.filters.binding import of_items_alone
from segue.recommend.filters.fields import Filter, Where
from segue.recommend.scorer import Scorer
from segue.shapes import Bools, Floats, Rows

logger = logging.getLogger("segue.serve")


@dataclass(frozen=True)
class Rule:
    """A merchandising rule.

    Args:
        kind: "pin" puts items first, "block" never shows them, "boost" adds `by` to their scores.
        where: a filter of items alone, or attribute -> value or values of which all must hold.
        items: ids; with `where` both must hold, empty means any.
        by: of a boost, in log-odds.
        name: as shown with debug.
    """

    kind: Literal["pin", "block", "boost"]
    where: Where = field(default_factory=dict)
    items: tuple[str, ...] = ()
    by: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.where, Filter):  # it is kept as JSON
            object.__setattr__(self, "where", str(self.where))


@dataclass(frozen=True, eq=False)
class ItemFilters:
    """What may be shown now, by row of one model.

    Args:
        rules: each with int32[n], ascending, the items that it is about.
        unavailable: how many items are out of stock.
        shown: bool[row], in stock and not blocked; None where all are.
        boosts: float32[row], added to the scores; None where nothing is.
        pins: int32[n], rows that come first.
        turns: int32[n], of each the first rule that pins it.
    """

    rules: tuple[tuple[Rule, Rows], ...] = ()
    unavailable: int = 0
    shown: Bools | None = None
    boosts: Floats | None = None
    pins: Rows = field(default_factory=lambda: np.zeros(0, np.int32))
    turns: Rows = field(default_factory=lambda: np.zeros(0, np.int32))

    @cached_property
    def classes(self) -> list[Bools] | None:
        """For each value of a boost, bool[row]: the items that have it. The best of each are the best of all."""
        return None if self.boosts is None else classes_of(self.boosts)

    def said(self, row: int) -> dict[str, Any]:
        """Return what the rules do to a row, for a list that is to say so."""
        return {rule.name or rule.kind: rule.by or True for rule, rows in self.rules if row in rows}


def classes_of(boosts: Floats) -> list[Bools]:
    """Return bool[row] for each value of float32[row]: the rows that have the value."""
    return [boosts == value for value in np.unique(boosts)]


def lay_rules(rec: Scorer, rules: Sequence[Rule]) -> ItemFilters:
    """Return what the rules let a model show. A rule of attributes that its items do not have is logged and left out.

    Cost: the items that each rule is about, and a few passes over all.
    """
    laid = []
    for rule in rules:
        try:
            laid.append((rule, rows_of(rec, rule)))
        except ArgumentError as error:
            logger.error("rule %s of model %s: %s", rule.name or rule.kind, rec.fingerprint[:12], error)
    shown = np.ones(rec.vocabulary.size, bool)
    boosts = np.zeros(rec.vocabulary.size, np.float32)
    turns = np.full(rec.vocabulary.size, len(laid), np.int32)
    for turn, (rule, rows) in enumerate(laid):
        if rule.kind == "block":
            shown[rows] = False
        elif rule.kind == "boost":
            boosts[rows] += np.float32(rule.by)
        else:
            turns[rows] = np.minimum(turns[rows], turn)
    pins = np.flatnonzero(turns < len(laid)).astype(np.int32)
    all_shown, none_boosted = bool(shown.all()), not boosts.any()
    return ItemFilters(
        tuple(laid), 0, None if all_shown else shown, None if none_boosted else boosts, pins, turns[pins]
    )


def in_stock(rec: Scorer, filters: ItemFilters, unavailable: Sequence[str]) -> ItemFilters:
    """Return filters without the items that are out of stock. Cost: O(these), and a pass over all."""
    gone = rec.vocabulary.rows(unavailable)
    gone = gone[gone > 0]
    if not len(gone):
        return filters
    shown = np.ones(rec.vocabulary.size, bool) if filters.shown is None else filters.shown.copy()
    shown[gone] = False
    return replace(filters, unavailable=len(gone), shown=shown)


def lay_out(rec: Scorer) -> None:
    """Lay out what filters, searches and lists read, before anybody waits for it. Cost: O(items), once."""
    rec.filters.lay_out()
    rec.vocabulary.lay_out()
    rec.fused.lay_out(table=rec.index is None)


def rows_of(rec: Scorer, rule: Rule) -> Rows:
    """Return int32[n], ascending and distinct: the items that a rule is about.

    Raises:
        ArgumentError: its filter names an attribute that items do not have, or what only a request knows.
    """
    found = Filter.of(rule.where)
    if found is not None:
        of_items_alone(found.tree, "a rule")
    passing = rec.filters.passing(found)
    if not rule.items:
        return np.flatnonzero(_every(rec) if passing is None else passing.mask).astype(np.int32)
    named = np.unique(rec.vocabulary.rows(rule.items)).astype(np.int32)
    rows: Rows = named[named > 0] if passing is None else named[passing.mask[named]]
    return rows


def reached(rec: Scorer, rules: Iterable[Rule]) -> list[tuple[Rule, int]]:
    """Return each rule with the number of items that it is about; 0 where its attributes are of another model."""
    found = []
    for rule in rules:
        try:
            found.append((rule, len(rows_of(rec, rule))))
        except ArgumentError:
            found.append((rule, 0))
    return found


def _every(rec: Scorer) -> Bools:
    every = np.ones(rec.vocabulary.size, bool)
    every[0] = False
    return every
