"""How long an evaluation of ml-1m takes: without baselines, with all of them tuned, and with their settings kept.

    python benchmarks/evaluation.py --data DIR --work FOLDER --out benchmarks/results/evaluation-speed.json
    python benchmarks/evaluation.py --data DIR --work FOLDER --hold-out last:0.1 --minutes 5 --out FILE

`--data` is a folder with `ml-1m`; `--work` keeps the log and the model, so that a second run trains nothing. The model
reads titles and genres, so that every baseline that reads them stands beside it. Each row is one `segue evaluate` in a
process of its own: wall and processor seconds (its child processes among them), peak memory of the largest process,
and the load before and after, for a number of a busy machine says little.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sets import load

SEGUE = [sys.executable, "-m", "segue"]
#: The rows, with what each adds to the command; the second keeps the settings that the third takes.
ROWS = (("without baselines", ("--baselines", "none")), ("all baselines tuned", ()), ("settings kept", ()))


def prepared(work: Path, data: Path, hold_out: str, minutes: float) -> tuple[Path, Path]:
    """Return the log and a model, made where they are missing."""
    work.mkdir(parents=True, exist_ok=True)
    log, items, model = work / "ml-1m.parquet", work / "items.parquet", work / f"{hold_out.replace(':', '-')}.segue"
    if not items.exists():
        found = load("ml-1m", data)
        found.events.table.drop("time", strict=False).write_parquet(log)
        found.items.select("item", "title", "genres").write_parquet(items)
    if not model.exists():
        command = [*SEGUE, "train", log, "-o", model, "--items", items, "--hold-out", hold_out, "--time-col", "none"]
        subprocess.run([str(word) for word in [*command, "--set", f"train.minutes={minutes}"]], check=True)
    return log, model


def timed(command: list[str]) -> dict[str, Any]:
    """Run a command and return its seconds, its memory, and what it printed."""
    before, began = os.getloadavg()[0], time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"{' '.join(command)} ended with {status}"
    return {
        "wall_seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_memory_gb": round(used.ru_maxrss / 2**20, 2),
        "load_before": round(before, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "report": json.loads(printed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--model", type=Path, help="a model that is there, with --log, in place of --data and --work")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--hold-out", default="last:1", help="last:1 has 6,040 events, last:0.1 some 100,000")
    parser.add_argument("--minutes", type=float, default=1.0, help="of training, where the model is missing")
    parser.add_argument("--only", help="names of rows, with commas")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.model:
        log, model, columns = asked.log, asked.model, []
    else:
        log, model = prepared(asked.work, asked.data, asked.hold_out, asked.minutes)
        columns = ["--time-col", "none"]
    kept = model.with_name(f"{model.name}.baselines.json")
    kept.unlink(missing_ok=True)
    rows = []
    for name, more in ROWS:
        if asked.only and name not in asked.only.split(","):
            continue
        command = [*SEGUE, "evaluate", str(model), str(log), *columns, *more, "--json"]
        row = {"what": name, **timed(command)}
        report = row.pop("report")
        scores = {each: round(values["ndcg@10"], 6) for each, values in report["models"].items()}
        rows.append({**row, "events": report["queries"], "ndcg@10": scores, "notes": report["notes"]})
        print(json.dumps(rows[-1]), flush=True)
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "set": "ml-1m",
        "hold_out": asked.hold_out,
        "rows": rows,
    }
    if asked.out:
        asked.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
