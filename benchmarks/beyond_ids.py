"""What attributes, texts, profiles and event details are worth: for known users and items, new users, new items.

    python benchmarks/beyond_ids.py --data DIR --set ml-100k --out FILE.json [--minutes 3] [--variant all] [--part warm]

For each variant (which columns are read) three models: one with the last event of each user held out (warm), one with a
tenth of the items held out entirely and added by their attributes afterwards (items), one with a tenth of the users
held out entirely (users). Each result is kept at once, and what the file holds already is not run again.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from sets import Set, load

import segue
from segue.data.features.catalogue import read_items
from segue.evaluation.cold_start import by_history
from segue.evaluation.registry import TrainingData, fit_all
from segue.recommend.recommender import Recommender

#: Which of items, texts, users and details are read.
VARIANTS = {
    "ids": (),
    "attributes": ("attributes",),
    "texts": ("texts",),
    "items": ("attributes", "texts"),
    "profiles": ("profiles",),
    "details": ("details",),
    "all": ("attributes", "texts", "profiles", "details"),
}
TEXTS = ("title", "abstract", "movie_title:token_seq")


def kinds_of(known: Set, read: tuple[str, ...]) -> dict[str, str]:
    """Return the columns of items that this variant ignores."""
    if known.items is None or not {"attributes", "texts"} & set(read):
        return {}
    table, _, _ = read_items(known.items)
    others = [name for name in table.columns if name != "item"]
    left_out = [name for name in others if ("texts" if name in TEXTS else "attributes") not in read]
    return dict.fromkeys(left_out, "ignored")


def train(known: Set, log: segue.Events, read: tuple[str, ...], asked: argparse.Namespace) -> Recommender:
    config = {"train.seed": asked.seed, "model.event_features": "details" in read, "train.items_without_events": False}
    config |= dict(text.split("=", 1) for text in asked.setting)
    if asked.minutes:
        config["train.minutes"] = asked.minutes
    return segue.train(
        log,
        catalogue=known.items if {"attributes", "texts"} & set(read) else None,
        users=known.users if "profiles" in read else None,
        kinds=kinds_of(known, read),
        config=config,
        say=lambda text: print(text, flush=True),
    )


def of_training(rec: Recommender) -> dict:
    curve = rec.facts["curve"]
    rates = [row["events_per_second"] for row in curve[1:]] or [curve[0]["events_per_second"]]
    best = max(row["validation"]["ndcg@10"] for row in curve)
    return {
        "training_seconds": round(curve[-1]["seconds"], 1),
        "passes": len(curve),
        "validation": round(best, 4),
        "events_per_second": round(float(np.median(rates))),
    }


def warm(known: Set, read: tuple[str, ...], asked: argparse.Namespace) -> dict:
    log, test = segue.split_last(known.events)
    rec = train(known, log, read, asked)
    users = known.users if "profiles" in read else None
    report = segue.evaluate(rec, test, train=log if asked.baselines else None, users=users)
    return of_training(rec) | report.to_dict()


def new_items(known: Set, read: tuple[str, ...], asked: argparse.Namespace) -> dict:
    """Rank items that training never met among all items; popularity and content-kNN see the same."""
    log, test = segue.split_items(known.events, share=0.1, seed=1)
    rec = train(known, log, read, asked)
    table, _, _ = read_items(known.items)
    held = test.table["item"].cast(pl.String).unique()
    more = rec.add_items(table.filter(pl.col("item").is_in(held.implode())))
    from segue.data.features.feature_encoders import attributes_of
    from segue.data.sequences.sequences import encode

    features = attributes_of(more.catalogue, more.encoders)
    sequences, size = encode(log, more.vocabulary), more.vocabulary.size
    beside = fit_all(TrainingData(sequences, size, features, more.repeats == "exclude"))
    chosen = {name: one for name, one in beside.fitted.items() if name.startswith(("popularity", "content"))}
    report = segue.evaluate(more, test, baselines=chosen, users=known.users if "profiles" in read else None)
    return of_training(rec) | {"new_items": len(held), "chance_hr@10": 10 / len(more.items)} | report.to_dict()


def new_users(known: Set, read: tuple[str, ...], asked: argparse.Namespace) -> dict:
    log, test = segue.split_users(known.events, share=0.1, seed=1)
    rec = train(known, log, read, asked)
    found = by_history(
        rec, test, train=log if asked.baselines else None, users=known.users if "profiles" in read else None
    )
    return of_training(rec) | found.to_dict()


PARTS: dict[str, Callable] = {"warm": warm, "items": new_items, "users": new_users}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", required=True, choices=["ml-100k", "ml-1m", "beauty"])
    parser.add_argument("--variant", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--part", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--setting", action="append", default=[], help="path=value")
    parser.add_argument("--baselines", action="store_true", help="fit all baselines beside warm and users")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    kept = json.loads(asked.out.read_text()) if asked.out.exists() else {"runs": {}}
    kept |= {"set": asked.set, "seed": asked.seed, "minutes": asked.minutes, "settings": asked.setting}
    kept["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    known = load(asked.set, asked.data)
    for part in asked.part:
        for variant in asked.variant:
            name = f"{part} {variant}"
            if name in kept["runs"] or (part == "items" and not {"attributes", "texts"} & set(VARIANTS[variant])):
                continue
            if variant in ("profiles",) and known.users is None:
                continue
            found = PARTS[part](known, VARIANTS[variant], asked)
            kept["runs"][name] = {"date": time.strftime("%Y-%m-%d")} | found
            asked.out.write_text(json.dumps(kept) + "\n")
            print(name, json.dumps(found)[:600], flush=True)


if __name__ == "__main__":
    main()
