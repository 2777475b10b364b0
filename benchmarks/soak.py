"""A real server under mixed load for minutes: does its memory stay, does it stay alive, does it say why it ends.

    python benchmarks/soak.py --minutes 10 -o benchmarks/results/soak.json

The database keeps up to 64 MB of its file in memory for writing and as much for reading. So that their filling is not
taken for a leak, the store is filled by an import and every user is told of and read once before. Then clients
over loopback, at a fixed rate in all: events with lists, lists, lists of histories and of tokens, explanations, erased
events and erased users, numbers for Prometheus. Every ten seconds the memory of the process is noted (resident, and
the anonymous part of it, which is what a leak would be in). After the warm-up a straight line is laid through it.
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from serving import cpu_seconds, free_port, random_model, wait_for

from segue.jobs.import_export import import_events
from segue.model_file import save_model
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore


def touch(port, users, items):
    """Tell an event of each user and read their history, so that what the database keeps in memory is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for user in users:
        body = json.dumps({"user": user, "item": str(int(user[1:]) % items)})
        connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        connection.request("GET", f"/v1/users/{user}?limit=100")
        connection.getresponse().read()
    connection.close()


class Client(threading.Thread):
    """Sends requests of all kinds, evenly in time, and counts the answers of each."""

    def __init__(self, port, number, asked, over):
        super().__init__(daemon=True)
        self.port, self.number, self.asked, self.over = port, number, asked, over
        self.draw, self.answers, self.times = random.Random(number), Counter(), []
        self.connection, self.token, self.now = None, "new", time.time() - 10**6

    def run(self):
        pause, due = self.asked.clients / self.asked.rate, time.perf_counter()
        asking = [self.list, self.history, self.by_token, self.explanation, self.numbers]
        while not self.over.is_set():
            [work] = self.draw.choices([self.event, self.erase, self.forget, *asking], (60, 3, 3, 20, 4, 4, 3, 1))
            work()
            due = max(due + pause, time.perf_counter() - 1)
            time.sleep(max(0.0, due - time.perf_counter()))

    def call(self, kind, method, path, body=None):
        began = time.perf_counter()
        data = None if body is None else json.dumps(body)
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            self.connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = self.connection.getresponse()
            text, status = answer.read(), answer.status
        except (OSError, http.client.HTTPException) as error:
            self.connection, text, status = None, b"{}", type(error).__name__
            time.sleep(0.1)
        self.answers[f"{kind} {status}"] += 1
        self.times.append(time.perf_counter() - began)
        return json.loads(text) if status == 200 and text[:1] == b"{" else {}

    def item(self):
        return str(self.draw.randrange(self.asked.items))

    def user(self):
        return f"u{self.draw.randrange(self.asked.users)}"

    def event(self):
        self.call("event with list", "POST", "/v1/events?recommend=10", {"user": self.user(), "item": self.item()})

    def list(self):
        self.call("list", "GET", f"/v1/recommend?user={self.user()}&k=20")

    def history(self):
        self.call("history", "POST", "/v1/recommend", {"history": [self.item() for _ in range(30)], "diversity": 0.3})

    def by_token(self):
        body = {"token": self.token, "event": {"item": self.item()}}
        self.token = self.call("token", "POST", "/v1/recommend", body).get("token", "new")

    def explanation(self):
        self.call("explanation", "POST", "/v1/explain", {"user": self.user(), "last": 5})

    def erase(self):
        told = self.call("event to be erased", "POST", "/v1/events", {"user": self.user(), "item": self.item()})
        if told:
            event = told["events"][0]
            self.call("erased event", "DELETE", f"/v1/users/{event['user']}/events/by-seq/{event['seq']}")

    def forget(self):
        name = f"gone-{self.number}-{self.draw.getrandbits(60)}"
        self.call("event of one to be erased", "POST", "/v1/events", {"user": name, "item": self.item()})
        self.call("erased user", "DELETE", f"/v1/users/{name}")

    def numbers(self):
        self.call("numbers", "GET", "/metrics")


def memory(pid):
    """Return MiB of memory of a process: resident, and of it anonymous; and its threads and open files."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    mib = [round(int(lines[name].split()[0]) / 1024, 2) for name in ("VmRSS", "RssAnon")]
    return {"rss": mib[0], "anonymous": mib[1], "threads": int(lines["Threads"]),
            "files": len(os.listdir(f"/proc/{pid}/fd"))}  # fmt: skip


def line_through(minutes, values):
    """Return the slope of a straight line in MiB a minute with its standard error, and the rise over all of it."""
    x = np.array(minutes) - np.mean(minutes)
    slope = float(x @ values / (x @ x))
    rest = values - np.mean(values) - slope * x
    error = float((rest @ rest / max(len(x) - 2, 1) / (x @ x)) ** 0.5)
    rise, mean = round(slope * float(x[-1] - x[0]), 2), round(float(np.mean(values)), 1)
    return {"mib_a_minute": round(slope, 4), "standard_error": round(error, 4), "rise_mib": rise, "mean_mib": mean}


def measure(asked, folder):
    """Run the server under load, and return what was seen."""
    save_model(random_model(asked.items, asked.width), folder / "b.segue")
    rng, begin = np.random.default_rng(0), int(time.time()) - 10**7
    store = SqliteStore(folder / "s.db")
    rows = zip(rng.integers(asked.users, size=asked.filled), rng.integers(asked.items, size=asked.filled), strict=True)
    events = (Event(f"u{user}", str(item), (begin + n) * 1_000_000) for n, (user, item) in enumerate(rows))
    import_events(store, events, source="filled")
    store.close()
    port = free_port()
    command = [sys.executable, "-m", "segue", "serve", folder / "b.segue", "--store", folder / "s.db", "--port", port]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([str(word) for word in command], stderr=log, stdout=log)
    wait_for(port)
    everybody = [f"u{n}" for n in range(asked.users)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: touch(port, everybody[n::8], asked.items), range(8)))
    over, noted = threading.Event(), []
    clients = [Client(port, n, asked, over) for n in range(asked.clients)]
    for client in clients:
        client.start()
    began = time.monotonic()
    while (spent := time.monotonic() - began) < 60 * asked.minutes and server.poll() is None:
        noted.append({"minute": round(spent / 60, 3), **memory(server.pid), "load": round(os.getloadavg()[0], 1)})
        time.sleep(min(10.0, 60 * asked.minutes - spent))
    alive, spent = server.poll() is None, time.monotonic() - began
    cpu = cpu_seconds(server.pid) if alive else None
    over.set()
    for client in clients:
        client.join(30)
    server.send_signal(signal.SIGTERM)
    code = server.wait(60)
    answers = sum((client.answers for client in clients), Counter())
    ms = 1e3 * np.concatenate([client.times for client in clients])
    later = [one for one in noted if one["minute"] >= asked.warm_up]
    minutes = [one["minute"] for one in later]
    return {
        "alive_to_the_end": alive,
        "exit_code": code,
        "last_line": (folder / "log").read_text().splitlines()[-1],
        "requests": answers.total(),
        "requests_per_second": round(answers.total() / spent, 1),
        "answers": dict(sorted(answers.items())),
        "milliseconds": {f"p{q}": round(float(np.percentile(ms, q)), 2) for q in (50, 90, 99)},
        "cpu_seconds": cpu,
        "store_mib": round((folder / "s.db").stat().st_size / 2**20, 1),
        "after_warm_up": {name: line_through(minutes, np.array([one[name] for one in later]))
                          for name in ("rss", "anonymous")},
        "memory": noted,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=3.0, help="minutes that do not count")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second in all")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--filled", type=int, default=200_000, help="events in the store before it starts")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    settings = {name: value for name, value in vars(asked).items() if name != "out"}
    found = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "settings": settings}
    with tempfile.TemporaryDirectory() as folder:
        found |= measure(asked, Path(folder))
    text = json.dumps(found)
    print(json.dumps({name: value for name, value in found.items() if name != "memory"}, indent=1))
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
