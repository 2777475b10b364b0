"""Which events count for the trends, and what was before each: a function of the user's own events.

A bot must not move the lists of others. So of one user

- an item counts once in `RECENT` events, and
- at most `RECENT` events count in `SPAN`.

A flood of clicks of one user on one item counts once in `SPAN`, whatever its speed.
"""

from typing import NamedTuple

import numpy as np

from segue.kernels.trend_loops import LAST
from segue.shapes import Bools, Times

#: Events of a user in which an item counts once, and which may count within `SPAN` microseconds.
RECENT, SPAN = 30, 600_000_000


class Moves(NamedTuple):
    """Events as the counts take them.

    Args:
        keys: int64[event], of the items (`item_key`), 0 for an event that does not count.
        before: int64[event, LAST], the items before in the user's order, newest first, 0 for none.
        times: int64[event], microseconds since 1970.
    """

    keys: Times
    before: Times
    times: Times

    def part(self, some: slice) -> "Moves":
        """Return some of the events."""
        return Moves(self.keys[some], self.before[some], self.times[some])


def moves_of(keys: Times, times: Times, users: Times) -> Moves:
    """Return the moves of events that lie user after user, in each user's order.

    Args:
        keys: int64[event], of the items.
        times: int64[event], microseconds since 1970.
        users: int64[event], equal for the events of one user.

    Cost: O(events x RECENT).

    Example:
        >>> hours = np.arange(3) * 3_600_000_000
        >>> moves = moves_of(np.array([5, 7, 5]), hours, np.zeros(3, np.int64))
        >>> moves.keys.tolist(), moves.before.tolist()
        ([5, 7, 0], [[0, 0, 0], [5, 0, 0], [7, 5, 0]])
    """
    count = len(keys)
    before = np.zeros((count, LAST), np.int64)
    counts: Bools = np.ones(count, bool)
    for back in range(1, min(RECENT, count - 1) + 1):
        same = users[back:] == users[:-back]
        if back <= LAST:
            before[back:, back - 1] = np.where(same, keys[:-back], 0)
        counts[back:] &= ~(same & (keys[back:] == keys[:-back]))
        if back == RECENT:
            counts[back:] &= ~(same & (times[back:] - times[:-back] < SPAN))
    return Moves(np.where(counts, keys, 0), before, times)


class Trail:
    """The last events of one user, for moves one by one; equal to `moves_of` (a law).

    Args:
        keys, times: of the last `RECENT` events, oldest first.
    """

    __slots__ = ("keys", "times")

    def __init__(self, keys: list[int] | None = None, times: list[int] | None = None) -> None:
        self.keys, self.times = (keys or [])[-RECENT:], (times or [])[-RECENT:]

    def push(self, key: int, time: int) -> tuple[int, tuple[int, ...]]:
        """Take one more event; return its key, 0 if the event does not count, and the LAST items before.

        Cost: O(RECENT).
        """
        keys, times = self.keys, self.times
        full = len(keys) == RECENT
        counts = key not in keys and not (full and time - times[0] < SPAN)
        before = (*keys[: -LAST - 1 : -1], 0, 0, 0)[:LAST]
        if full:
            del keys[0], times[0]
        keys.append(key)
        times.append(time)
        return (key if counts else 0), before
