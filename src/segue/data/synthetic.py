"""Shops with a known best score, to learn whether a model learns.

Knows: how each log is drawn and what the best possible model would score on it.
Does not know: any model. The same seed gives the same log.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shop:
    """A made log.

    Args:
        events: columns user, item, time (seconds).
        best: the highest hit rate at 1 that any model can expect on a user's next item, once the context
            is long enough to know it.
        transitions: float64[item, item], of a Markov shop.
        catalogue: columns item, title, genres, where the shop has one.
    """

    events: pl.DataFrame
    best: float
    transitions: NDArray[np.float64] | None = None
    catalogue: pl.DataFrame | None = None


def ring(*, items: int = 20, users: int = 200, length: int = 12, seed: int = 0) -> Shop:
    """Return a shop where after item i comes i + 1, and after the last the first. Best: 1.

    Example:
        >>> ring(items=3, users=1, length=4).events["item"].to_list()
        ['i2', 'i0', 'i1', 'i2']
    """
    start = np.random.default_rng(seed).integers(0, items, users)
    return Shop(_events((start[:, None] + np.arange(length)) % items), best=1.0)


def markov(*, items: int = 30, users: int = 400, length: int = 40, concentration: float = 0.1, seed: int = 0) -> Shop:
    """Return a shop whose next item depends on the last one alone, by a known random matrix.

    `best` is the expected hit rate at 1 of the one who knows the matrix, over the contexts that occur.
    """
    rng = np.random.default_rng(seed)
    matrix = rng.dirichlet(np.full(items, concentration), size=items)
    walk = np.empty((users, length), np.int64)
    walk[:, 0] = rng.integers(0, items, users)
    cumulative = np.cumsum(matrix, axis=1)
    for t in range(1, length):
        drawn = rng.random(users)[:, None]
        walk[:, t] = np.minimum((cumulative[walk[:, t - 1]] < drawn).sum(axis=1), items - 1)
    return Shop(_events(walk), best=float(matrix.max(axis=1)[walk[:, -2]].mean()), transitions=matrix)


def copy(*, lag: int, items: int = 8, users: int = 200, length: int | None = None, seed: int = 0) -> Shop:
    """Return a shop where each item after the first `lag` ones is the item seen `lag` events ago. Best: 1."""
    length = length or 2 * lag
    first = np.random.default_rng(seed).integers(0, items, (users, lag))
    return Shop(_events(np.tile(first, (1, -(-length // lag)))[:, :length]), best=1.0)


def noise(*, items: int = 30, users: int = 400, length: int = 20, seed: int = 0) -> Shop:
    """Return a shop without any order; nobody can do better than chance, 1 / items."""
    return Shop(_events(np.random.default_rng(seed).integers(0, items, (users, length))), best=1.0 / items)


_GENRES = ("Comedy", "Drama", "Thriller", "Western", "Musical", "Mystery")
_FIRST = ("Silver", "Quiet", "Last", "Golden", "Broken", "Northern", "Hidden", "Second", "Paper", "Distant")
_SECOND = ("River", "Garden", "Station", "Letter", "Winter", "Harbour", "Mirror", "Road", "Summer", "Bridge")


def shop(*, items: int = 300, users: int = 600, seed: int = 0) -> Shop:
    """Return a shop with titles and genres, whose users drift between tastes; `best` is not known: NaN."""
    rng = np.random.default_rng(seed)
    genre = rng.integers(0, len(_GENRES), items)
    charm = rng.exponential(1.0, items)
    rows = []
    for user in range(users):
        taste, clock, had = int(rng.integers(len(_GENRES))), int(rng.integers(10**6)), set[int]()
        for _ in range(int(rng.integers(10, 60))):
            if rng.random() < 0.1:
                taste = int(rng.integers(len(_GENRES)))
            weight = charm * np.where(genre == taste, 1.0, 0.02)
            weight[list(had)] = 0.0
            item = int(rng.choice(items, p=weight / weight.sum()))
            had.add(item)
            clock += int(rng.exponential(3600))
            rows.append((f"u{user}", f"i{item}", clock, int(rng.integers(3, 6))))
    events = pl.DataFrame(rows, schema=["user", "item", "time", "rating"], orient="row")
    titles = [f"{_FIRST[i % 10]} {_SECOND[i // 10 % 10]} {i // 100 + 1}" for i in range(items)]
    catalogue = pl.DataFrame(
        {"item": [f"i{i}" for i in range(items)], "title": titles, "genres": [_GENRES[g] for g in genre]}
    )
    return Shop(events.sort("time"), best=float("nan"), catalogue=catalogue)


def _events(walk: NDArray[np.int64]) -> pl.DataFrame:
    """Return the table of an int[user, position] array of items; users act in turn, a second apart."""
    users, length = walk.shape
    return pl.DataFrame(
        {
            "user": [f"u{u}" for _ in range(length) for u in range(users)],
            "item": [f"i{item}" for item in walk.T.ravel()],
            "time": np.arange(users * length),
        }
    )
