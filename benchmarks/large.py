"""A log that is larger than a laptop's memory likes: seconds and peak memory of each command.

    python benchmarks/large.py LOG [--events 50000000] [--items 16] [--minutes 1] [--out FILE] [options of train]

Expands a real log (`segue datasets expand`), then runs `segue prepare` and `segue train` on the large log, each as a
process of its own whose largest memory the system tells. `--likeness` compares the expansion with the log instead:
the tail of item counts, repeats, and how well counted pairs find the last event of each user.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

import segue
from segue.data.log.synthetic import expand


def measured(*words: str) -> dict[str, object]:
    """Run `segue` with these words; return seconds, largest memory, exit code, and the last lines that it said."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        run = subprocess.Popen([sys.executable, "-m", "segue", *words], stdout=said, stderr=said)
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().splitlines()
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_gib": round(usage.ru_maxrss / 2**20, 2),
        "exit": run.returncode,
        "said": lines[-6:],
    }


def likeness(table: pl.DataFrame) -> dict[str, float]:
    """Return what an expansion keeps, of a table in the order of time.

    `hits` is how often the last event of a user is among the ten that followed the one before it most often, counted
    on all but the last events; `popular` the same of the ten most frequent items.
    """
    counts = table["item"].value_counts(sort=True)["count"]
    ranks = pl.int_range(5 + len(counts) // 200, len(counts) // 4, eager=True)
    tail = pl.DataFrame({"rank": ranks.log(), "count": counts.gather(ranks).log()})
    slope = tail.select(pl.cov("rank", "count") / pl.var("rank")).item()
    steps = table.sort("user", maintain_order=True).select("user", "item")
    repeats = 1 - steps.n_unique() / len(steps)
    steps = steps.with_columns(next=pl.col("item").shift(-1).over("user"), left=pl.row_index().reverse().over("user"))
    counted, asked = steps.filter(pl.col("left") > 1), steps.filter(pl.col("left") == 1)
    best = counted.group_by("item", "next").len().sort("len", "next", descending=True)
    best = best.group_by("item", maintain_order=True).head(10).with_columns(hit=1.0)
    hits = asked.join(best, on=["item", "next"], how="left")["hit"].fill_null(0.0)
    popular = asked["next"].is_in(counted["next"].value_counts(sort=True)["next"].head(10).implode())
    lengths = steps.group_by("user").len()["len"]
    return {
        "events": len(table),
        "users": len(lengths),
        "items": len(counts),
        "events_of_the_median_user": float(lengths.median()),
        "slope_of_tail": round(slope, 3),
        "repeats": round(repeats, 4),
        "hits": round(float(hits.mean()), 4),
        "popular": round(float(popular.mean()), 4),
    }


def compared(log: segue.Events, sizes: list[tuple[int, int]]) -> list[dict[str, float]]:
    """Return what the log is like, and its expansions of some sizes."""
    rows = [{"copies_of_users": 1, "copies_of_items": 1, **likeness(log.as_text())}]
    for users, items in sizes:
        with tempfile.TemporaryDirectory() as folder:
            expand(log, Path(folder) / "large.parquet", users=users, items=items)
            table = pl.read_parquet(Path(folder) / "large.parquet")
        rows.append({"copies_of_users": users, "copies_of_items": items, **likeness(table)})
    return rows


def run(asked: argparse.Namespace, copies: int, folder: Path) -> dict[str, object]:
    """Expand, prepare and train, and return what each took."""
    log, prepared, model = folder / "log.parquet", folder / "prepared", folder / "large.segue"
    size = ["--users", str(copies), "--items", str(asked.items), "--rating-col", "none"]
    found = {"expand": measured("datasets", "expand", asked.log, "-o", str(log), *size)}
    found["log_bytes"] = log.stat().st_size
    if asked.prepare:
        found["prepare"] = measured("prepare", str(log), "-o", str(prepared))
        found["prepared_bytes"] = sum(file.stat().st_size for file in prepared.rglob("*") if file.is_file())
    if asked.minutes:
        source = str(prepared) if asked.prepare else str(log)
        setting = ["--set", f"train.minutes={asked.minutes}"]
        found["train"] = measured("train", source, "-o", str(model), *setting, *asked.options)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", help="such as ratings.csv of ml-latest-small")
    parser.add_argument("--events", type=int, default=50_000_000)
    parser.add_argument("--items", type=int, default=16, help="copies of each item")
    parser.add_argument("--minutes", type=float, default=1.0, help="of training; 0 for none")
    parser.add_argument("--prepare", action="store_true", help="prepare the log and train on the folder")
    parser.add_argument("--likeness", action="store_true", help="compare expansions with the log instead")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path)
    asked, asked.options = parser.parse_known_args()
    log = segue.read_events(asked.log)
    copies = math.ceil(asked.events / len(log))
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load_of_other_work": round(os.getloadavg()[0], 1),
        "polars": pl.__version__,
        "source": Path(asked.log).parent.name,
    }
    if asked.likeness:
        found["logs"] = compared(log, [(10, 1), (10, 4), (30, 4), (30, 30)])
    else:
        found |= {"events": copies * len(log), "copies_of_items": asked.items, "minutes_of_training": asked.minutes}
        found |= {"options": asked.options}
        with tempfile.TemporaryDirectory(dir=asked.work) as folder:
            found |= run(asked, copies, Path(folder))
    text = json.dumps(found, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
