"""What was acknowledged survives a kill at any moment, and was synced before it was acknowledged.

    python tests/contracts/test_durability.py 100        the same with a hundred kills

A kill leaves the page cache whole, so it shows that transactions are whole, not that they are on disk. That
the sync comes before the acknowledgement is therefore seen in the system calls of the process.
"""

import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engines import Postgres, Server, missing, require
from segue.store.factory import open_store

WRITER = Path(__file__).with_name("writer.py")
KILLS = 20


def writing(address, *options, prefix=()):
    """Start a writer."""
    command = [*prefix, sys.executable, str(WRITER), str(address), "web", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_after(process, seconds):
    """Kill a writer some time after its first words, and return the numbers that it acknowledged."""
    ready = process.stdout.readline()
    assert ready.startswith("ready"), process.stderr.read()
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    said = [line for line in process.stdout if line.endswith("\n")]
    process.wait()
    timer.cancel()
    process.stdout.close()
    process.stderr.close()
    return [int(line.split()[1]) for line in said]


def check(address, acknowledged, users):
    """Assert that all acknowledged events are there, none twice, and that states say the same as the log."""
    store = open_store(address)
    try:
        done = int(store.get_value("web:done") or b"0")
        assert not acknowledged or done > max(acknowledged)
        for user in users:
            ids = [event.id for event in store.events(user, limit=10**6)]
            assert len(ids) == len(set(ids))
            assert {f"{user}-{n}" for n in acknowledged} <= set(ids)
            assert set(ids) == {f"{user}-{n}" for n in range(done)}
            head = store.head(user, "b1")
            assert (head.version, head.count) == (done, done)
            if done:
                assert head.fresh and head.state.data == b"%d" % done
    finally:
        store.close()


def survive(address, mode, kills, seed=1, restart=lambda: None):
    rng, acknowledged = random.Random(seed), []
    users = ["u0", "u1", "u2"] if mode == "group" else ["u0"]
    for _ in range(kills):
        acknowledged += kill_after(writing(address, mode), rng.uniform(0, 0.12))
        restart()
        check(address, acknowledged, users)
    assert len(acknowledged) == len(set(acknowledged)) > kills
    return len(acknowledged)


@pytest.mark.parametrize("mode", ["single", "group"])
def test_no_acknowledged_event_is_lost_and_none_is_twice_after_kills(tmp_path, mode):
    survive(tmp_path / "shop.db", mode, KILLS // 2)


@pytest.mark.parametrize("start", [Server, lambda _: Postgres()], ids=["valkey", "postgres"])
def test_a_shared_server_that_is_killed_loses_no_acknowledged_event(tmp_path, start):
    server = start(tmp_path)
    try:

        def restart():
            server.kill()
            server.start()

        rng = random.Random(2)
        acknowledged = []
        for _ in range(3):
            process = writing(server.address, "group")
            assert process.stdout.readline().startswith("ready"), process.stderr.read()
            timer = threading.Timer(rng.uniform(0.02, 0.1), server.kill)
            timer.start()
            acknowledged += [int(line.split()[1]) for line in process.stdout]
            said = process.stderr.read()
            process.wait()
            process.stdout.close()
            process.stderr.close()
            assert "LostError" in said and "may or may not have been done: repeat it, with ids" in said
            timer.join()
            server.start()
            check(server.address, acknowledged, ["u0", "u1", "u2"])
        assert len(acknowledged) > 3
    finally:
        server.stop()


def calls(trace):
    """Give the system calls of a trace of `strace -f -y` in order: ("log" or "sync", file) and ("say", text)."""
    for line in trace.splitlines():
        if call := re.search(r"\b(?:pwrite64|write)\(\d+<(.*?)>, \"(.*)", line):
            file, text = call.groups()
            if text.startswith("acknowledged"):
                yield "say", text
            elif file.endswith("-wal"):
                yield "log", file
        elif call := re.search(r"\b(?:fsync|fdatasync)\(\d+<(.*?)>\)? *(?:=|<unfinished)", line):
            yield "sync", call[1]


def unsynced(trace):
    """Return how many acknowledgements there were, and how many of them came before their log was synced."""
    said, early, dirty = 0, 0, set()
    wrote = False
    for kind, what in calls(trace):
        if kind == "log":
            dirty.add(what)
            wrote = True
        elif kind == "sync":
            dirty.discard(what)
        else:
            said, early = said + 1, early + bool(dirty or not wrote)
            wrote = False
    return said, early


def traced(tmp_path, synced):
    trace = tmp_path / "trace"
    watched = "trace=fsync,fdatasync,write,pwrite64"
    prefix = [require("strace"), "-f", "-y", "-s", "40", "-e", watched, "-o", str(trace)]
    process = writing(tmp_path / "shop.db", "single", synced, "10", prefix=prefix)
    out, said = process.communicate(timeout=60)
    if "ptrace" in said.lower() or "Operation not permitted" in said:
        missing("strace may not watch here")
    assert out.count("acknowledged") == 10, said
    return unsynced(trace.read_text())


def test_each_event_is_synced_before_it_is_acknowledged(tmp_path):
    assert traced(tmp_path, "synced") == (10, 0)


def test_this_way_of_looking_sees_a_store_that_does_not_sync(tmp_path):
    assert traced(tmp_path, "unsynced") == (10, 10)


if __name__ == "__main__":
    import tempfile

    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for mode in ("single", "group"):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            count = survive(Path(folder) / "shop.db", mode, kills, seed=time.time_ns())
            print(
                f"{mode}: {kills} kills, {count} acknowledged, none lost, none twice, {time.monotonic() - begin:.0f} s"
            )
