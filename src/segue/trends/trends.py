"""The trends as a value: counts of what everybody does, and the ids of the items counted."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from segue.data.values.times import microseconds
from segue.kernels.trend_loops import LAST, TrendTable, trend_table
from segue.shapes import Times
from segue.trends.moves import Moves, Trail
from segue.trends.ranker import item_key

#: Users whose last events are kept in memory by `observe`.
USERS = 200_000
#: Ids are looked through for items that were let go after so many new ones.
_NAMES = 1 << 16


class Trends:
    """What everybody does now. It changes in place; every method may be called from any thread.

    The counts are a function of the events alone, whatever their order of arrival. So two trends of
    the same events are equal, and what was added can be removed exactly.

    Args:
        shortest: the shortest half-life of the counts, in microseconds.
        table: counts to begin with; None begins with nothing.
        names: the id of each key in them.

    Example:
        >>> trends = Trends(300_000_000)
        >>> for user in "abc":
        ...     trends.observe(user, "17", time=1_700_000_000)
        >>> trends.counts["17"]
        3
    """

    def __init__(self, shortest: int, table: TrendTable | None = None, names: dict[int, str] | None = None) -> None:
        self.shortest, self.table = shortest, table or trend_table(shortest)
        self.names: dict[int, str] = names or {}
        self.newest: int | None = None
        self._trails: OrderedDict[str, Trail] = OrderedDict()
        self._lock = threading.Lock()

    def observe(self, user: str, item: str, *, time: object) -> None:
        """Count one more event of a user, whose earlier events were observed before.

        Args:
            user: who.
            item: the id of the item.
            time: in seconds since 1970, a datetime or its ISO text. An event without a time does
                not count.

        Cost: the same for every history.
        """
        now = microseconds(time)
        if now is None:
            return
        with self._lock:
            trail = self._trails.pop(user, None) or Trail()
            self._trails[user] = trail
            if len(self._trails) > USERS:
                self._trails.popitem(last=False)
            key, before = trail.push(item_key(item), now)
        self.add(Moves(np.array([key]), np.array([before]), np.array([now])), [item])

    def add(self, moves: Moves, items: Iterable[str], signs: Times | None = None) -> None:
        """Add moves; `items` are the ids behind their keys. Those with a sign of -1 are removed."""
        if not len(moves.keys):
            return
        for item in items:
            self.names[item_key(item)] = item
        self.table.add(*moves, np.ones(len(moves.keys), np.int64) if signs is None else signs)
        newest = int(moves.times.max())
        self.newest = newest if self.newest is None else max(newest, self.newest)
        if len(self.names) > _NAMES and len(self.names) > 4 * self.table.sizes[0]:
            self._forget_names()

    def remove(self, moves: Moves) -> None:
        """Remove moves that were added, as if they had never been there."""
        self.table.add(*moves, np.full(len(moves.keys), -1, np.int64))

    def advance(self, time: int) -> None:
        """Take a time as that of the newest event: what lies before its last buckets counts no more."""
        self.add(Moves(np.zeros(1, np.int64), np.zeros((1, LAST), np.int64), np.array([time])), ())

    def take_over(self, other: "Trends") -> None:
        """Hold the counts of another value, which is used up; whoever reads this one reads them from now on."""
        self.names = {**self.names, **other.names}  # one who reads the counts before finds their names
        self.table, self.newest = other.table, other.newest

    def copy(self) -> "Trends":
        """Return trends of their own. Cost: O(counts)."""
        other = Trends(self.shortest, self.table.copy(), dict(self.names))
        other.newest = self.newest
        return other

    def lines(self) -> Times:
        """Return int64[n, 5], the counts in force; equal for equal trends. See `TrendTable.lines`."""
        return self.table.lines()

    @property
    def counts(self) -> dict[str, int]:
        """How often each item counts within the last buckets of the longest half-life."""
        lines = self.lines()
        items = lines[(lines[:, 0] == 0) & (lines[:, 2] == lines[:, 2].max(initial=0))]
        found: dict[str, int] = {}
        for _, key, _, _, number in items.tolist():
            found[self.names[key]] = found.get(self.names[key], 0) + number
        return found

    def _forget_names(self) -> None:
        kept = set(self.lines()[:, :2].ravel().tolist())
        self.names = {key: name for key, name in self.names.items() if key in kept}
