"""A real server under load, killed at random moments: what was acknowledged is there, once, and states equal replay.

    python benchmarks/kills.py --kills 100 --folder FOLDER -o benchmarks/results/kills.json

Clients over loopback tell events, one by one or several at once, with ids, and send again what got no answer. After
each kill -9 the server is started anew and the seconds to its first answer are taken; at the end it is killed once more
and its store is read: every user's events beside what was acknowledged, every user's state beside a replay of the log.
The folder keeps the store and what is known so far, so that a run which was stopped goes on where it was.
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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from serving import free_port, random_model

import segue
from segue.model.backend import leaves
from segue.model_file import save_model
from segue.recommend.batch import state_from_bytes
from segue.store.sql.sqlite_store import SqliteStore

STATE = 1e-4


@dataclass
class Told:
    """What one user was told of: the next number, and the number of the log under each acknowledged id."""

    next: int = 0
    acknowledged: dict[str, int] = field(default_factory=dict)


class Client(threading.Thread):
    """Tells events of its users in turn until told to stop; what got no answer is sent again."""

    def __init__(self, port, users, items, seed, over):
        super().__init__(daemon=True)
        self.port, self.users, self.items, self.over = port, users, items, over
        self.draw, self.codes, self.connection = random.Random(seed), {}, None

    def run(self):
        while not self.over.is_set():
            for name, told in self.users.items():
                count = self.draw.choice((1, 1, 1, 5))
                events = [self.event(name, told.next + n) for n in range(count)]
                body = events[0] if count == 1 else {"events": events}
                while not self.over.is_set() and not self.tell(body, told):
                    time.sleep(0.01)
                if self.over.is_set():
                    return
                told.next += count

    def event(self, name, n):
        """Return the n-th event of a user, the same whenever it is sent."""
        id = f"{name}-{n}"
        return {"user": name, "item": str(random.Random(id).randrange(self.items)), "id": id, "time": 10_000 + 60 * n}

    def tell(self, body, told):
        """Send a request, and say whether it was answered."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            self.connection.request(
                "POST", "/v1/events?recommend=10", json.dumps(body), {"Content-Type": "application/json"}
            )
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection = None
            return False
        self.codes[answer.status] = self.codes.get(answer.status, 0) + 1
        if answer.status == 200:
            told.acknowledged |= {event["id"]: event["seq"] for event in json.loads(text)["events"]}
        return answer.status == 200


def start(folder, port):
    """Start a server, and return it with the seconds to its first answer of a list."""
    command = [sys.executable, "-m", "segue", "serve", folder / "b.segue", "--store", folder / "s.db", "--port", port]
    began = time.perf_counter()
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen([str(word) for word in command], stderr=log, stdout=log)
    while True:
        try:
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            asked.request("GET", "/v1/recommend?user=u0")
            if asked.getresponse().status == 200:
                return server, time.perf_counter() - began
        except (OSError, http.client.HTTPException):
            if server.poll() is not None:
                raise SystemExit(f"the server ended by itself: {server.returncode}, see {folder}/server.log") from None
            time.sleep(0.005)


def check(folder, users):
    """Return what became of every event and of every state, from the store."""
    rec, store = segue.load(folder / "b.segue"), SqliteStore(folder / "s.db")
    found = {"acknowledged_events": 0, "events_kept": 0, "lost": 0, "doubled": 0, "under_another_number": 0}
    found |= {"states_stored": 0, "states_unequal_to_replay": 0, "largest_difference": 0.0}
    for name, told in users.items():
        kept = store.events(name, limit=10**7)
        ids = {event.id: event.seq for event in kept}
        found["acknowledged_events"] += len(told.acknowledged)
        found["events_kept"] += len(kept)
        found["doubled"] += len(kept) - len(ids)
        found["lost"] += len(told.acknowledged.keys() - ids.keys())
        found["under_another_number"] += sum(ids.get(id, seq) != seq for id, seq in told.acknowledged.items())
        head = store.head(name, rec.fingerprint)
        replayed = rec.start()
        for event in kept:
            replayed = rec.observe(replayed, event.item, time=event.time / 1e6)
        if head.count != len(kept) or not head.fresh:
            found["states_unequal_to_replay"] += 1
            continue
        state = state_from_bytes(rec, head.state.data)
        apart = max(
            float(np.abs(x - y).max(initial=0.0))
            for (_, x), (_, y) in zip(leaves(state.memory), leaves(replayed.memory), strict=True)
        )
        same = state.count == replayed.count and state.seen.to_rows().tolist() == replayed.seen.to_rows().tolist()
        found["states_stored"] += 1
        found["states_unequal_to_replay"] += not same or apart > STATE
        found["largest_difference"] = max(found["largest_difference"], apart)
    store.close()
    return found


def measure(asked, folder):
    """Kill and restart so often, and return what was seen."""
    notes = folder / "known.json"
    known = json.loads(notes.read_text()) if notes.exists() else {"seconds": [], "users": {}, "codes": {}}
    users = {f"u{n}": Told(**known["users"].get(f"u{n}", {})) for n in range(asked.clients * asked.users)}
    if not (folder / "b.segue").exists():
        save_model(random_model(asked.items, asked.width), folder / "b.segue")
    port, draw = free_port(), random.Random(len(known["seconds"]))
    server, _ = start(folder, port)
    names = list(users)
    while len(known["seconds"]) < asked.kills:
        over = threading.Event()  # clients go over ten kills, then all that is known is kept
        clients = [
            Client(port, {name: users[name] for name in names[n :: asked.clients]}, asked.items, draw.random(), over)
            for n in range(asked.clients)
        ]
        for client in clients:
            client.start()
        for _ in range(min(10, asked.kills - len(known["seconds"]))):
            time.sleep(draw.uniform(0.0, 2 * asked.seconds))
            server.send_signal(signal.SIGKILL)
            server.wait()
            server, seconds = start(folder, port)
            known["seconds"].append(round(seconds, 3))
        time.sleep(0.2)
        over.set()
        for client in clients:
            client.join(60)
            for code, count in client.codes.items():
                known["codes"][str(code)] = known["codes"].get(str(code), 0) + count
        known["users"] = {name: vars(told) for name, told in users.items()}
        notes.write_text(json.dumps(known))
        print(len(known["seconds"]), "kills", known["codes"], max(known["seconds"]), flush=True)
    server.send_signal(signal.SIGKILL)
    server.wait()
    seconds = np.array(known["seconds"])
    return {
        "kills": len(seconds),
        "answers_by_status": known["codes"],
        "users": len(users),
        **check(folder, users),
        "first_answer_after_start": {
            "p50_s": round(float(np.median(seconds)), 3),
            "p90_s": round(float(np.percentile(seconds, 90)), 3),
            "max_s": float(seconds.max()),
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--users", type=int, default=4, help="of each client")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.5, help="between an answer and the next kill, in the mean")
    parser.add_argument("--folder", type=Path, help="of the store; kept, so that a run goes on")
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    settings = {name: value for name, value in vars(asked).items() if name not in ("out", "folder")}
    found = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "settings": settings}
    with tempfile.TemporaryDirectory() as aside:
        folder = asked.folder or Path(aside)
        folder.mkdir(parents=True, exist_ok=True)
        found |= measure(asked, folder)
    found["load_at_the_end"] = os.getloadavg()[0]
    text = json.dumps(found, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
