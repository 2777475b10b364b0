"""How fast the server answers: events with lists, beside the empty handler of the same stack and the disk's sync.

    python benchmarks/serving.py --items 10000 --seconds 10 --out FILE.json
    python benchmarks/serving.py --items 1000000 --model large.segue --rate 500 --out FILE.json
    python benchmarks/serving.py --ranker                lists that follow what everybody does

A server in a process of its own, loaded from this process over loopback with a bounded number of connections
kept open. The model has random weights (speed does not depend on them); above 50,000 items it has an index,
which is built beside `--model` where there is none yet, and its items lie around centres. In the same run: an empty
handler of Starlette and uvicorn that reads the same JSON, and the time of an append with fdatasync on the same disk. Of
both servers also the processor time of a request, which other work on the machine changes least.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
from index import catalogue

from segue.config import DataSize, configure, derive
from segue.data.sequences.vocabulary import Vocabulary
from segue.model_file import build_network, save_model, with_fingerprint
from segue.recommend.index.approximate import (
    ApproximateIndex,
    build_index,
    exact_index,
    index_path,
    open_index,
    random_queries,
    recall_of,
)
from segue.recommend.recommender import Recommender, load_model
from segue.serve.live.model_source import EVERY
from segue.trends.ranker import INPUTS, TrendRanker

EMPTY = """
import uvicorn, sys
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
async def events(request):
    await request.json()
    return JSONResponse({"items": []})
app = Starlette(routes=[Route("/v1/events", events, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error")
"""


def random_ranker(shortest: float = 300.0, hidden: int = 16, seed: int = 0) -> TrendRanker:
    """A ranker of the size that training makes; speed does not depend on its weights."""
    rng = np.random.default_rng(seed)
    shapes = ((INPUTS, hidden), (hidden,), (hidden, hidden), (hidden,), (hidden,), (INPUTS,))
    return TrendRanker(
        np.int64(shortest * 1e6), *(rng.normal(0, 0.1, one).astype("f") for one in shapes), np.float32(0)
    )


def random_model(items: int, width: int, seed: int = 0, *, ranker: bool = False) -> Recommender:
    vocabulary = Vocabulary(pl.Series([str(i) for i in range(items)]))
    config = configure({"model.width": width, "train.repeats": "exclude"})
    config = derive(config, DataSize(10**6, 10**5, vocabulary.size, True, 0.0))
    network = build_network(config, items=vocabulary.size, longest_gap=1e6)
    params, live = network.init(seed), random_ranker() if ranker else None
    return with_fingerprint(Recommender(network, params, vocabulary, config, learnt=vocabulary.size, ranker=live))


def clustered_model(path: Path, items: int, width: int, seed: int = 0) -> dict:
    """Write a model whose items lie around centres, as learnt ones do, and the index beside it; return its facts.

    What a user looks for lies near the last items, for the network, though untrained, passes them on. A model that
    is there is taken as it is, for its index takes long to build.
    """
    if not index_path(path).exists():
        rec = random_model(items, width, seed)
        vectors, bias = catalogue(items, width, 2000, np.random.default_rng(seed))
        rec = with_fingerprint(replace(rec, params=rec.params._replace(items=vectors, bias=bias)))
        save_model(rec, path)
        build_index(rec, path)
    rec = load_model(path)
    index, _ = open_index(rec, path)
    assert isinstance(index, ApproximateIndex)
    queries = random_queries(rec, 1000, seed + 1)
    recall = recall_of(index, exact_index(rec).search(queries, index.facts.k), queries)
    return {**asdict(index.facts), "recall_on_1000_other_queries": round(recall, 4)}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int, seconds: float = 60.0) -> float:
    """Return how long it took until somebody listens."""
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        with socket.socket() as one:
            one.settimeout(0.2)
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return time.perf_counter() - began
        time.sleep(0.02)
    raise SystemExit("the server did not start")


class Load:
    """Requests over connections that stay open; the time of each is kept."""

    def __init__(self, port: int, body, path: str = "/v1/events?recommend=10") -> None:
        self.port, self.body, self.path = port, body, path
        self.times: list[float] = []
        self.failed = 0

    def request(self) -> bytes:
        body = json.dumps(self.body()).encode()
        head = f"POST {self.path} HTTP/1.1\r\nhost: localhost:{self.port}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, due: float | None = None) -> None:
        began = due if due is not None else time.perf_counter()
        writer.write(self.request())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length"))
        await reader.readexactly(length)
        self.failed += not head.startswith(b"HTTP/1.1 200")
        self.times.append(time.perf_counter() - began)

    async def closed(self, seconds: float, connections: int) -> float:
        """As fast as it goes: return requests per second."""
        end = time.perf_counter() + seconds

        async def work() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            while time.perf_counter() < end:
                await self.one(reader, writer)
            writer.close()

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(connections)))
        return len(self.times) / (time.perf_counter() - began)

    async def open(self, seconds: float, rate: float, connections: int = 64) -> None:
        """At a fixed rate, from the moment each request was due: waiting for a connection counts."""
        queue: asyncio.Queue[float | None] = asyncio.Queue()

        async def work() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            while (due := await queue.get()) is not None:
                await self.one(reader, writer, due)
            writer.close()

        workers = [asyncio.create_task(work()) for _ in range(connections)]
        began = time.perf_counter()
        for n in range(int(seconds * rate)):
            due = began + n / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            queue.put_nowait(due)
        for _ in workers:
            queue.put_nowait(None)
        await asyncio.gather(*workers)

    def summary(self) -> dict:
        ms = np.array(self.times) * 1e3
        cuts = {f"p{q}_ms": round(float(np.percentile(ms, q)), 2) for q in (50, 90, 99)}
        return {"requests": len(ms), "failed": self.failed, **cuts}


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in seconds; other work on the machine changes it least."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sync_seconds(folder: Path) -> float:
    """Return the mean time of an append of 4 KiB with fdatasync."""
    with (folder / "sync").open("wb") as file:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < 2:
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            count += 1
    return (time.perf_counter() - began) / count


def measure(asked: argparse.Namespace, folder: Path) -> dict:
    rng = np.random.default_rng(0)

    def event() -> dict:
        return {"user": f"u{rng.integers(asked.users)}", "item": str(rng.integers(asked.items)), "type": "view"}

    found: dict = {"sync_ms": round(sync_seconds(folder) * 1e3, 3)}
    port = free_port()
    empty = subprocess.Popen([sys.executable, "-c", EMPTY, str(port)])
    try:
        wait_for(port)
        asyncio.run(Load(port, event).closed(2, asked.connections))
        load, before = Load(port, event), cpu_seconds(empty.pid)
        found["empty_per_second"] = round(asyncio.run(load.closed(asked.seconds, asked.connections)))
        found["empty_cpu_us"] = round((cpu_seconds(empty.pid) - before) / len(load.times) * 1e6)
    finally:
        empty.kill()
        empty.wait()
    model = asked.model or folder / "b.segue"
    if asked.items > EVERY:
        found["index"] = clustered_model(model, asked.items, asked.width)
    else:
        save_model(random_model(asked.items, asked.width, ranker=asked.ranker), model)
    port = free_port()
    command = [sys.executable, "-m", "segue", "serve", str(model), "--store", str(folder / "s.db")]
    server = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        found["start_seconds"] = round(wait_for(port), 2)
        asyncio.run(Load(port, event).closed(2, asked.connections))
        load, before, own = Load(port, event), cpu_seconds(server.pid), time.process_time()
        found["events_with_list_per_second"] = round(asyncio.run(load.closed(asked.seconds, asked.connections)))
        found["cpu_us"] = round((cpu_seconds(server.pid) - before) / len(load.times) * 1e6)
        found["client_cpu_us"] = round((time.process_time() - own) / len(load.times) * 1e6)
        found["closed"] = load.summary()
        found["share_of_empty"] = round(found["events_with_list_per_second"] / found["empty_per_second"], 3)
        for rate in asked.rate:
            load = Load(port, event)
            asyncio.run(load.open(asked.seconds, rate))
            found[f"at_{rate:g}_per_second"] = load.summary()
        for rate in asked.rate:
            load = Load(port, lambda: {"user": event()["user"]}, "/v1/recommend")
            asyncio.run(load.open(asked.seconds, rate))
            found[f"lists_alone_at_{rate:g}_per_second"] = load.summary()
        status = Path(f"/proc/{server.pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            found["peak_memory_mib"] = round(int(peak.split()[1]) / 1024)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, nargs="*", default=[200.0, 500.0, 1000.0])
    parser.add_argument("--model", type=Path, help="kept there, with its index")
    parser.add_argument("--ranker", action="store_true", help="lists follow what everybody does")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(asked, Path(folder))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    settings = {name: value for name, value in vars(asked).items() if name not in ("out", "model")}
    found = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "settings": settings, **found}
    found["load_at_the_end"] = os.getloadavg()[0]
    text = json.dumps(found)
    if asked.out:
        asked.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
