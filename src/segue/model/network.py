"""The whole network: events in, a query vector for the catalogue out.

Knows: the item table (tied: it is read at the input and scored at the output), the clock, the blocks,
the first position of a user. One definition runs under JAX in training and NumPy in serving.
Does not know: losses, ids as text, files.

A user with events e_1 ... e_n has n positions in training: the first reads `start` (nothing is known
yet) and is asked for e_1, the next reads e_1 and is asked for e_2, and so on. So a list for a user
without history is learnt like every other list, and no position is without a target.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from segue.model.backend import draw_normal, namespace, product, take
from segue.model.blocks import BlockMasks, BlockParams, dropped, init_block, rms_norm, scan_block, step_block
from segue.model.cells import Cell
from segue.model.features import Clock
from segue.shapes import Array, Tree


class ClockParams(NamedTuple):
    """Tables that a `Clock` reads."""

    event: Array  # [K + 1, d], added to the input
    scale: Array  # [K + 1, d], 1 + this multiplies the output at the time of the question
    shift: Array  # [K + 1, d], added to it


class NetworkParams(NamedTuple):
    """All weights. `clock` is an empty tuple in a network without times."""

    items: Array  # [V, d]
    bias: Array  # [V]
    start: Array  # [d]
    clock: Any  # ClockParams, or () without a clock
    blocks: tuple[BlockParams, ...]
    norm: Array  # [d]


class Memory(NamedTuple):
    """What the network carries of each user: the state of every cell and the last output."""

    cells: tuple[Tree, ...]
    output: Array  # [B, d]


class Window(NamedTuple):
    """T positions of B lanes, time-major."""

    items: Array  # int32[T, B]: the item read; not used where `first`
    gaps: Array  # float32[T, B]: seconds between the item read and the one before; NaN unknown
    first: Array  # bool[T, B]: a user's first position, which reads `start`
    reset: Array  # bool[T, B]: the memory is emptied before this position


class Masks(NamedTuple):
    """Dropout masks as data."""

    embedding: Array  # [T, B, d]
    blocks: tuple[BlockMasks, ...]
    output: Array  # [T, B, d]


@dataclass(frozen=True)
class Network:
    """Static settings; the weights stand beside it in `NetworkParams`.

    Args:
        cell: the recurrence of every block.
        items: rows of the item table, *unknown* included.
        width: d.
        depth: the number of blocks.
        expand: feed-forward width as a multiple of d.
        clock: None for a network without times.
    """

    cell: Cell
    items: int
    width: int
    depth: int
    expand: int = 2
    clock: Clock | None = None

    def init(self, seed: int) -> NetworkParams:
        """Return fresh float32 weights as NumPy arrays; the same seed gives the same weights."""
        rng, d = np.random.default_rng(seed), self.width
        clock: Any = ()
        if self.clock:
            clock = ClockParams(*(np.zeros((self.clock.rows, d), np.float32) for _ in range(3)))
        return NetworkParams(
            items=draw_normal(rng, (self.items, d), 0.02),
            bias=np.zeros(self.items, np.float32),
            start=draw_normal(rng, (d,), 0.02 * d**0.5),
            clock=clock,
            blocks=tuple(
                init_block(rng, self.cell, width=d, expand=self.expand, depth=self.depth) for _ in range(self.depth)
            ),
            norm=np.ones(d, np.float32),
        )

    def empty(self, params: NetworkParams, batch: int) -> Memory:
        """Return the memory of lanes that have read nothing, not even `start`."""
        cells = tuple(self.cell.start(block.cell, batch) for block in params.blocks)
        xp = namespace(params.items)
        return Memory(cells, xp.zeros((batch, self.width), dtype=np.float32))

    def embed(self, params: NetworkParams, items: Array, gaps: Array) -> Array:
        """Return the input vector of each event, [..., d]."""
        x = take(params.items, items) * self.width**0.5
        if self.clock:
            x = x + product(self.clock.weights(gaps), params.clock.event)
        return x

    def scan(
        self, params: NetworkParams, memory: Memory, window: Window, masks: Masks | None = None
    ) -> tuple[Memory, Array]:
        """Read T positions of B lanes.

        Returns:
            The memory after the last position, and the output of every position, [T, B, d].
        """
        xp = namespace(params.items)
        x = self.embed(params, window.items, window.gaps)
        x = xp.where(window.first[..., None], params.start, x)
        x = dropped(x, masks and masks.embedding)
        cells = []
        for i, (block, state) in enumerate(zip(params.blocks, memory.cells, strict=True)):
            state, x = scan_block(self.cell, block, state, x, window.reset, masks and masks.blocks[i])
            cells.append(state)
        output = rms_norm(x, params.norm)
        return Memory(tuple(cells), output[-1]), dropped(output, masks and masks.output)

    def start(self, params: NetworkParams, batch: int = 1) -> Memory:
        """Return the memory of users of whom nothing is known; they can be asked for a list at once."""
        xp = namespace(params.items)
        x = xp.broadcast_to(params.start, (batch, self.width))
        return self._step(params, self.empty(params, batch), x)

    def step(self, params: NetworkParams, memory: Memory, items: Array, gaps: Array) -> Memory:
        """Read one event of each of B users. Cost: constant, whatever they did before.

        Args:
            params: the weights.
            memory: of B users.
            items: int32[B], rows of the item table, 0 for an unknown item.
            gaps: float32[B], seconds since the user's event before; NaN unknown.
        """
        return self._step(params, memory, self.embed(params, items, gaps))

    def _step(self, params: NetworkParams, memory: Memory, x: Array) -> Memory:
        cells = []
        for block, state in zip(params.blocks, memory.cells, strict=True):
            state, x = step_block(self.cell, block, state, x)
            cells.append(state)
        return Memory(tuple(cells), rms_norm(x, params.norm))

    def query(self, params: NetworkParams, output: Array, gaps: Array) -> Array:
        """Return what is looked for, [..., d]: the output, moved by the time since the last event.

        Args:
            params: the weights.
            output: [..., d], of `Memory.output` or `scan`.
            gaps: float32[...], seconds from the last event to the question; NaN unknown.
        """
        if not self.clock:
            return output
        weights = self.clock.weights(gaps)
        return output * (1.0 + product(weights, params.clock.scale)) + product(weights, params.clock.shift)

    def scores(self, params: NetworkParams, query: Array) -> Array:
        """Return the score of every row of the catalogue, [..., V]; row 0 is scored too."""
        return query @ params.items.T + params.bias
