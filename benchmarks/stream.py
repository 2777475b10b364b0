"""A model on a stream, beside baselines that learn online: `segue.evaluate_stream` on a slice of a log.

    python benchmarks/stream.py --data clicks.parquet --columns user_id,click_article_id,click_timestamp \
        --set globo-first-week --out benchmarks/results/stream-globo.json
    python benchmarks/stream.py --data ratings.csv --columns userId,movieId,timestamp --setting train.minutes=2

The slice is the last events of the log; the last tenth of the slice is the stream.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import polars as pl

import segue
from segue.evaluation.online.contract import read_on
from segue.evaluation.online.tuning import tuned_baselines
from segue.evaluation.stream import stream_of


def speeds(train: segue.Events, test: segue.Events, rec: segue.Recommender) -> dict[str, float]:
    """Return for each tuned baseline how many events a second of this process it ranks and learns."""
    log, begin, _ = stream_of(test, train)
    exclude, found = rec.repeats == "exclude", {}
    for baseline in tuned_baselines(log, begin, exclude_seen=exclude):
        reader = baseline.start(log, begin, exclude_seen=exclude)
        began = time.process_time()
        read_on(log, reader, begin, len(log))
        found[baseline.title] = round((len(log) - begin) / (time.process_time() - began))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a Parquet or CSV file")
    parser.add_argument("--columns", default="user,item,time", help="of users, items and times")
    parser.add_argument("--set", default="", help="what the log is called")
    parser.add_argument("--events", type=int, help="length of the slice; all if not given")
    parser.add_argument("--setting", action="append", default=[], help="path=value")
    parser.add_argument("--model", type=Path, help="where the model is kept")
    parser.add_argument("--speeds", action="store_true", help="time each baseline, too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    asked = parser.parse_args()
    columns = asked.columns.split(",")
    table = pl.read_parquet(asked.data) if asked.data.suffix == ".parquet" else pl.read_csv(asked.data)
    table = table.select(pl.col(old).alias(new) for old, new in zip(columns, ("user", "item", "time"), strict=True))
    table = table.drop_nulls().sort("time", maintain_order=True)
    log = segue.read_events(table.tail(asked.events or len(table)))
    train, test = segue.split_by_time(log, test=0.1)
    began = time.perf_counter()
    rec = segue.train(train, config=dict(text.split("=", 1) for text in asked.setting), say=print)
    trained = time.perf_counter()
    if asked.model:
        rec.save(asked.model)
    report = segue.evaluate_stream(rec, test, train=train, say=print)
    found = {
        "set": asked.set or asked.data.name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "command": " ".join(["python benchmarks/stream.py", *(Path(word).name for word in sys.argv[1:])]),
        "training_events": len(train),
        "settings": asked.setting,
        "trends": rec.facts.get("trends"),
        "training_seconds": round(trained - began, 1),
        "evaluation_seconds": round(time.perf_counter() - trained, 1),
        "events_per_second_of_cpu": speeds(train, test, rec) if asked.speeds else {},
    } | report.to_dict()
    print(report)
    if asked.out:
        asked.out.write_text(json.dumps(found) + "\n")
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
