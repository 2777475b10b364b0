"""The writes of one commit to an SQLite file, in few statements.

Rows are collected and inserted together, by table, at the end or before a statement that reads them. A cache of recent
users, for whom nothing has to be read, takes over what a transaction has learnt only when the transaction is on disk.
"""

import itertools
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segue.errors import ErasedError
from segue.recommend.ratings import Rated
from segue.store.base import Conflict, Duplicate, Erased, Head, Outcome, Snapshot, Stale, StoredState, Write, Written
from segue.store.events import START, Event, Position, StoredEvent, as_stored, event_from_bytes, event_to_bytes
from segue.store.id_hashing import Hasher
from segue.store.snapshots import thin

#: The columns of an event that `event_of_row` reads.
SELECT_EVENT = (
    "SELECT l.seq, l.place, b.body, p.name FROM log l JOIN bodies b ON b.seq = l.seq JOIN people p ON p.uid = l.uid "
)


@dataclass(frozen=True, slots=True)
class CachedUser:
    """A user as the file has them; `states` holds the models whose state is known here."""

    uid: int
    name: str
    version: int = 0
    count: int = 0
    last: Position | None = None
    states: Mapping[str, StoredState] = field(default_factory=dict)

    def head(self, model: str) -> Head:
        """Return the head with the state of a model."""
        return Head(self.name, self.version, self.count, self.last, self.states[model])


#: Stands for a user who was erased.
ERASED_USER = CachedUser(-1, "")


@dataclass
class Recent:
    """A cache of the users that the last commits wrote, and of models.

    Args:
        last_seq: the number of the last event.
        most: users in the cache.
    """

    last_seq: int
    most: int = 10_000
    users: dict[str, CachedUser] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)

    def take(self, done: "Transaction") -> None:
        """Take over what a transaction has learnt, when it is on disk."""
        self.last_seq = done.last_seq
        self.models = done.models
        for name, known in done.users.items():
            self.users.pop(name, None)
            self.users[name] = known  # at the end, as the most recent
        while len(self.users) > self.most:
            del self.users[next(iter(self.users))]


class Transaction:
    """The writes of one commit; each sees the writes before it."""

    def __init__(self, db: sqlite3.Connection, hasher: Hasher, recent: Recent) -> None:
        self._db, self._hasher, self._recent = db, hasher, recent
        self.last_seq = recent.last_seq
        self.models = dict(recent.models)
        self.users: dict[str, CachedUser] = {}
        self._bodies: list[tuple[int, bytes]] = []
        self._log: list[tuple[int, int, int, bytes | None]] = []
        self._keys: dict[bytes, tuple[bytes, int, bytes]] = {}
        self._rows: dict[int, tuple[int, int, int | None, int | None, int, int]] = {}
        self._states: dict[tuple[int, int], tuple[int, int, int, bytes]] = {}
        self._rated: dict[tuple[int, int], tuple[int, int, int, int]] = {}

    def apply_all(self, writes: Sequence[Write]) -> list[Outcome]:
        """Apply writes in their order, a group whole or not at all; return the outcome of each."""
        outcomes: list[Outcome] = []
        for group, members in itertools.groupby(writes, key=lambda write: write.group):
            together = list(members)
            if group is not None and len(together) > 1 and (refused := self._refuse_group(together)):
                outcomes += refused
            else:
                outcomes += [self.apply(write) for write in together]
        return outcomes

    def apply(self, write: Write) -> Outcome:
        """Apply a write, or return why it is refused."""
        known, keys, refused = self._check(write)
        return refused or self._write(write, known or self._new(write.user), keys)

    def _refuse_group(self, writes: Sequence[Write]) -> list[Outcome]:
        """Return the outcomes of a group that is refused; nothing where all can be applied."""
        ahead: Counter[str] = Counter()  # events of the group so far, by user whatever the name
        checked: list[tuple[CachedUser | None, Outcome | None]] = []
        for write in writes:
            known = self._known(write.user)
            owner = known.name if known else write.user
            checked.append((known, self._check(write, ahead[owner])[2]))
            ahead[owner] += len(write.events)
        if not any(refused for _, refused in checked):
            return []
        return [refused or Stale(known.version if known else 0) for known, refused in checked]

    def _check(self, write: Write, ahead: int = 0) -> tuple[CachedUser | None, list[bytes | None], Outcome | None]:
        """Return the user of a write, the hashes of its ids, and the outcome if it is refused."""
        known = self._known(write.user)
        if known is ERASED_USER:
            return known, [], Erased()
        keys = [self._hasher.event(write.client, e.id) if e.id is not None else None for e in write.events]
        version = known.version if known else 0
        refused = self._refuse(write, keys, version)
        if refused is None and write.expected is not None and write.expected != version + ahead:
            refused = Stale(version)
        return known, keys, refused

    def flush(self) -> None:
        """Insert the collected rows into the tables."""
        many = self._db.executemany
        if self._bodies:
            many("INSERT INTO bodies(seq, body) VALUES (?, ?)", self._bodies)
            many("INSERT INTO log VALUES (?, ?, ?, ?)", self._log)
        if self._keys:
            many("INSERT INTO keys VALUES (?, ?, ?)", self._keys.values())
        if self._rows:
            many(
                "UPDATE users SET version = ?, count = ?, place = ?, seq = ?, active = ? WHERE uid = ?",
                self._rows.values(),
            )
        if self._states:
            many(
                "INSERT INTO states VALUES (?, ?, ?, ?) ON CONFLICT(uid, bid) DO UPDATE SET "
                "version = excluded.version, memory = excluded.memory",
                self._states.values(),
            )
        if self._rated:
            many("DELETE FROM rated WHERE seq = ? AND bid = ?", self._rated)
            many("INSERT INTO rated(bid, seq, item, amount) VALUES (?, ?, ?, ?)", self._rated.values())
        for rows in (self._bodies, self._log, self._keys, self._rows, self._states, self._rated):
            rows.clear()

    def user(self, name: str) -> int:
        """Return the number of a user, who is created if new."""
        known = self._known(name)
        if known is ERASED_USER:
            raise ErasedError(f"user {name!r} was erased. Readmit the user, or use another name.")
        return (known or self._new(name)).uid

    def _known(self, name: str) -> CachedUser | None:
        """Return a user as cached or stored; None for a new user."""
        cached = self.users.get(name) or self._recent.users.get(name)
        if cached is not None:
            return cached
        query = (
            "SELECT n.uid, p.name, u.version, u.count, u.place, u.seq FROM names n LEFT JOIN people p ON p.uid = n.uid "
            "LEFT JOIN users u ON u.uid = n.uid WHERE n.hash = ?"
        )
        row = self._first_row(query, self._hasher.user(name))
        if row is None or row[0] is None:
            return None if row is None else ERASED_USER
        uid, owner, version, count, place, seq = row
        owner = owner.decode()
        if owner != name:  # a merged name: the cache is by the name that stayed
            return self._known(owner)
        return CachedUser(uid, owner, version, count, Position(place, seq) if seq is not None else None)

    def _new(self, name: str) -> CachedUser:
        uid = self._db.execute("INSERT INTO people(name) VALUES (?)", (name.encode(),)).lastrowid
        assert uid is not None
        self._db.execute("INSERT INTO names VALUES (?, ?)", (self._hasher.user(name), uid))
        self._db.execute("INSERT INTO users VALUES (?, 0, 0, NULL, NULL, 0)", (uid,))
        return CachedUser(uid, name)

    def _refuse(self, write: Write, keys: Sequence[bytes | None], version: int) -> Outcome | None:
        """Return the outcome of a write that the ids of its events refuse."""
        known = [key and self._key(key) for key in keys]
        pairs = [(event, row) for event, row in zip(write.events, known, strict=True) if row]
        erased = tuple(str(event.id) for event, row in pairs if row[0] is None)
        if erased:
            return Erased(erased)
        other = tuple(str(event.id) for event, row in pairs if row[1] != self._hasher.body(event.digest))
        if other:
            return Conflict(other)
        if not pairs:
            return None
        self.flush()
        rows = [row and self._first_row(SELECT_EVENT + "WHERE l.seq = ?", row[0]) for row in known]
        return Duplicate(version, tuple(event_of_row(row) if row else None for row in rows))

    def _key(self, key: bytes) -> Any:
        pending = self._keys.get(key)
        return pending[1:] if pending else self._first_row("SELECT seq, digest FROM keys WHERE hash = ?", key)

    def _write(self, write: Write, known: CachedUser, keys: Sequence[bytes | None]) -> Written:
        uid, latest, stored = known.uid, known.last, []
        for event, key in zip(write.events, keys, strict=True):
            body = event_to_bytes(event)
            at = self._insert(uid, event, body, key, latest)
            stored.append(as_stored(event, body, known.name, at))
            latest = at if latest is None else max(at, latest)
        version, count = known.version + len(stored), known.count + len(stored)
        if stored:
            self._rows[uid] = (version, count, *(latest or (None, None)), stored[-1].seq, uid)
        states = dict(known.states)
        for model, data in write.states.items():
            bid = self._bid(model)
            self._states[uid, bid] = (uid, bid, version, data)
            states[model] = StoredState(model, version, data)
        self.users[known.name] = CachedUser(uid, known.name, version, count, latest, states)
        for model, rated in write.rated.items():
            self._put_rated(
                model, {event.seq: rating for event, rating in zip(stored, rated, strict=True) if rating is not None}
            )
        for model, replayed in write.replayed.items():
            self._put_rated(model, replayed)
        for snapshot in write.snapshots:
            self._put_snapshot(uid, snapshot, count)
        return Written(version, tuple(stored))

    def _insert(self, uid: int, event: Event, body: bytes, key: bytes | None, latest: Position | None) -> Position:
        """Insert an event at its place, and drop the snapshots that lack it."""
        self.last_seq += 1
        seq = self.last_seq
        place = event.time if event.time is not None else latest.place if latest else START.place
        self._bodies.append((seq, body))
        self._log.append((seq, uid, place, key))
        if key is not None:
            self._keys[key] = (key, seq, self._hasher.body(event.digest))
        if latest is not None and (place, seq) < latest:
            self.flush()
            self._db.execute("DELETE FROM snapshots WHERE uid = ? AND (place, seq) > (?, ?)", (uid, place, seq))
            drop_rated(self._db, uid, Position(place, seq))
        return Position(place, seq)

    def _put_rated(self, model: str, rated: Mapping[int, Rated]) -> None:
        bid = self._bid(model)
        self._rated |= {(seq, bid): (bid, seq, rating.row, rating.amount) for seq, rating in rated.items()}

    def _put_snapshot(self, uid: int, snapshot: Snapshot, count: int) -> None:
        db, bid = self._db, self._bid(snapshot.model)
        if not 1 <= snapshot.count <= count:
            return
        self.flush()
        query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place DESC, seq DESC LIMIT 1 OFFSET ?"
        place, seq = self._first_row(query, uid, count - snapshot.count)
        row = (uid, bid, place, seq, snapshot.count, snapshot.data)
        db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", row)
        query = "SELECT count, place, seq FROM snapshots WHERE uid = ? AND bid = ? ORDER BY place, seq"
        stored = db.execute(query, (uid, bid)).fetchall()
        kept = set(thin([row[0] for row in stored], count))
        dropped = [(uid, bid, *row[1:]) for row in stored if row[0] not in kept]
        db.executemany("DELETE FROM snapshots WHERE uid = ? AND bid = ? AND place = ? AND seq = ?", dropped)

    def _bid(self, model: str) -> int:
        if model not in self.models:
            row = self._first_row("SELECT bid FROM bundles WHERE name = ?", model)
            new = None if row else self._db.execute("INSERT INTO bundles(name) VALUES (?)", (model,)).lastrowid
            self.models[model] = int(row[0] if row else new or 0)
        return self.models[model]

    def _first_row(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()


def drop_rated(db: sqlite3.Connection, uid: int | None, since: Position) -> None:
    """Drop what a user's events since a position added to shared values. Cost: O(these events)."""
    if db.execute("SELECT 1 FROM rated WHERE bid >= 0 LIMIT 1").fetchone() is None:
        return  # no model has learnt ratings
    chosen = "(SELECT seq FROM log WHERE uid = ? AND (place, seq) >= (?, ?))"
    db.execute(f"DELETE FROM rated WHERE seq IN {chosen}", (uid, *since))


def event_of_row(row: Any) -> StoredEvent:
    """Return the event in a row of `SELECT_EVENT`."""
    seq, place, body, name = row
    return event_from_bytes(body, name.decode(), Position(place, seq))
