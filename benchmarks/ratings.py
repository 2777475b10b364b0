"""How well ratings to come are predicted, beside means, moving biases and matrix factorisation.

    python benchmarks/ratings.py --set ml-100k --out benchmarks/results/ratings-ml-100k.json --json
    python benchmarks/ratings.py --data DIR --set ml-latest-small|ml-1m --out FILE.json [--split time] [--seeds 0]

Splits: `time`, the last tenth of all ratings, each predicted from what is strictly earlier; `last`, each user's last
tenth; `random`, a tenth at random, of which nothing is read (as in papers); `validation`, the last tenth of the part
before the last tenth: what settings are chosen on. Every run is kept at once; what the file holds is not run again.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import polars as pl
from sets import Set, load

import segue
from segue.evaluation.ratings import evaluate_ratings

RULES = {"time": "time:0.1", "last": "last:0.1", "random": "random:0.1", "validation": "time:0.1"}


def run(known: Set, split: str, seed: int, asked: argparse.Namespace, baselines: bool) -> dict:
    log, test = segue.hold_out(known.events, RULES[split])
    if split == "validation":
        log, test = segue.hold_out(log, RULES[split])
    config = {"train.task": asked.task, "train.seed": seed} | dict(text.split("=", 1) for text in asked.setting)
    began = time.perf_counter()
    rec = segue.train(log, catalogue=known.items, users=known.users, config=config)
    seconds = time.perf_counter() - began
    reads = "history" if split == "random" else "all"
    report = evaluate_ratings(rec, test, users=known.users, train=log if baselines else None, reads=reads)
    found = {"split": split, "seed": seed, "task": asked.task, "settings": asked.setting, "seconds": round(seconds, 1)}
    if asked.task == "both":
        found["next"] = segue.evaluate(rec, test, users=known.users).rows["segue"]
    curve = [row["validation"] for row in rec.facts["curve"]]
    known_users = set(log.users.to_list())
    new = test.table["user"].cast(pl.String).is_in(list(known_users)).not_().mean()
    return found | {"date": time.strftime("%Y-%m-%d"), "share_of_new_users": new, "curve": curve} | report.to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", required=True, choices=["ml-100k", "ml-latest-small", "ml-1m"])
    parser.add_argument("--split", nargs="*", default=["time", "last", "random"], choices=list(RULES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--task", default="rating", choices=["rating", "both"])
    parser.add_argument("--setting", action="append", default=[], help="path=value")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    asked = parser.parse_args()
    kept = json.loads(asked.out.read_text()) if asked.out and asked.out.exists() else {"runs": {}}
    kept |= {"set": asked.set, "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"}
    known = load("ml-1m-rated" if asked.set == "ml-1m" else asked.set, asked.data)
    for split in asked.split:
        for seed in asked.seeds:
            name = " ".join([split, asked.task, f"seed {seed}", *asked.setting])
            if name in kept["runs"]:
                continue
            found = run(known, split, seed, asked, not asked.no_baselines and seed == asked.seeds[0])
            kept["runs"][name] = found
            if asked.out:
                asked.out.write_text(json.dumps(kept) + "\n")
            rows = {model: round(row["rmse"], 4) for model, row in found["models"].items()}
            print(name, rows, found["coverage"], f"{found['seconds']} s", found.get("next", ""), flush=True)
    if asked.json:
        print(json.dumps(kept))


if __name__ == "__main__":
    main()
