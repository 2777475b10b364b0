"""Synthetic logs: small ones whose best possible score is known, and large ones that are like a real log.

The same seed gives the same log. `expand` makes a large log of a real one; all others draw a `Shop`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from segue.data.log.events import Events
from segue.errors import ArgumentError, DataError
from segue.files import check_file, replacing

#: For how many events a user of an expanded log stays in a block of items, and the longest shift of a user's times.
_STAY, _SHIFT = 16, 3600
#: The rows of an expanded log that are in memory at once, and the singular values of its source that are kept.
_ROWS, _RANK = 1 << 21, 64


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


def expand(events: Events, path: Path, *, users: int, items: int, seed: int = 0) -> None:
    """Write a log with `users` times the users and events of a real log, and `items` times its items, as Parquet.

    Segue at a scale that you do not have yet is tried on a log like yours. This is the fractal expansion of Belletti
    et al., 2019 (arXiv 1901.08910): the matrix of users and items becomes a matrix of blocks, each block is a sample
    of the old matrix, and how large the samples are follows the old matrix, resized (`reduced`). Its Kronecker
    product with the old matrix is the expected new matrix.

    Here a block keeps order and time, too. Each new user is a copy of a real user, with all events, gaps, repeats and
    further columns, up to an hour later. After 16 events at most the copy moves to another block of items, drawn by its
    row of the reduced matrix; an item that returns stays in its block. So what follows an item stays predictable.
    The paper shuffles the users of each block instead, which needs no order.

    Args:
        path: where the Parquet file is written, in the order of time.
        users, items: how many copies are made of each user and item, 1 or more.
        seed: the same seed gives the same bytes.

    Ids are whole numbers, from the most frequent id of the log on: copy c of user u of U is `c * U + u`.
    The column `id` is left out, since an id stands for one event.

    Raises:
        ArgumentError: `users` or `items` is below 1, or the file cannot be written.
        DataError: the log has no events.

    Cost: O(events * users) time, some 500 MB beside the log. Logs with very many events an hour take more.

    Example:
        >>> import tempfile
        >>> log = Events(markov(users=50).events.with_columns(pl.col("time") * 10**6))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     expand(log, Path(folder) / "large.parquet", users=20, items=3)
        ...     large = pl.read_parquet(Path(folder) / "large.parquet")
        >>> len(log), large.height, large["user"].n_unique(), large["item"].n_unique()
        (2000, 40000, 1000, 90)
    """
    if users < 1 or items < 1:
        raise ArgumentError(
            f"expand: expected 1 or more copies of users and items, came {users:,} and {items:,}. "
            "users=10 makes a log ten times as large."
        )
    if not len(events):
        raise DataError(f"{events.source}: expected events to expand, found none. Give a log with events.")
    check_file(path, "expand", ".parquet")
    table = events.table.drop("id", strict=False)
    if events.has_times:
        table = table.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))
    schema = {**table.schema, "user": pl.Int64(), "item": pl.Int64()}

    def parts(*_: Any) -> Iterator[pl.DataFrame]:
        return _expanded(table, users, items, seed)

    with replacing(path) as part:
        register_io_source(parts, schema=schema).sink_parquet(part)


def reduced(user: NDArray[np.int64], item: NDArray[np.int64], rows: int, columns: int) -> NDArray[np.float64]:
    """Return float64[rows, columns]: a log's matrix of users and items, resized; each row sums to 1.

    The singular vectors are resized and made orthonormal again, the singular values stay; values are taken without
    their signs (algorithm 2 of Belletti et al., 2019).

    Args:
        user, item: int64[event], numbered from 0.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import svds

    matrix = coo_array((np.ones(len(user)), (user, item))).tocsr()
    matrix.data[:] = 1.0
    rank = min(rows, columns, *(size - 1 for size in matrix.shape), _RANK)
    if rank < 1:
        return np.full((rows, columns), 1 / columns)
    left, values, right = svds(matrix, k=rank, v0=np.ones(min(matrix.shape)))
    sizes = np.abs((_resized(left, rows) * values) @ _resized(right.T, columns).T)
    sizes += 1e-9 * sizes.mean(axis=0)  # users of whom no kept singular vector knows are like all
    shares: NDArray[np.float64] = sizes / sizes.sum(axis=1, keepdims=True)
    return shares


def _resized(vectors: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return float64[count, k], orthonormal: means of adjacent rows of float64[n, k], or copies where n < count."""
    size, rank = vectors.shape
    sums = np.concatenate([np.zeros((1, rank)), np.cumsum(vectors, axis=0)])
    edges = np.linspace(0, size, count + 1)
    means = np.diff(np.stack([np.interp(edges, np.arange(size + 1), column) for column in sums.T], axis=1), axis=0)
    u, _, v = np.linalg.svd(means, full_matrices=False)
    nearest: NDArray[np.float64] = u @ v
    return nearest


def _expanded(table: pl.DataFrame, copies: int, blocks: int, seed: int) -> Iterator[pl.DataFrame]:
    """Give the rows of the expanded log, part by part, in the order of time."""
    (user, users), (item, items) = _numbered(table["user"]), _numbered(table["item"])
    stays = _stays(user, item)
    # All rows of shares in one rising line: row c lies between c and c + 1.
    shares = np.cumsum(reduced(user, item, copies, blocks), axis=1) + np.arange(copies)[:, None]
    others, step = table.drop("user", "item"), max(1, _ROWS // copies)
    waiting: list[pl.DataFrame] = []
    for begin in range(0, len(table), step):
        events = np.arange(begin, min(begin + step, len(table)))
        copy, event = np.tile(np.arange(copies), len(events)), np.repeat(events, copies)
        drawn = _drawn(seed, 0, copy * len(table) + stays[event])
        block = np.searchsorted(shares.ravel(), copy + drawn, side="right") - copy * blocks
        someone, something = copy * users + user[event], np.minimum(block, blocks - 1) * items + item[event]
        part = others[event].with_columns(user=someone, item=something).select(table.columns)
        if "time" in table.columns:
            shift = (_SHIFT * _drawn(seed, 1, someone)).astype(np.int64) * 1_000_000
            part = part.with_columns(pl.col("time") + pl.Series(shift).cast(pl.Duration("us")))
            part = pl.concat([*waiting, part]).sort("time", maintain_order=True)
            end = begin + step
            cut = part["time"].search_sorted(table["time"][end]) if end < len(table) else len(part)
            part, waiting = part[:cut], [part[cut:]]
        yield part


def _numbered(column: pl.Series) -> tuple[NDArray[np.int64], int]:
    """Return int64[row], the number of each id, the most frequent first, and how many ids there are."""
    codes = column.cast(pl.Categorical).to_physical().to_numpy()
    _, first, dense, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    return np.argsort(np.lexsort((first, -counts)))[dense], len(counts)


def _stays(user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return int64[event]: the event that began the stay in a block of the item's first event by this user."""
    order = np.argsort(user, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(user))])[user[order]]
    place = np.arange(len(user))
    began = np.empty_like(place)
    began[order] = order[place - (place - begins) % _STAY]
    _, first, same = np.unique(user * (item.max() + 1) + item, return_index=True, return_inverse=True)
    return began[first[same]]


def _drawn(seed: int, stream: int, keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return float64[n] from 0 to below 1, a function of seed, stream and key (SplitMix64; Steele et al., 2014)."""
    begin = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)
    z = begin + keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits: NDArray[np.float64] = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64)
    return bits * 2.0**-53
