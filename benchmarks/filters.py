"""What each feature of a list costs at 10,000 and 300,000 items, with an index and without.

    nice -n -10 python benchmarks/filters.py -o benchmarks/results/filters.json

A model of random weights (width 64). Filters: from a text to a mask of all items; a new filter has values that none
before had. Requests: whole ones, through the application of the server within this process, without a network; a list
has 10 items and its user 200 events. Times are the p50 of the processor and of the clock, which other work on the
machine lengthens; `load` says how much there was.
"""

import argparse
import asyncio
import itertools
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from small_requests import described, tell_history

from segue.data.features.catalogue import Catalogue
from segue.recommend.filters.binding import Known
from segue.recommend.index.approximate import build_index, open_index
from segue.recommend.lists.item_filters import lay_out
from segue.serve.app import make_app
from segue.serve.live.service import Service
from segue.store.sql.sqlite_store import SqliteStore

NOW = 1_700_000_000
#: Each with a number that differs from call to call.
FILTERS = {
    "a category": 'genre = "comedy" and price < {0}',
    "not one of many": 'not tags in ("bad", "bed", "bid") and price >= {0}',
    "numbers and a date": "price < {0} and released > now() - 90d",
    "with the item looked at": "price <= current.price * 1.2 + {0} and country = user.country",
    "all of these": 'genre = "comedy" and not tags in ("bad", "bed") and price < {0} and released > now() - 90d '
    "and price <= current.price * 9 and country = user.country",
}
#: Rules under which lists are asked for.
BOOSTS = [{"kind": "boost", "where": {"genre": name}, "by": by} for name, by in (("drama", 0.7), ("war", -0.3))]
PINS = [{"kind": "pin", "items": ["item-3", "item-4", "item-5"]}, {"kind": "block", "where": {"tags": "bad"}}]


def timed(call, times):
    """Return the p50 of the processor time and of the time on the clock of some calls, in ms; each gets its number."""
    took = []
    for number in range(times):
        began = time.process_time(), time.perf_counter()
        call(number)
        took.append((time.process_time() - began[0], time.perf_counter() - began[1]))
    processor, clock = np.median(took, axis=0) * 1000
    return {"processor": round(float(processor), 3), "clock": round(float(clock), 3)}


class Client:
    """Requests to an application within this process; each waits for its whole answer.

    Args:
        app: to be asked.
    """

    def __init__(self, app):
        self._app, self._runner, self._living = app, asyncio.Runner(), AsyncExitStack()
        self._runner.run(self._living.enter_async_context(app.router.lifespan_context(app)))

    def __call__(self, method, path, body=None):
        """Return the answer of a request, decoded."""
        return self._runner.run(self._answer(method, path, b"" if body is None else json.dumps(body).encode()))

    def close(self):
        """End the application."""
        self._runner.run(self._living.aclose())
        self._runner.close()

    async def _answer(self, method, path, sent):
        json_of = (b"content-type", b"application/json"), (b"content-length", b"%d" % len(sent))
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "http_version": "1.1", "scheme": "http", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": query.encode(), "headers": [(b"host", b"localhost"), *json_of],
            "client": ("127.0.0.1", 1), "server": ("localhost", 8000), "state": {},
        }  # fmt: skip
        parts, status = [], 0

        async def receive():
            return {"type": "http.request", "body": sent, "more_body": False}

        async def send(message):
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        await self._app(scope, receive, send)
        assert status < 400, b"".join(parts)
        return json.loads(b"".join(parts) or b"null")


def requests(client, count):
    """Return for each feature its rules, and a call, given its number."""
    text, some = FILTERS["all of these"], [f"item-{n}" for n in range(0, count, 2)]
    known = {"profile": {"country": "CH"}, "current": "item-0", "at": NOW}

    def wanted(**more):
        return client("POST", "/v1/recommend", {"user": "reader", "k": 10, "at": NOW, **more})

    first = wanted(after="")["next"]
    fifth = first
    for _ in range(4):
        fifth = wanted(after=fifth)["next"]
    many = [{"user": f"user-{n % 20}", "k": 10, "at": NOW} for n in range(100)]
    return {
        "no work: GET /healthz": ([], lambda n: client("GET", "/healthz")),
        "a list": ([], lambda n: wanted()),
        "a list of a history of 20 items": (
            [],
            lambda n: client("POST", "/v1/recommend", {"history": some[n : n + 20], "at": NOW}),
        ),
        "the same filter again": ([], lambda n: wanted(where=text.format(60), **known)),
        "a new filter": ([], lambda n: wanted(where=text.format(50 + n / 1000), **known)),
        "1,000 candidates": ([], lambda n: wanted(candidates=some[n : n + 1000])),
        "5,000 candidates": ([], lambda n: wanted(candidates=some[n : n + 5000])),
        "100 ids excluded": ([], lambda n: wanted(exclude=some[n : n + 100])),
        "5,000 ids excluded": ([], lambda n: wanted(exclude=some[:5000])),
        "events excluded by type": ([], lambda n: wanted(exclude_events=[{"type": "buy"}, {"within": "30d"}])),
        "diversity": ([], lambda n: wanted(diversity=0.5)),
        "two boosts": (BOOSTS, lambda n: wanted()),
        "pins and blocks": (PINS, lambda n: wanted()),
        "the next page": ([], lambda n: wanted(after=first)),
        "the sixth page": ([], lambda n: wanted(after=fifth)),
        "100 lists at once": ([], lambda n: client("POST", "/v1/recommend/batch", {"requests": many})),
        "similar items": ([], lambda n: client("GET", f"/v1/similar/item-{n}?k=10")),
        "similar items, filtered": ([], lambda n: client("GET", f"/v1/similar/item-{n}?k=10&where=genre:drama")),
        "similar items for a user": ([], lambda n: client("GET", f"/v1/similar/item-{n}?k=10&user=reader")),
        "why an item, last 20 events": (
            [],
            lambda n: client("POST", "/v1/explain", {"user": "reader", "item": f"item-{n}", "at": NOW}),
        ),
    }


def served(rec, folder, count, times):
    """Return the times of each request to a server with a model."""
    store = SqliteStore(folder / f"{time.monotonic_ns()}.db")
    service = Service(rec, store, clock=lambda: NOW)
    tell_history(service, "reader", 200, count)
    for n in range(20):
        tell_history(service, f"user-{n}", 10, count)
    client = Client(make_app(service))
    found, numbers = {}, itertools.count()
    for name, (rules, call) in requests(client, count).items():
        client("PUT", "/v1/admin/rules", {"rules": rules})
        call(next(numbers))  # it may lay something out
        found[name] = timed(lambda n, call=call: call(next(numbers)), times // 5 if "100 lists" in name else times)
    client.close()
    service.close()
    store.close()
    return found


def measured(count, folder, times):
    """Return the times at a number of items."""
    rng = np.random.default_rng(3)
    rec = described(count)
    days = pl.Series((NOW - rng.integers(0, 3_000 * 86_400, count)) * 1_000_000).cast(pl.Datetime("us"))
    countries = np.array(["CH", "DE", "FR", "IT", "AT", None])[rng.integers(0, 6, count)]
    table = rec.catalogue.table.with_columns(
        released=days.dt.date(), country=pl.Series(countries.tolist(), dtype=pl.String)
    )
    rec = replace(rec, catalogue=Catalogue(table))
    began = time.process_time()
    lay_out(rec)
    first = {"laid out, once": round(time.process_time() - began, 2)}
    known = Known(NOW * 10**6, {"country": "CH"}, {}, rec.catalogue.line(1))
    began = time.process_time()
    rec.filters.passing("country = 'CH'", known)
    first["first filter by a column that was not laid out"] = round(time.process_time() - began, 3)
    path = folder / f"{count}.segue"
    build_index(rec, path)
    index, _ = open_index(rec, path)
    masks = {}
    for name, text in FILTERS.items():
        new = timed(lambda n, text=text: rec.filters.passing(text.format(40 + n / 1000), known), times)
        again = timed(lambda n, text=text: rec.filters.passing(text.format(40), known), 5 * times)
        left = rec.filters.passing(text.format(40), known).count
        masks[name] = {"new": new, "repeated": again, "pass": left}
    ways = {"all items scored": rec, "index": rec.with_index(index)}
    lists = {name: served(one, folder, count, times) for name, one in ways.items()}
    return {"first, s": first, "filters": masks, "requests": lists}


def main() -> None:
    """Measure, and write a file."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--items", type=int, nargs="+", default=[10_000, 300_000])
    options.add_argument("--times", type=int, default=41)
    options.add_argument("-o", type=Path, required=True)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = {str(count): measured(count, Path(folder), given.times) for count in given.items}
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[1],
        "unit": "ms",
        "times": given.times,
        "items": sizes,
    }
    given.o.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
