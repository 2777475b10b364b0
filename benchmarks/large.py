"""A log that is larger than a laptop's memory likes: seconds and peak memory of `segue train`.

    python benchmarks/large.py [--events 100000000] [--minutes 1] [--work DIR] [--json] [--out FILE]

Makes a Parquet file of events (a user for every 100 events, 100,000 items with a long tail, times), then
runs `segue train` on it as a process of its own and asks the system for that process's largest memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq


def make(path: Path, events: int, items: int = 100_000, part: int = 5_000_000) -> None:
    """Write the log part by part, so that making it needs little memory."""
    rng = np.random.default_rng(0)
    writer = None
    for begin in range(0, events, part):
        count = min(part, events - begin)
        table = pa.table(
            {
                "user": rng.integers(0, max(1, events // 100), count, dtype=np.int32),
                "item": (items * rng.random(count) ** 3).astype(np.int32),
                "time": np.arange(begin, begin + count, dtype=np.int64) // 10 + 1_600_000_000,
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000_000)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        log, model = Path(folder) / "log.parquet", Path(folder) / "large.segue"
        make(log, asked.events)
        began = time.perf_counter()
        command = [sys.executable, "-m", "segue", "train", str(log), "-o", str(model)]
        run = subprocess.run([*command, "--set", f"train.minutes={asked.minutes}"], capture_output=True, text=True)
        found = {
            "date": time.strftime("%Y-%m-%d"),
            "cores": os.cpu_count(),
            "polars": pl.__version__,
            "events": asked.events,
            "log_bytes": log.stat().st_size,
            "minutes_of_training": asked.minutes,
            "seconds_in_all": round(time.perf_counter() - began, 1),
            "exit": run.returncode,
            "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
            "said": run.stderr.splitlines()[-12:],
        }
    text = json.dumps(found)
    if asked.out:
        asked.out.write_text(text + "\n")
    print(text if asked.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
