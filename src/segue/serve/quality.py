"""How good the lists are while the server runs: each event is ranked by its user's state just before it.

Knows: running sums by bundle, hour and type of event.
Does not know: networks. The ranks are those of `segue.measure`, so that live and offline numbers are one.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segue.measure.metrics import mrr, recall
from segue.measure.ranks import target_ranks
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.serve.answers import Question
from segue.serve.events import Event
from segue.serve.listing import Shelf, hide
from segue.shapes import Floats

#: Items above which the log-loss is an estimate from a sample.
EXACT = 50_000
#: Hours and types kept apart; what comes beyond these is counted as "other".
KEPT = 200


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

    def count(self, rec: Recommender, shelf: Shelf, events: Sequence[tuple[State, Event]], scores: Floats) -> None:
        """Count events by the lists that were the answer just before them.

        Args:
            rec: the bundle.
            shelf: what may be shown.
            events: each with the state before it.
            scores: float32[event, row] of these states; changed.
        """
        if not events:
            return
        for row, (state, _) in zip(scores, events, strict=True):
            hide(rec, state, row, Question(), shelf)
        targets = np.array([rec.vocabulary.row(event.item) for _, event in events])
        ranks, known = np.full(len(targets), float(scores.shape[1])), targets > 0
        ranks[known] = target_ranks(scores[known], targets[known])
        losses = [surprise(row, int(target)) for row, target in zip(scores, targets, strict=True)]
        found = zip(events, recall(ranks, k=10), mrr(ranks, k=10), losses, strict=True)
        with self._lock:
            self.sampled |= scores.shape[1] > EXACT
            for (_, event), hit, reciprocal, loss in found:
                for key in _keys(rec, event):
                    self._add(key, float(hit), float(reciprocal), loss)

    def _add(self, key: tuple[str, str], hit: float, reciprocal: float, loss: float) -> None:
        if key not in self.groups and len(self.groups) > KEPT:
            key = (key[0], "other")
        sums = self.groups.setdefault(key, Sums())
        sums.events += 1
        sums.hits += hit
        sums.reciprocal += reciprocal
        sums.log_loss += loss

    def snapshot(self) -> dict[str, Any]:
        """Return the means so far, by group."""
        with self._lock:
            found: dict[str, Any] = {"sampled": self.sampled}
            for (name, value), sums in self.groups.items():
                found.setdefault(name, {})[value] = sums.to_dict()
        return found


def _keys(rec: Recommender, event: Event) -> list[tuple[str, str]]:
    hour = "none" if event.time is None else f"{event.time // 3_600_000_000 % 24:02d}"
    return [("all", "all"), ("bundle", rec.fingerprint[:12]), ("hour", hour), ("type", event.type or "none")]


def surprise(scores: Floats, target: int) -> float:
    """Return `-log softmax(scores)[target]` in nats; from a sample above `EXACT` items.

    A target that is filtered or unknown counts as if it had the chance of one in all items.
    """
    if not target or not np.isfinite(scores[target]):
        return float(np.log(max(len(scores) - 1, 1)))
    goal, stretch = float(scores[target]), 1.0
    if len(scores) > EXACT:
        drawn = np.random.default_rng(target).integers(0, len(scores), EXACT)
        stretch, scores = len(scores) / EXACT, scores[drawn]
    top = max(float(scores.max()), goal)
    total = float(np.exp(scores - np.float32(top)).sum()) * stretch  # what is filtered adds exp(-inf) = 0
    return float(np.log(max(total, float(np.exp(goal - top)))) + top - goal)
