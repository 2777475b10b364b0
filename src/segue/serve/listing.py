"""From scores to a list: filters, then rules, then diversity and exploration, each told when asked.

Knows: attributes, availability, business rules, MMR. Runs after the network has scored.
Does not know: states, stores, HTTP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from segue.data.attributes import plain_name
from segue.data.blocks import Categories
from segue.errors import ArgumentError
from segue.recommend.recommender import Item, Recommender
from segue.recommend.state import State
from segue.serve.answers import Answer, Question
from segue.shapes import Bools, Floats, Rows


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
    """What may be shown now.

    Args:
        unavailable: int32[n], rows out of stock.
        rules: in the order in which they are applied.
    """

    unavailable: Rows = field(default_factory=lambda: np.zeros(0, np.int32))
    rules: tuple[Rule, ...] = ()


def make_answer(
    rec: Recommender, state: State, scores: Floats, question: Question, shelf: Shelf, unknown: Sequence[str] = ()
) -> Answer:
    """Return the list of a question.

    Args:
        rec: the bundle.
        state: of the user.
        scores: float32[row], changed in place.
        question: what is wanted.
        shelf: what may be shown.
        unknown: ids to tell as unknown.

    Raises:
        ArgumentError: a filter or rule names an attribute that items do not have.

    Cost: O(items), and O(k^2 x width) with diversity.
    """
    debug: dict[str, dict[str, Any]] = {}
    hide(rec, state, scores, question, shelf)
    pinned = _apply_rules(rec, scores, shelf.rules, debug if question.debug else None)
    k = question.k
    pool = _top(scores, k if not (question.diversity or question.explore) else 11 * k + 20)
    if question.diversity:
        pool = _diverse(rec, pool, scores, k, question.diversity)
    chosen = [row for row in pinned if scores[row] > -np.inf][:k]
    chosen += [row for row in pool if row not in set(chosen)][: k - len(chosen)]
    if question.explore:
        _explore(chosen, pool, len(pinned), question, state.count, debug)
    items = [_item(rec, row, float(scores[row])) for row in chosen]
    shown = {item.item: debug.get(item.item, {}) for item in items} if question.debug else None
    return Answer(items, list(dict.fromkeys(unknown)), rec.fingerprint, state.count, debug=shown)


def hide(rec: Recommender, state: State, scores: Floats, question: Question, shelf: Shelf) -> None:
    """Set the score of what may not be shown to -inf, in place."""
    scores[0] = -np.inf
    scores[shelf.unavailable] = -np.inf
    scores[rec.vocabulary.rows(question.exclude)] = -np.inf
    if (question.repeats or rec.repeats) == "exclude":
        scores[state.seen.to_rows()] = -np.inf
    if question.where:
        scores[~rows_where(rec, question.where)] = -np.inf


def rows_where(rec: Recommender, where: Mapping[str, Any]) -> Bools:
    """Return bool[row], true for items whose attributes are as asked; a list of values asks for any of them.

    Raises:
        ArgumentError: there is no such attribute.
    """
    known = rec.catalogue.table.columns if rec.catalogue else []
    names = {plain_name(name): name for name in known}
    mask = np.ones(rec.vocabulary.size, bool)
    mask[0] = False
    for name, wanted in where.items():
        column = name if name in known else names.get(plain_name(name))
        if column is None or rec.catalogue is None:
            raise ArgumentError(
                f'where: expected an attribute of the items ({", ".join(known) or "there are none"}), came "{name}". '
                "Filter by one of these."
            )
        values = {str(value) for value in (wanted if isinstance(wanted, (list, tuple)) else [wanted])}
        mask[1:] &= _has(rec, column, values)
    return mask


def _has(rec: Recommender, column: str, values: set[str]) -> Bools:
    assert rec.catalogue is not None
    cells = rec.catalogue.table[column].to_list()
    blocks = rec.encodings.items.blocks if rec.encodings.items else ()
    block = next((block for block in blocks if block.name == column), None)
    if isinstance(block, Categories) and block.several:
        mark = block.separator

        def parts(cell: object) -> list[str]:
            return [str(one) for one in cell] if isinstance(cell, list) else str(cell).split(mark)

        return np.array([cell is not None and any(p.strip() in values for p in parts(cell)) for cell in cells], bool)
    return np.array([cell is not None and str(cell) in values for cell in cells], bool)


def _apply_rules(
    rec: Recommender, scores: Floats, rules: Sequence[Rule], debug: dict[str, dict[str, Any]] | None
) -> list[int]:
    """Block and boost in place; return the rows to pin, best first."""
    pinned: list[int] = []
    for rule in rules:
        mask = rows_where(rec, rule.where)
        if rule.items:
            named = np.zeros(len(mask), bool)
            named[rec.vocabulary.rows(rule.items)] = True
            mask &= named
        rows = np.flatnonzero(mask & (scores > -np.inf))
        if rule.kind == "block":
            scores[rows] = -np.inf
        elif rule.kind == "boost":
            scores[rows] += np.float32(rule.by)
        else:
            pinned += sorted((int(row) for row in rows), key=lambda row: -float(scores[row]))
        if debug is not None:
            for row in rows:
                debug.setdefault(rec.vocabulary.id(int(row)), {})[rule.name or rule.kind] = rule.by or True
    return pinned


def _top(scores: Floats, count: int) -> list[int]:
    """Return the rows of the highest scores, best first, of equals the lowest row; -inf is left out.

    The best `count` lie in the `count` blocks with the highest maxima, so that most rows are looked at once.
    """
    block = max(1, int((len(scores) / (4 * count)) ** 0.5))
    whole = len(scores) // block * block
    if block > 1 and whole > 4 * count * block:
        tops = scores[:whole].reshape(-1, block).max(axis=1)
        edge = np.partition(tops, len(tops) - count)[len(tops) - count]
        blocks = np.flatnonzero(tops >= edge)  # all blocks that tie with the last
        rows = (blocks[:, None] * block + np.arange(block)).ravel()
        rows = np.concatenate([rows, np.arange(whole, len(scores))])
    else:
        rows = np.arange(len(scores))
    some = scores[rows]
    if len(rows) > count:
        edge = np.partition(some, len(some) - count)[len(some) - count]
        rows, some = rows[some >= edge], some[some >= edge]
    best = np.lexsort((rows, -some))[:count]
    return [int(row) for row, score in zip(rows[best], some[best], strict=True) if score > -np.inf]


def _diverse(rec: Recommender, pool: list[int], scores: Floats, k: int, share: float) -> list[int]:
    """Return the pool reordered by maximal marginal relevance (Carbonell and Goldstein, 1998), the first k."""
    vectors = rec.params.items[pool]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    relevance = scores[pool] - scores[pool].max(initial=0.0)
    relevance = relevance / max(float(-relevance.min(initial=0.0)), 1e-9)
    nearest, left, chosen = np.full(len(pool), -1.0), np.ones(len(pool), bool), []
    for _ in range(min(k, len(pool))):
        worth = (1 - share) * relevance - share * np.maximum(nearest, 0.0)
        best = int(np.argmax(np.where(left, worth, -np.inf)))
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    rest = [place for place in range(len(pool)) if left[place]]
    return [pool[place] for place in (*chosen, *rest)]


def _explore(
    chosen: list[int], pool: list[int], pinned: int, question: Question, count: int, debug: dict[str, dict[str, Any]]
) -> None:
    """Give some places of a list, the last first, to items drawn from those below it, in place."""
    rng = np.random.default_rng(count if question.seed is None else question.seed)
    others = [row for row in pool if row not in set(chosen)]
    places = [place for place in range(min(pinned, len(chosen)), len(chosen)) if rng.random() < question.explore]
    for place, row in zip(places, rng.permutation(others)[: len(places)] if others else [], strict=False):
        chosen[place] = int(row)


def _item(rec: Recommender, row: int, score: float) -> Item:
    return rec._item(row, score)
