"""The memory of a trained network: how its list changes when one earlier event is left out.

A gradient says what a small change would do; this says what a whole event did. Runs on NumPy alone.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from segue.data.log.events import Events
from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError
from segue.insight.spread import Spread, spread
from segue.kernels.serving_loops import leave_out, top_k
from segue.model.encoder import encode_users, window_of
from segue.model.network import Memory
from segue.model.transitions import RECENT
from segue.recommend.plan import Sample, plan
from segue.recommend.recommender import Recommender
from segue.shapes import Bools, Floats

#: Items of the list that is compared.
K = 10


@dataclass(frozen=True)
class Reach:
    """The change when the event `lag` before the last is left out, by lag.

    Args:
        change: of the log-probability of the item that truly came next, its size in nats.
        mean: the mean of that change over users, for the few that matter much are not in a median.
        new_in_list: the mean share of the first ten of the list that were not there before.
        users: how many users were measured.
    """

    change: Spread
    mean: tuple[float, ...]
    new_in_list: tuple[float, ...]
    users: int


def lags_up_to(longest: int) -> list[int]:
    """Return the lags to look at: each of the first ten, then ever fewer.

    Example:
        >>> lags_up_to(30)
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14, 18, 22, 28, 30]
    """
    lags, lag = [], 0
    while lag < longest:
        lags.append(lag)
        lag = lag + 1 if lag < 9 else round(lag * 1.25)
    return [*lags, longest]


def reach(rec: Recommender, sequences: Sequences, *, longest: int = 50, users: int = 256, seed: int = 0) -> Reach:
    """Return the influence of each earlier event on the list.

    Args:
        sequences: histories, in its terms; the last event of each user is the one that truly came next.
        longest: lags go from 0, the last event before that one, to this.
        users: at most, drawn from those with enough events.
        seed: of the draw.

    Raises:
        ArgumentError: no user has `longest` + 2 events and an item at the end that is known.

    Cost: for each lag one reading of the last `longest` events of the users.
    """
    last = sequences.items[np.maximum(sequences.offsets[1:] - 1, 0)] if len(sequences.items) else np.zeros(0)
    able = np.flatnonzero((sequences.lengths >= longest + 2) & (last > 0))
    if not len(able):
        raise ArgumentError(
            f"reach: expected a user with {longest + 2} events or more, found none. Take a smaller lag or a longer log."
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(able)[:users])
    histories = sequences.select(chosen)
    ends = histories.offsets[1:] - 1
    early = np.arange(len(histories.items)) < np.repeat(ends - longest - 1, histories.lengths)
    memory, _ = encode_users(rec.network, rec.params, histories.keep(early))
    whole = _log_probabilities(rec, histories, memory, longest + 1)
    seen = _seen(histories, rec.vocabulary.size) if rec.repeats == "exclude" else np.zeros(whole.shape, bool)
    targets, rows = histories.items[ends], np.arange(len(histories))
    best, changes, new = _best(whole, seen), [], []
    lags = lags_up_to(longest)
    for lag in lags:
        kept = np.ones(len(histories.items), bool)
        kept[ends - 1 - lag] = False
        without = _log_probabilities(rec, histories.keep(kept), memory, longest)
        changes.append(np.abs(without[rows, targets] - whole[rows, targets]))
        new.append(1.0 - np.mean([np.isin(a, b).mean() for a, b in zip(_best(without, seen), best, strict=True)]))
    mean = tuple(float(of.mean()) for of in changes)
    return Reach(spread(changes, lags), mean, tuple(float(share) for share in new), len(histories))


def drawn_histories(rec: Recommender, *, users: int = 64, events: int = 52, seed: int = 0) -> Sequences:
    """Return histories drawn at random from the network. Cost: users x events steps and lists."""
    nobody = rec.start()
    rows = [
        (f"drawn {user}", line.item)
        for user in range(users)
        for line in plan(rec, nobody, events, by=Sample(seed=seed * users + user)).items
    ]
    return rec.sequences(Events(pl.DataFrame(rows, schema=["user", "item"], orient="row"), "drawn histories"))


def _log_probabilities(rec: Recommender, sequences: Sequences, memory: Memory, steps: int) -> Floats:
    """Return float32[user, row] for the last event of each user, read on from `memory` over the `steps` before it."""
    position = np.arange(-steps, 0)[:, None] + sequences.lengths
    window, _ = window_of(sequences, np.arange(len(sequences)), position)
    _, output = rec.network.scan(rec.params, memory, window)
    unknown = np.full(len(sequences), np.nan, np.float32)
    recent = sequences.recent_before(sequences.offsets[1:] - 1, sequences.offsets[:-1], RECENT)
    scores = leave_out(rec.score_outputs(output[-1], unknown, recent))
    scores -= scores.max(axis=1, keepdims=True)
    result: Floats = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return result


def _seen(sequences: Sequences, size: int) -> Bools:
    """Return bool[user, row]: the items of each user before the last event."""
    seen = np.zeros((len(sequences), size), bool)
    users = np.repeat(np.arange(len(sequences)), sequences.lengths)
    before = np.ones(len(users), bool)
    before[sequences.offsets[1:] - 1] = False
    seen[users[before], sequences.items[before]] = True
    return seen


def _best(scores: Floats, seen: Bools) -> list[list[int]]:
    best: list[list[int]] = top_k(np.where(seen, np.float32(-np.inf), scores), K).places.tolist()
    return best
