"""What a shop shows: what is in stock, and its rules, laid over the rows of one bundle.

Knows: attributes, availability, rules. Does not know: users, scores, lists.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from segue.data.attributes import plain_name
from segue.data.blocks import Categories
from segue.data.lookup import keys_of
from segue.errors import ArgumentError
from segue.recommend.recommender import Recommender
from segue.shapes import Bools, Floats, Rows

logger = logging.getLogger("segue.serve")


@dataclass(frozen=True)
class Rule:
    """What the shop wants of a list.

    Args:
        kind: "pin" puts items first, "block" never shows them, "boost" adds `by` to their scores.
        where: attribute -> value or values; all must hold.
        items: ids; with `where` both must hold, empty means any.
        by: of a boost, in log-odds.
        name: as shown with debug.
    """

    kind: Literal["pin", "block", "boost"]
    where: Mapping[str, Any] = field(default_factory=dict)
    items: tuple[str, ...] = ()
    by: float = 0.0
    name: str = ""


@dataclass(frozen=True, eq=False)
class Shelf:
    """What may be shown now, by row of one bundle.

    Args:
        rules: each with bool[row], the items that it is about.
        unavailable: how many items are out of stock.
        shown: bool[row], in stock and not blocked; None where all are.
        boosts: float32[row], added to the scores; None where nothing is.
        pins: int32[n], rows that come first.
        turns: int32[n], of each the first rule that pins it.
    """

    rules: tuple[tuple[Rule, Bools], ...] = ()
    unavailable: int = 0
    shown: Bools | None = None
    boosts: Floats | None = None
    pins: Rows = field(default_factory=lambda: np.zeros(0, np.int32))
    turns: Rows = field(default_factory=lambda: np.zeros(0, np.int32))

    @cached_property
    def classes(self) -> list[Bools] | None:
        """For each value of a boost, bool[row]: the items that have it. The best of each are the best of all."""
        return None if self.boosts is None else [self.boosts == value for value in np.unique(self.boosts)]

    def said(self, row: int) -> dict[str, Any]:
        """Return what the rules do to a row, for a list that is to say so."""
        return {rule.name or rule.kind: rule.by or True for rule, mask in self.rules if mask[row]}


def make_shelf(rec: Recommender, unavailable: Sequence[str], rules: Sequence[Rule]) -> Shelf:
    """Return what a bundle may show. A rule of attributes that its items do not have is logged and left out.

    Cost: O(items) for each rule.
    """
    laid = []
    for rule in rules:
        try:
            laid.append((rule, rows_of(rec, rule)))
        except ArgumentError as error:
            logger.error("rule %s of bundle %s: %s", rule.name or rule.kind, rec.fingerprint[:12], error)
    gone = rec.vocabulary.rows(unavailable)
    gone = gone[gone > 0]
    hidden = np.zeros(rec.vocabulary.size, bool)
    hidden[gone] = True
    boosts = np.zeros(rec.vocabulary.size, np.float32)
    turns = np.full(rec.vocabulary.size, len(laid), np.int32)
    for turn, (rule, mask) in enumerate(laid):
        if rule.kind == "block":
            hidden |= mask
        elif rule.kind == "boost":
            boosts[mask] += np.float32(rule.by)
        else:
            turns[mask] = np.minimum(turns[mask], turn)
    pins = np.flatnonzero(turns < len(laid)).astype(np.int32)
    return Shelf(
        tuple(laid),
        len(gone),
        ~hidden if hidden.any() else None,
        boosts if boosts.any() else None,
        pins,
        turns[pins],
    )


def rows_of(rec: Recommender, rule: Rule) -> Bools:
    """Return bool[row], true for the items that a rule is about.

    Raises:
        ArgumentError: it names an attribute that items do not have.
    """
    mask = rows_where(rec, rule.where)
    if rule.items:
        named = np.zeros(len(mask), bool)
        named[rec.vocabulary.rows(rule.items)] = True
        mask &= named
    return mask


def rows_where(rec: Recommender, where: Mapping[str, Any]) -> Bools:
    """Return bool[row], true for items whose attributes are as asked; a list of values asks for any of them.

    Raises:
        ArgumentError: there is no such attribute.

    Cost: the items that have the values, and a pass over bool[row]; O(items) once for each attribute.
    """
    known: Mapping[str, Any] = rec.catalogue.schema if rec.catalogue else {}
    names = {plain_name(name): name for name in known}
    mask = np.ones(rec.vocabulary.size, bool)
    mask[0] = False
    for name, wanted in where.items():
        column = name if name in known else names.get(plain_name(name))
        if column is None:
            raise ArgumentError(
                f'where: expected an attribute of the items ({", ".join(known) or "there are none"}), came "{name}". '
                "Filter by one of these."
            )
        mask &= _having(rec, column, wanted)
    return mask


def _having(rec: Recommender, column: str, wanted: Any) -> Bools:
    assert rec.catalogue is not None
    blocks = rec.encodings.items.blocks if rec.encodings.items else ()
    block = next((block for block in blocks if block.name == column), None)
    several = isinstance(block, Categories) and block.several
    separator = block.separator if isinstance(block, Categories) and several else None
    postings = rec.catalogue.postings(column, several=several, separator=separator)
    keys = set[str]().union(*(keys_of(value) for value in (wanted if isinstance(wanted, (list, tuple)) else [wanted])))
    found = np.zeros(rec.vocabulary.size, bool)
    found[postings.find(keys)] = True
    return found
