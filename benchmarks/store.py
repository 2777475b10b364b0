"""Commits per second of a store, each on disk before the next, beside a bare append and sync of the same bytes.

A commit writes an event with an id and a state of 4 KiB for each user of a group of 1 or of 64.
Other lines measure an import, a page of events, and reading a head.

    python benchmarks/store.py [--store PATH|valkey://...] [--seconds 5] [--users 10000]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from segue.jobs.import_export import import_events
from segue.store.base import Write, Written
from segue.store.events import Event
from segue.store.factory import open_store

STATE = os.urandom(4096)


def lasting(seconds, act):
    """Return the seconds that each call took, over so many seconds."""
    times, end = [], time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        act(len(times))
        times.append(time.perf_counter() - begin)
    return times


def line_of(name, times, per=1):
    """Return a line of results."""
    cuts = statistics.quantiles(times, n=100)
    rate = len(times) / sum(times)
    line = {"what": name, "calls_per_second": round(rate, 1), "each_per_second": round(rate * per, 1)}
    return line | {"p50_ms": round(1e3 * cuts[49], 3), "p99_ms": round(1e3 * cuts[98], 3)}


def bare(folder, seconds, size):
    """Append and sync without any database."""
    with (folder / "bare").open("wb") as file:

        def act(_):
            file.write(STATE[:1] * size)
            file.flush()
            os.fdatasync(file.fileno())

        return lasting(seconds, act)


def commits(store, seconds, group, users):
    """Read the heads, and commit an event and a state for each of a group of users."""

    def act(n):
        names = [f"u{(n * group + i) % users}" for i in range(group)]
        writes = [
            Write(
                head.user,
                head.version,
                (Event(head.user, "17", time.time_ns() // 1000, f"{group}-{n}-{i}"),),
                {"b1": STATE},
            )
            for i, head in enumerate(store.heads(names, "b1"))
        ]
        assert all(isinstance(outcome, Written) for outcome in store.commit(writes))

    return lasting(seconds, act)


def main():
    """Measure, and print a JSON line for each result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--users", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        store = open_store(given.store or folder / "shop.db")
        lines = [line_of("bare append + sync, 4.5 KiB", bare(folder, given.seconds, 4608))]
        count = 10 * given.users
        begin = time.perf_counter()
        import_events(store, (Event(f"u{n % given.users}", str(n % 999), n) for n in range(count)), source="log")
        rate = count / (time.perf_counter() - begin)
        lines.append({"what": "import", "each_per_second": round(rate)})
        for group in (1, 64):
            lines.append(line_of(f"commits of {group}", commits(store, given.seconds, group, given.users), per=group))
        lines.append(line_of("head", lasting(1, lambda n: store.head(f"u{n % given.users}", "b1"))))
        import_events(store, (Event("busy", str(n % 999), n) for n in range(count)), source="busy")
        lines.append(line_of("page of 1000", lasting(1, lambda n: store.events("busy"))))
        print("\n".join(json.dumps(line) for line in lines))
        store.close()


if __name__ == "__main__":
    main()
