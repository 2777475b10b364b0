"""The measurement of a stream: the model and online baselines read the held-out events on, as a server does.

Knows: every event is ranked from all strictly earlier events of everybody, then learnt. Does not
know: the network. It calls `recommend/`, as users do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.log.events import Events, as_events
from segue.errors import EvaluationError
from segue.evaluation.held_out import check_not_learnt
from segue.evaluation.online.contract import OnlineBaseline, StreamProgress, read_on
from segue.evaluation.online.stream_log import StreamLog
from segue.evaluation.online.tuning import tuned_baselines
from segue.evaluation.protocols import ranking_words
from segue.evaluation.stream_model import StreamedModel
from segue.evaluation.stream_report import FROZEN, StreamReport, stream_report
from segue.recommend.arguments import check_known, profiles_of
from segue.recommend.recommender import Recommender

#: Seconds of a pause after which a user's next event begins a session, where the model has no gap of its own.
SESSION_GAP = 1800.0


def evaluate_stream(
    rec: Recommender,
    test: Events,
    *,
    train: Events | None = None,
    baselines: Sequence[OnlineBaseline] | None = None,
    users: object = None,
    notes: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> StreamReport:
    """Measure a recommender on held-out events as a stream, beside baselines that learn online.

    The events are read in the order of time. Each is ranked from all strictly earlier events of
    everybody, at its own time, and is then learnt. Events with the same timestamp do not see each
    other. The state of each user moves with each event. A recommender with a ranker follows the
    trends, too, as a server does, and stands in the table a second time, frozen. Items that came
    after the cut are targets, too: misses for a frozen recommender, while trends and online
    baselines know an item once somebody took it.

    Args:
        rec: what to measure.
        test: the held-out events, all later than the training events; `test.history` holds the
            earlier events of their users.
        train: the training events, to tune and start the online baselines; None measures the
            recommender alone.
        baselines: online baselines with their settings, in place of the tuned ones.
        users: a path or table with the profiles of the users, where the recommender reads them.
        notes: sentences for the report.
        say: called with lines on what is being done, and how long it takes.

    Returns:
        HR@10, NDCG@10 and MRR@10 of each model with 95 % intervals over users, by age of the item,
        and by hour; the improvement over the best online baseline.

    Raises:
        EvaluationError: there is no held-out event, these events were learnt, the log has no times,
            or a training event is not earlier than all held-out events.

    Cost: O(events x network + events x items); the baselines some minutes for a million events and
    25,000 items.
    """
    _check(rec, test, train)
    log, begin, ids = stream_of(test, train, rec.config.model.session_gap)
    exclude = rec.repeats == "exclude"
    chosen: Sequence[OnlineBaseline] = baselines or ()
    if train is not None and baselines is None:
        chosen = tuned_baselines(log, begin, exclude_seen=exclude, say=say)
    profiles, count = profiles_of(rec.facts, users, test), len(log) - begin
    ranks: dict[str, NDArray[np.float64]] = {}
    if rec.ranker is not None:
        live = StreamedModel(rec.with_trends(rec.trends()), test, profiles, log, begin, ids)
        ranks["segue"] = live.ranks(StreamProgress("segue", count, say))
    model = StreamedModel(rec.with_trends(None), test, profiles, log, begin, ids)
    name = "segue" if rec.ranker is None else FROZEN
    ranks[name] = model.ranks(StreamProgress("segue" if name == "segue" else "segue, frozen", count, say))
    for baseline in chosen if train is not None else ():
        reader = baseline.start(log, begin, exclude_seen=exclude)
        ranks[baseline.name] = read_on(
            log, reader, begin, len(log), progress=StreamProgress(baseline.title, count, say)
        )
    unknown = int(np.count_nonzero(rec.vocabulary.rows([ids[code] for code in log.items[begin:].tolist()]) == 0))
    return stream_report(
        ranks,
        log,
        begin,
        protocol=_protocol(rec, log, begin),
        unknown=unknown,
        notes=(*notes, *_notes(log, begin, unknown, live=rec.ranker is not None)),
    )


def _check(rec: Recommender, test: Events, train: Events | None) -> None:
    """Do nothing if these are events that the recommender has not learnt, with times."""
    for log in (test,) if train is None else (test, train):
        as_events(log, "evaluate_stream")
    if not len(test):
        raise EvaluationError("evaluate_stream: expected held-out events, came none. Hold out more.")
    if not all(log.has_times for log in (test, test if train is None else train)):
        raise EvaluationError(
            f"{test.source}: expected events with times, the log has none. A stream is read in the order of time."
        )
    check_known(rec.vocabulary.ids, test if train is None else train)
    check_not_learnt(rec.facts, test, call="evaluate_stream", split="split_by_time")


class Stream(NamedTuple):
    """Training events and held-out events as one stream.

    Args:
        log: the events in the order of time.
        begin: where the held-out events begin.
        ids: the item ids by the codes of the log.
    """

    log: StreamLog
    begin: int
    ids: list[str]


def stream_of(test: Events, train: Events | None = None, session_gap: object = None) -> Stream:
    """Return the training events and the held-out events as one stream.

    Args:
        test: the held-out events.
        train: the training events; None takes `test.history`.
        session_gap: seconds without an event after which a session ends; 1,800 where it is no
            number.

    Raises:
        EvaluationError: a training event is not earlier than all held-out events.
    """
    known = train if train is not None else test.history
    parts = [part for part in (known, test) if part is not None]
    columns = [part.as_text().select("user", "item", "time") for part in parts]
    if known is not None and len(known) and known.table["time"][-1] >= test.table["time"][0]:
        raise EvaluationError(
            f"{test.source}: expected held-out events later than all training events, some are not. "
            "Hold out with time:0.1, which cuts the log at one moment."
        )
    joined = pl.concat(columns)
    codes = joined.select(pl.col("user", "item").rank("dense") - 1, "time")
    seconds = session_gap if isinstance(session_gap, int | float) else SESSION_GAP
    numbers: Mapping[str, NDArray[np.int64]] = {name: codes[name].to_numpy() for name in codes.columns}
    stream = StreamLog.of(numbers["user"], numbers["item"], numbers["time"], session_gap=seconds)
    return Stream(stream, len(stream) - len(test), joined["item"].unique().sort().to_list())


def _protocol(rec: Recommender, log: StreamLog, begin: int) -> str:
    users = len(np.unique(log.users[begin:]))
    return (
        f"{len(log) - begin:,} held-out events of {users:,} users as a stream, in the order of time. "
        f"{ranking_words(rec)}, and of items that came later once somebody took them. Each event is ranked at its own "
        "time from all strictly earlier events, then learnt; ties count against the model. "
        f"Seen items are {'excluded' if rec.repeats == 'exclude' else 'allowed'}."
    )


def _notes(log: StreamLog, begin: int, unknown: int, *, live: bool) -> list[str]:
    """Return what counts as a miss, in sentences."""
    untouched = int(np.count_nonzero(log.first_times[log.items[begin:]] == log.times[begin:]))
    notes = []
    if unknown and live:
        notes.append(f"{unknown:,} targets came after the training. The frozen model misses all of them.")
    elif unknown:
        notes.append(f"{unknown:,} targets are unknown to the model and count as misses for the model.")
    if untouched:
        notes.append(f"{untouched:,} targets were never met before by anybody and count as misses for every baseline.")
    return notes
