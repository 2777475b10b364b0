"""One update of a training run: a window in, the loss, its gradient, the weights after it.

State comes in as a value and goes out as a value.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from segue.config import Config, ExperimentConfig
from segue.data.sequences.batches import Batch
from segue.model.backend import is_leaf
from segue.model.blocks import BlockMasks
from segue.model.network import Masks, Memory, Network, NetworkParams, Window
from segue.training.update.dropout import chance, dropout_mask
from segue.training.update.losses import Candidates, rating_loss, softmax_cross_entropy, strictly_earlier
from segue.training.update.negatives import Sampled, cuts
from segue.training.update.optimiser import kept_share, make_optimiser, running_average
from segue.training.update.seen_mask import hidden_classes
from segue.training.update.sparse_rows import Learnt, Moment, after_update, beginning, put_rows, settle, take_rows

#: Dropout keeps this share of a user's taste, relative to elsewhere: the taste overfits fastest.
TASTE_KEPT = 0.4


class Run(NamedTuple):
    """Everything that changes in training."""

    learnt: Learnt
    memory: Memory
    touched: Any  # Moment of every row, or None where every update sees the whole table
    now: Moment
    carried: Any = ()  # [B, read_width], what the rating head read at the last position of the window before


class ItemData(NamedTuple):
    """Data of the items that no gradient changes."""

    attributes: Any = None  # float16[V, m]; None for ids alone
    ratings: Any = ()  # RatingTables; () without a rating head


#: Without attributes and ratings.
NO_ITEM_DATA = ItemData()


def draw_masks(network: Network, rate: float, seed: Array, shape: tuple[int, int]) -> Masks | None:
    """Return dropout masks for a window `[T, B]`, or None where nothing is dropped."""
    if rate == 0.0:
        return None
    full = (*shape, network.width)
    streams = iter(range(10, 10 + 2 + 2 * network.depth))

    def draw() -> Any:
        return dropout_mask(seed, next(streams), full, rate)

    masks = Masks(draw(), tuple(BlockMasks(draw(), draw()) for _ in range(network.depth)), draw())
    if network.rating:
        masks = masks._replace(taste=dropout_mask(seed, 9, full, 1.0 - TASTE_KEPT * (1.0 - rate)))
    return masks


def rounded_weights(tree: Any) -> Any:
    """Return weights, those that multiply vectors (by name `w_...`) in bfloat16."""
    if is_leaf(tree):
        return tree
    names = getattr(tree, "_fields", ("",) * len(tree))
    parts = [
        part.astype(jnp.bfloat16) if name.startswith("w_") else rounded_weights(part)
        for name, part in zip(names, tree, strict=True)
    ]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def rounded_factors(params: NetworkParams) -> NetworkParams:
    """Return the weights, those of attributes and of the blocks' products in bfloat16."""
    attributes = params.attributes and params.attributes._replace(vector=params.attributes.vector.astype(jnp.bfloat16))
    return params._replace(attributes=attributes, blocks=rounded_weights(params.blocks))


def drop_inputs(experiment: ExperimentConfig, batch: Any, seed: Array, timed: tuple[int, int] = (0, 0)) -> Any:
    """Return a batch with some inputs replaced by *unknown*, so that the model does without.

    The event features from `timed[0]` to before `timed[1]` are hour and day: they are unknown where
    the gap is.
    """
    shape = batch.items.shape
    no_gap = chance(seed, 1, shape, experiment.gap_dropout)
    no_question_gap = chance(seed, 2, shape, experiment.question_dropout)

    def without(values: Any, stream: int, rate: float, untimed: Any = None) -> Any:
        if values is None:
            return None
        gone = chance(seed, stream, shape, rate)[..., None]
        if untimed is not None:
            place = jnp.arange(values.shape[-1])
            gone = jnp.where((place >= timed[0]) & (place < timed[1]), untimed[..., None], gone)
        return jnp.where(gone, 0.0, values)

    return batch._replace(
        items=jnp.where(chance(seed, 0, shape, experiment.item_dropout), 0, batch.items),
        gaps=jnp.where(no_gap, jnp.nan, batch.gaps),
        query_gaps=jnp.where(no_question_gap, jnp.nan, batch.query_gaps),
        details=without(batch.details, 3, experiment.event_feature_dropout, no_gap),
        query_details=without(batch.query_details, 4, experiment.question_dropout, no_question_gap),
        profiles=without(batch.profiles, 5, experiment.profile_dropout),
    )


class Carried(NamedTuple):
    """What is carried from window to window."""

    memory: Memory
    earlier: Any


def loss_of(
    network: Network,
    config: Config,
    params: NetworkParams,
    carried: Carried,
    batch: Batch,
    candidates: Candidates | None,
    items: ItemData,
    seed: Array,
    before: Any = None,
) -> tuple[Array, Carried]:
    """Return the mean loss of a window, in nats or squared ratings, and what is carried after it.

    With `before`, the seen items of each user before the window (`Histories.before`), a target is
    compared only with items that a list may hold.
    """
    hidden = None
    if before is not None:
        classes = candidates.rows if candidates else jnp.arange(network.items)
        hidden = hidden_classes(before, batch, classes).reshape(-1, len(classes))
    batch = drop_inputs(config.experiment, batch, seed, network.timed)
    if network.rating:
        params = params._replace(rating=params.rating._replace(tables=items.ratings))
    rounded = config.train.precision == "bfloat16"
    if rounded:
        params = rounded_factors(params)
    if items.attributes is not None:
        # An item whose id is hidden is like an item that came after the training.
        shown = 1.0 - chance(seed, 6, params.bias.shape, config.train.id_dropout).astype(jnp.float32)
        with jax.named_scope("attributes"):
            params = network.with_attributes(params, items.attributes.astype(jnp.float32), shown)
    masks = draw_masks(network, config.model.dropout or 0.0, seed, batch.items.shape)
    window = Window(batch.items, batch.gaps, batch.first, batch.reset, batch.details, batch.profiles)
    with jax.named_scope("network"):
        memory, output = network.scan(params, carried.memory, window, masks)
    total, earlier = jnp.zeros(()), carried.earlier
    if config.train.task != "rating":
        query = network.query(params, output, batch.query_gaps, batch.query_details).reshape(-1, network.width)
        targets: Any = batch.targets.reshape(-1)
        weights: Any = batch.weights.reshape(-1) / len(query)  # so that no gradient of a table has to be divided
        with jax.named_scope("loss"):
            total = softmax_cross_entropy(
                query, params.items, params.bias, targets, weights, candidates, hidden, rounded=rounded
            )
    if network.rating:
        read = strictly_earlier(output, batch.apart | batch.reset, carried.earlier)
        earlier = read[-1]
        total = total + rating_loss(network, params, read, batch, masks and masks.taste)
    return total, Carried(memory, earlier)


class Update(NamedTuple):
    """The inputs of one update; those of many updates have a leading axis."""

    window: Any  # Batch | Sampled
    seed: Any  # uint32
    rate: Any  # float32
    before: Any = None  # bool[B, C]: which classes each user has seen before; None where they are compared, too


def update(
    network: Network, config: Config, run: Run, new: Update, items: ItemData = NO_ITEM_DATA
) -> tuple[Run, Array]:
    """Learn from one window: return the run after it and the window's mean loss.

    Where a sampled window names rows, only these rows are read, differentiated and changed.
    """
    learnt, touched, after = run.learnt, run.touched, after_update(run.now, config, new.rate)
    batch, candidates, sampled = new.window, None, None
    if isinstance(new.window, Sampled):
        sampled = jax.tree.map(jnp.asarray, new.window)
        batch = sampled.batch
        candidates = Candidates(sampled.candidates, sampled.log_expected, sampled.target_log_expected.reshape(-1))
        if sampled.rows is not None:
            learnt = take_rows(learnt, touched, run.now, sampled.rows)
            items = jax.tree.map(lambda table: table.at[sampled.rows].get(mode="clip"), items)
    grad = jax.value_and_grad(partial(loss_of, network, config), has_aux=True)
    carried = Carried(run.memory, run.carried)
    (loss, carried), gradient = grad(learnt.params, carried, batch, candidates, items, new.seed, new.before)
    with jax.named_scope("optimiser"):
        change, optimiser = make_optimiser(config.train).update(gradient, learnt.optimiser, learnt.params)
        params = jax.tree.map(lambda weights, delta: weights - new.rate * delta, learnt.params, change)
        kept = kept_share(config.experiment.weight_average, run.now.step.astype(jnp.float32))
        learnt = Learnt(params, running_average(learnt.average, params, kept), optimiser)
    if sampled and sampled.rows is not None:
        learnt, touched = put_rows(run.learnt, touched, learnt, after, sampled.rows)
    return Run(learnt, carried.memory, touched, after, carried.earlier), loss


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2,))
def update_many(
    network: Network, config: Config, run: Run, many: Update, count: Array, items: ItemData = NO_ITEM_DATA
) -> tuple[Run, Array]:
    """Learn from the first `count` windows of many: return the run after them, and their losses."""

    def one_update(i: Array, carried: tuple[Run, Array]) -> tuple[Run, Array]:
        run, losses = carried
        run, loss = update(network, config, run, jax.tree.map(lambda rows: rows[i], many), items)
        return run, losses.at[i].set(loss)

    result: tuple[Run, Array] = lax.fori_loop(0, count, one_update, (run, jnp.zeros(many.rate.shape)))
    return result


@partial(jax.jit, donate_argnums=(0,))
def settled(run: Run) -> Run:
    """Return the run with every row of the item table up to date."""
    learnt, touched = settle(run.learnt, run.touched, run.now)
    return run._replace(learnt=learnt, touched=touched)


@partial(jax.jit, static_argnums=0)
def add_attributes(network: Network, params: NetworkParams, attributes: Array) -> NetworkParams:
    """Return the weights with attributes added to the item vectors."""
    return network.with_attributes(params, attributes.astype(jnp.float32))


def begin(network: Network, config: Config) -> Run:
    """Return a run that has learnt nothing yet."""
    return begin_with(network, config, jax.tree.map(jnp.asarray, without_tables(network.init(config.train.seed))))


def begin_with(network: Network, config: Config, params: NetworkParams) -> Run:
    """Return a run that begins with these weights."""
    assert config.train.batch_size is not None
    memory = jax.tree.map(jnp.array, network.empty(params, config.train.batch_size))
    learnt = Learnt(params, jax.tree.map(jnp.copy, params), make_optimiser(config.train).init(params))
    carried = jnp.zeros((config.train.batch_size, network.read_width)) if network.rating else ()
    touched = beginning(len(params.bias)) if cuts(network.items, config.train) else None
    return Run(learnt, memory, touched, beginning(), carried)


def without_tables(params: NetworkParams) -> NetworkParams:
    """Return the weights without the tables of ratings, which no gradient changes."""
    return params._replace(rating=params.rating._replace(tables=())) if params.rating else params
