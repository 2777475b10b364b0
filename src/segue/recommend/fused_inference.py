"""The network's step, query and scores for a small batch of users, in half as many calls of NumPy.

A call of NumPy costs as much as a thousand numbers, and a batch has few users. So halves, norms and constants are
multiplied into the weights. `Network.step` and `Network.query` define the results, which are equal but for rounding (a
law). Only the linear cell has this form, without sessions and ratings.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from segue.config import Norm
from segue.kernels import build
from segue.kernels.serving_loops import BlockStep
from segue.model.activations import softplus
from segue.model.blocks import LONGEST, BlockParams
from segue.model.cells import Linear
from segue.model.network import Network, NetworkParams
from segue.recommend.index.blocked_matmul import FEW, Table
from segue.shapes import Floats, Rows

#: Rows of a sample, and samples.
SAMPLE, SAMPLES = 8192, 8
#: A table is made again once more than `_OTHERS` items and more than one item in `_ONE_IN` have changed.
_OTHERS, _ONE_IN = 1024, 8
#: The constants that do not depend on the items.
_OF_WEIGHTS = ("_blocks", "_loops", "_question", "_knots")
#: Of `gelu`: tanh(_C x + _CUBE x^3).
_C, _CUBE = 0.7978845608, 0.7978845608 * 0.044715


class _Block(NamedTuple):
    """The weights of a block with their constants multiplied in."""

    w_in: Floats  # [d, 2 d], with the norm
    now: Floats  # [d], of the convolution: the present
    past: Floats  # [(taps - 1) d]: what was before
    bias: Floats  # [d]
    w_gates: Floats  # [d, 2 d], halved
    b_gates: Floats  # [2 d], halved
    decay: Floats  # [d], -8 softplus(lambda)
    w_out: Floats  # [d, d], halved
    w_up: Floats  # [d, 2 e], with the norm, the first half halved
    w_down: Floats  # [e, d]

    @classmethod
    def of(cls, params: BlockParams) -> "_Block":
        cell, inside = params.cell, params.w_down.shape[0]
        w_up = params.feed_norm[:, None] * params.w_up
        w_up[:, :inside] *= 0.5
        return cls(
            w_in=params.norm[:, None] * params.w_in,
            now=cell.conv[0],
            past=cell.conv[1:].ravel(),
            bias=cell.conv_bias,
            w_gates=0.5 * cell.w_gates,
            b_gates=0.5 * cell.b_gates,
            decay=-8.0 * softplus(cell.decay),
            w_out=0.5 * params.w_out,
            w_up=w_up,
            w_down=params.w_down,
        )


@dataclass(frozen=True, eq=False)
class FusedInference:
    """A network whose constants are computed when they are first needed.

    Args:
        network: `step` needs one of which `fits` is true.
        params: its weights.
    """

    network: Network
    params: NetworkParams

    def changed(self, params: NetworkParams, rows: Rows) -> "FusedInference":
        """Return this inference for weights in which only the vectors and biases of some items differ.

        Args:
            rows: int32[n], distinct: the items that differ.

        Cost: O(rows changed so far x width); all other constants are shared.
        """
        changed, kept = FusedInference(self.network, params), vars(self)
        shared: dict[str, Any] = {name: kept[name] for name in _OF_WEIGHTS if name in kept}
        if "_table" in kept and len(self._table.rows) < max(_OTHERS, self.network.items // _ONE_IN):
            shared["_table"] = self._table.changed(rows, params.items[rows], params.bias[rows])
        if "lengths" in kept:
            shared["lengths"] = self.lengths.copy()
            shared["lengths"][rows] = np.linalg.norm(params.items[rows], axis=1)
        samples = list(self._samples.items())
        shared["_samples"] = {n: sample for n, sample in samples if not np.isin(rows, sample[0]).any()}
        vars(changed).update(shared)
        return changed

    def more(self, network: Network, params: NetworkParams) -> "FusedInference":
        """Return this inference for a network with more items at the end and otherwise the same weights.

        Cost: O(new items x width); all other constants are shared.
        """
        longer, kept, new = FusedInference(network, params), vars(self), slice(self.network.items, None)
        vars(longer).update({name: kept[name] for name in _OF_WEIGHTS if name in kept})
        if "_table" in kept and self._table.rest.shape[1] < _OTHERS:
            vars(longer)["_table"] = self._table.more(params.items[new], params.bias[new])
        if "lengths" in kept:
            vars(longer)["lengths"] = np.append(self.lengths, np.linalg.norm(params.items[new], axis=1))
        return longer

    def lay_out(self, *, table: bool) -> None:
        """Compute the constants of a step and of a list before a request waits for them. Cost: O(items), the table."""
        if self.fits:
            self._blocks, self._loops  # noqa: B018
        if table:
            self._table, self.lengths  # noqa: B018

    @property
    def fits(self) -> bool:
        """Whether the network has such a step."""
        network = self.network
        return type(network.cell) is Linear and network.session is None and network.rating is None

    def step(self, rows: Floats, items: Rows, gaps: Floats, details: Floats | None) -> Floats:
        """Return what `Network.step` does.

        Args:
            rows: float32[B, n], the numbers of each memory: of each block the past inputs, the newest first, and
                `s`; then the output.
            items: as of `Network.step`, and so the other arguments.
        """
        network, params, d = self.network, self.params, self.network.width
        x = params.items[items]
        x *= d**0.5
        if network.clock:
            x += self._weights(gaps) @ params.clock.event
        if network.details and details is not None:
            x += details @ (params.details.event * np.float32(d**0.5))
        after = np.empty_like(rows)
        size = (rows.shape[1] - d) // len(self._blocks)
        for n, block in enumerate(self._blocks):
            columns = slice(n * size, (n + 1) * size)
            if self._loops:
                self._loops[n](rows[:, columns], x, after[:, columns], network.norm)
            else:
                x = _step(block, rows[:, columns], x, after[:, columns], network.norm)
        np.multiply(x, params.norm, out=after[:, -d:])
        _scale(after[:, -d:], x, network.norm)
        return after

    def query(self, output: Floats, gaps: Floats, details: Floats | None = None) -> Floats:
        """Return what `Network.query` does."""
        network, params = self.network, self.params
        query = output[:, : network.width]
        if network.clock:
            moved = self._weights(gaps) @ self._question
            query = query * moved[:, : network.width]
            query += moved[:, network.width :]
        if network.asked and details is not None:
            query = query + details[:, : network.asked] @ params.details.shift
        return query

    def scores(self, query: Floats) -> Floats:
        """Return what `Network.scores` does for all rows."""
        return self._table.scores(query) if len(query) <= FEW else self.network.scores(self.params, query)

    def sample(self, number: int) -> tuple[Rows, Table]:
        """Return a random sample of rows, int32[n], sorted and distinct, and their table; `number` picks the sample.

        There are `SAMPLES` samples, each drawn once: making a table costs as much as hundreds of scorings.
        """
        number %= SAMPLES
        if number not in self._samples:
            drawn = np.random.default_rng(number).integers(1, self.network.items, SAMPLE)
            rows = np.unique(drawn).astype(np.int32)
            self._samples[number] = rows, Table.of(self.params.items[rows], self.params.bias[rows])
        return self._samples[number]

    @cached_property
    def lengths(self) -> Floats:
        """float32[V]: the length of each vector."""
        lengths: Floats = np.linalg.norm(self.params.items, axis=1)
        return lengths

    @cached_property
    def _samples(self) -> dict[int, tuple[Rows, Table]]:
        return {}

    @cached_property
    def _table(self) -> Table:
        return Table.of(self.params.items, self.params.bias)

    @cached_property
    def _blocks(self) -> tuple[_Block, ...]:
        return tuple(_Block.of(params) for params in self.params.blocks)

    @cached_property
    def _loops(self) -> list[BlockStep]:
        """The blocks in C; nothing where there is no compiler."""
        loops = build.serving()
        return [] if loops is None else [BlockStep(loops, block) for block in self._blocks]

    @cached_property
    def _question(self) -> Floats:
        """float32[K + 1, 2 d]: the tables of the clock for a query; the weights of the rows add up to 1."""
        clock = self.params.clock
        return np.concatenate([1.0 + clock.scale, clock.shift], axis=1)

    @cached_property
    def _knots(self) -> Floats:
        """float32[K + 1]: the knots of the linear spline; the row of an unknown gap has none."""
        assert self.network.clock is not None
        return np.array([np.inf, *range(self.network.clock.knots)], np.float32)

    def _weights(self, gaps: Floats) -> Floats:
        """Return the linear-spline weights of `Clock.weights`, for gaps that are not below 0."""
        clock = self.network.clock
        assert clock is not None
        place = np.log1p(np.minimum(gaps, np.float32(clock.longest)))
        place *= np.float32((clock.knots - 1) / math.log1p(max(clock.longest, 1.0)))
        weights: Floats = np.abs(place[:, None] - self._knots)
        np.subtract(1.0, weights, out=weights)
        np.fmax(weights, 0.0, out=weights)  # 0 where the gap is unknown
        weights[:, 0] = np.isnan(gaps)
        return weights


def _scale(y: Floats, x: Floats, norm: Norm) -> None:
    """Multiply y, whose rows are linear in those of x, by the factor of `normed` for x, without its scale."""
    if norm is False:
        return
    squares: Floats = np.vecdot(x, x)[:, None]
    squares *= 1.0 / x.shape[1]
    if norm == "clip":
        squares *= 1.0 / LONGEST**2
        np.maximum(squares, 1.0, out=squares)
    else:
        squares += 1e-6
    np.sqrt(squares, out=squares)
    y /= squares


def _step(block: _Block, before: Floats, x: Floats, after: Floats, norm: Norm) -> Floats:
    """Return what `step_block` does; the cell's state is read from `before` and written to `after`."""
    d, tail = x.shape[1], len(block.past)
    both = x @ block.w_in
    _scale(both, x, norm)
    branch, gate = both[:, :d], both[:, d:]
    after[:, :d] = branch
    after[:, d:tail] = before[:, : tail - d]
    c = np.add.reduce((before[:, :tail] * block.past).reshape(len(x), -1, d), axis=1)
    c += branch * block.now
    c += block.bias
    opened = c @ block.w_gates
    opened += block.b_gates
    np.tanh(opened, out=opened)
    keep, enter = opened[:, :d], opened[:, d:]
    keep *= block.decay
    keep += block.decay  # 2 log a
    left = np.expm1(keep)
    left *= -0.25
    np.maximum(left, 0.25e-12, out=left)
    np.sqrt(left, out=left)
    enter += 1.0
    enter *= left
    enter *= c
    keep *= 0.5
    np.exp(keep, out=keep)
    s = np.multiply(keep, before[:, tail:], out=after[:, tail:])
    s += enter
    opening = gate * gate
    opening *= _CUBE
    opening += _C
    opening *= gate
    np.tanh(opening, out=opening)
    opening += 1.0
    opening *= gate
    opening *= s
    x = opening @ block.w_out + x
    return _feed(block, x, norm)


def _feed(block: _Block, x: Floats, norm: Norm) -> Floats:
    """Return x and what `feed_forward` adds to it."""
    inside = len(block.w_down)
    both = x @ block.w_up
    _scale(both, x, norm)
    a, b = both[:, :inside], both[:, inside:]
    silu = np.tanh(a)
    silu += 1.0
    silu *= a
    silu *= b
    added: Floats = silu @ block.w_down
    added += x
    return added
