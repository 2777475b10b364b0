"""Reproduce a headline: train on a known set, measure on what was held out.

    python benchmarks/quality.py --data DIR --set ml-1m-a [--size large] [--seed 0] [--minutes 5] [--json]
    python benchmarks/quality.py --set ml-100k
    python benchmarks/quality.py --data DIR --set ml-1m-a --model FILE --out FILE
    python benchmarks/quality.py --data DIR --queue benchmarks/results/quality

`--data` is a folder with `ml-1m`, `amazon-beauty-5core`, `yoochoose1_64`; ml-100k is fetched by name.
`--split last`: the last event of each user is the test, the one before it validation; neither is learnt.
`--split time`: the last tenth of the log is the test. yoochoose has a test of its own. Of the rest, all is learnt but
the last events of the users of validation.
`--model FILE` measures what a run kept with `--save` and weighs its counts again, by the code of today.
With `--queue` the runs of `QUEUE` follow each other; one whose result is in the folder is not run again, and one that
was cut goes on from its checkpoint.

Beside every result: the same with the order of each history shuffled (a log whose order means nothing loses nothing by
it), and a check that no answer depends on a held-out event: states made of the histories alone rank alike.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
from sets import NAMES, halves, load

import segue
from segue.api import without_last
from segue.data.sequences.sequences import encode
from segue.evaluation.baselines.counting import DecayedMarkov, ItemKNN, OwnPopularity, Popularity
from segue.evaluation.baselines.tuning import tuned
from segue.training.blend import Blend, BlendSettings, recounted, tune_blend
from segue.training.validation import Validation, validation_users

#: The counts that are hardest to beat.
RIVALS = (Popularity, OwnPopularity, DecayedMarkov, ItemKNN)
#: What makes the tables of docs/results.md: name, set, split, settings, seed.
QUEUE = (
    ("ml-1m-a", "ml-1m-a", "last", {}, 0),
    ("ml-1m-c", "ml-1m-c", "last", {}, 0),
    ("beauty", "beauty-order", "last", {}, 0),
    ("yoochoose", "yoochoose", "own", {}, 0),
    ("groceries", "groceries", "last", {}, 0),
    ("ml-100k-0", "ml-100k", "last", {}, 0),
    ("ml-100k-1", "ml-100k", "last", {}, 1),
    ("ml-100k-2", "ml-100k", "last", {}, 2),
    ("ml-1m-times", "ml-1m-times", "last", {}, 0),
    ("beauty-time", "beauty", "time", {}, 0),
    ("ml-1m-time", "ml-1m-times", "time", {}, 0),
    ("ml-1m-c-gru", "ml-1m-c", "last", {"model.cell": "gru", "model.transitions": "false"}, 0),
    ("ml-1m-a-1", "ml-1m-a", "last", {}, 1),
    ("ml-1m-a-2", "ml-1m-a", "last", {}, 2),
)


def measure(
    name: str,
    data: Path | None,
    *,
    split: str = "last",
    settings: dict[str, str] | None = None,
    seed: int = 0,
    save: Path | None = None,
    checkpoint: Path | None = None,
    model: Path | None = None,
) -> dict:
    train, test = halves(load(name, data), split)
    began = time.perf_counter()
    if model:
        rec = weighed_again(segue.load(model), train)
    else:
        rec = segue.train(
            train,
            config={"train.seed": seed, "train.refit": split != "last", **(settings or {})},
            report=lambda p: p.epoch_ended and print(p.epoch, round(p.seconds), p.validation["ndcg@10"], flush=True),
            say=lambda text: print(text, flush=True),
            checkpoint=checkpoint,
            resume=checkpoint is not None,
        )
    trained = time.perf_counter() - began
    if save:
        rec.save(save)
    report = segue.evaluate(rec, test, baselines=rivals(rec, train))
    ndcg = report.to_dict()["models"]["segue"]["ndcg@10"]
    alone = segue.evaluate(replace(rec, counts=None), test)
    refitted = segue.evaluate(with_validation(rec, train), test).to_dict()["models"]["segue"]
    curve = rec.facts["curve"]
    timed = segue.evaluate(rec, test, request_time="event").to_dict()["models"]["segue"] if test.has_times else None
    return {
        "set": name,
        "split": split,
        "seed": rec.config.train.seed,
        "settings": settings or {},
        "counts_weighed_again": model is not None,
        "derived": asdict(rec.config),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "training_seconds": round(curve[-1]["seconds"], 1),
        "seconds_with_validation_and_compilation": None if model else round(trained, 1),
        "load_of_other_work": round(os.getloadavg()[2], 1),
        "events_per_second": round(float(np.mean([row["events_per_second"] for row in curve]))),
        "curve": [[round(row["seconds"], 1), round(row["validation"]["ndcg@10"], 4)] for row in curve],
        "blend": rec.facts.get("blend"),
        "counts_of_validation_too": refitted,
        "network_alone": alone.to_dict()["models"]["segue"],
        "asked_at_the_time_of_the_event": timed,
        "history_shuffled": segue.evaluate(rec, shuffled(test, seed)).to_dict()["models"]["segue"]["ndcg@10"],
        "no_answer_depends_on_the_test": same_without_test(rec, test, ndcg) if split == "last" else "not checked",
        **report.to_dict(),
    }


def rivals(rec: segue.Recommender, train: segue.Events) -> dict:
    """Return the counts that are hardest to beat, tuned on each user's last training event."""
    known, hide = encode(train, rec.vocabulary), rec.repeats == "exclude"
    fitted = [
        tuned(kind, known, rec.vocabulary.size, exclude_seen=hide) for kind in RIVALS if not (kind.repeats and hide)
    ]
    return {one.name: one for one in fitted}


def weighed_again(rec: segue.Recommender, train: segue.Events) -> segue.Recommender:
    """Return a recommender with its blend tuned as its training would tune it today."""
    known = rec.sequences(train)
    held_out = validation_users(known, rec.config.train.seed)
    learnt = without_last(known, held_out if rec.config.train.refit else None)
    validation = Validation(known.select(held_out), exclude_seen=rec.repeats == "exclude")
    blend = tune_blend(learnt, validation.answers(rec.network, rec.params), rec.vocabulary.size)
    print(blend, flush=True)
    counts = recounted(blend, known, rec.vocabulary.size) if rec.config.train.refit else blend.counts
    return replace(
        rec, counts=counts, facts=dict(rec.facts) | {"blend": str(blend), "blend_settings": blend.settings._asdict()}
    )


def with_validation(rec: segue.Recommender, train: segue.Events) -> segue.Recommender:
    """Return what a user would have: the counts know the events kept for validation, too."""
    if rec.counts is None:
        return rec
    blend = Blend(rec.counts, 0.0, 0.0, BlendSettings(**rec.facts["blend_settings"]))
    return replace(rec, counts=recounted(blend, rec.sequences(train), rec.vocabulary.size))


def shuffled(test: segue.Events, seed: int) -> segue.Events:
    """Return the same questions after histories in which each user's items stand in any order."""
    assert test.history is not None
    items = pl.col("item").shuffle(seed).over("user")
    return replace(test, history=replace(test.history, table=test.history.table.with_columns(items)))


def same_without_test(rec: segue.Recommender, test: segue.Events, ndcg10: float) -> bool:
    """Say whether states made of the histories alone give the same NDCG@10."""
    states = rec.encode(test.history)
    target = dict(zip(test.table["user"], test.table["item"], strict=True))
    gains = []
    for begin in range(0, len(states), 256):
        some = states[begin : begin + 256]
        scores = np.pad(rec.score(some), ((0, 0), (1, 0)), constant_values=-np.inf)
        for user, line, seen in zip(some.users, scores, some.seen, strict=True):
            row = rec.vocabulary.row(target[user]) if user in target else None
            if row is None:
                continue
            if rec.repeats == "exclude":
                line[seen.to_rows()] = -np.inf
            rank = int((line >= line[row]).sum()) if row and line[row] > -np.inf else len(line)
            gains.append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
    return bool(abs(np.mean(gains) - ndcg10) < 1e-4)


def run_queue(folder: Path, data: Path | None, only: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, of, split, settings, seed in QUEUE:
        out = folder / f"{name}.json"
        if out.exists() or (only and name not in only.split(",")):
            continue
        print(f"== {name}", flush=True)
        kept = folder / f"{name}.checkpoint"
        model = folder / f"{name}.segue"
        found = measure(of, data, split=split, settings=settings, seed=seed, checkpoint=kept, save=model)
        out.write_text(json.dumps(found) + "\n")
        kept.unlink(missing_ok=True)
        show(found)


def show(found: dict) -> None:
    for name, row in found["models"].items():
        print(f"{name:<80} HR@10 {row['hr@10']:.4f}  NDCG@10 {row['ndcg@10']:.4f}")
    print(found["blend"], "network alone", found["network_alone"]["ndcg@10"], "shuffled", found["history_shuffled"])
    print(found["improvement"], found["training_seconds"], "s", found["events_per_second"], "events/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", choices=NAMES)
    parser.add_argument("--split", default="last", choices=["last", "time", "own"], help="own: of yoochoose")
    parser.add_argument("--size", choices=["small", "base", "large"])
    parser.add_argument("--queue", type=Path, help="run what is missing in this folder")
    parser.add_argument("--only", help="names of the queue, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--setting", action="append", default=[], help="path=value")
    parser.add_argument("--save", type=Path, help="also keep the model here")
    parser.add_argument("--model", type=Path, help="measure what a run kept, in place of training")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="also keep the JSON here")
    asked = parser.parse_args()
    settings = dict(text.split("=", 1) for text in asked.setting)
    settings |= {"train.minutes": str(asked.minutes)} if asked.minutes else {}
    settings |= {"model.size": asked.size} if asked.size else {}
    if asked.queue:
        return run_queue(asked.queue, asked.data, asked.only)
    if not asked.set:
        parser.error("give --set or --queue")
    kept = {"save": asked.save, "model": asked.model}
    found = measure(asked.set, asked.data, split=asked.split, settings=settings, seed=asked.seed, **kept)
    if asked.out:
        asked.out.write_text(json.dumps(found) + "\n")
    print(json.dumps(found)) if asked.json else show(found)


if __name__ == "__main__":
    main()
