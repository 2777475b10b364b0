"""What every peer shares: the split, the question asked, the metric, and the record of a run.

Knows: NumPy alone, for it is imported in the environment of each peer.

The last event of each user is the test, the one before it validation; neither is learnt. A question is asked of
what the user did before it (the test: validation event included) and ranks the whole catalogue less those items.
Ties count against the model, and an item that the model never met ties with the worst.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

AT = 10


class Stop(Exception):  # noqa: N818 - not an error
    """The time of the run is over."""


@dataclass(frozen=True)
class Split:
    """A log whose users have two events held out.

    Attributes:
        items: int64[event], ids from 1, one user after the other, in order.
        offsets: int64[user + 1]: where each user begins.
        n_items: the highest id plus 1; 0 is nobody's.
    """

    items: np.ndarray
    offsets: np.ndarray
    n_items: int

    @property
    def users(self) -> int:
        """How many users there are."""
        return len(self.offsets) - 1

    @property
    def learnt(self) -> np.ndarray:
        """bool[event]: what may be learnt."""
        learnt = np.ones(len(self.items), bool)
        learnt[self.offsets[1:] - 1] = learnt[self.offsets[1:] - 2] = False
        return learnt

    @property
    def owner(self) -> np.ndarray:
        """int64[event]: the user of each event."""
        return np.repeat(np.arange(self.users), np.diff(self.offsets))

    @property
    def targets(self) -> int:
        """How many events a pass predicts: all that are learnt but each user's first."""
        return int(self.learnt.sum()) - self.users

    def history(self, user: int, part: str) -> np.ndarray:
        """Return what a user did before the question of `part`, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1] - back(part)]

    def answers(self, part: str) -> np.ndarray:
        """Return the item that came next, for each user."""
        return self.items[self.offsets[1:] - back(part)]


def back(part: str) -> int:
    """Return how far from the end the event of a part is."""
    return {"validation": 2, "test": 1}[part]


def read_split(data: Path) -> Split:
    """Read `user item` lines, in order of time within each user; users with fewer than three events are left out."""
    users, items = np.loadtxt(data / "ml-1m" / "sasrec_ml-1m.txt.gz", dtype=np.int64).T
    order = np.argsort(users, kind="stable")
    _, place, counts = np.unique(users[order], return_inverse=True, return_counts=True)
    kept = items[order][counts[place] > 2]
    return Split(kept, np.concatenate([[0], np.cumsum(counts[counts > 2])]), int(items.max()) + 1)


def ranks(scores: np.ndarray, answers: np.ndarray, histories: list[np.ndarray]) -> np.ndarray:
    """Return the rank, from 1, of each answer.

    Args:
        scores: float[question, item]; -inf where the model never met the item; changed in place.
        answers: int[question].
        histories: what each user did before; left out unless it is the answer.
    """
    wanted = scores[np.arange(len(answers)), answers].copy()
    candidates = np.ones(scores.shape, bool)
    candidates[:, 0] = False
    for row, history in zip(candidates, histories, strict=True):
        row[history] = False
    candidates[np.arange(len(answers)), answers] = True
    # NaN is never below: a broken model cannot win.
    return (candidates & ~(scores < wanted[:, None])).sum(axis=1)


def metrics(found: np.ndarray) -> dict[str, float]:
    """Return HR@10 and NDCG@10 of ranks from 1."""
    hit = found <= AT
    gain = np.where(hit, 1.0 / np.log2(found + 1.0), 0.0)
    return {f"hr@{AT}": round(float(hit.mean()), 5), f"ndcg@{AT}": round(float(gain.mean()), 5)}


def measure(
    split: Split, score: Callable[[str], Iterator[tuple[np.ndarray, np.ndarray]]]
) -> dict[str, dict[str, float]]:
    """Return the metrics in validation and test.

    Args:
        score: for a part, yields `(users, scores[user, item])` until each user was there once.
    """
    report = {}
    for part in ("validation", "test"):
        found, answers = np.zeros(split.users, np.int64), split.answers(part)
        for users, scores in score(part):
            found[users] = ranks(scores, answers[users], [split.history(user, part) for user in users])
        if not found.all():
            raise ValueError(f"{part}: expected a score for each of {split.users} users, {(found == 0).sum()} had none")
        report[part] = metrics(found)
    return report


@dataclass
class Run:
    """The clock and the curve of a run: time is counted between `go` and `pause` only.

    Attributes:
        out: where the record is kept, anew after every measurement, so that a run cut short keeps what it has.
        budget: seconds of training.
        every: measure whenever so many seconds have gone by, beside the end of each pass; 0: passes only.
        record: what is known of the run beside the curve.
    """

    out: Path
    budget: float
    every: float = 0.0
    record: dict = field(default_factory=dict)
    curve: list[dict] = field(default_factory=list)
    targets: int = 0
    spent: float = 0.0
    _since: float | None = None

    def go(self) -> None:
        """Let the clock run."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock."""
        if self._since is not None:
            self.spent, self._since = self.seconds, None

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self.spent + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.seconds >= self.budget

    @property
    def due(self) -> bool:
        """Whether a measurement within a pass is asked for."""
        last = self.curve[-1]["seconds"] if self.curve else 0.0
        return self.over or (self.every > 0 and self.seconds // self.every > last // self.every)

    def note(self, passes: float, found: dict[str, dict[str, float]]) -> None:
        """Keep one measurement; the clock must stand."""
        row = {
            "seconds": round(self.spent, 2),
            "passes": round(passes, 3),
            "targets": self.targets,
            "events_per_second": round(self.targets / self.spent, 1),
            **found,
        }
        self.curve.append(row)
        self.write(finished=False)
        print(json.dumps(row), flush=True)

    def write(self, *, finished: bool) -> None:
        """Write the record."""
        last = self.curve[-1] if self.curve else {}
        best = max(self.curve, key=lambda row: row["validation"][f"ndcg@{AT}"], default=None)
        record = {
            **self.record,
            "finished": finished,
            "training_seconds": last.get("seconds"),
            "events_per_second": last.get("events_per_second"),
            "best_in_validation": best,
            "curve": self.curve,
        }
        spare = self.out.with_name(self.out.name + ".part")
        spare.write_text(json.dumps(record) + "\n")
        spare.replace(self.out)


def asked_of_peer() -> argparse.Namespace:
    """Read what `run.py` passes to each peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--every", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--speed", type=int, nargs="*", default=[])
    parser.add_argument("--source", type=Path)
    return parser.parse_args()


def guarded(main: Callable[[argparse.Namespace], None]) -> None:
    """Run a peer; where it cannot be imported, the record says so."""
    asked = asked_of_peer()
    try:
        main(asked)
    except ImportError as error:
        write_failure(asked.out, f"{type(error).__name__}: {error}")
        raise


def write_failure(out: Path, why: str) -> None:
    """Write a record of a run that could not be."""
    out.write_text(json.dumps(facts(finished=False, failed=why)) + "\n")


def facts(**more: object) -> dict:
    """Return what every record begins with."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **more,
    }
