"""The loss: how surprised the network is by the item that came next.

Knows: cross-entropy over the whole catalogue, in chunks, with its gradient.
Does not know: where queries come from, or optimisers.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from segue.training.negatives import UNRANKED

#: Positions whose logits exist at one time.
CHUNK = 512


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def softmax_cross_entropy(
    query: Array, items: Array, bias: Array, targets: Array, weights: Array, chunk: int = CHUNK
) -> Array:
    """Return the weighted sum of `-log softmax(query @ items.T + bias)[target]`, row 0 left out.

    The logits never exist beyond a chunk of positions, and nothing is computed twice: the gradient is
    made while the softmax of a chunk is at hand, and kept in place of it. Equal to the plain formula.

    Args:
        query: float32[N, d]. N is a multiple of `chunk`, or at most `chunk`.
        items: float32[V, d], the item table. Row 0 is *unknown* and is not a class.
        bias: float32[V].
        targets: int32[N], from 1 to V - 1; anything in range where the weight is 0.
        weights: float32[N].
        chunk: positions at a time.

    Cost: 6 N V d operations forward and backward together; chunk x V floats of memory beside the
    gradients.
    """
    return _forward(query, items, bias, targets, weights, chunk)[0]


def _forward(query: Array, items: Array, bias: Array, targets: Array, weights: Array, chunk: int) -> tuple[Array, Any]:
    count, width = query.shape
    bias = bias.at[0].set(UNRANKED)
    transposed = items.T

    def one(sums: tuple[Array, Array, Array], part: tuple[Array, Array, Array]) -> tuple[Any, Array]:
        loss, d_items, d_bias = sums
        q, target, weight = part
        logits = q @ transposed + bias
        top = jnp.max(logits, axis=1, keepdims=True)
        exponentials = jnp.exp(logits - top)
        total = jnp.sum(exponentials, axis=1)
        chosen = jnp.sum(q * items[target], axis=1) + bias[target]
        loss = loss + jnp.sum(weight * (jnp.log(total) + top[:, 0] - chosen))
        share = exponentials * (weight / total)[:, None]
        return (loss, d_items + share.T @ q, d_bias + jnp.sum(share, axis=0)), share @ items

    parts = max(1, count // chunk)
    split = (query.reshape(parts, -1, width), targets.reshape(parts, -1), weights.reshape(parts, -1))
    zeros = (jnp.zeros(()), jnp.zeros_like(items), jnp.zeros_like(bias))
    (loss, d_items, d_bias), d_query = lax.scan(one, zeros, split)
    # The target's own part of the gradient: minus one at the target, for all chunks together.
    d_query = d_query.reshape(query.shape) - weights[:, None] * items[targets]
    d_items = d_items.at[targets].add(-weights[:, None] * query)
    d_bias = d_bias.at[targets].add(-weights)
    return loss, (d_query, d_items, d_bias)


def _backward(chunk: int, gradients: tuple[Array, Array, Array], ahead: Array) -> tuple[Any, ...]:
    return (*(ahead * gradient for gradient in gradients), None, None)


softmax_cross_entropy.defvjp(_forward, _backward)
