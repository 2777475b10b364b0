"""Loops of the simple models: what follows what, and the highest values of each row.

Each loop runs in C where there is a compiler, and else in the pure twin here; both compute the same (a reference test).
C checks nothing, so every array is checked here first.
"""

import ctypes
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.errors import ArgumentError
from segue.kernels import build
from segue.shapes import Floats, Rows, Times

#: Pairs of events that the twin holds at once: about 100 MB.
PAIRS = 2**23


def followers_table(items: Rows, offsets: Times, n_items: int, decay: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[item, item]: for each event, and each of the events of its user after it, the weight of the pair.

    Args:
        items: int32[event], rows of a vocabulary, user after user.
        offsets: int64[user + 1], where each user begins.
        n_items: the length of a row.
        decay: float64[window], the weight of a pair by its distance, from 1 on.

    Raises:
        ArgumentError: a row is not below `n_items`, or the offsets do not rise from 0 to the number of events.

    Cost: O(events x window + item^2).

    Example:
        >>> followers_table(np.int32([1, 2, 1]), np.array([0, 3]), 3, np.array([1.0, 0.5])).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.5, 1.0], [0.0, 1.0, 0.0]]
    """
    items, offsets = np.ascontiguousarray(items, np.int32), np.ascontiguousarray(offsets, np.int64)
    rise = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(items) and (np.diff(offsets) >= 0).all()
    if not rise or (len(items) and not 0 <= items.min() <= items.max() < n_items):
        raise ArgumentError(
            f"followers: expected rows below {n_items} and offsets from 0 to {len(items)}, came rows up to "
            f"{items.max(initial=0)} and offsets {offsets[:1]} to {offsets[-1:]}. Take the items of known_events."
        )
    loops = build.counting()
    if loops is None:
        return pure_followers_table(items, offsets, n_items, decay)
    table, decay = np.zeros((n_items, n_items)), np.ascontiguousarray(decay, np.float64)
    sizes = (ctypes.c_int64(each) for each in (len(offsets) - 1, n_items, len(decay)))
    loops.segue_followers(_at(items), _at(offsets), *sizes, _at(decay), _at(table))
    return table


def pure_followers_table(items: Rows, offsets: Times, n_items: int, decay: NDArray[np.float64]) -> NDArray[np.float64]:
    """Do what `followers_table` does."""
    table, ends = np.zeros(n_items**2), np.repeat(offsets[1:], np.diff(offsets))
    step = max(1, PAIRS // max(len(decay), 1))
    for begin in range(0, len(items), step):
        events = np.arange(begin, min(begin + step, len(items)))
        followers = np.minimum(len(decay), ends[events] - 1 - events)
        before = np.cumsum(followers) - followers
        distance = np.arange(followers.sum()) - np.repeat(before, followers)
        later = items[np.repeat(events, followers) + distance + 1]
        cell = np.repeat(items[events] * np.int64(n_items), followers) + later
        table += np.bincount(cell, decay[distance], n_items**2)
    return table.reshape(n_items, n_items)


class Highest(NamedTuple):
    """The highest values of each row.

    Args:
        places: int32[kept], from the begin of their row on, row after row and in order.
        found: int64[row], how many are kept of each.
    """

    places: Rows
    found: Times


def highest_places(values: Floats, offsets: Times, count: int) -> Highest:
    """Return where the `count` highest values above 0 of each row stand; of equal values, the first.

    Args:
        values: float32[n], row after row.
        offsets: int64[row + 1], where each row begins.
        count: at least 1.

    Raises:
        ArgumentError: the values are no float32, or the offsets do not fit them.

    Cost: O(n).

    Example:
        >>> highest_places(np.float32([3, 0, 3, 5, 1]), np.array([0, 4, 5]), 2)
        Highest(places=array([0, 3, 0], dtype=int32), found=array([2, 1]))
    """
    values, offsets = np.ascontiguousarray(values), np.ascontiguousarray(offsets, np.int64)
    lengths = np.diff(offsets)
    fit = len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(values) and (lengths >= 0).all()
    if not fit or values.dtype != np.float32 or values.ndim != 1 or count < 1:
        raise ArgumentError(
            f"highest: expected float32 values in rows and a count from 1, came {values.dtype}{list(values.shape)}, "
            f"offsets {offsets[:1]} to {offsets[-1:]} and {count}. Take the data and indptr of a CSR matrix."
        )
    loops = build.counting()
    if loops is None:
        return pure_highest_places(values, offsets, count)
    places, found = np.empty(int(np.minimum(lengths, count).sum()), np.int32), np.empty(len(lengths), np.int64)
    room = np.empty(int(lengths.max(initial=0)), np.float32)
    sizes = ctypes.c_int64(len(lengths)), ctypes.c_int64(count)
    loops.segue_highest(_at(values), _at(offsets), *sizes, _at(room), _at(places), _at(found))
    return Highest(places[: found.sum()], found)


def pure_highest_places(values: Floats, offsets: Times, count: int) -> Highest:
    """Do what `highest_places` does."""
    keep = values > 0
    for begin, end in pairwise(offsets.tolist()):
        if end - begin > count:
            row = values[begin:end]
            cut = np.partition(row, -count)[-count]
            level = np.flatnonzero(row == cut)
            keep[begin:end] &= row >= cut
            keep[begin + level[count - np.count_nonzero(row > cut) :]] = False
    found = np.diff(np.concatenate([[0], np.cumsum(keep)])[offsets])
    places = np.flatnonzero(keep) - np.repeat(offsets[:-1], found)
    return Highest(places.astype(np.int32), found)


def _at(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
