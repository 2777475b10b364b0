"""`Sequences`: each user's events in time order as flat arrays; `encode` makes them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.log.events import Events
from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import ArgumentError
from segue.shapes import Floats, Rows

#: Shorter gaps, in seconds, are no pauses.
SHORTEST_PAUSE = 60.0
#: The arrays with a value per event.
COLUMNS = ("items", "times", "ratings", "details", "weights")


@dataclass(frozen=True, eq=False)
class Sequences:
    """The events of all users, user after user, each user's in time order.

    Args:
        users: the user ids, in the order in which they first appear in the log.
        offsets: int64[user + 1]; user `u` has the events `offsets[u]` up to `offsets[u + 1]`.
        items: int32[event], vocabulary rows; 0 is *unknown*.
        times: int64[event], microseconds since 1970 in UTC, or None for a log without times.
        ratings: float32[event], NaN where missing, or None.
        details: float16[event, m], the features of each event (context, type, rating), or None.
        weights: float32[event], how much each event counts as a target, or None for 1 each.
        profiles: float32[user, p], the features of each user, or None.

    Raises:
        ArgumentError: the offsets do not fit the users or the events.

    Example:
        >>> two = Sequences(pl.Series(["ann", "bob"]), np.array([0, 3, 5]), np.arange(1, 6, dtype=np.int32))
        >>> two.lengths.tolist()
        [3, 2]
        >>> two.select(np.array([1, 0])).items.tolist()
        [4, 5, 1, 2, 3]
    """

    users: pl.Series
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    times: NDArray[np.int64] | None = None
    ratings: NDArray[np.float32] | None = None
    details: NDArray[np.float16] | None = None
    weights: NDArray[np.float32] | None = None
    profiles: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        events = len(self.items)
        if len(self.offsets) != len(self.users) + 1 or self.offsets[0] != 0 or self.offsets[-1] != events:
            raise ArgumentError(
                f"sequences: expected {len(self.users) + 1} offsets from 0 to {events}, "
                f"came {len(self.offsets)} from {self.offsets[:1]} to {self.offsets[-1:]}. "
                "Use encode(events)."
            )

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64[user]: the number of events of each user."""
        return np.diff(self.offsets)

    def select(self, users: NDArray[np.integer]) -> "Sequences":
        """Return the sequences of these users, in the order given.

        Args:
            users: int[n], positions in `self.users`.

        Raises:
            ArgumentError: there is no user at a position.

        Cost: O(events of these users).
        """
        if len(users) and not (users.min() >= 0 and users.max() < len(self)):
            raise ArgumentError(
                f"sequences: expected positions of users from 0 to {len(self) - 1}, "
                f"came {users.min()} to {users.max()}. Look them up in sequences.users."
            )
        lengths = self.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[users] - offsets[:-1], lengths)
        profiles = None if self.profiles is None else self.profiles[users]
        return replace(
            self, users=self.users.gather(np.asarray(users)), offsets=offsets, profiles=profiles, **self._of(events)
        )

    def keep(self, events: NDArray[np.bool_]) -> "Sequences":
        """Return the sequences of the events in bool[event]; all users stay. O(events)."""
        count_before = np.concatenate([[0], np.cumsum(events)])
        return replace(self, offsets=count_before[self.offsets], **self._of(events))

    def _of(self, events: NDArray[Any]) -> dict[str, Any]:
        """Return the columns of these events, by name."""
        return {name: column[events] for name in COLUMNS if (column := getattr(self, name)) is not None}

    def gaps_before(self, events: NDArray[np.int64], known: NDArray[np.bool_]) -> Floats:
        """Return float32, the seconds between these events and the events before them.

        Args:
            events: int64[...], positions in `items`.
            known: bool[...]; where false the same user has no event before, and the gap is NaN.

        Cost: O(len(events)); other times are not read, so that they may be memory-mapped.
        """
        if self.times is None or not len(self.times):
            return np.full(events.shape, np.nan, np.float32)
        at = np.where(known, events, 0)
        seconds = (self.times[at] - self.times[np.where(known, at - 1, 0)]) / 1e6
        return np.where(known, seconds, np.nan).astype(np.float32)

    def recent_before(self, events: NDArray[np.int64], begins: NDArray[np.int64], count: int) -> Rows:
        """Return int32[event, count]: the rows of the events before these, the newest last.

        Args:
            events: int64[n], positions in `items`, or the end of a user's events.
            begins: int64[n], the first position of the same user; before that stands row 0.
            count: the number of rows.

        Example:
            >>> two = Sequences(pl.Series(["a", "b"]), np.array([0, 3, 5]), np.arange(1, 6, dtype=np.int32))
            >>> two.recent_before(np.array([2, 5]), np.array([0, 3]), 3).tolist()
            [[0, 1, 2], [0, 4, 5]]
        """
        at = events[:, None] - np.arange(count, 0, -1)
        known = at >= begins[:, None]
        if not len(self.items):
            return np.zeros(at.shape, np.int32)
        return np.where(known, self.items[np.where(known, at, 0)], 0).astype(np.int32)


def gaps(sequences: Sequences) -> Floats:
    """Return the seconds since the same user's event before; NaN where unknown.

    Times are subtracted as whole microseconds and rounded once to float32. Times themselves in
    float32 would have steps of two minutes.

    Returns:
        float32[event], NaN at each user's first event and everywhere in a log without times.

    Cost: O(events).

    Example:
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 3]), np.array([1, 2, 1], np.int32),
        ...                 times=np.array([0, 1_500_000, 1_500_000]))
        >>> gaps(log).tolist()
        [nan, 1.5, 0.0]
    """
    seconds = np.full(len(sequences.items), np.nan, np.float32)
    if sequences.times is not None and len(seconds):
        seconds[1:] = np.diff(sequences.times) / 1e6
        seconds[sequences.offsets[:-1][sequences.lengths > 0]] = np.nan
    return seconds


def moment_begins(sequences: Sequences) -> NDArray[np.int64]:
    """Return int64[event]: the first event of the user at the same time, or the event itself.

    All events before that one are strictly earlier than the event.

    Example:
        >>> log = Sequences(pl.Series(["a", "b"]), np.array([0, 3, 4]), np.ones(4, np.int32), np.array([5, 7, 7, 7]))
        >>> moment_begins(log).tolist()
        [0, 1, 1, 3]
    """
    places = np.arange(len(sequences.items))
    if sequences.times is None:
        return places
    begins = np.ones(len(places), bool)
    begins[1:] = sequences.times[1:] != sequences.times[:-1]
    begins[sequences.offsets[:-1][sequences.lengths > 0]] = True
    latest: NDArray[np.int64] = np.maximum.accumulate(np.where(begins, places, 0))
    return latest


def natural_gap(between: Floats) -> float | None:
    """Return the gap in seconds that best separates short gaps from long gaps, or None.

    This is the threshold on log(1 + seconds) with the largest variance between the two groups
    (Otsu, 1979), over an evenly spread sample. Gaps under a minute do not count. None: there are no
    two kinds of gaps.

    Args:
        between: float32[event], seconds; NaN is left out.

    Example:
        >>> round(natural_gap(np.float32([0, 70, 90, np.nan, 80_000, 90_000, 200_000])))
        2742
    """
    known = between[between >= SHORTEST_PAUSE]
    if not len(known):
        return None
    logs = np.log1p(known[np.linspace(0, len(known) - 1, min(len(known), 1_000_000)).astype(np.int64)])
    counts, edges = np.histogram(logs, bins=100)
    middles = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts)[:-1], counts.sum()
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = (sums[:-1] / below - (sums[-1] - sums[:-1]) / (total - below)) ** 2 * below * (total - below)
    if not np.isfinite(apart).any():
        return None
    best = np.flatnonzero(apart == np.nanmax(apart))
    return float(np.expm1(edges[1 + best].mean()))


def item_vocabulary(events: Events) -> Vocabulary:
    """Return the items of a log, the most frequent first; at equal counts the first to appear.

    Cost: O(events).

    Example:
        >>> log = Events(pl.DataFrame({"user": ["u"] * 4, "item": ["x", "y", "z", "y"]}))
        >>> item_vocabulary(log).ids.to_list()
        ['y', 'x', 'z']
    """
    return _by_frequency(*coded(events.table["item"]))


def encode(events: Events, items: Vocabulary | None = None) -> Sequences:
    """Return a log as sequences, one for each user.

    Users are in the order in which they first appear, events in the order of the log.
    `items.id(row)` gives back every known item.

    Args:
        events: the log, without its `history`; see `Events.joined_with_history`.
        items: the vocabulary; an item outside of it gets row 0. None takes the log's.

    Cost: O(events log events) time, about 40 bytes an event while it runs.

    Example:
        >>> log = Events(pl.DataFrame({"user": ["bob", "ann", "bob"], "item": ["x", "y", "new"]}))
        >>> sequences = encode(log, Vocabulary(pl.Series(["x", "y"])))
        >>> sequences.users.to_list(), sequences.offsets.tolist(), sequences.items.tolist()
        (['bob', 'ann'], [0, 2, 3], [1, 0, 2])
    """
    table = events.table
    user, users = coded(table["user"])
    item, ids = coded(table["item"])
    rows = (_by_frequency(item, ids) if items is None else items).rows(ids)
    order, offsets = _by_user(user, len(users))
    ordered = pl.DataFrame({"item": rows[item]}).with_columns(
        table[name] for name in ("time", "rating") if name in table.columns
    )[pl.Series(order.view(np.uint32))]
    return Sequences(
        users,
        offsets,
        ordered["item"].to_numpy(),
        ordered["time"].to_numpy() if "time" in table.columns else None,
        ordered["rating"].fill_null(np.nan).to_numpy() if "rating" in table.columns else None,
    )


def sequence_order(events: Events) -> NDArray[np.int32]:
    """Return int32[event]: the row of the log of each event in `encode(events)`. O(events).

    Example:
        >>> sequence_order(Events(pl.DataFrame({"user": ["bob", "ann", "bob"], "item": ["x", "y", "z"]}))).tolist()
        [0, 2, 1]
    """
    user, users = coded(events.table["user"])
    return _by_user(user, len(users))[0]


def mapped(sequences: Sequences, folder: Path) -> Sequences:
    """Return the sequences with their events in memory-mapped files; the folder must outlive them.

    Example:
        >>> import tempfile
        >>> sequences = Sequences(pl.Series(["ann"]), np.array([0, 2]), np.array([1, 2], np.int32))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     mapped(sequences, Path(folder)).items.tolist()
        [1, 2]
    """
    arrays = {}
    for name in COLUMNS:
        values = getattr(sequences, name)
        if values is not None:
            np.save(folder / f"{name}.npy", values)
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return replace(sequences, **arrays)


def _by_user(user: NDArray[np.int32], users: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the events user by user, each user's in order, and the offset of each user."""
    from scipy import sparse

    # The rows of a sparse matrix are a counting sort, at half the time of a stable sort.
    events = np.arange(len(user), dtype=np.int32)
    marks = np.ones(len(user), np.int8)
    rows = sparse.coo_array((marks, (user, events)), shape=(users, max(1, len(user)))).tocsr()
    return rows.indices.astype(np.int32, copy=False), rows.indptr.astype(np.int64)


def _by_frequency(dense: NDArray[np.int32], ids: pl.Series) -> Vocabulary:
    counts = np.bincount(dense, minlength=len(ids))
    return Vocabulary(ids.gather(np.argsort(-counts, kind="stable")))


def coded(column: pl.Series) -> tuple[NDArray[np.int32], pl.Series]:
    """Return int32[row], the number of each value by first appearance, and the distinct texts."""
    coded = column.cast(pl.Categorical)
    distinct = coded.unique(maintain_order=True)
    # The codes of a categorical may be shared with other columns; a table makes them dense.
    codes = distinct.to_physical().to_numpy()
    dense = np.zeros(int(codes.max(initial=0)) + 1, np.int32)
    dense[codes] = np.arange(len(codes), dtype=np.int32)
    return dense[coded.to_physical().to_numpy()], distinct.cast(pl.String)
