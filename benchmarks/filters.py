"""What a filter costs at 10,000 and 300,000 items: new, repeated, and in a whole list, with an index and without.

    python benchmarks/filters.py [--items 10000 300000] -o benchmarks/results/filters.json

In the process, with a model of random weights (width 64). A new filter has values that none before had; what is
measured is its text to a mask of all items. A list is one of 10 items for one user. Times are p50 of the
processor and of the clock, which other work on the machine lengthens; `load` says how much there was.
"""

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from small_requests import described

from segue.data.features.catalogue import Catalogue
from segue.recommend.filters.binding import Known
from segue.recommend.index.approximate import build_index, open_index
from segue.recommend.lists.item_filters import lay_out

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


def timed(call, times):
    """Return the p50 of the processor time and of the time on the clock of some calls, in ms; each gets its number."""
    took = []
    for number in range(times):
        began = time.process_time(), time.perf_counter()
        call(number)
        took.append((time.process_time() - began[0], time.perf_counter() - began[1]))
    processor, clock = np.median(took, axis=0) * 1000
    return {"processor": round(float(processor), 3), "clock": round(float(clock), 3)}


def measured(count: int, folder: Path) -> dict[str, object]:
    """Return the times at a number of items."""
    rng = np.random.default_rng(3)
    rec = described(count)
    days = pl.Series((NOW - rng.integers(0, 3_000 * 86_400, count)) * 1_000_000).cast(pl.Datetime("us"))
    countries = np.array(["CH", "DE", "FR", "IT", "AT", None])[rng.integers(0, 6, count)]
    table = rec.catalogue.table.with_columns(released=days.dt.date(), country=pl.Series(countries, dtype=pl.String))
    rec = replace(rec, catalogue=Catalogue(table))
    began = time.process_time()
    lay_out(rec)
    first = {"laid out, once": round(time.process_time() - began, 2)}
    state = rec.observe_all(rec.start(), ["item-1", "item-2", "item-7"])
    known = Known(NOW * 10**6, {"country": "CH"}, {}, rec.catalogue.line(1))
    began = time.process_time()
    rec.filters.passing("country = 'CH'", known)
    first["first filter by a column that was not laid out"] = round(time.process_time() - began, 3)
    path = folder / f"{count}.segue"
    build_index(rec, path)
    index, _ = open_index(rec, path)
    lists = {"all items scored": rec, "index": rec.with_index(index)}
    found = {"first, s": first, "filters": {}, "lists": {}}
    for name, text in FILTERS.items():
        new = timed(lambda n, text=text: rec.filters.passing(text.format(40 + n / 1000), known), 51)
        again = timed(lambda n, text=text: rec.filters.passing(text.format(40), known), 201)
        found["filters"][name] = {
            "new": new,
            "repeated": again,
            "pass": rec.filters.passing(text.format(40), known).count,
        }
    more = {"profile": known.profile, "current": "item-0"}
    text, some = FILTERS["all of these"], [f"item-{n}" for n in range(0, count, 2)]
    for name, one in lists.items():
        calls = {
            "no filter": lambda n: {},
            "repeated filter": lambda n: {"where": text.format(60), **more},
            "new filter": lambda n: {"where": text.format(50 + n / 1000), **more},
            "1,000 candidates": lambda n: {"candidates": some[:1000]},
            "half of the catalogue as candidates": lambda n: {"candidates": some},
            "10,000 ids excluded": lambda n: {"exclude": some[:10_000]},
            "diversity": lambda n: {"diversity": 0.5},
        }
        found["lists"][name] = {
            what: timed(lambda n, one=one, wanted=wanted: one.recommend(state, 10, at=NOW, **wanted(n)), 31)
            for what, wanted in calls.items()
        } | {"similar, for this user": timed(lambda n, one=one: one.similar(f"item-{n}", 10, state=state, at=NOW), 31)}
    return found


def main() -> None:
    """Measure, and write a file."""
    options = argparse.ArgumentParser()
    options.add_argument("--items", type=int, nargs="+", default=[10_000, 300_000])
    options.add_argument("-o", type=Path, required=True)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = {str(count): measured(count, Path(folder)) for count in given.items}
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[1],
        "unit": "ms",
        "items": sizes,
    }
    given.o.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
