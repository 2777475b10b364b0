"""How good the lists are while the server runs: each event is ranked by its user's state just before it.

Knows: running sums by bundle, hour and type of event.
Does not know: networks. The ranks are those of `segue.measure`, so that live and offline numbers are one.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segue.measure.metrics import mrr, recall
from segue.measure.ranks import target_ranks
from segue.shapes import Floats

#: Items above which the log-loss is an estimate from a sample.
EXACT = 50_000
#: Hours and types kept apart; what comes beyond these is counted as "other".
KEPT = 200


@dataclass(frozen=True, slots=True)
class Scored:
    """How one event was foreseen."""

    hit: float
    reciprocal: float
    log_loss: float
    sampled: bool


def foreseen(scores: Floats, target: int) -> Scored:
    """Return how well a list foresaw an event.

    Args:
        scores: float32[row] of the list that its user's state would have given, filters applied.
        target: its row, 0 for an item that the bundle does not know: a miss.
    """
    rank = float(target_ranks(scores[None], [target])[0]) if target else float(len(scores))
    ranks = np.array([rank])
    return Scored(
        float(recall(ranks, k=10)[0]), float(mrr(ranks, k=10)[0]), surprise(scores, target), len(scores) > EXACT
    )


@dataclass
class Sums:
    """Running sums of a group of events."""

    events: int = 0
    hits: float = 0.0
    reciprocal: float = 0.0
    log_loss: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """Return means, and the number of events."""
        n = max(self.events, 1)
        return {
            "n": self.events,
            "recall@10": self.hits / n,
            "mrr@10": self.reciprocal / n,
            "log_loss": self.log_loss / n,
        }


@dataclass
class LiveQuality:
    """Running recall, MRR and log-loss; safe to be called from several threads."""

    groups: dict[tuple[str, str], Sums] = field(default_factory=dict)
    sampled: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, scored: Scored, labels: Mapping[str, str]) -> None:
        """Count one event under labels such as `{"bundle": ..., "hour": ..., "type": ...}`."""
        with self._lock:
            self.sampled |= scored.sampled
            for name, value in {"all": "all", **labels}.items():
                key = (name, value)
                if key not in self.groups and len(self.groups) > KEPT:
                    key = (name, "other")
                sums = self.groups.setdefault(key, Sums())
                sums.events += 1
                sums.hits += scored.hit
                sums.reciprocal += scored.reciprocal
                sums.log_loss += scored.log_loss

    def snapshot(self) -> dict[str, Any]:
        """Return the means so far, by group."""
        with self._lock:
            found: dict[str, Any] = {"sampled": self.sampled}
            for (name, value), sums in self.groups.items():
                found.setdefault(name, {})[value] = sums.to_dict()
        return found


def surprise(scores: Floats, target: int) -> float:
    """Return `-log softmax(scores)[target]` in nats; from a sample above `EXACT` items.

    A target that is filtered or unknown counts as if it had the chance of one in all items.
    """
    finite = scores[np.isfinite(scores)].astype(np.float64)
    if not target or not np.isfinite(scores[target]) or not len(finite):
        return float(np.log(max(len(scores) - 1, 1)))
    goal, stretch = float(scores[target]), 1.0
    if len(finite) > EXACT:
        drawn = np.random.default_rng(target).integers(0, len(finite), EXACT)
        stretch, finite = len(finite) / EXACT, finite[drawn]
    top = max(float(finite.max()), goal)
    total = np.exp(finite - top).sum() * stretch
    return float(np.log(max(total, np.exp(goal - top))) + top - goal)
