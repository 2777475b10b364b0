"""A trained model on a stream: the state of each user moves with each event, the items stay as they were trained.

Knows: how a server ranks and observes, in batches of users. Does not know: baselines, metrics.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
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
from segue.recommend.recommender import Recommender
from segue.recommend.state import State

#: Events that are ranked at once, and users whose histories are encoded at once.
BATCH, ENCODED = 256, 1024
_OF_AN_EVENT = {"user", "item", "time", "rating", "type", "id"}


class _Event(NamedTuple):
    """What a state reads of an event."""

    item: str
    time: int | None
    rating: float | None
    type: str | None
    context: Mapping[str, Any]


class StreamedModel:
    """A recommender that reads a stream as a server does.

    The items are frozen, so events of different users do not change each other's ranks: they are
    ranked and observed in batches. A state is made when its user appears, and dropped after the
    user's last event.

    Args:
        rec: the recommender.
        test: the held-out events, with the earlier events of their users.
        profiles: of the users, or None.
        log: the stream.
        begin: the first event of `test` in it.
    """

    def __init__(self, rec: Recommender, test: Events, profiles: Profiles | None, log: StreamLog, begin: int) -> None:
        self.rec, self.test, self.log, self.begin = rec, test, log, begin
        whole, held = test.joined_with_marks()
        sequences = rec.sequences(whole, profiles)
        self.histories = sequences.keep(~held.to_numpy()[sequence_order(whole)])
        self.targets = rec.vocabulary.rows(test.table["item"].cast(pl.String).to_list())
        users = log.users[begin:]
        codes, firsts = np.unique(users, return_index=True)
        ids = test.table["user"].cast(pl.String)
        places = {id: place for place, id in enumerate(sequences.users.to_list())}
        order = np.argsort(firsts)
        self.coming = deque(
            (int(codes[n]), places[id]) for n, id in zip(order, ids.gather(firsts[order]).to_list(), strict=True)
        )
        _, backwards = np.unique(users[::-1], return_index=True)
        self.ends = dict(zip(codes.tolist(), (len(log) - 1 - backwards).tolist(), strict=True))
        self.states: dict[int, State] = {}

    def ranks(self, progress: StreamProgress | None = None) -> NDArray[np.float64]:
        """Return the rank of each event of the stream, and observe every event.

        Returns:
            float64[event], `MISS` where the item is unknown or no list may hold it.

        Cost: O(events x network + events x items).
        """
        ranks = np.full(len(self.log) - self.begin, MISS)
        for batch in self._batches():
            ranks[batch.start - self.begin : batch.stop - self.begin] = self._rank(batch)
            self._observe(batch)
            if progress:
                progress(batch.stop - self.begin)
        return ranks

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

    def _rank(self, batch: range) -> NDArray[np.float64]:
        times = self.log.times[batch.start : batch.stop].tolist()
        states = [self._state(user) for user in self.log.users[batch.start : batch.stop].tolist()]
        targets = self.targets[batch.start - self.begin : batch.stop - self.begin]
        ranks, known = np.full(len(batch), MISS), np.flatnonzero(targets > 0)
        for part in np.array_split(known, -(-len(known) // BATCH) or 1):
            if not len(part):
                continue
            asked, at = [states[n] for n in part], [times[n] for n in part]
            details = self.rec.encoders.of_events([{"time": time} for time in at])
            seen = [state.seen.to_rows() for state in asked] if self.rec.repeats == "exclude" else []
            scores = leave_out(score_each(self.rec, asked, at, details), seen)
            own = scores[np.arange(len(part)), targets[part]]
            ranks[part] = np.where(own > -np.inf, target_ranks(scores, targets[part]), MISS)
        return ranks

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
            states = self.rec.encode(self.histories.select(np.array([place for _, place in coming])))
            self.states.update((code, states[n]) for n, (code, _) in enumerate(coming))
        return self.states[user]
