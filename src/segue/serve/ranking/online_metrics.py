"""Online metrics: the share of events that were in the list that their users would have been shown just before.

Knows: running sums by model, hour and type of event. The metrics are those of `segue.metrics`, so that online and
offline numbers are one.
Does not know: networks, or how an event is ranked (`segue.serve.ranking.event_ranks`).
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segue.metrics.metrics import mrr, recall
from segue.recommend.recommender import Recommender
from segue.serve.ranking.event_ranks import RankedEvent
from segue.store.events import Event

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
class OnlineMetrics:
    """Running recall, MRR and log-loss; safe to be called from several threads."""

    groups: dict[tuple[str, str], Sums] = field(default_factory=dict)
    sampled: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, rec: Recommender, ranked: Sequence[RankedEvent]) -> None:
        """Count events by where they stood in the lists of a model just before them."""
        if not ranked:
            return
        ranks = np.array([one.rank for one in ranked])
        hits, reciprocals = recall(ranks, k=10).tolist(), mrr(ranks, k=10).tolist()
        with self._lock:
            self.sampled |= rec.index is not None
            for one, hit, reciprocal in zip(ranked, hits, reciprocals, strict=True):
                for key in _keys(rec, one.event):
                    sums = self.groups.get(key) or self._group(key)
                    sums.events += 1
                    sums.hits += hit
                    sums.reciprocal += reciprocal
                    sums.log_loss += one.loss

    def _group(self, key: tuple[str, str]) -> Sums:
        """Return the sums of a group that is new."""
        return self.groups.setdefault((key[0], "other") if len(self.groups) > KEPT else key, Sums())

    def snapshot(self) -> dict[str, Any]:
        """Return the means so far, by group."""
        with self._lock:
            found: dict[str, Any] = {"sampled": self.sampled}
            for (name, value), sums in self.groups.items():
                found.setdefault(name, {})[value] = sums.to_dict()
        return found


@dataclass
class ShadowMetrics:
    """A model in the shadow beside the one that runs, on the events that both have ranked."""

    running: OnlineMetrics = field(default_factory=OnlineMetrics)
    shadow: OnlineMetrics = field(default_factory=OnlineMetrics)

    def count(
        self, rec: Recommender, ranked: Sequence[RankedEvent], shadow: Recommender, beside: Sequence[RankedEvent]
    ) -> None:
        """Count what both have ranked."""
        both = {id(one.event) for one in ranked} & {id(one.event) for one in beside}
        self.running.count(rec, [one for one in ranked if id(one.event) in both])
        self.shadow.count(shadow, [one for one in beside if id(one.event) in both])

    def snapshot(self) -> dict[str, Any]:
        """Return the means of both."""
        pairs = {"running": self.running, "shadow": self.shadow}
        return {name: one.snapshot().get("all", {}).get("all", Sums().to_dict()) for name, one in pairs.items()}


def _keys(rec: Recommender, event: Event) -> list[tuple[str, str]]:
    hour = "none" if event.time is None else f"{event.time // 3_600_000_000 % 24:02d}"
    return [("all", "all"), ("model", rec.fingerprint[:12]), ("hour", hour), ("type", event.type or "none")]
