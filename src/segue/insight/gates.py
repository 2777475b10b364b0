"""The gates of a trained network: how far each opens, event by event. Runs on NumPy alone."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError
from segue.model.backend import leaves, map_tree
from segue.model.cells import Cell, StepwiseCell
from segue.recommend.recommender import Recommender
from segue.shapes import Array, Floats, Tree


class WatchedState(NamedTuple):
    """The state of a cell, and the gates of the step that led to it."""

    inner: Tree
    gates: Tree


@dataclass(frozen=True)
class Watched(StepwiseCell):
    """A cell that notes its gates in its state; what it computes is what the cell computes."""

    cell: Cell

    def init(self, rng: np.random.Generator, width: int) -> Any:
        """Return fresh parameters."""
        return self.cell.init(rng, width)

    def start(self, params: Any, batch: int) -> WatchedState:
        """Return the state before any event, all gates at 0."""
        inner = self.cell.start(params, batch)
        like = next(leaves(inner))[1]  # [B, d], as all that a cell carries
        inputs = map_tree(lambda array: array[0], self.cell.lift(params, 0.0 * like[None]))
        return WatchedState(inner, map_tree(lambda gate: 0.0 * gate, self.cell.gates(params, inner, inputs)))

    def lift(self, params: Any, x: Array) -> Tree:
        """Return what of the inputs can be computed for all steps at once."""
        return self.cell.lift(params, x)

    def step(self, params: Any, state: WatchedState, inputs: Tree) -> tuple[WatchedState, Array]:
        """Read one position."""
        gates = self.cell.gates(params, state.inner, inputs)
        inner, y = self.cell.step(params, state.inner, inputs)
        return WatchedState(inner, gates), y


@dataclass(frozen=True)
class Openings:
    """The gates of a network along one history.

    Args:
        items: the ids read.
        blocks: for each block, gate -> float32[event, channel] from 0 to 1. `keep` is the share of its memory that
            a channel carries through the event.
    """

    items: tuple[str, ...]
    blocks: tuple[dict[str, Floats], ...]


def has_gates(rec: Recommender) -> bool:
    """Return whether the cell of a recommender has gates."""
    watched = Watched(rec.network.cell)
    return bool(watched.start(rec.params.blocks[0].cell, 1).gates)


def gate_openings(rec: Recommender, sequences: Sequences, user: int = 0) -> Openings:
    """Return how far each gate opens at each event of a user.

    Args:
        sequences: histories, in its terms.
        user: the place of the user in them.

    Raises:
        ArgumentError: the user has no event, or the cell has no gates.

    Cost: a step for each event.
    """
    history = sequences.select(np.array([user]))
    if not len(history.items):
        raise ArgumentError("gate_openings: expected a user with events, came one without. Take another.")
    if not has_gates(rec):
        raise ArgumentError(f"gate_openings: expected a cell with gates, came {rec.network.cell}. Take gru or lstm.")
    network = replace(rec.network, cell=Watched(rec.network.cell))
    memory = network.start(rec.params, 1, history.profiles)
    gaps = history.gaps_before(np.arange(len(history.items)), np.arange(len(history.items)) > 0)
    notes = []
    for event in range(len(history.items)):
        here = slice(event, event + 1)
        details = None if history.details is None else history.details[here].astype(np.float32)
        memory = network.step(rec.params, memory, history.items[here], gaps[here], details)
        notes.append([state.gates for state in memory.cells])
    blocks = tuple(
        {name: np.concatenate([getattr(step[block], name) for step in notes]) for name in notes[0][block]._fields}
        for block in range(network.depth)
    )
    items = tuple(rec.items[row - 1] if row else "unknown" for row in history.items)
    return Openings(items, blocks)


def half_lives(keep: Floats) -> Floats:
    """Return float32[channel]: the events after which half of a channel is left, at its usual opening.

    Args:
        keep: float32[event, channel].

    Example:
        >>> half_lives(np.full((3, 2), [0.5, 0.99], np.float32)).round(1).tolist()
        [1.0, 69.0]
    """
    usual = np.clip(np.median(keep, axis=0), 1e-9, 1 - 1e-7).astype(np.float64)
    events: Floats = (np.log(0.5) / np.log(usual)).astype(np.float32)
    return events
