"""Reproduce a headline: train with the defaults on a known set, measure on what was held out.

    python benchmarks/quality.py --data DIR --set ml-1m-a [--seed 0] [--minutes 5] [--json]
    python benchmarks/quality.py --set ml-100k

`--data` is a folder with `ml-1m/sasrec_ml-1m.txt.gz`; ml-100k is fetched by name.
The last event of each user is the test, the one before it validation; neither is learnt.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
from sets import load

import segue


def measure(
    name: str, data: Path | None, seed: int, minutes: float | None, settings: dict[str, str], save: Path | None = None
) -> dict:
    train, test = segue.split_last(load(name, data).events)
    began = time.perf_counter()
    config = {"train.seed": seed, **({"train.minutes": minutes} if minutes else {}), **settings}
    rec = segue.train(train, config=config, report=lambda p: p.pass_ended and print(p.number, p.validation, flush=True))
    trained = time.perf_counter() - began
    if save:
        rec.save(save)
    report = segue.evaluate(rec, test, train=train)
    curve = rec.facts["curve"]
    return {
        "set": name,
        "seed": seed,
        "settings": settings,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "training_seconds": round(curve[-1]["seconds"], 1),
        "seconds_with_validation_and_compilation": round(trained, 1),
        "events_per_second": round(float(np.mean([row["events_per_second"] for row in curve]))),
        "curve": [[round(row["seconds"], 1), round(row["validation"]["ndcg@10"], 4)] for row in curve],
        **report.to_dict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", required=True, choices=["ml-100k", "ml-1m-a", "ml-1m", "beauty"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--setting", action="append", default=[], help="path=value")
    parser.add_argument("--save", type=Path, help="also keep the bundle here")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="also keep the JSON here")
    asked = parser.parse_args()
    settings = dict(text.split("=", 1) for text in asked.setting)
    found = measure(asked.set, asked.data, asked.seed, asked.minutes, settings, asked.save)
    text = json.dumps(found)
    if asked.out:
        asked.out.write_text(text + "\n")
    if asked.json:
        print(text)
    else:
        for name, row in found["models"].items():
            print(f"{name:<80} HR@10 {row['hr@10']:.4f}  NDCG@10 {row['ndcg@10']:.4f}")
        print(found["lead"], found["training_seconds"], "s", found["events_per_second"], "events/s")


if __name__ == "__main__":
    main()
