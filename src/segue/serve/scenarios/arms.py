"""What comes of the arms of experiments: events, lists, and how sure the difference between two arms is.

Knows: running sums by arm, kept apart for `GROUPS` groups of users, so that intervals allow for events of one user that
resemble each other. Does not know: how a user gets an arm (`scenarios`), how an event is ranked.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.metrics.metrics import mrr, recall
from segue.serve.ranking.event_ranks import RankedEvent
from segue.serve.ranking.types import IngestRequest
from segue.serve.scenarios.kept_scenarios import KeptScenarios
from segue.serve.scenarios.scenarios import Experiment
from segue.store.events import Event

#: What the name of an experiment stands behind in the context of an event.
PREFIX = "arm."
#: Groups of users of an arm, by a hash of the user.
GROUPS = 64
#: Users whose last list is known, and arms that are summed up.
USERS, ARMS = 10_000, 200
#: Sums of an arm: events, recall, MRR and log-loss of these, lists, lists of which an item was taken.
_EVENTS, _RECALL, _MRR, _LOSS, _LISTS, _TAKEN = range(6)
#: Each measure, its sum, and the number it is divided by.
MEASURES = {
    "recall@10": (_RECALL, _EVENTS),
    "mrr@10": (_MRR, _EVENTS),
    "log_loss": (_LOSS, _EVENTS),
    "taken": (_TAKEN, _LISTS),
}


class MeanInterval(NamedTuple):
    """A mean, and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _LastList:
    """The last list of a user in an experiment, until an item of it is taken."""

    arm: str
    list_id: str | None
    items: frozenset[str]


class Arms:
    """The experiments of a server, and what came of them since it started. Safe for several threads.

    Args:
        kept: the scenarios and experiments.
        clock: seconds since 1970.
    """

    def __init__(self, kept: KeptScenarios, clock: Callable[[], float]) -> None:
        self._kept, self._clock = kept, clock
        self._sums: dict[tuple[str, str], NDArray[np.float64]] = {}
        self._order: dict[str, list[str]] = {}  # the arms of each experiment, also of one that has ended
        self._last: OrderedDict[tuple[bytes, str], _LastList] = OrderedDict()
        self._key = secrets.token_bytes(16)
        self._lock = threading.Lock()

    def running(self) -> list[Experiment]:
        """Return the experiments that hold now."""
        kept = self._kept.now
        return kept.running(int(self._clock() * 1e6)) if kept.experiments else []

    def by_shadow(self, user: str) -> bool:
        """Return whether the model in the shadow answers a user."""
        running = self.running()
        return bool(running) and any(not one.scenario and one.arms[one.arm_of(user)] == "shadow" for one in running)

    def of_models(self, user: str) -> dict[str, str]:
        """Return the arms of a user in experiments between models."""
        return {one.name: one.arm_of(user) for one in self.running() if not one.scenario}

    def noted(self, requests: Sequence[IngestRequest]) -> Sequence[IngestRequest]:
        """Return requests whose events say which arms their users have, under `arm.NAME` of the context.

        An event sent again is the same event, whatever arm its user has by then.
        """
        if not (running := self.running()):
            return requests
        return [replace(one, events=tuple(_noted(event, running) for event in one.events)) for one in requests]

    def count(self, ranked: Sequence[RankedEvent], model: str) -> None:
        """Count events by the arms that are noted with them, and the lists that they took an item of.

        Args:
            ranked: by one model.
            model: "running" or "shadow"; the shadow's ranks count for the arms that it answers, and for no scenario.
        """
        running = [one for one in self.running() if not one.scenario or model == "running"]
        if not running or not ranked:
            return
        ranks = np.array([one.rank for one in ranked])
        hits, reciprocals = recall(ranks, k=10), mrr(ranks, k=10)
        with self._lock:
            self._order |= {one.name: list(one.arms) for one in running}
            for one, hit, reciprocal in zip(ranked, hits, reciprocals, strict=True):
                for experiment in running:
                    arm = str(one.event.context.get(PREFIX + experiment.name))
                    if arm not in experiment.arms or (not experiment.scenario and experiment.arms[arm] != model):
                        continue
                    sums = self._of(experiment.name, arm, one.event.user)
                    sums[:_LISTS] += (1, hit, reciprocal, one.loss)
                    who = self._hashed(one.event.user)
                    last = self._last.get((who, experiment.name))
                    if last is not None and one.event.item in last.items:
                        del self._last[who, experiment.name]
                        self._of(experiment.name, last.arm, one.event.user)[_TAKEN] += 1

    def shown(self, arms: Mapping[str, str], user: str, list_id: str | None, items: Sequence[str]) -> None:
        """Count a list that a user got in some arms; one of the same id as the last is the same list."""
        who = self._hashed(user)
        with self._lock:
            for experiment, arm in arms.items():
                before = self._last.pop((who, experiment), None)
                if before is None or list_id is None or before.list_id != list_id:
                    self._of(experiment, arm, user)[_LISTS] += 1
                self._last[who, experiment] = _LastList(arm, list_id, frozenset(items))
                if len(self._last) > USERS:
                    self._last.popitem(last=False)

    def forget(self, user: str) -> None:
        """Know nothing of the last lists of a user any more."""
        who = self._hashed(user)
        with self._lock:
            for key in [key for key in self._last if key[0] == who]:
                del self._last[key]

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return for each experiment and arm the means with intervals, and their differences from the first arm."""
        with self._lock:
            sums = {key: value.copy() for key, value in self._sums.items()}
        found: dict[str, dict[str, dict[str, Any]]] = {}
        first: dict[str, NDArray[np.float64]] = {}
        self._order |= {name: list(one.arms) for name, one in self._kept.now.experiments.items()}
        for name, arm in sorted(sums, key=lambda key: (key[0], _place(self._order.get(key[0], []), key[1]))):
            own, control = sums[name, arm], first.setdefault(name, sums[name, arm])
            total = own.sum(axis=0)
            arms = found.setdefault(name, {})
            arms[arm] = {"n": int(total[_EVENTS]), "lists": int(total[_LISTS])}
            means, others = _means(own), _means(control)
            arms[arm] |= {measure: _said(mean) for measure, mean in means.items()}
            if own is not control:
                differences = {measure: difference_of(means[measure], others[measure]) for measure in MEASURES}
                arms[arm]["difference"] = {measure: _said(one) for measure, one in differences.items()}
        return found

    def _hashed(self, user: str) -> bytes:
        """Return what stands for a user here: this server keeps no ids in memory."""
        return blake2b(user.encode(), key=self._key, digest_size=16).digest()

    def _of(self, experiment: str, arm: str, user: str) -> NDArray[np.float64]:
        """Return the sums of a group of users, to be changed in place."""
        key = (experiment, arm)
        if key not in self._sums and len(self._sums) >= ARMS:
            self._sums.pop(next(iter(self._sums)))
        group = blake2b(user.encode(), digest_size=4, key=experiment.encode()[:64]).digest()
        sums: NDArray[np.float64] = self._sums.setdefault(key, np.zeros((GROUPS, 6)))[int.from_bytes(group) % GROUPS]
        return sums


def mean_of(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> MeanInterval | None:
    """Return the mean over all users, with an interval for a ratio of sums over groups of users.

    Args:
        sums: float[group], of a measure.
        counts: float[group], of what was measured.

    Returns:
        None where nothing was measured. The variance is `g / (g - 1) sum (s - m c)^2 / (sum c)^2` over the g groups
        that have something (Cochran, 1977, Sampling Techniques, 6.3).

    Example:
        >>> mean_of(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
        MeanInterval(mean=0.5, low=0.5, high=0.5)
    """
    there = counts > 0
    groups, total = int(there.sum()), float(counts.sum())
    if not groups:
        return None
    mean = float(sums.sum()) / total
    rest = float(((sums - mean * counts)[there] ** 2).sum())
    spread = 1.96 * np.sqrt(groups / (groups - 1) * rest) / total if groups > 1 else np.inf
    return MeanInterval(mean, float(mean - spread), float(mean + spread))


def difference_of(one: MeanInterval | None, other: MeanInterval | None) -> MeanInterval | None:
    """Return the difference of two means of different users, with its interval.

    Example:
        >>> difference_of(MeanInterval(3.0, 0.0, 6.0), MeanInterval(1.0, -3.0, 5.0))
        MeanInterval(mean=2.0, low=-3.0, high=7.0)
    """
    if one is None or other is None:
        return None
    mean, spread = one.mean - other.mean, float(np.hypot(one.high - one.mean, other.high - other.mean))
    return MeanInterval(mean, mean - spread, mean + spread)


def _means(sums: NDArray[np.float64]) -> dict[str, MeanInterval | None]:
    return {measure: mean_of(sums[:, of], sums[:, by]) for measure, (of, by) in MEASURES.items()}


def _said(one: MeanInterval | None) -> dict[str, float | None] | None:
    if one is None:
        return None
    return {name: value if np.isfinite(value) else None for name, value in one._asdict().items()}


def _noted(event: Event, running: Sequence[Experiment]) -> Event:
    arms = {PREFIX + one.name: one.arm_of(event.user) for one in running}
    return replace(event, context={**event.context, **arms})


def _place(arms: Sequence[str], arm: str) -> int:
    return arms.index(arm) if arm in arms else len(arms)
