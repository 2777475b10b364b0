"""Batches for training: windows of many users side by side, back to back, without padding.

    lane 0   a a a a a b b b | b b c c c c ...      a user per letter; | a window of T = 8 steps
    lane 1   k k l l l l l l | l m m m m m ...      the memory goes on from window to window

An epoch shuffles the users, lays their positions in one long line and cuts the line into B equal
lanes. A user who lies across a cut continues in the next lane with an empty memory. This happens to
B - 1 users in an epoch, other users in each. Nothing is padded but the end of the last window. The
same seed and epoch give the same windows, so a run can be resumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from segue.data.sequences.sequences import Sequences
from segue.shapes import Bools, Floats, Rows, Times


class Batch(NamedTuple):
    """`T` positions of `B` lanes: the input event and the next event, the target."""

    items: Rows  # [T, B]: the input item; 0 where `first`
    gaps: Floats  # [T, B]: seconds before the input event; NaN unknown
    first: Bools  # [T, B]: a user begins; there is no input
    reset: Bools  # [T, B]: the memory is reset before this position
    targets: Rows  # [T, B]: the next item
    query_gaps: Floats  # [T, B]: seconds from the input event to the target; NaN unknown
    weights: Floats  # [T, B]: how much the target counts; 0 behind the last event and for unknown targets
    details: Any = None  # [T, B, m]: features of the input event, 0 where `first`; None in a log without
    query_details: Any = None  # [T, B, m]: features of the target
    profiles: Any = None  # [T, B, p]: features of the user where `first`, else 0; None without profiles
    ratings: Any = None  # [T, B]: of the target, NaN where missing; None in a log without
    apart: Any = None  # [T, B]: the target is later than the input event, not at the same time; with ratings


def windows_per_epoch(events: int, lanes: int, steps: int) -> int:
    """Return how many windows hold all events; the last may be partly empty."""
    return max(1, -(-events // (lanes * steps)))


@dataclass(frozen=True)
class Batches:
    """Windows over sequences.

    Args:
        sequences: the training events; may be memory-mapped.
        lanes: B, the batch size.
        steps: T, the BPTT steps.
        seed: of the order of users.
        rated: whether batches hold the ratings of their targets.
        least: windows of an epoch at least; those behind the last event count nothing.

    Example:
        >>> import polars as pl
        >>> two = Sequences(pl.Series(["a", "b"]), np.array([0, 3, 5]), np.array([1, 2, 3, 4, 5], np.int32))
        >>> batches = list(Batches(two, lanes=1, steps=5, seed=1).windows(0))
        >>> batches[0].items[:, 0].tolist(), batches[0].targets[:, 0].tolist()
        ([0, 1, 2, 0, 4], [1, 2, 3, 4, 5])
        >>> batches[0].reset[:, 0].tolist()
        [True, False, False, True, False]
    """

    sequences: Sequences
    lanes: int
    steps: int
    seed: int
    rated: bool = False
    least: int = 1

    @property
    def updates(self) -> int:
        """The number of windows in an epoch, one update each."""
        return max(self.least, windows_per_epoch(len(self.sequences.items), self.lanes, self.steps))

    def windows(self, epoch: int, *, begin: int = 0) -> Iterator[Batch]:
        """Yield the windows of an epoch, from window `begin` on. Cost: O(users + positions)."""
        for batch, _ in self.placed_windows(epoch, begin=begin):
            yield batch

    def placed_windows(self, epoch: int, *, begin: int = 0) -> Iterator[tuple[Batch, Times]]:
        """Yield each window with int64[T, B], the positions of its targets in the sequences."""
        users = np.random.default_rng([self.seed, epoch]).permutation(len(self.sequences))
        line = _Line(users, np.cumsum(self.sequences.lengths[users]), self.sequences.lengths[users])
        lane_starts = np.arange(self.lanes) * (self.updates * self.steps)
        for window in range(begin, self.updates):
            places = (window * self.steps + np.arange(self.steps))[:, None] + lane_starts
            yield self._window(places, line, lane_starts)

    def _window(self, places: Times, line: "_Line", lane_starts: Times) -> tuple[Batch, Times]:
        sequences = self.sequences
        inside = places < line.ends[-1]
        place = np.minimum(places, line.ends[-1] - 1)
        slot = np.searchsorted(line.ends, place, side="right")
        position = place - (line.ends[slot] - line.lengths[slot])
        event = sequences.offsets[line.users[slot]] + position
        first = position == 0
        before = np.where(first, event, event - 1)
        targets = sequences.items[event]
        weights = (
            inside & (targets > 0) if sequences.weights is None else inside * (targets > 0) * sequences.weights[event]
        )
        details, profiles = sequences.details, sequences.profiles
        new = first[..., None]
        batch = Batch(
            items=np.where(first, 0, sequences.items[before]).astype(np.int32),
            gaps=sequences.gaps_before(before, position > 1),
            first=first,
            reset=first | (places == lane_starts) | ~inside,
            targets=targets,
            query_gaps=sequences.gaps_before(event, position > 0),
            weights=weights.astype(np.float32),
            details=None if details is None else np.where(new, 0, details[before]).astype(np.float32),
            query_details=None if details is None else details[event].astype(np.float32),
            profiles=None if profiles is None else np.where(new, profiles[line.users[slot]], 0).astype(np.float32),
            **self._rated(event, before, first, inside),
        )
        return batch, event

    def _rated(self, event: Times, before: Times, first: Bools, inside: Bools) -> dict[str, Any]:
        sequences = self.sequences
        if sequences.ratings is None or not self.rated:
            return {}
        apart = np.ones_like(first)
        if sequences.times is not None:
            apart = first | (sequences.times[event] > sequences.times[before])
        ratings = np.where(inside, sequences.ratings[event], np.nan).astype(np.float32)
        return {"ratings": ratings, "apart": apart}


class _Line(NamedTuple):
    """Users in the order of an epoch, the end of each in the line, and their lengths."""

    users: Times
    ends: Times
    lengths: Times
