"""Random ordinary small logs, trained with no option: does the loss end no higher than it began, and is an answer ever
worse than the best simple one?

    python benchmarks/small_logs.py --logs 200 [--begin 0] [--keep benchmarks/results/small-logs.json]

Each log is drawn from its number alone: 3 to 2,000 users, 1 to 60 items, 12 kinds of ratings or none, gaps from 0 to
years, five ways to choose the next item. The last tenth in time is held out, or each user's last event where that tenth
is of fewer than 20 users. With fewer than 20 in all no interval is believed. Kept after each log; a run goes on where
the last one ended.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import segue
from segue.errors import SegueError
from segue.evaluation.ratings import evaluate_ratings
from segue.metrics.bootstrap import Interval

EVENTS = 8_000
#: Users of whom an interval over users says something.
LEAST = 20
RATINGS = (
    "none", "none", "constant", "two", "two rare", "stars", "stars skewed", "halves", "percent", "tiny", "huge", "tail",
    "outlier",
)  # fmt: skip
CHOICES = ("random", "popular", "ring", "markov", "groups")
GAPS = ("no times", "one moment", "seconds", "days", "years")


def draw(number: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return a log, columns user, item, perhaps time and rating, and how it was drawn."""
    rng = np.random.default_rng([number, 22])
    users = round(float(np.exp(rng.uniform(np.log(3), np.log(2000)))))
    items = int(rng.integers(1, 61))
    length = min(int(rng.integers(2, 40)), max(2, EVENTS // users))
    kinds = {"choice": CHOICES, "ratings": RATINGS, "gaps": GAPS}
    how = {name: str(rng.choice(values)) for name, values in kinds.items()}
    user = np.repeat(np.arange(users), rng.integers(1, length + 1, users))
    item = _items(rng, how["choice"], user, items)
    columns: dict[str, Any] = {"user": [f"u{u}" for u in user], "item": [f"i{i}" for i in item]}
    if how["gaps"] != "no times":
        columns["time"] = _times(rng, how["gaps"], user)
    if how["ratings"] != "none":
        columns["rating"] = _ratings(rng, how["ratings"], user, item)
    return pl.DataFrame(columns), how | {"users": users, "items": items, "events": len(user)}


def _items(rng: np.random.Generator, choice: str, user: Any, items: int) -> Any:
    n, place = len(user), np.arange(len(user))
    popular = rng.dirichlet(np.full(items, 0.3))
    if choice == "random":
        return rng.integers(0, items, n)
    if choice == "popular":
        return rng.choice(items, n, p=popular)
    if choice == "ring":
        return np.where(rng.random(n) < 0.1, rng.integers(0, items, n), (user * 7 + place) % items)
    if choice == "groups":
        groups = rng.dirichlet(np.full(items, 0.2), size=4)
        return np.array([rng.choice(items, p=groups[u % 4]) for u in user])
    matrix, out = rng.dirichlet(np.full(items, 0.2), size=items), [0]
    for before, now in itertools.pairwise(user):
        out.append(int(rng.choice(items, p=matrix[out[-1]] if before == now else popular)))
    return np.array(out)


def _times(rng: np.random.Generator, gaps: str, user: Any) -> Any:
    unit = {"one moment": 0, "seconds": 30, "days": 86_400, "years": 86_400 * 200}[gaps]
    waits = rng.exponential(1.0, len(user)) * unit
    if gaps == "years":
        waits *= np.where(rng.random(len(user)) < 0.7, 1e-5, 1.0)
    begins = np.flatnonzero(np.diff(user, prepend=-1))
    since = np.cumsum(waits)
    first = rng.uniform(0, 86_400 * 365, len(begins)) if unit else np.zeros(len(begins))
    of_user = np.searchsorted(begins, np.arange(len(user)), side="right") - 1
    return (1_500_000_000 + first[of_user] + since - since[begins][of_user]).astype(np.int64)


def _ratings(rng: np.random.Generator, kind: str, user: Any, item: Any) -> Any:
    n = len(user)
    means = rng.normal(0, 0.6, user.max() + 1)[user] + rng.normal(0, 0.6, item.max() + 1)[item]
    latent = means * (rng.random() < 0.6) + rng.normal(0, 1, n)  # of two logs in five, noise alone
    if kind == "constant":
        return np.full(n, 4.0)
    if kind in ("two", "two rare"):
        return (latent > (0.0 if kind == "two" else 1.8)).astype(float)
    if kind in ("stars", "stars skewed", "outlier"):
        stars = np.clip(np.round((3 if kind == "stars" else 4.2) + latent), 1, 5)
        if kind == "outlier":
            stars[rng.integers(n)] = 1e12
        return stars
    scaled = {"halves": np.round(2 * (3 + latent)) / 2, "percent": 50 + 20 * latent, "tiny": 1e-4 * latent}
    scaled |= {"huge": 1e7 * (3 + latent), "tail": np.exp(9 + 2 * latent)}
    return scaled[kind]


def split(events: segue.Events) -> tuple[segue.Events, segue.Events]:
    """Return the first nine tenths in time and the last, or, where those are of few users, each user's last event."""
    if "time" in events.table.columns and events.table["time"].n_unique() > 1:
        train, test = segue.split_by_time(events, test=0.1)
        if test.table["user"].n_unique() >= LEAST:
            return train, test
    return segue.split_last(events)


def measure(number: int) -> dict[str, Any]:
    """Train on a log with no option and return what came of it."""
    table, how = draw(number)
    began, said = time.perf_counter(), list[str]()
    try:
        events = segue.read_events(table, time=None if "time" in table.columns else "none")
        train, test = split(events)
        rec = segue.train(train, say=said.append)
    except SegueError as error:
        return how | {"refused": str(error)}
    losses = [row["loss"] for row in rec.facts["curve"]]
    found = how | {"losses": [losses[0], losses[-1], max(losses)], "seconds": time.perf_counter() - began}
    found["said"] = [line for line in said if line.startswith(("Ratings:", "NDCG", "Transition counts"))]
    users = test.table["user"].n_unique()
    try:
        report = segue.evaluate(rec, test, train=train)
        found["next"] = _against(report.improvement, report.best_baseline, users) | {"rows": report.rows}
        if rec.network.rating is not None and how["gaps"] != "one moment":  # of one moment nothing is strictly earlier
            ratings = evaluate_ratings(rec, test, train=train)
            found["rating"] = _against(ratings.improvement, ratings.best_baseline, users) | {"rows": ratings.rows}
    except SegueError as error:
        found["not evaluated"] = str(error)
    return found


def _against(lead: Interval | None, best: str | None, users: int) -> dict[str, Any]:
    if lead is None:
        return {"best": best, "worse": False, "better": False}
    verdict = {"worse": users >= LEAST and lead.high < 0, "better": users >= LEAST and lead.low > 0}
    return {"best": best, "lead": [lead.mean, lead.low, lead.high], "users": users} | verdict


def diverged(one: dict[str, Any]) -> bool:
    """Say whether the loss ends higher than it began by more than two means over a pass differ by chance, in nats."""
    first, last, _ = one["losses"]
    return bool(not np.isfinite(last) or last > first + 2 / np.sqrt(one["events"]))


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the shares that matter."""
    trained = [one for one in found if "losses" in one]
    asked = {part: [one[part] for one in trained if part in one] for part in ("next", "rating")}
    return {
        "logs": len(found),
        "refused, with a reason": len(found) - len(trained),
        "diverged": sum(diverged(one) for one in trained),
        "largest rise of a loss from the first pass to the last": max(
            one["losses"][1] - one["losses"][0] for one in trained
        ),
        "lists measured, of 20 users or more": sum(one.get("users", 0) >= LEAST for one in asked["next"]),
        "lists worse than the best baseline, 95 %": sum(one["worse"] for one in asked["next"]),
        "lists better, 95 %": sum(one["better"] for one in asked["next"]),
        "ratings measured, of 20 users or more": sum(one.get("users", 0) >= LEAST for one in asked["rating"]),
        "ratings worse than the best baseline, 95 %": sum(one["worse"] for one in asked["rating"]),
        "ratings better, 95 %": sum(one["better"] for one in asked["rating"]),
        "by chance alone, of each": "2.5 %",
    }


def main() -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--begin", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(__file__).parent / "results" / "small-logs.json")
    given = parser.parse_args()
    kept = json.loads(given.keep.read_text())["found"] if given.keep.exists() else {}
    for number in range(given.begin, given.begin + given.logs):
        if str(number) not in kept:
            kept[str(number)] = one = measure(number)
            short = {name: value for name, value in one.items() if name not in ("next", "rating", "said")}
            leads = {part: one[part].get("lead") for part in ("next", "rating") if part in one}
            print(number, short, leads, flush=True)
            whole = {"summary": summary(list(kept.values())), "found": kept}
            given.keep.write_text(json.dumps(whole, indent=1, default=float))
    print(json.dumps(summary(list(kept.values())), indent=1, default=float))


if __name__ == "__main__":
    main()
