"""The measurement of lists: where a recommender, and the baselines beside it, rank what came next.

Every held-out event is one query from the state just before it; the whole catalogue is ranked, ties count against the
model, seen items are excluded if the recommender's policy says so.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from segue.data.features.catalogue import Profiles
from segue.data.features.feature_encoders import attributes_of
from segue.data.log.events import Events, as_events
from segue.data.sequences.sequences import encode, sequence_order
from segue.errors import ArgumentError, EvaluationError
from segue.evaluation.baselines.contract import Fitted
from segue.evaluation.baselines.progress import tuning_bar
from segue.evaluation.held_out import check_not_learnt, learnt_later
from segue.evaluation.queries import Queries, Rankings, RankingTask, rank_queries
from segue.evaluation.registry import (
    BaselineRankings,
    Baselines,
    Chosen,
    TrainingData,
    rank_baselines,
    rank_fitted,
    words_of,
)
from segue.evaluation.report import Report
from segue.metrics.bootstrap import paired_bootstrap
from segue.metrics.lists import coverage
from segue.metrics.metrics import ndcg, next_item_metrics
from segue.recommend.arguments import check_count, check_known, profiles_of
from segue.recommend.recommender import Recommender
from segue.shapes import Floats

#: Which held-out events are predicted: all, one after the other; the first or the last of each user; or all that have
#: an event of the user before them, as in sessions.
Targets: TypeAlias = Literal["all", "first", "last", "prefixes"]


_TARGETS = {
    "all": "",
    "first": ", the first of each user,",
    "last": ", the last of each user,",
    "prefixes": ", each after one or more events,",
}


def queries_of(rec: Recommender, test: Events, profiles: Profiles | None = None, targets: Targets = "all") -> Queries:
    """Return a query for each event of `test`, or for some, after all earlier events of its user.

    Raises:
        ArgumentError: `targets` is none of the four.
        EvaluationError: no event is left.
    """
    if targets not in get_args(Targets):
        raise ArgumentError(f"targets: expected one of {', '.join(get_args(Targets))}, came {targets!r}.")
    whole, held = test.joined_with_marks()
    sequences = rec.sequences(whole, profiles)
    events = np.flatnonzero(held.to_numpy()[sequence_order(whole)])
    users = np.repeat(np.arange(len(sequences)), sequences.lengths)[events]
    border = np.concatenate([[True], users[1:] != users[:-1], [True]])
    chosen = {"all": np.ones(len(events), bool), "first": border[:-1], "last": border[1:]}
    chosen["prefixes"] = events > sequences.offsets[users]
    if not chosen[targets].any():
        raise EvaluationError(f"{test.source}: expected held-out events with an event before them, found none.")
    return Queries(sequences, events[chosen[targets]], users[chosen[targets]])


def rank_beside(
    rec: Recommender,
    tasks: Sequence[RankingTask],
    train: Events | None,
    baselines: Baselines,
    keep: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> BaselineRankings:
    """Return how the baselines beside a recommender rank, and a sentence for each that could not.

    Args:
        rec: whose vocabulary and policy on seen items the baselines take.
        train: the training events, for the usual baselines; None for none.
        baselines: fitted, or names of some of the usual.
        keep: a file that keeps tuned settings.
        say: called with a line for each before it is tuned; None shows a bar where somebody looks.

    Raises:
        ArgumentError: a name is none of a baseline, or names are given without training events.
    """
    words = words_of(baselines, fitting=train is not None)
    if isinstance(baselines, Mapping) and baselines:
        return rank_fitted(baselines, tasks)
    if train is None or words == ():
        return rank_fitted({}, tasks)
    features = attributes_of(rec.catalogue, rec.encoders)
    data = TrainingData(encode(train, rec.vocabulary), rec.vocabulary.size, features, rec.repeats == "exclude")
    with tuning_bar(say is None) as progress:
        return rank_baselines(data, tasks, Chosen(words, Path(keep) if keep else None, say, progress))


def task_of(rec: Recommender, queries: Queries, seen: Queries | None = None) -> RankingTask:
    """Return queries with the seen items that the recommender's policy excludes: of `seen`, or of the queries."""
    return RankingTask(queries, (seen or queries) if rec.repeats == "exclude" else None)


def rank_targets(
    rec: Recommender,
    queries: Queries,
    fitted: Mapping[str, Fitted] | None = None,
    *,
    seen: Queries | None = None,
    at_event: bool = False,
) -> dict[str, Rankings]:
    """Return how a recommender, under the name "segue", and baselines rank the same queries.

    Args:
        fitted: baselines by name, with the same histories; a baseline that raises is left out.
        seen: as many queries, whose histories the lists exclude where the recommender's policy says so; None
            takes those of `queries`.
        at_event: whether each list is requested at the time of its event, as a server's lists are.

    Cost: O(events x network + queries x items).
    """
    task = task_of(rec, queries, seen)
    others = rank_fitted(fitted or {}, [task]).rankings
    own = rank_queries(task, scorer_of(rec, queries, at_event=at_event))
    return {"segue": own} | {name: rankings for name, (rankings,) in others.items()}


def scorer_of(rec: Recommender, queries: Queries, *, at_event: bool = False) -> Callable[[range], Floats]:
    """Return the function that scores all items for a block of queries, float32[query, item].

    Cost: O(events x network) at once, then O(items) for each query.
    """
    wanted = np.zeros(len(queries.sequences.items), bool)
    wanted[queries.events] = True
    outputs = rec.outputs_before(queries.sequences, wanted)

    def scores(block: range) -> Floats:
        gaps, details = np.full(len(block), np.nan, np.float32), None
        if at_event:
            gaps = gaps_of(queries, block)
            details = rec.encoders.of_events([{"time": time} for time in _times(queries, block)])
        return rec.score_outputs(outputs[block.start : block.stop], gaps, queries.recent(block), details)

    return scores


def gaps_of(queries: Queries, block: range) -> Floats:
    """Return float32[query]: seconds from a user's last event to the held-out event."""
    events = queries.events[block.start : block.stop]
    begins = queries.sequences.offsets[queries.users[block.start : block.stop]]
    return queries.sequences.gaps_before(events, events > begins)


def _times(queries: Queries, block: range) -> list[int | None]:
    """Return the time of each held-out event, in microseconds."""
    times, events = queries.sequences.times, queries.events[block.start : block.stop]
    return [None] * len(events) if times is None else times[events].tolist()


class Measurement(NamedTuple):
    """How a recommender, under the name "segue", and the baselines beside it rank the same queries.

    Args:
        queries: in the terms of the recommender.
        rankings: by name, the recommender first.
        protocol: what was measured, in words.
        notes: anything that a reader must know.
    """

    queries: Queries
    rankings: dict[str, Rankings]
    protocol: str
    notes: tuple[str, ...]


def evaluate(
    rec: Recommender,
    test: Events,
    *,
    train: Events | None = None,
    ks: Sequence[int] = (5, 10, 20),
    baselines: Baselines = None,
    keep: str | Path | None = None,
    users: object = None,
    request_time: Literal["unknown", "event"] = "unknown",
    targets: Targets = "all",
    notes: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> Report:
    """Measure a recommender on held-out events, each predicted from the state just before it.

    Args:
        rec: what to measure.
        test: the held-out events; `test.history` holds the earlier events of their users.
        train: the training events, to tune and fit the usual baselines beside it, in a separate process. The report
            names a baseline that crashes, raises or has not ended after an hour, and leaves it out.
        ks: lengths of lists.
        baselines: names of some of the usual, such as `["markov", "ease"]` or "markov,ease"; "none" for none; or fitted
            baselines by name in place of the usual, of which one that raises is left out.
        keep: a file that keeps the tuned settings of the baselines, such as "films.segue.baselines.json": a second
            evaluation with the same training events and code does not tune again.
        users: a path or table with the profiles of the users, where the recommender reads them.
        request_time: when each list is requested: at an unknown time, or at the time of the event, as from a server.
        targets: which held-out events are predicted: all, one after the other; the "first" or the "last" of each user;
            "prefixes" for all with an event of the user before them. Held-out events before a target are read, not
            learnt.
        notes: sentences for the report.
        say: called with lines on what is being done; it can take minutes. None shows a bar in a terminal or a notebook.

    Returns:
        Hit rate, precision, recall, NDCG, MRR and MAP at each k, and coverage, a row per model; with
        baselines the improvement over the best of them, with its interval over users.

    Raises:
        ArgumentError: a name is none of a baseline, or names are given without training events; `targets` is none of
            the four.
        EvaluationError: there is no held-out event, or all of these events were learnt.

    Cost: O(events x network + queries x items).
    """
    for k in ks:
        check_count(k, "evaluate: expected each of ks")
    measurement = measure(
        rec,
        test,
        train=train,
        baselines=baselines,
        keep=keep,
        users=users,
        request_time=request_time,
        targets=targets,
        notes=notes,
        say=say,
    )
    return report_of(measurement, ks, rec.vocabulary.size)


def measure(
    rec: Recommender,
    test: Events,
    *,
    train: Events | None = None,
    baselines: Baselines = None,
    keep: str | Path | None = None,
    users: object = None,
    request_time: Literal["unknown", "event"] = "unknown",
    targets: Targets = "all",
    notes: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> Measurement:
    """Return how a recommender and baselines rank held-out events; arguments and errors as of `evaluate`."""
    for log in (test,) if train is None else (test, train):
        as_events(log, "evaluate")
    if not len(test):
        raise EvaluationError("evaluate: expected held-out events, came none. Hold out more.")
    check_known(rec.vocabulary.ids, test)
    check_not_learnt(rec.facts, test, split="split_by_time or split_last")
    queries = queries_of(rec, test, profiles_of(rec.facts, users, test), targets)
    others = rank_beside(rec, [task_of(rec, queries)], train, baselines, keep, say)
    if say:
        say(f"Ranking the catalogue for {len(queries.events):,} events.")
    rankings = rank_targets(rec, queries, at_event=request_time == "event")
    rankings |= {name: ranked for name, (ranked,) in others.rankings.items()}
    order = "time, then file order" if test.has_times else "file order"
    protocol = (
        f"{len(queries.events):,} held-out events{_TARGETS[targets]} of {len(np.unique(queries.users)):,} users. "
        f"{ranking_words(rec)} from the state just before each event; ties count against the model. "
        f"Seen items are {'excluded' if rec.repeats == 'exclude' else 'allowed'}. Order: {order}. "
        f"Time of each request: {'that of the event' if request_time == 'event' else 'unknown'}. "
        f"{learnt_later(rec.facts, test)}"
    )
    return Measurement(queries, rankings, protocol, (*notes, *others.left_out))


def ranking_words(rec: Recommender) -> str:
    """Return in words what is ranked, with the items that no training event names; the same for every model."""
    added = rec.vocabulary.size - (rec.learnt or rec.vocabulary.size)
    new = f" ({added:,} of them without an event in training)" if added else ""
    return f"Full-catalogue ranking of {len(rec.vocabulary):,} items{new}"


def report_of(measurement: Measurement, ks: Sequence[int], n_items: int) -> Report:
    """Return the report of a measurement; `n_items` is the length of a score row, row 0 included."""
    queries, rankings, protocol, notes = measurement
    ranks = {name: np.concatenate(ranked.ranks) for name, ranked in rankings.items()}
    rows = {}
    for name, ranked in rankings.items():
        covered = coverage(np.concatenate(ranked.lists), n_items=n_items)
        rows[name] = next_item_metrics(ranks[name], ks) | {"coverage@10": covered}
    improvement, best = None, None
    if len(rows) > 1:
        best = max(list(rows)[1:], key=lambda name: rows[name]["ndcg@10"])
        gains = [ndcg(ranks[name], k=10) for name in ("segue", best)]
        improvement = paired_bootstrap(*gains, groups=queries.users)
    unknown = int(np.count_nonzero(queries.targets == 0))
    if unknown:
        notes = (*notes, f"{unknown:,} targets were never met in training and count as misses for every model.")
    return Report(rows, protocol, len(queries.events), unknown, improvement, best, tuple(notes))
