"""Where events stood in the lists just before them.

Knows: scores and ranks. Does not know: what is summed up of the ranks (`segue.serve.ranking.online_metrics`).

Where all items are scored, every number is exact. With an index ranks are among its candidates, which is exact for
recall@10 and MRR@10 but for what the index misses, and the log-loss is an estimate: the candidates, and a sample that
stands for all other items.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segue.kernels.serving_loops import log_sums, ranks_and_log_sums
from segue.recommend.batch import question_details, score_sample
from segue.recommend.lists.candidates import ListQuery, Scored
from segue.recommend.recommender import Recommender
from segue.shapes import Floats, Rows
from segue.store.events import Event


class RankedEvent(NamedTuple):
    """An event, the rank of its item, and `-log softmax(scores)[item]` in nats.

    An item that is filtered or unknown has the last rank, and counts as if it had the chance of one in all items.
    """

    event: Event
    rank: float
    loss: float


def rank_events(
    rec: Recommender, events: Sequence[Event], queries: Sequence[ListQuery], scored: Scored
) -> list[RankedEvent]:
    """Return the ranks of events in the lists just before them.

    Args:
        rec: the model.
        events: that came.
        queries: for each event the list just before it.
        scored: the scores of these queries, among them those of the events' items; used up.
    """
    if not events:
        return []
    targets = rec.vocabulary.rows([event.item for event in events])
    scores, columns = scored.scores, targets
    if scored.rows is not None:
        columns = np.argmax(scored.rows == targets[:, None], axis=1)
    own = scores[np.arange(len(scores)), columns]
    known = (targets > 0) & (own > -np.inf)
    ranks = np.full(len(targets), float(rec.vocabulary.size))
    losses = np.full(len(targets), np.log(max(rec.vocabulary.size - 1, 1)))
    if known.any():
        ranked = scores if known.all() else scores[known]
        ranks[known], total = ranks_and_log_sums(ranked, columns[known])
        if scored.rows is not None:
            total = np.logaddexp(total, _others(rec, queries, scored.rows, events)[known])
        losses[known] = total - own[known]
    return [RankedEvent(*one) for one in zip(events, ranks.tolist(), losses.tolist(), strict=True)]


def _others(rec: Recommender, queries: Sequence[ListQuery], known: Rows, events: Sequence[Event]) -> Floats:
    """Return the log of the sum over all rows that are no candidates, from a sample of them."""
    size = rec.vocabulary.size
    number = rec.vocabulary.row(events[0].item) + queries[0].state.count
    at = [one.at for one in queries]
    details = question_details(rec, [one.options for one in queries], at)
    rows, scores = score_sample(rec, [one.state for one in queries], at, number, details)
    counted = np.zeros(len(queries))
    for n, (line, candidates, one) in enumerate(zip(scores, known, queries, strict=True)):
        if one.allowed is not None:
            line[~one.allowed[rows]] = -np.inf
        line[_places(rows, one.excluded)] = -np.inf
        met = _places(rows, np.unique(candidates))
        counted[n] = (size - len(np.unique(candidates))) / max(len(rows) - len(met), 1)
        line[met] = -np.inf
    return log_sums(scores) + np.log(counted)


def _places(rows: Rows, some: Rows) -> Rows:
    """Return where some rows stand among rows in order; those that do not are left out."""
    places = np.minimum(np.searchsorted(rows, some), len(rows) - 1)
    found: Rows = places[rows[places] == some]
    return found
