"""The compiled loops as functions of JAX arrays, each with its gradient.

Every function computes what its twin in `segue.model` or `segue.training.update.losses` computes,
within float32's rounding; tests hold them against each other. C trusts the sizes of its first
argument, so shapes and types are checked while a program is traced. Call these only where
`build.available()`; the products work without.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from segue.errors import ArgumentError
from segue.kernels import build

_FLOAT, _BOOL = jnp.float32, jnp.bool_


def _call(name: str, *shapes: Sequence[int], in_place: bool = False, kind: Any = jnp.float32) -> Any:
    """Return a loop; `in_place`, its first result takes the memory of its first argument."""
    shape_of: Any = jax.ShapeDtypeStruct
    results = [shape_of(tuple(shape), kind) for shape in shapes]
    return jax.ffi.ffi_call(name, results, input_output_aliases={0: 0} if in_place else None)


def _check(name: str, *wanted: tuple[Array, Sequence[int], Any]) -> None:
    """Raise an ArgumentError if an array of a loop has another shape or type."""
    for array, shape, kind in wanted:
        if array.shape != tuple(shape) or array.dtype != kind:
            raise ArgumentError(
                f"{name}: expected {jnp.dtype(kind)}{list(shape)}, came {array.dtype}{list(array.shape)}. "
                "Give weights and states of one network."
            )


def product(x: Array, weights: Array) -> Array:
    """Return float32 `x @ weights` of x [N, k] and weights [k, n], float32 or bfloat16.

    With weights of bfloat16, x and the factors of the gradients are rounded to bfloat16, too.
    Rounded numbers have 8 bits; sums are float32.
    """
    return x @ weights if _whole(weights.dtype) else _rounded_product(x, weights)


def transposed_product(x: Array, weights: Array) -> Array:
    """Return `x @ weights.T` in the same way, of x [N, n] and weights [k, n]."""
    return x @ weights.T if _whole(weights.dtype) else _times(x, weights, 1)


def summed_over_rows(x: Array, y: Array, kind: Any) -> Array:
    """Return float32 `x.T @ y` of x [N, k] and y [N, n], the gradient of weights of a kind.

    XLA's products are fast only where the left factor lies in memory in the order of reading, so
    the smaller factor is transposed first.
    """
    if _whole(kind):
        return x.T @ y
    if not build.available():
        return jnp.matmul(x.astype(kind).T, y.astype(kind), preferred_element_type=jnp.float32)
    if x.shape[1] > 2 * y.shape[1]:
        return _transposed(summed_over_rows(y, x, kind), jnp.float32)
    return jnp.matmul(_transposed(x, kind), y.astype(kind), preferred_element_type=jnp.float32)


def _whole(kind: Any) -> bool:
    return bool(jnp.dtype(kind).itemsize > 2)


def _times(x: Array, weights: Array, axis: int) -> Array:
    # Given as axes: with weights.T the compiler would choose float32.
    axes = (((1,), (axis,)), ((), ()))
    return lax.dot_general(x.astype(weights.dtype), weights, axes, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _rounded_product(x: Array, weights: Array) -> Array:
    return _times(x, weights, 0)


def _rounded_product_back(kept: tuple[Array, Array], ahead: Array) -> Any:
    x, weights = kept
    return transposed_product(ahead, weights), summed_over_rows(x, ahead, weights.dtype).astype(weights.dtype)


_rounded_product.defvjp(lambda x, weights: (_rounded_product(x, weights), (x, weights)), _rounded_product_back)


def _transposed(x: Array, kind: Any) -> Array:
    """Return x.T of a kind, in memory."""
    name = "segue_turned" if kind == x.dtype else "segue_turned_rounded"
    result: Array = _call(name, x.shape[::-1], kind=kind)(x)[0]
    return result


@jax.custom_vjp
def rms_norm(x: Array, scale: Array) -> Array:
    """Return `x / sqrt(mean(x^2) + 1e-6) * scale`, see `segue.model.blocks.rms_norm`."""
    return _of_rows("rms_norm", x, scale)


@jax.custom_vjp
def clipped(x: Array, scale: Array) -> Array:
    """Return `x * min(1, LONGEST / sqrt(mean(x^2))) * scale`, see `segue.model.blocks.clipped`."""
    return _of_rows("clipped", x, scale)


def _of_rows(name: str, x: Array, scale: Array) -> Array:
    """Return the result of a loop over the rows of x, with a scale."""
    _check(name, (x, x.shape, _FLOAT), (scale, x.shape[-1:], _FLOAT))
    result: Array = _call(f"segue_{name}", x.shape)(x, scale)[0]
    return result


def _of_rows_back(name: str, kept: tuple[Array, Array], ahead: Array) -> Any:
    x, scale = kept
    return tuple(_call(f"segue_{name}_back", x.shape, scale.shape)(x, scale, ahead))


rms_norm.defvjp(lambda x, scale: (rms_norm(x, scale), (x, scale)), partial(_of_rows_back, "rms_norm"))
clipped.defvjp(lambda x, scale: (clipped(x, scale), (x, scale)), partial(_of_rows_back, "clipped"))


@jax.custom_vjp
def swiglu(both: Array) -> Array:
    """Return `silu(a) * b` of the halves of `both`, see `segue.model.activations.swiglu`."""
    _check("swiglu", (both, (*both.shape[:-1], both.shape[-1] // 2 * 2), _FLOAT))
    result: Array = _call("segue_swiglu", (*both.shape[:-1], both.shape[-1] // 2))(both)[0]
    return result


def _swiglu_back(both: Array, ahead: Array) -> Any:
    return tuple(_call("segue_swiglu_back", both.shape)(both, ahead))


swiglu.defvjp(lambda both: (swiglu(both), both), _swiglu_back)


@jax.custom_vjp
def geglu(gate: Array, y: Array) -> Array:
    """Return `gelu(gate) * y`, see `segue.model.activations.geglu`."""
    _check("geglu", (gate, y.shape, _FLOAT), (y, y.shape, _FLOAT))
    result: Array = _call("segue_geglu", y.shape)(gate, y)[0]
    return result


def _geglu_back(kept: tuple[Array, Array], ahead: Array) -> Any:
    gate, y = kept
    return tuple(_call("segue_geglu_back", gate.shape, y.shape)(gate, y, ahead))


geglu.defvjp(lambda gate, y: (geglu(gate, y), (gate, y)), _geglu_back)


@jax.custom_vjp
def convolve(x: Array, tail: Array, reset: Array, start: Array, conv: Array, bias: Array) -> tuple[Array, Array]:
    """Return the causal convolution of each user (`cells.Linear`), and the last inputs.

    The last inputs have no gradient.

    Args:
        x: float32[T, B, d].
        tail: float32[taps - 1, B, d], the inputs before, newest first.
        reset: bool[T, B], where the inputs before are `start`.
        start: float32[taps - 1, B, d].
        conv: float32[taps, d], the present first.
        bias: float32[d].
    """
    (steps, lanes, width), back = x.shape, len(conv) - 1
    before = [(array, (back, lanes, width), _FLOAT) for array in (tail, start)]
    weights = [(conv, (back + 1, width), _FLOAT), (bias, (width,), _FLOAT)]
    _check("convolve", (x, x.shape, _FLOAT), (reset, (steps, lanes), _BOOL), *before, *weights)
    y, end = _call("segue_convolve", x.shape, tail.shape)(x, tail, reset, start, conv, bias)
    return y, end


def _convolve_forward(x: Array, tail: Array, reset: Array, start: Array, conv: Array, bias: Array) -> Any:
    return convolve(x, tail, reset, start, conv, bias), (x, tail, reset, start, conv)


def _convolve_back(kept: tuple[Array, ...], ahead: tuple[Array, Array]) -> Any:
    x, tail, _, start, conv = kept
    back = _call("segue_convolve_back", x.shape, tail.shape, start.shape, conv.shape, conv.shape[1:])
    dx, d_tail, d_start, d_conv, d_bias = back(*kept, ahead[0])
    return dx, d_tail, None, d_start, d_conv, d_bias


convolve.defvjp(_convolve_forward, _convolve_back)


@jax.custom_vjp
def linear(gates: Array, bias: Array, decay: Array, c: Array, s: Array, reset: Array, start: Array) -> Array:
    """Return the memory of a gated linear recurrence (`cells.Linear`) after each position.

    Args:
        gates: float32[T, B, 2 d], of recurrence and input, before bias and sigmoid.
        bias: float32[2 d].
        decay: float32[d], `8 softplus(lambda)`.
        c: float32[T, B, d].
        s: float32[B, d], the memory before.
        reset: bool[T, B], where the memory becomes `start`.
        start: float32[B, d].
    """
    steps, lanes, width = c.shape
    of_steps = [(gates, (steps, lanes, 2 * width), _FLOAT), (c, c.shape, _FLOAT), (reset, (steps, lanes), _BOOL)]
    of_width = [(bias, (2 * width,), _FLOAT), (decay, (width,), _FLOAT)]
    _check("linear", *of_steps, *of_width, *((array, (lanes, width), _FLOAT) for array in (s, start)))
    result: Array = _call("segue_linear", c.shape)(gates, bias, decay, c, s, reset, start)[0]
    return result


def _linear_forward(*given: Array) -> Any:
    y = linear(*given)
    return y, (*given, y)


def _linear_back(kept: tuple[Array, ...], ahead: Array) -> Any:
    gates, bias, decay, c, s, _, start, _ = kept
    shapes = (gates.shape, bias.shape, decay.shape, c.shape, s.shape, start.shape)
    d_gates, d_bias, d_decay, dc, ds, d_start = _call("segue_linear_back", *shapes)(*kept, ahead)
    return d_gates, d_bias, d_decay, dc, ds, None, d_start


linear.defvjp(_linear_forward, _linear_back)


@jax.custom_vjp
def gru(x: Array, w_h: Array, b_n: Array, h: Array, reset: Array, start: Array) -> Array:
    """Return the memory of a gated recurrent unit after each position; see `segue.model.cells.GRU`.

    The gradient of its weights is one product over all positions, not one for each.

    Args:
        x: float32[T, B, 3 d], of the inputs, with bias.
        w_h: float32[d, 3 d].
        b_n: float32[d].
        h: float32[B, d], the memory before.
        reset: bool[T, B], where the memory becomes `start`.
        start: float32[B, d].
    """
    result: Array = _gru_forward(x, w_h, b_n, h, reset, start)[0]
    return result


def _gru_forward(x: Array, w_h: Array, b_n: Array, h: Array, reset: Array, start: Array) -> Any:
    (steps, lanes), width = reset.shape, h.shape[-1]
    of_steps = [(x, (steps, lanes, 3 * width), _FLOAT), (reset, (steps, lanes), _BOOL), (b_n, (width,), _FLOAT)]
    _check("gru", *of_steps, *((array, (lanes, width), _FLOAT) for array in (h, start)))
    step = _call("segue_gru", h.shape)

    def read_position(h: Array, position: tuple[Array, Array]) -> Any:
        x_now, reset_now = position
        h = jnp.where(reset_now[:, None], start, h)
        read = product(h, w_h)
        after = step(x_now, read, b_n, h)[0]
        return after, (after, h, read)

    _, (y, before, read) = lax.scan(read_position, h, (x, reset), unroll=True)
    return y, (x, w_h, b_n, reset, before, read)


def _gru_back(kept: tuple[Array, ...], ahead: Array) -> Any:
    x, w_h, b_n, reset, before, read = kept
    step = _call("segue_gru_back", x.shape[1:], x.shape[1:], before.shape[1:])

    def go_back(sums: tuple[Array, Array], position: tuple[Array, ...]) -> Any:
        dh, d_start = sums
        dy, reset_now, x_now, h, read_now = position
        dx, d_read, dh = step(x_now, read_now, b_n, h, dy + dh)
        dh = dh + transposed_product(d_read, w_h)
        gone = reset_now[:, None]
        return (jnp.where(gone, 0.0, dh), d_start + jnp.where(gone, dh, 0.0)), (dx, d_read)

    zeros = jnp.zeros_like(before[0])
    (dh, d_start), (dx, d_read) = lax.scan(
        go_back, (zeros, zeros), (ahead, reset, x, before, read), reverse=True, unroll=True
    )
    width = w_h.shape[0]
    d_w = summed_over_rows(before.reshape(-1, width), d_read.reshape(-1, 3 * width), w_h.dtype)
    return dx, d_w.astype(w_h.dtype), jnp.sum(d_read[..., 2 * width :], axis=(0, 1)), dh, None, d_start


gru.defvjp(_gru_forward, _gru_back)


def softmax(logits: Array, offset: Array, targets: Array, weights: Array, hidden: Array) -> tuple[Array, Array, Array]:
    """Return the gradient by the logits, the losses, and the gradient by the offset of a softmax.

    A loss is `-weight log softmax(logits + offset)[target]`.

    Args:
        logits: float32[N, V]; the result takes their memory.
        offset: float32[V].
        targets: int32[N].
        weights: float32[N].
        hidden: bool[N, V], what is no class, except the target; [N, 0] hides nothing.
    """
    _check("softmax", *_of_softmax(logits, offset, targets, weights, hidden))
    share, losses, sums = _call("segue_softmax", logits.shape, targets.shape, offset.shape, in_place=True)(
        logits, offset, targets, weights, hidden
    )
    return share, losses, sums


def _of_softmax(logits: Array, offset: Array, targets: Array, weights: Array, hidden: Array) -> Any:
    (count, width), hides = logits.shape, hidden.shape[-1] > 0
    of_count = (targets, (count,), jnp.int32), (weights, (count,), _FLOAT)
    return (
        (logits, logits.shape, _FLOAT),
        (offset, (width,), _FLOAT),
        *of_count,
        (hidden, (count, width * hides), _BOOL),
    )


def softmax_sampled(
    logits: Array, offset: Array, targets: Array, weights: Array, hidden: Array, classes: Array, goals: Array
) -> tuple[Array, Array, Array, Array]:
    """Return the same for drawn classes and each position's target, whose logit is its goal.

    The gradient by the goals comes last. A drawn class that is a position's target is left out
    there.

    Args:
        logits: float32[N, S]; the result takes their memory.
        offset: float32[S].
        targets: int32[N].
        weights: float32[N].
        hidden: bool[N, S], what is no class; [N, 0] hides nothing.
        classes: int32[S].
        goals: float32[N].
    """
    beside = (classes, logits.shape[1:], jnp.int32), (goals, logits.shape[:1], _FLOAT)
    _check("softmax_sampled", *_of_softmax(logits, offset, targets, weights, hidden), *beside)
    shapes = (logits.shape, targets.shape, offset.shape, goals.shape)
    share, losses, sums, d_goals = _call("segue_softmax_sampled", *shapes, in_place=True)(
        logits, offset, targets, weights, hidden, classes, goals
    )
    return share, losses, sums, d_goals
