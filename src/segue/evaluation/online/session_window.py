"""The last events of everybody as sessions: which items each session holds, and which sessions hold each item.

Knows: a window of events, sessions of at most 20 items. Does not know: scores.
"""

from itertools import islice

import numpy as np

from segue.shapes import Times

#: Items of a session that count: those of its last events.
LENGTH = 20


class SessionWindow:
    """Sessions of the last `size` events; each holds the distinct items of its last `LENGTH` events in the window.

    Memory: O(size x LENGTH + items), however many events are learnt.

    Args:
        size: the number of events, above 0.
        n_items: the number of items.

    Example:
        >>> window = SessionWindow(3, 9)
        >>> for session, item in [(0, 5), (1, 5), (1, 6), (2, 7)]:    # the first event has left the window
        ...     window.learn(session, item)
        >>> window.items_of(window.slot(1)).tolist(), len(window.holding(5, 10)), window.held[:7].tolist()
        ([5, 6], 1, [0, 0, 0, 0, 0, 1, 1])
    """

    def __init__(self, size: int, n_items: int) -> None:
        self.size, self.empty, self.learnt = size, n_items, 0
        #: int32[slot, LENGTH], the items; `n_items` where there is none.
        self.table = np.full((size, LENGTH), n_items, np.int32)
        #: int64[slot, LENGTH], the number of the event behind each item; -1 where there is none.
        self.events = np.full((size, LENGTH), -1, np.int64)
        #: int64[slot], how many items a session holds, and the number of its last event.
        self.lengths, self.latest = np.zeros(size, np.int64), np.zeros(size, np.int64)
        #: int64[item], how many sessions hold an item.
        self.held = np.zeros(n_items, np.int64)
        self._holders: dict[int, dict[int, int]] = {}  # item -> slot -> place, by the latest event with the item
        self._slots: dict[int, int] = {}
        self._session = [0] * size
        self._left, self._next = [0] * size, [0] * size  # events in the window; the place of the next one
        self._free = list(range(size - 1, -1, -1))
        self._slot_of, self._place_of = [0] * size, [0] * size  # of the event with a number, modulo `size`

    def slot(self, session: int) -> int:
        """Return where a session stands in the table; -1 if no event of the session is in the window."""
        return self._slots.get(session, -1)

    def items_of(self, slot: int) -> Times:
        """Return the items of a session, the oldest first."""
        order = np.argsort(self.events[slot])[LENGTH - self.lengths[slot] :]
        items: Times = self.table[slot][order].astype(np.int64)
        return items

    def holding(self, item: int, most: int, but: int = -1) -> Times:
        """Return int64[n], the slots of the last sessions that hold an item, the latest event with the item first.

        Args:
            item: the item.
            most: at most so many.
            but: a slot that is left out.
        """
        holders = self._holders.get(item, {})
        some = list(islice(reversed(holders), most + 1))
        if but in holders and but in some:
            some.remove(but)
        return np.array(some[:most], np.int64)

    def learn(self, session: int, item: int) -> None:
        """Add an event; the oldest event leaves a full window. O(1)."""
        number, ring = self.learnt, self.learnt % self.size
        if number >= self.size:
            self._leave(number - self.size, ring)
        slot = self._slots.get(session)
        if slot is None:
            slot = self._slots[session] = self._free.pop()
            self._session[slot], self._next[slot] = session, 0
        holders = self._holders.setdefault(item, {})
        if slot in holders:
            self._remove(slot, holders[slot])
            holders = self._holders.setdefault(item, {})
        place = self._next[slot]
        if self.events[slot, place] >= 0:
            self._remove(slot, place)
        self._next[slot] = (place + 1) % LENGTH
        self.table[slot, place], self.events[slot, place] = item, number
        self.lengths[slot] += 1
        self.latest[slot] = number
        self.held[item] += 1
        holders[slot] = place
        self._left[slot] += 1
        self._slot_of[ring], self._place_of[ring] = slot, place
        self.learnt += 1

    def _leave(self, number: int, ring: int) -> None:
        slot, place = self._slot_of[ring], self._place_of[ring]
        if self.events[slot, place] == number:
            self._remove(slot, place)
        self._left[slot] -= 1
        if not self._left[slot]:
            del self._slots[self._session[slot]]
            self._free.append(slot)

    def _remove(self, slot: int, place: int) -> None:
        """Take an item out of a session."""
        item = self.table.item(slot, place)
        holders = self._holders[item]
        del holders[slot]
        if not holders:
            del self._holders[item]
        self.table[slot, place], self.events[slot, place] = self.empty, -1
        self.lengths[slot] -= 1
        self.held[item] -= 1
