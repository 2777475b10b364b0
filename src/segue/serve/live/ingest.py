"""A plan of one batch: which states follow from its events, and what is to be written.

Knows: the order of a user's events within a batch, versions, late events, retries under the same ids.
Does not know: lists, which model answers, how a store keeps its promises.

In words, for one model:

    heads = what the store knows of the users, with their states
    states = those, rebuilt by replay where they do not hold all events
    for each turn (a request of each user), for each of its events, all users side by side:
        note the state before it, for its list is the one that the event is ranked in; step the state
    writes = all events, keys and states, those of a request together or not at all, with what each rating adds to the
        shared value

A second model may go along in the shadow: its states are stepped and kept with the others, and where one is
not at hand nobody waits for it.

Where ratings were learnt, a late event changes what the ratings behind it add to the shared value; a replay finds that
out. So no state is kept with such an event, and the user is rebuilt in the background.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from segue.errors import ArgumentError, ConflictError, ErasedError, SegueError
from segue.recommend.batch import observe_each, rated_each, state_to_bytes
from segue.recommend.lists.options import ListOptions
from segue.recommend.ratings import Rated
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.serve.live.replay import Rebuilt, current_stored, is_late, rebuild, snapshot_after, to_replay
from segue.serve.ranking.list_requests import ListRequest
from segue.serve.ranking.types import Answer, IngestRequest, IngestResult
from segue.store.base import Conflict, Duplicate, Erased, Head, Outcome, Snapshot, Store, Write, Written
from segue.store.events import Event, StoredEvent

#: How far in the future an event may be, in microseconds.
TOLERANCE = 5 * 60 * 1_000_000
#: Events that are replayed while a request waits; longer ones are rebuilt in the background.
REPLAY_NOW = 20_000


@dataclass
class PendingWrite:
    """One request, and what has come of it so far.

    Args:
        request: what was sent.
        kept: its events that are on disk, by their place in the request.
        known: of these, how many were on disk before.
        after: the state after its last event, where this batch made it.
        refused: why nothing of it is done.
        answer: its list, where it is made.
    """

    request: IngestRequest
    kept: dict[int, StoredEvent] = field(default_factory=dict)
    known: int = 0
    after: State | None = None
    refused: SegueError | None = None
    answer: Answer | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.refused is not None or len(self.kept) == len(self.request.events)

    @property
    def settled(self) -> int:
        """How much of it is settled: grows whenever something comes of it."""
        return len(self.kept) + (self.refused is not None)

    @property
    def wants_list(self) -> bool:
        """Whether all its events are on disk and a list belongs to the answer."""
        return self.refused is None and self.done and self.request.options is not None

    @cached_property
    def ids(self) -> dict[tuple[str, str], int]:
        """Its ids, each with its client, and the places of their events."""
        client, events = self.request.client, self.request.events
        return {(client, event.id): n for n, event in enumerate(events) if event.id is not None}

    def settle(self, places: Sequence[int], outcome: Outcome) -> None:
        """Note what came of a write; a stale one, and what is new beside duplicates, is left to do."""
        if isinstance(outcome, Written):
            self.kept |= dict(zip(places, outcome.events, strict=True))
        elif isinstance(outcome, Duplicate):
            old = {n: one for n, one in zip(places, outcome.originals, strict=True) if one is not None}
            self.kept |= old
            self.known += len(old)
        elif isinstance(outcome, Conflict):
            self.refused = conflict(self.request, self._place(outcome.ids[0]))
        elif isinstance(outcome, Erased):
            ids = outcome.ids
            place = self._place(ids[0]) if ids else places[0]
            self.refused = (erased_event if ids else erased_user)(self.request, place)

    def settle_known(self, known: Mapping[tuple[str, str], tuple[Event, StoredEvent]]) -> None:
        """Note what requests before it, which sent the same ids, have put on disk meanwhile."""
        old: dict[int, StoredEvent] = {}
        for id, n in self.ids.items():
            if id in known and n not in self.kept:
                event, stored = known[id]
                if event.digest != self.request.events[n].digest:
                    self.refused = conflict(self.request, n)
                    return
                old[n] = stored
        self.kept |= old
        self.known += len(old)

    def list_request(
        self, rec: Recommender, state: State, *, rebuilding: bool = False, who: str | None = None
    ) -> ListRequest:
        """Return the list that is wanted after its last event, for that event's user."""
        event, options = self.request.events[-1], self.request.options or ListOptions()
        who = event.user if who is None else who
        return ListRequest(rec, state, options, event.time, self.request.events, rebuilding, who.encode())

    def result(self) -> IngestResult | SegueError:
        """Return what came of it."""
        stored = [self.kept[n] for n in range(len(self.request.events))] if self.refused is None else []
        return self.refused or IngestResult(stored, self.known, self.answer)

    def _place(self, id: str) -> int:
        return self.ids[self.request.client, id]


@dataclass
class _User:
    """A user within a batch: what the store knows, and where the writes planned so far would lead."""

    head: Head
    version: int
    state: State | None
    replayed: Mapping[int, Rated] = field(default_factory=dict)  # to be kept with the state
    shadow: State | None = None
    pending: list[Event] = field(default_factory=list)
    late: bool = False  # an event belongs before others: the state must be rebuilt, not stepped
    owing: bool = False  # what ratings add to the shared value must be found by a replay of what is in the log

    @property
    def behind(self) -> bool:
        """Whether the state cannot hold all events within this batch."""
        return self.state is None or self.late

    def take(self, event: Event) -> None:
        """Note an event; states can be stepped over it unless it came late."""
        before = any(one.time is not None and event.time is not None and event.time < one.time for one in self.pending)
        self.late |= before or is_late(event, self.head)
        self.pending.append(event)
        if self.late:
            self.shadow = None


@dataclass
class _Run:
    """The events of one request for one user, and what is planned for them."""

    entry: PendingWrite
    user: _User
    group: int  # the place of its request: the events of a request are written together or not at all
    places: list[int]
    events: list[Event]
    snapshots: tuple[Snapshot, ...] = ()
    before: list[tuple[State, Event]] = field(default_factory=list)
    rated: dict[str, list[Rated | None]] = field(default_factory=dict)


def why_refused(rec: Recommender, store: Store, request: IngestRequest, now: int) -> SegueError | None:
    """Return why a request is not to be written; what was kept under the same ids before is never refused anew.

    Args:
        rec: the model that reads the events.
        store: with what was kept.
        request: the request.
        now: microseconds since 1970.
    """
    try:
        _check_events(rec, request, now)
    except ArgumentError as error:
        ids = [event.id for event in request.events]
        known = ids and all(id is not None and store.find_event(request.client, id) for id in ids)
        return None if known and len(set(ids)) == len(ids) else error
    return None


def _check_events(rec: Recommender, request: IngestRequest, now: int) -> None:
    """Do nothing if the events of a request can be.

    Args:
        rec: the model that reads them.
        request: the request.
        now: microseconds since 1970.

    Raises:
        ArgumentError: there is none, one is of the future, a rating lies outside the scale, or an id comes twice.
    """
    if not request.events:
        raise ArgumentError("events: expected at least one, came none. Leave the request out.")
    for place, event in enumerate(request.events):
        if event.time is not None and event.time > now + TOLERANCE:
            raise ArgumentError(
                f"{named(request, place)}: expected a time at most 5 minutes from now, came one "
                f"{(event.time - now) / 1e6:.0f} s ahead. Check the clock and the unit: seconds since 1970."
            )
        rec.check_rating(event.item, event.rating)
    ids = [event.id for event in request.events if event.id is not None]
    if len(ids) != len(set(ids)):
        raise ArgumentError("events: expected ids that differ, came one twice. Send each event once.")


def next_turn(entries: Sequence[PendingWrite]) -> list[PendingWrite]:
    """Return the requests that can be written now.

    A request that shares an event id with an earlier, unfinished request waits, as if the two came
    one by one.

    Args:
        entries: all requests of a batch in the order of arrival, changed in place.
    """
    known: dict[tuple[str, str], tuple[Event, StoredEvent]] = {}
    waiting: set[tuple[str, str]] = set()
    now: list[PendingWrite] = []
    for entry in entries:
        ids = entry.ids
        if not entry.done and not known.keys().isdisjoint(ids):
            entry.settle_known(known)
        if not entry.done:
            if waiting.isdisjoint(ids):
                now.append(entry)
            waiting |= ids.keys()
        elif entry.refused is None:
            known |= {id: (entry.request.events[n], entry.kept[n]) for id, n in ids.items()}
    return now


@dataclass
class IngestPlan:
    """What a batch does for the users of one model.

    Args:
        rec: the model.
        users: of the batch, by the names that they were called by.
        runs: the events of each request for each user.
        writes: of these, for the store.
        shadow: another model that reads the same events.
        ranked: events that were written, each with the state before it, of each model; known once it is settled.
        listed: requests whose lists can be made of the states in this plan; known once it is settled.
    """

    rec: Recommender
    users: Mapping[str, _User]
    runs: list[_Run]
    writes: list[Write]
    shadow: Recommender | None
    ranked: list[tuple[State, Event]] = field(default_factory=list)
    listed: list[PendingWrite] = field(default_factory=list)

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Note what came of the writes; it holds once they are on disk."""
        for run, outcome in zip(self.runs, outcomes, strict=True):
            run.entry.settle(run.places, outcome)
            if isinstance(outcome, Written):
                self.ranked += run.before
            else:
                run.entry.after = None
        entries = {run.group: run.entry for run in self.runs}
        self.listed = [entry for entry in entries.values() if entry.wants_list and entry.after is not None]

    def list_requests(self) -> list[ListRequest]:
        """Return the lists of `listed`, by the states after their last events."""
        return [one.list_request(self.rec, one.after) for one in self.listed if one.after is not None]

    def behind(self) -> set[str]:
        """Return the users whose states, of this model or the shadow, must be rebuilt in the background."""
        users = self.users.values()
        shadow = self.shadow is not None
        return {one.head.user for one in users if one.behind or one.owing or (shadow and one.shadow is None)}


def plan_writes(
    rec: Recommender, store: Store, entries: Sequence[PendingWrite], shadow: Recommender | None = None
) -> IngestPlan:
    """Return a plan of what is left to do of some requests, as far as it can be done in one go.

    Args:
        rec: the model of these users.
        store: with the heads and states of the users, and their log where a state must be rebuilt.
        entries: requests.
        shadow: another model that reads the same events.

    Cost: one step of the network for each round of events; a replay where an event came late.
    """
    users = _users(rec, store, [event.user for entry in entries for event in entry.request.events], shadow)
    planned: list[tuple[_Run, Write]] = []
    for turn in _turns(entries, users):
        _step(rec, turn, shadow)
        planned += [(run, _write_of(rec, store, run, shadow)) for run in turn]
    planned.sort(key=lambda one: one[0].group)
    return IngestPlan(rec, users, [run for run, _ in planned], [write for _, write in planned], shadow)


def current_state(rec: Recommender, store: Store, head: Head) -> Rebuilt | None:
    """Return the state that holds all events of a user; None where a replay would take too long."""
    state = current_stored(rec, head)
    if state is not None:
        return Rebuilt(state)
    begin, length = to_replay(rec, store, head)
    return rebuild(rec, store, head, begin=begin) if length <= REPLAY_NOW else None


def _users(rec: Recommender, store: Store, names: Iterable[str], shadow: Recommender | None) -> dict[str, _User]:
    """Return the users of a batch under each name they were called by; two names of one user share it."""
    distinct = list(dict.fromkeys(names))
    owners: dict[str, _User] = {}
    found = {}
    for name, head in zip(distinct, store.heads(distinct, rec.fingerprint), strict=True):
        if (user := owners.get(head.user)) is None:
            now = current_state(rec, store, head)
            user = _User(head, head.version, now.state if now else None, now.rated if now else {})
            owners[head.user] = user
        found[name] = user
    if shadow is not None:
        for user, head in zip(
            owners.values(), store.heads([user.head.user for user in owners.values()], shadow.fingerprint), strict=True
        ):
            user.shadow = current_stored(shadow, head)
    return found


def _turns(entries: Sequence[PendingWrite], users: Mapping[str, _User]) -> list[list[_Run]]:
    """Return the events of requests by user, in turns in which no user is twice, in the order of arrival."""
    runs: dict[tuple[int, str], _Run] = {}
    for group, entry in enumerate(entries):
        for n, event in enumerate(entry.request.events):
            if n not in entry.kept:
                run = runs.setdefault((id(entry), event.user), _Run(entry, users[event.user], group, [], []))
                run.places.append(n)
                run.events.append(event)
    turns: list[list[_Run]] = []
    next_turn: dict[int, int] = {}
    for run in runs.values():
        turn = next_turn.get(id(run.user), 0)
        next_turn[id(run.user)] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(run)
    return turns


def _step(rec: Recommender, turn: Sequence[_Run], shadow: Recommender | None) -> None:
    """Move each user of a turn over their events, all users side by side."""
    for n in range(max(len(run.events) for run in turn)):
        live = [(run, run.events[n]) for run in turn if n < len(run.events)]
        for run, event in live:
            run.user.take(event)
            run.user.owing |= run.user.late and rec.network.rating is not None
        for run, state in _moved(rec, [(run, event, run.user.state) for run, event in live if not run.user.late]):
            run.user.state = state
            run.snapshots += snapshot_after(rec, state)
        if shadow is not None:
            for run, state in _moved(shadow, [(run, event, run.user.shadow) for run, event in live]):
                run.user.shadow = state


def _moved(rec: Recommender, some: Sequence[tuple[_Run, Event, State | None]]) -> list[tuple[_Run, State]]:
    """Return the states that there are after an event of each, and note those before."""
    known = [(run, event, state) for run, event, state in some if state is not None]
    states, events = [state for *_, state in known], [event for _, event, _ in known]
    after = observe_each(rec, states, events)
    for (run, event, state), rated in zip(known, rated_each(rec, states, events), strict=True):
        run.before.append((state, event))
        run.rated.setdefault(rec.fingerprint, []).append(rated)
    return [(run, state) for (run, *_), state in zip(known, after, strict=True)]


def _write_of(rec: Recommender, store: Store, run: _Run, shadow: Recommender | None) -> Write:
    """Return the write of a run; where an event came late, the state is rebuilt first if that is quick."""
    user, states, snapshots = run.user, {}, run.snapshots
    replayed: Mapping[int, Rated] = {}
    if user.late or user.owing:
        snapshots = ()
    if user.late:
        _mend(rec, store, user)
    if user.state is not None and not user.late and not user.owing:
        states = {rec.fingerprint: state_to_bytes(user.state)}
        replayed, user.replayed = user.replayed, {}
    if shadow is not None and user.shadow is not None:
        states[shadow.fingerprint] = state_to_bytes(user.shadow)
    if len(run.entry.request.events) - 1 in run.places:
        run.entry.after = None if user.behind else user.state
    write = Write(
        run.events[0].user,
        user.version,
        tuple(run.events),
        states,
        snapshots,
        run.entry.request.client,
        rated={model: rated for model, rated in run.rated.items() if model in states and any(rated)},
        replayed={rec.fingerprint: replayed} if replayed else {},
        group=run.group,
    )
    user.version += len(run.events)
    return write


def _mend(rec: Recommender, store: Store, user: _User) -> None:
    """Put late events in their places by a replay, where that is quick."""
    times = [event.time for event in user.pending if event.time is not None]
    begin, length = to_replay(rec, store, user.head, before=min(times))
    if length <= REPLAY_NOW:
        user.state = rebuild(rec, store, user.head, user.pending, begin=begin).state
        user.late = False


def named(request: IngestRequest, place: int) -> str:
    """Return what an event of a request is called in a message: its place in a batch, and its id if it has one."""
    id = request.events[place].id
    return (f"events.{place}" if len(request.events) > 1 else "event") + (f' id "{id}"' if id is not None else "")


def conflict(request: IngestRequest, place: int) -> ConflictError:
    """Return the error of an id that stands for another event."""
    return ConflictError(
        f"{named(request, place)}: expected the event that was sent under it before, came another. "
        "Give a new event a new id."
    )


def erased_event(request: IngestRequest, place: int) -> ErasedError:
    """Return the error of an event that was erased."""
    return ErasedError(f"{named(request, place)}: it was erased on request and is not taken again. Leave it out.")


def erased_user(request: IngestRequest | None = None, place: int = 0) -> ErasedError:
    """Return the error of a user who was erased; of events, that of the one at a place is named."""
    where = "user" if request is None else f"{named(request, place)}, its user"
    other = "Use another id" if request is None else "Leave the event out"
    return ErasedError(
        f"{where}: the id was erased on request and is blocked. {other}, or let an operator take the id "
        "again: segue readmit USER --store STORE, or DELETE /v1/users/USER/block."
    )
