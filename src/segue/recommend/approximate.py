"""An index for large catalogues: a graph of near neighbours (HNSW) in a file beside the bundle.

Knows: how inner products become a matter of nearness, when the graph cannot be asked, how good it was when
it was built, whether it is of this bundle. Needs the extra `index` (usearch).
Does not know: users, stores, HTTP.

The row with vector x and bias b lies in the graph as (x, b, sqrt(M - x.x - b.b)), with M such that no root
is of less than 0; a query q as (q, 1, 0). The inner product is the score, and as all rows are equally long,
a high score is the same as a small distance, which the graph is made for. (Without the last number the recall
at 20 of 200,000 clustered vectors was .47 in place of .98: docs/results.md.)
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from segue.errors import ArgumentError, BundleError
from segue.files import replacing
from segue.recommend.index import ExactIndex, Found, Index, best_of, check, pairs_of
from segue.recommend.recommender import Recommender
from segue.shapes import Bools, Floats, Rows

FORMAT = 1
#: Items from which a graph is worth its building.
LARGE = 200_000
#: The recall at `K` that is aimed at, and how far the graph may be searched for it.
WANTED, K, EXPANSIONS = 0.98, 20, (64, 128, 256, 512, 1024, 2048)
#: Rows fetched from the graph for one query, at most; from there on scoring all rows is the better way.
_FETCHED = 2048
#: Edges of a row in the graph, and how far is looked for them.
_EDGES, _LOOKED_AT = 16, 128
_QUERIES = 512


@dataclass(frozen=True)
class IndexFacts:
    """What is known of a graph, kept in a file beside it.

    Args:
        fingerprint: of the bundle.
        rows: of the catalogue that training made, row 0 included; later ones are searched exactly.
        width: of the vectors.
        size: of the graph's file, in bytes.
        expansion: candidates that a search holds.
        recall: the share of the exact `k` best that the graph found, over the queries below.
        k: of that recall.
        queries: what was asked, in words.
        seconds: that building took.
        format: of this file.
    """

    fingerprint: str
    rows: int
    width: int
    size: int
    expansion: int
    recall: float
    k: int
    queries: str
    seconds: float
    format: int = FORMAT

    def __str__(self) -> str:
        return (
            f"{self.rows - 1:,} items, recall@{self.k} {self.recall:.3f} against exact search on {self.queries}, "
            f"{self.size:,} bytes, built in {self.seconds:.0f} s"
        )


@dataclass(frozen=True, eq=False)
class ApproximateIndex(Index):
    """Asks a graph for candidates and scores these exactly; where the graph cannot fill a list, all rows are scored.

    Args:
        graph: over the rows from 1 to below `facts.rows`.
        exact: over all rows; those that came later are always searched by it.
        facts: of the graph.
        lock: the graph answers one search at a time, itself in several threads where there are many queries.
    """

    graph: Any
    exact: ExactIndex
    facts: IndexFacts
    lock: threading.Lock = field(default_factory=threading.Lock)

    def search(
        self, queries: Floats, k: int, *, allowed: Bools | None = None, excluded: Sequence[Rows] | None = None
    ) -> Found:
        """Return the k best rows of each query, but for those the graph misses; see `Index.search`."""
        check(self.exact.vectors, queries, k, allowed, excluded)
        fetched = self._fetched(len(queries), k, allowed, excluded)
        graphed = np.flatnonzero(fetched <= _FETCHED)
        some = [excluded[query] for query in graphed.tolist()] if excluded is not None else None
        found = Found(np.zeros((len(queries), k), np.int32), np.full((len(queries), k), -np.inf, np.float32))
        if len(graphed):
            part = self._by_graph(queries[graphed], k, int(fetched[graphed].max()), allowed, some)
            found.rows[graphed], found.scores[graphed] = part
        short = np.flatnonzero(found.rows[:, -1] == 0)
        if len(short):
            some = [excluded[query] for query in short.tolist()] if excluded is not None else None
            part = self.exact.search(queries[short], k, allowed=allowed, excluded=some)
            found.rows[short], found.scores[short] = part
        return found

    def over(self, vectors: Floats, bias: Floats, hidden: Rows) -> "ApproximateIndex":
        """Return an index of more rows; see `Index.over`."""
        return replace(self, exact=self.exact.over(vectors, bias, hidden))

    def _fetched(self, queries: int, k: int, allowed: Bools | None, excluded: Sequence[Rows] | None) -> Rows:
        """Return how many candidates each query needs, so that those left out do not shorten its list.

        Of a long history few items are among the best: a part of it is fetched, and exact search is there
        for the few lists that come out short.
        """
        share = 1.0 if allowed is None else float(allowed[1 : self.facts.rows].mean())
        left_out = np.array([len(rows) for rows in excluded] if excluded is not None else [0] * queries)
        wanted = (k + np.minimum(left_out, 4 * k + 64)) / max(share, 1e-9)
        needed: Rows = np.minimum(np.ceil(wanted * (1.0 if share == 1 else 1.5)), 2**30).astype(np.int32)
        return needed

    def _by_graph(
        self, queries: Floats, k: int, fetched: int, allowed: Bools | None, excluded: Sequence[Rows] | None
    ) -> Found:
        count = min(fetched, self.facts.rows - 1)
        extended = np.concatenate([queries, np.ones((len(queries), 1)), np.zeros((len(queries), 1))], axis=1)
        with self.lock:
            matches = self.graph.search(extended.astype(np.float32), count, threads=1 if len(queries) < 8 else 0)
        rows = matches.keys.reshape(len(queries), -1).astype(np.int64)
        # Of one query the matches come without counts, and cut to length.
        good = np.arange(rows.shape[1]) < np.reshape(getattr(matches, "counts", rows.shape[1]), (-1, 1))
        rows = np.where(good, rows, 0)
        good &= rows > 0
        if allowed is not None:
            good &= allowed[rows]
        of_query, left_out = pairs_of(excluded)
        size = len(self.exact.vectors)
        good &= ~np.isin(np.arange(len(queries))[:, None] * size + rows, of_query * size + left_out)
        scores = np.einsum("qnd,qd->qn", self.exact.vectors[rows], queries) + self.exact.bias[rows]
        query, column = np.nonzero(good)
        parts = [(query, rows[query, column].astype(np.int32), scores[query, column])]
        later = range(self.facts.rows, size)
        if later:
            tail = self.exact.within(queries, k, later, allowed=allowed, excluded=excluded)
            query, column = np.nonzero(tail.rows)
            parts.append((query, tail.rows[query, column], tail.scores[query, column]))
        together = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return best_of(*together, queries=len(queries), k=k)


def exact_index(rec: Recommender) -> ExactIndex:
    """Return the exact index of a recommender's items."""
    return ExactIndex(rec.params.items, rec.params.bias, rec.unreachable)


def index_path(bundle: str | Path) -> Path:
    """Return where the index of a bundle lies.

    Example:
        >>> index_path("shop/films.segue").name
        'films.segue.index'
    """
    return Path(bundle).with_name(Path(bundle).name + ".index")


def build_index(
    rec: Recommender,
    bundle: str | Path,
    *,
    queries: Floats | None = None,
    of: str = "",
    say: Callable[[str], None] | None = None,
    threads: int = 0,
) -> ApproximateIndex:
    """Build the graph of a bundle, measure it, and keep it beside the bundle.

    It is searched as far as `WANTED` of the exact best are found, or `EXPANSIONS` end; what was reached is
    kept in its facts.

    Args:
        rec: what is in the bundle.
        bundle: its path.
        queries: float32[q, d] to measure with; None makes histories of random items, the popular more often.
        of: what the queries are, in words.
        say: called with lines to show.
        threads: 0 takes all cores.

    Raises:
        ArgumentError: the extra is not installed, or there are too few items.
        BundleError: it cannot be written.

    Cost: O(items log items); a million of width 64 took 15 minutes on two busy cores.
    """
    say = say or (lambda text: None)
    rows = rec.learnt or rec.vocabulary.size
    if rows - 1 <= K:
        raise ArgumentError(f"index: expected more than {K} items, came {rows - 1}. Exact search is fast enough.")
    if queries is None:
        queries, of = random_queries(rec), f"{_QUERIES} histories of random items"
    began = time.perf_counter()
    extended = extended_rows(rec.params.items[1:rows], rec.params.bias[1:rows])
    graph = _usearch().Index(
        ndim=extended.shape[1], metric="ip", dtype="f16", connectivity=_EDGES, expansion_add=_LOOKED_AT
    )
    say(f"{index_path(bundle)}: building a graph of {rows - 1:,} items.")
    graph.add(np.arange(1, rows, dtype=np.uint64), extended, threads=threads)
    facts = IndexFacts(rec.fingerprint, rows, rec.network.width, 0, 0, 0.0, K, of, 0.0)
    index = _measured(ApproximateIndex(graph, exact_index(rec), facts), queries)
    seconds = time.perf_counter() - began
    return _kept(index, index_path(bundle), seconds)


def open_index(rec: Recommender, bundle: str | Path) -> tuple[Index | None, str]:
    """Return the index beside a bundle, mapped into memory, and a sentence; None where there is none that fits.

    Without an index a recommender scores all items, which is always right.

    Args:
        rec: what is in the bundle.
        bundle: its path.

    Example:
        >>> open_index(rec, "films.segue")  # doctest: +SKIP
        (None, 'films.segue.index: no index; all 3,706 items are scored for each list.')
    """
    path = index_path(bundle)
    every = f"all {rec.vocabulary.size - 1:,} items are scored for each list."
    if not path.exists():
        advice = f" Build one: segue index {bundle}" if rec.vocabulary.size > LARGE else ""
        return None, f"{path}: no index; {every}{advice}"
    try:
        facts = IndexFacts(**json.loads(_facts_path(path).read_text()))
    except (OSError, ValueError, TypeError):
        return None, f"{path}: what belongs to it, {_facts_path(path).name}, is missing or damaged; {every}"
    if facts.format > FORMAT or facts.fingerprint != rec.fingerprint or facts.size != path.stat().st_size:
        return None, f"{path}: it is of another bundle; {every} Build it anew: segue index {bundle}"
    try:
        graph = _usearch().Index.restore(path, view=True)
    except (ArgumentError, RuntimeError, ValueError) as error:
        return None, f"{path}: it cannot be opened ({error}); {every}"
    if graph is None or len(graph) != facts.rows - 1 or graph.ndim != facts.width + 2:
        return None, f"{path}: it is damaged; {every} Build it anew: segue index {bundle}"
    graph.expansion_search = facts.expansion
    return ApproximateIndex(graph, exact_index(rec), facts), f"{path}: {facts}."


def random_queries(rec: Recommender, count: int = _QUERIES, seed: int = 0) -> Floats:
    """Return float32[q, d]: what is looked for after random histories of 1 to 20 items, the popular more often."""
    rng = np.random.default_rng(seed)
    rows = rec.learnt or rec.vocabulary.size
    weights = np.exp(np.clip(rec.params.bias[1:rows] - rec.params.bias[1:rows].max(), -30, 0)).astype(np.float64)
    drawn = rng.choice(np.arange(1, rows), (20, count), p=weights / weights.sum()).astype(np.int32)
    lengths = rng.integers(1, 21, count)
    memory = rec.network.start(rec.params, count)
    unknown = np.full(count, np.nan, np.float32)
    outputs = np.zeros((count, rec.network.read_width), np.float32)
    for step, items in enumerate(drawn, start=1):
        memory = rec.network.step(rec.params, memory, items, unknown)
        outputs = np.where((lengths == step)[:, None], memory.output, outputs)
    return np.asarray(rec.network.query(rec.params, outputs, unknown), np.float32)


def queries_of(rec: Recommender, outputs: Floats) -> Floats:
    """Return what is looked for in some states, evenly spread over them, the time of the question unknown."""
    some = np.unique(np.linspace(0, len(outputs) - 1, min(len(outputs), _QUERIES)).astype(np.int64))
    unknown = np.full(len(some), np.nan, np.float32)
    return np.asarray(rec.network.query(rec.params, outputs[some], unknown), np.float32)


def extended_rows(vectors: Floats, bias: Floats) -> Floats:
    """Return float32[V, d + 2]: vector, bias, and what makes all rows equally long.

    Example:
        >>> extended_rows(np.float32([[3], [0]]), np.float32([4, 0])).tolist()
        [[3.0, 4.0, 0.0], [0.0, 0.0, 5.0]]
    """
    rows = np.concatenate([vectors, bias[:, None]], axis=1)
    lengths = np.einsum("vd,vd->v", rows, rows)
    extended: Floats = np.concatenate([rows, np.sqrt(lengths.max() - lengths)[:, None]], axis=1).astype(np.float32)
    return extended


def recall_of(index: Index, exact: Found, queries: Floats) -> float:
    """Return the share of the exact best rows that an index finds."""
    found = index.search(queries, exact.rows.shape[1]).rows
    shares = [np.isin(a[a > 0], b).mean() for a, b in zip(exact.rows, found, strict=True)]
    return float(np.mean(shares))


def _measured(index: ApproximateIndex, queries: Floats) -> ApproximateIndex:
    """Return the index with the least expansion that finds what is wanted, and its recall."""
    learnt = ExactIndex(index.exact.vectors[: index.facts.rows], index.exact.bias[: index.facts.rows])
    best, expansion, recall = learnt.search(queries, K), 0, 0.0
    asked = replace(index, exact=learnt)
    for expansion in EXPANSIONS:
        index.graph.expansion_search = expansion
        recall = recall_of(asked, best, queries)
        if recall >= WANTED:
            break
    return replace(index, facts=replace(index.facts, expansion=expansion, recall=recall))


def _kept(index: ApproximateIndex, path: Path, seconds: float) -> ApproximateIndex:
    """Write graph and facts; the facts come last, and name the size of the graph they are of."""
    try:
        with replacing(path) as part:
            index.graph.save(part)
            facts = replace(index.facts, size=part.stat().st_size, seconds=round(seconds, 1))
        with replacing(_facts_path(path)) as part:
            part.write_text(json.dumps(asdict(facts), indent=1) + "\n")
    except (OSError, RuntimeError) as error:
        raise BundleError(f"{path}: cannot be saved: {error}. Make room, or give another folder.") from error
    return replace(index, facts=facts)


def _facts_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _usearch() -> Any:
    try:
        import usearch.index
    except ImportError:
        raise ArgumentError(
            'index: expected the extra for large catalogues, it is not installed. Run: pip install "segue[index]"'
        ) from None
    return usearch.index
