"""Synthetic logs whose best possible score is known; the same seed gives the same log."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shop:
    """A synthetic log.

    Args:
        events: columns user, item, time (seconds).
        best: the highest hit rate at 1 that any model can expect on a user's next item.
        transitions: float64[item, item], of a Markov shop.
        catalogue: columns item, title, genres, where the shop has one.
    """

    events: pl.DataFrame
    best: float
    transitions: NDArray[np.float64] | None = None
    catalogue: pl.DataFrame | None = None


def ring(*, items: int = 20, users: int = 200, length: int = 12, seed: int = 0) -> Shop:
    """Return a shop where item i + 1 follows item i, and the first item follows the last. Best: 1.

    Example:
        >>> ring(items=3, users=1, length=4).events["item"].to_list()
        ['i2', 'i0', 'i1', 'i2']
    """
    start = np.random.default_rng(seed).integers(0, items, users)
    return Shop(_events((start[:, None] + np.arange(length)) % items), best=1.0)


def markov(*, items: int = 30, users: int = 400, length: int = 40, concentration: float = 0.1, seed: int = 0) -> Shop:
    """Return a shop whose next item depends on the last item alone, by a known random matrix.

    `best` is the expected hit rate at 1 with the matrix known, over the contexts that occur.
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


def copy(*, lag: int, items: int = 4, fillers: int = 2, users: int = 200, rounds: int = 5, seed: int = 0) -> Shop:
    """Return a shop where the item of `lag` events ago comes again after a signal.

        i3  i4 i5 i5 i4    i6   i3 | i0  i5 i4 i4 i4    i6   i0      lag = 6, two rounds
        cue   fillers    signal cue| cue   fillers    signal cue

    A round begins with one of the `items` cues; then come `lag - 2` of the `fillers` other items,
    all drawn at random; then the signal; then the cue again. A model that remembers the cue
    predicts the last event of each user; any other has one chance in `items`.

    Best: 1, on the last event of each user. Cues and fillers are drawn and cannot be known.

    Args:
        lag: events from a cue to its return; 2 or more.
        items: the number of cues: `i0`, `i1`, ...
        fillers: the number of items between cues, numbered after the cues.
        users: the number of users, each with other draws.
        rounds: the rounds of each user. From the second on, an old cue has to be forgotten too.
        seed: the same seed gives the same log.

    Example:
        >>> copy(lag=4, users=1, rounds=2).events["item"].to_list()
        ['i3', 'i5', 'i4', 'i6', 'i3', 'i2', 'i4', 'i4', 'i6', 'i2']
    """
    rng = np.random.default_rng(seed)
    cues = rng.integers(0, items, (users, rounds, 1))
    between = rng.integers(items, items + fillers, (users, rounds, lag - 2))
    signal = np.full_like(cues, items + fillers)
    return Shop(_events(np.concatenate([cues, between, signal, cues], axis=2).reshape(users, -1)), best=1.0)


def noise(*, items: int = 30, users: int = 400, length: int = 20, seed: int = 0) -> Shop:
    """Return a shop without any order, where the best is chance: 1 / items."""
    return Shop(_events(np.random.default_rng(seed).integers(0, items, (users, length))), best=1.0 / items)


_SECTIONS = ("Politics", "Sport", "Culture", "Science", "Business", "Travel")
_GENRES = ("Comedy", "Drama", "Thriller", "Western", "Musical", "Mystery")
_FIRST = ("Silver", "Quiet", "Last", "Golden", "Broken", "Northern", "Hidden", "Second", "Paper", "Distant")
_SECOND = ("River", "Garden", "Station", "Letter", "Winter", "Harbour", "Mirror", "Road", "Summer", "Bridge")


def shop(*, items: int = 300, users: int = 600, seed: int = 0) -> Shop:
    """Return a shop with titles and genres, whose users drift between tastes; `best` is NaN."""
    rng = np.random.default_rng(seed)
    genre = rng.integers(0, len(_GENRES), items)
    charm = rng.exponential(1.0, items)
    rows = []
    for user in range(users):
        taste, clock, seen = int(rng.integers(len(_GENRES))), int(rng.integers(10**6)), set[int]()
        for _ in range(int(rng.integers(10, 60))):
            if rng.random() < 0.1:
                taste = int(rng.integers(len(_GENRES)))
            weight = charm * np.where(genre == taste, 1.0, 0.02)
            weight[list(seen)] = 0.0
            item = int(rng.choice(items, p=weight / weight.sum()))
            seen.add(item)
            clock += int(rng.exponential(3600))
            rows.append((f"u{user}", f"i{item}", clock, int(rng.integers(3, 6))))
    events = pl.DataFrame(rows, schema=["user", "item", "time", "rating"], orient="row")
    titles = [f"{_FIRST[i % 10]} {_SECOND[i // 10 % 10]} {i // 100 + 1}" for i in range(items)]
    catalogue = pl.DataFrame(
        {"item": [f"i{i}" for i in range(items)], "title": titles, "genres": [_GENRES[g] for g in genre]}
    )
    return Shop(events.sort("time"), best=float("nan"), catalogue=catalogue)


def news(*, hours: int = 60, articles: int = 12, users: int = 2000, clicks: int = 30_000, seed: int = 0) -> Shop:
    """Return a log of news, whose articles come and fade within hours; `best` is NaN.

    Each reader prefers one section. At nine tenths of the time a story breaks, which all sections read. An item is
    named after its section and the hour of its publication.

    Args:
        hours: of the log.
        articles: that come in an hour.
        users: readers, of whom few read much.
        clicks: of all readers.
        seed: the same seed gives the same log.
    """
    rng, hour, block = np.random.default_rng(seed), 3600, 600
    count = hours * articles
    published = np.sort(rng.integers(0, hours * hour, count))
    section, charm = rng.integers(0, len(_SECTIONS), count), rng.exponential(1.0, count) ** 2
    half_life = rng.uniform(1.0, 4.0, count) * hour
    story = int(np.searchsorted(published, 0.9 * hours * hour))
    charm[story] = 8 * charm.max()
    times, readers = np.sort(rng.integers(0, hours * hour, clicks)), (users * rng.random(clicks) ** 2).astype(np.int64)
    tastes = rng.integers(0, len(_SECTIONS), users)
    items = np.zeros(clicks, np.int64)
    for begin in range(0, hours * hour, block):
        age = begin + block - published
        near = charm * np.exp2(-np.maximum(age, 0) / half_life) * (age >= block)
        near[0] += not near.any()
        for taste in range(len(_SECTIONS)):
            chosen = (times >= begin) & (times < begin + block) & (tastes[readers] == taste)
            wanted = near * np.where((section == taste) | (np.arange(count) == story), 1.0, 0.05)
            items[chosen] = rng.choice(count, int(chosen.sum()), p=wanted / wanted.sum())
    names = [
        f"{_SECTIONS[s]} {1 + at // 86400}d{at // hour % 24:02d}h #{n}"
        for n, (s, at) in enumerate(zip(section.tolist(), published.tolist(), strict=True))
    ]
    names[story] = f"Breaking {names[story]}"
    table = pl.DataFrame({"user": [f"u{u}" for u in readers], "item": [names[i] for i in items], "time": times})
    return Shop(table.unique(["user", "item"], keep="first", maintain_order=True), best=float("nan"))


def _events(walk: NDArray[np.int64]) -> pl.DataFrame:
    """Return int[user, position] of items as a table; users act in turn, a second apart."""
    users, length = walk.shape
    return pl.DataFrame(
        {
            "user": [f"u{u}" for _ in range(length) for u in range(users)],
            "item": [f"i{item}" for item in walk.T.ravel()],
            "time": np.arange(users * length),
        }
    )
