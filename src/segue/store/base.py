"""The contract of a store: what every store promises, in the order of the way of one event.

The event log is the truth, and a user state is a cache of the log. `commit` writes events, their
ids and the states that follow from them in one transaction. `commit` returns when all are on disk.

Each user has a *version*. The version begins at 0 and grows by one with every event and with every
other change of the user's log (an erased event, a merge). A write names the version from which it
was computed. The store refuses the write as `Stale` when another write came first. A state carries
the version that it holds: the state is up to date when this is the version of its user, and has to
be rebuilt by replay when it is not.

A rated event adds an amount to the *shared value* of a model. The amount depends on the earlier
events of its user, so the amount is a cache too. The store keeps the amount of each event and
model, drops it where the earlier events change (a late or erased event, a merge), and takes it
again from the replay. The shared value is the sum of the amounts that are kept.

`segue.testing.StoreContract` tests every promise of this page.
"""

import hashlib
import random
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from segue.errors import ArgumentError, ConflictError, StoreError
from segue.recommend.ratings import Rated, Shared
from segue.store.events import Event, Position, StoredEvent


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A user's state after their first `count` events, from which a replay can begin.

    Args:
        model: the fingerprint of the weights that made the state.
        count: events that the state holds, in the user's order.
        data: the bytes of the state.
        position: of the last of these events; the store fills it in.
    """

    model: str
    count: int
    data: bytes
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state as bytes, and the version of its user that the state holds."""

    model: str
    version: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """What a store knows of a user without reading their events.

    Args:
        user: the name under which the events are kept: after a merge, the name that stayed.
        version: the `expected` of the next write; 0 for a user without events.
        count: events.
        last: the position of the last event; None without events.
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
    """What to commit for one user, all of it or nothing.

    Args:
        user: whose.
        expected: the version from which the write was computed. None accepts any version, for
            events without a state.
        events: new events, in the order of arrival.
        states: by model, the bytes of the state after these events.
        snapshots: states along the log. A snapshot at a count that the user does not have is not
            kept.
        client: who sent the events; event ids are unique for each client.
        rated: by model, what each of these events adds to the shared value, None for nothing.
        replayed: by model and `seq`, the same for events that are stored already; replaces the old
            amounts.
        group: writes that follow one another with the same number are committed together or not at
            all. A write with None stands for itself.

    Raises:
        ArgumentError: an event of another user, an id twice, or a state or an amount without the
            version from which it was computed.
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
            raise ArgumentError(f"{where}: expected event ids that differ, came an id twice. Send each event once.")
        if self.expected is None and (self.states or self.snapshots or self.rated or self.replayed):
            raise ArgumentError(f"{where}: came a state without the version that it was computed from. Give expected=.")


@dataclass(frozen=True, slots=True)
class Written:
    """The write is on disk.

    Args:
        version: of the user from now on.
        events: as they are kept, in the order in which they were sent.
    """

    version: int
    events: tuple[StoredEvent, ...]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Some of the events are stored already, with the same ids and bodies; nothing was written.

    Args:
        version: of the user.
        originals: for each event sent, the stored event, or None for a new event. To write the new
            events, send them without the others.
    """

    version: int
    originals: tuple[StoredEvent | None, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Some of the ids belong to events with other bodies; nothing was written. `ids` names them."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stale:
    """Another write came first, or a write of the group was refused; nothing was written.

    Read the head, and compute the write again.
    """

    version: int


@dataclass(frozen=True, slots=True)
class Erased:
    """The user or an event was erased on request and is refused; nothing was written.

    Args:
        ids: of erased events among those sent; empty when the user was erased.
    """

    ids: tuple[str, ...] = ()


#: The name of the value that is written to see whether the store can write.
PROBE = "proof"
#: How often a change of a value is tried while others change the value too.
ATTEMPTS = 100

Outcome: TypeAlias = Written | Duplicate | Conflict | Stale | Erased
#: By name, values to put, and the versions that values must still have.
Values: TypeAlias = Mapping[str, bytes] | None
Versions: TypeAlias = Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class ActiveUser:
    """A user, and the `seq` of their most recent event."""

    user: str
    active: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a store can keep its promises now; if not, why, and what to do."""

    ready: bool
    reason: str = ""


class Store(Protocol):
    """Where a server keeps events, states, snapshots and a few values.

    Every method may be called from several threads. Every write is on disk when the method returns.
    After a `StoreError` nothing has changed (`FullError`: there is no room). `LostError` is the
    exception: the write may or may not have been done, so send the events again, with ids.

    `exclusive` says that one process owns the store, so that no other process changes it.
    """

    exclusive: bool = False

    # The way of an event: read the heads, commit, and rebuild a state from its events where needed.

    @abstractmethod
    def heads(self, users: Sequence[str], model: str) -> list[Head]:
        """Return each user's head with the state of a model. Cost: O(users), not O(events)."""

    def head(self, user: str, model: str) -> Head:
        """Return a user's head with the state of a model."""
        return self.heads([user], model)[0]

    @abstractmethod
    def begin(
        self, writes: Sequence[Write], *, values: Values = None, versions: Versions = None
    ) -> AbstractContextManager[list[Outcome]]:
        """Do a transaction of writes as a block, which begins with an outcome for each, in order.

        The caller can work with the outcomes while the store writes to disk. `with
        store.begin(writes) as outcomes:` ends when everything is on disk, also after an error in
        the block. The block must not write to the store, and must not report an outcome to anybody
        before it has ended without an error.

        A refused write changes nothing and refuses no other write but those of its group, which
        become `Stale` if nothing else refuses them. Later writes see earlier writes: the second
        write for a user expects the version to which the first leads. Of several reasons the first
        refuses a write: erased, conflict, duplicate, stale. A late event is inserted at its place.
        The store then drops the snapshots after that place, which lack the event, and the amounts
        that the events after that place added to the shared values.

        Args:
            writes: for any users.
            values: to put in the same transaction, also if every write is refused.
            versions: of values that must not have changed, as `version_of` returns them.

        Raises:
            StoreError: the transaction failed, at the begin or the end; nothing has changed.
            ConflictError: a value has another version; nothing has changed.
        """

    def commit(self, writes: Sequence[Write], *, values: Values = None, versions: Versions = None) -> list[Outcome]:
        """Do what `begin` does, and return the outcomes when everything is on disk."""
        with self.begin(writes, values=values, versions=versions) as outcomes:
            return outcomes

    @abstractmethod
    def find_event(self, client: str, id: str) -> StoredEvent | None:
        """Return the event that a client sent under an id, if there is one."""

    @abstractmethod
    def events(
        self, user: str, *, after: Position | None = None, limit: int = 1000, backwards: bool = False
    ) -> list[StoredEvent]:
        """Return a page of a user's events in their order: by time, then by arrival.

        Args:
            user: an id; an unknown user has no events.
            after: the position of the last event of the page before. None begins at the first
                event, or backwards at the last.
            limit: events in a page.
            backwards: latest events first.

        Cost: O(limit + log events), wherever the page lies.
        """

    @abstractmethod
    def snapshot(self, user: str, model: str, *, at: Position) -> Snapshot | None:
        """Return the last snapshot at or before a position, if there is one.

        For an event of time t that comes late, `at=Position.after(t)` gives where the replay
        begins.
        """

    @abstractmethod
    def shared(self, model: str, rows: Sequence[int]) -> Shared:
        """Return the shared value of a model, for the items of some rows. Cost: O(rows)."""

    # Erasing.

    @abstractmethod
    def erase_event(self, user: str, seq: int) -> bool:
        """Erase an event and every state and snapshot that holds it, from the files too.

        The store also drops the amounts that this event and the later events of the user added to
        the shared values. The event's id stays refused; the store knows it by a keyed hash alone.
        Returns False when the user has no such event.
        """

    @abstractmethod
    def erase_user(self, user: str) -> bool:
        """Erase a user with all names, events, ids, states and snapshots, from the files too.

        The shared values become as if the user had never been there. The user's names and event ids
        stay refused; the store knows them by keyed hashes alone. Returns False when the user was
        unknown; the name is refused from then on all the same.
        """

    @abstractmethod
    def was_erased(self, user: str, event: int | tuple[str, str]) -> bool:
        """Return whether an event of a user, named by `seq` or by client and id, was erased.

        The store knows nothing of an erased user, for whom any event that was erased counts.
        """

    @abstractmethod
    def finish_erasures(self) -> None:
        """Remove from the files what an earlier erasure had to leave there.

        Raises:
            StoreError: the files still cannot be cleaned.
        """

    @abstractmethod
    def readmit(self, user: str) -> bool:
        """Unblock an erased user; ids of erased events stay refused. False if not erased."""

    @abstractmethod
    def merge(self, old: str, new: str) -> int:
        """Give all events of one user to another, in their order, and return the new version.

        The old name means the new user from then on, and so do all names that were merged into it
        before. The store drops the states of both users, the snapshots of what has changed, and the
        amounts that the events concerned added to the shared values.

        Raises:
            ErasedError: one of the users was erased.
        """

    @abstractmethod
    def past_version(self) -> int:
        """Return a number that grows with each erasure and merge, in the same transaction.

        While the number stays, events only come: what was read of the log holds.
        """

    @abstractmethod
    def drop_model(self, model: str) -> int:
        """Drop the states, snapshots and shared value of a model; return the number of states."""

    # Small values by name: which model runs, rules, positions of imports.

    @abstractmethod
    def get_value(self, name: str) -> bytes | None:
        """Return the value under a name, if there is one."""

    def put_value(self, name: str, value: bytes) -> None:
        """Put a value under a name; `commit` can do so together with events."""
        self.commit([], values={name: value})

    def value_version(self, name: str) -> str:
        """Return `version_of` a value; a remote store does not send the value for this."""
        return version_of(self.get_value(name))

    def replace_value(self, name: str, version: str, value: bytes) -> bool:
        """Put a value under a name if the present value has a version; return whether it had."""
        try:
            self.commit([], values={name: value}, versions={name: version})
        except ConflictError:
            return False
        return True

    # The whole log, for exports and training.

    @abstractmethod
    def log(self, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Return a page of all events in the order of arrival, after a `seq`; empty at the end."""

    @abstractmethod
    def users(self, *, before: int | None = None, limit: int = 1000) -> list[ActiveUser]:
        """Return a page of users, those with the most recent arrivals first, before an `active`."""

    # Health.

    @abstractmethod
    def ready(self) -> Readiness:
        """Commit a value; return whether that succeeds and would survive a loss of power."""

    def check_writable(self) -> None:
        """Write a value as an event is written, and return when it is on disk.

        Raises:
            StoreError: nothing can be written now; the message says why.
        """
        self.put_value(PROBE, b"")

    def proved(self, readiness: Readiness) -> Readiness:
        """Return a readiness, or why nothing can be written although it says that the store is ready."""
        try:
            if readiness.ready:
                self.check_writable()
        except StoreError as error:
            return Readiness(False, f"{error}")
        return readiness

    @abstractmethod
    def close(self) -> None:
        """Release the store; what was committed stays."""


def version_of(value: bytes | None) -> str:
    """Return the version of a value, which is the same for equal bytes; "" for no value.

    Example:
        >>> version_of(None), version_of(b"a")[:8]
        ('', '86f7e437')
    """
    return "" if value is None else hashlib.sha1(value, usedforsecurity=False).hexdigest()


def values_changed(names: Iterable[str]) -> ConflictError:
    """Return the error for values that are not of the versions that `Store.commit` was given."""
    return ConflictError(
        f"store: expected the values {', '.join(names)} as they were read, another has changed one since. Nothing was "
        "changed. Read them again."
    )


def change_value(store: Store, name: str, change: Callable[[bytes | None], bytes]) -> bytes:
    """Change a value that others may change at the same time, and return the new value.

    Args:
        change: returns the new value for the present one; called again where another change came
            first.

    Raises:
        StoreError: another change came first each time.
    """
    for attempt in range(ATTEMPTS):
        old = store.get_value(name)
        new = change(old)
        if new == old or store.replace_value(name, version_of(old), new):
            return new
        time.sleep(random.uniform(0, 0.002 * attempt))
    raise StoreError(f'value "{name}": expected to change it, others changed it each time before. Repeat it.')
