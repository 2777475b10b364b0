"""A real server of a small recommender, in a process of its own."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace

import polars as pl

from segue.model_file import with_fingerprint
from tests_support import read_catalogue, small_rater, small_recommender

ITEMS = [f"{i:03d}" for i in range(12)]


def model(path, seed=5, levels=()):
    """Write a model of random weights, with a title that is dangerous to a page that trusts it.

    With levels it has learnt ratings.
    """
    rec = small_rater(seed=seed, levels=levels) if levels else small_recommender(seed=seed)
    titles = ["<script>alert(1)</script> & <b>bold</b>", *(f"film {item}" for item in ITEMS[1:])]
    rec = replace(rec, catalogue=read_catalogue(pl.DataFrame({"item": ITEMS, "title": titles}), rec.vocabulary))
    with_fingerprint(rec).save(path)
    return rec


class Server:
    """`segue serve` on a free port."""

    def __init__(self, folder, *options, name="b.segue"):
        self.folder, self.options, self.name = folder, options, name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        began = time.monotonic()
        command = [sys.executable, "-m", "segue", "serve", self.folder / self.name, "--store", self.folder / "s.db"]
        command += ["--port", self.port, *self.options]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen([str(x) for x in command], stderr=log, stdout=log, env={**os.environ})
        while self.call("GET", "/healthz")[0] != 200:
            log = (self.folder / "server.log").read_text()
            assert self.process.poll() is None and time.monotonic() - began < 30, log[-2000:]
            time.sleep(0.02)
        return time.monotonic() - began

    def call(self, method, path, body=None, headers=None):
        """Return the status and the JSON of an answer; 0 where nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        if data is not None:
            asked.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text[:1] in b"{[" else text
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
                return error.code, json.loads(text) if text else {}
        except (OSError, http.client.HTTPException):  # killed in the middle of an answer
            return 0, {}

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)  # the signal is raised again once all is closed
        assert code in (0, -signal.SIGTERM), (self.folder / "server.log").read_text()[-2000:]
