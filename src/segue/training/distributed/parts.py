"""Who gets what: users by events, rows of the item table by remainder."""

import heapq
from typing import Any, NamedTuple

import numpy as np

from segue.shapes import Rows, Times


def balanced(events: Times, workers: int) -> list[Times]:
    """Return int64[n] for each worker: its users or buckets, so that all have about as many events.

    The largest go first, each to the worker with the fewest events.

    Args:
        events: int64[n], of each user or bucket.
        workers: how many.

    Example:
        >>> [part.tolist() for part in balanced(np.array([1, 8, 2, 5, 4]), 2)]
        [[1, 2], [0, 3, 4]]
    """
    heap = [(0, worker) for worker in range(workers)]
    owner = np.empty(len(events), np.int64)
    for place in np.argsort(-events, kind="stable").tolist():
        sum_, worker = heap[0]
        owner[place] = worker
        heapq.heapreplace(heap, (sum_ + int(events[place]), worker))
    return [np.flatnonzero(owner == worker) for worker in range(workers)]


def room(updates: int, cells: int, batch_size: int, drawn: int, workers: int) -> int:
    """Return how many rows a call may ask of each owner.

    A call reads at most `1 + batch_size + updates * cells + drawn` rows. Rows are dealt out by
    remainder, in the order of frequency, so that owners have nearly equal shares; a quarter more is
    room for chance. Rows beyond the room are read as zeros and learn nothing in that call.
    """
    most = 1 + batch_size + updates * cells + drawn
    return most if workers == 1 else min(most, int(1.25 * most / workers) + 64)


class Route(NamedTuple):
    """The rows of a call and where they stand."""

    rows: Rows  # int32[N, Q], for each owner the places in its shard that are asked for; past the shard where fewer
    places: list[Rows]  # for each update its rows as places among the N * Q rows of the call


def route(touched: list[Rows], items: int, workers: int, room: int) -> Route:
    """Return the rows that a call needs of each owner; row `r` is place `r // N` of owner `r % N`.

    Args:
        touched: int32[R] for each update, each row once, row 0 first; rows from `items` on are none.
        items: V.
        workers: N.
        room: Q.

    Example:
        >>> route([np.array([0, 1, 4]), np.array([0, 4, 9])], items=6, workers=2, room=2)
        Route(rows=array([[0, 2],
               [0, 3]], dtype=int32), places=[array([0, 2, 1], dtype=int32), array([0, 1, 6], dtype=int32)])
    """
    union = np.unique(np.concatenate(touched))
    union = union[union < items]
    owner = union % workers
    slot = np.empty(len(union), np.int64)
    rows = np.full((workers, room), -(-items // workers), np.int32)
    for worker in range(workers):
        own = np.flatnonzero(owner == worker)
        slot[own] = np.arange(len(own))
        kept = own[:room]
        rows[worker, : len(kept)] = union[kept] // workers
    place = np.where(slot < room, owner * room + slot, -1)

    def placed(these: Rows) -> Rows:
        at = place[np.minimum(np.searchsorted(union, these), len(union) - 1)]
        past = workers * room + np.arange(len(these))
        return np.where((these < items) & (at >= 0), at, past).astype(np.int32)

    return Route(rows, [placed(these) for these in touched])


def rows_of(table: Any, route: Route, items: int) -> Any:
    """Return the rows of a table [V, ...] that a call asks for, [N * Q, ...]; zeros where none."""
    workers = len(route.rows)
    rows = (route.rows * workers + np.arange(workers, dtype=np.int32)[:, None]).ravel()
    return np.where((rows < items).reshape(-1, *[1] * (table.ndim - 1)), table[np.minimum(rows, items - 1)], 0)
