"""Reading, checking, sorting and encoding a CSV log, beside a bare Polars scan and sort of the same file.

Each runs in a process of its own; memory is the growth of the peak resident size since the imports, and is
compared with the size of the file's Arrow table (four columns of 8 bytes). The log is like MovieLens: ids
are whole numbers, rows stand user by user, so that almost every row has to be moved.

    python benchmarks/reading.py --rows 2000000 [--repeats 3] [--json]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

BARE, OURS = "polars scan + sort", "segue read + encode"
BLOCK = 1_000_000


def write_log(path: Path, rows: int) -> None:
    """Write a log of so many rows, the same for the same number, block by block."""
    generator = np.random.default_rng(7)
    per_user = 144
    with path.open("wb") as file:
        for start in range(0, rows, BLOCK):
            size = min(BLOCK, rows - start)
            block = pl.DataFrame(
                {
                    "userId": (start + np.arange(size)) // per_user + 1,
                    "movieId": (27_278 * generator.random(size) ** 2.5).astype(np.int64) * 5 + 1,
                    "rating": generator.integers(1, 11, size) / 2,
                    "timestamp": generator.integers(789_652_009, 1_427_784_002, size),
                }
            )
            file.write(block.write_csv(include_header=start == 0).encode())


def measured(which: str, path: Path) -> dict[str, float]:
    """Run one of the two in this process."""
    from segue.data.log.events import read_events
    from segue.data.sequences.sequences import encode

    before = peak_bytes()
    start = time.perf_counter()
    if which == BARE:
        table = pl.scan_csv(path).sort("timestamp").collect()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "peak": peak_bytes() - before, "arrow": table.estimated_size()}
    events = read_events(path)
    read = time.perf_counter() - start
    sequences = encode(events)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "read": read, "peak": peak_bytes() - before, "users": len(sequences)}


def peak_bytes() -> int:
    """The largest resident size of this process so far (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_process(which: str, path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", which, "--path", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(rows: int, repeats: int) -> dict[str, object]:
    """Run both in turn, the fastest of each counts, the largest memory of each counts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        write_log(path, rows)
        runs = [(in_process(BARE, path), in_process(OURS, path)) for _ in range(repeats)]
        size = path.stat().st_size
    arrow = runs[0][0]["arrow"]
    seconds = [min(run[side]["seconds"] for run in runs) for side in (0, 1)]
    peaks = [max(run[side]["peak"] for run in runs) for side in (0, 1)]
    return {
        "rows": rows,
        "file_bytes": size,
        "arrow_bytes": arrow,
        "polars": pl.__version__,
        "bare": {"seconds": seconds[0], "peak_bytes": peaks[0], "peak_over_arrow": peaks[0] / arrow},
        "segue": {
            "seconds": seconds[1],
            "read_seconds": min(run[1]["read"] for run in runs),
            "peak_bytes": peaks[1],
            "peak_over_arrow": peaks[1] / arrow,
        },
        "time_ratio": seconds[1] / seconds[0],
        "events_per_second": rows / seconds[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(measured(arguments.run, arguments.path)))
        return
    result = compare(arguments.rows, arguments.repeats)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{arguments.rows:,} rows, Arrow table {result['arrow_bytes'] / 1e6:,.0f} MB, Polars {pl.__version__}")
    for name, key in ((BARE, "bare"), (OURS, "segue")):
        one = result[key]
        print(
            f"{name:<20} {one['seconds']:6.2f} s   peak {one['peak_bytes'] / 1e6:7,.0f} MB "
            f"= {one['peak_over_arrow']:.2f} x Arrow"
        )
    print(f"time ratio {result['time_ratio']:.2f} (at most 2); memory under 3 x Arrow is the target")


if __name__ == "__main__":
    main()
