"""How EASE inverts its matrix: by blocks, and by LAPACK with all threads and with one.

    python benchmarks/ease.py [--items 5000 12000 20000] [--json] [--out FILE]

A made log, popular items in most histories, gives the matrix; each way runs in a process of its own, since one of
them ends by a segmentation fault. Reported: seconds on the clock and of the processors, the largest memory, and how
far matrix times inverse is from the identity in 32 columns.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.linalg import lapack
from threadpoolctl import threadpool_info, threadpool_limits

from segue.evaluation.baselines.ease import _gram, invert

USERS, EVENTS, REGULARISATION = 50_000, 2_000_000, 300.0


def log_of(items: int) -> sparse.csr_array:
    """Return float32[user, item] of ones."""
    rng = np.random.default_rng(0)
    chosen = np.minimum(items * rng.random(EVENTS) ** 3, items - 1).astype(np.int64)
    users = np.sort(rng.integers(USERS, size=EVENTS))
    used = sparse.csr_array((np.ones(EVENTS, np.float32), (users, chosen)), shape=(USERS, items))
    used.sum_duplicates()
    used.data[:] = 1
    return used


def by_lapack(matrix):
    factor, failed = lapack.dpotrf(matrix.T, lower=False, overwrite_a=True, clean=False)
    inverse, broken = lapack.dpotri(factor, lower=False, overwrite_c=True)
    assert not failed and not broken
    return inverse.T


def on_one_thread(matrix):
    with threadpool_limits(1, "blas"):
        return by_lapack(matrix)


WAYS = {"blocks": invert, "lapack": by_lapack, "lapack, one thread": on_one_thread}


def measure(way: str, items: int) -> dict:
    used = log_of(items)
    matrix = _gram(used)
    matrix[np.diag_indices(items)] += REGULARISATION
    began, worked = time.perf_counter(), time.process_time()
    inverse = WAYS[way](matrix)
    took, work = time.perf_counter() - began, time.process_time() - worked
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    chosen = np.linspace(0, items - 1, 32).astype(np.int64)
    columns = np.stack([np.concatenate([inverse[c, :c], inverse[c:, c]]) for c in chosen], axis=1)
    product = used.T @ (used.astype(np.float64) @ columns) + REGULARISATION * columns
    product[chosen, np.arange(len(chosen))] -= 1
    return {
        "seconds": round(took, 2),
        "processor_seconds": round(work, 2),
        "gib": round(memory, 2),
        "residual": float(np.abs(product).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[5000, 12000, 20000])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", choices=WAYS, help="measure one here, of the first size")
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measure(asked.way, asked.items[0])))
        return
    libraries = sorted({f"{one['internal_api']} {one['version']} ({one['architecture']})" for one in threadpool_info()})
    found = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "libraries": libraries, "items": {}}
    for items in asked.items:
        rows = found["items"][items] = {}
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--items", str(items)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            rows[way] = {"ended_by_signal": -done.returncode} if done.returncode else json.loads(done.stdout)
            print(f"{items:7,} items, {way}: {rows[way]}", file=sys.stderr, flush=True)
    text = json.dumps(found, indent=1)
    if asked.out:
        asked.out.write_text(text + "\n")
    if asked.json:
        print(text)


if __name__ == "__main__":
    main()
