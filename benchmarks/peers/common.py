"""What every peer shares: the split, the question asked, the metric, and the record of a run.

Knows: NumPy alone, for it is imported in the environment of each peer.

The last event of each user is the test, the one before it validation; neither is learnt (of sessions: see
`read_split`). A question is asked of what the user did before it (the test: validation event included) and ranks the
whole catalogue less those items, unless the set is one of repeats.
Ties count against the model, and an item that the model never met ties with the worst.
"""

import argparse
import gzip
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

#: What `read_split` reads.
SETS = ("ml-1m", "ml-1m-times", "beauty", "yoochoose")
AT = 10
#: Items of a list that is kept.
LISTED = 20
#: What chooses among the measurements of a run, on validation.
BEST = f"ndcg@{AT}"


class Stop(Exception):  # noqa: N818 - not an error
    """The time of the run is over."""


@dataclass(frozen=True)
class Split:
    """A log with questions about what came next.

    Attributes:
        items: int64[event], ids from 1, one user after the other, in order.
        offsets: int64[user + 1]: where each user begins.
        n_items: the highest id plus 1; 0 is nobody's.
        learnt: bool[event]: what may be learnt.
        asked: for "validation" and "test" int64[question]: the events to foretell from those of the user before them.
        repeats: whether a list may hold what the user had.
        times: int64[event], seconds; None where they are not known.
    """

    items: np.ndarray
    offsets: np.ndarray
    n_items: int
    learnt: np.ndarray
    asked: dict[str, np.ndarray]
    repeats: bool = False
    times: np.ndarray | None = None

    @property
    def owner(self) -> np.ndarray:
        """int64[event]: the user of each event."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @property
    def lengths(self) -> np.ndarray:
        """int64[user]: how many events of each user are learnt."""
        return np.bincount(self.owner[self.learnt], minlength=len(self.offsets) - 1)

    @property
    def targets(self) -> int:
        """How many events a pass predicts: all that are learnt but each user's first."""
        return int(np.maximum(self.lengths - 1, 0).sum())

    def history(self, question: int, part: str) -> np.ndarray:
        """Return what the user of a question did before it, oldest first."""
        return self.items[self.before(question, part)]

    def before(self, question: int, part: str) -> slice:
        """Return where the events of the user of a question lie that were before it."""
        event = self.asked[part][question]
        return slice(self.offsets[np.searchsorted(self.offsets, event, side="right") - 1], event)

    def answers(self, part: str) -> np.ndarray:
        """Return the item that came next, for each question."""
        return self.items[self.asked[part]]


def read_split(data: Path, name: str) -> Split:
    """Return a set: "ml-1m" (the SASRec file), "beauty" (5-core, in order), "yoochoose" (1/64), or "ml-1m-times".

    The last: what of ml-1m has an exact second (all ratings of 4 and 5, four in five of the whole), then its 5-core.
    """
    if name == "yoochoose":
        return _read_sessions(data / "yoochoose1_64")
    times = None
    if name == "ml-1m-times":
        rows = _five_core(_exact_rows(data / "ml-1m" / "ratings_ts_partial.csv.gz"))
        rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]
        parts, times = np.split(rows[:, 1], np.flatnonzero(np.diff(rows[:, 0])) + 1), rows[:, 2]
    elif name == "ml-1m":
        rows = np.loadtxt(data / "ml-1m" / "sasrec_ml-1m.txt.gz", dtype=np.int64)
        order = np.argsort(rows[:, 0], kind="stable")
        parts = np.split(rows[order, 1], np.flatnonzero(np.diff(rows[order, 0])) + 1)
    else:
        lines = gzip.decompress((data / "amazon-beauty-5core" / "Beauty.txt.gz").read_bytes()).decode().splitlines()
        parts = [np.array(line.split()[1:], np.int64) for line in lines]
    items, offsets = _joined([part for part in parts if len(part) > 2])
    asked = {"validation": offsets[1:] - 2, "test": offsets[1:] - 1}
    return Split(items, offsets, int(items.max()) + 1, _but(len(items), asked), asked, times=times)


def _exact_rows(path: Path) -> np.ndarray:
    """Return int64[event, 3]: user, item and second of the ratings whose second is known, in the order of the file."""
    lines = (line.split(",") for line in gzip.decompress(path.read_bytes()).decode().splitlines()[1:])
    rows = [(user, item, first) for user, item, _, _, first, last, _ in lines if first == last != ""]
    return np.array(rows).astype(np.int64)


def _five_core(rows: np.ndarray) -> np.ndarray:
    """Return the rows of users and items of five rows or more, again and again until all are."""
    while True:
        enough = np.ones(len(rows), bool)
        for column in (rows[:, 0], rows[:, 1]):
            enough &= np.bincount(column)[column] >= 5
        if enough.all():
            return rows
        rows = rows[enough]


def _read_sessions(folder: Path) -> Split:
    """Return sessions as users: each click of a test session but its first is a question, those before it known.

    Validation is the last click of 2,048 sessions of the training part, which are not learnt.
    """
    read = {}
    for part in ("train", "test"):
        lines = gzip.decompress((folder / f"{part}_sessions.txt.gz").read_bytes()).decode().splitlines()
        read[part] = [np.array(line.split(), np.int64) for line in lines]
    known = np.unique(np.concatenate(read["train"]))
    tests = [session[np.isin(session, known)] for session in read["test"]]
    items, offsets = _joined(read["train"] + tests)
    ends, trained = offsets[1:], len(read["train"])
    long = np.flatnonzero(np.diff(offsets[: trained + 1]) > 2)
    some = np.sort(np.random.default_rng(0).choice(long, 2048, replace=False))
    inside = np.arange(offsets[trained], len(items))
    asked = {"validation": ends[some] - 1, "test": inside[~np.isin(inside, offsets)]}
    learnt = _but(len(items), asked)
    learnt[offsets[trained] :] = False
    rows = np.zeros(int(items.max()) + 1, np.int64)  # the ids are far apart
    rows[known] = np.arange(1, len(known) + 1)
    return Split(rows[items], offsets, len(known) + 1, learnt, asked, repeats=True)


def _joined(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(parts), np.concatenate([[0], np.cumsum([len(part) for part in parts])])


def _but(events: int, asked: dict[str, np.ndarray]) -> np.ndarray:
    learnt = np.ones(events, bool)
    learnt[np.concatenate(list(asked.values()))] = False
    return learnt


def blocks(questions: int) -> list[np.ndarray]:
    """Return the numbers of all questions in blocks of at most 512."""
    return np.array_split(np.arange(questions), -(-questions // 512))


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


def best(scores: np.ndarray, histories: list[np.ndarray]) -> np.ndarray:
    """Return int64[question, LISTED], the items of the highest scores without those of the history, best first."""
    for row, history in zip(scores, histories, strict=True):
        row[history] = -np.inf
    scores[:, 0] = -np.inf
    top = np.argpartition(-scores, LISTED, axis=1)[:, :LISTED]
    return np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable"), axis=1)


def metrics(found: np.ndarray) -> dict[str, float]:
    """Return HR@10, NDCG@10, Recall@20 and MRR@20 of ranks from 1."""
    means = {
        f"hr@{AT}": found <= AT,
        f"ndcg@{AT}": np.where(found <= AT, 1.0 / np.log2(found + 1.0), 0.0),
        "recall@20": found <= 20,
        "mrr@20": np.where(found <= 20, 1.0 / found, 0.0),
    }
    return {name: round(float(each.mean()), 5) for name, each in means.items()}


class Found(NamedTuple):
    """int64[question], the rank of each answer, and int32[question, LISTED], the best items of each, best first."""

    ranks: np.ndarray
    lists: np.ndarray


def measure(split: Split, score: Callable[[str], Iterator[tuple[np.ndarray, np.ndarray]]]) -> dict[str, Found]:
    """Return the rank of each answer in validation and test, and the lists.

    Args:
        score: for a part, yields `(questions, scores[question, item])` until each question was there once.
    """
    everything = {}
    for part, asked in split.asked.items():
        found, answers = np.zeros(len(asked), np.int64), split.answers(part)
        lists = np.zeros((len(asked), LISTED), np.int32)
        for some, scores in score(part):
            had = [split.history(n, part) if not split.repeats else answers[:0] for n in some]
            found[some] = ranks(scores, answers[some], had)
            lists[some] = best(scores, had)
        if not found.all():
            raise ValueError(
                f"{part}: expected a score for each of {len(asked)} questions, {(found == 0).sum()} had none"
            )
        everything[part] = Found(found, lists)
    return everything


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

    def note(self, passes: float, found: dict[str, Found]) -> None:
        """Keep one measurement, where validation is best the ranks and lists of the test too; the clock must stand."""
        row = {
            "seconds": round(self.spent, 2),
            "passes": round(passes, 3),
            "targets": self.targets,
            "events_per_second": round(self.targets / self.spent, 1),
            **{part: metrics(each.ranks) for part, each in found.items()},
        }
        if all(row["validation"][BEST] > other["validation"][BEST] for other in self.curve):
            np.save(self.out.with_suffix(".ranks.npy"), found["test"].ranks.astype(np.int32))
            np.save(self.out.with_suffix(".lists.npy"), found["test"].lists)
        self.curve.append(row)
        self.write(finished=False)
        print(json.dumps(row), flush=True)

    def write(self, *, finished: bool) -> None:
        """Write the record."""
        last = self.curve[-1] if self.curve else {}
        best = max(self.curve, key=lambda row: row["validation"][BEST], default=None)
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
    parser.add_argument("--set", required=True)
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
