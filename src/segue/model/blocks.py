"""A block: the parts around a recurrence that let it learn well.

These are the norm before each part, the gate beside the cell, the residual and the gated
feed-forward. Dropout masks are arguments, so that a block is a pure function.
"""

from typing import Any, NamedTuple

import numpy as np

from segue.config import Norm
from segue.model.activations import geglu, swiglu
from segue.model.backend import compiled_loops, draw_normal, namespace, parts, product
from segue.model.cells import Cell
from segue.shapes import Array, Tree

#: The root mean square above which a vector is clipped.
LONGEST = 8.0


class BlockParams(NamedTuple):
    """The weights of one block of width d and feed-forward width e."""

    norm: Array  # [d]
    w_in: Array  # [d, 2 d], branch then gate
    cell: Any
    w_out: Array  # [d, d]
    feed_norm: Array  # [d]
    w_up: Array  # [d, 2 e]
    w_down: Array  # [e, d]


class BlockMasks(NamedTuple):
    """Dropout masks of one block: 0 where dropped, 1 / (1 - rate) elsewhere."""

    cell: Array  # [T, B, d]
    feed: Array  # [T, B, d]


def rms_norm(x: Array, scale: Array) -> Array:
    """Return `x / sqrt(mean(x^2)) * scale` along the last axis (Zhang and Sennrich, 2019)."""
    loops = compiled_loops(x)
    if loops:
        return loops.rms_norm(x, scale)
    squares = (x * x).sum(axis=-1, keepdims=True) / x.shape[-1]
    return x / namespace(x).sqrt(squares + 1e-6) * scale


def clipped(x: Array, scale: Array) -> Array:
    """Return `x * min(1, LONGEST / sqrt(mean(x^2))) * scale` along the last axis: clipping by norm.

    A short vector keeps its length, which grows with what is known. Each part multiplies its input
    by its input (a gate), so that two blocks are a polynomial of degree 16: without a bound,
    vectors longer than about 1 grow in each block to 10^4 and more.
    """
    loops = compiled_loops(x)
    if loops:
        return loops.clipped(x, scale)
    squares = (x * x).sum(axis=-1, keepdims=True) / x.shape[-1]
    return x / namespace(x).sqrt(namespace(x).maximum(squares / LONGEST**2, 1.0)) * scale


def normed(x: Array, scale: Array, norm: Norm) -> Array:
    """Return a vector as a part reads it, see `segue.config.Norm`."""
    if norm == "clip":
        return clipped(x, scale)
    return rms_norm(x, scale) if norm else x * scale


def init_block(rng: np.random.Generator, cell: Cell, *, width: int, expand: int, depth: int) -> BlockParams:
    """Draw a block; a deeper network starts with smaller additions to the residual."""
    inside, residual = width * expand, (2.0 * depth) ** -0.5
    return BlockParams(
        norm=np.ones(width, np.float32),
        w_in=draw_normal(rng, (width, 2 * width), width**-0.5),
        cell=cell.init(rng, width),
        w_out=draw_normal(rng, (width, width), residual * width**-0.5),
        feed_norm=np.ones(width, np.float32),
        w_up=draw_normal(rng, (width, 2 * inside), width**-0.5),
        w_down=draw_normal(rng, (inside, width), residual * inside**-0.5),
    )


def branch_and_gate(params: BlockParams, x: Array, norm: Norm = True) -> tuple[Array, Array]:
    """Return what the cell reads and the gate beside it."""
    branch, gate = parts(product(normed(x, params.norm, norm), params.w_in), 2)
    return branch, gate


def feed_forward(params: BlockParams, x: Array, norm: Norm = True) -> Array:
    """Return `W_down (silu(a) * b)` with `a, b` the halves of `W_up x`, x normed."""
    return product(swiglu(product(normed(x, params.feed_norm, norm), params.w_up)), params.w_down)


def dropped(x: Array, mask: Array | None) -> Array:
    """Return x times its mask; no mask, no dropout."""
    return x if mask is None else x * mask


def scan_block(
    cell: Cell,
    params: BlockParams,
    state: Tree,
    x: Array,
    reset: Array,
    masks: BlockMasks | None,
    norm: Norm = True,
    chosen: Array | None = None,
) -> tuple[Tree, Array]:
    """Run T positions `x` [T, B, d] through a block; return the cell's new state and [T, B, d].

    With `chosen`, bool[T, B], what lies behind the cell is made for these positions alone: [n, d], in order.
    """
    branch, gate = branch_and_gate(params, x, norm)
    start = cell.start(params.cell, x.shape[1])
    state, y = cell.scan(params.cell, state, cell.lift(params.cell, branch), reset, start)
    if chosen is not None:
        x, gate, y = x[chosen], gate[chosen], y[chosen]
    x = x + dropped(product(geglu(gate, y), params.w_out), masks and masks.cell)
    return state, x + dropped(feed_forward(params, x, norm), masks and masks.feed)


def step_block(cell: Cell, params: BlockParams, state: Tree, x: Array, norm: Norm = True) -> tuple[Tree, Array]:
    """Run one position `x` [B, d] through a block. Equal to `scan_block` on it, without dropout."""
    branch, gate = branch_and_gate(params, x, norm)
    state, y = cell.step(params.cell, state, cell.lift(params.cell, branch))
    x = x + product(geglu(gate, y), params.w_out)
    return state, x + feed_forward(params, x, norm)
