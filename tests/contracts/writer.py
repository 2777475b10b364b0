"""A process that writes to a store without end and says after each commit what was acknowledged.

    python writer.py ADDRESS CLIENT [single|group] [unsynced] [COMMITS]

Each event has an id, so that a retry after a crash is harmless; each state holds the count of events.
"""

import itertools
import sys

from segue.store.base import Duplicate, Write, Written
from segue.store.events import Event
from segue.store.factory import open_store


def run(address, client, mode="single", synced="synced", commits=None):
    store = open_store(address)
    if synced == "unsynced":
        store._file._writer.execute("PRAGMA synchronous = OFF")
    users = ["u0", "u1", "u2"] if mode == "group" else ["u0"]
    start = int(store.get_value(f"{client}:done") or b"0")
    print("ready", start, flush=True)
    for n in itertools.count(start) if commits is None else range(start, start + int(commits)):
        heads = store.heads(users, "b1")
        writes = [
            Write(
                head.user,
                head.version,
                (Event(head.user, str(n), 1000 - n % 7, f"{head.user}-{n}"),),
                {"b1": b"%d" % (head.count + 1)},
                client=client,
            )
            for head in heads
        ]
        outcomes = store.commit(writes, values={f"{client}:done": b"%d" % (n + 1)})
        assert all(isinstance(outcome, Written | Duplicate) for outcome in outcomes), outcomes
        print("acknowledged", n, flush=True)
    store.close()


if __name__ == "__main__":
    run(*sys.argv[1:])
