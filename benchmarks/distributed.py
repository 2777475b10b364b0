"""Training by several workers beside one process: speed, quality at the same number of events, memory of each worker.

    python benchmarks/distributed.py quality LOG [--epochs 3] [--arms 0,2,4] [--out FILE] [-- options of segue train]
    python benchmarks/distributed.py faults LOG [--out FILE]
    python benchmarks/distributed.py memory [--items 4000000] [--width 64] [--minutes 3] [--out FILE]

`quality` runs `segue train` for each arm: 0 is one process on one core, N are N workers of one core each. All arms
read the same events in the same number of epochs; the standard error is that of NDCG@10 over the users of validation.
`faults` kills `segue train` after its second epoch, resumes the run, and says which epochs were trained again.
`memory` makes a log in which every item has events, trains on it with two workers and reports the largest memory of a
worker, and of the process that started them.
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

SOURCE = Path(__file__).parents[1] / "src"


def trained(log, folder, arm, options, cores):
    """Run `segue train` and return the rows of its epochs, its lines and its seconds."""
    folder.mkdir()
    rows, model = folder / "rows.jsonl", folder / "model.segue"
    command = [sys.executable, "-m", "segue", "train", str(log), "-o", str(model), "--log", str(rows), *options]
    command += ["--workers", str(arm)] if arm else []
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(SOURCE)} | ({} if arm else {"NPROC": "1"})
    run = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    if run.returncode:
        sys.exit(run.stderr)
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    return found, run.stderr.splitlines(), time.perf_counter() - began


def quality(asked):
    arms, here = {}, sorted(os.sched_getaffinity(0))
    for arm in map(int, asked.arms.split(",")):
        options = ["--set", f"train.epochs={asked.epochs}", "--set", "train.patience=1000", *asked.options]
        with tempfile.TemporaryDirectory() as folder:
            rows, lines, seconds = trained(asked.log, Path(folder) / "run", arm, options, here if arm else here[:1])
        # the first epoch compiles
        pace = [row["events_per_second"] for row in rows[1:]] or [rows[0]["events_per_second"]]
        arms[arm] = {
            "ndcg@10": [row["ndcg@10"] for row in rows],
            "loss": [row["loss"] for row in rows],
            "events_per_second": float(np.median(pace)),
            "seconds_in_all": round(seconds, 1),
            "validated_users": next(
                int(line.split("of ")[1].split()[0].replace(",", "")) for line in lines if "Validating" in line
            ),
        }
        print(arm, arms[arm], flush=True)
    first = arms[min(arms)]
    error = 0.3 / first["validated_users"] ** 0.5  # a user's NDCG@10 has a deviation of about .3
    return {
        "log": Path(asked.log).name,
        "epochs": asked.epochs,
        "options": asked.options,
        "standard_error": round(error, 4),
        "arms": arms,
        "against_first": {
            arm: {
                "speed": round(found["events_per_second"] / first["events_per_second"], 2),
                "best_ndcg@10": round(max(found["ndcg@10"]) - max(first["ndcg@10"]), 4),
            }
            for arm, found in arms.items()
        },
    }


def faults(asked):
    """Kill the first process after two epochs, then resume."""
    with tempfile.TemporaryDirectory() as folder:
        rows, model = Path(folder) / "rows.jsonl", Path(folder) / "model.segue"
        command = [sys.executable, "-m", "segue", "train", asked.log, "-o", model, "--log", rows, "--workers", "2"]
        command += ["--set", "train.epochs=4", "--set", "model.trends=off", "--set", "model.transitions=false"]
        environment = os.environ | {"PYTHONPATH": str(SOURCE)}
        first = subprocess.Popen([*map(str, command), *asked.options], env=environment, cwd=folder)
        while first.poll() is None and not (rows.exists() and len(rows.read_text().splitlines()) >= 2):
            time.sleep(0.05)
        first.kill()
        first.wait()
        before, began = len(rows.read_text().splitlines()), time.perf_counter()
        resumed = subprocess.run([*map(str, command), *asked.options, "--resume"], env=environment, cwd=folder)
        epochs = [json.loads(line)["epoch"] for line in rows.read_text().splitlines()]
        return {
            "exit_of_killed": first.returncode,
            "exit_of_resumed": resumed.returncode,
            "epochs_before": epochs[:before],
            "epochs_after": epochs[before:],
            "seconds_of_resumed": round(time.perf_counter() - began, 1),
        }


def make(path, items, events, rng):
    """Write a log in which each item has an event and popular items have many."""
    popular = (items * rng.random(events - items) ** 3).astype(np.int64)
    item = rng.permutation(np.concatenate([np.arange(items), popular]))
    user = rng.integers(0, events // 20, events)
    pl.DataFrame({"user": user, "item": item, "time": np.arange(events) // 10 + 1_600_000_000}).write_parquet(path)


def memory(asked):
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        log = Path(folder) / "log.parquet"
        make(log, asked.items, asked.events or 2 * asked.items, np.random.default_rng(0))
        options = [f"train.minutes={asked.minutes}", f"model.width={asked.width}", "model.trends=off"]
        options += [
            "model.transitions=false",
            "train.epochs=1",
            "train.negatives=2048",
            "train.items_without_events=false",
        ]
        settings = [part for option in options for part in ("--set", option)]
        rows, lines, seconds = trained(log, Path(folder) / "run", 2, settings, os.sched_getaffinity(0))
    return {
        "items": asked.items,
        "width": asked.width,
        "events": asked.events or 2 * asked.items,
        "tables_gib": round(4 * asked.items * (asked.width + 1) * 4 / 2**30, 2),
        "rows": rows,
        "seconds_in_all": round(seconds, 1),
        "worker_peak_gib": next(float(line.split()[-2]) for line in lines if "Largest memory" in line),
        "driver_peak_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
    }


def main():
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    verbs = parser.add_subparsers(dest="verb", required=True)
    first = verbs.add_parser("quality")
    first.add_argument("log")
    first.add_argument("--epochs", type=int, default=3)
    first.add_argument("--arms", default="0,2,4")
    verbs.add_parser("faults").add_argument("log")
    second = verbs.add_parser("memory")
    second.add_argument("--items", type=int, default=4_000_000)
    second.add_argument("--events", type=int)
    second.add_argument("--width", type=int, default=64)
    second.add_argument("--minutes", type=float, default=3.0)
    second.add_argument("--work")
    asked = parser.parse_args(given[:cut])
    asked.options = given[cut + 1 :]
    found = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    found |= {"quality": quality, "faults": faults, "memory": memory}[asked.verb](asked)
    text = json.dumps(found, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
