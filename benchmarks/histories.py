"""What a long history costs in the service: latency, late events, erasures, a swap, memory.

    python benchmarks/histories.py --events 300000 -o benchmarks/results/histories.json

In the process, without HTTP, with a model of random weights: one user with many events and users with three are
told events and asked for lists in turn, so that other work on the machine meets both alike.
"""

import argparse
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gc
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from serving import random_model

from segue.model_file import save_model
from segue.recommend.batch import state_to_bytes
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest, ListOptions
from segue.store.base import Write
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore


def spread(times):
    """Return p50, p90 and p99 in milliseconds."""
    return {f"p{q}_ms": round(float(np.percentile(np.array(times) * 1e3, q)), 3) for q in (50, 90, 99)}


def timed(work):
    """Return the seconds that a call took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def fill(store, user, count, items, rng, begin):
    """Put events into the log, as an import does: their state is rebuilt when it is asked for."""
    for first in range(0, count, 5000):
        some = range(first, min(first + 5000, count))
        events = tuple(Event(user, str(rng.integers(items)), (begin + n) * 1_000_000, id=f"{user}-{n}") for n in some)
        store.commit([Write(user, None, events)])


def turns(service, users, repeats, rng, items, begin):
    """Return seconds of an event with a list, and of a question, for each kind of user, in turn."""
    told, asked = {kind: [] for kind in users}, {kind: [] for kind in users}
    for n in range(repeats):
        for kind in sorted(users, reverse=bool(n % 2)):  # neither always comes after the other
            user = users[kind][n % len(users[kind])]
            event = Event(user, str(rng.integers(items)), (begin + n) * 1_000_000)
            told[kind].append(
                timed(lambda event=event: service.ingest([IngestRequest((event,), options=ListOptions(10))]))
            )
            asked[kind].append(timed(lambda user=user: service.recommend(user, ListOptions(10))))
    return {"event_with_list": compared(told), "list": compared(asked)}


def compared(times):
    """Return the percentiles of each kind of user, and how those of the long history stand to the others."""
    found = {kind: spread(some) for kind, some in times.items()}
    return {**found, "ratio": {q: round(found["long"][q] / found["short"][q], 3) for q in found["long"]}}


def sizes(service, user):
    """Return the bytes of a state: its memory, which no history changes, and the filter of what was seen."""
    state = service._state(user)[1]
    seen = state.seen.bits if state.seen.rows is None else state.seen.rows
    whole = len(state_to_bytes(state))
    return {"all": whole, "seen": seen.nbytes, "memory_and_clock": whole - seen.nbytes}


def bytes_per_user(service, rng, items, users=2000):
    """Return the bytes of memory that a user costs who was told of lately, with 20 events."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for first in range(0, users, 100):
        service.ingest(
            [
                IngestRequest(
                    tuple(Event(f"m{u}", str(rng.integers(items)), (1000 + n) * 1_000_000) for n in range(20))
                )
                for u in range(first, first + 100)
            ]
        )
    gc.collect()
    spent = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return round(spent / users)


def measure(asked, folder):
    rng, long, begin = np.random.default_rng(0), "long", 1_000_000_000
    save_model(random_model(asked.items, asked.width), folder / "a.segue")
    rec = random_model(asked.items, asked.width)
    store = SqliteStore(folder / "s.db")
    service = Service(rec, store, models=folder)
    found = {"import_s": round(timed(lambda: fill(store, long, asked.events, asked.items, rng, begin)), 1)}
    service.recommend(long, ListOptions(10))
    found["first_state_s"] = round(timed(service.settle), 1)
    short = [f"s{n}" for n in range(asked.repeats)]
    for user in short:
        fill(store, user, 3, asked.items, rng, begin)
    first = [timed(lambda user=user: service.recommend(user, ListOptions(10))) for user in short]
    found["first_list_of_short_after_import"] = spread(first)  # from then on the states of all are at hand
    print(json.dumps(found), flush=True)
    found |= turns(service, {"long": [long], "short": short}, asked.repeats, rng, asked.items, begin + asked.events)
    found["state_bytes"] = {"long": sizes(service, long), "short": sizes(service, short[0])}
    for name, back in (("near_the_end", 5000), ("in_the_middle", asked.events // 2)):
        event = Event(long, "5", (begin + asked.events - back) * 1_000_000 + 1)
        first = timed(lambda event=event: service.ingest([IngestRequest((event,), options=ListOptions(10))]))
        whole = first + timed(service.settle)
        found[f"late_event_{name}"] = {
            "answered_ms": round(first * 1e3, 1),
            "state_s": round(whole, 2),
        }
    print(json.dumps(found), flush=True)
    found["erase_event_ms"] = round(1e3 * timed(lambda: service.erase_event(long, f"{long}-{asked.events // 2}")), 1)
    found["list_after_it_ms"] = round(1e3 * timed(lambda: service.recommend(long, ListOptions(10))), 1)
    found["state_after_it_s"] = round(timed(service.settle), 2)
    other = random_model(asked.items, asked.width, seed=1)
    save_model(other, folder / "b.segue")
    began = time.perf_counter()
    service.roll_out("b.segue")
    service.settle()
    found["swap_s"] = round(time.perf_counter() - began, 2)
    assert service.recommend(long, ListOptions()).model == other.fingerprint
    found["erase_user_ms"] = round(1e3 * timed(lambda: service.erase_user(long)), 1)
    found["memory_bytes_per_recent_user"] = bytes_per_user(service, rng, asked.items)
    service.close()
    store.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    settings = {name: value for name, value in vars(asked).items() if name != "out"}
    found = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "load_of_other_work": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        found |= {"settings": settings, **measure(asked, Path(folder))}
    text = json.dumps(found, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
