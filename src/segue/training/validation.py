"""Validation between epochs: the rank of each user's held-out item, and its rating.

Validation decides when training stops; reports come from `segue.evaluate`, which walks the path of
the server.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from segue.data.sequences.batches import Batches
from segue.data.sequences.sequences import Sequences, moment_begins
from segue.kernels.serving_loops import leave_out
from segue.metrics.metrics import next_item_metrics
from segue.metrics.ranks import target_ranks
from segue.model.heads import ItemSide
from segue.model.network import Memory, Network, NetworkParams, Window
from segue.model.transitions import RECENT
from segue.shapes import Floats, Rows, Times

#: Users of a validation; the standard error of NDCG@10 is then about .006.
SAMPLE = 2048
#: Users of a validation of a short log.
LEAST = 256
STEPS = 64
BLOCK = 256


@partial(jax.jit, static_argnums=0)
def _scan(network: Network, params: NetworkParams, memory: Memory, window: Window) -> tuple[Memory, Array]:
    return network.scan(params, memory, window)


def validation_users(sequences: Sequences, seed: int) -> NDArray[np.int64]:
    """Return int64[n], users who have a known last item and something before it, drawn by `seed`.

    Their last events are not learnt, so they are at most `SAMPLE`, and a tenth of the events, or
    `LEAST` where that is more.
    """
    last = sequences.items[np.maximum(sequences.offsets[1:] - 1, 0)]
    able = np.flatnonzero((sequences.lengths >= 2) & (last > 0))
    count = min(SAMPLE, max(LEAST, len(sequences.items) // 10))
    if len(able) > count:
        able = np.sort(np.random.default_rng(seed).choice(able, count, replace=False))
    return able


@dataclass(frozen=True)
class Validation:
    """Held-out last items of a sample of users.

    Args:
        sequences: whole histories; the last event of each user is the target.
        exclude_seen: whether seen items are left out of the ranking.
    """

    sequences: Sequences
    exclude_seen: bool

    @classmethod
    def sample(cls, sequences: Sequences, *, exclude_seen: bool, seed: int) -> "Validation":
        """Return a validation on the last event of `validation_users`."""
        return cls(sequences.select(validation_users(sequences, seed)), exclude_seen)

    def __str__(self) -> str:
        users = len(self.sequences)
        return f"Validating after each epoch on the last event of {users:,} user{'s' * (users != 1)}."

    def subset(self, events: int) -> "Validation":
        """Return a validation with fewer users, evenly spread, of about so many events."""
        users = max(1, int(len(self.sequences) * min(1.0, events / max(len(self.sequences.items), 1))))
        places = np.linspace(0, len(self.sequences) - 1, users).astype(np.int64)
        return self if users >= len(self.sequences) else replace(self, sequences=self.sequences.select(places))

    def measure(self, network: Network, params: NetworkParams) -> dict[str, float]:
        """Return the metrics of the targets' ranks, ties against the model, and their RMSE.

        The time since the last event is unknown. Where ratings alone are learnt there are no ranks.
        """
        return self.answered(network, params)[0]

    def answered(self, network: Network, params: NetworkParams) -> "tuple[dict[str, float], Answers | None]":
        """Return the metrics of `measure`, and the answers behind the ranks; None without ranks."""
        head = network.rating
        answers = self.answers(network, params) if head is None or head.apart else None
        metrics = {} if answers is None else answers.metrics()
        if head is None:
            return metrics, answers
        errors = self.rating_errors(network, params)
        known = errors[np.isfinite(errors)]
        return metrics | ({"rmse": float(np.sqrt(np.mean(known**2)))} if len(known) else {}), answers

    def rating_errors(self, network: Network, params: NetworkParams) -> Floats:
        """Return float32[user]: predicted less given rating of each target; NaN without one."""
        params, sequences, head = jax.tree.map(np.asarray, params), self.sequences, network.rating
        assert head is not None and sequences.ratings is not None
        last = sequences.offsets[1:] - 1
        read = self._read(network, params, moment_begins(sequences)[last])
        items, unknown = sequences.items[last], np.full(len(last), np.nan, np.float32)
        side = ItemSide(params.rating.tables.bias[items], params.items[items])
        mean = head.distribution(params.rating, *network.rate(params, read, unknown, side)).mean
        errors: Floats = mean - head.scale.clip(sequences.ratings[last])
        return errors

    def answers(self, network: Network, params: NetworkParams) -> "Answers":
        """Return the network's queries for each user's last event, from the events before it."""
        sequences = self.sequences
        events, begins = sequences.offsets[1:] - 1, sequences.offsets[:-1]
        return Answers(
            queries=self.queries(network, params),
            targets=sequences.items[events],
            items=np.asarray(params.items),
            bias=np.asarray(params.bias),
            recent=sequences.recent_before(events, begins, RECENT),
            seen=[sequences.items[a:b] for a, b in zip(begins, events, strict=True)] if self.exclude_seen else [],
        )

    def queries(self, network: Network, params: NetworkParams) -> Floats:
        """Return float32[user, d], the query of each user."""
        read = self._read(network, params, self.sequences.offsets[1:] - 1)
        unknown = np.full(len(read), np.nan, np.float32)
        queries: Floats = network.query(jax.tree.map(np.asarray, params), read, unknown)
        return queries

    def _read(self, network: Network, params: NetworkParams, wanted: Times) -> Floats:
        """Return what heads read just before one event, `wanted`, of each user."""
        users = len(self.sequences)
        lanes = max(1, min(64, users // 16))
        batches = Batches(self.sequences, lanes, STEPS, seed=0)
        memory = network.empty(params, lanes)
        is_wanted = np.zeros(len(self.sequences.items), bool)
        is_wanted[wanted] = True
        read = np.zeros((users, network.read_width), np.float32)
        for batch, event in batches.placed_windows(0):
            window = Window(batch.items, batch.gaps, batch.first, batch.reset, batch.details, batch.profiles)
            memory, output = _scan(network, params, memory, window)
            places = np.nonzero(is_wanted[event] & (batch.weights > 0))
            user = np.searchsorted(self.sequences.offsets, event[places], side="right") - 1
            read[user] = np.asarray(output)[places]
        return read


@dataclass(frozen=True)
class Answers:
    """A network's queries for the held-out items of users, block by block.

    Args:
        queries: float32[user, d].
        targets: int32[user], rows of the held-out items.
        items: float32[V, d], the item table.
        bias: float32[V].
        recent: int32[user, RECENT], the last items before the target.
        seen: for each user the rows to leave out; empty where nothing is left out.
    """

    queries: Floats
    targets: Rows
    items: Floats
    bias: Floats
    recent: Rows
    seen: list[Rows]

    def of(self, users: slice) -> "Answers":
        """Return the answers of a slice of the users."""
        queries, targets, recent = self.queries[users], self.targets[users], self.recent[users]
        return Answers(queries, targets, self.items, self.bias, recent, self.seen[users])

    def subset(self, count: int) -> "Answers":
        """Return the answers for about `count` users or fewer, evenly spread."""
        return self.of(slice(None, None, max(1, round(len(self.targets) / count))))

    def blocks(self) -> Iterator["Answers"]:
        """Yield all answers, `BLOCK` users at a time."""
        for begin in range(0, len(self.targets), BLOCK):
            yield self.of(slice(begin, begin + BLOCK))

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the targets' ranks."""
        return next_item_metrics(self.ranks(), ks=(10,))

    def ranks(self) -> Floats:
        """Return float64[user], the rank of each target."""
        return np.concatenate([target_ranks(block.hidden(block.scores()), block.targets) for block in self.blocks()])

    def scores(self) -> Floats:
        """Return float32[user, V], with row 0 at -inf."""
        return leave_out(self.queries @ self.items.T + self.bias)

    def hidden(self, scores: Floats) -> Floats:
        """Return scores in which the seen items and row 0 are -inf, but for the target."""
        own = np.arange(len(scores)), self.targets
        hidden = leave_out(scores.copy(), self.seen)
        hidden[own] = scores[own]
        return hidden
