"""Real servers for tests: started on a free port, stopped by their own number."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest


def require(*names):
    """Return the path of the first of these programs; skip without it, or fail where engines must be there."""
    places = os.pathsep.join((os.environ.get("PATH", ""), os.path.dirname(sys.executable)))
    for name in names:
        if path := shutil.which(name, path=places):
            return path
    return missing(f"no {' or '.join(names)} here")


def missing(message):
    """Skip a test, or fail where engines must be there."""
    if os.environ.get("SEGUE_REQUIRE_ENGINES"):
        pytest.fail(f"{message}, and SEGUE_REQUIRE_ENGINES is set")
    pytest.skip(message)


class Server:
    """A Valkey or Redis server that syncs each write, with its files in a folder."""

    def __init__(self, folder, *settings):
        self.folder, self.settings = folder, settings
        self.program = require("valkey-server", "redis-server")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"valkey://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        fixed = ["--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", "", "--appendonly", "yes"]
        command = [self.program, *fixed, "--appendfsync", "always", *self.settings]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
                asked.sendall(b"PING\r\n")
                if asked.recv(64).startswith((b"+PONG", b"-NOAUTH")):  # and not that it is loading its files
                    return
            if time.monotonic() > end or self.process.poll() is not None:
                pytest.fail(f"{self.program} did not start: {(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Postgres:
    """A PostgreSQL server in a folder of its own, run by a user without rights where the tests are root."""

    def __init__(self, folder=None, **settings):
        # in memory, because after a kill it syncs all of its files; and where another user can reach it
        memory = "/dev/shm" if _room("/dev/shm") > 1 << 30 else None
        self.folder = Path(tempfile.mkdtemp(prefix="segue-postgres-", dir=folder or memory))
        self.settings, self.process = settings, None
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self.programs = str(programs[-1]) if programs else os.path.dirname(require("initdb"))
        self.user = {"user": "nobody", "group": "nogroup", "extra_groups": ()} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(self.folder, "nobody", "nogroup")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"postgresql://segue@127.0.0.1:{self.port}/postgres"
        made = ["-U", "segue", "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C"]
        made += [] if folder else ["--wal-segsize=1"]
        subprocess.run(
            [f"{self.programs}/initdb", "-D", self.folder / "data", *made],
            check=True, capture_output=True, cwd="/", **self.user,
        )  # fmt: skip
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")  # one user has a password
        self.start()

    def start(self):
        """Start, and return when it answers."""
        fixed = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        fixed |= self.settings or {"min_wal_size": 2, "max_wal_size": 16, "shared_buffers": "32MB"}
        options = [part for name, value in fixed.items() for part in ("-c", f"{name}={value}")]
        with open(self.folder / "server.log", "ab") as log:
            command = [f"{self.programs}/postgres", "-D", self.folder / "data", *options]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self.user)
        end = time.monotonic() + 30
        ask = [f"{self.programs}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ask, check=False).returncode:
            if time.monotonic() > end or self.process.poll() is not None:
                pytest.fail(f"postgres did not start: {(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self):
        """Kill it and each of its processes at once."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for number in [self.process.pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()
        end = time.monotonic() + 10
        while any(map(_lives, children)) and time.monotonic() < end:
            time.sleep(0.01)

    def stop(self):
        """Stop it, and remove its folder."""
        self.process.send_signal(signal.SIGQUIT)  # at once: nobody needs the files
        self.process.wait()
        shutil.rmtree(self.folder)


def _lives(number):
    """Whether a process is there and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _room(folder):
    """Bytes that are free in a folder."""
    return shutil.disk_usage(folder).free if os.path.isdir(folder) else 0
