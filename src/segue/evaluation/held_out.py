"""Which rows of a log a model did not learn, by what the model's facts say of its hold-out and its range."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from segue.data.log.events import Events
from segue.data.log.split import digest, hold_out, split_after, split_last
from segue.data.values.times import iso
from segue.errors import EvaluationError


class HeldOut(NamedTuple):
    """Rows to train baselines on, rows to measure on, and notes for the reader of the report."""

    train: Events
    test: Events
    notes: tuple[str, ...]


def held_out_rows(facts: Mapping[str, Any], events: Events, *, in_sample: bool = False) -> HeldOut:
    """Return the rows of a log that a model did not learn.

    A model trained with a hold-out is measured on just those rows, recognised by their digest. One trained
    without is measured on what happened after its training range.

    Args:
        in_sample: measure on the last event of each user, learnt or not; a note in the report says so.

    Raises:
        EvaluationError: the log is not the one that the rows were held out of, or nothing in it is new.
    """
    if in_sample:
        train, test = split_last(events)
        return HeldOut(train, test, ("In-sample: the model may have been trained on these rows.",))
    rule = facts.get("hold_out")
    if rule:
        train, test = hold_out(events, rule)
        if digest(test) != facts["hold_out_digest"]:
            raise EvaluationError(
                f"{events.source}: expected the log this model was trained on with --hold-out {rule}, came one "
                "whose held-out rows differ. Give that log, or --in-sample to measure on any rows."
            )
        return HeldOut(train, test, ())
    end = facts["range"][1] if facts.get("range") else None
    if end is not None and events.has_times:
        train, test = split_after(events, end)
        if len(test):
            return HeldOut(train, test, ())
    raise EvaluationError(
        f"{events.source}: expected rows that the model has not learnt, found none: it was trained without "
        "a hold-out. Train with --hold-out last:1 or time:0.1, or give --in-sample to insist."
    )


def held_out_by_all(facts: Mapping[str, Mapping[str, Any]], events: Events, *, in_sample: bool = False) -> HeldOut:
    """Return the rows of a log that none of several models learnt; see `held_out_rows`.

    Models without a hold-out are measured on what happened after the latest of their training ranges.

    Args:
        facts: of each model, by name.

    Raises:
        EvaluationError: the models held out different rows.
    """
    (first, mine), *others = facts.items()
    if not in_sample and all(each.get("hold_out") is None and each.get("range") for each in facts.values()):
        mine = max(facts.values(), key=lambda each: each["range"][1])
    rows = held_out_rows(mine, events, in_sample=in_sample)
    for name, each in others:
        same = each.get("hold_out_digest") == facts[first].get("hold_out_digest")
        if not (in_sample or same):
            rules = [each.get("hold_out") or "none", facts[first].get("hold_out") or "none"]
            raise EvaluationError(
                f"{events.source}: expected models with the same held-out rows, came {name} with --hold-out {rules[0]} "
                f"and {first} with --hold-out {rules[1]}. Train them on the same log with the same --hold-out."
            )
    return rows


def check_not_learnt(
    facts: Mapping[str, Any], test: Events, *, call: str = "evaluate", what: str = "events", split: str
) -> None:
    """Do nothing if a model was not trained on just these events.

    Args:
        facts: of the model.
        test: the held-out events.
        call: the function that is called, for the message.
        what: what was to be held out.
        split: the functions that hold it out.

    Raises:
        EvaluationError: these are the training events.
    """
    if facts.get("digest") == digest(test):
        raise EvaluationError(
            f"{call}: expected {what} that were held out, came those that the recommender has learnt. "
            f"Split the log first, with {split}, and train on the first part."
        )


def learnt_later(facts: Mapping[str, Any], test: Events) -> str:
    """Return a sentence on whether the model learnt anything that is later than a held-out event.

    Args:
        facts: of the model.
        test: the held-out events.
    """
    learnt = facts.get("range")
    if not learnt or not test.has_times or not len(test):
        return "Whether the model learnt anything later than a held-out event cannot be seen without times."
    times = test.table["time"]
    if learnt[1] < times[0]:
        return (
            f"The model learnt nothing from after the cut: its last event is of {iso(learnt[1])}, the first held-out "
            f"event of {iso(times[0])}."
        )
    earlier = int((times <= learnt[1]).sum())
    return (
        f"The model learnt events up to {iso(learnt[1])}; {earlier:,} of the {len(test):,} held-out events are not "
        "later. A server never has events from later than a request: time:0.1 holds out what it would meet."
    )
