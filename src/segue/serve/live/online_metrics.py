"""How good the lists are while the server runs: each event is ranked by its user's state just before it.

Knows: running sums by model, hour and type of event.
Does not know: networks. The ranks are those of `segue.metrics`, so that live and offline numbers are one.

Where all items are scored, every number is exact. With an index (from 50,000 items on) ranks are among its candidates,
which is exact for recall@10 and MRR@10 but for what the index misses, and the log-loss is an estimate:
the candidates, and a sample that stands for all other items.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from segue.kernels.serving_loops import log_sums, ranks_and_log_sums
from segue.metrics.metrics import mrr, recall
from segue.recommend.batch import question_details, score_sample
from segue.recommend.recommender import Recommender
from segue.serve.ranking.candidates import Asked, Scored
from segue.shapes import Floats, Rows
from segue.store.events import Event

#: Hours and types kept apart; what comes beyond these is counted as "other".
KEPT = 200


class Judged(NamedTuple):
    """An event, the rank of its item, and `-log softmax(scores)[item]` in nats.

    An item that is filtered or unknown has the last rank, and counts as if it had the chance of one in all items.
    """

    event: Event
    rank: float
    loss: float


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

    def count(self, rec: Recommender, judged: Sequence[Judged]) -> None:
        """Count events by where they stood in the lists of a model just before them."""
        if not judged:
            return
        ranks = np.array([one.rank for one in judged])
        hits, reciprocals = recall(ranks, k=10).tolist(), mrr(ranks, k=10).tolist()
        with self._lock:
            self.sampled |= rec.index is not None
            for one, hit, reciprocal in zip(judged, hits, reciprocals, strict=True):
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
class Trial:
    """A model in the shadow beside the one that runs, on the events that both have ranked."""

    running: LiveQuality = field(default_factory=LiveQuality)
    shadow: LiveQuality = field(default_factory=LiveQuality)

    def count(self, rec: Recommender, judged: Sequence[Judged], shadow: Recommender, beside: Sequence[Judged]) -> None:
        """Count what both have ranked."""
        both = {id(one.event) for one in judged} & {id(one.event) for one in beside}
        self.running.count(rec, [one for one in judged if id(one.event) in both])
        self.shadow.count(shadow, [one for one in beside if id(one.event) in both])

    def snapshot(self) -> dict[str, Any]:
        """Return the means of both."""
        pairs = {"running": self.running, "shadow": self.shadow}
        return {name: one.snapshot().get("all", {}).get("all", Sums().to_dict()) for name, one in pairs.items()}


def _keys(rec: Recommender, event: Event) -> list[tuple[str, str]]:
    hour = "none" if event.time is None else f"{event.time // 3_600_000_000 % 24:02d}"
    return [("all", "all"), ("model", rec.fingerprint[:12]), ("hour", hour), ("type", event.type or "none")]


def judge(rec: Recommender, events: Sequence[Event], asked: Sequence[Asked], scored: Scored) -> list[Judged]:
    """Return where events stood in the lists that were the answer just before them.

    Args:
        rec: the model.
        events: that came.
        asked: for each the question that it answered.
        scored: of these questions, the items of the events among them; used up.
    """
    if not events:
        return []
    targets = rec.vocabulary.rows([event.item for event in events])
    scores, columns = scored.scores, targets
    if scored.rows is not None:
        columns = np.argmax(scored.rows == targets[:, None], axis=1)
    own = scores[np.arange(len(scores)), columns]
    known = (targets > 0) & (own > -np.inf)
    ranks = np.full(len(targets), float(rec.vocabulary.size))
    losses = np.full(len(targets), np.log(max(rec.vocabulary.size - 1, 1)))
    if known.any():
        ranked = scores if known.all() else scores[known]
        ranks[known], total = ranks_and_log_sums(ranked, columns[known])
        if scored.rows is not None:
            total = np.logaddexp(total, _others(rec, asked, scored.rows, events)[known])
        losses[known] = total - own[known]
    return [Judged(*one) for one in zip(events, ranks.tolist(), losses.tolist(), strict=True)]


def _others(rec: Recommender, asked: Sequence[Asked], known: Rows, events: Sequence[Event]) -> Floats:
    """Return the log of the sum over all rows that are no candidates, from a sample of them."""
    size = rec.vocabulary.size
    number = rec.vocabulary.row(events[0].item) + asked[0].state.count
    at = [one.at for one in asked]
    details = question_details(rec, [one.question for one in asked], at)
    rows, scores = score_sample(rec, [one.state for one in asked], at, number, details)
    counted = np.zeros(len(asked))
    for n, (line, candidates, one) in enumerate(zip(scores, known, asked, strict=True)):
        if one.allowed is not None:
            line[~one.allowed[rows]] = -np.inf
        line[_places(rows, one.excluded)] = -np.inf
        met = _places(rows, np.unique(candidates))
        counted[n] = (size - len(np.unique(candidates))) / max(len(rows) - len(met), 1)
        line[met] = -np.inf
    return log_sums(scores) + np.log(counted)


def _places(rows: Rows, some: Rows) -> Rows:
    """Return where some rows stand among rows in order; those that do not are left out."""
    places = np.minimum(np.searchsorted(rows, some), len(rows) - 1)
    found: Rows = places[rows[places] == some]
    return found
