"""The data sets of the benchmarks, by name: a log, its items, its users.

`data` is a folder with `ml-1m`, `amazon-beauty-5core`; ml-100k is fetched by name.
"""

import gzip
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

import segue
from segue.data.datasets import get


class Set(NamedTuple):
    """A log with what is known of its items and users; None where nothing is."""

    events: segue.Events
    items: object = None
    users: object = None


def load(name: str, data: Path | None) -> Set:
    """Return a data set."""
    if name == "ml-100k":
        files = get(name)
        return Set(segue.read_events(files.events), files.items, files.users)
    assert data is not None, f"{name} needs --data"
    made = {"ml-1m-a": _ml_1m_a, "ml-1m": _ml_1m, "beauty": _beauty}
    made |= {"ml-1m-rated": _ml_1m_rated, "ml-latest-small": _ml_latest_small}
    return made[name](data)


def _ml_1m_a(data: Path) -> Set:
    """The SASRec file: ids of its own, in order, without times."""
    rows = np.loadtxt(data / "ml-1m" / "sasrec_ml-1m.txt.gz", dtype=np.int64)
    return Set(segue.read_events(pl.DataFrame(rows, schema=["user", "item"]), time="none"))


def _ml_1m(data: Path) -> Set:
    """All ratings in the order of each user's; titles, genres and abstracts; profiles."""
    folder = data / "ml-1m"
    rows = pl.read_csv(folder / "ratings_ts_partial.csv.gz", columns=["user_id", "movie_id", "rating"])
    abstracts = json.loads(gzip.decompress((folder / "dbpedia_abstracts.json.gz").read_bytes()))
    films = _lines(folder / "movies.dat", ["item", "title", "genres"])
    films = films.with_columns(abstract=pl.col("item").replace_strict(abstracts, default=None, return_dtype=pl.String))
    people = _lines(folder / "users.dat", ["user", "gender", "age", "occupation", "zip"])
    return Set(segue.read_events(rows, time="none"), films, people.drop("zip"))


def _ml_1m_rated(data: Path) -> Set:
    """The rows whose second is known, with their ratings."""
    folder = data / "ml-1m"
    rows = pl.read_csv(folder / "ratings_ts_partial.csv.gz").filter(pl.col("ts_kind").is_in(["given", "implied"]))
    rows = rows.select("user_id", "movie_id", "rating", time="ts_min")
    films = _lines(folder / "movies.dat", ["item", "title", "genres"])
    people = _lines(folder / "users.dat", ["user", "gender", "age", "occupation", "zip"])
    return Set(segue.read_events(rows), films, people.drop("zip"))


def _ml_latest_small(data: Path) -> Set:
    """All ratings, in half stars, with their seconds; titles and genres."""
    folder = data / "ml-latest-small"
    return Set(segue.read_events(folder / "ratings.csv"), folder / "movies.csv")


def _beauty(data: Path) -> Set:
    """The 5-core with days as times; titles."""
    folder = data / "amazon-beauty-5core"
    items = pl.read_csv(folder / "items.csv").select("item", "title")
    return Set(segue.read_events(folder / "inter_time.csv.gz"), items)


def _lines(path: Path, names: list[str]) -> pl.DataFrame:
    rows = [line.split("::") for line in path.read_text("latin-1").splitlines()]
    return pl.DataFrame(rows, schema=names, orient="row")
