"""Stores beside each other, and workers beside each other: speed, waiting, erasures, kills, rolled-out models.

    python benchmarks/scale_out.py stores -o benchmarks/results/stores.json
    python benchmarks/scale_out.py workers -o benchmarks/results/workers.json

Every engine is a real server that this script starts with its files in `--folder`, on whose disk a commit is synced.
The engines take turns, round after round, so that other work on the machine meets all of them; a number is the median
of the rounds. `workers` holds each worker to a core of its own; the load and the database share these cores, because
the machine has no others. `--share .35` leaves each worker that share of a core's time (a quota, as root),
so that the rest is free for the load and the database, and two workers show what a second core would add. On a machine
with other work, `nice -n -10` before the command gives the run its turn; the files say so, and the load.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from serving import Load, cpu_seconds, free_port, random_model, sync_seconds, wait_for
from store import commits, lasting, line_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from engines import Postgres, Server
from segue.jobs.import_export import import_events
from segue.model_file import save_model
from segue.store.events import Event
from segue.store.factory import open_store

#: Where Linux keeps the quotas of processor time; a period of them in microseconds.
QUOTAS, PERIOD = Path("/sys/fs/cgroup/cpu"), 20_000
#: Users of the loads over HTTP are so many that two workers seldom have the same one at a time.
ITEMS, USERS, MANY_USERS = 10_000, 1000, 20_000
#: Connections that send to one worker or two; each worker has enough of them to fill its commits.
CLIENTS = 128
DRAW = random.Random(0)


class Address(str):
    """The address of a store, and the process of its engine; 0 where the engine is in the server."""

    pid = 0

    def cpu_seconds(self):
        """Return the processor time of the engine and of all that it started."""
        if not self.pid:
            return 0.0
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(cpu_seconds(pid) for pid in [self.pid, *children])


@contextlib.contextmanager
def engine(kind, folder):
    """Start an engine with its files in a folder, and give the address of a new store."""
    if kind == "sqlite":
        yield Address(Path(tempfile.mkdtemp(dir=folder)) / "s.db")
        return
    place = Path(tempfile.mkdtemp(dir=folder))
    # as Debian sets it up, but for the memory of a small machine
    server = Server(place) if kind == "valkey" else Postgres(folder, max_wal_size="1GB", shared_buffers="128MB")
    try:
        address = Address(server.address)
        address.pid = server.process.pid
        yield address
    finally:
        server.stop()
        shutil.rmtree(place)


@contextlib.contextmanager
def serving(model, address, *more, cores=None):
    """Run `segue serve` over a store; give its port and the process."""
    port = free_port()
    command = [sys.executable, "-m", "segue", "serve", str(model), "--store", address, "--port", str(port), *more]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        ready(port)
        if cores is not None:
            for pid, core in zip(workers_of(process.pid), cores, strict=True):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(thread), {core})
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def ready(port):
    """Return when a server answers."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)


def workers_of(pid):
    """Return the processes that serve: the workers of a supervisor, or the server itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    served = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return served or [pid]


def event():
    """Return an event of one of many users."""
    return {"user": f"u{DRAW.randrange(MANY_USERS)}", "item": str(DRAW.randrange(ITEMS)), "type": "view"}


def erasing(port, address, seconds, rate):
    """Erase a user twice a second while events come at a rate; return how long both took."""
    log = (Event(f"e{n % 10_000}", str(n % 999), n) for n in range(100_000))
    store = open_store(address) if "://" in address else None
    if store is not None:
        import_events(store, log, source="log")
        store.close()
    load, times, over = Load(port, event), [], threading.Event()

    def erase():
        connection, n = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
        while not over.wait(0.5):
            began = time.perf_counter()
            connection.request("DELETE", f"/v1/users/e{n}")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            times.append(time.perf_counter() - began)
            n += 1

    thread = threading.Thread(target=erase)
    thread.start()
    asyncio.run(load.open(seconds, rate))
    over.set()
    thread.join()
    ms = np.array(times) * 1e3
    found = {"erasures": len(ms), "p50_ms": round(float(np.median(ms)), 1), "max_ms": round(float(ms.max()), 1)}
    return found | {"events": load.summary() | {"max_ms": round(max(load.times) * 1e3, 1)}}


def one_store(kind, model, folder, seconds):
    """Measure a store by itself, and a server over it."""
    found = {}
    with engine(kind, folder) as address:
        store = open_store(address)
        for group in (1, 16, 64):
            line = line_of("", commits(store, seconds, group, USERS), per=group)
            found[f"commits_of_{group}"] = {key: line[key] for key in ("each_per_second", "p50_ms", "p99_ms")}
        line = line_of("", lasting(1, lambda n: store.head(f"u{n % USERS}", "b1")))
        found["head_p50_ms"] = line["p50_ms"]
        store.close()
    with engine(kind, folder) as address:
        if kind == "sqlite":  # one process owns it, so it is filled before
            store = open_store(address)
            import_events(store, (Event(f"e{n % 10_000}", str(n % 999), n) for n in range(100_000)), source="log")
            store.close()
        with serving(model, address) as (port, process):
            asyncio.run(Load(port, event).closed(2, 32))
            load, before, engines = Load(port, event), cpu_seconds(process.pid), address.cpu_seconds()
            found["events_with_list_per_second"] = round(asyncio.run(load.closed(seconds, 32)))
            found["cpu_us"] = round((cpu_seconds(process.pid) - before) / len(load.times) * 1e6)
            found["engine_cpu_us"] = round((address.cpu_seconds() - engines) / len(load.times) * 1e6)
            load = Load(port, event)
            asyncio.run(load.closed(seconds, 1))
            found["one_event_with_list"] = load.summary()
            load = Load(port, lambda: {"events": [event() for _ in range(100)]}, "/v1/events")
            found["batches_of_100_events_per_second"] = round(100 * asyncio.run(load.closed(seconds, 2)))
            load = Load(port, event)
            asyncio.run(load.open(2 * seconds, 500))
            found["at_500_per_second"] = load.summary()
            found["erasing"] = erasing(port, address, 2 * seconds, 200)
    return found


def stores(given, folder, model):
    """Measure each store in each round."""
    rounds = {kind: [] for kind in given.kinds}
    for _ in range(given.rounds):
        for kind in given.kinds:
            rounds[kind].append(one_store(kind, model, folder, given.seconds))
            print(kind, json.dumps(rounds[kind][-1]), file=sys.stderr)
    return {"stores": {kind: middle(found) for kind, found in rounds.items()}}


def middle(rounds):
    """Return the median of each number of several rounds."""
    if isinstance(rounds[0], dict):
        return {key: middle([one[key] for one in rounds]) for key in rounds[0]}
    return statistics.median(rounds)


@contextlib.contextmanager
def limited(pids, share):
    """Leave each process a share of a core's time while the block runs; with 1 nothing is limited."""
    groups = [QUOTAS / f"segue-{pid}" for pid in pids] if share < 1 else []
    for pid, group in zip(pids, groups, strict=False):
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(round(share * PERIOD)))
        (group / "cgroup.procs").write_text(str(pid))
    try:
        yield
    finally:
        for pid, group in zip(pids, groups, strict=False):
            (QUOTAS / "cgroup.procs").write_text(str(pid))
            group.rmdir()


def speed(model, address, workers, seconds, share):
    """Measure events with lists over one or several workers, each on a core of its own or a share of one."""
    more = ["--workers", str(workers)] if workers > 1 else []
    with serving(model, address, *more, cores=None if share < 1 else range(workers)) as (port, process):
        pids = workers_of(process.pid)
        with limited(pids, share):
            return speed_of(port, pids, address, seconds, 500 if share == 1 else 250)


def speed_of(port, pids, address, seconds, rate):
    """Measure events with lists over the workers of a port."""
    asyncio.run(Load(port, event).closed(2, CLIENTS))
    load, before, engines = Load(port, event), sum(map(cpu_seconds, pids)), address.cpu_seconds()
    reached = asyncio.run(load.closed(seconds, CLIENTS))
    cpu = sum(map(cpu_seconds, pids)) - before
    found = {"events_with_list_per_second": round(reached), "cpu_us": round(cpu / len(load.times) * 1e6)}
    found["engine_cpu_us"] = round((address.cpu_seconds() - engines) / len(load.times) * 1e6)
    found["cores_of_the_workers_in_use"] = round(cpu * reached / len(load.times), 2)
    load = Load(port, event)
    asyncio.run(load.open(seconds, rate))
    return found | {f"at_{rate}_per_second": load.summary()}


def both_serve(port):
    """Return when two workers publish metrics."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/metrics")
            if connection.getresponse().read().count(b"\nsegue_requests_in_flight{") == 2:
                return
        time.sleep(0.2)


class Client(threading.Thread):
    """Sends events with ids over a connection that stays open; what got no answer is sent again."""

    def __init__(self, port, number, over):
        super().__init__(daemon=True)
        self.port, self.number, self.over = port, number, over
        self.acknowledged, self.codes, self.gaps = [], Counter(), []

    def run(self):
        draw, connection, n, last = random.Random(self.number), None, 0, time.perf_counter()
        while not self.over.is_set():
            body = {"user": f"c{self.number}-{draw.randrange(8)}", "item": str(draw.randrange(ITEMS)), "id": f"{n}"}
            body["id"] = f"{self.number}-{n}"
            while not self.over.is_set():
                try:
                    connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                    headers = {"Content-Type": "application/json"}
                    connection.request("POST", "/v1/events?recommend=10", json.dumps(body), headers)
                    answer = connection.getresponse()
                    answer.read()
                    self.codes[str(answer.status)] += 1
                    if answer.status == 200:
                        self.acknowledged.append((body["user"], body["id"]))
                        break
                except (OSError, http.client.HTTPException) as error:
                    self.codes[type(error).__name__] += 1
                    connection = None
            self.gaps.append(time.perf_counter() - last)
            last = time.perf_counter()
            n += 1


@contextlib.contextmanager
def clients(port, count=8):
    """Run clients; give them, and stop them at the end."""
    over = threading.Event()
    running = [Client(port, number, over) for number in range(count)]
    for client in running:
        client.start()
    yield running
    over.set()
    for client in running:
        client.join()


def outcome(address, running):
    """Return what the clients met, beside what the store keeps."""
    codes = sum((client.codes for client in running), Counter())
    acknowledged = [each for client in running for each in client.acknowledged]
    store, kept, after = open_store(address), Counter(), 0
    while page := store.log(after=after):
        kept.update((event.user, event.id) for event in page if event.id)
        after = page[-1].seq
    store.close()
    return {
        "acknowledged_events": len(acknowledged), "lost": len(set(acknowledged) - kept.keys()),
        "doubled": sum(count > 1 for count in kept.values()), "answers": dict(codes),
        "longest_pause_of_a_client_s": round(max(max(client.gaps) for client in running), 2),
    }  # fmt: skip


def workers(given, folder, model):
    """Measure one worker and two, kill workers under load, and roll out models under load."""
    rounds = {"one": [], "two": []}
    for _ in range(given.rounds):
        for name, count in (("one", 1), ("two", 2)):
            with engine("postgres", folder) as address:
                rounds[name].append(speed(model, address, count, given.seconds, given.share))
                print(name, json.dumps(rounds[name][-1]), file=sys.stderr)
    found = {name: middle(each) for name, each in rounds.items()} | {"share": given.share}
    one, two = (found[name]["events_with_list_per_second"] for name in ("one", "two"))
    found["times_as_many"] = round(two / one, 2)
    if given.share < 1:  # the rest is not a matter of speed
        return found
    with engine("postgres", folder) as address, serving(model, address, "--workers", "2") as (port, process):
        with clients(port) as running:
            for _ in range(given.kills):
                both_serve(port)
                time.sleep(random.uniform(0.5, 1.5))
                os.kill(random.choice(workers_of(process.pid)), signal.SIGKILL)
            both_serve(port)
        found["kills"] = {"times": given.kills, **outcome(address, running)}
    models = folder / "models"
    models.mkdir()
    shutil.copy(model, models / "a.segue")
    save_model(random_model(ITEMS, 64, seed=1), models / "b.segue")
    for name in ("roll_outs", "replacements"):
        (models / "current").write_text("a.segue\n")
        with engine("postgres", folder) as address, serving(models, address, "--workers", "2") as (port, process):
            with clients(port) as running:
                for turn in range(given.kills):
                    both_serve(port)
                    (models / "current").write_text(f"{'ba'[turn % 2]}.segue\n")
                    if name == "replacements":
                        process.send_signal(signal.SIGHUP)
                    time.sleep(4)
            found[name] = {"times": given.kills, **outcome(address, running)}
    with (
        engine("postgres", folder) as address,
        serving(model, address, cores=[0]) as (one, _),
        serving(model, address, cores=[1]) as (other, _),
    ):
        loads = [Load(port, event) for port in (one, other)]

        async def both():
            return await asyncio.gather(*(load.closed(given.seconds, 32) for load in loads))

        rates = asyncio.run(both())
        found["two_servers"] = {"events_with_list_per_second": round(sum(rates)), "each": [*map(round, rates)]}
    return found


def main():
    """Measure, and write a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["stores", "workers"])
    parser.add_argument("--kinds", nargs="*", default=["sqlite", "valkey", "postgres"])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    folder.chmod(0o755)  # the database runs as another user
    model = folder / "m.segue"
    save_model(random_model(ITEMS, 64), model)
    load = os.getloadavg()[0]
    found = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "seconds": given.seconds}
    found |= {"rounds": given.rounds, "load_at_the_begin": load, "sync_ms": round(sync_seconds(folder) * 1e3, 3)}
    found["niceness"] = os.nice(0)
    found |= (stores if given.what == "stores" else workers)(given, folder, model)
    found["load_at_the_end"] = os.getloadavg()[0]
    shutil.rmtree(folder)
    text = json.dumps(found, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
