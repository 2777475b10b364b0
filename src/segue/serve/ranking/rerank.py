"""From scores to a list: rules, then diversity and exploration, each told when asked.

Knows: pins, boosts, MMR. Runs after the network has scored and filters have hidden (`scores`).
Does not know: states, stores, HTTP.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from segue.recommend.recommender import Recommender
from segue.serve.ranking.candidates import Asked, Scored
from segue.serve.ranking.item_filters import Shelf
from segue.serve.ranking.types import Answer
from segue.shapes import Floats


def make_answers(
    rec: Recommender, shelf: Shelf, asked: Sequence[Asked], scored: Scored, unknown: Sequence[Sequence[str]]
) -> list[Answer]:
    """Return the list of each question.

    Args:
        rec: the model.
        shelf: what may be shown.
        asked: the questions.
        scored: of them, changed in place.
        unknown: for each the ids to tell as unknown.

    Cost: O(items scored), and O(k^2 x width) with diversity.
    """
    if not asked:
        return []
    if shelf.boosts is not None:
        scored.add(shelf.boosts)
    best = scored.best(max(one.places for one in asked))
    pinned = [_pinned(shelf, scored, n) if len(shelf.pins) else {} for n in range(len(asked))]
    return [_answer(rec, shelf, *one) for one in zip(asked, best, pinned, unknown, strict=True)]


def _answer(
    rec: Recommender,
    shelf: Shelf,
    asked: Asked,
    best: tuple[list[int], list[float]],
    pinned: dict[int, float],
    unknown: Sequence[str],
) -> Answer:
    options, state = asked.options, asked.state
    chosen, scores = best[0][: asked.places], best[1][: asked.places]
    if pinned or asked.places > options.k:
        chosen, scores = _arranged(rec, asked, chosen, scores, pinned)
    items = rec._items(chosen, scores)
    debug: dict[str, Any] | None = None
    if options.debug:
        debug = {item.item: shelf.said(row) for item, row in zip(items, chosen, strict=True)}
    return Answer(items, list(dict.fromkeys(unknown)), rec.fingerprint, state.count, debug=debug)


def _arranged(
    rec: Recommender, asked: Asked, pool: list[int], scores: list[float], pinned: dict[int, float]
) -> tuple[list[int], list[float]]:
    """Return the rows of a list and their scores: what is pinned, then the best, varied as the question says."""
    options = asked.options
    worth = dict(zip(pool, scores, strict=True)) | pinned
    if options.diversity:
        pool = _diverse(rec, pool, np.array(scores, np.float32), options.k, options.diversity)
    chosen = list(pinned)[: options.k]
    chosen += [row for row in pool if row not in pinned][: options.k - len(chosen)]
    if options.explore:
        _explore(chosen, pool, len(pinned), options.explore, chance(asked))
    return chosen, [worth[row] for row in chosen]


def _pinned(shelf: Shelf, scored: Scored, options: int) -> dict[int, float]:
    """Return the rows that come first with their scores, by the order of the rules, then best first."""
    scores = scored.of(options, shelf.pins)
    order = np.lexsort((-scores, shelf.turns))
    return {int(shelf.pins[n]): float(scores[n]) for n in order if scores[n] > -np.inf}


def _diverse(rec: Recommender, pool: list[int], scores: Floats, k: int, share: float) -> list[int]:
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


def chance(asked: Asked) -> np.random.Generator:
    """Return what is drawn by for a question: the same again for the same question, another for another user.

    It is of the model, who asks, and the seed of the question, or the number of events of the user without one; so
    every event draws anew.
    """
    seed = asked.options.seed
    drawn = f"count {asked.state.count}" if seed is None else f"seed {seed}"
    key = asked.state.model.encode()[:64]
    return np.random.default_rng(int.from_bytes(blake2b(drawn.encode() + b"\0" + asked.who, key=key).digest()))


def _explore(chosen: list[int], pool: list[int], pinned: int, share: float, rng: np.random.Generator) -> None:
    """Give some places of a list, the last first, to items drawn from those below it, in place."""
    others = [row for row in pool if row not in set(chosen)]
    places = [place for place in range(min(pinned, len(chosen)), len(chosen)) if rng.random() < share]
    for place, row in zip(places, rng.permutation(others)[: len(places)] if others else [], strict=False):
        chosen[place] = int(row)
