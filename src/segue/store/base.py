"""What a store promises, whatever it is made of.

Knows: the values that go in and come out, and what each method means. `segue.testing.StoreContract` asks
every promise on this page.
Does not know: SQLite or Valkey; networks, lists, HTTP.

The log is the truth and a state is a cache of it. `commit` puts events, their keys and the states that
follow from them on disk in one transaction, and returns only then.

Each user has a *version*: 0 at first, one more with every event and with every other change of the log (an
erased event, a merge). A write says which version it was computed from, and is refused as `Stale` when
another came first. A state carries the version that it holds, so a state whose version is that of its user
is up to date, and any other must be rebuilt by replay.

What an event *rated* adds to a value that all users share follows from the events of its user before it, as a
state does, and is such a cache too: kept for each event and model, dropped where that past changes (a late or
erased event, a merge), written again by the replay. The shared value of a model is the sum of what is kept.
"""

import hashlib
import random
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from segue.errors import ArgumentError, ConflictError, StoreError
from segue.recommend.ratings import Rated, Shared
from segue.store.events import Event, Position, StoredEvent


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a user as it was after their first `count` events.

    Args:
        model: the fingerprint of the weights that made it.
        count: events of the user, in their order, that it holds.
        data: its bytes.
        position: of the last of these events; the store fills it in.
    """

    model: str
    count: int
    data: bytes
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state as bytes, and the version of its user that it holds."""

    model: str
    version: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """What a store knows of a user without reading their events.

    Args:
        user: the name that events are kept under: after a merge, the one that stayed.
        version: to be given as `expected` in the next write; 0 for a user without events.
        count: events.
        last: where the last event stands; None without events.
        state: of the model that was asked for, if there is one.
        erased: the user was erased, and writes are refused.
    """

    user: str
    version: int = 0
    count: int = 0
    last: Position | None = None
    state: StoredState | None = None
    erased: bool = False

    @property
    def fresh(self) -> bool:
        """Whether the state holds all events."""
        return self.state is not None and self.state.version == self.version


@dataclass(frozen=True, slots=True)
class Write:
    """Something to be committed for one user, all of it or nothing.

    Args:
        user: whose.
        expected: the version that this was computed from. None takes any, for events that come without a
            state.
        events: new events, in the order of arrival.
        states: bytes by model, each the state after these events.
        snapshots: states along the log. One at a count that the user does not have is not kept.
        client: who sent it; the ids of its events are its own.
        rated: by model, what each of these events adds to the shared value, None for nothing.
        replayed: by model, the same of events that are there already, by `seq`; it replaces what was kept of them.
        group: writes of one commit that follow one another with the same number are done together or not at all;
            None stands for itself.

    Raises:
        ArgumentError: an event of another user, an id twice, or a state, or what events add to the shared value,
            without the version it is made of.
    """

    user: str
    expected: int | None
    events: tuple[Event, ...] = ()
    states: Mapping[str, bytes] = field(default_factory=dict)
    snapshots: tuple[Snapshot, ...] = ()
    client: str = ""
    rated: Mapping[str, Sequence[Rated | None]] = field(default_factory=dict)
    replayed: Mapping[str, Mapping[int, Rated]] = field(default_factory=dict)
    group: int | None = None

    def __post_init__(self) -> None:
        where = f"write for {self.user!r}"
        for event in self.events:
            if event.user != self.user:
                raise ArgumentError(f"{where}: came an event of {event.user!r}. Make one write for each user.")
        ids = [event.id for event in self.events if event.id is not None]
        if len(set(ids)) < len(ids):
            raise ArgumentError(f"{where}: expected ids that differ, came one twice. Send each event once.")
        if self.expected is None and (self.states or self.snapshots or self.rated or self.replayed):
            raise ArgumentError(f"{where}: came a state without the version it is made of. Give expected=.")


@dataclass(frozen=True, slots=True)
class Written:
    """It is on disk.

    Args:
        version: of the user from now on.
        events: as they are kept, in the order in which they were sent.
    """

    version: int
    events: tuple[StoredEvent, ...]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Some of the events were there already, under the same ids, with the same bodies; nothing was done.

    Args:
        version: of the user.
        originals: one for each event sent: the event that was there, or None for one that is new. To write
            the new ones, send them without the others.
    """

    version: int
    originals: tuple[StoredEvent | None, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Some of the ids belong to events with other bodies; nothing was done. `ids` says which."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stale:
    """Another write, or one of its group, was in the way; nothing was done. Read the head, and compute again."""

    version: int


@dataclass(frozen=True, slots=True)
class Erased:
    """Something was erased on request and must not come back; nothing was done.

    Args:
        ids: of erased events among those sent; empty when it is the user who was erased.
    """

    ids: tuple[str, ...] = ()


#: The value that is written to see whether something can be.
PROOF = "proof"
#: How often a change of a value is tried while others change it too.
ATTEMPTS = 100

Outcome: TypeAlias = Written | Duplicate | Conflict | Stale | Erased
Meanwhile: TypeAlias = Callable[[Sequence[Outcome]], None]


@dataclass(frozen=True, slots=True)
class ActiveUser:
    """A user, and the arrival number of their most recent event."""

    user: str
    active: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a store keeps its promises just now; if not, why, and what to do."""

    ready: bool
    reason: str = ""


class Store(Protocol):
    """Where a server keeps events, states, snapshots and a few values.

    Every method may be called from several threads. Every write is on disk when the method returns. A
    `StoreError` means that all is as before (`FullError`: no room), but for `LostError`, after which a
    write may or may not have been done: send it again, with ids.

    `exclusive` says that one process owns it, so that nothing changes behind its back.
    """

    exclusive: bool = False

    @abstractmethod
    def commit(
        self,
        writes: Sequence[Write],
        *,
        values: Mapping[str, bytes] | None = None,
        versions: Mapping[str, str] | None = None,
        meanwhile: Meanwhile | None = None,
    ) -> list[Outcome]:
        """Write all of this in one transaction, and return one outcome for each write, in order.

        A write that is not `Written` changes nothing and does not spoil others than those of its group, which are
        then `Stale` where nothing else is against them. Later writes see earlier ones: two for one user are chained
        by giving the second the version that the first leads to. Of several reasons against a write the first of
        these is told: erased, conflict, duplicate, stale. An event that comes late is put in its place; snapshots
        behind it, which lack it, are dropped, and so is what older events behind it added to the shared values.

        Args:
            writes: for any users.
            values: to put in the same transaction, whatever becomes of the writes.
            versions: of values that must be there still, as `version_of` tells them.
            meanwhile: work that needs the outcomes but not the disk. It is called once they are known, while they are
                put on disk if the store can do both, and must not write to the store. Nobody may be told of what
                comes of it before this returns: where it raises, nothing was done.

        Raises:
            StoreError: it could not be put on disk; all is as before.
            ConflictError: a value is of another version; all is as before.
            Exception: of `meanwhile`; the writes are on disk.
        """

    @abstractmethod
    def heads(self, users: Sequence[str], model: str) -> list[Head]:
        """Return what is known of each user, with the state of a model. Cost: O(users), not O(events)."""

    @abstractmethod
    def events(
        self, user: str, *, after: Position | None = None, limit: int = 1000, backwards: bool = False
    ) -> list[StoredEvent]:
        """Return a page of a user's events in their order: by time, then by arrival.

        Args:
            user: an id; of a user who is unknown there are no events.
            after: the position of the last event of the page before; None begins at the first event, or
                backwards at the last.
            limit: events in a page.
            backwards: from the end, latest first.

        Cost: O(limit + log events), wherever the page lies.
        """

    @abstractmethod
    def find_event(self, client: str, id: str) -> StoredEvent | None:
        """Return the event that a client sent under an id, if it is there."""

    @abstractmethod
    def snapshot(self, user: str, model: str, *, at: Position) -> Snapshot | None:
        """Return the last snapshot at or before a position, if there is one.

        Before an event of time t is put in place, `at=Position.after(t)` gives where to begin the replay.
        """

    @abstractmethod
    def erase_event(self, user: str, seq: int) -> bool:
        """Erase an event, with every state and snapshot that holds it, from the files too.

        What it and the events behind it added to the shared values is taken away. Its id stays refused, known
        known only by a keyed hash. Returns False when that user has no such event.
        """

    @abstractmethod
    def was_erased(self, event: int | tuple[str, str]) -> bool:
        """Return whether an event was erased, alone or with its user: by its `seq`, or by its client and id."""

    @abstractmethod
    def finish_erasures(self) -> None:
        """Erase from the files what an erasure before could not, because something was in its way.

        Raises:
            StoreError: something still is.
        """

    @abstractmethod
    def erase_user(self, user: str) -> bool:
        """Erase a user with all names, events, keys, states and snapshots, from the files too.

        The shared values are as if the user had never been. The names and the ids of the events stay refused,
        known only by a keyed hash. Returns False when nothing was known of the user; the name is refused from
        then on all the same.
        """

    @abstractmethod
    def readmit(self, user: str) -> bool:
        """Let an erased user begin anew; ids of erased events stay refused. False if it was not erased."""

    @abstractmethod
    def merge(self, old: str, new: str) -> int:
        """Give all events of one user to another, in their order, and return the new version.

        From then on the old name means the new user. States of both, and snapshots of what has changed, are
        dropped, and what the events concerned added to the shared values. A user who was merged already takes
        along the names that mean them.

        Raises:
            ErasedError: one of them was erased.
        """

    @abstractmethod
    def drop_model(self, model: str) -> int:
        """Drop all states, snapshots and the shared value of a model, and return how many states there were."""

    @abstractmethod
    def shared(self, model: str, rows: Sequence[int]) -> Shared:
        """Return the shared value of a model, of its items those of some rows. Cost: O(rows), not O(events)."""

    @abstractmethod
    def get_value(self, name: str) -> bytes | None:
        """Return a value that was put under a name, if any."""

    @abstractmethod
    def put_value(self, name: str, value: bytes) -> None:
        """Put a value under a name; `commit` can do it together with events."""

    @abstractmethod
    def value_version(self, name: str) -> str:
        """Return the version of a value, as `version_of` tells it of its bytes, without fetching it."""

    @abstractmethod
    def replace_value(self, name: str, version: str, value: bytes) -> bool:
        """Put a value under a name if that which is there is of a version; return whether it was.

        So of several who read a value, change it and put it back none loses the change of another; see
        `change_value`.
        """

    @abstractmethod
    def log(self, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Return a page of all events in the order of arrival, behind a `seq`; empty at the end."""

    @abstractmethod
    def users(self, *, before: int | None = None, limit: int = 1000) -> list[ActiveUser]:
        """Return a page of users, those with the most recent arrivals first, before an `active`."""

    def check_writable(self) -> None:
        """Write something, as an event is written, and return when it is on disk.

        Raises:
            StoreError: nothing can be written just now; the message says why.
        """
        self.put_value(PROOF, b"")

    @abstractmethod
    def ready(self) -> Readiness:
        """Return whether something can be committed now, by doing so, and would survive a loss of power."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it; what was committed stays."""

    def head(self, user: str, model: str) -> Head:
        """Return what is known of a user, with the state of a model."""
        return self.heads([user], model)[0]


def version_of(value: bytes | None) -> str:
    """Return the version of a value: that of the same bytes is the same. Of none it is "".

    Example:
        >>> version_of(None), version_of(b"a")[:8]
        ('', '86f7e437')
    """
    return "" if value is None else hashlib.sha1(value, usedforsecurity=False).hexdigest()


def moved(names: Iterable[str]) -> ConflictError:
    """Return the error of values that are not of the version that they must be of; see `Store.commit`."""
    return ConflictError(
        f"store: expected the values {', '.join(names)} as they were read, another has changed one since. Nothing was "
        "changed. Read them again."
    )


def change_value(store: Store, name: str, change: Callable[[bytes | None], bytes]) -> bytes:
    """Change a value that others may change at the same time, and return it.

    Args:
        store: where it is kept.
        name: of the value.
        change: returns the new value for that which is there; called again where another came first.

    Raises:
        StoreError: others came first each time.
    """
    for attempt in range(ATTEMPTS):
        old = store.get_value(name)
        new = change(old)
        if new == old or store.replace_value(name, version_of(old), new):
            return new
        time.sleep(random.uniform(0, 0.002 * attempt))
    raise StoreError(f'value "{name}": expected to change it, others changed it each time before. Repeat it.')
