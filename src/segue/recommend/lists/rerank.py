"""From scores to a list: merchandising rules, then diversity or chance; `debug` says what each rule did.

Knows: pins, boosts, MMR, draws by chance and how likely each was.
Does not know: states, stores, HTTP. Runs after `candidates` has scored and hidden.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from segue.recommend.lists.candidates import ListQuery, Scored, list_query, score
from segue.recommend.lists.item_filters import ItemFilters
from segue.recommend.lists.options import ListOptions, RankedList
from segue.recommend.scorer import Scorer
from segue.recommend.state import State
from segue.shapes import Floats


def rerank(
    rec: Scorer,
    filters: ItemFilters,
    queries: Sequence[ListQuery],
    scored: Scored,
) -> list[RankedList]:
    """Return the list of each query.

    Args:
        rec: the model.
        filters: what may be shown.
        queries: the lists that are wanted, in rows.
        scored: the scores of each query, changed in place.

    Cost: O(items scored), and O(k^2 x width) with diversity.
    """
    if not queries:
        return []
    if filters.boosts is not None:
        scored.add(filters.boosts)
    for n, one in enumerate(queries):
        if one.added is not None:
            scored.add_to(n, one.added)
    best = scored.best(max(one.places for one in queries))
    pinned = [_pinned(filters, scored, n) if len(filters.pins) else {} for n in range(len(queries))]
    return [_list(rec, filters, *one) for one in zip(queries, best, pinned, strict=True)]


def list_of(rec: Scorer, state: State, options: ListOptions) -> RankedList:
    """Return the list of one user, of all items; see `Recommender.recommend`."""
    filters = ItemFilters()
    query = list_query(rec, state, options, filters)
    return rerank(rec, filters, [query], score(rec, filters, [query]))[0]


def _list(
    rec: Scorer,
    filters: ItemFilters,
    query: ListQuery,
    best: tuple[list[int], list[float]],
    pinned: dict[int, float],
) -> RankedList:
    options = query.options
    chosen, scores = best[0][: query.places], best[1][: query.places]
    chances: list[float] | None = None
    if pinned or query.places > options.k:
        chosen, scores, chances = _arranged(rec, query, chosen, scores, pinned)
    items = rec._items(chosen, scores)
    debug: dict[str, Any] | None = None
    if options.debug:
        debug = {item.item: filters.said(row) for item, row in zip(items, chosen, strict=True)}
        if query.added is not None:
            for item, row in zip(items, chosen, strict=True):
                debug[item.item] |= {"added": float(query.added[row])} if query.added[row] else {}
    notes = (*query.notes, *_too_few(rec, query, len(items)))
    return RankedList(items, notes, query.unknown, debug, None if chances is None else tuple(chances))


def _too_few(rec: Scorer, query: ListQuery, count: int) -> list[str]:
    """Return why a list that a filter or candidates narrow has fewer items than were wanted."""
    k, left = query.options.k, query.left
    if left is None or count >= k:
        return []
    if left < k:
        return [f"where and candidates leave {left:,} item{'s' * (left != 1)} of {len(rec.vocabulary):,}; k is {k}."]
    return [f"the list has {count:,} of {k:,} items: the others that pass are seen, excluded or out of stock."]


def _arranged(
    rec: Scorer, query: ListQuery, pool: list[int], scores: list[float], pinned: dict[int, float]
) -> tuple[list[int], list[float], list[float] | None]:
    """Return the rows of a list, their scores, and how likely each was at its place where chance had a part.

    What is pinned comes first, then the best, varied as the options say.
    """
    options = query.options
    worth = dict(zip(pool, scores, strict=True)) | pinned
    chosen = list(pinned)[: options.k]
    chances = [1.0] * len(chosen) if options.explore or options.temperature else None
    if options.diversity:
        pool = _diverse(rec, pool, np.array(scores, np.float32), options.k, options.diversity)
    free = [row for row in pool if row not in pinned] if pinned else pool
    more, left = free, options.k - len(chosen)
    if chances is not None:
        drawn = (
            plackett_luce([worth[row] / options.temperature for row in free], left, chance(query))
            if options.temperature
            else _explored(len(free), left, options.explore, chance(query))
        )
        more = [free[place] for place, _ in drawn]
        chances += [likely for _, likely in drawn]
    chosen += more[:left]
    return chosen, [worth[row] for row in chosen], chances


def _pinned(filters: ItemFilters, scored: Scored, place: int) -> dict[int, float]:
    """Return the rows that come first with their scores, by the order of the rules, then best first."""
    scores = scored.of(place, filters.pins)
    order = np.lexsort((-scores, filters.turns))
    return {int(filters.pins[n]): float(scores[n]) for n in order if scores[n] > -np.inf}


def _diverse(rec: Scorer, pool: list[int], scores: Floats, k: int, share: float) -> list[int]:
    """Return the pool reordered by maximal marginal relevance (Carbonell and Goldstein, 1998), the first k."""
    vectors = rec.params.items[pool]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    relevance = scores - scores.max(initial=-np.inf)
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


def chance(query: ListQuery) -> np.random.Generator:
    """Return the generator of a query's draws: the same for the same query, another for another user.

    Its seed is made of the model, the user, and the seed of the options. Without a seed the id of the list takes its
    place, and without an id the number of the user's events, so that every event draws anew.
    """
    seed, named = query.options.seed, query.options.list_id
    drawn = f"count {query.state.count}" if named is None else f"list {named}"
    drawn = drawn if seed is None else f"seed {seed}"
    key = query.state.model.encode()[:64]
    return np.random.default_rng(int.from_bytes(blake2b(drawn.encode() + b"\0" + query.who, key=key).digest()))


def plackett_luce(logits: Sequence[float], k: int, rng: np.random.Generator) -> list[tuple[int, float]]:
    """Return k of some items in the order drawn, each with its probability given the draws before it.

    Each place is drawn from the items that are left, an item with a probability in proportion to `exp(logit)`
    (Plackett, 1975; Luce, 1959). The k highest of the logits with Gumbel noise are such a draw (Kool et al., 2019).

    Args:
        logits: of all items.
        k: how many to draw; fewer come back where there are fewer.
        rng: of the noise.

    Cost: O(items log items).

    Example:
        >>> plackett_luce([0.0, -800.0], 2, np.random.default_rng(0))
        [(0, 1.0), (1, 1.0)]
    """
    values = np.asarray(logits, np.float64)
    order = np.argsort(-(values + rng.gumbel(size=len(values))), kind="stable")
    ordered = values[order]
    left = np.logaddexp.accumulate(ordered[::-1])[::-1]  # log of the sum over this item and all behind it
    return list(zip(order[:k].tolist(), np.exp(ordered - left)[:k].tolist(), strict=True))


def _explored(count: int, k: int, share: float, rng: np.random.Generator) -> list[tuple[int, float]]:
    """Return places in a pool: the first k, each with a chance of `share` replaced by one drawn from the others.

    Beside each stands its probability given the places before it.
    """
    places, others = list(range(min(k, count))), np.arange(min(k, count), count)
    replaced = [rng.random() < share for _ in places]
    spare = rng.permutation(others).tolist() if any(replaced) else []
    found: list[tuple[int, float]] = []
    used = 0
    for place, drawn in zip(places, replaced, strict=True):
        left = len(others) - used
        if drawn and left:
            found.append((spare[used], share / left))
            used += 1
        else:
            found.append((place, 1 - share if left else 1.0))
    return found
