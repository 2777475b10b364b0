"""How well users are served whom training never met, by how much is known of them.

Knows: which events of a new user are shown, and which is asked for. The asking itself is that of `protocols`.
Does not know: the network, or how the new users were kept out of training (`split_users`).

    first n   e e e * . . .      the first n events are shown, the one after is asked for: as a new user begins
    last n    . . . e e e *      the last event is asked for, the n before it are shown: the same targets for
                                 every n, so that rows differ by what was shown alone
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segue.data.log.events import Events
from segue.data.log.split import digest
from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError, EvaluationError
from segue.evaluation.baselines.contract import Fitted
from segue.evaluation.protocols import ask, beside, exam_of, without_events
from segue.evaluation.questions import Questions, Tally
from segue.metrics.metrics import hit_rate, ndcg
from segue.recommend.arguments import profiles_of
from segue.recommend.recommender import Recommender


@dataclass(frozen=True)
class Shown:
    """What was found with so many events shown.

    Args:
        events: how many events of a user were shown; None for all before the target.
        queries: how many questions, one for each user.
        models: name of the model -> "ndcg@10" and "hr@10"; the first is the recommender, "segue".
    """

    events: int | None
    queries: int
    models: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ColdStart:
    """Two tables of a cold start, each a row per number of events shown.

    Args:
        first: the first n events shown, the one after asked for.
        last: the n events before the last shown, the last asked for.
        protocol: what was asked, in words.
        marks: anything that a reader must know before believing the numbers.
    """

    first: tuple[Shown, ...]
    last: tuple[Shown, ...]
    protocol: str
    marks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "protocol": self.protocol,
            "first": [asdict(row) for row in self.first],
            "last": [asdict(row) for row in self.last],
            "marks": list(self.marks),
        }

    def __str__(self) -> str:
        lines = [self.protocol]
        lines += _table("After the first n events of a user:", self.first)
        lines += _table("The last event of a user, from the n before it:", self.last)
        return "\n".join([*lines, *self.marks])


def _table(heading: str, rows: Sequence[Shown]) -> list[str]:
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
    marks: Sequence[str] = (),
) -> ColdStart:
    """Measure a recommender on users that training never met, by how many of their events it is shown.

    Users with a history in `test.history` are not new and are left out. For "first n" every user with more
    than n events is asked once; for "last n" every user with more events than the largest n, so that all rows
    of that table have the same questions; its last row shows the whole history. Where the recommender leaves
    out what a user had, "last n" leaves out what they had in all, shown or not, in every row.

    Args:
        rec: what to measure.
        test: events of new users, such as `split_users` gives.
        counts: how many events are shown, each from 0.
        train: the training events, to tune and fit the usual baselines beside it.
        baselines: fitted already, by name.
        users: a path or table with the profiles of the users, where the recommender reads them.
        marks: sentences for the reader.

    Returns:
        NDCG@10 and hit rate at 10 of the recommender and of each baseline on the same questions.

    Raises:
        ArgumentError: `counts` is empty, or one is not a whole number from 0.
        EvaluationError: no user is new, none has more events than the largest count, or all of these events
            were learnt.

    Cost: O(counts x users x (events shown x network + items)).
    """
    if not counts or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in counts):
        raise ArgumentError(f"by_history: expected counts from 0, whole numbers, came {counts!r}. (0, 1, 5) is usual.")
    counts = sorted(set(counts))
    new = _new_users(rec, test, counts[-1], users)
    long = new.select(np.flatnonzero(new.lengths > counts[-1]))
    rows: list[tuple[int | None, Sequences, Sequences | None]] = [(n, _piece(new, 0, n + 1), None) for n in counts]
    rows += [(n, _piece(long, None if n is None else -n - 1, None), long) for n in (*counts, None)]
    asked = [(_ends(piece), None if whole is None else _ends(whole)) for _, piece, whole in rows]
    others = beside(rec, [exam_of(rec, *both) for both in asked], train, baselines)
    found = []
    for place, ((n, _, _), (piece, whole)) in enumerate(zip(rows, asked, strict=True)):
        tallies = ask(rec, piece, seen=whole) | {name: some[place] for name, some in others.tallies.items()}
        found.append(_shown(n, len(piece.events), tallies))
    first, last = tuple(found[: len(counts)]), tuple(found[len(counts) :])
    return ColdStart(first, last, _protocol(rec, new, long), (*marks, *others.left_out))


def _new_users(rec: Recommender, test: Events, most: int, users: object) -> Sequences:
    """Return the sequences of the users without a history, checked."""
    if rec.facts.get("digest") == digest(test):
        raise EvaluationError(
            "by_history: expected events of users that were held out, came those that the recommender has learnt. "
            "Split the log first, with split_users, and train on the first part."
        )
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


def _shown(events: int | None, queries: int, tallies: Mapping[str, Tally]) -> Shown:
    """Return a row of a table: a question for each user, the last event of a piece, from those before it."""
    ranks = {name: np.concatenate(one.ranks) for name, one in tallies.items()}
    models = {
        name: {"ndcg@10": float(ndcg(one, k=10).mean()), "hr@10": float(hit_rate(one, k=10).mean())}
        for name, one in ranks.items()
    }
    return Shown(events, queries, models)


def _ends(sequences: Sequences) -> Questions:
    """Return the last event of each user as a question."""
    return Questions(sequences, sequences.offsets[1:] - 1, np.arange(len(sequences)))


def _protocol(rec: Recommender, new: Sequences, long: Sequences) -> str:
    seen = "what a user had is left out" if rec.repeats == "exclude" else "repeats allowed"
    return (
        f"{len(new):,} users that training never met, {len(long):,} of them with enough events for every row of the "
        f"second table; one question a user, among all {len(rec.vocabulary):,} items{without_events(rec)}; {seen}; "
        "ties against the model; unknown targets are misses; time of the question not given."
    )
