"""The writes of one commit to an SQLite file, in few statements.

Knows: what a write is in tables; what earlier commits left of recent users, so that nothing of these is read.
Does not know: when a transaction begins, ends or is taken back (`sqlite_store`).

Rows are gathered and put into their tables together, by table, at the end or before anything that has to read
them. What was learnt of users on the way is handed over only once the transaction is on disk.
"""

import itertools
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segue.errors import ErasedError
from segue.recommend.ratings import Rated
from segue.store.base import (
    Conflict,
    Duplicate,
    Erased,
    Head,
    Outcome,
    Snapshot,
    Stale,
    StoredState,
    Write,
    Written,
)
from segue.store.events import START, Event, Position, StoredEvent, event_from_bytes, event_to_bytes, kept
from segue.store.id_hashing import Hasher
from segue.store.snapshots import thin

#: Of an event, what `event_of_row` reads.
EVENT = (
    "SELECT l.seq, l.place, b.body, p.name FROM log l JOIN bodies b ON b.seq = l.seq JOIN people p ON p.uid = l.uid "
)


@dataclass(frozen=True, slots=True)
class Known:
    """A user as the file has them; `states` holds those models whose state, or that there is none, is known."""

    uid: int
    name: str
    version: int = 0
    count: int = 0
    last: Position | None = None
    states: Mapping[str, StoredState] = field(default_factory=dict)

    def head(self, model: str) -> Head:
        """Return what is known, with the state of a model."""
        return Head(self.name, self.version, self.count, self.last, self.states[model])


#: Stands for a user who was erased.
ERASED = Known(-1, "")


@dataclass
class Recent:
    """What the last commits left of the users they were about, of models, and the number of the last event.

    Args:
        last_seq: the number of the last event.
        most: users that are remembered.
    """

    last_seq: int
    most: int = 10_000
    users: dict[str, Known] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)

    def take(self, done: "Transaction") -> None:
        """Take over what a transaction has learnt, now that it is on disk."""
        self.last_seq = done.last_seq
        self.models = done.models
        for name, known in done.users.items():
            self.users.pop(name, None)
            self.users[name] = known  # at the end: the most recent
        while len(self.users) > self.most:
            del self.users[next(iter(self.users))]


class Transaction:
    """The writes of one commit; each sees those before it."""

    def __init__(self, db: sqlite3.Connection, hasher: Hasher, recent: Recent) -> None:
        self._db, self._hasher, self._recent = db, hasher, recent
        self.last_seq = recent.last_seq
        self.models = dict(recent.models)
        self.users: dict[str, Known] = {}
        self._bodies: list[tuple[int, bytes]] = []
        self._log: list[tuple[int, int, int, bytes | None]] = []
        self._keys: dict[bytes, tuple[bytes, int, bytes]] = {}
        self._rows: dict[int, tuple[int, int, int | None, int | None, int, int]] = {}
        self._states: dict[tuple[int, int], tuple[int, int, int, bytes]] = {}
        self._rated: dict[tuple[int, int], tuple[int, int, int, int]] = {}

    def apply_all(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do writes in their order, those of one group together or not at all, and say what came of each."""
        outcomes: list[Outcome] = []
        for group, some in itertools.groupby(writes, key=lambda write: write.group):
            together = list(some)
            if group is not None and len(together) > 1 and (refused := self._refuse_group(together)):
                outcomes += refused
            else:
                outcomes += [self.apply(write) for write in together]
        return outcomes

    def apply(self, write: Write) -> Outcome:
        """Do one write, or say why not."""
        known, keys, refused = self._look(write)
        return refused or self._write(write, known or self._new(write.user), keys)

    def _refuse_group(self, writes: Sequence[Write]) -> list[Outcome]:
        """Return what there is against writes that are done together; nothing where all can be done."""
        ahead: Counter[str] = Counter()  # events of the group before it, of the same user under whatever name
        found: list[tuple[Known | None, Outcome | None]] = []
        for write in writes:
            known = self._known(write.user)
            owner = known.name if known else write.user
            found.append((known, self._look(write, ahead[owner])[2]))
            ahead[owner] += len(write.events)
        if not any(refused for _, refused in found):
            return []
        return [refused or Stale(known.version if known else 0) for known, refused in found]

    def _look(self, write: Write, ahead: int = 0) -> tuple[Known | None, list[bytes | None], Outcome | None]:
        """Return the user of a write, the hashes of its ids, and what there is against it."""
        known = self._known(write.user)
        if known is ERASED:
            return known, [], Erased()
        keys = [self._hasher.event(write.client, e.id) if e.id is not None else None for e in write.events]
        version = known.version if known else 0
        refused = self._refuse(write, keys, version)
        if refused is None and write.expected is not None and write.expected != version + ahead:
            refused = Stale(version)
        return known, keys, refused

    def flush(self) -> None:
        """Put what was gathered into the tables."""
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
        for gathered in (self._bodies, self._log, self._keys, self._rows, self._states, self._rated):
            gathered.clear()

    def user(self, name: str) -> int:
        """Return the number of a user, who is made if not there."""
        known = self._known(name)
        if known is ERASED:
            raise ErasedError(f"user {name!r} was erased. Readmit the user, or use another name.")
        return (known or self._new(name)).uid

    def _known(self, name: str) -> Known | None:
        """Return what is known of a user; None of one who is new."""
        found = self.users.get(name) or self._recent.users.get(name)
        if found is not None:
            return found
        query = (
            "SELECT n.uid, p.name, u.version, u.count, u.place, u.seq FROM names n LEFT JOIN people p ON p.uid = n.uid "
            "LEFT JOIN users u ON u.uid = n.uid WHERE n.hash = ?"
        )
        row = self._one(query, self._hasher.user(name))
        if row is None or row[0] is None:
            return None if row is None else ERASED
        uid, owner, version, count, place, seq = row
        owner = owner.decode()
        if owner != name:  # another name of theirs: what is known stands under the one that stayed
            return self._known(owner)
        return Known(uid, owner, version, count, Position(place, seq) if seq is not None else None)

    def _new(self, name: str) -> Known:
        uid = self._db.execute("INSERT INTO people(name) VALUES (?)", (name.encode(),)).lastrowid
        assert uid is not None
        self._db.execute("INSERT INTO names VALUES (?, ?)", (self._hasher.user(name), uid))
        self._db.execute("INSERT INTO users VALUES (?, 0, 0, NULL, NULL, 0)", (uid,))
        return Known(uid, name)

    def _refuse(self, write: Write, keys: Sequence[bytes | None], version: int) -> Outcome | None:
        """Return what the ids of the events have against a write."""
        found = [key and self._key(key) for key in keys]
        pairs = [(event, row) for event, row in zip(write.events, found, strict=True) if row]
        gone = tuple(str(event.id) for event, row in pairs if row[0] is None)
        if gone:
            return Erased(gone)
        other = tuple(str(event.id) for event, row in pairs if row[1] != self._hasher.body(event.digest))
        if other:
            return Conflict(other)
        if not pairs:
            return None
        self.flush()
        rows = [row and self._one(EVENT + "WHERE l.seq = ?", row[0]) for row in found]
        return Duplicate(version, tuple(event_of_row(row) if row else None for row in rows))

    def _key(self, key: bytes) -> Any:
        pending = self._keys.get(key)
        return pending[1:] if pending else self._one("SELECT seq, digest FROM keys WHERE hash = ?", key)

    def _write(self, write: Write, known: Known, keys: Sequence[bytes | None]) -> Written:
        uid, latest, stored = known.uid, known.last, []
        for event, key in zip(write.events, keys, strict=True):
            body = event_to_bytes(event)
            at = self._insert(uid, event, body, key, latest)
            stored.append(kept(event, body, known.name, at))
            latest = at if latest is None else max(at, latest)
        version, count = known.version + len(stored), known.count + len(stored)
        if stored:
            self._rows[uid] = (version, count, *(latest or (None, None)), stored[-1].seq, uid)
        states = dict(known.states)
        for model, memory in write.states.items():
            bid = self._bid(model)
            self._states[uid, bid] = (uid, bid, version, memory)
            states[model] = StoredState(model, version, memory)
        self.users[known.name] = Known(uid, known.name, version, count, latest, states)
        for model, rated in write.rated.items():
            self._put_rated(model, {at.seq: one for at, one in zip(stored, rated, strict=True) if one is not None})
        for model, replayed in write.replayed.items():
            self._put_rated(model, replayed)
        for snapshot in write.snapshots:
            self._put_snapshot(uid, snapshot, count)
        return Written(version, tuple(stored))

    def _insert(self, uid: int, event: Event, body: bytes, key: bytes | None, latest: Position | None) -> Position:
        """Put one event in its place, and drop the snapshots that lack it."""
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
        self._rated |= {(seq, bid): (bid, seq, one.row, one.amount) for seq, one in rated.items()}

    def _put_snapshot(self, uid: int, snapshot: Snapshot, count: int) -> None:
        db, bid = self._db, self._bid(snapshot.model)
        if not 1 <= snapshot.count <= count:
            return
        self.flush()
        query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place DESC, seq DESC LIMIT 1 OFFSET ?"
        place, seq = self._one(query, uid, count - snapshot.count)
        row = (uid, bid, place, seq, snapshot.count, snapshot.data)
        db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", row)
        query = "SELECT count, place, seq FROM snapshots WHERE uid = ? AND bid = ? ORDER BY place, seq"
        there = db.execute(query, (uid, bid)).fetchall()
        kept = set(thin([row[0] for row in there], count))
        gone = [(uid, bid, *row[1:]) for row in there if row[0] not in kept]
        db.executemany("DELETE FROM snapshots WHERE uid = ? AND bid = ? AND place = ? AND seq = ?", gone)

    def _bid(self, model: str) -> int:
        if model not in self.models:
            row = self._one("SELECT bid FROM bundles WHERE name = ?", model)
            new = None if row else self._db.execute("INSERT INTO bundles(name) VALUES (?)", (model,)).lastrowid
            self.models[model] = int(row[0] if row else new or 0)
        return self.models[model]

    def _one(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()


def drop_rated(db: sqlite3.Connection, uid: int | None, since: Position) -> None:
    """Take away what a user's events from a position on added to the shared values. Cost: O(events from there on)."""
    if db.execute("SELECT 1 FROM rated WHERE bid >= 0 LIMIT 1").fetchone() is None:
        return  # no model has learnt ratings: nothing to look for among the events
    chosen = "(SELECT seq FROM log WHERE uid = ? AND (place, seq) >= (?, ?))"
    db.execute(f"DELETE FROM rated WHERE seq IN {chosen}", (uid, *since))


def event_of_row(row: Any) -> StoredEvent:
    """Return the event in a row of `EVENT`."""
    seq, place, body, name = row
    return event_from_bytes(body, name.decode(), Position(place, seq))
