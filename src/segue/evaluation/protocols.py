"""Asking a recommender, and the baselines beside it, for what came next.

Knows: every held-out event is one question, asked of the state just before it; the whole catalogue is
ranked, ties against the model, what was seen left out if the recommender's policy says so.
Does not know: the network. It asks `recommend/`, as users do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segue.data.catalogue import Profiles, read_profiles
from segue.data.described import attributes_of
from segue.data.events import Events
from segue.data.sequences import Sequences, encode, sequence_order
from segue.data.split import digest
from segue.errors import EvaluationError
from segue.evaluation.contract import Fitted
from segue.evaluation.registry import Beside, fit_all
from segue.evaluation.report import Report
from segue.measure.bootstrap import paired_bootstrap
from segue.measure.metrics import coverage, ndcg, next_item_metrics
from segue.measure.ranks import target_ranks
from segue.model.counts import RECENT
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

    def recent(self, block: range) -> Rows:
        """Return int32[query, RECENT]: the last items before some questions."""
        asked = slice(block.start, block.stop)
        return self.sequences.recent_before(self.events[asked], self.sequences.offsets[self.users[asked]], RECENT)


def questions(rec: Recommender, test: Events, profiles: Profiles | None = None) -> Questions:
    """Return a question for each event of `test`, after all that its user did before."""
    whole, held = test.joined_with_marks()
    sequences = rec.sequences(whole, profiles)
    events = np.flatnonzero(held.to_numpy()[sequence_order(whole)])
    return Questions(sequences, events, np.repeat(np.arange(len(sequences)), sequences.lengths)[events])


def fit_baselines(rec: Recommender, train: Events, say: Callable[[str], None] | None = None) -> Beside:
    """Return every baseline that can be fitted, tuned on the last training event of each user; and what cannot.

    Args:
        rec: whose vocabulary and policy on repeats the baselines take.
        train: the training events.
        say: called with a line for each before it is tuned.
    """
    sequences = encode(train, rec.vocabulary)
    features = attributes_of(rec.catalogue, rec.encodings)
    hides = rec.repeats == "exclude"
    return fit_all(sequences, rec.vocabulary.size, features=features, exclude_seen=hides, say=say)


@dataclass
class Tally:
    """Ranks and lists of one model, block after block."""

    ranks: list[NDArray[np.float64]]
    lists: list[Rows]

    def add(self, scores: Floats, targets: Rows, seen: Sequence[Rows]) -> None:
        """Rank the targets of a block.

        Args:
            scores: float32[query, item], changed.
            targets: int32[query]; 0 is a miss.
            seen: for each query the rows to leave out, or nothing at all.
        """
        scores[:, 0] = -np.inf
        for row, rows in enumerate(seen):
            scores[row, rows] = -np.inf
        known = targets > 0
        ranks = np.full(len(targets), scores.shape[1], np.float64)
        ranks[known] = target_ranks(scores[known], targets[known])
        self.ranks.append(ranks)
        k = min(10, scores.shape[1] - 1)
        self.lists.append(np.argpartition(-scores, k - 1, axis=1)[:, :k].astype(np.int32))


def ask(
    rec: Recommender,
    asked: Questions,
    fitted: Mapping[str, Fitted],
    *,
    seen: Callable[[int], Rows] | None = None,
    at_event: bool = False,
) -> dict[str, Tally]:
    """Return the answers of a recommender, under the name "segue", and of baselines to the same questions.

    Args:
        rec: asked first.
        asked: the questions.
        fitted: asked with the same histories, by name.
        seen: gives the rows that a user had, to be left out where the recommender's policy says so; None
            takes the history before the question.
        at_event: whether each question is asked at the time of the event to come, as a server asks it.

    Cost: O(events x network + questions x items).
    """
    seen = seen or asked.history
    wanted = np.zeros(len(asked.sequences.items), bool)
    wanted[asked.events] = True
    outputs = rec.outputs_before(asked.sequences, wanted)
    tallies = {name: Tally([], []) for name in ("segue", *fitted)}
    for begin in range(0, len(asked.events), BLOCK):
        block = range(begin, min(begin + BLOCK, len(asked.events)))
        targets = asked.targets[block.start : block.stop]
        left_out = [seen(query) for query in block] if rec.repeats == "exclude" else []
        gaps, details = np.full(len(block), np.nan, np.float32), None
        if at_event:
            gaps = _gaps(asked, block)
            details = rec.encodings.of_events([{"time": time} for time in _times(asked, block)])
        recent = asked.recent(block)
        scores = rec.score_outputs(outputs[block.start : block.stop], gaps, recent, details)
        tallies["segue"].add(scores, targets, left_out)
        histories = [asked.history(query) for query in block] if fitted else []
        for name, baseline in fitted.items():
            tallies[name].add(baseline.score(histories), targets, left_out)
    return tallies


def _gaps(asked: Questions, block: range) -> Floats:
    """Return float32[query]: seconds from a user's last event to the question at the time of the next."""
    events = asked.events[block.start : block.stop]
    begins = asked.sequences.offsets[asked.users[block.start : block.stop]]
    return asked.sequences.gaps_before(events, events > begins)


def _times(asked: Questions, block: range) -> list[int | None]:
    """Return the time of each event to come, in microseconds."""
    times, events = asked.sequences.times, asked.events[block.start : block.stop]
    return [None] * len(events) if times is None else times[events].tolist()


def evaluate(
    rec: Recommender,
    test: Events,
    *,
    train: Events | None = None,
    ks: Sequence[int] = (5, 10, 20),
    baselines: Mapping[str, Fitted] | None = None,
    users: object = None,
    ask_at: Literal["unknown", "event"] = "unknown",
    marks: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> Report:
    """Measure a recommender on held-out events, each predicted from the state just before it.

    Args:
        rec: what to measure.
        test: the held-out events; `test.history` holds what their users did before.
        train: the training events, to tune and fit the usual baselines beside it.
        ks: lengths of lists.
        baselines: fitted already, by name.
        users: a path or table with the profiles of the users, where the recommender reads them.
        ask_at: the time of each question: unknown, or that of the event to come, as a server asks it.
        marks: sentences for the report.
        say: called with lines on what is being done; it can take minutes.

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
    beside = Beside(dict(baselines or {}), ())
    if train is not None and not baselines:
        beside = fit_baselines(rec, train, say)
    if say:
        say(f"Asking for {len(test):,} events.")
    asked = questions(rec, test, None if users is None else read_profiles(users))
    tallies = ask(rec, asked, beside.fitted, at_event=ask_at == "event")
    marks = (*marks, *beside.left_out)
    return _report(rec, asked, tallies, ks, test, marks, ask_at)


def without_events(rec: Recommender) -> str:
    """Return in words how many of the items no event that was learnt names; the same for every model."""
    added = rec.vocabulary.size - (rec.learnt or rec.vocabulary.size)
    return f", {added:,} of them without an event in training" if added else ""


def _report(
    rec: Recommender,
    asked: Questions,
    tallies: dict[str, Tally],
    ks: Sequence[int],
    test: Events,
    marks: Sequence[str],
    ask_at: str,
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
        f"the events before it, among all {len(rec.vocabulary):,} items{without_events(rec)}; {seen}; ties against "
        "the model; "
        f"order: {order}; time of the question {'that of the event' if ask_at == 'event' else 'not given'}."
    )
    unknown = int(np.count_nonzero(asked.targets == 0))
    if unknown:
        marks = (*marks, f"{unknown:,} targets were never met in training and count as misses for every model.")
    return Report(rows, protocol, len(asked.events), unknown, lead, best, tuple(marks))
