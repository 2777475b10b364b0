"""The parts of which `cost_model.py` makes a prediction, each measured alone on this machine.

    python benchmarks/cost_parts.py data LOG       seconds and bytes of expanding, preparing, reading and encoding
    python benchmarks/cost_parts.py items          memory and seconds of a vocabulary
    python benchmarks/cost_parts.py updates LARGE  milliseconds of a call of 16 updates by width and lanes, on one core
    python benchmarks/cost_parts.py exchange       seconds of an exchange by bytes and processes
    python benchmarks/cost_parts.py workers LARGE  events a second of `segue train --workers N`, memory of each worker

LOG is a real log, LARGE an expanded one. Each writes its file into `benchmarks/results/scale/`. Where other work runs,
give the script priority (`nice -n -15`; where the kernel groups by session, in `/proc/self/autogroup` too).
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from large import measured

CORES = sorted(os.sched_getaffinity(0))
RESULTS = Path(__file__).parent / "results" / "scale"


def in_process(*words: str, cores: int | None = None) -> dict:
    """Run this script with other words in a process of its own, on so many cores; return what it prints."""

    def pinned() -> None:
        os.sched_setaffinity(0, CORES[:cores])

    command = [sys.executable, __file__, *words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, preexec_fn=pinned).stdout)


def peak_gib() -> float:
    """Return the largest memory of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20


# Preparing, reading, encoding


def data(asked: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        large, half, prepared = (Path(folder) / name for name in ("large.parquet", "half.parquet", "prepared"))
        size = ["--items", str(asked.items), "--rating-col", "none"]
        measured("datasets", "expand", asked.log, "-o", str(half), "--users", str(asked.copies // 2), *size)
        found = {
            "expand": measured("datasets", "expand", asked.log, "-o", str(large), "--users", str(asked.copies), *size)
        }
        found["prepare"] = measured("prepare", str(large), "-o", str(prepared))
        for name, kinds in (("encode", []), ("encode_without_hours", ["--kind", "time=ignored"])):
            found[name] = [in_process("encode", str(log), *kinds) for log in (half, large)]
        return found | {
            "events": pl.scan_parquet(large).select(pl.len()).collect().item(),
            "log_bytes": large.stat().st_size,
            "prepared_bytes": sum(file.stat().st_size for file in prepared.rglob("*") if file.is_file()),
        }


def encode(asked: argparse.Namespace) -> dict:
    """Do what the process that starts a training does until the first update."""
    import segue
    import segue.training.trainer

    before, began = peak_gib(), time.process_time()
    events = segue.read_events(asked.log)
    read, read_peak, began = time.process_time() - began, peak_gib(), time.process_time()
    _before_training(events, {}, asked.kind)
    return {
        "events": len(events),
        "read_processor_seconds": round(read, 2),
        "encode_processor_seconds": round(time.process_time() - began, 2),
        "peak_gib_before": round(before, 3),
        "peak_gib_of_reading": round(read_peak, 3),
        "peak_gib": round(peak_gib(), 3),
    }


def items(asked: argparse.Namespace) -> dict:
    return in_process("vocabulary", str(5_000_000)) | in_process("counts", str(1_000_000))


def vocabulary(asked: argparse.Namespace) -> dict:
    from segue.data.sequences.vocabulary import Vocabulary

    before = peak_gib()
    ids = _ids(asked.count)
    began = time.process_time()
    assert Vocabulary(ids).rows(ids[:1000])[-1] == 1000
    return {
        "ids": asked.count,
        "processor_seconds_of_ids": round(time.process_time() - began, 2),
        "bytes_of_an_id": round((peak_gib() - before) * 2**30 / asked.count),
    }


def counts(asked: argparse.Namespace) -> dict:
    from segue.data.prepared.items import merged_items
    from segue.data.prepared.parts import PLACE

    before, number, buckets = peak_gib(), pl.int_range(asked.count, eager=True), 8
    columns = {"count": number, "time": number, PLACE: number}
    tables = [pl.DataFrame({"item": _ids(asked.count), **columns}) for _ in range(buckets)]
    began = time.process_time()
    assert len(merged_items(tables)) == asked.count
    return {
        "counts": buckets * asked.count,
        "processor_seconds_of_counts": round(time.process_time() - began, 2),
        "bytes_of_a_count": round((peak_gib() - before) * 2**30 / (buckets * asked.count)),
    }


def _ids(count: int) -> pl.Series:
    """Return ids of eleven to twelve letters, in another order each time."""
    return pl.Series(np.arange(count)).shuffle().cast(pl.String) + "-item"


# Updates


def updates(asked: argparse.Namespace) -> dict:
    sizes = [(64, 128), (128, 128), (256, 128), (128, 64), (128, 32), (128, 8)]
    rows = [in_process("update", asked.log, str(width), str(lanes), cores=1) for width, lanes in sizes]
    return {"one_core": rows, "all_cores": in_process("update", asked.log, "128", "128")}


def update(asked: argparse.Namespace) -> dict:
    """Time calls of updates of one worker without others, on its own rows of the item table."""
    from segue.training.distributed.exchange import Exchange
    from segue.training.distributed.worker import WorkerTrainer

    settings = {"model.width": asked.width, "train.batch_size": asked.lanes, "train.negatives": 2048}
    network, config, learnt = _before_training(asked.log, settings)
    trainer = WorkerTrainer(network, config, learnt, exchange=Exchange.of_processes())
    times, latest = [], time.perf_counter()
    for _ in islice(trainer._one_epoch(), 8):
        times.append(time.perf_counter() - latest)
        latest = time.perf_counter()
    return {"width": asked.width, "lanes": asked.lanes, "call_ms": round(1e3 * min(times[2:]), 1)}


def _before_training(log: object, settings: dict, kind: str | None = None) -> tuple:
    """Return the network, settings and sequences with which `segue.train` begins to train."""
    from unittest.mock import patch

    import segue

    class Stopped(Exception):  # noqa: N818
        pass

    settings = settings | {"train.task": "next", "model.trends": "off"}  # trends read 2 million events at most
    with patch("segue.training.trainer.Trainer", side_effect=Stopped) as begun, contextlib.suppress(Stopped):
        events = segue.read_events(log) if isinstance(log, str) else log
        segue.train(events, config=settings, kinds=dict([kind.split("=")]) if kind else None)
    return begun.call_args.args[:3]


# The exchange


def exchange(asked: argparse.Namespace) -> dict:
    rows = []
    for processes in (2, 4):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [sys.executable, __file__, "peer", address, str(processes)]
        peers = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(processes)]
        said = [peer.communicate()[0] for peer in peers]
        rows += json.loads(said[0].splitlines()[-1])  # the lines before are those of the library
    return {"rows": rows}


def peer(asked: argparse.Namespace) -> list[dict]:
    os.environ["NPROC"] = str(max(1, len(CORES) // asked.processes))
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    jax.distributed.initialize(asked.address, asked.processes, asked.number)
    mesh = jax.make_mesh((asked.processes,), ("workers",))
    kinds = {
        "all-to-all": lambda x: jax.lax.all_to_all(x, "workers", 1, 1, tiled=True),
        "all-reduce": lambda x: jax.lax.pmean(x, "workers"),
    }
    rows = []
    for name, function in kinds.items():
        spec = PartitionSpec("workers")
        call = jax.jit(jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
        for size in (2**14, 2**20, 2**24):
            local = np.zeros((1, asked.processes * max(1, size // 4 // asked.processes)), np.float32)
            value = jax.make_array_from_process_local_data(NamedSharding(mesh, spec), local)
            times = []
            for _ in range(12):
                began = time.perf_counter()
                call(value).block_until_ready()
                times.append(time.perf_counter() - began)
            rows.append({"kind": name, "processes": asked.processes, "bytes": local.nbytes, "seconds": min(times[2:])})
    jax.distributed.shutdown()
    return rows if asked.number == 0 else []


# Workers


def workers(asked: argparse.Namespace) -> dict:
    log = Path(asked.log)
    events = pl.scan_parquet(log).select(pl.len(), pl.col("item").n_unique()).collect()
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        rows = [trained(log, Path(folder) / str(n), n, asked.minutes) for n in map(int, asked.processes.split(","))]
    return {"events": events["len"][0], "items": events["item"][0], "width": 128, "batch_size": 128, "rows": rows}


def trained(log: Path, folder: Path, processes: int, minutes: float) -> dict:
    """Return the pace of `segue train --workers N`, and the largest memory of each of its processes."""
    folder.mkdir()
    settings = {"train.minutes": minutes, "model.width": 128, "train.batch_size": 128, "train.negatives": 2048}
    settings |= {"model.trends": "off", "model.transitions": "false", "train.items_without_events": "false"}
    words = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "segue", "train", str(log), "-o", str(folder / "model.segue"), "--task", "next"]
    command += [*words, "--log", str(folder / "rows.jsonl"), "--workers", str(processes)]
    environment = os.environ | {"RAY_worker_niceness": "0"}  # the priority of this process, not a lower one
    with (folder / "said").open("w") as said:
        run = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    peaks: dict[int, float] = {}
    watch = threading.Thread(target=_watch, args=(run, peaks))
    watch.start()
    code = run.wait()
    watch.join()
    if code:
        sys.exit((folder / "said").read_text())
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return {
        "processes": processes,
        "events_per_second": [row["events_per_second"] for row in rows],
        "driver_peak_gib": round(peaks.pop(run.pid), 2),
        "worker_peak_gib": sorted((round(gib, 2) for gib in peaks.values()), reverse=True)[:processes],
        "load_of_other_work": round(os.getloadavg()[0], 1),
    }


def _watch(run: subprocess.Popen, peaks: dict[int, float]) -> None:
    """Note the largest memory of a process and of the Ray workers that train for it, until it ends."""
    while run.poll() is None:
        status = {}
        for file in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                fields = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
                status[int(file.parent.name)] = fields
        for process, fields in status.items():
            above = process
            while above in status and above != run.pid:
                above = int(status[above]["PPid"])
            if above == run.pid and (process == run.pid or "TrainWo" in fields["Name"]) and "VmHWM" in fields:
                peaks[process] = int(fields["VmHWM"].split()[0]) / 2**20
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    parts = {"data": data, "items": items, "updates": updates, "exchange": exchange, "workers": workers}
    inner = {"encode": encode, "vocabulary": vocabulary, "counts": counts, "update": update, "peer": peer}
    for name in parts | inner:
        verb = verbs.add_parser(name)
        if name in ("data", "encode", "workers", "updates"):
            verb.add_argument("log")
            verb.add_argument("--copies", type=int, default=120)
            verb.add_argument("--items", type=int, default=16)
            verb.add_argument("--work")
            verb.add_argument("--kind")
            verb.add_argument("--minutes", type=float, default=1.0)
            verb.add_argument("--processes", default="1,2,4")
        elif name in ("vocabulary", "counts"):
            verb.add_argument("count", type=int)
        elif name == "update":
            verb.add_argument("log")
            verb.add_argument("width", type=int)
            verb.add_argument("lanes", type=int)
        elif name == "peer":
            verb.add_argument("address")
            verb.add_argument("processes", type=int)
            verb.add_argument("number", type=int)
    asked = parser.parse_args()
    if asked.verb in inner:
        print(json.dumps(inner[asked.verb](asked)))
        return
    head = {"date": time.strftime("%Y-%m-%d"), "cores": len(CORES), "load_of_other_work": round(os.getloadavg()[0], 1)}
    text = json.dumps(head | parts[asked.verb](asked), indent=1)
    print(text)
    (RESULTS / f"{asked.verb}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
