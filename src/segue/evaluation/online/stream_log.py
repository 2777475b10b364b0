"""A log as a stream of moments: for each event, what is strictly earlier.

Knows: users, items, times as numbers; all that follows from the order of the events alone.
Does not know: ids, models, scores.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segue.shapes import Bools, Times

#: Microseconds in an hour.
HOUR = 3_600_000_000


@dataclass(frozen=True, eq=False)
class StreamLog:
    """Events of all users in the order of time, and of each what its user did strictly earlier.

    Events with the same timestamp are one moment: none of them is earlier than another. Learning
    follows the order of the log, so an event of the same moment may be the one `before`.

    Args:
        users: int64[event].
        items: int64[event], from 0.
        times: int64[event], microseconds, rising.
        n_items: the number of items.
        begins: int64[event], the first event of the same moment.
        before: int64[event], the item of the user's event just before in the log; -1 where there is
            none.
        last: int64[event], the item of the user's last strictly earlier event; -1 where there is
            none.
        sessions: int64[event], which session the event belongs to.
        last_sessions: int64[event], the session of the user's last strictly earlier event; -1 where
            there is none.
        repeated: bool[event], whether the user had a strictly earlier event with the item.
        distinct: int64[n], the distinct items of each user in the order of their first events, user
            after user.
        seen_from: int64[event], where the user's items begin in `distinct`.
        seen_to: int64[event], where those of strictly earlier events end.
    """

    users: Times
    items: Times
    times: Times
    n_items: int
    begins: Times
    before: Times
    last: Times
    sessions: Times
    last_sessions: Times
    repeated: Bools
    distinct: Times
    seen_from: Times
    seen_to: Times

    @classmethod
    def of(cls, users: ArrayLike, items: ArrayLike, times: ArrayLike, *, session_gap: float = 1800.0) -> "StreamLog":
        """Return the stream of a log.

        Args:
            users: int[event], in the order of time.
            items: int[event], from 0.
            times: int[event], microseconds, rising.
            session_gap: a session of a user ends where more seconds pass without an event.

        Cost: O(events log events).

        Example:
            >>> log = StreamLog.of([0, 1, 0, 0], [5, 5, 6, 7], [1, 2, 3, 3])    # the last two share a moment
            >>> log.last.tolist(), log.before.tolist(), log.seen(3).tolist()
            ([-1, -1, 5, 5], [-1, -1, 5, 6], [5])
        """
        user, item, time = (np.asarray(column, np.int64) for column in (users, items, times))
        size = int(item.max(initial=-1)) + 1
        order = np.argsort(user, kind="stable")
        u, i, t = user[order], item[order], time[order]
        place = np.arange(len(u))
        first = _changes(u)
        new = first | _changes(t)
        begin, moment = (np.maximum.accumulate(np.where(each, place, 0)) for each in (first, new))
        pause = first.copy()
        pause[1:] |= np.diff(t) > session_gap * 1e6
        session, known = np.cumsum(pause) - 1, moment > begin
        _, firsts, pair = np.unique(u * size + i, return_index=True, return_inverse=True)
        met = np.zeros(len(u), bool)
        met[firsts] = True
        ends = np.concatenate([[0], np.cumsum(met)])
        moments = np.maximum.accumulate(np.where(_changes(time), place, 0))
        in_order = {
            "before": np.where(first, -1, np.roll(i, 1)),
            "last": np.where(known, i[moment - 1], -1),
            "sessions": session,
            "last_sessions": np.where(known, session[moment - 1], -1),
            "repeated": firsts[pair] < moment,
            "seen_from": ends[begin],
            "seen_to": ends[moment],
        }
        by_time = {name: _back(column, order) for name, column in in_order.items()}
        return cls(user, item, time, size, moments, distinct=i[met], **by_time)

    def __len__(self) -> int:
        return len(self.users)

    def seen(self, event: int) -> Times:
        """Return the distinct items that the user of an event met strictly earlier. O(1)."""
        return self.distinct[self.seen_from[event] : self.seen_to[event]]

    @cached_property
    def first_times(self) -> Times:
        """int64[item]: the time of the first event of anybody with it."""
        times = np.full(self.n_items, np.iinfo(np.int64).max)
        np.minimum.at(times, self.items, self.times)
        return times

    def moments(self, begin: int, end: int) -> Iterator[range]:
        """Give the events from one place to another, a moment at a time."""
        starts = np.flatnonzero(self.begins[begin:end] == np.arange(begin, end)) + begin
        bounds = [begin, *starts[starts > begin].tolist(), end]
        for low, high in itertools.pairwise(bounds):
            if high > low:
                yield range(low, high)


def _changes(values: Times) -> Bools:
    """Return bool[n]: whether a value differs from the one before; the first does."""
    changes = np.ones(len(values), bool)
    changes[1:] = values[1:] != values[:-1]
    return changes


def _back(values: NDArray[Any], order: Times) -> NDArray[Any]:
    """Return values in the order of time."""
    back = np.empty_like(values)
    back[order] = values
    return back
