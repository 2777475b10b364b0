"""Asking a recommender, and the baselines beside it, for what came next.

Knows: every held-out event is one question, asked of the state just before it; the whole catalogue is
ranked, ties against the model, what was seen left out if the recommender's policy says so.
Does not know: the network. It asks `recommend/`, as users do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from segue.data.features.catalogue import Profiles
from segue.data.features.feature_encoders import attributes_of
from segue.data.log.events import Events, as_events
from segue.data.log.split import digest
from segue.data.sequences.sequences import encode, sequence_order
from segue.errors import EvaluationError
from segue.evaluation.baselines.contract import Fitted
from segue.evaluation.questions import Exam, Questions, Tally, tally
from segue.evaluation.registry import Answers, Learning, answer_all, answers_of
from segue.evaluation.report import Report
from segue.metrics.bootstrap import paired_bootstrap
from segue.metrics.metrics import coverage, ndcg, next_item_metrics
from segue.recommend.arguments import check_count, check_known, profiles_of
from segue.recommend.recommender import Recommender
from segue.shapes import Floats


def questions(rec: Recommender, test: Events, profiles: Profiles | None = None) -> Questions:
    """Return a question for each event of `test`, after all that its user did before."""
    whole, held = test.joined_with_marks()
    sequences = rec.sequences(whole, profiles)
    events = np.flatnonzero(held.to_numpy()[sequence_order(whole)])
    return Questions(sequences, events, np.repeat(np.arange(len(sequences)), sequences.lengths)[events])


def beside(
    rec: Recommender,
    exams: Sequence[Exam],
    train: Events | None,
    fitted: Mapping[str, Fitted] | None,
    say: Callable[[str], None] | None = None,
) -> Answers:
    """Return what the baselines beside a recommender answer, and a sentence for each that could not.

    Args:
        rec: whose vocabulary and policy on repeats the baselines take.
        exams: the questions.
        train: the training events, for the usual baselines; None for none.
        fitted: baselines in their place.
        say: called with a line for each before it is tuned.
    """
    if fitted or train is None:
        return answers_of(fitted or {}, exams)
    features = attributes_of(rec.catalogue, rec.encoders)
    learning = Learning(encode(train, rec.vocabulary), rec.vocabulary.size, features, rec.repeats == "exclude")
    return answer_all(learning, exams, say)


def exam_of(rec: Recommender, asked: Questions, seen: Questions | None = None) -> Exam:
    """Return questions with what a recommender's policy leaves out: the histories of `seen`, or those asked with."""
    return Exam(asked, (seen or asked) if rec.repeats == "exclude" else None)


def ask(
    rec: Recommender,
    asked: Questions,
    fitted: Mapping[str, Fitted] | None = None,
    *,
    seen: Questions | None = None,
    at_event: bool = False,
) -> dict[str, Tally]:
    """Return the answers of a recommender, under the name "segue", and of baselines to the same questions.

    Args:
        rec: asked first.
        asked: the questions.
        fitted: asked with the same histories, by name; one that raises is left out.
        seen: as many, whose histories are left out of the lists where the recommender's policy says so; None
            takes those of the questions.
        at_event: whether each question is asked at the time of the event to come, as a server asks it.

    Cost: O(events x network + questions x items).
    """
    exam = exam_of(rec, asked, seen)
    wanted = np.zeros(len(asked.sequences.items), bool)
    wanted[asked.events] = True
    outputs = rec.outputs_before(asked.sequences, wanted)

    def scores(block: range) -> Floats:
        gaps, details = np.full(len(block), np.nan, np.float32), None
        if at_event:
            gaps = _gaps(asked, block)
            details = rec.encoders.of_events([{"time": time} for time in _times(asked, block)])
        return rec.score_outputs(outputs[block.start : block.stop], gaps, asked.recent(block), details)

    own = {"segue": tally(exam, scores)}
    return own | {name: found for name, (found,) in answers_of(fitted or {}, [exam]).tallies.items()}


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
        train: the training events, to tune and fit the usual baselines beside it, each in a process of its own:
            what crashes, raises or has not ended after an hour is left out of the report, which names it.
        ks: lengths of lists.
        baselines: fitted already, by name, in place of the usual; one that raises is left out.
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
    for k in ks:
        check_count(k, "evaluate: expected each of ks")
    for log in (test,) if train is None else (test, train):
        as_events(log, "evaluate")
    if not len(test):
        raise EvaluationError("evaluate: expected held-out events, came none. Hold out more.")
    check_known(rec.vocabulary.ids, test)
    if rec.facts.get("digest") == digest(test):
        raise EvaluationError(
            "evaluate: expected events that were held out, came those that the recommender has learnt. "
            "Split the log first, with split_by_time or split_last, and train on the first part."
        )
    asked = questions(rec, test, profiles_of(rec.facts, users, test))
    others = beside(rec, [exam_of(rec, asked)], train, baselines, say)
    if say:
        say(f"Asking for {len(test):,} events.")
    tallies = ask(rec, asked, at_event=ask_at == "event")
    tallies |= {name: found for name, (found,) in others.tallies.items()}
    marks = (*marks, *others.left_out)
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
    ranks = {name: np.concatenate(one.ranks) for name, one in tallies.items()}
    rows = {}
    for name, one in tallies.items():
        covered = coverage(np.concatenate(one.lists), n_items=rec.vocabulary.size)
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
