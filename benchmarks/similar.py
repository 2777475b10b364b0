"""Whether similar items are those that a person would call similar.

    python benchmarks/similar.py --data DIR --models FOLDER -o benchmarks/results/similar.json

A model for each case is read from the folder, or trained there (`CASES`). What counts as similar:

- series: titles that differ by a number, or by what stands after a colon (Toy Story 2, Star Wars: Episode V);
- genres: shared genres, as Jaccard's share; tags: rare tags in common that people gave (ml-latest-small);
- attributes: shared attributes of Beauty, which no model sees;
- sessions, users: how often both are in one session or history that was held out.

NDCG@10 of lists of 10 with these gains, a mean over items. The weights are those of `recommend.similar`: `--choose`
prints what others give on one half of the items (by a hash of their rows); the file holds the other half.
"""

import argparse
import gzip
import hashlib
import itertools
import json
import os
import re
import time
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse
from sets import load

import segue
from segue.recommend.similar import WEIGHTS, LikenessWeights, similar

SMALL = {"model.width": 64, "train.epochs": 8, "train.seed": 0}
_ARTICLE = re.compile(r"^(.*), (the|a|an|les|la|le|el|il|das|der|die|l')$", re.I)
_PART = re.compile(r"[\s,]+(?:(?:part|episode|volume|vol\.?|chapter)\s*)?(?:\d{1,2}|[ivx]{1,5})$|\s+part\s+\w+$", re.I)


def share_of(name: str, salt: str) -> float:
    """Return a number from 0 to 1 by the hash of a name."""
    return int.from_bytes(hashlib.blake2b(f"{salt}{name}".encode(), digest_size=4).digest()) / 2**32


def series(title: str | None) -> str | None:
    """Return what the titles of a series have in common.

    Example:
        >>> [series(t) for t in ("Toy Story 2 (1999)", "Star Wars: Episode V (1980)", "Godfather: Part II, The (1974)")]
        ['toy story', 'star wars', 'godfather']
    """
    text = re.sub(r"\s*\([^)]*\)", "", title or "").strip()
    for _ in range(2):
        found = _ARTICLE.match(text)
        text = re.split(r":\s| - ", found[1] if found else text)[0].strip()
    while (shorter := _PART.sub("", text).strip()) != text and len(shorter) > 2:
        text = shorter
    text = re.sub(r"^(the|a|an) ", "", re.sub(r"\W+", " ", text).strip().lower())
    return text if len(text) > 2 and not text.isdigit() else None


# --- cases ----------------------------------------------------------------------------------------------------


def cases(data: Path) -> dict:
    """Return by name a log to train on, and its items."""
    films, beauty = load("ml-latest-small", data), load("beauty", data)
    hundred = load("ml-100k", data)
    news = pl.read_parquet(data / "globo-first-week" / "clicks.parquet")
    news = segue.read_events(news.select(user="user_id", item="click_article_id", time="click_timestamp"))
    cold = films.events.table.filter(films.events.table["item"].map_elements(_is_learnt, pl.Boolean))
    known = beauty.events.table["user"].map_elements(lambda user: share_of(user, "similar") >= 0.2, pl.Boolean)
    return {
        "ml-100k-items": (hundred.events, hundred.items),
        "ml-latest-small": (films.events, None),
        "ml-latest-small-items": (films.events, films.items),
        "ml-latest-small-cold": (segue.Events(cold), films.items),
        "beauty-items": (segue.Events(beauty.events.table.filter(known)), beauty.items),
        "yoochoose": (load("yoochoose", data).events, None),
        "globo": (segue.split_by_time(news, test=0.1)[0], None),
    }


def _is_learnt(item: str) -> bool:
    return share_of(item, "cold") >= 0.1


# --- what counts as similar -----------------------------------------------------------------------------------


class Shared:
    """Gains by what items have in common: Jaccard's share, or the cosine of rare values.

    Args:
        values: of each row of the vocabulary.
        rare: weigh values by rarity.
        share: Jaccard's; else 1 for anything in common.
    """

    def __init__(self, values, *, rare=False, share=True):
        pairs = [(row, value) for row, each in enumerate(values) for value in set(each or ())]
        codes = {value: code for code, value in enumerate(dict.fromkeys(value for _, value in pairs))}
        places = ([row for row, _ in pairs], [codes[value] for _, value in pairs])
        self.table = sparse.csr_array((np.ones(len(pairs)), places), shape=(len(values), max(1, len(codes))))
        self.rare, self.share, self.count = rare, share, np.asarray(self.table.sum(axis=1)).ravel()
        if rare:
            weights = np.log1p(len(values) / np.maximum(np.asarray(self.table.sum(axis=0)).ravel(), 1))
            self.table = sparse.csr_array(self.table @ sparse.diags_array(weights))
            squares = np.asarray(self.table.multiply(self.table).sum(axis=1)).ravel()
            self.table = sparse.csr_array(sparse.diags_array(1 / np.sqrt(np.maximum(squares, 1e-9))) @ self.table)

    def of(self, row):
        """Return the gains of all rows for a row."""
        both = (self.table[[row]] @ self.table.T).toarray()[0]
        if not self.rare:
            both = both / np.maximum(self.count[row] + self.count - both, 1) if self.share else (both > 0) * 1.0
        both[row] = 0
        return both

    def rows(self):
        """Return the rows that something is known of."""
        return np.flatnonzero(self.count)


class Together:
    """Gains by how many lists hold both items."""

    def __init__(self, lists, rec):
        rows = [np.unique(rec.vocabulary.rows(items)) for items in lists]
        rows = [each[each > 0] for each in rows]
        ends = np.concatenate([[0], np.cumsum([len(each) for each in rows])])
        used = sparse.csr_array((np.ones(ends[-1]), np.concatenate(rows), ends), shape=(len(rows), rec.vocabulary.size))
        self.table = sparse.csr_array(used.T @ used)

    def of(self, row):
        """Return the gains of all rows for a row."""
        gains = self.table[[row]].toarray()[0]
        gains[row] = 0
        return gains

    def rows(self):
        """Return the rows that are in a list with another."""
        return np.flatnonzero(np.diff(self.table.indptr) > 1)


def judges(name, rec, data):
    """Return what counts as similar in a case."""
    ids = [None, *rec.vocabulary.texts]
    if name.startswith("ml-"):
        films = load(name[: len("ml-latest-small")] if "latest" in name else "ml-100k", data).items
        table = segue.data.features.catalogue.read_items(films)[0]
        genre = next(column for column in table.columns if column.partition(":")[0] in ("genres", "class"))
        titles, genres = (dict(zip(table["item"], table[column], strict=True)) for column in ("title", genre))
        split = [re.split(r"[| ]", genres.get(id) or "") for id in ids]
        found = {
            "series": Shared([[key] if (key := series(titles.get(id))) else [] for id in ids], share=False),
            "genres": Shared([[each for each in one if each and each[0] != "("] for one in split]),
        }
        if "latest" in name:
            tags = pl.read_csv(data / "ml-latest-small" / "tags.csv", schema_overrides={"movieId": pl.String})
            tags = tags.with_columns(pl.col("tag").str.to_lowercase()).filter(pl.col("tag") != "in netflix queue")
            given = dict(tags.group_by("movieId").agg("tag").iter_rows())
            found["tags"] = Shared([given.get(id) for id in ids], rare=True)
        lone = found["series"]
        lone.rows = lambda: np.array([row for row in np.flatnonzero(lone.count) if lone.of(row).any()])
        return found
    if name == "yoochoose":
        lines = gzip.decompress((data / "yoochoose1_64" / "test_sessions.txt.gz").read_bytes()).decode().splitlines()
        return {"sessions": Together([line.split() for line in lines], rec)}
    if name == "globo":
        clicks = pl.read_parquet(data / "globo-first-week" / "clicks.parquet")
        later = clicks.filter(pl.col("click_timestamp") * 1000 > rec.learnt_until)
        lists = later.group_by("session_id", maintain_order=True).agg(pl.col("click_article_id").cast(pl.String))
        return {"sessions": Together(lists["click_article_id"].to_list(), rec)}
    known = json.loads(gzip.decompress((data / "amazon-beauty-5core" / "Beauty_item2attributes.json.gz").read_bytes()))
    table = load("beauty", data).events.table
    held = table.filter(table["user"].map_elements(lambda user: share_of(user, "similar") < 0.2, pl.Boolean))
    lists = held.group_by("user", maintain_order=True).agg("item")["item"].to_list()
    return {"attributes": Shared([known.get(id) for id in ids]), "users": Together(lists, rec)}


# --- measuring ------------------------------------------------------------------------------------------------


def before(rec, item, k):
    """Return the list as it was made before: the score after the item less that of a new user, and the cosine."""
    row, unknown = rec.vocabulary.row(item), np.full(2, np.nan, np.float32)
    network, params, start = rec.network, rec.params, rec.new_user.memory
    read = network.step(params, start, np.array([row], np.int32), unknown[:1], rec.details(None))
    query = network.query(params, np.concatenate([read.output, start.output]), unknown)
    after, anyway, products = rec.fused.scores(np.concatenate([query, params.items[[row]]]))
    likeness = (products - params.bias) / np.maximum(rec.fused.lengths, 1e-9)
    scores = sum((each - each[1:].mean()) / max(each[1:].std(), 1e-9) for each in (after - anyway, likeness))
    scores[[0, row, *rec.unreachable]] = -np.inf
    return np.argsort(-scores, kind="stable")[:k]


def weighed(weights, mix=0.5):
    """Return a way to make lists with other weights."""

    def rows(rec, item, k):
        return rec.vocabulary.rows([line.item for line in similar(rec, item, k, mix, weights=weights)])

    return rows


WAYS = {
    "before": before,
    "co-occurrence alone": weighed(LikenessWeights(1, 1e-6, 0)),
    "vectors alone": weighed(LikenessWeights(0, 1, 0)),
    "attributes alone": weighed(LikenessWeights(0, 1e-6, 1)),
    "now": weighed(WEIGHTS),
}
GRID = [LikenessWeights(p, 1.0, a) for p, a in itertools.product((0.5, 1.0, 2.0), (0.5, 1.0, 2.0, 4.0))]


def measured(rec, judge, ways, half, most, least):
    """Return the mean NDCG@10 of each way over some items of a half, of rows from `least`, and how many items."""
    rows = [row for row in judge.rows().tolist() if row >= least]
    rows = [row for row in rows if (share_of(str(row), "half") < 0.5) == half]
    rows = np.random.default_rng(0).permutation(rows)[:most]
    discounts, found = 1 / np.log2(np.arange(2, 12)), {name: [] for name in ways}
    for row in rows.tolist():
        gains = judge.of(row)
        best = np.sort(gains)[::-1][:10] @ discounts
        for name, way in ways.items():
            listed = gains[way(rec, rec.vocabulary.id(row), 10)]
            found[name].append(float(listed @ discounts[: len(listed)] / best) if best else 0.0)
    return {name: round(float(np.mean(each)), 4) for name, each in found.items()} | {"items": len(rows)}


def main() -> None:
    """Train what is not there, measure, and write a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", help="names; all if not given")
    parser.add_argument("--only-kept", action="store_true", help="leave out cases whose model is not in the folder")
    parser.add_argument("--most", type=int, default=400, help="items of each half")
    parser.add_argument("--choose", action="store_true", help="print what other weights give on the other half")
    parser.add_argument("-o", type=Path)
    asked = parser.parse_args()
    result = {
        "date": time.strftime("%Y-%m-%d"), "weights": WEIGHTS._asdict(), "settings": SMALL, "load": os.getloadavg()[2],
        "cases": {},
    }  # fmt: skip
    for name, (events, items) in cases(asked.data).items():
        path = asked.models / f"{name}.segue"
        if (asked.cases and name not in asked.cases) or (asked.only_kept and not path.exists()):
            continue
        if not path.exists():
            segue.train(events, catalogue=items, config=SMALL, say=print).save(path)
        rec = segue.load(path)
        found, least = {}, rec.learnt_rows if name.endswith("cold") else 1
        for what, judge in judges(name, rec, asked.data).items():
            if asked.choose:
                print(
                    name, what, measured(rec, judge, {str(w): weighed(w) for w in GRID}, True, asked.most), flush=True
                )
                continue
            found[what] = measured(rec, judge, WAYS, False, asked.most, least)
            print(name, what, found[what], flush=True)
        result["cases"][name] = {
            "items": len(rec.vocabulary), "events": len(events), "epochs": len(rec.facts.get("curve", [])),
            "width": rec.network.width, "blend": rec.facts.get("blend"), "ndcg@10": found,
        }  # fmt: skip
    if asked.o:
        asked.o.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
