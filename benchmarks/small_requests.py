"""What each small request costs at 10,000, 50,000 and 300,000 items: what a key of a shop may ask for.

    python benchmarks/small_requests.py [--items 10000 50000 300000] -o benchmarks/results/small-requests.json

In the process, without HTTP, with a model of random weights (width 64) whose items have a title, categories, a price
and a date, and one user with 10,000 events. Of each call the first (it may lay something out), p50 and the longest.
"""

import argparse
import itertools
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

import segue
from segue.config import Config, DataSize, configure, derive
from segue.data.features.catalogue import Catalogue
from segue.data.features.feature_encoders import attributes_of, fit_feature_encoders
from segue.data.log.events import Events
from segue.data.sequences.vocabulary import Vocabulary
from segue.model.backend import map_tree
from segue.model_file import build_network, with_fingerprint
from segue.recommend.lists.item_filters import Rule
from segue.recommend.recommender import Recommender
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest, ListOptions
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore

START = 1_700_000_000_000_000


def described(count: int, width: int = 64) -> Recommender:
    """Return a recommender of many items that are described, with random weights."""
    rng = np.random.default_rng(0)
    ids = pl.Series("item", [f"item-{n}" for n in range(count)])
    words = np.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "dklmnrst"])
    table = pl.DataFrame(
        {
            "item": ids,
            "title": [" ".join(each) for each in words[rng.integers(0, len(words), (count, 3))]],
            "genre": np.array(["drama", "comedy", "crime", "war", "music"])[rng.integers(0, 5, count)],
            "tags": ["|".join(each) for each in words[:50][rng.integers(0, 50, (count, 2))]],
            "price": rng.integers(1, 900, count) / 10,
        }
    )
    log = Events(pl.DataFrame({"user": ["a", "b"], "item": ids[:2], "time": [START, START]}))
    vocabulary, catalogue = Vocabulary(ids), Catalogue(table)
    encoders = fit_feature_encoders(log, catalogue, kinds={"genre": "category", "tags": "categories"}, text="words")
    wanted = {"model.width": width, "train.repeats": "allow"}
    config = derive(configure(wanted, base=Config()), DataSize(100 * count, 1000, count + 1, True, 0.0))
    network = build_network(config, items=count + 1, longest_gap=1e6, encoders=encoders)
    params = map_tree(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32), network.init(0))
    params = network.with_attributes(params, attributes_of(catalogue, encoders))
    rec = Recommender(network, params, vocabulary, config, catalogue, {}, "", encoders, vocabulary.size)
    return with_fingerprint(rec)


def tell_history(service: Service, user: str, events: int, items: int) -> None:
    """Tell the events of one user, a second apart."""
    rows = np.random.default_rng(1).integers(0, items, events)
    for begin in range(0, events, 1000):
        some = [
            Event(user, f"item-{row}", START + n * 10**6) for n, row in enumerate(rows[begin : begin + 1000], begin)
        ]
        service.ingest([IngestRequest(tuple(some), "shop")])


def calls(service: Service, items: int):
    """Return for each request a name, how often it is made, and the call, given its number."""
    options = ListOptions(10, START + 10**11)
    cut = [f"item-{n}" for n in range(0, 1000)]
    seqs = [event.seq for event in service.store.events("reader", limit=100, backwards=True)]
    last = service.store.events("reader", limit=1)
    rules = [Rule("boost", {"genre": "drama", "tags": f"b{c}d"}, by=0.1 * n) for n, c in enumerate("aeiou" * 4)]
    price = itertools.count(1)
    return {
        "recommend": (9, lambda n: service.recommend("reader", options)),
        "recommend, one filter": (9, lambda n: service.recommend("reader", replace(options, where={"genre": "drama"}))),
        "recommend, filter by tags": (
            9,
            lambda n: service.recommend("reader", replace(options, where={"tags": ["bad"]})),
        ),
        "recommend, filter by price": (
            9,
            lambda n: service.recommend("reader", replace(options, where={"price": 4.5})),
        ),
        "recommend, 1,000 excluded": (5, lambda n: service.recommend("reader", replace(options, exclude=tuple(cut)))),
        "recommend, diversity, k 1,000": (
            2,
            lambda n: service.recommend("reader", replace(options, k=1000, diversity=0.5)),
        ),
        "recommend, history of 1,000": (
            3,
            lambda n: service.recommend_history([Event("", one, START) for one in cut], options),
        ),
        "tell one event, with a list": (
            9,
            lambda n: service.ingest([IngestRequest((Event(f"new-{n}", "item-3", START),), "shop", options)]),
        ),
        "show a user, 1,000 events": (3, lambda n: service.user("reader", limit=1000)),
        "search items, many": (9, lambda n: service.find_items("ba", 20)),
        "search items, none": (9, lambda n: service.find_items("no such thing", 20)),
        "similar": (5, lambda n: service.similar("item-7", 10)),
        "explain, last 20": (3, lambda n: service.explain("reader", "item-5", last=20, options=options)),
        "explain, last 100": (2, lambda n: service.explain("reader", "item-5", last=100, options=options)),
        "what if, without one of the last": (3, lambda n: service.what_if("reader", seqs[:1], options)),
        "what if, without the first": (2, lambda n: what_if(service, last[0].seq, options)),
        "status": (9, lambda n: service.status()),
        "rules, 20 of attributes": (2, lambda n: service.set_rules(rules)),
        "recommend after rules": (5, lambda n: service.recommend("reader", options)),
        "patch availability": (7, lambda n: service.change_item(f"item-{n}", available=False)),
        "recommend after availability": (
            3,
            lambda n: (service.change_item(f"item-{n}", available=True), service.recommend("reader", options)),
        ),
        "no rules": (1, lambda n: service.set_rules([])),
        "patch attributes": (
            15,
            lambda n: service.change_item(f"item-{n}", attributes={"price": next(price) / 10, "genre": "war"}),
        ),
        "patch attributes, then recommend": (
            7,
            lambda n: (
                service.change_item(f"item-{n}", attributes={"genre": "drama"}),
                service.recommend("reader", replace(options, where={"genre": "drama"})),
            ),
        ),
        "add one item": (
            2,
            lambda n: service.add_items(
                pl.DataFrame({"item": [f"new-{n}"], "title": ["bad bed"], "genre": ["war"], "price": [3.5]})
            ),
        ),
        "recommend after adding": (3, lambda n: service.recommend("reader", options)),
        "merge 10,000 events": (1, lambda n: service.merge("old", "young")),
    }


def what_if(service, seq, options):
    """Ask for what is refused where it reaches too far back."""
    try:
        return service.what_if("reader", [seq], options)
    except segue.errors.SegueError as error:
        return str(error)


def overridden(rec, folder, many: int, items: int):
    """Return what a change costs beside many that were made before: of those, kept in the store at once."""
    store = SqliteStore(folder / "many.db")
    attributes = {f"item-{n}": {"price": 1.5, "genre": "war"} for n in range(1000, 1000 + many)}
    store.put_value("items", json.dumps({"attributes": attributes}).encode())
    began = time.perf_counter()
    service = Service(rec, store)
    opened = time.perf_counter() - began
    service.recommend("nobody", ListOptions(10, START))
    options = ListOptions(10, START, where={"genre": "war"})
    service.recommend("nobody", options)
    times = [timed(lambda n=n: service.change_item(f"item-{n}", attributes={"price": 2.5})) for n in range(7)]
    lists = [timed(lambda: service.recommend("nobody", options)) for _ in range(5)]
    service.close()
    store.close()
    return {"opening": spread([opened]), "patch": spread(times), "recommend, one filter": spread(lists)}


def timed(work) -> float:
    """Return the seconds that a call took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def spread(times):
    """Return the first, the median and the longest in milliseconds."""
    first, p50, longest = times[0], float(np.median(times)), max(times)
    return {name: round(each * 1e3, 2) for name, each in (("first", first), ("p50", p50), ("max", longest))}


def measure(items: int, events: int, many: int):
    """Return the costs at one size of the catalogue."""
    rec = described(items)
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "shop.db")
        service = Service(rec, store)
        for user in ("reader", "old"):
            tell_history(service, user, events, items)
        service.ingest([IngestRequest((Event("young", "item-1", START),), "shop")])
        service.recommend("reader", ListOptions(10, START + 10**11))
        found = {
            name: spread([timed(lambda call=call, n=n: call(n)) for n in range(times)])
            for name, (times, call) in calls(service, items).items()
        }
        service.close()
        store.close()
        if many:
            found[f"with {many:,} items changed"] = overridden(rec, Path(folder), many, items)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 50_000, 300_000])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=5_000)
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    found = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "events": asked.events, "unit": "ms"}
    found["items"] = {str(items): measure(items, asked.events, asked.changed) for items in asked.items}
    text = json.dumps(found, indent=1)
    if asked.out:
        asked.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
