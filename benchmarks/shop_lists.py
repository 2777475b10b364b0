"""What scenarios, experiments, chance and impressions cost at 10,000 items, and what impressions bring.

    python benchmarks/shop_lists.py [--items 10000] [--visits 40 --users 80] -o benchmarks/results/shop-lists.json
    python benchmarks/shop_lists.py --plain          the requests alone that ask for none of these, of any version
    python benchmarks/shop_lists.py --beside SRC     also those of another version's src/, in turns, each three times

Costs: requests to the application in the process, without a socket, one after the other; a model of random weights
(width 64), an SQLite store on this disk. Of each kind p50 of the processor time and of the clock, which other work on
the machine lengthens. The kinds take turns, so that all meet the same machine.

Gain: simulated users of a model of ml-100k. A user looks at lists of 10, eight hours apart, from the first line on,
and takes an item with the chance sigmoid(z - 4.5), where z is the score that the model gives the item in standard
deviations over the catalogue. Of an item that was shown in vain the chance falls by a fixed factor for each showing,
of which half is forgotten in two days: users tire as the discounts assume, though at another pace. So this is no
evidence about people.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from datetime import date

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from small_requests import described

import segue
from segue.data.log.datasets import get
from segue.serve.app import make_app
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore

NOW = 1_700_000_000
SHOP = {
    "scenarios": {
        "home": {"k": 10, "where": {"genre": "drama"}},
        "split": {"k": 10, "where": {"genre": "drama"}},
        "wide": {"k": 10, "where": {"genre": "drama"}},
    },
    "experiments": {"spread": {"scenario": "split", "arms": {"now": "split", "wide": "wide"}}},
}
PLAIN = {
    "a list": ("/v1/recommend", {"k": 10}),
    "a filtered list": ("/v1/recommend", {"k": 10, "where": {"genre": "drama"}}),
    "an event and a list": ("/v1/events?recommend=10", {"item": "item-7"}),
}
MORE = {
    "a scenario with that filter": ("/v1/recommend", {"scenario": "home"}),
    "the same in an experiment": ("/v1/recommend", {"scenario": "split"}),
    "places shared with chance (explore)": ("/v1/recommend", {"k": 10, "explore": 0.1}),
    "places drawn by chance (temperature)": ("/v1/recommend", {"k": 10, "temperature": 1.0}),
    "a boost": ("/v1/recommend", {"k": 10, "boosts": [{"by": 0.7, "where": {"genre": "drama"}}]}),
    "impressions, a write each": ("/v1/recommend", {"k": 10, "impressions": True}),
    "an event and the list of a scenario": ("/v1/events?scenario=home", {"item": "item-7"}),
}


async def answered(app, method, path, body):
    """Send a request to an application, and return its status and body."""
    address, _, query = path.partition("?")
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": method, "path": address, "raw_path": address.encode(), "query_string": query.encode(),
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http", "root_path": "",
        "http_version": "1.1", "asgi": {"version": "3.0"}, "app": app,
    }  # fmt: skip
    sent, status, parts = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}], [], []

    async def receive():
        return sent.pop() if sent else {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            status.append(message["status"])
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    assert status == [200], parts
    return parts


async def costs(rec, folder, kinds, rounds, *, shop):
    """Return p50 in ms of each kind of request, and of events while an experiment runs."""
    store = SqliteStore(folder / "s.db")
    service = Service(rec, store, clock=lambda: NOW)
    app = make_app(service)
    took = defaultdict(list)
    async with app.router.lifespan_context(app):
        if shop:
            await answered(app, "PUT", "/v1/admin/scenarios", SHOP | {"experiments": {}} if shop == "idle" else SHOP)
        for turn in range(-20, rounds):
            for name, (path, body) in kinds.items():
                whole = {"user": f"u{turn % 50}", **body}
                began = time.process_time(), time.perf_counter()
                await answered(app, "POST", path, whole)
                if turn >= 0:
                    took[name].append((time.process_time() - began[0], time.perf_counter() - began[1]))
    service.close()
    store.close()
    found = {name: np.median(lines, axis=0) * 1000 for name, lines in took.items()}
    return {name: {"processor": round(float(p), 3), "clock": round(float(c), 3)} for name, (p, c) in found.items()}


def visits(rec, folder, impressions, *, users, count, fade=0.6, half_life=2 * 86_400):
    """Return the items that simulated users take in a visit, with a 95 % interval over users."""
    now = [NOW]
    store = SqliteStore(folder / f"{impressions}.db")
    service = Service(rec, store, clock=lambda: now[0])
    app = make_app(service)
    rng, taken = np.random.default_rng(5), np.zeros(users)
    first = [[str(item) for item in rng.choice(rec.items[:300], 5, replace=False)] for _ in range(users)]

    async def run():
        async with app.router.lifespan_context(app):
            for user in range(users):
                now[0] = NOW
                events = [Event(f"u{user}", item, (NOW - 60) * 10**6) for item in first[user]]
                service.ingest([IngestRequest(tuple(events))])
                scores = rec.score(rec.observe_all(rec.start(), first[user]))[0]
                liked = dict(zip(rec.items, ((scores - scores.mean()) / scores.std()).tolist(), strict=True))
                vain = defaultdict(list)
                for visit in range(count):
                    now[0] = NOW + visit * 8 * 3600
                    body = {"user": f"u{user}", "k": 10, "repeats": "exclude"}
                    body |= {"impressions": impressions} if impressions else {}
                    found = json.loads(b"".join(await answered(app, "POST", "/v1/recommend", body)))
                    for line in found["items"]:
                        item = line["item"]
                        tired = sum(2 ** (-(now[0] - at) / half_life) for at in vain[item])
                        if rng.random() < fade**tired / (1 + np.exp(4.5 - liked[item])):
                            taken[user] += 1
                            await answered(app, "POST", "/v1/events", {"user": f"u{user}", "item": item})
                            break
                        vain[item].append(now[0])

    asyncio.run(run())
    service.close()
    store.close()
    rates = taken / count
    spread = 1.96 * rates.std(ddof=1) / np.sqrt(users)
    return {"taken in a visit": round(float(rates.mean()), 4), "95 %": round(float(spread), 4)}


def trained():
    """Return a model of ml-100k that a few epochs have made, for lists alone."""
    log = segue.read_events(get("ml-100k").events)
    return segue.train(log, config={"train.epochs": 4, "train.seed": 1})


def in_turns(before: Path, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the processor time of the plain requests, ms, of another version and of this: the median of three runs."""
    took = defaultdict(lambda: defaultdict(list))
    now = Path(segue.__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        words = [
            sys.executable,
            __file__,
            "--plain",
            "--items",
            f"{args.items}",
            "--rounds",
            f"{args.rounds}",
            "-o",
            out,
        ]
        for _ in range(3):
            for name, source in (("before", before), ("with all of this at hand", now)):
                env = {**os.environ, "PYTHONPATH": f"{source}"}
                subprocess.run(list(map(str, words)), check=True, env=env, stdout=subprocess.DEVNULL)
                for kind, times in json.loads(out.read_text())["cost, ms"]["plain"].items():
                    took[name][kind].append(times["processor"])
    return {name: {kind: float(np.median(times)) for kind, times in kinds.items()} for name, kinds in took.items()}


def main() -> None:
    """Measure, and write a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--users", type=int, default=80)
    parser.add_argument("--visits", type=int, default=40)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--beside", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    rec, found = described(args.items), {"items": args.items, "load": os.getloadavg(), "cores": os.cpu_count()}
    found["date"] = f"{date.today()}"
    if args.beside:
        found["in turns"] = in_turns(args.beside, args)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["cost, ms"] = {"plain": asyncio.run(costs(rec, folder, PLAIN, args.rounds, shop=""))}
        if not args.plain:
            for key, kinds, shop in (("with more", PLAIN | MORE, "idle"), ("in an experiment", PLAIN | MORE, "all")):
                inner = folder / key.replace(" ", "-")
                inner.mkdir()
                found["cost, ms"][key] = asyncio.run(costs(rec, inner, kinds, args.rounds, shop=shop))
            model = trained()
            ways = {"none": None} | {
                f"discount {discount}, half-life {half_life}": {"discount": discount, "half_life": half_life}
                for discount in (0.1, 0.25, 0.5, 1.0) for half_life in ("1d", "4d")
            }  # fmt: skip
            found["visits"] = {"users": args.users, "visits": args.visits}
            for way, impressions in ways.items():
                inner = folder / way.replace(" ", "-")
                inner.mkdir()
                found["visits"][way] = visits(model, inner, impressions, users=args.users, count=args.visits)
                print(way, found["visits"][way], flush=True)
    found["load after"] = os.getloadavg()
    text = json.dumps(found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
