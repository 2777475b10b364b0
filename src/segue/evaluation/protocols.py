"""Asking a recommender, and the baselines beside it, for what came next.

Knows: every held-out event is one question, asked of the state just before it; the whole catalogue is
ranked, ties against the model, what was seen left out if the recommender's policy says so.
Does not know: the network. It asks `recommend/`, as users do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segue.data.events import Events
from segue.data.sequences import Sequences, encode
from segue.data.split import digest
from segue.errors import EvaluationError
from segue.evaluation.baselines import DecayedMarkov, Fitted, ItemKNN, Popularity, tuned
from segue.evaluation.report import Report
from segue.measure.bootstrap import paired_bootstrap
from segue.measure.metrics import coverage, ndcg, next_item_metrics
from segue.measure.ranks import target_ranks
from segue.recommend.recommender import Recommender
from segue.shapes import Floats, Rows, Times

BLOCK = 256


@dataclass(frozen=True)
class Questions:
    """Held-out events with what stood before them.

    Args:
        sequences: histories and held-out events together.
        events: int64[query], where the targets stand in `sequences`.
        users: int64[query], whose they are.
    """

    sequences: Sequences
    events: Times
    users: Times

    @property
    def targets(self) -> Rows:
        """int32[query]: the rows that came next; 0 where the item is unknown."""
        return self.sequences.items[self.events]

    def history(self, query: int) -> Rows:
        """Return the rows of the events before a question, oldest first."""
        return self.sequences.items[self.sequences.offsets[self.users[query]] : self.events[query]]


def questions(rec: Recommender, test: Events) -> Questions:
    """Return a question for each event of `test`, after its user's history."""
    late = encode(test, rec.vocabulary)
    whole = encode(test.joined_with_history(), rec.vocabulary)
    place = {user: i for i, user in enumerate(whole.users)}
    counts = np.zeros(len(whole), np.int64)
    for user, length in zip(late.users, late.lengths, strict=True):
        counts[place[user]] = length
    user = np.repeat(np.arange(len(whole)), whole.lengths)
    held = np.arange(len(whole.items)) >= (whole.offsets[1:] - counts)[user]
    return Questions(whole, np.flatnonzero(held), user[held])


def fit_baselines(rec: Recommender, train: Events) -> dict[str, Fitted]:
    """Return popularity, decayed Markov counts and item-kNN, tuned on the last training event of each user."""
    sequences, size = encode(train, rec.vocabulary), rec.vocabulary.size
    exclude = rec.repeats == "exclude"
    kinds = (Popularity, DecayedMarkov, ItemKNN)
    fitted = [tuned(kind, sequences, size, exclude_seen=exclude) for kind in kinds]
    return {one.name: one for one in fitted}


@dataclass
class _Tally:
    """Ranks and lists of one model, block after block."""

    ranks: list[NDArray[np.float64]]
    lists: list[Rows]

    def add(self, scores: Floats, asked: Questions, queries: range, exclude: bool) -> None:
        targets = asked.targets[queries.start : queries.stop]
        scores[:, 0] = -np.inf
        if exclude:
            for row, query in enumerate(queries):
                scores[row, asked.history(query)] = -np.inf
        known = targets > 0
        ranks = np.full(len(targets), scores.shape[1], np.float64)
        ranks[known] = target_ranks(scores[known], targets[known])
        self.ranks.append(ranks)
        k = min(10, scores.shape[1] - 1)
        self.lists.append(np.argpartition(-scores, k - 1, axis=1)[:, :k].astype(np.int32))


def evaluate(
    rec: Recommender,
    test: Events,
    *,
    train: Events | None = None,
    ks: Sequence[int] = (5, 10, 20),
    baselines: Mapping[str, Fitted] | None = None,
    marks: Sequence[str] = (),
) -> Report:
    """Measure a recommender on held-out events, each predicted from the state just before it.

    Args:
        rec: what to measure.
        test: the held-out events; `test.history` holds what their users did before.
        train: the training events, to tune and fit the usual baselines beside it.
        ks: lengths of lists.
        baselines: fitted already, by name.
        marks: sentences for the report.

    Returns:
        Hit rate, precision, recall, NDCG, MRR and MAP at each k, and coverage, a row per model; with
        baselines the difference to the best of them, with its interval over users.

    Raises:
        EvaluationError: there is no held-out event, or all of these events were learnt.

    Cost: O(events x network + questions x items).
    """
    if not len(test):
        raise EvaluationError("evaluate: expected held-out events, came none. Hold out more.")
    if rec.facts.get("digest") == digest(test):
        raise EvaluationError(
            "evaluate: expected events that were held out, came those that the recommender has learnt. "
            "Split the log first, with split_by_time or split_last, and train on the first part."
        )
    asked = questions(rec, test)
    wanted = np.zeros(len(asked.sequences.items), bool)
    wanted[asked.events] = True
    outputs = rec.outputs_before(asked.sequences, wanted)
    fitted = dict(baselines or (fit_baselines(rec, train) if train is not None else {}))
    tallies = {name: _Tally([], []) for name in ("segue", *fitted)}
    exclude = rec.repeats == "exclude"
    for begin in range(0, len(asked.events), BLOCK):
        block = range(begin, min(begin + BLOCK, len(asked.events)))
        unknown = np.full(len(block), np.nan, np.float32)
        scores = rec._scores(outputs[block.start : block.stop], unknown)
        tallies["segue"].add(scores, asked, block, exclude)
        histories = [asked.history(query) for query in block] if fitted else []
        for name, baseline in fitted.items():
            tallies[name].add(baseline.score(histories), asked, block, exclude)
    return _report(rec, asked, tallies, ks, test, marks)


def _report(
    rec: Recommender,
    asked: Questions,
    tallies: dict[str, _Tally],
    ks: Sequence[int],
    test: Events,
    marks: Sequence[str],
) -> Report:
    ranks = {name: np.concatenate(tally.ranks) for name, tally in tallies.items()}
    rows = {}
    for name, tally in tallies.items():
        covered = coverage(np.concatenate(tally.lists), n_items=rec.vocabulary.size)
        rows[name] = next_item_metrics(ranks[name], ks) | {"coverage@10": covered}
    lead, best = None, None
    if len(tallies) > 1:
        best = max(list(tallies)[1:], key=lambda name: rows[name]["ndcg@10"])
        own, other = ndcg(ranks["segue"], k=10), ndcg(ranks[best], k=10)
        lead = paired_bootstrap(own, other, groups=asked.users)
    order = "time, then file order" if test.has_times else "file order"
    seen = "what a user had is left out" if rec.repeats == "exclude" else "repeats allowed"
    protocol = (
        f"{len(asked.events):,} held-out events of {len(np.unique(asked.users)):,} users, each predicted from "
        f"the events before it, among all {rec.vocabulary.size - 1:,} items; {seen}; ties against the model; "
        f"order: {order}; time of the question not given."
    )
    unknown = int(np.count_nonzero(asked.targets == 0))
    if unknown:
        marks = (*marks, f"{unknown:,} targets were never met in training and count as misses for every model.")
    return Report(rows, protocol, len(asked.events), unknown, lead, best, tuple(marks))
