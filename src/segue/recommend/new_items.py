"""A recommender that knows more items than its training, by their attributes; the weights stay as they are."""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import polars as pl
from scipy import sparse

from segue.data.features.catalogue import Catalogue, ChangedCatalogue, read_items
from segue.data.features.column_types import cast_table
from segue.data.features.feature_encoders import as_float16
from segue.data.features.table_encoder import TableEncoder
from segue.data.log.columns import plain_name
from segue.data.log.sources import Reading
from segue.data.sequences.transition_counts import highest
from segue.data.sequences.vocabulary import OpenVocabulary
from segue.data.values.ids import likely_difference
from segue.errors import ArgumentError, ColumnError, DataError, listed
from segue.kernels.serving_loops import top_k
from segue.metrics.metrics import ndcg
from segue.metrics.ranks import target_ranks
from segue.model.backend import map_tree
from segue.model.transitions import TransitionCounts
from segue.recommend.scorer import Scorer
from segue.shapes import Floats, Rows

#: A new item may follow at most so many similar known items.
ALIKE = 50
#: At most so many lines are appended to a catalogue one by one.
FEW = 4096
#: The largest loss of NDCG@10 on validation by items without events, as a share; the most scores to measure it.
COST, _SCORED = 0.02, 2**30
#: Cosines in memory at one time (64 MB), and in all.
_COSINES, _COMPARED = 2**24, 2**29
#: The most pairs of new items in one direction.
_PAIRS = 4_000_000
#: Lines encoded at one time; tables of vectors in memory while items are added.
_LINES, _TABLES = 1 << 14, 4

if TYPE_CHECKING:
    from segue.training.validation import Answers

#: A scorer or what is made of it, such as a recommender.
S = TypeVar("S", bound=Scorer)


def with_items(rec: S, table: object) -> S:
    """Return a recommender that also knows the items of a table; see `Recommender.add_items`."""
    encoding, _ = _described(rec)
    new, _, notes = new_items(rec, table)
    return _with_lines(rec, new, _attributes(encoding, new), notes) if len(new) else rec


def with_catalogue(
    rec: S, table: pl.DataFrame, source: str, answers: "Answers | None", *, room: float = np.inf
) -> tuple[S, str]:
    """Return a recommender that also knows the items of its catalogue that no event names, and a sentence on these.

    Their attributes rank them, as in `Recommender.add_items`. Items without events are less likely than similar items
    with events. So their biases are lowered together until the lists of validation lose at most `COST` of NDCG@10.
    An item without a learnt attribute is left out: there is nothing to rank it by.

    Args:
        rec: trained with that catalogue.
        table: all lines of the catalogue, see `segue.data.features.catalogue.read_items`.
        source: the name of the table in the sentence.
        answers: of the network on validation; None where there are none.
        room: free memory in GiB; if the items do not fit, all of them are left out.

    Cost: as of `Recommender.add_items`, and at most `_SCORED` scores.
    """
    new = table.filter(~pl.col("item").is_in(rec.vocabulary.ids.implode()))
    if not len(new):
        return rec, ""
    these = f"{source}: {len(new):,} item{'s' * (len(new) != 1)} without an event"
    if not rec.config.train.items_without_events:
        return rec, f"{these} left out (train.items_without_events is false)."
    if rec.encoders.items is None or rec.catalogue is None:
        return rec, f"{these} left out: no attributes of items are read, so there is nothing to rank them by."
    need = _TABLES * 4.0 * len(new) * rec.network.width / 2**30
    if need > room:
        return rec, f"{these} left out: about {need:.1f} GiB are needed for them, {room:.1f} are free."
    attributes = _attributes(rec.encoders.items, new)
    says = np.diff(attributes.indptr) > 0
    silent = int((~says).sum())
    if silent == len(new):
        return rec, f"{these} left out: nothing that was learnt is known of them."
    more, lower = _lowered(_with_lines(rec, new.filter(says), attributes[says], rec.catalogue.notes), answers)
    share = (len(new) - silent) / len(more.vocabulary)
    said = [f"{these}: {len(new) - silent:,} ranked by their attributes, {share:.1%} of all {len(more.vocabulary):,}"]
    if lower:
        said.append(f"{lower:.2g} lower, so that the first 10 lose no more than {COST:.0%} NDCG on validation")
    if silent:
        said.append(f"{silent:,} left out, as nothing that was learnt is known of them")
    return more, "; ".join(said) + "."


def _lowered(more: S, answers: "Answers | None") -> tuple[S, float]:
    """Return a recommender whose added items are low enough for validation, and by how much they were lowered."""
    if answers is None:
        return more, 0.0
    size, learnt = more.vocabulary.size, more.learnt
    few = answers.subset(max(50, _SCORED // size))
    ranks, above, step = [], [], max(1, 4 * _COSINES // size)
    for begin in range(0, len(few.targets), step):
        block = few.of(slice(begin, begin + step))
        network = block.queries @ more.params.items.T + more.params.bias
        scores = block.hidden(more.finished(network, block.recent, None))
        goals = scores[np.arange(len(scores)), block.targets]
        ranks.append(target_ranks(scores[:, :learnt], block.targets))
        above.append(top_k(np.ascontiguousarray(scores[:, learnt:]), 10).scores - goals[:, None])
    rank, gaps = np.concatenate(ranks), np.concatenate(above)

    def left(lower: float) -> float:
        return float(ndcg(rank + (gaps >= lower).sum(axis=1), k=10).mean())

    low, high = 0.0, max(float(gaps.max()), 0.0) + 1e-3
    wanted = (1 - COST) * float(ndcg(rank, k=10).mean())
    if left(low) >= wanted:
        return more, 0.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if left(middle) >= wanted else (middle, high)
    high += 1e-3
    bias = more.params.bias.copy()
    bias[learnt:] -= np.float32(high / (1.0 if more.counts is None else float(more.counts.scale)))
    return replace(more, params=more.params._replace(bias=bias)), high


def _attributes(encoding: TableEncoder, lines: pl.DataFrame) -> sparse.csr_array:
    """Return sparse float32[line, m], the encoded attributes, computed in blocks; most numbers are 0."""
    blocks = [
        sparse.csr_array(as_float16(encoding.encode(lines[at : at + _LINES]))) for at in range(0, len(lines), _LINES)
    ]
    return sparse.csr_array(sparse.vstack(blocks))


def _with_lines(rec: S, new: pl.DataFrame, attributes: sparse.csr_array, notes: tuple[str, ...]) -> S:
    """Return a recommender that also knows new lines with attributes [line, m]."""
    assert rec.catalogue is not None
    weights = rec.params.attributes
    params = rec.params._replace(
        items=np.concatenate([rec.params.items, attributes @ weights.vector]),
        bias=np.concatenate([rec.params.bias, attributes @ weights.bias]),
    )
    if params.rating:  # their vectors alone predict their ratings
        none = np.zeros(len(new), np.float32)
        tables = map_tree(lambda table: np.concatenate([table, none]), params.rating.tables)
        params = params._replace(rating=params.rating._replace(tables=tables))
    more = replace(
        rec,
        params=params,
        network=replace(rec.network, items=len(params.items)),
        vocabulary=rec.vocabulary.more(new["item"]),
        catalogue=_longer(rec.catalogue, new, notes),
        learnt=rec.learnt or rec.vocabulary.size,
        counts=None if rec.counts is None else grown(rec.counts, params.items),
    )
    if rec.index is not None:
        more = replace(more, index=rec.index.over(params.items, params.bias, more.unreachable))
    vars(more)["fused"] = rec.fused.more(more.network, params)
    return more


def with_free_rows(rec: S, room: int) -> S:
    """Return a recommender with rows at its end for items that it meets later; until then no list holds them.

    Cost: O(items x width): the table of vectors is copied.
    """
    free = np.zeros(room, np.float32)
    params = rec.params._replace(
        items=np.concatenate([rec.params.items, np.zeros((room, rec.params.items.shape[1]), np.float32)]),
        bias=np.concatenate([rec.params.bias, free]),
    )
    if params.rating:
        tables = map_tree(lambda table: np.concatenate([table, free]), params.rating.tables)
        params = params._replace(rating=params.rating._replace(tables=tables))
    blank = pl.DataFrame({"item": [""] * room})
    more = replace(
        rec,
        params=params,
        network=replace(rec.network, items=len(params.items)),
        vocabulary=OpenVocabulary(rec.vocabulary.ids, room),
        catalogue=None if rec.catalogue is None else _longer(rec.catalogue, blank, rec.catalogue.notes),
        learnt=rec.learnt or rec.vocabulary.size,
    )
    if rec.index is not None:
        more = replace(more, index=rec.index.over(params.items, params.bias, more.unreachable))
    vars(more)["fused"] = rec.fused.more(more.network, params)
    return more


def _longer(known: Catalogue, new: pl.DataFrame, notes: tuple[str, ...]) -> Catalogue:
    """Return a catalogue with more lines at the end; few lines share the table, many lines make a new one."""
    if len(new) + (len(known.lines) if isinstance(known, ChangedCatalogue) else 0) > FEW:
        lines = _joined(known.table, new)
        return Catalogue(lines.select(known.table.columns), notes)
    nothing = dict.fromkeys(known.schema)
    numbered = enumerate(new.iter_rows(named=True), start=known.height + 1)
    longer = known.changed({row: {**nothing, **line} for row, line in numbered})
    vars(longer)["notes"] = notes
    return longer


class NewItems(NamedTuple):
    """Items to add.

    Args:
        lines: of the catalogue, one for each item.
        unread: columns that the catalogue does not have.
        notes: sentences about what was left out.
    """

    lines: pl.DataFrame
    unread: list[str]
    notes: tuple[str, ...]


def new_items(rec: S, table: object) -> NewItems:
    """Return those items of a table that are not known yet.

    Raises:
        ColumnError: the table has no column of ids, or an id stands twice.
        ArgumentError: this model was trained without attributes of items, or a value is of another kind than was
            learnt; the message names column, kind, value and item.
    """
    encoding, _ = _described(rec)
    kept = rec.facts.get("reading", {})
    reading, like = Reading(missing=tuple(kept.get("missing", ()))), kept.get("columns", {}).get("item")
    named, name, notes = read_items(table, reading=reading, like=like)
    named = _as_named(named, encoding.slices)
    _check_ids(named["item"], rec.vocabulary.ids, name)
    new = named.filter([item not in rec.vocabulary for item in named["item"]])
    columns = rec.columns
    lines = cast_table(new, columns, name)
    unread = [column for column in new.columns if column not in {"item", *(each.name for each in columns.values())}]
    complaints = encoding.warnings(lines) if len(lines) else []
    if unread:
        complaints = [*complaints, f"expected attributes that were learnt, left out {listed(unread)}."]
    return NewItems(lines, unread, (*notes, *(f"{name}: {complaint}" for complaint in complaints)))


def _described(rec: S) -> tuple[TableEncoder, Catalogue]:
    if rec.encoders.items is None or rec.catalogue is None:
        raise ArgumentError(
            "add_items: expected a model that was trained with attributes of items, came one of ids alone. "
            "Train with a table of items (--items), or train again once the new items have events."
        )
    return rec.encoders.items, rec.catalogue


def _check_ids(ids: pl.Series, known: pl.Series, source: str) -> None:
    """Do nothing if a table has known ids, or if its ids are not known ids in another spelling."""
    if ids.is_in(known.implode()).any():
        return
    difference = likely_difference(ids, known, sure=True)
    if difference is not None and difference.alike >= len(ids) / 2:
        raise DataError(
            f"{source}: expected ids written as the model has them, came {difference.table} for {difference.log}: "
            f"{difference.alike:,} of {len(ids):,} items would be known twice. Write their ids as the model does."
        )


def grown(counts: TransitionCounts, items: Floats) -> TransitionCounts:
    """Return counts of more items: a new one follows, and is followed by, what the known item most like it is.

    It also follows the known items like it, as often as their most frequent successor times the cosine.

    Args:
        counts: of the first rows of `items`.
        items: float32[V, d], the vectors of all items.

    With very many new items, only the most frequent known items are compared, and fewer pairs are taken.

    Cost: O(pairs + new items x known items x d), at most `_COMPARED` cosines and `_PAIRS` further pairs each way.
    """
    pairs, alike = counts.pairs, _most_alike(items, len(counts.popularity))
    nearest = np.asarray(alike.argmax(axis=1)).ravel()
    strongest = pairs.max(axis=1).toarray().ravel()
    before = sparse.csr_array(_at_most(sparse.csr_array(pairs.T), nearest)[nearest].T)
    columns = sparse.csr_array(before + (alike @ sparse.diags_array(strongest)).T)
    after = [_at_most(part, nearest)[nearest] for part in (pairs, columns)]
    both = sparse.vstack([sparse.hstack([pairs, columns]), sparse.hstack(after)]).tocsr()
    return replace(
        counts,
        offsets=both.indptr.astype(np.int64),
        rows=both.indices.astype(np.int32),
        shares=both.data.astype(np.float32),
        popularity=np.concatenate([counts.popularity, counts.popularity[nearest]]),
        added=np.int64(counts.added + len(nearest)),
    )


def _at_most(pairs: sparse.csr_array, rows: Rows) -> sparse.csr_array:
    """Return a matrix whose given rows, with repetition, hold at most `_PAIRS` pairs."""
    if np.diff(pairs.indptr)[rows].sum() <= _PAIRS:
        return pairs
    return highest(pairs.copy(), max(1, _PAIRS // len(rows)))


def _most_alike(items: Floats, known: int) -> sparse.csr_array:
    """Return sparse float32[new, known]: the highest cosines above 0 of each new item with known items."""
    new = max(1, len(items) - known)
    unit = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    frequent = unit[: max(2, min(known, _COMPARED // new))]
    step, count = max(1, _COSINES // len(frequent)), max(1, min(ALIKE, _PAIRS // new))
    blocks = []
    for at in range(known, len(unit), step):
        cosines = np.maximum(unit[at : at + step] @ frequent.T, 0)
        cosines[:, 0] = 0
        if cosines.shape[1] > count:
            cosines[cosines < np.partition(cosines, -count, axis=1)[:, [-count]]] = 0
        blocks.append(sparse.csr_array(cosines))
    alike = sparse.csr_array(sparse.vstack(blocks))
    alike.resize(alike.shape[0], known)
    return alike


def _joined(known: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return the lines of a catalogue and new lines, in types that hold both.

    Raises:
        ColumnError: no type holds the values of a column in both.
    """
    try:
        return pl.concat([known, new], how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise ColumnError(
            "add_items: expected columns of the types that they had in training, Polars says: "
            f"{str(error).partition(chr(10))[0]}. Convert or drop the column."
        ) from None


def _as_named(table: pl.DataFrame, learnt: Collection[str]) -> pl.DataFrame:
    """Return a table with the column names of the training, whichever side has RecBole's `:type`.

    Example:
        >>> _as_named(pl.DataFrame({"item": ["a"], "year": [1995]}), ["year:token"]).columns
        ['item', 'year:token']
    """
    free = {plain_name(column): column for column in table.columns if column not in learnt}
    absent = {plain_name(name): name for name in learnt if name not in table.columns}
    return table.rename({free[plain]: name for plain, name in absent.items() if plain in free})
