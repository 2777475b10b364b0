"""Plans against what users truly did next: the last n events of a sample of users, in order.

    python benchmarks/plan.py --data DIR --set ml-1m-a [--setting train.minutes=3] [--n 5 10] [--users 1000] [--out F]

The last `max(n)` events of each user are held out of the training. A path is asked of the state before them and
compared with the first n of them:

    in        share of the true next n that are anywhere in the path
    in place  share of places that hold the very item of that place
    NDCG      order-aware: the gain of a true item is n for the first, n - 1 for the second and so on, discounted by its
              place in the path; 1 is the true order
    in order  of all pairs of true items in a path, the share that stand in the true order (.5 is chance)

`--model FILE` keeps the trained model, and takes it from there if it exists.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sets import load

import segue
from segue.metrics.bootstrap import paired_bootstrap

METHODS = {
    "greedy": segue.Beam(1),
    "beam of 4": segue.Beam(4),
    "beam of 16": segue.Beam(16),
    "sample, temperature 1": segue.Sample(1.0),
    "sample, temperature .5": segue.Sample(0.5),
}


def measures(path: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """Return what a path is worth against the true next items, of which there are n."""
    n, place = len(truth), {item: at for at, item in enumerate(truth)}
    path = list(path)[:n]
    gains = np.array([n - place[item] if item in place else 0 for item in path], float)
    discount = 1 / np.log2(np.arange(n) + 2)
    hits = [place[item] for item in path if item in place]
    pairs = [(a, b) for i, a in enumerate(hits) for b in hits[i + 1 :]]
    return {
        "in": len(hits) / n,
        "in place": sum(a == b for a, b in zip(path, truth, strict=False)) / n,
        "ndcg": float(gains @ discount[: len(gains)] / (np.arange(n, 0, -1) @ discount)),
        "in order": float(np.mean([a < b for a, b in pairs])) if pairs else float("nan"),
    }


class Asked:
    """A sample of users: the state before their held-out events, what they had, and these events."""

    def __init__(self, events: segue.Events, longest: int, users: int, seed: int = 0) -> None:
        self.train, test = segue.split_last(events, n=longest)
        truth = test.table.cast({"user": str, "item": str}).group_by("user", maintain_order=True).agg("item")
        chosen = np.sort(np.random.default_rng(seed).permutation(len(truth))[:users])
        self.truth = dict(truth[chosen].iter_rows())
        own = self.train.table.filter(self.train.table["user"].cast(str).is_in(list(self.truth)))
        self.history = segue.Events(own, self.train.source)

    def states(self, rec: segue.Recommender) -> dict[str, segue.State]:
        states = rec.encode(self.history)
        return {user: states.of(user) for user in self.truth}

    def rows(self, paths: dict[str, dict[str, list[str]]], n: int, beside: str) -> dict[str, dict]:
        """Return the mean of each measure, and the lead in NDCG over one of the models with its interval."""
        every = {
            name: [measures(path[user][:n], self.truth[user][:n]) for user in self.truth]
            for name, path in paths.items()
        }
        rows = {}
        for name, found in every.items():
            values = {key: np.array([one[key] for one in found]) for key in found[0]}
            rows[name] = {
                key: round(float(of[~np.isnan(of)].mean()), 4) for key, of in values.items() if not all(np.isnan(of))
            }
            if name != beside:
                own, other = (np.array([one["ndcg"] for one in every[which]]) for which in (name, beside))
                lead = paired_bootstrap(own, other, groups=np.arange(len(own)))
                rows[name]["lead"] = [round(part, 4) for part in (lead.mean, lead.low, lead.high)]
        return rows


def lists(rec: segue.Recommender, asked: Asked, n: int) -> dict[str, list[str]]:
    return {user: [line.item for line in rec.recommend(s, k=n)] for user, s in asked.states(rec).items()}


def popular(rec: segue.Recommender, asked: Asked, n: int) -> dict[str, list[str]]:
    """Return the items that most events of the training are of, without what each user had."""
    order = [str(id) for id in asked.train.table["item"].value_counts(sort=True)["item"]]
    rows = {item: rec.vocabulary.row(item) for item in order}
    found = {}
    for user, state in asked.states(rec).items():
        seen = set(state.seen.to_rows().tolist()) if rec.repeats == "exclude" else set()
        found[user] = [item for item in order if rows[item] not in seen][:n]
    return found


def model(asked: Asked, given: argparse.Namespace) -> segue.Recommender:
    kept = given.model
    if kept and kept.exists():
        return segue.load(kept)
    settings = dict(text.split("=", 1) for text in given.setting)
    rec = segue.train(asked.train, config={"train.seed": given.seed, **settings})
    if kept:
        rec.save(kept)
    return rec


def facts(rec: segue.Recommender) -> dict:
    curve = rec.facts["curve"]
    return {
        "settings": {"passes": rec.config.train.epochs, "minutes": rec.config.train.minutes},
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "training_seconds": round(curve[-1]["seconds"], 1),
        "curve": [[round(row["seconds"], 1), round(row["validation"]["ndcg@10"], 4)] for row in curve],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", required=True, choices=["ml-100k", "ml-1m-a", "ml-1m", "beauty"])
    parser.add_argument("--n", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--setting", action="append", default=[], help="path=value, such as train.minutes=3")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    asked = Asked(load(given.set, given.data).events, max(given.n), given.users)
    rec = model(asked, given)
    found: dict = {"set": given.set, "users": given.users, "seed": given.seed, **facts(rec), "n": {}, "ms": {}}
    states = asked.states(rec)
    for n in given.n:
        paths = {"list of the state": lists(rec, asked, n), "popularity": popular(rec, asked, n)}
        among = {user: set(rec.items) - set(path) for user, path in paths["list of the state"].items()}
        ordered = {user: rec.plan(state, n, exclude=among[user]) for user, state in states.items()}
        paths["that list, greedily ordered"] = {user: [i.item for i in plan.items] for user, plan in ordered.items()}
        for name, by in METHODS.items():
            began = time.perf_counter()
            plans = {user: rec.plan(state, n, by=by) for user, state in states.items()}
            found["ms"][f"{name}, {n}"] = round(1000 * (time.perf_counter() - began) / len(states), 2)
            paths[name] = {user: [line.item for line in plan.items] for user, plan in plans.items()}
            worth = float(np.mean([plan.log_probability for plan in plans.values()]))
            found.setdefault("log_probability", {})[f"{name}, {n}"] = round(worth, 3)
        found["n"][str(n)] = asked.rows(paths, n, "list of the state")
        for name, row in found["n"][str(n)].items():
            print(n, f"{name:<24}", row, flush=True)
    if given.out:
        given.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
