"""How fast training is: events a second, the share of the machine's product rate, and where the rest goes.

    python benchmarks/training.py --data DIR [--json] [--out FILE] [--items 50000 1000000] [--skip-pass]

`--data` is a folder with `ml-1m/sasrec_ml-1m.txt.gz`. One whole training pass of the default network is
timed, with everything that belongs to it but validation: making the windows, random bits, softmax, the
optimiser. Only products of matrices count as operations (`segue.training.cost.operations_per_target`); the
ceiling is the fastest float32 product of NumPy and XLA over square sizes 512 to 4096, in the same run; beside it stands
that of bfloat16, which training uses where it is the faster one.
Then a sampled update is timed for catalogues of several sizes.
"""

import os

os.environ.pop("OPENBLAS_CORETYPE", None)  # before NumPy is imported: it may name a slower kernel

import argparse
import collections
import glob
import gzip
import json
import platform
import re
import resource
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from sets import load
from timing import best_seconds

import segue
from segue.api import data_size, without_last
from segue.config import configure, derive
from segue.data.sequences.sequences import Sequences, encode, item_vocabulary
from segue.model.backend import draw_normal, take
from segue.model.cells import GRU
from segue.model.network import Masks, Memory, NetworkParams, Window
from segue.model_file import build_network
from segue.training.cost import operations_per_target
from segue.training.trainer import UPDATES_PER_CALL, Trainer
from segue.training.update.update import update_many

#: Names of the compiled program's products of matrices.
PRODUCT = re.compile(r"^(ynn_fusion|dot|dot_general|custom-call|onednn)")


def product_rate(size: int, xp, kind=np.float32) -> float:
    """Return GFLOPS of one product of two square matrices, summed in float32, the best of a few seconds."""
    rng = np.random.default_rng(0)
    a, b = (xp.asarray(rng.standard_normal((size, size), dtype=np.float32)).astype(kind) for _ in range(2))
    multiply = jax.jit(partial(jnp.matmul, preferred_element_type=jnp.float32)) if xp is jnp else np.matmul
    return 2.0 * size**3 / best_seconds(multiply, a, b) / 1e9


def ceiling() -> dict[str, dict[int, float]]:
    sizes = (512, 1024, 2048, 4096)
    makers = (("numpy", np, np.float32), ("xla", jnp, np.float32), ("xla, bfloat16", jnp, jnp.bfloat16))
    return {name: {n: round(product_rate(n, xp, kind), 1) for n in sizes} for name, xp, kind in makers}


def trainer_of(log: segue.Events, settings: dict[str, object]) -> Trainer:
    vocabulary = item_vocabulary(log)
    sequences = without_last(encode(log, vocabulary))
    size = data_size(sequences, vocabulary.size)
    config = derive(configure(settings), size)
    return Trainer(build_network(config, items=vocabulary.size, longest_gap=1.0), config, sequences)


def one_pass(trainer: Trainer) -> dict[str, float]:
    """Train a pass after a first call that compiles; return its targets, seconds and the pipeline's share."""
    updates = trainer._updates()
    many, count, _ = next(updates)
    trainer.run, losses = update_many(trainer.network, trainer.config, trainer.run, many, np.int32(count))
    losses.block_until_ready()
    trainer.at = trainer.at._replace(seconds=0.0)
    for _ in trainer._one_epoch():
        pass
    targets = float(np.count_nonzero(trainer.sequences.items))
    began = time.perf_counter()
    for _ in trainer.batches.windows(0):
        pass
    return {
        "targets": targets,
        "seconds": trainer.at.seconds,
        "window_seconds": time.perf_counter() - began,
    }


def breakdown(trainer: Trainer) -> dict[str, float]:
    """Return milliseconds of an update by what it does, from the profiler's trace of some calls."""
    trainer.at = trainer.at._replace(window=0)
    many, count, _ = next(trainer._updates())
    arguments = (trainer.network, trainer.config, trainer.run, many, np.int32(count))
    compiled = update_many.lower(*arguments).compile()
    names = {}
    for line in compiled.as_text().splitlines():
        found = re.match(r"\s*(?:ROOT )?%?([\w.\-]+) = ", line)
        scope = re.search(r'op_name="([^"]*)"', line)
        if found:
            names[found[1]] = scope[1] if scope else ""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            trainer.run, losses = update_many(*arguments)
            losses.block_until_ready()
        file = glob.glob(f"{folder}/**/*.trace.json.gz", recursive=True)[0]
        events = json.loads(gzip.decompress(Path(file).read_bytes()))["traceEvents"]
    parts: collections.Counter[str] = collections.Counter()
    for event in events:
        op = (event.get("args") or {}).get("hlo_op")
        if event.get("ph") != "X" or op is None or op.startswith(("while", "call", "conditional")):
            continue
        scope = names.get(op, "")
        part = next((p for p in ("optimiser", "loss", "network") if p in scope), "other")
        kind = (
            "products"
            if PRODUCT.match(op) and "dot_general" in scope
            else "loop"
            if (part == "network" and "while" in scope.split("network")[-1])
            else "elementwise"
        )
        parts[f"{part}, {kind}"] += event["dur"] / 1e3 / count
    return {name: round(value, 3) for name, value in parts.most_common()}


@dataclass(frozen=True)
class PlainGRU:
    """One GRU layer between a table of items and itself, nothing else: the network of GRU4Rec."""

    items: int
    width: int
    depth: ClassVar[int] = 1
    cell: ClassVar[GRU] = GRU()
    rating: ClassVar[None] = None

    def init(self, seed: int) -> NetworkParams:
        rng = np.random.default_rng(seed)
        table = draw_normal(rng, (self.items, self.width), 0.1)
        layer = self.cell.init(rng, self.width)
        one = np.ones(self.width, np.float32)
        return NetworkParams(table, np.zeros(self.items, np.float32), one, (), (layer,), one)

    def empty(self, params: NetworkParams, batch: int) -> Memory:
        return Memory((self.cell.start(params.blocks[0], batch),), jnp.zeros((batch, self.width)))

    def scan(self, params: NetworkParams, memory: Memory, window: Window, masks: Masks) -> tuple[Memory, jax.Array]:
        x = jnp.where(window.first[..., None], params.start, take(params.items, window.items)) * masks.embedding
        start, layer = self.cell.start(params.blocks[0], x.shape[1]), params.blocks[0]
        state, y = self.cell.scan(layer, memory.cells[0], self.cell.lift(layer, x), window.reset, start)
        return Memory((state,), y[-1]), y * masks.output

    def query(
        self, params: NetworkParams, output: jax.Array, gaps: jax.Array, details: jax.Array | None = None
    ) -> jax.Array:
        return output


def plain_gru(data: Path, units: int) -> dict[str, float]:
    """Return the speed of one GRU layer with 2,048 drawn negatives over a whole pass of ml-1m."""
    train, _ = segue.split_last(load("ml-1m-a", data).events)
    trainer = trainer_of(train, {"train.negatives": 2048, "model.width": units})
    trainer = Trainer(PlainGRU(trainer.network.items, units), trainer.config, trainer.sequences)
    timed = one_pass(trainer)
    operations = 6 * (6 * units**2 + 2048 * units)
    rate = timed["targets"] / timed["seconds"]
    return {"units": units, "events_per_second": round(rate), "gflops": round(rate * operations / 1e9, 1)}


def sampled_update(items: int, *, width: int = 64, calls: int = 6) -> dict[str, float]:
    """Return the milliseconds of one sampled update of 128 x 8 targets over a catalogue of some size."""
    rng = np.random.default_rng(0)
    users, length = 128, 8 * UPDATES_PER_CALL
    rows = np.minimum(rng.zipf(1.2, users * length), items - 1).astype(np.int32)
    spread = rng.integers(1, items, users * length).astype(np.int32)
    rows = np.where(rng.random(len(rows)) < 0.5, rows, spread)
    log = Sequences(pl.Series([str(u) for u in range(users)]), np.arange(0, len(rows) + 1, length), rows)
    config = derive(
        configure({"model.width": width, "train.batch_size": 128, "train.negatives": 2048, "train.epochs": 1}),
        data_size(log, items),
    )
    trainer = Trainer(build_network(config, items=items, longest_gap=1.0), config, log)
    began = time.perf_counter()
    many, count, _ = next(trainer._updates())
    pipeline = (time.perf_counter() - began) / count
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        trainer.run, losses = update_many(trainer.network, config, trainer.run, many, np.int32(count))
        losses.block_until_ready()
        times.append((time.perf_counter() - began) / count)
    return {
        "items": items,
        "update_ms": round(1e3 * min(times[1:]), 2),
        "input_ms": round(1e3 * pipeline, 2),
        "memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--items", type=int, nargs="*", default=[50_000, 1_000_000])
    parser.add_argument("--plain-gru", type=int, nargs="*", default=[], help="units of one GRU layer to time")
    parser.add_argument("--setting", action="append", default=[], help="path=value")
    parser.add_argument("--skip-pass", action="store_true", help="time the sampled updates alone")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found: dict = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "jax": jax.__version__,
            "polars": pl.__version__,
            "blas": np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"],
            "environment": {k: v for k, v in os.environ.items() if re.search("BLAS|OMP_|XLA_|MKL", k)},
        },
    }
    if not asked.skip_pass:
        found |= whole_pass(asked.data, dict(text.split("=", 1) for text in asked.setting))
    found["plain_gru"] = [plain_gru(asked.data, units) for units in asked.plain_gru]
    found["sampled"] = [sampled_update(items) for items in asked.items]
    by_items = {row["items"]: row["update_ms"] for row in found["sampled"]}
    if {50_000, 1_000_000} <= by_items.keys():
        found["step_ratio_1m_to_50k_items"] = round(by_items[1_000_000] / by_items[50_000], 3)
    found["peak_memory_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    text = json.dumps(found)
    if asked.out:
        asked.out.write_text(text + "\n")
    print(text if asked.json else table(found))


def whole_pass(data: Path, settings: dict[str, str]) -> dict:
    rates = ceiling()
    train, _ = segue.split_last(load("ml-1m-a", data).events)
    trainer = trainer_of(train, settings)
    timed = one_pass(trainer)
    classes = trainer.config.train.negatives or trainer.network.items
    operations = operations_per_target(trainer.network, classes)
    achieved = operations * timed["targets"] / timed["seconds"] / 1e9
    peak = max(max(rates[name].values()) for name in ("numpy", "xla"))
    short = max(rates["xla, bfloat16"].values())
    return {
        "settings": settings,
        "targets": timed["targets"],
        "seconds_of_a_pass": round(timed["seconds"], 2),
        "seconds_making_windows": round(timed["window_seconds"], 2),
        "updates": trainer.batches.updates,
        "events_per_second": round(timed["targets"] / timed["seconds"]),
        "operations_per_target": operations,
        "product_rates": rates,
        "peak_gflops": peak,
        "achieved_gflops": round(achieved, 1),
        "share_of_peak": round(achieved / peak, 3),
        "precision": trainer.config.train.precision,
        "peak_gflops_bfloat16": short,
        "share_of_bfloat16_peak": round(achieved / short, 3),
        "milliseconds_of_an_update": breakdown(trainer),
    }


def processor() -> str:
    cpu = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else []
    return names[0] if names else platform.processor()


def table(found: dict) -> str:
    lines = []
    if "share_of_peak" in found:
        lines = [
            f"{found['events_per_second']:,} events/s; {found['operations_per_target'] / 1e6:.2f} MFLOP a target",
            f"{found['achieved_gflops']} of {found['peak_gflops']} GFLOPS: {100 * found['share_of_peak']:.0f} %; "
            f"{found['precision']}, of whose {found['peak_gflops_bfloat16']} that is "
            f"{100 * found['share_of_bfloat16_peak']:.0f} %",
            *(f"  {name:<28} {value:8.3f} ms" for name, value in found["milliseconds_of_an_update"].items()),
        ]
    for row in found["plain_gru"]:
        lines.append(f"one GRU layer of {row['units']}: {row['events_per_second']:,} events/s, {row['gflops']} GFLOPS")
    for row in found["sampled"]:
        lines.append(
            f"sampled, {row['items']:>10,} items x 64: {row['update_ms']:6.2f} ms an update, "
            f"{row['input_ms']:.2f} ms to draw it, {row['memory_gib']} GiB"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
