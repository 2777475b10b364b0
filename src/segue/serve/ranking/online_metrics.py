"""Online metrics: the share of events that were in the list that their users would have been shown just before.

Knows: running sums by model, hour of the day and type of event, and hour by hour for the last week. The metrics are
those of `segue.metrics`, so that online and offline numbers are one.
Does not know: networks, or how an event is ranked (`segue.serve.ranking.event_ranks`).
"""

import math
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
#: Hours that are kept one by one; beyond them the oldest goes.
HOURS = 168
#: A 95 % confidence interval reaches this many standard errors to both sides.
_WIDE = 1.959964
_HOUR = 3_600_000_000


@dataclass
class Sums:
    """Running sums of a group of events, and of squares where an interval needs them."""

    events: int = 0
    hits: float = 0.0
    reciprocal: float = 0.0
    log_loss: float = 0.0
    reciprocal_squares: float = 0.0

    def add(self, hit: float, reciprocal: float, loss: float) -> None:
        """Add an event."""
        self.events += 1
        self.hits += hit
        self.reciprocal += reciprocal
        self.log_loss += loss
        self.reciprocal_squares += reciprocal * reciprocal

    def to_dict(self) -> dict[str, Any]:
        """Return means with 95 % confidence intervals, and the number of events."""
        n = max(self.events, 1)
        share, mrr = self.hits / n, self.reciprocal / n
        return {
            "n": self.events,
            "recall@10": share,
            "mrr@10": mrr,
            "log_loss": self.log_loss / n,
            "recall@10_interval": wilson(share, self.events),
            "mrr@10_interval": around(mrr, self.reciprocal_squares / n - mrr * mrr, self.events),
        }


def wilson(share: float, events: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share of independent events (Wilson 1927).

    Example:
        >>> [round(bound, 3) for bound in wilson(0.5, 10)], wilson(0.0, 0)
        ([0.237, 0.763], (0.0, 1.0))
    """
    if not events:
        return 0.0, 1.0
    more = _WIDE * _WIDE / events
    middle = (share + more / 2) / (1 + more)
    half = math.sqrt(more * share * (1 - share) + more * more / 4) / (1 + more)
    return max(0.0, middle - half), min(1.0, middle + half)


def around(mean: float, variance: float, events: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a mean of many independent numbers from 0 to 1."""
    if events < 2:
        return 0.0, 1.0
    half = _WIDE * math.sqrt(max(variance, 0.0) / (events - 1))
    return max(0.0, mean - half), min(1.0, mean + half)


@dataclass
class OnlineMetrics:
    """Running recall, MRR and log-loss; safe to be called from several threads."""

    groups: dict[tuple[str, str], Sums] = field(default_factory=dict)
    hours: dict[int, Sums] = field(default_factory=dict)
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
                    (self.groups.get(key) or self._group(key)).add(hit, reciprocal, one.loss)
                if one.event.time is not None:
                    self._hour(one.event.time // _HOUR).add(hit, reciprocal, one.loss)

    def _group(self, key: tuple[str, str]) -> Sums:
        """Return the sums of a group that is new."""
        return self.groups.setdefault((key[0], "other") if len(self.groups) > KEPT else key, Sums())

    def _hour(self, hour: int) -> Sums:
        """Return the sums of an hour since 1970; one that is older than all that are kept is not kept."""
        found = self.hours.get(hour)
        if found is None:
            found = self.hours[hour] = Sums()
            if len(self.hours) > HOURS:
                del self.hours[min(self.hours)]
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return the means so far, by group, and hour by hour."""
        with self._lock:
            found: dict[str, Any] = {"sampled": self.sampled}
            for (name, value), sums in self.groups.items():
                found.setdefault(name, {})[value] = sums.to_dict()
            found["series"] = [{"begin": 3600 * hour, **sums.to_dict()} for hour, sums in sorted(self.hours.items())]
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
    hour = "none" if event.time is None else f"{event.time // _HOUR % 24:02d}"
    return [("all", "all"), ("model", rec.fingerprint[:12]), ("hour", hour), ("type", event.type or "none")]
