"""Row-sparse updates: the rows of the item table that an update touches are taken out and put back.

A row that no update touches is brought up to date in closed form, so that an update costs the same
whatever the size of the catalogue. The row has no gradient. Its weights decay,
`p_t = p_{t-1} (1 - rate_t w)`; its moments decay by b1 and b2 a step and do not move it; and its
running average follows it, `avg_t = k_t avg_{t-1} + (1 - k_t) p_t`. With D_t the product of all
decays, A_t the running average of D_t and K_t the product of all k_t, a row last touched at s is at
t

    p_t = p_s D_t / D_s
    avg_t = K_t / K_s (avg_s - p_s A_s / D_s) + p_s A_t / D_s

so that four numbers kept with each row, its `Moment`, are enough. Equal to the loop; tested.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from segue.config import Config
from segue.model.network import NetworkParams
from segue.training.update.optimiser import B1, B2, kept_share


class Moment(NamedTuple):
    """The state of the updates: scalars for now, an entry for each row for its last touch."""

    step: Any  # int32, updates so far
    log_kept: Any  # float32, log K
    decay: Any  # float32, D
    averaged: Any  # float32, A


class Learnt(NamedTuple):
    """The weights, their running average and the moments of the optimiser."""

    params: NetworkParams
    average: NetworkParams
    optimiser: Any


def beginning(rows: int | None = None) -> Moment:
    """Return the moment before the first update, of one clock or of many rows."""
    shape = () if rows is None else (rows,)
    ones = jnp.ones(shape, jnp.float32)
    return Moment(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32), ones, jnp.array(ones))


def after_update(now: Moment, config: Config, rate: Array) -> Moment:
    """Return the moment one update later."""
    kept = kept_share(config.experiment.weight_average, now.step.astype(jnp.float32))
    decay = now.decay * (1.0 - rate * config.train.weight_decay)
    averaged = decay + kept * (now.averaged - decay)
    return Moment(now.step + 1, now.log_kept + jnp.log(kept), decay, averaged)


def brought_up(learnt: Learnt, then: Moment, now: Moment) -> Learnt:
    """Return rows last touched at `then` as they are at `now`; other weights as they are."""
    ages = (now.step - then.step).astype(jnp.float32)
    kept, decay = jnp.exp(now.log_kept - then.log_kept), now.decay / then.decay
    before, after = then.averaged / then.decay, now.averaged / then.decay

    def average(p: Array, avg: Array, before: Array, after: Array, kept: Array) -> Array:
        return kept * (avg - p * before) + p * after

    p, avg, mu, nu = tables_of(learnt)
    ones = jnp.ones_like(kept)  # a bias does not decay
    columns = (before[:, None], after[:, None], kept[:, None])
    tables = [
        p._replace(items=p.items * decay[:, None]),
        avg._replace(items=average(p.items, avg.items, *columns), bias=average(p.bias, avg.bias, ones, ones, kept)),
        mu._replace(items=mu.items * (B1**ages)[:, None], bias=mu.bias * B1**ages),
        nu._replace(items=nu.items * (B2**ages)[:, None], bias=nu.bias * B2**ages),
    ]
    return with_tables(learnt, tables)


def tables_of(learnt: Learnt) -> list[NetworkParams]:
    """Return the four trees that hold a table of items."""
    moments = [optax.tree_utils.tree_get(learnt.optimiser, name) for name in ("mu", "nu")]
    tables: list[NetworkParams] = [learnt.params, learnt.average, *moments]
    return tables


def with_tables(learnt: Learnt, tables: list[NetworkParams]) -> Learnt:
    """Return the same with other trees that hold a table of items."""
    params, average, mu, nu = tables
    return Learnt(params, average, optax.tree_utils.tree_set(learnt.optimiser, mu=mu, nu=nu))


def take_rows(learnt: Learnt, touched: Moment, now: Moment, rows: Array) -> Learnt:
    """Return the same trees with the given rows of the item tables alone, up to date.

    Args:
        learnt: with whole tables.
        touched: when each row of the tables was touched last.
        now: the moment of this update.
        rows: int32[R], each once; rows past the table give zeros.
    """

    def taken(tree: NetworkParams) -> NetworkParams:
        return tree._replace(
            items=tree.items.at[rows].get(mode="fill", fill_value=0),
            bias=tree.bias.at[rows].get(mode="fill", fill_value=0),
        )

    then = Moment(*(column.at[rows].get(mode="clip") for column in touched))
    return brought_up(with_tables(learnt, [taken(tree) for tree in tables_of(learnt)]), then, now)


def put_rows(learnt: Learnt, touched: Moment, local: Learnt, now: Moment, rows: Array) -> tuple[Learnt, Moment]:
    """Return whole tables with the rows of `local` in place, all else of `local` as it is."""
    set_rows = {"mode": "drop", "unique_indices": True}

    def whole(old: NetworkParams, new: NetworkParams) -> NetworkParams:
        return new._replace(
            items=old.items.at[rows].set(new.items, **set_rows), bias=old.bias.at[rows].set(new.bias, **set_rows)
        )

    tables = [whole(*pair) for pair in zip(tables_of(learnt), tables_of(local), strict=True)]
    return with_tables(local, tables), Moment(
        *(column.at[rows].set(value, **set_rows) for column, value in zip(touched, now, strict=True))
    )


def settle(learnt: Learnt, touched: Moment, now: Moment) -> tuple[Learnt, Moment]:
    """Return every row up to date. Cost: O(tables)."""
    return brought_up(learnt, touched, now), jax.tree.map(
        lambda column, value: jnp.full_like(column, value), touched, now
    )
