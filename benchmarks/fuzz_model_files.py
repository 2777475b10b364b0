"""Thousands of damaged and crafted model files: each is refused as such, or answers whatever it is asked.

    python benchmarks/fuzz_model_files.py --files 10000 -o benchmarks/results/fuzz-model-files.json

A file is one of nine whole models in which bytes are turned, or parts changed and the digests made anew
(`tests/damage.py`). It is loaded in a process of its own kind, with the loops in C and little memory, which then asks
for lists, scores, ratings, plans and states. Refused with ModelError, or answered: all else is a fault. A process that
is ended by a signal, runs out of time or of memory names the file by its seed.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
#: Files of one process, the seconds it may take for them, and the address space that it has beside what it begins with.
FILES, SECONDS, ROOM = 500, 300, 4 << 30


def child(folder, begin, end):
    """Load files in turn, and write what becomes of each as a line."""
    from damage import Parts, damaged, outcome
    from segue.kernels import build

    assert build.serving() is not None, "the loops in C are what is asked here"
    whole = [Parts(path) for path in sorted(folder.glob("*.segue"))]
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (pages + ROOM, pages + ROOM))
    path = folder / f"{begin}.damaged"
    for seed in range(begin, end):
        os.write(1, f"{seed} ended\n".encode())
        path.write_bytes(damaged(whole, seed))
        try:
            found = outcome(path)
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            found = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        os.write(1, f"{seed} {found}\n".encode())


def run(folder, begin, end):
    """Return what became of each file by its seed; a process that ends early is followed by another."""
    found = {}
    while begin < end:
        stop = min(begin + FILES, end)
        command = [sys.executable, __file__, "--folder", str(folder), "--child", str(begin), str(stop)]
        limits = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SECONDS, env=os.environ | limits
            )
            said, how = done.stdout, f"ended with {done.returncode}"
        except subprocess.TimeoutExpired as error:
            said, how = error.stdout or b"", "out of time"
        lines = [line.partition(" ") for line in said.decode().splitlines()]
        if not lines:
            raise SystemExit(f"no file of {begin} to {stop} was read: {how}")
        found |= {int(seed): how if what == "ended" else what for seed, _, what in lines}
        begin = int(lines[-1][0]) + 1
        print(f"{begin:,} files: {dict(Counter(found.values()))}", file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first file")
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.folder, *asked.child)
        return
    from damage import whole_files

    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        whole_files(folder)
        found = run(Path(folder), asked.first, asked.first + asked.files)
    counts = Counter(found.values())
    faults = {seed: what for seed, what in sorted(found.items()) if what not in ("refused", "answered")}
    told = {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python", "benchmarks/fuzz_model_files.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "files": len(found),
        "first_seed": asked.first,
        "refused_with_ModelError": counts["refused"],
        "answered": counts["answered"],
        "faults": len(faults),
        "faults_by_seed": dict(list(faults.items())[:100]),
        "seconds": round(time.time() - began, 1),
    }
    text = json.dumps(told, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
