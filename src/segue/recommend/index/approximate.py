"""An index for large catalogues: rows in cells, each row with a code of 4 bits a number, in a file beside the model.

Needs the extra `index` (faiss).

The row with vector x and bias b is (x, b), a query q is (q, 1), their product is the score. k-means puts the rows into
cells. A code keeps the difference of a row to the centre of its cell, 4 bits for each number (product quantisation:
Jégou, Douze, Schmid 2011; scanned from registers: André, Kermarrec, Le Scouarnec 2015). A search scans the codes of the
best cells and scores the best rows of these exactly. A cell is ranked by the score that its best row may have: for n
rows at a mean distance of r from the centre c in d dimensions, q.c + |q| r sqrt(2 log(n) / d), the expected highest of
n normal draws.
(By q.c alone, twice to four times as many cells are needed: docs/results.md.)
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from segue.data.values.plain import json_of
from segue.errors import ArgumentError, ModelError
from segue.files import replacing
from segue.model.model import Model
from segue.recommend.index.codes import Codes, faiss_module
from segue.recommend.index.exact import QUERIES, BestRows, ExactIndex, Index, best_columns, check, pairs_of
from segue.shapes import Bools, Floats, Rows

#: Files of older formats held bytes that faiss reads without a check.
FORMAT = 3
#: Items from which an index is worth its building.
LARGE = 200_000
#: The target recall at `K`, for .98 on other queries than those of the tuning. The codes may miss half of the rest,
#: codes and cells together all of it.
WANTED, K = 0.985, 20
#: Candidates of a query: so many for each wanted row and so many more, times the first factor that is enough.
_EACH, _BESIDE, _TIMES = 2, 60, (1, 2, 4, 8)
#: The most candidates of a query; with more, scoring all rows is faster.
_MOST = 4096
#: From so many queries on a second thread is faster.
_MANY = 64
_QUERIES = 512


@dataclass(frozen=True)
class IndexFacts:
    """The facts of an index, stored in its file.

    Args:
        fingerprint: of the model.
        rows: of the catalogue that training made, row 0 included; later ones are searched exactly.
        width: of the vectors.
        size: of the codes, in bytes.
        digest: of the arrays in the file.
        cells: number of cells.
        probes: cells that a search scans where all rows are allowed.
        times: factor on the usual number of candidates.
        recall: the share of the exact `k` best that the index finds, over the queries below.
        k: of that recall.
        queries: of that recall, in words.
        seconds: the time of building.
        format: of this file.
    """

    fingerprint: str
    rows: int
    width: int
    size: int
    digest: str
    cells: int
    probes: int
    times: int
    recall: float
    k: int
    queries: str
    seconds: float
    format: int = FORMAT

    def check(self, rec: Model, coded: Codes) -> None:
        """Do nothing if these facts can be those of an index of a model with these codes.

        Raises:
            ArgumentError: a number is none that building an index gives, or the codes are of other rows.
        """
        coded.check(self.rows, self.width)
        looks = 1 <= self.probes <= self.cells == len(coded.centres) and self.times in _TIMES and self.k >= 1
        ours = self.rows == (rec.learnt_rows) and self.width == rec.network.width
        if not (looks and ours and 0 <= self.recall <= 1 and 0 <= self.seconds < np.inf):
            raise ArgumentError(f"index: expected the facts of an index of {rec.vocabulary.size:,} rows, came others.")

    def __str__(self) -> str:
        return (
            f"{self.rows - 1:,} items, recall@{self.k} {self.recall:.3f} against exact search on {self.queries}, "
            f"{self.size:,} bytes, built in {self.seconds:.0f} s"
        )


@dataclass(frozen=True, eq=False)
class ApproximateIndex(Index):
    """Finds candidates by their codes and scores these exactly; a list that stays short is filled from all rows.

    Args:
        coded: the rows from 1 to below `facts.rows`.
        exact: all rows; later rows are always searched exactly.
        facts: of the index.

    Cost: a search of a million rows of width 64 took .2 ms of processor time (docs/results.md).
    """

    coded: Codes
    exact: ExactIndex
    facts: IndexFacts

    @cached_property
    def codes(self) -> Any:
        """The index of faiss."""
        return self.coded.searcher()

    @cached_property
    def _centres(self) -> Floats:
        return np.asfortranarray(self.coded.centres)  # faster for products with few queries

    def search(
        self, queries: Floats, k: int, *, allowed: Bools | None = None, excluded: Sequence[Rows] | None = None
    ) -> BestRows:
        """Return the k best rows of each query, except rows that the codes miss; see `Index.search`."""
        check(self.exact.vectors, queries, k, allowed, excluded)
        blocks = [slice(begin, begin + QUERIES) for begin in range(0, len(queries), QUERIES)]
        best = [BestRows.nothing(0, k)]
        best += [self._search(queries[b], k, allowed, excluded and excluded[b]) for b in blocks]
        return BestRows(*(np.concatenate(parts) for parts in zip(*best, strict=True)))

    def over(self, vectors: Floats, bias: Floats, hidden: Rows) -> "ApproximateIndex":
        """Return an index of more rows; see `Index.over`."""
        return self._with(exact=self.exact.over(vectors, bias, hidden))

    def _with(self, **changed: Any) -> "ApproximateIndex":
        """Return the index with other fields and the same faiss object."""
        other = replace(self, **changed)
        vars(other)["codes"] = self.codes
        return other

    def _search(self, queries: Floats, k: int, allowed: Bools | None, excluded: Sequence[Rows] | None) -> BestRows:
        share = 1.0 if allowed is None else np.count_nonzero(allowed[1 : self.facts.rows]) / (self.facts.rows - 1)
        wanted = self._wanted(k, excluded)
        count = self.facts.times * (_EACH * wanted + _BESIDE)
        if count > min(_MOST, share * (self.facts.rows - 1)):
            return self.exact.search(queries, k, allowed=allowed, excluded=excluded)
        # A longer list, and a list of few allowed rows, needs more cells.
        probes = self.facts.probes * max(1.0, wanted / K) ** 0.5 / share
        rows = self._candidates(queries, count, min(self.facts.cells, int(np.ceil(probes))), allowed)
        best = self._rescored(queries, k, rows, allowed, excluded)
        short = np.flatnonzero(best.rows[:, -1] == 0)
        if len(short):
            left_out = [excluded[query] for query in short.tolist()] if excluded is not None else None
            exact = self.exact.search(queries[short], k, allowed=allowed, excluded=left_out)
            best.rows[short], best.scores[short] = exact
        return best

    def _wanted(self, k: int, excluded: Sequence[Rows] | None) -> int:
        """Return how many rows to find for a query, so that excluded rows do not shorten its list.

        Few items of a long history are among the best, so only a part of its length is added. Exact search fills the
        few lists that stay short.
        """
        left_out = max(map(len, excluded), default=0) if excluded is not None else 0
        return k + min(left_out, 4 * k + 64)

    def _rescored(
        self, queries: Floats, k: int, rows: Rows, allowed: Bools | None, excluded: Sequence[Rows] | None
    ) -> BestRows:
        """Return the best of candidates, int32[q, n] in order, and of later rows, by their exact scores."""
        size, exact = len(self.exact.vectors), self.exact
        scores = np.matmul(exact.vectors[rows], queries[:, :, None])[:, :, 0] + exact.bias[rows]
        good = rows > 0
        of_query, left_out = pairs_of(excluded)
        if len(left_out):
            good &= ~np.isin(np.arange(len(queries))[:, None] * size + rows, of_query * size + left_out)
        scores[~good] = -np.inf
        if size > self.facts.rows:
            tail = exact.within(queries, k, range(self.facts.rows, size), allowed=allowed, excluded=excluded)
            order = np.argsort(tail.rows, axis=1)
            rows = np.hstack([rows, np.take_along_axis(tail.rows, order, axis=1)])
            scores = np.hstack([scores, np.take_along_axis(tail.scores, order, axis=1)])
        return best_columns(rows, np.ascontiguousarray(scores, np.float32), k)

    def _candidates(self, queries: Floats, count: int, probes: int, allowed: Bools | None) -> Rows:
        """Return int32[q, count] in order: rows with the best codes in the best cells, row 0 where these are fewer."""
        faiss = faiss_module()
        extended = np.concatenate([queries, np.ones((len(queries), 1))], axis=1, dtype=np.float32)
        centred = extended @ self._centres.T
        worth = centred + np.linalg.norm(extended, axis=1, keepdims=True) * self.coded.reach
        chosen = np.argpartition(worth, -probes, axis=1)[:, -probes:]
        middles = np.take_along_axis(centred, chosen, axis=1)
        bits = None if allowed is None else np.packbits(allowed[: self.facts.rows], bitorder="little")
        only = None if bits is None else faiss.IDSelectorBitmap(self.facts.rows, faiss.swig_ptr(bits))
        rows, near = np.empty((len(extended), count), np.int64), np.empty((len(extended), count), np.float32)
        # The setting holds for this thread alone. A small batch ends before a second thread has started.
        faiss.omp_set_num_threads(1 if len(extended) < _MANY else (os.cpu_count() or 1))
        arrays = (extended, np.ascontiguousarray(chosen, np.int64), middles, near, rows)
        x, cell, middle, distance, label = map(faiss.swig_ptr, arrays)
        how = faiss.SearchParametersIVF(nprobe=probes, sel=only)
        self.codes.search_preassigned_c(len(extended), x, count, cell, middle, distance, label, False, how)
        return np.sort(np.maximum(rows, 0).astype(np.int32), axis=1)


def exact_index(rec: Model) -> ExactIndex:
    """Return the exact index of a recommender's items."""
    return ExactIndex(rec.params.items, rec.params.bias, rec.unreachable)


def index_path(model: str | Path) -> Path:
    """Return the path of the index of a model.

    Example:
        >>> index_path("shop/films.segue").name
        'films.segue.index'
    """
    return Path(model).with_name(Path(model).name + ".index")


def build_index(
    rec: Model,
    model: str | Path,
    *,
    queries: Floats | None = None,
    of: str = "",
    say: Callable[[str], None] | None = None,
    threads: int = 0,
) -> ApproximateIndex:
    """Build the index of a model, measure its recall, and store it beside the model.

    A search scans as many cells as it needs to find `WANTED` of the exact best; the facts hold the measured recall.

    Args:
        model: the path of the model.
        queries: float32[q, d] to measure with; None makes histories of random items, popular items more often.
        of: the queries in words.
        say: called with lines to show.
        threads: 0 takes all cores for a large catalogue, one core for a small one.

    Raises:
        ArgumentError: the extra is not installed, or there are too few items.
        ModelError: it cannot be written.

    Cost: O(items x sqrt(items) x width).
    """
    say = say or (lambda text: None)
    rows = rec.learnt_rows
    if rows - 1 <= K:
        raise ArgumentError(f"index: expected more than {K} items, came {rows - 1}. Exact search is fast enough.")
    if queries is None:
        queries, of = random_queries(rec), f"{_QUERIES} histories of random items"
    faiss, began = faiss_module(), time.perf_counter()
    # For a small catalogue threads wait for each other longer than they work.
    faiss.omp_set_num_threads(threads or (1 if rows < LARGE else os.cpu_count() or 1))
    say(f"{index_path(model)}: building an index of {rows - 1:,} items.")
    extended = extended_rows(rec.params.items[1:rows], rec.params.bias[1:rows])
    coded = Codes.of(extended)
    cells = len(coded.centres)
    facts = IndexFacts(rec.fingerprint, rows, rec.network.width, 0, "", cells, cells, 1, 0.0, K, of, 0.0)
    index = _measured(ApproximateIndex(coded, exact_index(rec), facts), queries)
    return _kept(index, index_path(model), time.perf_counter() - began)


def open_index(rec: Model, model: str | Path) -> tuple[Index | None, str]:
    """Return the index beside a model, and a sentence; None where no index fits.

    Without an index a recommender scores all items, which is always right. `model` is the path of the model.

    Example:
        >>> open_index(rec, "films.segue")  # doctest: +SKIP
        (None, 'films.segue.index: no index; all 3,706 items are scored for each list.')
    """
    path = index_path(model)
    every = f"all {rec.vocabulary.size - 1:,} items are scored for each list."
    again = f"Build it again: segue index {model}"
    if not path.exists():
        advice = f" Build one: segue index {model}" if rec.vocabulary.size > LARGE else ""
        return None, f"{path}: no index; {every}{advice}"
    try:
        with safe_open(path, "numpy") as file:
            known = json_of(file.metadata()["facts"])
            if known["format"] != FORMAT:
                return None, f"{path}: expected format {FORMAT}, it is of format {known['format']}; {every} {again}"
            facts = TypeAdapter(IndexFacts).validate_python(known)
            if facts.fingerprint != rec.fingerprint:
                return None, f"{path}: it is of another model; {every} {again}"
            coded = Codes(*(file.get_tensor(name) for name in Codes._fields))
            facts.check(rec, coded)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError):
        return None, f"{path}: it is damaged, or of an older version of Segue; {every} {again}"
    if coded.digest != facts.digest:
        return None, f"{path}: it is damaged; {every} {again}"
    index = ApproximateIndex(coded, exact_index(rec), facts)
    try:
        _ = index.codes
    except (ArgumentError, RuntimeError) as error:
        return None, f"{path}: it cannot be opened ({error}); {every}"
    return index, f"{path}: {facts}."


def random_queries(rec: Model, count: int = _QUERIES, seed: int = 0) -> Floats:
    """Return float32[q, d]: the queries after random histories of 1 to 20 items, popular items more often."""
    rng = np.random.default_rng(seed)
    rows = rec.learnt_rows
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


def queries_of(rec: Model, outputs: Floats) -> Floats:
    """Return the queries of states, evenly spread over them, the time of the request unknown."""
    places = np.unique(np.linspace(0, len(outputs) - 1, min(len(outputs), _QUERIES)).astype(np.int64))
    unknown = np.full(len(places), np.nan, np.float32)
    return np.asarray(rec.network.query(rec.params, outputs[places], unknown), np.float32)


def extended_rows(vectors: Floats, bias: Floats) -> Floats:
    """Return float32[V, d + 1]: vector and bias.

    Example:
        >>> extended_rows(np.float32([[3], [0]]), np.float32([4, 0])).tolist()
        [[3.0, 4.0], [0.0, 0.0]]
    """
    return np.concatenate([vectors, bias[:, None]], axis=1, dtype=np.float32)


def recall_of(index: Index, exact: BestRows, queries: Floats) -> float:
    """Return the share of the exact best rows that an index finds."""
    best = index.search(queries, exact.rows.shape[1]).rows
    shares = [np.isin(a[a > 0], b).mean() for a, b in zip(exact.rows, best, strict=True)]
    return float(np.mean(shares))


def _measured(index: ApproximateIndex, queries: Floats) -> ApproximateIndex:
    """Return the index with the fewest candidates and cells that reach the target recall."""
    learnt = ExactIndex(index.exact.vectors[: index.facts.rows], index.exact.bias[: index.facts.rows])
    best, facts = learnt.search(queries, K), index.facts

    def tried(times: int, probes: int) -> IndexFacts:
        trial = replace(facts, times=times, probes=probes)
        return replace(trial, recall=recall_of(index._with(exact=learnt, facts=trial), best, queries))

    for times in _TIMES:
        facts = tried(times, facts.cells)
        if facts.recall >= (1 + WANTED) / 2:
            break
    few, enough = 0, facts.cells
    while enough - few > max(1, enough // 16) and facts.recall >= WANTED:
        middle = (few + enough + 1) // 2
        trial = tried(facts.times, middle)
        few, enough, facts = (few, middle, trial) if trial.recall >= WANTED else (middle, enough, facts)
    return index._with(facts=facts)


def _kept(index: ApproximateIndex, path: Path, seconds: float) -> ApproximateIndex:
    """Write codes and facts as one file, atomically."""
    coded = index.coded
    facts = replace(index.facts, size=coded.size, digest=coded.digest, seconds=round(seconds, 1))
    try:
        with replacing(path) as part:
            arrays = {name: np.ascontiguousarray(array) for name, array in coded._asdict().items()}
            save_file(arrays, part, {"facts": json.dumps(asdict(facts))})
        path.with_name(path.name + ".json").unlink(missing_ok=True)  # facts of format 1
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be saved: {error}. Make room, or give another folder.") from error
    return index._with(facts=facts)
