"""How good the weights are between passes: the rank of each user's held-out item, and its rating.

Knows: a scan over the histories of a sample of users, the same policy on repeats as the lists.
Does not know: when it is called. Reports and papers' tables come from `segue.evaluate`, which walks the
path of the server; this is the quick look that decides when to stop.
"""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax import Array

from segue.data.batches import Batcher
from segue.data.sequences import Sequences, moment_begins
from segue.measure.metrics import next_item_metrics
from segue.measure.ranks import target_ranks
from segue.model.heads import ItemSide
from segue.model.network import Memory, Network, NetworkParams, Window
from segue.shapes import Floats, Rows, Times

#: Users looked at after each pass; the standard error of NDCG@10 is then about .006.
SAMPLE = 2048
STEPS = 64
BLOCK = 256


@partial(jax.jit, static_argnums=0)
def _scan(network: Network, params: NetworkParams, memory: Memory, window: Window) -> tuple[Memory, Array]:
    return network.scan(params, memory, window)


@dataclass(frozen=True)
class Validation:
    """Held-out last items of a sample of users.

    Args:
        sequences: whole histories; the last event of each user is the target.
        exclude_seen: whether what a user had before is left out of the ranking.
        task: "next" measures ranks, "rating" the ratings of the same events, "both" both.
    """

    sequences: Sequences
    exclude_seen: bool
    task: str = "next"

    @classmethod
    def sample(cls, sequences: Sequences, *, exclude_seen: bool, seed: int, task: str = "next") -> "Validation":
        """Return a validation on at most `SAMPLE` users who have a known target and something before."""
        last = sequences.items[np.maximum(sequences.offsets[1:] - 1, 0)]
        able = np.flatnonzero((sequences.lengths >= 2) & (last > 0))
        if len(able) > SAMPLE:
            able = np.sort(np.random.default_rng(seed).choice(able, SAMPLE, replace=False))
        return cls(sequences.select(able), exclude_seen, task)

    def measure(self, network: Network, params: NetworkParams) -> dict[str, float]:
        """Return the metrics of the targets' ranks, ties against the model, gaps to the question unknown."""
        params, last = jax.tree.map(np.asarray, params), self.sequences.offsets[1:] - 1
        read, targets = self._read(network, params, last), self.sequences.items[last]
        metrics = {} if self.task == "rating" else self._ranked(network, params, read, targets)
        return metrics if self.task == "next" else metrics | self._rated(network, params, last)

    def _rated(self, network: Network, params: NetworkParams, last: Times) -> dict[str, float]:
        """Return how far the ratings of the targets lay from what the moment before them foretold."""
        sequences, head = self.sequences, network.rating
        assert head is not None and sequences.ratings is not None
        read = self._read(network, params, moment_begins(sequences)[last])
        items, unknown = sequences.items[last], np.full(len(last), np.nan, np.float32)
        side = ItemSide(params.rating.tables.bias[items], params.items[items])
        mean, _ = head.moments(params.rating, *network.rate(params, read, unknown, side))
        squares = (mean - sequences.ratings[last]) ** 2
        known = np.isfinite(squares)
        return {"rmse": float(np.sqrt(squares[known].mean()))} if known.any() else {}

    def _ranked(self, network: Network, params: NetworkParams, read: Floats, targets: Rows) -> dict[str, float]:
        queries = network.query(params, read, np.full(len(read), np.nan, np.float32))
        table, bias = np.asarray(params.items), np.asarray(params.bias)
        ranks = []
        for begin in range(0, len(targets), BLOCK):
            scores = queries[begin : begin + BLOCK] @ table.T + bias
            if self.exclude_seen:
                self._hide_seen(scores, begin)
            ranks.append(target_ranks(scores, targets[begin : begin + BLOCK]))
        return next_item_metrics(np.concatenate(ranks), ks=(10,))

    def _hide_seen(self, scores: np.ndarray, begin: int) -> None:
        offsets, items = self.sequences.offsets, self.sequences.items
        for row in range(len(scores)):
            user = begin + row
            target = items[offsets[user + 1] - 1]
            kept = scores[row, target]
            scores[row, items[offsets[user] : offsets[user + 1] - 1]] = -np.inf
            scores[row, target] = kept

    def _read(self, network: Network, params: NetworkParams, wanted: Times) -> Floats:
        """Return what heads read before one event of each user, by a scan in lanes."""
        users = len(self.sequences)
        lanes = max(1, min(64, users // 16))
        batcher = Batcher(self.sequences, lanes, STEPS, seed=0)
        memory = network.empty(params, lanes)
        asked_for = np.zeros(len(self.sequences.items), bool)
        asked_for[wanted] = True
        read = np.zeros((users, network.read_width), np.float32)
        for batch, event in batcher.placed_windows(0):
            window = Window(batch.items, batch.gaps, batch.first, batch.reset, batch.details, batch.profiles)
            memory, output = _scan(network, params, memory, window)
            asked = np.nonzero(asked_for[event] & (batch.weights > 0))
            user = np.searchsorted(self.sequences.offsets, event[asked], side="right") - 1
            read[user] = np.asarray(output)[asked]
        return read
