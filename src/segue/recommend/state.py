"""The state of a user after their last event: a value, never changed in place, so an old state stays valid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.values.times import iso
from segue.errors import ArgumentError
from segue.model.backend import leaves, map_tree
from segue.model.network import Memory
from segue.model.transitions import RECENT
from segue.shapes import Floats, Rows, Times
from segue.trends.ranker import item_key

#: Stands for "no time known" in int64 arrays.
NO_TIME = np.iinfo(np.int64).min
#: The keys of unknown items of a user who took none.
NO_KEYS: Times = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Seen:
    """The seen items of a user: sorted rows while they are few, then a bit for each item of the catalogue.

    Its size is at most `size / 8` bytes, and adding or reading costs at most one pass over these bits, however long
    the history is.

    Args:
        size: the rows of the catalogue.
        rows: int32[n], sorted and distinct; None when `bits` is used.
        bits: uint8[ceil(size / 8)].

    Example:
        >>> seen = Seen(100).add(7).add(3)
        >>> seen.to_rows().tolist(), len(seen), 7 in seen, 4 in seen
        ([3, 7], 2, True, False)
    """

    size: int
    rows: Rows | None = None
    bits: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, size: int, rows: Rows) -> "Seen":
        """Return the filter of some rows; row 0 is left out."""
        distinct = np.unique(rows[rows > 0]).astype(np.int32)
        if 32 * len(distinct) <= size:
            return cls(size, rows=distinct)
        flags = np.zeros(size, bool)
        flags[distinct] = True
        return cls(size, bits=np.packbits(flags))

    def to_rows(self) -> Rows:
        """Return int32[n], the rows seen, sorted."""
        if self.bits is not None:
            return np.flatnonzero(np.unpackbits(self.bits, count=self.size)).astype(np.int32)
        return np.zeros(0, np.int32) if self.rows is None else self.rows

    def __len__(self) -> int:
        return len(self.to_rows())

    def __contains__(self, row: int) -> bool:
        if self.bits is not None:
            return row < self.size and bool(self.bits[row >> 3] >> (7 - (row & 7)) & 1)
        known = self.to_rows()
        place = int(np.searchsorted(known, row))
        return place < len(known) and known[place] == row

    def add(self, row: int) -> "Seen":
        """Return the filter with one row more; row 0 changes nothing."""
        if row == 0:
            return self
        if self.rows is not None and row < self.size and 32 * (len(self.rows) + 1) <= self.size:
            old, place = self.rows, int(self.rows.searchsorted(np.int32(row)))
            if place < len(old) and old[place] == row:
                return self
            rows = np.empty(len(old) + 1, np.int32)
            rows[:-1], rows[-1] = old, row
            rows.sort()
            return Seen(self.size, rows=rows)
        if row in self:
            return self
        if row >= self.size:  # the catalogue has grown since
            return Seen.of(row + 1, np.append(self.to_rows(), np.int32(row)))
        if self.bits is not None:
            bits = self.bits.copy()
            bits[row >> 3] |= 128 >> (row & 7)
            return Seen(self.size, bits=bits)
        return Seen.of(self.size, np.append(self.to_rows(), np.int32(row)))


def with_key(unknown: Times, row: int, item: str) -> Times:
    """Return the keys of a user's last unknown items after one more item; a known one adds none."""
    return unknown if row else np.append(unknown, item_key(item))[-RECENT:]


@dataclass(frozen=True, eq=False)
class State:
    """One user, after their last event.

    Args:
        memory: the network's arrays, float32 of fixed size, for one user.
        time: of the last event, microseconds since 1970; None when unknown.
        count: events so far.
        seen: the seen items.
        model: the fingerprint of the weights that made the memory.
        recent: int32[1, RECENT], the rows of the last items, the newest last.
        unknown: int64[n], the keys of the last items that the model does not know, the newest last,
            `RECENT` at most; see `segue.trends.ranker.item_key`.
    """

    memory: Memory
    time: int | None
    count: int
    seen: Seen
    model: str
    recent: Rows
    unknown: Times = field(default_factory=lambda: NO_KEYS)

    def __repr__(self) -> str:
        """Say in one line how many events were read, and when the last one was."""
        last = "" if self.time is None else f", last at {iso(self.time)}"
        events, seen = f"{self.count:,} event{'s' * (self.count != 1)}", len(self.seen)
        return f"State({events}{last}, {seen:,} seen item{'s' * (seen != 1)}, model {self.model[:12]})"


@dataclass(frozen=True, eq=False)
class States:
    """Many users: `users` are their ids in the order of first appearance; slices like an array.

    Args:
        users: the ids.
        memory: the network's arrays, [user, ...].
        times: int64[user], `NO_TIME` where unknown.
        counts: int64[user].
        seen: a filter per user.
        model: the fingerprint of the weights.
        recent: int32[user, RECENT], the rows of the last items of each, the newest last.
        unknown: of users, as `State.unknown`, by their places here; others have none.
    """

    users: pl.Series
    memory: Memory
    times: Times
    counts: Times
    seen: tuple[Seen, ...]
    model: str
    recent: Rows
    unknown: Mapping[int, Times] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    def __repr__(self) -> str:
        """Say in one line how many users and events there are, and when the last event was."""
        last = self.times.max(initial=NO_TIME)
        until = "" if last == NO_TIME else f", last at {iso(int(last))}"
        return f"States({len(self):,} users, {self.counts.sum():,} events{until}, model {self.model[:12]})"

    @overload
    def __getitem__(self, index: int) -> State: ...
    @overload
    def __getitem__(self, index: slice) -> "States": ...
    def __getitem__(self, index: int | slice) -> "State | States":
        if isinstance(index, slice):
            memory = map_tree(lambda a: a[index], self.memory)
            users, seen, recent = self.users[index], self.seen[index], self.recent[index]
            places = {place: n for n, place in enumerate(range(len(self))[index])}
            unknown = {places[place]: keys for place, keys in self.unknown.items() if place in places}
            return States(users, memory, self.times[index], self.counts[index], seen, self.model, recent, unknown)
        place = range(len(self))[index]
        memory = map_tree(lambda a: a[place : place + 1].copy(), self.memory)
        time = int(self.times[place])
        known = None if time == NO_TIME else time
        recent = self.recent[place : place + 1]
        count, keys = int(self.counts[place]), self.unknown.get(place, NO_KEYS)
        return State(memory, known, count, self.seen[place], self.model, recent, keys)

    def of(self, user: str) -> State:
        """Return the state of a user.

        Raises:
            ArgumentError: the user is not among these.
        """
        place = self.users.index_of(user)
        if place is None:
            raise ArgumentError(
                f'states: expected one of {len(self)} users, came "{user}". '
                "A user without events starts with rec.start()."
            )
        return self[place]


def gap_seconds(later: int | None, earlier: int | None) -> Floats:
    """Return float32[1]: seconds between two times, NaN where one is unknown, never below 0."""
    return gaps_seconds([later], [earlier])


def gaps_seconds(later: Sequence[int | None], earlier: Sequence[int | None]) -> Floats:
    """Return float32[n]: `gap_seconds` of each pair."""
    pairs = zip(later, earlier, strict=True)
    gaps = [np.nan if a is None or b is None else max(a - b, 0) / 1e6 for a, b in pairs]
    return np.array(gaps, np.float32)


def picture(state: State) -> list[float]:
    """Return at most 256 numbers from -1 to 1 that show a memory."""
    numbers = np.concatenate([array.ravel() for _, array in leaves(state.memory)])
    step = max(1, -(-len(numbers) // 256))
    means = np.array([part.mean() for part in np.array_split(numbers, -(-len(numbers) // step))])
    return [round(float(value), 3) for value in np.tanh(means)]
