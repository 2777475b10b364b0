"""Real servers for tests: started on a free port, stopped by their own number."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time

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
