"""Validation over all workers: each reads its share of the users and ranks among its own items."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from segue.metrics.metrics import next_item_metrics
from segue.model.network import Network, NetworkParams
from segue.shapes import Floats, Rows
from segue.training.distributed.exchange import Exchange
from segue.training.validation import Validation

#: Rows fetched at once, and scores that exist at one time.
ROWS, SCORES = 1 << 14, 1 << 22


class _Share(NamedTuple):
    """A worker's share of the users of a validation, and their numbers among all users."""

    validation: Validation
    users: Rows


def measure(
    validation: Validation, network: Network, params: NetworkParams, exchange: Exchange, *, owned: bool
) -> dict[str, float]:
    """Return the metrics of `Validation.measure`, the same in all workers.

    Args:
        params: averaged weights with rating tables and attributes; with `owned` their item table
            and rating tables hold the rows that this worker owns.
        owned: whether item tables are shared out by rows.

    Cost: `owned`, users x V x d operations and the rows that the users have read, for each worker a
    share.
    """
    head, users = network.rating, len(validation.sequences)
    share = _share_of(validation, exchange)
    small, params_read = share, params
    if owned:
        rows = np.unique(np.append(validation.sequences.items, 0)).astype(np.int32)
        params_read = _with_rows(params, rows, exchange)
        items = np.searchsorted(rows, share.validation.sequences.items).astype(np.int32)
        small = share._replace(
            validation=replace(share.validation, sequences=replace(share.validation.sequences, items=items))
        )
    metrics: dict[str, float] = {}
    if head is None or head.apart:
        ranks = (
            _owned_ranks(validation, small, network, params, params_read, exchange)
            if owned
            else _of_all(
                small.validation.answers(network, params_read).ranks() if len(small.users) else np.zeros(0),
                small,
                users,
                exchange,
            )
        )
        metrics = next_item_metrics(ranks, ks=(10,))
    if head is not None:
        errors = small.validation.rating_errors(network, params_read) if len(small.users) else np.zeros(0)
        known = np.isfinite(errors)
        squares, count = exchange.sum(np.array([np.sum(errors[known] ** 2), known.sum()], np.float32))
        metrics |= {"rmse": float(np.sqrt(squares / count))} if count else {}
    return metrics


def _share_of(validation: Validation, exchange: Exchange) -> _Share:
    users = np.arange(exchange.worker, len(validation.sequences), exchange.workers)
    return _Share(replace(validation, sequences=validation.sequences.select(users)), users.astype(np.int32))


def _of_all(values: Any, share: _Share, users: int, exchange: Exchange) -> Any:
    """Return float32[user, ...], what every worker found of its users."""
    whole = np.zeros((users, *values.shape[1:]), np.float32)
    whole[share.users] = values
    return exchange.sum(whole)


def _with_rows(params: NetworkParams, rows: Rows, exchange: Exchange) -> NetworkParams:
    """Return weights whose item tables hold some rows of the catalogue, fetched from their owners."""
    tables = NetworkParams(params.items, params.bias, *[()] * (len(NetworkParams._fields) - 2))
    pieces = [
        exchange.rows_for_all(tables, np.resize(rows[begin : begin + ROWS], ROWS))
        for begin in range(0, len(rows), ROWS)
    ]
    items, bias = (np.concatenate(parts)[: len(rows)] for parts in zip(*pieces, strict=True))
    return params._replace(items=items, bias=bias)


def _owned_ranks(
    validation: Validation,
    share: _Share,
    network: Network,
    params: NetworkParams,
    read: NetworkParams,
    exchange: Exchange,
) -> Floats:
    """Return float32[user], each target's rank: one more than the items that score as high, counted by their owners."""
    users, sequences = len(validation.sequences), validation.sequences
    queries = share.validation.queries(network, read) if len(share.users) else np.zeros((0, network.width), np.float32)
    last = share.validation.sequences.items[share.validation.sequences.offsets[1:] - 1]
    goals = np.sum(queries * np.asarray(read.items)[last], axis=1) + np.asarray(read.bias)[last]
    both = _of_all(np.column_stack([queries, goals]).astype(np.float32), share, users, exchange)
    queries, goals = both[:, :-1], both[:, -1]
    own = len(range(exchange.worker, network.items, exchange.workers))
    items, bias = np.asarray(params.items)[:own], np.asarray(params.bias)[:own]
    above, block = np.zeros(users, np.float32), max(1, SCORES // len(bias))
    begins, targets = sequences.offsets[:-1], sequences.offsets[1:] - 1
    for first in range(0, users, block):
        scores = queries[first : first + block] @ items.T + bias
        for line, user in enumerate(range(first, min(first + block, users))):
            hidden = sequences.items[begins[user] if validation.exclude_seen else targets[user] : targets[user] + 1]
            hidden = np.append(hidden, 0)  # row 0, and the target itself
            scores[line, hidden[hidden % exchange.workers == exchange.worker] // exchange.workers] = -np.inf
        above[first : first + block] = np.count_nonzero(scores >= goals[first : first + block, None], axis=1)
    ranks: Floats = 1.0 + exchange.sum(above)
    return ranks
