"""One call of updates of one worker, as a pure function with named exchanges.

    ask the owners for the rows that the call reads        all-to-all     (large catalogues)
    sixteen updates on these rows alone                    local
    give the rows back; each owner takes the mean          all-to-all     (large catalogues)
    take the mean of all other weights                     all-reduce

The functions run inside `jax.shard_map` over processes, or inside `jax.vmap(axis_name=AXIS)` over
simulated workers in one process.

- **Weights.** The mean over all workers. A row of a large item table has the mean over the workers
  that read the row in this call; others would only say that they did nothing.
- **Running average.** Nothing is exchanged: the running average of means is the mean of running
  averages, so that the mean is taken when the average is read (`averaged`).
- **Moments of the optimiser.** Each worker keeps its own. Those of a row of a large table travel
  with the row.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from segue.config import Config
from segue.model.network import Network, NetworkParams
from segue.training.update.sparse_rows import (
    Learnt,
    Moment,
    settle,
    tables_of,
    take_rows,
    with_tables,
)
from segue.training.update.update import ItemData, Run, Update, update_many

#: The name of the axis of workers.
AXIS = "workers"
#: The exchanges, for type checkers.
_all: Any = lax


class WorkerCall(NamedTuple):
    """What one worker gives to a call."""

    many: Update  # with a leading axis; rows of sampled windows are places among the rows of the call
    rows: Any  # int32[N, Q], see `parts.Route`; None where every worker holds the whole item table
    items: ItemData  # of the rows of the call; of all items where `rows` is None
    largest: Any  # float32[n], of which the largest over all workers is wanted
    summed: Any  # float32[n], of which the sum over all workers is wanted


class Heard(NamedTuple):
    """What each worker knows after a call, the same for all."""

    losses: Array  # float32[updates], the mean over the workers
    largest: Any
    summed: Any


def learn(network: Network, config: Config, run: Run, call: WorkerCall, count: Array) -> tuple[Run, Heard]:
    """Learn from the first `count` windows of a call.

    Args:
        run: of this worker; with `call.rows` its item tables hold the rows that it owns.
        call: of this worker, of the same shapes in all workers.
        count: int32, the same in all workers.
    """
    if call.rows is not None:
        local, asked, heard = learn_rows(network, config, run, call, count)
        return put_means(own_tables(run), local, asked), heard
    run, losses = update_many(network, config, run, call.many, count, call.items)
    params = _mean_weights(run.learnt.params, tables=True)
    return run._replace(learnt=run.learnt._replace(params=params)), _heard(losses, call)


def _heard(losses: Array, call: WorkerCall) -> Heard:
    return Heard(_all.pmean(losses, AXIS), _all.pmax(call.largest, AXIS), _all.psum(call.summed, AXIS))


def _mean_weights(params: NetworkParams, *, tables: bool) -> NetworkParams:
    """Return weights with the mean over all workers, the item table included or not."""
    kept = params if tables else params._replace(items=(), bias=())
    flat, whole = ravel_pytree(kept)  # one exchange in place of one for each array
    mean: NetworkParams = whole(_all.pmean(flat, AXIS))
    return mean if tables else mean._replace(items=params.items, bias=params.bias)


def learn_rows(network: Network, config: Config, run: Run, call: WorkerCall, count: Array) -> tuple[Run, Array, Heard]:
    """Learn on the rows of a call, which come from their owners and go back to them.

    Returns:
        The run after the updates, whose item tables hold the rows that came back to this owner; the
        places of these rows, int32[R]; what all workers heard. `put_means` puts the rows in place.
        That is a program of its own, because a program that reads and writes a table copies it.
    """
    workers, room = call.rows.shape
    asked = _all.all_to_all(call.rows, AXIS, 0, 0, tiled=True).reshape(-1)  # what each worker asks of this one
    mine = _exchanged(take_rows(run.learnt, run.touched, run.now, asked), workers)
    then = Moment(*(jnp.full(workers * room, now) for now in run.now))
    local, losses = update_many(network, config, run._replace(learnt=mine, touched=then), call.many, count, call.items)
    learnt, _ = settle(local.learnt, local.touched, local.now)
    back = _exchanged(learnt, workers)
    back = back._replace(params=_mean_weights(back.params, tables=False))
    return local._replace(learnt=back, touched=()), asked, _heard(losses, call)


def _exchanged(learnt: Learnt, workers: int) -> Learnt:
    """Return the same trees with item tables [N * Q, ...] whose N parts went to the N workers."""
    tables = tables_of(learnt)
    columns = [part for tree in tables for part in (tree.items, tree.bias[:, None])]
    joined = jnp.concatenate(columns, axis=1)
    parts = _all.all_to_all(joined.reshape(workers, -1, joined.shape[1]), AXIS, 0, 0, tiled=True)
    width = tables[0].items.shape[1]
    split = jnp.split(parts.reshape(joined.shape), len(tables), axis=1)
    new = [tree._replace(items=part[:, :width], bias=part[:, width]) for tree, part in zip(tables, split, strict=True)]
    return with_tables(learnt, new)


def own_tables(run: Run) -> tuple[Any, Moment]:
    """Return the item tables and biases that a worker owns, and when each row was touched last."""
    return [(tree.items, tree.bias) for tree in tables_of(run.learnt)], run.touched


def put_means(own: tuple[Any, Moment], local: Run, rows: Array) -> Run:
    """Return the run after a call: each row that came back is the mean of all that came.

    Args:
        own: of `own_tables`, before the call.
        local: with the rows that came back, up to date, in place of the tables.
        rows: int32[R], where they belong; several workers may send one row, rows past the table are
            none.
    """
    tables, touched = own
    senders = jnp.zeros(len(touched.step), jnp.float32).at[rows].add(1.0, mode="drop")
    share = 1.0 / senders.at[rows].get(mode="fill", fill_value=1.0)

    def mean(old: Array, new: Array) -> Array:
        new = new * share.reshape(-1, *[1] * (new.ndim - 1))
        return old.at[rows].set(0.0, mode="drop").at[rows].add(new, mode="drop")

    whole = [
        new._replace(items=mean(items, new.items), bias=mean(bias, new.bias))
        for (items, bias), new in zip(tables, tables_of(local.learnt), strict=True)
    ]
    moments = (column.at[rows].set(now, mode="drop") for column, now in zip(touched, local.now, strict=True))
    return local._replace(learnt=with_tables(local.learnt, whole), touched=Moment(*moments))


def averaged(run: Run) -> NetworkParams:
    """Return the averaged weights: the mean over all workers; an owner's rows as they are, up to date."""
    average = run.learnt.average
    if run.touched is None:
        return _mean_weights(average, tables=True)
    learnt, _ = settle(run.learnt, run.touched, run.now)
    return _mean_weights(learnt.average, tables=False)


def rows_for_all(params: NetworkParams, rows: Array) -> tuple[Array, Array]:
    """Return rows of the item table and of its bias, from their owners, the same for all workers.

    Args:
        params: with the owner's rows.
        rows: int32[n], rows of the catalogue.
    """
    workers, own = _all.axis_size(AXIS), _all.axis_index(AXIS)
    place = jnp.where(rows % workers == own, rows // workers, len(params.bias))
    items = params.items.at[place].get(mode="fill", fill_value=0.0)
    bias = params.bias.at[place].get(mode="fill", fill_value=0.0)
    both: tuple[Array, Array] = _all.psum((items, bias), AXIS)
    return both


def stacked(tree: Any) -> Any:
    """Return a tree with a leading axis of one worker."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def unstacked(tree: Any) -> Any:
    """Return a tree without its leading axis of one worker."""
    return jax.tree.map(lambda leaf: leaf[0], tree)
