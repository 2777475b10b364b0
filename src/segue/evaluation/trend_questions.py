"""Questions from a stream, from which a ranker of trends learns; and whether a log drifts at all.

Knows: how counts and a model read a stream on. Does not know: how the ranker is fitted.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.data.features.catalogue import Profiles
from segue.data.log.events import Events
from segue.evaluation.online.contract import MISS, StreamProgress
from segue.evaluation.online.stream_log import StreamLog
from segue.evaluation.stream import stream_of
from segue.evaluation.stream_model import StreamedModel, StreamMoment, moves_of_stream, ranks_or_misses
from segue.kernels.serving_loops import leave_out
from segue.kernels.trend_loops import TIERS, TrendTable, trend_table
from segue.metrics.metrics import ndcg
from segue.recommend.lists.live_scores import live_candidates
from segue.recommend.recommender import Recommender
from segue.shapes import Bools, Floats, Times
from segue.trends.moves import Moves
from segue.trends.ranker import INPUTS, TrendRanker, item_keys

#: Shortest half-lives that are tried: 1 and 5 minutes, 1 and 12 hours, a week, in microseconds.
SHORTEST = tuple(seconds * 1_000_000 for seconds in (60, 300, 3600, 43_200, 604_800))
#: Questions of the look at drift, and of the fit, at most.
LOOKED, ASKED = 2_000, 25_000


class Drift(NamedTuple):
    """Whether counts that read on rank better than counts of the training.

    Args:
        shortest: the shortest half-life that ranks best, in microseconds.
        online: NDCG@10 of the counts that read on.
        frozen: NDCG@10 of the same counts, frozen.
        error: the standard error of the difference.
    """

    shortest: int
    online: float
    frozen: float
    error: float

    @property
    def found(self) -> bool:
        """Whether the difference is more than noise."""
        return self.online - self.frozen > 2 * self.error


class TrendQuestions(NamedTuple):
    """Candidates of events of a stream, and which candidate was taken.

    Args:
        inputs: float32[question, n, INPUTS], see `segue.trends.ranker`.
        valid: bool[question, n], candidates that a list may hold.
        targets: int64[question], the place of the item taken; -1 where it was no candidate.
        frozen: float64[question], the rank of the item by the model alone.
        times: int64[question], rising.
    """

    inputs: Floats
    valid: Bools
    targets: Times
    frozen: NDArray[np.float64]
    times: Times


def drift_of(train: Events, later: Events, *, exclude_seen: bool) -> Drift:
    """Return whether a log drifts: whether counts rank later events better when they read on.

    The counts are those of the last item's followers and of what is popular, added up.

    Args:
        train: the earlier events.
        later: the events that are ranked, all later.
        exclude_seen: whether lists leave out seen items, so that repeated events are not ranked.

    Cost: O(events) for each half-life tried.
    """
    log, begin, ids = stream_of(later, train)
    keys = item_keys(ids)
    moves = moves_of_stream(log, keys)
    asked = _asked(log, begin, LOOKED, exclude_seen)
    if not len(asked):
        return Drift(SHORTEST[0], 0.0, 0.0, 0.0)
    return max((_drift(log, begin, moves, keys, asked, shortest) for shortest in SHORTEST), key=lambda one: one.online)


def _drift(log: StreamLog, begin: int, moves: Moves, keys: Times, asked: Times, shortest: int) -> Drift:
    ones = np.ones(len(log), np.int64)
    table = trend_table(shortest)
    table.add(*moves.part(slice(begin)), ones[:begin])
    still, learnt = table.copy(), begin
    gains = np.zeros((len(asked), 2))
    for n, event in enumerate(asked.tolist()):
        upto = int(log.begins[event])
        table.add(*moves.part(slice(learnt, upto)), ones[learnt:upto])
        learnt = max(upto, learnt)
        before = keys[log.last[event]] if log.last[event] >= 0 else 0
        asks = (table, log.times[event]), (still, log.times[begin])
        gains[n] = [_gain(counts, int(now), int(before), int(keys[log.items[event]])) for counts, now in asks]
    difference = gains[:, 0] - gains[:, 1]
    error = float(difference.std() / max(len(difference), 1) ** 0.5)
    online, frozen = gains.mean(axis=0).tolist()
    return Drift(shortest, online, frozen, error)


def _gain(counts: TrendTable, now: int, before: int, key: int) -> float:
    """Return NDCG@10 of one event by the sum of two counts, with half-lives in tier 1."""
    found = counts.candidates(np.array([now]), np.array([[before, 0, 0]]), np.zeros((1, 1), np.int64))
    scores = np.exp(found.features[0, :, 1]) + np.exp(found.features[0, :, TIERS + 1])
    place = np.flatnonzero(found.keys[0] == key)
    return float(ndcg(np.array([(scores >= scores[place[0]]).sum() if len(place) else MISS]), k=10)[0])


def _asked(log: StreamLog, begin: int, most: int, exclude_seen: bool) -> Times:
    """Return int64[n], events from `begin` on that a list may hold, evenly spread."""
    able = np.flatnonzero(~log.repeated[begin:] if exclude_seen else np.ones(len(log) - begin, bool)) + begin
    return np.unique(able[np.linspace(0, len(able) - 1, most).astype(np.int64)]) if len(able) else able


def trend_questions(
    rec: Recommender,
    train: Events,
    later: Events,
    shortest: int,
    *,
    profiles: Profiles | None = None,
    say: Callable[[str], None] | None = None,
) -> TrendQuestions:
    """Return the candidates of later events, as a server would have found them just before each.

    Args:
        rec: trained on the earlier events alone.
        train: the earlier events.
        later: the later events with their history, all after the earlier ones.
        shortest: the shortest half-life of the counts, in microseconds.
        profiles: of the users, or None.
        say: called with a line of progress.

    Cost: O(later events x network + questions x items).
    """
    log, begin, ids = stream_of(later, train)
    blank = replace(rec, ranker=TrendRanker.blank(shortest))
    model = StreamedModel(blank.with_trends(blank.trends()), later, profiles, log, begin, ids)
    wanted = np.zeros(len(log), bool)
    wanted[_asked(log, begin, ASKED, rec.repeats == "exclude")] = True
    progress = StreamProgress("reading a stream", len(log) - begin, say)
    found: list[_Question] = []
    for moment in model.moments(wanted):
        found += _questions(model, moment)
        progress(int(moment.events[-1]) + 1 - begin)
    return _joined(found)


class _Question(NamedTuple):
    inputs: Floats
    valid: Bools
    target: int
    frozen: float
    time: int


def _questions(model: StreamedModel, moment: StreamMoment) -> list[_Question]:
    live = model.rec.live
    assert live is not None
    found = live_candidates(model.rec, live, moment.scores, moment.states, moment.times)
    targets, excluded = model.target_rows(moment), model.seen(moment)
    ranks = ranks_or_misses(leave_out(moment.scores, excluded), targets)
    questions = []
    for n, (rows, target, time) in enumerate(zip(found.rows, targets.tolist(), moment.times, strict=True)):
        valid = rows > 0
        if excluded:
            valid &= ~np.isin(rows, excluded[n])
        places = np.flatnonzero(valid & (rows == target)).tolist() if target else []
        place = places[0] if places else -1
        questions.append(_Question(found.inputs[n], valid, place, float(ranks[n]), time))
    return questions


def _joined(questions: Sequence[_Question]) -> TrendQuestions:
    width = max((len(one.valid) for one in questions), default=1)
    inputs = np.zeros((len(questions), width, INPUTS), np.float32)
    valid = np.zeros((len(questions), width), bool)
    for n, one in enumerate(questions):
        inputs[n, : len(one.valid)], valid[n, : len(one.valid)] = one.inputs, one.valid
    numbers = np.array([(one.target, one.time) for one in questions], np.int64).reshape(-1, 2)
    return TrendQuestions(inputs, valid, numbers[:, 0], np.array([one.frozen for one in questions]), numbers[:, 1])
