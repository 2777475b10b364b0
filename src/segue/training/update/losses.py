"""The loss: how surprised the network is by the item that came next, and by its rating."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from segue.data.sequences.batches import Batch
from segue.kernels.training_loops import product, summed_over_rows, transposed_product
from segue.model.backend import compiled_loops
from segue.model.heads import ItemSide
from segue.model.network import Network, NetworkParams

#: Logits that exist at one time: 16 MB. More chunks make smaller products and more sums of them.
LOGITS = 1 << 22
#: The logit of a row that is no class: exp gives 0, and it is finite so that nothing is NaN.
UNRANKED = -1e30


class Candidates(NamedTuple):
    """A sample of the catalogue that every target of an update is compared with."""

    rows: Array  # int32[S], rows of the table
    log_expected: Array  # float32[S], log of how often a draw of S is expected to hold each
    target_log_expected: Array  # float32[N], the same of each target


def positions_at_once(count: int, classes: int) -> int:
    """Return how many of `count` positions are compared at one time: a divisor of count.

    Example:
        >>> positions_at_once(1024, 3417), positions_at_once(1024, 12_000), positions_at_once(48, 100)
        (1024, 256, 48)
    """
    chunk = count
    while chunk % 2 == 0 and chunk * classes > LOGITS:
        chunk //= 2
    return chunk


@partial(jax.custom_vjp, nondiff_argnums=(7, 8))
def softmax_cross_entropy(
    query: Array,
    items: Array,
    bias: Array,
    targets: Array,
    weights: Array,
    candidates: Candidates | None = None,
    hidden: Array | None = None,
    chunk: int | None = None,
    rounded: bool = False,
) -> Array:
    """Return the weighted sum of `-log softmax(query @ items.T + bias)[target]`, row 0 left out.

    With candidates, the classes are each position's target and the candidates that are not that
    target, and `log_expected` is subtracted from every logit, so that the sum estimates the full
    one (Bengio and Senécal, 2008). Logits exist for one chunk of positions at a time and are
    computed once: the gradient takes their place.

    Args:
        query: float32[N, d].
        items: float32[V, d], the item table. Row 0 is *unknown* and is not a class.
        bias: float32[V].
        targets: int32[N], from 1 to V - 1; anything in range where the weight is 0.
        weights: float32[N].
        candidates: None compares with the whole table.
        hidden: bool[N, C], rows or candidates that are no classes: seen items, where lists exclude
            them. None hides nothing. No target may be hidden.
        chunk: positions at a time, a divisor of N; derived where None.
        rounded: whether factors of products are rounded to bfloat16.

    Cost: 6 N V d operations forward and backward together, or 6 N S d with S candidates; `LOGITS`
    floats of memory beside the gradients.
    """
    return _forward(query, items, bias, targets, weights, candidates, hidden, chunk, rounded)[0]


def _forward(
    query: Array,
    items: Array,
    bias: Array,
    targets: Array,
    weights: Array,
    candidates: Candidates | None,
    hidden: Array | None,
    chunk: int | None,
    rounded: bool,
) -> tuple[Array, Any]:
    count, table, offset = len(query), items, bias.at[0].set(UNRANKED)
    of_targets, goals = None, jnp.zeros(count)
    if candidates is not None:
        of_targets = items[targets]
        goals = jnp.sum(query * of_targets, axis=1) + bias[targets] - candidates.target_log_expected
        table, offset = items[candidates.rows], offset[candidates.rows] - candidates.log_expected

    kind = jnp.bfloat16 if rounded else jnp.float32
    factors = table.astype(kind)

    def add_chunk(sums: tuple[Array, Array, Array], part: tuple[Array, ...]) -> tuple[Any, Any]:
        loss, d_table, d_offset = sums
        q, target, weight, goal, hides = part
        by = logit_gradients(transposed_product(q, factors), offset, target, weight, goal, candidates, hides)
        d_table, d_offset = d_table + summed_over_rows(by.logits, q, kind), d_offset + by.offset
        return (loss + jnp.sum(by.losses), d_table, d_offset), (product(by.logits, factors), by.goals)

    chunk = chunk or positions_at_once(count, len(table))
    hidden = jnp.zeros((count, 0), bool) if hidden is None else hidden
    split = [a.reshape(count // chunk, chunk, *a.shape[1:]) for a in (query, targets, weights, goals, hidden)]
    zeros = (jnp.zeros(()), jnp.zeros_like(table), jnp.zeros_like(offset))
    (loss, d_items, d_bias), (d_query, d_goals) = lax.scan(add_chunk, zeros, tuple(split))
    d_query = d_query.reshape(query.shape)
    if candidates is not None:
        d_goals = d_goals.reshape(count)
        d_items = jnp.zeros_like(items).at[candidates.rows].add(d_items)
        d_bias = jnp.zeros_like(bias).at[candidates.rows].add(d_bias)
        d_query = d_query + d_goals[:, None] * of_targets
        d_items = d_items.at[targets].add(d_goals[:, None] * query)
        d_bias = d_bias.at[targets].add(d_goals)
    return loss, (d_query, d_items, d_bias)


class LogitGradients(NamedTuple):
    """The losses of a chunk of positions, and their gradients by logits, offset and goals."""

    logits: Array  # float32[N, V]
    losses: Array  # float32[N]
    offset: Array  # float32[V]
    goals: Array  # float32[N], 0 where the targets are among the classes


def logit_gradients(
    logits: Array,
    offset: Array,
    targets: Array,
    weights: Array,
    goals: Array,
    candidates: Candidates | None,
    hidden: Array,
) -> LogitGradients:
    """Return the losses of `logits + offset` and their gradients.

    Args:
        logits: float32[N, V] without offset.
        offset: float32[V].
        targets: int32[N]: classes, or rows of the table with candidates.
        weights: float32[N].
        goals: float32[N], the logits of the targets; read with candidates.
        candidates: the classes, where they are drawn; a position's own target is left out of them.
        hidden: bool[N, V], what is no class; [N, 0] hides nothing.
    """
    loops = compiled_loops(logits)
    if loops and candidates is None:
        d_logits, losses, d_offset = loops.softmax(logits, offset, targets, weights, hidden)
        return LogitGradients(d_logits, losses, d_offset, goals)
    if loops and candidates is not None:
        return LogitGradients(*loops.softmax_sampled(logits, offset, targets, weights, hidden, candidates.rows, goals))
    logits, d_goals = logits + offset, jnp.zeros_like(goals)
    if hidden.size:
        logits = jnp.where(hidden, UNRANKED, logits)
    if candidates is None:
        goals = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    else:
        logits = jnp.where(candidates.rows == targets[:, None], UNRANKED, logits)
    top = jnp.maximum(jnp.max(logits, axis=1), goals)
    exponentials = jnp.exp(logits - top[:, None])
    total = jnp.sum(exponentials, axis=1)
    if candidates is not None:
        goal_exponentials = jnp.exp(goals - top)
        total = total + goal_exponentials
        d_goals = weights * (goal_exponentials / total - 1.0)
    share = exponentials * (weights / total)[:, None]
    if candidates is None:
        share = share.at[jnp.arange(len(share)), targets].add(-weights)
    losses = weights * (jnp.log(total) + top - goals)
    return LogitGradients(share, losses, jnp.sum(share, axis=0), d_goals)


def _backward(chunk: int | None, rounded: bool, gradients: tuple[Array, Array, Array], ahead: Array) -> tuple[Any, ...]:
    return (*(ahead * gradient for gradient in gradients), None, None, None, None)


softmax_cross_entropy.defvjp(_forward, _backward)


def rating_loss(network: Network, params: NetworkParams, earlier: Array, batch: Batch, taste_mask: Any) -> Array:
    """Return the mean loss of the ratings of a window; positions without a rating count 0.

    "squared" is half the squared error plus the normal likelihood of that error, which trains the
    spread alone; "ordinal" is the likelihood of the step of the scale next to the rating. With an
    `apart` head the gradient ends at the head.

    Args:
        earlier: float32[T, B, read_width], what heads read at the latest strictly earlier event of
            each target.
        taste_mask: dropout; None without.
    """
    head = network.rating
    assert head is not None
    if head.apart:
        params, earlier = lax.stop_gradient(params)._replace(rating=params.rating), lax.stop_gradient(earlier)
    known = jnp.isfinite(batch.ratings)
    held = jnp.clip(batch.ratings, head.scale.lowest, head.scale.highest)
    ratings = jnp.where(known, held, head.scale.mean)
    side = ItemSide(params.rating.tables.bias[batch.targets], params.items[batch.targets])
    latent, spread = network.rate(params, earlier, batch.query_gaps, side, taste_mask)
    if head.loss == "squared":
        squares = ((latent - ratings) / head.unit) ** 2
        _, spread = network.rate(_but_spread(params), lax.stop_gradient(earlier), batch.query_gaps, side)
        spread = spread / head.unit
        loss = 0.5 * squares + jnp.log(spread) + 0.5 * lax.stop_gradient(squares) / spread**2
    else:
        shares = head.shares(params.rating, latent, spread)
        step = jnp.argmin(jnp.abs(ratings[..., None] - jnp.asarray(head.scale.levels, jnp.float32)), axis=-1)
        loss = -jnp.log(jnp.take_along_axis(shares, step[..., None], axis=-1)[..., 0] + 1e-9)
    total: Array = jnp.sum(jnp.where(known, loss, 0.0)) / loss.size
    return total


def _but_spread(params: NetworkParams) -> NetworkParams:
    """Return weights of which only those of the spread are trained."""
    rating, fixed = params.rating, lax.stop_gradient(params)
    return fixed._replace(rating=fixed.rating._replace(spread=rating.spread, spread_offset=rating.spread_offset))


def strictly_earlier(outputs: Array, apart: Array, carried: Array) -> Array:
    """Return for each position the output at the latest event strictly earlier than its target.

    Args:
        outputs: float32[T, B, n], at each position.
        apart: bool[T, B], whether the target is later than the event read.
        carried: float32[B, n], the same of the last position of the window before.

    Example:
        >>> outputs, apart = jnp.arange(3.0).reshape(3, 1, 1), jnp.array([[False], [True], [False]])
        >>> strictly_earlier(outputs, apart, jnp.full((1, 1), 9.0))[:, 0, 0].tolist()
        [9.0, 1.0, 1.0]
    """
    places = jnp.where(apart, jnp.arange(len(apart))[:, None], -1)
    latest = lax.cummax(places, axis=0)
    within = jnp.take_along_axis(outputs, jnp.maximum(latest, 0)[..., None], axis=0)
    return jnp.where((latest >= 0)[..., None], within, carried)
