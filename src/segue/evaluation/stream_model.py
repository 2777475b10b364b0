"""A trained model on a stream: the state of each user moves with each event, and the trends with all of them.

Knows: how a server ranks and observes, in batches of users. Does not know: baselines, metrics.
"""

import itertools
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.features.catalogue import Profiles
from segue.data.log.events import Events
from segue.data.sequences.sequences import sequence_order
from segue.evaluation.online.contract import MISS, StreamProgress
from segue.evaluation.online.stream_log import StreamLog
from segue.kernels.serving_loops import leave_out
from segue.metrics.ranks import target_ranks
from segue.recommend.batch import observe_each, score_each
from segue.recommend.lists.live_scores import follow_trends, seen_rows, unknown_keys
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.shapes import Bools, Floats, Rows, Times
from segue.trends.moves import Moves, moves_of
from segue.trends.ranker import item_keys

#: Events that are ranked at once, and users whose histories are encoded at once.
BATCH, ENCODED = 256, 1024
NOTHING = np.zeros((0, 1), np.float32)
_OF_AN_EVENT = {"user", "item", "time", "rating", "type", "id"}


class _Event(NamedTuple):
    """What a state reads of an event."""

    item: str
    time: int | None
    rating: float | None
    type: str | None
    context: Mapping[str, Any]


class StreamMoment(NamedTuple):
    """Events with one timestamp, just before they are learnt.

    Args:
        events: int64[event], their places in the stream.
        scores: float32[event, row], by the frozen model, row 0 at -inf. May be changed.
        states: of their users.
        times: of each, microseconds since 1970.
    """

    events: Times
    scores: Floats
    states: list[State]
    times: list[int]


class StreamedModel:
    """A recommender that reads a stream as a server does.

    The network's scores do not depend on other users, so events of different users are scored and
    observed in batches. Trends depend on everybody: they are asked and moved moment by moment. A
    state is made when its user appears, and dropped after the user's last event.

    Args:
        rec: the recommender; with trends (`with_trends`), their counts move with the stream.
        test: the held-out events, with the earlier events of their users.
        profiles: of the users, or None.
        log: the stream.
        begin: the first event of `test` in it.
        ids: the item ids of the log by their codes.
    """

    def __init__(
        self, rec: Recommender, test: Events, profiles: Profiles | None, log: StreamLog, begin: int, ids: Sequence[str]
    ) -> None:
        self.rec, self.test, self.log, self.begin, self.ids = rec, test, log, begin, ids
        whole, held = test.joined_with_marks()
        sequences = rec.sequences(whole, profiles)
        order = sequence_order(whole)
        earlier = ~held.to_numpy()[order]
        self.histories = sequences.keep(earlier)
        self.unknown = unknown_keys(whole.table["item"].gather(order[earlier]), self.histories)
        users = log.users[begin:]
        codes, firsts = np.unique(users, return_index=True)
        names = test.table["user"].cast(pl.String)
        places = {id: place for place, id in enumerate(sequences.users.to_list())}
        by_first = np.argsort(firsts)
        self.coming = deque(
            (int(codes[n]), places[id])
            for n, id in zip(by_first, names.gather(firsts[by_first]).to_list(), strict=True)
        )
        _, backwards = np.unique(users[::-1], return_index=True)
        self.ends = dict(zip(codes.tolist(), (len(log) - 1 - backwards).tolist(), strict=True))
        self.states: dict[int, State] = {}
        self.counted = begin
        self.moves = None if rec.live is None else moves_of_stream(log, item_keys(ids))
        if rec.live is not None and self.moves is not None:
            rec.live.trends.add(self.moves.part(slice(0, begin)), [ids[code] for code in np.unique(log.items[:begin])])

    def ranks(self, progress: StreamProgress | None = None) -> NDArray[np.float64]:
        """Return the rank of each event of the stream, and learn every event.

        Returns:
            float64[event], `MISS` where the item is unknown or no list may hold it.

        Cost: O(events x network + events x items).
        """
        ranks = np.full(len(self.log) - self.begin, MISS)
        for moment in self.moments():
            scores = follow_trends(self.rec, moment.scores, moment.states, moment.times)
            hidden = leave_out(scores, self.seen(moment))
            ranks[moment.events - self.begin] = ranks_or_misses(hidden, self.target_rows(moment))
            if progress:
                progress(int(moment.events[-1]) + 1 - self.begin)
        return ranks

    def seen(self, moment: StreamMoment) -> list[Rows]:
        """Return for each event of a moment the rows that its list leaves out."""
        if self.rec.repeats != "exclude":
            return []
        return [seen_rows(self.rec, state) for state in moment.states]

    def target_rows(self, moment: StreamMoment) -> Rows:
        """Return int32[event], the rows of the items of a moment, 0 where the model knows none."""
        ids = [self.ids[code] for code in self.log.items[moment.events].tolist()]
        return np.array([self.rec.vocabulary.row(id) for id in ids], np.int32)

    def moments(self, wanted: Bools | None = None) -> Iterator[StreamMoment]:
        """Give the moments of the stream in order; each is learnt when the next one is asked for.

        Args:
            wanted: bool[event] of the whole stream, the events to give; None gives all.
        """
        for batch in self._batches():
            places = np.arange(batch.start, batch.stop)
            places = places if wanted is None else places[wanted[places]]
            states = {user: self._state(user) for user in self.log.users[batch.start : batch.stop].tolist()}
            for part in np.array_split(places, -(-len(places) // BATCH) or 1):
                asked = [states[user] for user in self.log.users[part].tolist()]
                times = self.log.times[part].tolist()
                details = self.rec.encoders.of_events([{"time": time} for time in times])
                scores = score_each(self.rec, asked, times, details) if len(part) else NOTHING
                for some in self._moments(part):
                    if len(batch) <= BATCH:  # else all of it is one moment
                        self._count(int(self.log.begins[part[some][0]]))
                    yield StreamMoment(part[some], scores[some], asked[some], times[some])
            self._count(batch.stop)
            if self.rec.live is not None and self.rec.live.vocabulary.full:  # between batches: scores fit the rows
                self.rec = self.rec.with_trends(self.rec.live.trends)
            self._observe(batch)

    def _moments(self, places: Times) -> Iterator[slice]:
        """Give the moments of some events; all at once where nobody moves the lists of others."""
        changes = np.diff(self.log.begins[places]) if self.rec.live is not None else np.zeros(0)
        for low, high in itertools.pairwise([0, *(np.flatnonzero(changes) + 1).tolist(), len(places)]):
            if high > low:
                yield slice(low, high)

    def _count(self, upto: int) -> None:
        """Let the trends count the events before a place."""
        if self.rec.live is None or self.moves is None or upto <= self.counted:
            return
        some, self.counted = slice(self.counted, upto), upto
        self.rec.live.trends.add(self.moves.part(some), [self.ids[code] for code in self.log.items[some].tolist()])

    def _batches(self) -> Iterator[range]:
        """Give whole moments in which no user has an event of an earlier one."""
        users, start, met = self.log.users, self.begin, set[int]()
        for moment in self.log.moments(self.begin, len(self.log)):
            now = set(users[moment.start : moment.stop].tolist())
            if start < moment.start and (met & now or moment.stop - start > BATCH):
                yield range(start, moment.start)
                start, met = moment.start, set()
            met |= now
        if start < len(self.log):
            yield range(start, len(self.log))

    def _observe(self, batch: range) -> None:
        """Observe a batch: in each round the next event of each user."""
        rows = self.test.table[batch.start - self.begin : batch.stop - self.begin].rows(named=True)
        waiting: dict[int, deque[_Event]] = defaultdict(deque)
        users = self.log.users[batch.start : batch.stop].tolist()
        for user, row in zip(users, rows, strict=True):
            context = {name: value for name, value in row.items() if name not in _OF_AN_EVENT}
            waiting[user].append(_Event(str(row["item"]), row["time"], row.get("rating"), row.get("type"), context))
        while waiting:
            before = [self.states[user] for user in waiting]
            events = [events.popleft() for events in waiting.values()]
            self.states.update(zip(waiting, observe_each(self.rec, before, events), strict=True))
            waiting = {user: events for user, events in waiting.items() if events}
        for user in set(users):
            if self.ends[user] < batch.stop:
                del self.states[user]

    def _state(self, user: int) -> State:
        """Return a user's state; those of the next new users are encoded with it."""
        if user not in self.states:
            coming = [self.coming.popleft() for _ in range(min(ENCODED, len(self.coming)))]
            places = [place for _, place in coming]
            states = self.rec.encode(self.histories.select(np.array(places)))
            known = {n: self.unknown[place] for n, place in enumerate(places) if place in self.unknown}
            states = replace(states, unknown=known)
            self.states.update((code, states[n]) for n, (code, _) in enumerate(coming))
        return self.states[user]


def ranks_or_misses(scores: Floats, targets: Rows) -> NDArray[np.float64]:
    """Return float64[event], the ranks of rows, `MISS` for row 0 and for a row that no list may hold."""
    ranks = np.full(len(targets), MISS)
    held = np.flatnonzero((targets > 0) & (scores[np.arange(len(targets)), targets] > -np.inf))
    if len(held):
        ranks[held] = target_ranks(scores[held], targets[held])
    return ranks


def moves_of_stream(log: StreamLog, keys_of_codes: Times) -> Moves:
    """Return the moves of a stream, in the order of time; see `segue.trends.moves.moves_of`.

    Args:
        log: the stream.
        keys_of_codes: int64[item], the keys of the items by their codes.
    """
    keys = keys_of_codes[log.items]
    order = np.argsort(log.users, kind="stable")
    sorted_moves = moves_of(keys[order], log.times[order], log.users[order])
    back = np.argsort(order)
    return Moves(*(part[back] for part in sorted_moves))
