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
from segue.kernels.serving_loops import log_sums, top_k
from segue.kernels.trend_loops import LAST
from segue.model.model import Model
from segue.model.transitions import RECENT
from segue.recommend.new_items import with_free_rows
from segue.recommend.scorer import Scorer
from segue.recommend.state import State, gaps_seconds
from segue.shapes import Bools, Floats, Rows, Times
from segue.trends.live_items import LiveItems
from segue.trends.ranker import TrendRanker, inputs_of, item_key
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
    frozen = rec if rec.live is None else without_trends(rec)
    if trends is None:
        return frozen
    ranker = ranker_of(rec)
    known = frozen.vocabulary
    unknown = sum(name not in known for name in list(trends.names.values()))
    open_ = with_free_rows(frozen, max(ROOM, 2 * unknown))
    assert isinstance(open_.vocabulary, OpenVocabulary)
    live = replace(open_, live=LiveItems(trends, ranker, open_.vocabulary))
    vars(live)["fused"] = open_.fused
    vars(live)["frozen"] = frozen
    return live


def without_trends(rec: S) -> S:
    """Return the recommender that `with_trends` was called of."""
    frozen: S = vars(rec).get("frozen", rec)
    return frozen


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
    found = live_candidates(rec, rec.live, scores, states, at, rows)
    ranked = rec.live.ranker.scores(found.inputs)
    valid: Bools = found.rows > 0
    known = valid & np.isfinite(found.scores)
    ranked[~valid] = _NOTHING
    given = log_sums(np.where(known, found.scores, _NOTHING)) if known.any() else np.zeros(len(scores), np.float32)
    ranked += (given - log_sums(ranked) + rec.live.ranker.others)[:, None]
    for line, value, chosen, taken in zip(scores, ranked, found.rows, valid, strict=True):
        if rows is None:
            line[chosen[taken]] = value[taken]
    if rows is not None:
        _put(scores, rows, found.rows, ranked)
    return scores


def trending_rows(rec: Scorer, states: Sequence[State], at: Sequence[int | None]) -> list[Rows]:
    """Return for each request the rows of candidates that the trends give; nothing without trends."""
    if rec.live is None or rec.live.trends.newest is None:
        return []
    found = rec.live.trends.table.candidates(*_asked(rec.live, states, at), np.zeros((len(states), 1), np.int64))
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
    times, last = _asked(live, states, at)
    counted = live.trends.table.candidates(times, last, live.keys(best))
    chosen = np.array([live.rows(keys) for keys in counted.keys.tolist()], np.int32)
    own = np.take_along_axis(scores, chosen, axis=1) if rows is None else _scores_at(scores, rows, chosen)
    own[chosen == 0] = _NOTHING
    places = _events_ago(live, states, counted.keys) if rec.repeats != "exclude" else np.zeros(chosen.shape, np.float32)
    gaps = gaps_seconds(times.tolist(), [state.time for state in states])
    counts = np.array([state.count for state in states])
    inputs = inputs_of(counted.features, own, np.isfinite(own), gaps, counts, places)
    return LiveCandidates(chosen, own, inputs)


def seen_rows(rec: Scorer, state: State) -> Rows:
    """Return int32[n], the rows of a user's seen items, those among the unknown ones that have a row included."""
    seen = state.seen.to_rows()
    if rec.live is None or not len(state.unknown):
        return seen
    met = rec.live.rows(state.unknown.tolist())
    return np.concatenate([seen, met[met > 0]])


def last_keys(live: LiveItems, state: State, count: int = LAST) -> list[int]:
    """Return the keys of a user's last items, newest first, 0 where there is none."""
    recent, unknown = state.recent[0, -count:][::-1], state.unknown.tolist()
    known = live.keys(recent).tolist()
    return [key or (unknown.pop() if unknown else 0) for key in known]


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


def _asked(live: LiveItems, states: Sequence[State], at: Sequence[int | None]) -> tuple[Times, Times]:
    newest = live.trends.newest or 0
    times = np.array([newest if time is None else time for time in at], np.int64)
    return times, np.array([last_keys(live, state) for state in states], np.int64)


def _events_ago(live: LiveItems, states: Sequence[State], keys: Times) -> Floats:
    """Return float32[request, candidate]: how many events ago a user took each candidate, 0 for none of the last."""
    ago = np.zeros(keys.shape, np.float32)
    for line, state, asked in zip(ago, states, keys.tolist(), strict=True):
        first: dict[int, int] = {}
        for place, key in enumerate(last_keys(live, state, RECENT), start=1):
            if key:
                first.setdefault(key, place)
        line[:] = [first.get(key, 0) for key in asked]
    return ago


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
