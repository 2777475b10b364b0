"""The writes of one commit, in few statements: all is read at the begin and inserted at the end.

Users and ids are read together. Rows are collected and inserted together, by table, at the end or before a statement
that reads them. A cache of recent users, for whom nothing has to be read, takes over what a transaction has learnt only
when the transaction is on disk.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segue.errors import ErasedError
from segue.recommend.ratings import Rated
from segue.store.base import Conflict, Duplicate, Erased, Head, Outcome, Snapshot, Stale, StoredState, Write, Written
from segue.store.events import START, Event, Position, StoredEvent, as_stored, event_from_bytes, event_to_bytes
from segue.store.id_hashing import Hasher
from segue.store.snapshots import thin
from segue.store.sql.tables import (
    BODIES,
    KEYS,
    LOG,
    NAMES,
    PEOPLE,
    RATED,
    SNAPSHOTS,
    STATES,
    USERS,
    Database,
    Find,
    first,
)

#: The columns of an event that `event_of_row` reads.
SELECT_EVENT = (
    "SELECT l.seq, l.place, b.body, p.name FROM log l JOIN bodies b ON b.seq = l.seq JOIN people p ON p.uid = l.uid "
)
_SELECT_USER = (
    "SELECT n.hash, n.uid, p.name, u.version, u.count, u.place, u.seq FROM names n LEFT JOIN people p ON p.uid = n.uid "
    "LEFT JOIN users u ON u.uid = n.uid WHERE"
)
#: Hashes of the ids of a write's events, None for an event without an id.
Ids = Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class CachedUser:
    """A user as the store has them; `states` holds the models whose state is known here."""

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
    """The writes of one commit; each sees the writes before it.

    Args:
        db: a connection inside a transaction, in which nobody else writes for these users.
        hasher: of the store.
        recent: users and models that need not be read.
        seqs: numbers for events, ascending.
    """

    def __init__(self, db: Database, hasher: Hasher, recent: Recent, seqs: Iterator[int]) -> None:
        self._db, self._hasher, self._recent, self._seqs = db, hasher, recent, seqs
        self.last_seq = recent.last_seq
        self.models = dict(recent.models)
        self.users: dict[str, CachedUser] = {}
        self._read: dict[str, CachedUser] = {}  # users of the store, by the name that stayed
        self._owners: dict[str, str] = {}  # by a merged name, the name that stayed
        self._stored_ids: dict[bytes, tuple[int | None, bytes | None]] = {}
        self._new_uids: Iterator[int] = iter(())
        self._rated_before: bool | None = None
        self._people: list[tuple[int, bytes]] = []
        self._names: list[tuple[bytes, int]] = []
        self._bodies: list[tuple[int, bytes]] = []
        self._log: list[tuple[int, int, int, bytes | None]] = []
        self._keys: dict[bytes, tuple[bytes, int, bytes]] = {}
        self._rows: dict[int, tuple[int, int, int, int | None, int | None, int]] = {}
        self._states: dict[tuple[int, int], tuple[int, int, int, bytes]] = {}
        self._rated: dict[tuple[int, int], tuple[int, int, int, int]] = {}

    def apply_all(self, writes: Sequence[Write]) -> list[Outcome]:
        """Apply writes in their order, a group whole or not at all; return the outcome of each."""
        sent = [(write, ids_of(self._hasher, write)) for write in writes]
        self._read_all({write.user for write in writes}, [id for _, ids in sent for id in ids if id is not None])
        outcomes: list[Outcome] = []
        for group, members in itertools.groupby(sent, key=lambda one: one[0].group):
            together = list(members)
            if group is not None and len(together) > 1 and (refused := self._refuse_group(together)):
                outcomes += refused
            else:
                outcomes += [self._apply(write, ids) for write, ids in together]
        return outcomes

    def user(self, name: str) -> int:
        """Return the number of a user, who is created if new."""
        self._read_all({name}, [])
        known = self._known(name)
        if known is ERASED_USER:
            raise ErasedError(f"user {name!r} was erased. Readmit the user, or use another name.")
        uid = (known or self._new(name)).uid
        self.flush()
        return uid

    def flush(self) -> None:
        """Insert the collected rows into the tables."""
        insert = self._db.insert
        if self._people:
            insert(PEOPLE, self._people)
            insert(NAMES, self._names)
        if self._bodies:
            insert(BODIES, self._bodies)
            insert(LOG, self._log)
        if self._keys:
            insert(KEYS, self._keys.values())
            self._stored_ids |= {key: row[1:] for key, row in self._keys.items()}
        if self._rows:
            insert(USERS, self._rows.values())
        if self._states:
            insert(STATES, self._states.values())
        if self._rated:
            self._db.many("DELETE FROM rated WHERE seq = ? AND bid = ?", self._rated)
            insert(RATED, self._rated.values())
            self._rated_before = True
        collected = (self._people, self._names, self._bodies, self._log, self._keys, self._rows, self._states)
        for rows in (*collected, self._rated):
            rows.clear()

    def _read_all(self, names: Iterable[str], ids: Sequence[bytes]) -> None:
        """Read users and event ids, in one exchange with the database."""
        hashes = {self._hasher.user(name): name for name in names if self._known(name) is None}
        users, stored = self._db.find(
            Find(_SELECT_USER, "n.hash", list(hashes)),
            Find("SELECT hash, seq, digest FROM keys WHERE", "hash", list(dict.fromkeys(ids))),
        )
        self._stored_ids |= {key: (seq, digest) for key, seq, digest in stored}
        for hash, uid, owner, version, count, place, seq in users:
            if uid is None:
                self._read[hashes[hash]] = ERASED_USER
                continue
            last = Position(place, seq) if seq is not None else None
            known = CachedUser(uid, owner.decode(), version, count, last)
            self._owners[hashes[hash]] = known.name
            self._read.setdefault(known.name, known)
        new = len(hashes) - len(users)
        self._new_uids = itertools.chain(self._new_uids, self._db.new_uids(new) if new else ())

    def _known(self, name: str) -> CachedUser | None:
        """Return a user as written, cached or read; None for a new user."""
        owner = self._owners.get(name, name)
        return self.users.get(owner) or self._recent.users.get(owner) or self._read.get(owner)

    def _apply(self, write: Write, ids: Ids) -> Outcome:
        """Apply a write, or return why it is refused."""
        known, refused = self._check(write, ids)
        return refused or self._write(write, known or self._new(write.user), ids)

    def _refuse_group(self, sent: Sequence[tuple[Write, Ids]]) -> list[Outcome]:
        """Return the outcomes of a group that is refused; nothing where all can be applied."""
        ahead: Counter[str] = Counter()  # events of the group so far, by user whatever the name
        checked: list[tuple[CachedUser | None, Outcome | None]] = []
        for write, ids in sent:
            known = self._known(write.user)
            owner = known.name if known else write.user
            checked.append((known, self._check(write, ids, ahead[owner])[1]))
            ahead[owner] += len(write.events)
        if not any(refused for _, refused in checked):
            return []
        return [refused or Stale(known.version if known else 0) for known, refused in checked]

    def _check(self, write: Write, ids: Ids, ahead: int = 0) -> tuple[CachedUser | None, Outcome | None]:
        """Return the user of a write, and the outcome if it is refused."""
        known = self._known(write.user)
        if known is ERASED_USER:
            return known, Erased()
        version = known.version if known else 0
        refused = self._refuse(write, ids, version)
        if refused is None and write.expected is not None and write.expected != version + ahead:
            refused = Stale(version)
        return known, refused

    def _new(self, name: str) -> CachedUser:
        uid = next(self._new_uids)
        self._people.append((uid, name.encode()))
        self._names.append((self._hasher.user(name), uid))
        self._rows[uid] = (uid, 0, 0, None, None, 0)
        return CachedUser(uid, name)

    def _refuse(self, write: Write, ids: Ids, version: int) -> Outcome | None:
        """Return the outcome of a write that the ids of its events refuse."""
        known = [None if id is None else self._id(id) for id in ids]
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
        (rows,) = self._db.find(Find(SELECT_EVENT + "WHERE", "l.seq", [row[0] for row in known if row]))
        originals = {row[0]: event_of_row(row) for row in rows}
        return Duplicate(version, tuple(originals[row[0]] if row and row[0] else None for row in known))

    def _id(self, id: bytes) -> tuple[int | None, bytes | None] | None:
        pending = self._keys.get(id)
        return pending[1:] if pending else self._stored_ids.get(id)

    def _write(self, write: Write, known: CachedUser, ids: Ids) -> Written:
        uid, latest, stored = known.uid, known.last, []
        for event, id in zip(write.events, ids, strict=True):
            body = event_to_bytes(event)
            at = self._insert(uid, event, body, id, latest)
            stored.append(as_stored(event, body, known.name, at))
            latest = at if latest is None else max(at, latest)
        version, count = known.version + len(stored), known.count + len(stored)
        if stored:
            self._rows[uid] = (uid, version, count, *(latest or (None, None)), stored[-1].seq)
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

    def _insert(self, uid: int, event: Event, body: bytes, id: bytes | None, latest: Position | None) -> Position:
        """Insert an event at its place, and drop the snapshots that lack it."""
        seq = self.last_seq = next(self._seqs)
        place = event.time if event.time is not None else latest.place if latest else START.place
        self._bodies.append((seq, body))
        self._log.append((seq, uid, place, id))
        if id is not None:
            self._keys[id] = (id, seq, self._hasher.body(event.digest))
        if latest is not None and (place, seq) < latest:
            self._db.run("DELETE FROM snapshots WHERE uid = ? AND (place, seq) > (?, ?)", uid, place, seq)
            if self._any_rated():
                self.flush()
                drop_rated(self._db, uid, Position(place, seq))
        return Position(place, seq)

    def _any_rated(self) -> bool:
        """Return whether any model has learnt ratings."""
        if self._rated_before is None:
            self._rated_before = bool(self._db.rows("SELECT 1 FROM rated WHERE bid >= 0 LIMIT 1"))
        return self._rated_before or bool(self._rated)

    def _put_rated(self, model: str, rated: Mapping[int, Rated]) -> None:
        bid = self._bid(model)
        self._rated |= {(seq, bid): (bid, seq, rating.row, rating.amount) for seq, rating in rated.items()}

    def _put_snapshot(self, uid: int, snapshot: Snapshot, count: int) -> None:
        db, bid = self._db, self._bid(snapshot.model)
        if not 1 <= snapshot.count <= count:
            return
        self.flush()
        query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place DESC, seq DESC LIMIT 1 OFFSET ?"
        ((place, seq),) = db.rows(query, uid, count - snapshot.count)
        db.insert(SNAPSHOTS, [(uid, bid, place, seq, snapshot.count, snapshot.data)])
        query = "SELECT count, place, seq FROM snapshots WHERE uid = ? AND bid = ? ORDER BY place, seq"
        stored = db.rows(query, uid, bid)
        kept = set(thin([row[0] for row in stored], count))
        dropped = [(uid, bid, *row[1:]) for row in stored if row[0] not in kept]
        db.many("DELETE FROM snapshots WHERE uid = ? AND bid = ? AND place = ? AND seq = ?", dropped)

    def _bid(self, model: str) -> int:
        if model not in self.models:
            query = "SELECT bid FROM bundles WHERE name = ?"
            row = first(self._db.rows(query, model))
            if row is None:
                self._db.run("INSERT INTO bundles(name) VALUES (?) ON CONFLICT(name) DO NOTHING", model)
                row = first(self._db.rows(query, model))
            self.models[model] = int(row[0])
        return self.models[model]


def ids_of(hasher: Hasher, write: Write) -> Ids:
    """Return the hashes of the ids of a write's events."""
    return [hasher.event(write.client, event.id) if event.id is not None else None for event in write.events]


def drop_rated(db: Database, uid: int | None, since: Position) -> None:
    """Drop what a user's events since a position added to shared values. Cost: O(these events)."""
    chosen = "(SELECT seq FROM log WHERE uid = ? AND (place, seq) >= (?, ?))"
    db.run(f"DELETE FROM rated WHERE seq IN {chosen}", uid, *since)


def event_of_row(row: Any) -> StoredEvent:
    """Return the event in a row of `SELECT_EVENT`."""
    seq, place, body, name = row
    return event_from_bytes(body, name.decode(), Position(place, seq))
