"""What lists that follow everybody cost: an event with its list, the start, the memory.

    python benchmarks/trends.py --rounds 5 --out benchmarks/results/trends-serving.json

In turn, so that other work on the machine meets both alike: a server whose model has a ranker of random weights, and
one without (`serving.py`). Then, in this process: how fast a log in an SQLite store is counted, and what a million
items and four million pairs take in memory.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from serving import measure

from segue.kernels.trend_loops import LAST
from segue.serve.live.trend_follower import TrendReplay
from segue.store.base import Write
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from segue.trends.moves import Moves
from segue.trends.ranker import item_key
from segue.trends.trends import Trends

SECOND = 1_000_000


def serving(rounds: int, seconds: float, items: int) -> dict:
    """Return the medians of a server without and with a ranker."""
    sides: dict[str, list[dict]] = {"without": [], "with": []}
    for _ in range(rounds):
        for side, runs in sides.items():
            asked = argparse.Namespace(
                items=items, width=64, users=1000, seconds=seconds, connections=32, rate=[], model=None,
                ranker=side == "with",
            )  # fmt: skip
            with tempfile.TemporaryDirectory() as folder:
                runs.append(measure(asked, Path(folder)))
    names = ("cpu_us", "events_with_list_per_second", "empty_cpu_us", "peak_memory_mib")
    found = {
        side: {name: statistics.median(run[name] for run in runs) for name in names} for side, runs in sides.items()
    }
    ratios = [b["cpu_us"] / a["cpu_us"] for a, b in zip(*sides.values(), strict=True)]
    return {**found, "cpu_ratio_of_each_round": [round(one, 3) for one in ratios]}


def replay(events: int, users: int, items: int, folder: Path) -> dict:
    """Return how fast a log is counted, and how much of the time the reading of the log takes."""
    rng, store = np.random.default_rng(0), SqliteStore(folder / "s.db")
    who, what = rng.integers(0, users, events), rng.zipf(1.3, events) % items
    times = 1_700_000_000 * SECOND + np.arange(events) * SECOND - (rng.random(events) < 0.02) * 3600 * SECOND
    for begin in range(0, events, 2000):
        some = slice(begin, begin + 2000)
        lines = zip(who[some].tolist(), what[some].tolist(), times[some].tolist(), strict=True)
        store.commit([Write(f"u{u}", None, (Event(f"u{u}", str(i), t),)) for u, i, t in lines])
    began, own = time.perf_counter(), time.process_time()
    counted = TrendReplay(store, 300 * SECOND)
    while not counted.step():
        pass
    took, cpu = time.perf_counter() - began, time.process_time() - own
    own, seq = time.process_time(), 0
    while page := store.log(after=seq, limit=1000):
        seq = page[-1].seq
    reading = time.process_time() - own
    store.close()
    return {
        "events": events, "users": users, "late": 0.02, "events_per_second": round(events / took),
        "cpu_us": round(cpu / events * 1e6, 1), "reading_the_log_cpu_us": round(reading / events * 1e6, 1),
    }  # fmt: skip


def memory(items: int) -> dict:
    """Return what the counts of many items and pairs take."""
    before, trends, rng = _resident(), Trends(300 * SECOND), np.random.default_rng(0)
    names = [str(n) for n in range(items)]
    keys = np.array([item_key(name) for name in names])
    for begin in range(0, items, 10_000):
        some = keys[begin : begin + 10_000]
        for _ in range(2):
            moves = Moves(some, keys[rng.integers(0, begin + len(some), (len(some), LAST))], np.full(len(some), SECOND))
            trends.add(moves, names[begin : begin + 10_000])
    counted, pairs, size = trends.table.sizes
    return {"items": counted, "pairs": pairs, "bytes": size, "resident_mib": round(_resident() - before)}


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = {"memory": memory(1_000_000)}
    with tempfile.TemporaryDirectory() as folder:
        found["replay"] = replay(asked.events, asked.events // 8, asked.items, Path(folder))
    found["serving"] = serving(asked.rounds, asked.seconds, asked.items)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    settings = {name: value for name, value in vars(asked).items() if name != "out"}
    found = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "settings": settings, **found}
    found["load_at_the_end"] = os.getloadavg()[0]
    text = json.dumps(found)
    if asked.out:
        asked.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
