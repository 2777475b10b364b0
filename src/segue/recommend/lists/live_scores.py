"""Scores that follow the trends: the ranker of a model orders the candidates of each request anew.

The candidates are the best items by the model, the likeliest followers of the user's last items,
and what is popular now, whether the model knows them or not. Together they keep the probability
that the model gave to those of them that it knows; the scores of all other items stay.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from segue.data.sequences.sequences import Sequences
from segue.data.sequences.vocabulary import OpenVocabulary
from segue.errors import ArgumentError
from segue.kernels.serving_loops import TopK, log_sums, top_k
from segue.kernels.trend_loops import LAST, Asked, TrendLoops
from segue.model.model import Model
from segue.model.transitions import RECENT
from segue.recommend.new_items import with_free_rows
from segue.recommend.scorer import Scorer
from segue.recommend.state import State, gaps_seconds
from segue.shapes import Bools, Floats, Rows, Times
from segue.trends.live_items import LiveItems
from segue.trends.ranker import UNKNOWN, TrendRanker, inputs_of, item_key
from segue.trends.trends import Trends

S = TypeVar("S", bound=Scorer)
#: Best items of the model among the candidates.
BEST = 40
#: Free rows for unknown items, at least, and beside those that are known already.
ROOM = 1024
_NOTHING = np.float32(-np.inf)


class LiveCandidates(NamedTuple):
    """Candidates of several requests, with what the ranker reads of them.

    Args:
        rows: int32[request, n], 0 fills up.
        scores: float32[request, n], of the model; -inf where the model does not know the item.
        inputs: float32[request, n, INPUTS].
    """

    rows: Rows
    scores: Floats
    inputs: Floats


def ranker_of(model: Model) -> TrendRanker:
    """Return the ranker of a model.

    Raises:
        ArgumentError: the model has none.
    """
    if model.ranker is None:
        raise ArgumentError(
            "trends: expected a model with a ranker, came one without: its training found no drift in the log. "
            "Train with model.trends=on to have one all the same."
        )
    return model.ranker


def with_trends(rec: S, trends: Trends | None) -> S:
    """Return a recommender whose lists follow trends; see `Recommender.with_trends`."""
    frozen = without_trends(rec)
    if trends is None:
        return frozen
    ranker_of(rec)
    known = frozen.vocabulary
    unknown = sum(name not in known for name in list(trends.names.values()))
    open_ = with_free_rows(frozen, max(ROOM, 2 * unknown))
    assert isinstance(open_.vocabulary, OpenVocabulary)
    live = replace(open_, live=LiveItems(trends, open_.vocabulary), base=frozen)
    vars(live)["fused"] = open_.fused
    return live


def without_trends(rec: S) -> S:
    """Return the recommender that `with_trends` was called of."""
    base: S = rec if rec.base is None else rec.base
    return base


def follow_trends(
    rec: Scorer, scores: Floats, states: Sequence[State], at: Sequence[int | None], rows: Rows | None = None
) -> Floats:
    """Return the scores of a model after its ranker has ordered the candidates, in place; as they came without trends.

    Args:
        rec: the model.
        scores: float32[request, n] of all rows, -inf for row 0, or of the given ones.
        states: of the users.
        at: the time of each request, microseconds since 1970; None takes the latest counted.
        rows: int32[request, n], each row once; row 0 fills up. None for all rows, in order.

    Cost: O(requests x candidates), after O(requests x n) to find the best by the model.
    """
    if rec.live is None or rec.live.trends.newest is None:
        return scores
    ranker, table = ranker_of(rec), rec.live.trends.table
    if rows is None and isinstance(table, TrendLoops):
        return _followed(rec, rec.live, table, scores, _asked(rec, rec.live, states, at))
    found = live_candidates(rec, rec.live, scores, states, at, rows)
    ranked = ranker.scores(found.inputs)
    valid: Bools = found.rows > 0
    known = valid & np.isfinite(found.scores)
    ranked[~valid] = _NOTHING
    given = log_sums(np.where(known, found.scores, _NOTHING)) if known.any() else np.zeros(len(scores), np.float32)
    ranked += (given - log_sums(ranked) + ranker.others)[:, None]
    for line, value, chosen, taken in zip(scores, ranked, found.rows, valid, strict=True):
        if rows is None:
            line[chosen[taken]] = value[taken]
    if rows is not None:
        _put(scores, rows, found.rows, ranked)
    return scores


def _followed(rec: Scorer, live: LiveItems, table: TrendLoops, scores: Floats, asked: Asked) -> Floats:
    """Do what `follow_trends` does, in C."""
    ranker, best = ranker_of(rec), top_k(scores, min(BEST, scores.shape[1]))
    live.keys(best.places)  # makes the keys of rows known
    numbers, begin, whole = (float(ranker.others), UNKNOWN), 0, True
    while begin < len(scores):
        rest = slice(begin, None)
        recent = None if asked.recent is None else asked.recent[rest]
        some = Asked(asked.times[rest], asked.last[rest], asked.gaps[rest], asked.counts[rest], recent)
        top = TopK(best.places[rest], best.scores[rest], best.found[rest])
        done, missing = table.follow(some, scores[rest], top, live.table, ranker.layers, numbers, whole=whole)
        begin += done
        whole = bool(len(missing)) and live.meet(missing.tolist())
    return scores


def trending_rows(rec: Scorer, states: Sequence[State], at: Sequence[int | None]) -> list[Rows]:
    """Return for each request the rows of candidates that the trends give; nothing without trends."""
    if rec.live is None or rec.live.trends.newest is None:
        return []
    asked = _asked(rec, rec.live, states, at)
    found = rec.live.trends.table.candidates(asked.times, asked.last, np.zeros((len(states), 1), np.int64))
    return [np.unique(rec.live.rows(keys)).astype(np.int32) for keys in found.keys.tolist()]


def live_candidates(
    rec: Scorer,
    live: LiveItems,
    scores: Floats,
    states: Sequence[State],
    at: Sequence[int | None],
    rows: Rows | None = None,
) -> LiveCandidates:
    """Return the candidates of requests, the best of the model first; see `follow_trends` for the arguments."""
    top = top_k(scores, min(BEST, scores.shape[1]))
    best = top.places.astype(np.int32) if rows is None else np.take_along_axis(rows, top.places, axis=1)
    best[~np.isfinite(top.scores)] = 0
    asked = _asked(rec, live, states, at)
    counted = live.trends.table.candidates(asked.times, asked.last, live.keys(best))
    chosen = np.array([live.rows(keys) for keys in counted.keys.tolist()], np.int32)
    own = np.take_along_axis(scores, chosen, axis=1) if rows is None else _scores_at(scores, rows, chosen)
    own[chosen == 0] = _NOTHING
    places = _events_ago(asked.recent, counted.keys)
    inputs = inputs_of(counted.features, own, np.isfinite(own), asked.gaps, asked.counts, places)
    return LiveCandidates(chosen, own, inputs)


def seen_rows(rec: Scorer, state: State) -> Rows:
    """Return int32[n], the rows of a user's seen items, those among the unknown ones that have a row included."""
    seen = state.seen.to_rows()
    if rec.live is None or not len(state.unknown):
        return seen
    met = rec.live.rows(state.unknown.tolist())
    return np.concatenate([seen, met[met > 0]])


def last_keys(live: LiveItems, states: Sequence[State], count: int = LAST) -> Times:
    """Return int64[user, count], the keys of each user's last items, newest first, 0 where there is none."""
    keys = live.keys(np.concatenate([state.recent for state in states])[:, : -count - 1 : -1])
    for line, state in zip(keys, states, strict=True):
        unknown = state.unknown
        if len(unknown):
            free = np.flatnonzero(line == 0)[: len(unknown)]
            line[free] = unknown[: -len(free) - 1 : -1]
    return keys


def unknown_keys(items: pl.Series, sequences: Sequences) -> dict[int, Times]:
    """Return the keys of each user's last unknown items, by the user's place; see `State.unknown`.

    Args:
        items: the ids of the events, in the order of the sequences.
        sequences: the same events.
    """
    places = np.flatnonzero(sequences.items == 0)
    if not len(places):
        return {}
    ids = items.gather(places).cast(pl.String).to_list()
    users = np.searchsorted(sequences.offsets, places, side="right") - 1
    found: dict[int, list[int]] = {}
    for user, id in zip(users.tolist(), ids, strict=True):
        found.setdefault(user, []).append(item_key(id))
    return {user: np.array(keys[-RECENT:], np.int64) for user, keys in found.items()}


def _asked(rec: Scorer, live: LiveItems, states: Sequence[State], at: Sequence[int | None]) -> Asked:
    newest = live.trends.newest or 0
    times = [newest if time is None else time for time in at]
    gaps = gaps_seconds(times, [state.time for state in states])
    counts = np.array([state.count for state in states])
    many = rec.repeats != "exclude"
    recent = last_keys(live, states, RECENT if many else LAST)
    return Asked(np.array(times, np.int64), recent[:, :LAST], gaps, counts, recent if many else None)


def _events_ago(recent: Times | None, keys: Times) -> Floats:
    """Return float32[request, candidate]: how many events ago a user took each candidate, 0 for none of the last."""
    if recent is None:
        return np.zeros(keys.shape, np.float32)
    same = (recent[:, :, None] == keys[:, None, :]) & (keys[:, None, :] != 0)
    return np.where(same.any(axis=1), same.argmax(axis=1) + 1, 0).astype(np.float32)


def _scores_at(scores: Floats, rows: Rows, wanted: Rows) -> Floats:
    """Return float32[request, n]: the scores of wanted rows, -inf where a row was not scored."""
    found = np.full(wanted.shape, _NOTHING)
    for line, own, known, asked in zip(found, scores, rows, wanted, strict=True):
        of_row = dict(zip(known.tolist(), own.tolist(), strict=True))
        line[:] = [of_row.get(row, -np.inf) for row in asked.tolist()]
    return found


def _put(scores: Floats, rows: Rows, chosen: Rows, values: Floats) -> None:
    for line, known, some, new in zip(scores, rows, chosen, values, strict=True):
        of_row = dict(zip(some.tolist(), new.tolist(), strict=True))
        of_row.pop(0, None)
        line[:] = [of_row.get(row, old) for row, old in zip(known.tolist(), line.tolist(), strict=True)]
