"""The measurement of cold start: lists for users whom training never met, by how many of their events are known.

    first n   e e e * . . .      the first n events are shown, the next is the target: as a new user begins
    last n    . . . e e e *      the last event is the target, the n before it are shown: the same targets for
                                 every n, so that rows differ only by the events shown

Ranking is that of `protocols`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segue.data.log.events import Events
from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError, EvaluationError
from segue.evaluation.baselines.contract import Fitted
from segue.evaluation.held_out import check_not_learnt
from segue.evaluation.protocols import rank_beside, rank_targets, ranking_words, task_of
from segue.evaluation.queries import Queries, Rankings
from segue.metrics.metrics import hit_rate, ndcg
from segue.recommend.arguments import profiles_of
from segue.recommend.recommender import Recommender


@dataclass(frozen=True)
class ColdStartRow:
    """The metrics with so many events shown.

    Args:
        events: how many events of a user were shown; None for all before the target.
        queries: the number of queries, one for each user.
        models: name of the model -> "ndcg@10" and "hr@10"; the first is the recommender, "segue".
    """

    events: int | None
    queries: int
    models: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ColdStart:
    """Two tables of a cold start, each a row per number of events shown.

    Args:
        first: the first n events shown, the next the target.
        last: the n events before the last shown, the last the target.
        protocol: what was measured, in words.
        notes: anything that a reader must know before believing the numbers.
    """

    first: tuple[ColdStartRow, ...]
    last: tuple[ColdStartRow, ...]
    protocol: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "protocol": self.protocol,
            "first": [asdict(row) for row in self.first],
            "last": [asdict(row) for row in self.last],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [self.protocol]
        lines += _table("After the first n events of a user:", self.first)
        lines += _table("The last event of a user, from the n before it:", self.last)
        return "\n".join([*lines, *self.notes])


def _table(heading: str, rows: Sequence[ColdStartRow]) -> list[str]:
    if not rows:
        return []
    names = list(rows[0].models)
    short = [name.partition(" (")[0] for name in names]
    widths = [max(len(name), 8) + 2 for name in short]
    head = f"{'n':>5}{'users':>9}" + "".join(name.rjust(width) for name, width in zip(short, widths, strict=True))
    lines = ["", f"{heading} NDCG@10", head]
    for row in rows:
        values = [f"{row.models[name]['ndcg@10']:{width}.4f}" for name, width in zip(names, widths, strict=True)]
        lines.append(f"{'all' if row.events is None else row.events:>5}{row.queries:>9,}" + "".join(values))
    return lines


def by_history(
    rec: Recommender,
    test: Events,
    *,
    counts: Sequence[int] = (0, 1, 2, 5, 10),
    train: Events | None = None,
    baselines: Mapping[str, Fitted] | None = None,
    users: object = None,
    notes: Sequence[str] = (),
) -> ColdStart:
    """Measure a recommender on users that training never met, by how many of their events it is shown.

    Users with a history in `test.history` are not new and are left out. "First n" has a query for every user with
    more than n events. "Last n" has one for every user with more events than the largest n, so that all rows of that
    table have the same targets; its last row shows the whole history. Where the recommender excludes seen items,
    "last n" excludes all items before the target, shown or not, in every row.

    Args:
        rec: what to measure.
        test: events of new users, such as `split_users` gives.
        counts: how many events are shown, each from 0.
        train: the training events, to tune and fit the usual baselines beside it.
        baselines: fitted already, by name.
        users: a path or table with the profiles of the users, where the recommender reads them.
        notes: sentences for the reader.

    Returns:
        NDCG@10 and hit rate at 10 of the recommender and of each baseline on the same queries.

    Raises:
        ArgumentError: `counts` is empty, or one is not a whole number from 0.
        EvaluationError: no user is new, none has more events than the largest count, or all of these events
            were learnt.

    Cost: O(counts x users x (events shown x network + items)).
    """
    if not counts or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in counts):
        raise ArgumentError(
            f"by_history: expected counts from 0, whole numbers, came {counts!r}. Give such as (0, 1, 5)."
        )
    counts = sorted(set(counts))
    new = _new_users(rec, test, counts[-1], users)
    long = new.select(np.flatnonzero(new.lengths > counts[-1]))
    rows: list[tuple[int | None, Sequences, Sequences | None]] = [(n, _piece(new, 0, n + 1), None) for n in counts]
    rows += [(n, _piece(long, None if n is None else -n - 1, None), long) for n in (*counts, None)]
    queries = [(_ends(piece), None if whole is None else _ends(whole)) for _, piece, whole in rows]
    others = rank_beside(rec, [task_of(rec, *both) for both in queries], train, baselines)
    table = []
    for place, ((n, _, _), (piece, whole)) in enumerate(zip(rows, queries, strict=True)):
        baseline_rankings = {name: ranked[place] for name, ranked in others.rankings.items()}
        table.append(_row(n, len(piece.events), rank_targets(rec, piece, seen=whole) | baseline_rankings))
    first, last = tuple(table[: len(counts)]), tuple(table[len(counts) :])
    return ColdStart(first, last, _protocol(rec, new, long), (*notes, *others.left_out))


def _new_users(rec: Recommender, test: Events, most: int, users: object) -> Sequences:
    """Return the sequences of the users without a history, checked."""
    check_not_learnt(rec.facts, test, call="by_history", what="events of users", split="split_users")
    sequences = rec.sequences(test, profiles_of(rec.facts, users, test))
    if test.history is not None:
        sequences = sequences.select(np.flatnonzero(~sequences.users.is_in(test.history.users.to_list()).to_numpy()))
    longest = int(sequences.lengths.max(initial=0))
    if longest <= most:
        raise EvaluationError(
            f"by_history: expected new users with more than {most} events, found {len(sequences):,} new users with "
            f"at most {longest}. Hold out users with split_users, or give smaller counts."
        )
    return sequences


def _piece(sequences: Sequences, begin: int | None, end: int | None) -> Sequences:
    """Return `events[begin:end]` of each user with at least `end` events, as a slice of each would be."""
    if end is not None:
        sequences = sequences.select(np.flatnonzero(sequences.lengths >= end))
    lengths = np.repeat(sequences.lengths, sequences.lengths)
    place = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    low = 0 if begin is None else np.where(begin < 0, lengths + begin, begin)
    return sequences.keep((place >= low) & (place < (lengths if end is None else end)))


def _row(events: int | None, queries: int, rankings: Mapping[str, Rankings]) -> ColdStartRow:
    """Return a row of a table: a query for each user, whose target is the last event of a piece."""
    models = {}
    for name, ranked in rankings.items():
        ranks = np.concatenate(ranked.ranks)
        models[name] = {"ndcg@10": float(ndcg(ranks, k=10).mean()), "hr@10": float(hit_rate(ranks, k=10).mean())}
    return ColdStartRow(events, queries, models)


def _ends(sequences: Sequences) -> Queries:
    """Return a query for the last event of each user."""
    return Queries(sequences, sequences.offsets[1:] - 1, np.arange(len(sequences)))


def _protocol(rec: Recommender, new: Sequences, long: Sequences) -> str:
    return (
        f"{len(new):,} users that training never met, {len(long):,} of them with enough events for every row of the "
        f"second table; one query per user. {ranking_words(rec)}; ties count against the model and unknown targets are "
        f"misses. Seen items are {'excluded' if rec.repeats == 'exclude' else 'allowed'}. "
        "Time of each request: unknown."
    )
