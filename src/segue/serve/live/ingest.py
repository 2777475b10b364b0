"""A batch of requests becomes one step of the network for each round of events, and one commit.

Knows: the order of a user's events within a batch, versions, late events, retries under the same ids.
Does not know: lists, which model answers, how a store keeps its promises.

In words, for one model:

    heads = what the store knows of the users, with their states
    states = those, rebuilt by replay where they do not hold all events
    for each turn (a request of each user), for each of its events, all users side by side:
        note the state before it, for its list is the one that the event is ranked in; step the state
    commit all events, keys and states in one transaction, those of a request together or not at all, with what each
        rating adds to the shared value; lists are made while it is synced

A second model may go along in the shadow: its states are stepped and kept with the others, and where one is
not at hand nobody waits for it.

Where ratings were learnt, a late event changes what the ratings behind it add to the shared value; a replay finds that
out. So no state is kept with such an event, and the user is rebuilt in the background.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from segue.errors import ArgumentError, ConflictError, ErasedError, SegueError
from segue.recommend.batch import observe_each, rated_each, state_to_bytes
from segue.recommend.ratings import Rated
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.serve.live.replay import Rebuilt, is_late, read_state, rebuild, snapshot_after, to_replay
from segue.serve.ranking.types import Answer, Tell
from segue.store.base import Conflict, Duplicate, Erased, Head, Outcome, Snapshot, Store, Write, Written
from segue.store.events import Event, StoredEvent

#: How far in the future an event may be, in microseconds.
TOLERANCE = 5 * 60 * 1_000_000
#: Events that are replayed while a request waits; longer ones are rebuilt in the background.
REPLAY_NOW = 20_000


@dataclass
class Entry:
    """One request, and what has come of it so far.

    Args:
        tell: the request.
        kept: its events that are on disk, by their place in the request.
        known: of these, how many were on disk before.
        after: the state after its last event, where this batch made it.
        before: its events that this process put on disk, each with the state before it, of each model; those that
            are not ranked yet.
        refused: why nothing of it is done.
        answer: its list, where it is made.
    """

    tell: Tell
    kept: dict[int, StoredEvent] = field(default_factory=dict)
    known: int = 0
    after: State | None = None
    before: list[tuple[State, Event]] = field(default_factory=list)
    refused: SegueError | None = None
    answer: Answer | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.refused is not None or len(self.kept) == len(self.tell.events)

    @cached_property
    def ids(self) -> dict[tuple[str, str], int]:
        """Its ids, each with its client, and the places of their events."""
        client, events = self.tell.client, self.tell.events
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
            self.refused = conflict(self.tell, self._place(outcome.ids[0]))
        elif isinstance(outcome, Erased):
            ids = outcome.ids
            self.refused = forgotten_event(self.tell, self._place(ids[0])) if ids else forgotten(self.tell, places[0])

    def settle_known(self, known: Mapping[tuple[str, str], tuple[Event, StoredEvent]]) -> None:
        """Note what requests before it, which sent the same ids, have put on disk meanwhile."""
        old: dict[int, StoredEvent] = {}
        for id, n in self.ids.items():
            if id in known and n not in self.kept:
                event, stored = known[id]
                if event.digest != self.tell.events[n].digest:
                    self.refused = conflict(self.tell, n)
                    return
                old[n] = stored
        self.kept |= old
        self.known += len(old)

    def _place(self, id: str) -> int:
        return self.ids[self.tell.client, id]


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

    entry: Entry
    user: _User
    group: int  # the place of its request: what a request tells is written together or not at all
    places: list[int]
    events: list[Event]
    snapshots: tuple[Snapshot, ...] = ()
    before: list[tuple[State, Event]] = field(default_factory=list)
    rated: dict[str, list[Rated | None]] = field(default_factory=dict)


def check_events(rec: Recommender, tell: Tell, now: int) -> None:
    """Do nothing if the events of a request can be.

    Args:
        rec: the model that reads them.
        tell: the request.
        now: microseconds since 1970.

    Raises:
        ArgumentError: there is none, one is of the future, a rating lies outside the scale, or an id comes twice.
    """
    if not tell.events:
        raise ArgumentError("events: expected at least one, came none. Leave the request out.")
    for place, event in enumerate(tell.events):
        if event.time is not None and event.time > now + TOLERANCE:
            raise ArgumentError(
                f"{named(tell, place)}: expected a time at most 5 minutes from now, came one "
                f"{(event.time - now) / 1e6:.0f} s ahead. Check the clock and the unit: seconds since 1970."
            )
        rec.check_rating(event.item, event.rating)
    ids = [event.id for event in tell.events if event.id is not None]
    if len(ids) != len(set(ids)):
        raise ArgumentError("events: expected ids that differ, came one twice. Send each event once.")


def next_turn(entries: Sequence[Entry]) -> list[Entry]:
    """Return the requests that can be written now; what was sent twice is settled by what came of it first.

    A request that has an id of one before it waits, so that what comes of both is what would come of them one
    after the other.

    Args:
        entries: all requests of a batch in the order of arrival, changed in place.
    """
    known: dict[tuple[str, str], tuple[Event, StoredEvent]] = {}
    waiting: set[tuple[str, str]] = set()
    now: list[Entry] = []
    for entry in entries:
        ids = entry.ids
        if not entry.done and not known.keys().isdisjoint(ids):
            entry.settle_known(known)
        if not entry.done:
            if waiting.isdisjoint(ids):
                now.append(entry)
            waiting |= ids.keys()
        elif entry.refused is None:
            known |= {id: (entry.tell.events[n], entry.kept[n]) for id, n in ids.items()}
    return now


def write_all(
    rec: Recommender,
    store: Store,
    entries: Sequence[Entry],
    shadow: Recommender | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[list[str], list[str]]:
    """Write what is left to do of some requests, as far as it can be done in one go.

    Args:
        rec: the model of these users.
        store: where to.
        entries: requests, changed in place.
        shadow: another model that reads the same events.
        meanwhile: is called while they are put on disk, when the entries say what came of them.

    Returns:
        The users whose states must be rebuilt in the background, and those whose states of the shadow must.

    Raises:
        StoreError: it could not be put on disk; all is as before.
    """
    users = _users(rec, store, [event.user for entry in entries for event in entry.tell.events], shadow)
    planned: list[tuple[_Run, Write]] = []
    for turn in _turns(entries, users):
        _step(rec, turn, shadow)
        planned += [(run, _write_of(rec, store, run, shadow)) for run in turn]
    planned.sort(key=lambda one: one[0].group)

    def settle(outcomes: Sequence[Outcome]) -> None:
        for (run, _), outcome in zip(planned, outcomes, strict=True):
            run.entry.settle(run.places, outcome)
            if isinstance(outcome, Written):
                run.entry.before += run.before
            else:
                run.entry.after = None
        meanwhile()

    store.commit([write for _, write in planned], meanwhile=settle)
    behind = {user.head.user for user in users.values() if user.behind or user.owing}
    shadows = {user.head.user for user in users.values() if user.shadow is None} if shadow else set()
    return list(behind), list(shadows)


def current_state(rec: Recommender, store: Store, head: Head) -> Rebuilt | None:
    """Return the state that holds all events of a user; None where a replay would take too long."""
    state = read_state(rec, head) if head.fresh else None if head.count else rec.start()
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
            state = read_state(rec, head) if head.fresh else None
            now = None if state else current_state(rec, store, head)
            user = _User(head, head.version, now.state if now else state, now.rated if now else {})
            owners[head.user] = user
        found[name] = user
    if shadow is not None:
        for user, head in zip(
            owners.values(), store.heads([user.head.user for user in owners.values()], shadow.fingerprint), strict=True
        ):
            user.shadow = read_state(shadow, head) if head.fresh else None if head.count else shadow.start()
    return found


def _turns(entries: Sequence[Entry], users: Mapping[str, _User]) -> list[list[_Run]]:
    """Return the events of requests by user, in turns in which no user is twice, in the order of arrival."""
    runs: dict[tuple[int, str], _Run] = {}
    for group, entry in enumerate(entries):
        for n, event in enumerate(entry.tell.events):
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
    if len(run.entry.tell.events) - 1 in run.places:
        run.entry.after = None if user.behind else user.state
    write = Write(
        run.events[0].user,
        user.version,
        tuple(run.events),
        states,
        snapshots,
        run.entry.tell.client,
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


def named(tell: Tell, place: int) -> str:
    """Return what an event of a request is called in a message: its place in a batch, and its id if it has one."""
    id = tell.events[place].id
    return (f"events.{place}" if len(tell.events) > 1 else "event") + (f' id "{id}"' if id is not None else "")


def conflict(tell: Tell, place: int) -> ConflictError:
    """Return the error of an id that stands for another event."""
    return ConflictError(
        f"{named(tell, place)}: expected the event that was sent under it before, came another. "
        "Give a new event a new id."
    )


def forgotten_event(tell: Tell, place: int) -> ErasedError:
    """Return the error of an event that was erased."""
    return ErasedError(f"{named(tell, place)}: it was erased on request and is not taken again. Leave it out.")


def forgotten(tell: Tell | None = None, place: int = 0) -> ErasedError:
    """Return the error of a user who was erased; of events, that of the one at a place is named."""
    where = "user" if tell is None else f"{named(tell, place)}, its user"
    other = "Use another id" if tell is None else "Leave the event out"
    return ErasedError(
        f"{where}: the id was erased on request and is blocked. {other}, or let an operator take the id "
        "again: segue readmit USER --store STORE, or DELETE /v1/users/USER/block."
    )
