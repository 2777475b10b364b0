"""The store in one SQLite file: the default of the server.

Knows: what a write, a page, an erasure and a merge are in tables.
Does not know: how the file is locked, synced and erased (`sqlite_file`).
"""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segue.errors import ForgottenError
from segue.serve.events import END, START, Event, Position, StoredEvent, event_from_bytes, event_to_bytes
from segue.serve.snapshots import thin
from segue.serve.sqlite_file import SqliteFile, asked_of
from segue.serve.store import (
    ActiveUser,
    Conflict,
    Duplicate,
    Forgotten,
    Head,
    Outcome,
    Readiness,
    Snapshot,
    Stale,
    Store,
    StoredState,
    Write,
    Written,
)
from segue.serve.tombstones import Hasher

_EVENT = (
    "SELECT l.seq, l.place, b.body, p.name FROM log l JOIN bodies b ON b.seq = l.seq JOIN people p ON p.uid = l.uid "
)


class SqliteStore(Store):
    """Events and states in one SQLite file, which one process owns; see `Store` for what it promises.

    Args:
        path: of the file; it is made if it is not there.

    Raises:
        LockedError: another process has it open.
        StoreError: it is no store, or lies where SQLite cannot keep its promises.

    Example:
        >>> import tempfile
        >>> from segue.serve.events import Event
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = SqliteStore(folder + "/shop.db")
        ...     write = Write("ann", 0, (Event("ann", "17", id="a"),), {"b1": b"memory"}, client="web")
        ...     first, again = store.commit([write, write])
        ...     head = store.head("ann", "b1")
        ...     store.close()
        >>> first.version, type(again).__name__, again.originals == first.events
        (1, 'Duplicate', True)
        >>> head.count, head.fresh, head.state.memory
        (1, True, b'memory')
    """

    def __init__(self, path: str | Path) -> None:
        self._file = SqliteFile(path)
        with self._file.read() as db:
            secret = db.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()[0]
        self._hasher = Hasher(secret)

    def commit(self, writes: Sequence[Write], *, values: Mapping[str, bytes] | None = None) -> list[Outcome]:
        """Write all of this in one transaction; see `Store.commit`."""
        with self._file.write() as db:
            transaction = _Transaction(db, self._hasher)
            outcomes = [transaction.apply(write) for write in writes]
            for name, value in (values or {}).items():
                _put(db, name, value)
        return outcomes

    def heads(self, users: Sequence[str], bundle: str) -> list[Head]:
        """Return what is known of each user; see `Store.heads`."""
        query = (
            "SELECT n.uid, p.name, u.version, u.count, u.place, u.seq, s.version, s.memory FROM names n "
            "LEFT JOIN people p ON p.uid = n.uid LEFT JOIN users u ON u.uid = n.uid "
            "LEFT JOIN states s ON s.uid = n.uid AND s.bid = (SELECT bid FROM bundles WHERE name = ?) WHERE n.hash = ?"
        )
        with self._file.read() as db:
            rows = [db.execute(query, (bundle, self._hasher.user(user))).fetchone() for user in users]
        return [_head(user, row, bundle) for user, row in zip(users, rows, strict=True)]

    def events(
        self, user: str, *, after: Position | None = None, limit: int = 1000, backwards: bool = False
    ) -> list[StoredEvent]:
        """Return a page of a user's events; see `Store.events`."""
        sign, order = ("<", "DESC") if backwards else (">", "ASC")
        after = after or (END if backwards else START)
        query = f"WHERE l.uid = ? AND (l.place, l.seq) {sign} (?, ?) ORDER BY l.place {order}, l.seq {order} LIMIT ?"
        with self._file.read() as db:
            return [_event(row) for row in db.execute(_EVENT + query, (self._uid(db, user), *after, limit))]

    def find(self, client: str, id: str) -> StoredEvent | None:
        """Return the event under an id; see `Store.find`."""
        query = "WHERE l.seq = (SELECT seq FROM keys WHERE hash = ?)"
        with self._file.read() as db:
            row = db.execute(_EVENT + query, (self._hasher.event(client, id),)).fetchone()
        return _event(row) if row else None

    def snapshot(self, user: str, bundle: str, *, at: Position) -> Snapshot | None:
        """Return the last snapshot at or before a position; see `Store.snapshot`."""
        query = (
            "SELECT count, memory, place, seq FROM snapshots WHERE uid = ? AND bid = (SELECT bid FROM bundles "
            "WHERE name = ?) AND (place, seq) <= (?, ?) ORDER BY place DESC, seq DESC LIMIT 1"
        )
        with self._file.read() as db:
            row = db.execute(query, (self._uid(db, user), bundle, *at)).fetchone()
        return Snapshot(bundle, row[0], row[1], Position(row[2], row[3])) if row else None

    def forget_event(self, user: str, seq: int) -> bool:
        """Erase an event; see `Store.forget_event`."""
        with self._file.write() as db:
            uid = self._uid(db, user)
            row = db.execute("SELECT place, key FROM log WHERE seq = ? AND uid = ?", (seq, uid)).fetchone()
            if row is not None:
                _erase_events(db, "seq = ?", seq)
                _drop_states(db, uid)
                db.execute("DELETE FROM snapshots WHERE uid = ? AND (place, seq) >= (?, ?)", (uid, row[0], seq))
                db.execute("UPDATE users SET version = version + 1 WHERE uid = ?", (uid,))
                _recount(db, uid)
        self._file.erase_traces()
        return row is not None

    def forget_user(self, user: str) -> bool:
        """Erase a user; see `Store.forget_user`."""
        with self._file.write() as db:
            uid = self._uid(db, user)
            if uid is None:
                db.execute("INSERT OR IGNORE INTO names VALUES (?, NULL)", (self._hasher.user(user),))
            else:
                _erase_events(db, "uid = ?", uid)
                _drop_states(db, uid)
                db.execute("DELETE FROM snapshots WHERE uid = ?", (uid,))
                db.execute("DELETE FROM users WHERE uid = ?", (uid,))
                db.execute("UPDATE people SET name = zeroblob(length(name)) WHERE uid = ?", (uid,))
                db.execute("UPDATE names SET uid = NULL WHERE uid = ?", (uid,))
        self._file.erase_traces()
        return uid is not None

    def readmit(self, user: str) -> bool:
        """Let an erased user begin anew; see `Store.readmit`."""
        with self._file.write() as db:
            gone = db.execute("DELETE FROM names WHERE hash = ? AND uid IS NULL", (self._hasher.user(user),))
            return gone.rowcount > 0

    def merge(self, old: str, new: str) -> int:
        """Give all events of one user to another; see `Store.merge`."""
        with self._file.write() as db:
            transaction = _Transaction(db, self._hasher)
            old_uid, new_uid = (transaction.user(name) for name in (old, new))
            if old_uid != new_uid:
                _move(db, old_uid, new_uid)
            version: int = db.execute("SELECT version FROM users WHERE uid = ?", (new_uid,)).fetchone()[0]
        return version

    def drop_bundle(self, bundle: str) -> int:
        """Drop all states and snapshots of a bundle; see `Store.drop_bundle`."""
        dropped = 0
        for table in ("states", "snapshots"):
            gone = f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE bid = ? LIMIT 1000)"
            rows = 1
            while rows:  # in short transactions, between which others can write
                with self._file.write() as db:
                    bid = db.execute("SELECT bid FROM bundles WHERE name = ?", (bundle,)).fetchone()
                    rows = db.execute(gone, bid).rowcount if bid else 0
                dropped += rows if table == "states" else 0
        return dropped

    def get_value(self, name: str) -> bytes | None:
        """Return a value; see `Store.get_value`."""
        with self._file.read() as db:
            row = db.execute("SELECT value FROM meta WHERE name = ?", ("value:" + name,)).fetchone()
        return bytes(row[0]) if row else None

    def put_value(self, name: str, value: bytes) -> None:
        """Put a value under a name; see `Store.put_value`."""
        self.commit([], values={name: value})

    def log(self, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Return a page of all events in the order of arrival; see `Store.log`."""
        with self._file.read() as db:
            return [
                _event(row) for row in db.execute(_EVENT + "WHERE l.seq > ? ORDER BY l.seq LIMIT ?", (after, limit))
            ]

    def users(self, *, before: int | None = None, limit: int = 1000) -> list[ActiveUser]:
        """Return a page of users by activity; see `Store.users`."""
        query = (
            "SELECT p.name, u.active FROM users u JOIN people p ON p.uid = u.uid "
            "WHERE u.active > 0 AND u.active < ? ORDER BY u.active DESC LIMIT ?"
        )
        with self._file.read() as db:
            rows = db.execute(query, (END.seq if before is None else before, limit)).fetchall()
        return [ActiveUser(name.decode(), active) for name, active in rows]

    def ready(self) -> Readiness:
        """Return whether commits are synced; see `Store.ready`."""
        wrong = asked_of(self._file.settings())
        advice = f"{self._file.path}: {', '.join(wrong)}: a loss of power would lose events. Open the store again."
        return Readiness(False, advice) if wrong else Readiness(True)

    def close(self) -> None:
        """Close the file and let others have it."""
        self._file.close()

    def _uid(self, db: sqlite3.Connection, user: str) -> int | None:
        row = db.execute("SELECT uid FROM names WHERE hash = ?", (self._hasher.user(user),)).fetchone()
        return row[0] if row else None


class _Transaction:
    """The writes of one commit; each sees those before it."""

    def __init__(self, db: sqlite3.Connection, hasher: Hasher) -> None:
        self._db = db
        self._hasher = hasher

    def apply(self, write: Write) -> Outcome:
        """Do one write, or say why not."""
        row = self._one("SELECT uid FROM names WHERE hash = ?", self._hasher.user(write.user))
        if row is not None and row[0] is None:
            return Forgotten()
        uid = row[0] if row else None
        user = self._one("SELECT version, count, place, seq FROM users WHERE uid = ?", uid) or (0, 0, None, None)
        keys = [self._hasher.event(write.client, e.id) if e.id is not None else None for e in write.events]
        refused = self._refuse(write, keys, version=user[0])
        if refused is not None:
            return refused
        if write.expected is not None and write.expected != user[0]:
            return Stale(user[0])
        return self._write(write, self.user(write.user) if uid is None else uid, keys, user)

    def user(self, name: str) -> int:
        """Return the number of a user, who is made if not there."""
        hash = self._hasher.user(name)
        row = self._one("SELECT uid FROM names WHERE hash = ?", hash)
        if row is None:
            uid = self._db.execute("INSERT INTO people(name) VALUES (?)", (name.encode(),)).lastrowid
            assert uid is not None
            self._db.execute("INSERT INTO names VALUES (?, ?)", (hash, uid))
            self._db.execute("INSERT INTO users VALUES (?, 0, 0, NULL, NULL, 0)", (uid,))
            return uid
        if row[0] is None:
            raise ForgottenError(f"user {name!r} was erased. Readmit the user, or use another name.")
        return int(row[0])

    def _refuse(self, write: Write, keys: Sequence[bytes | None], *, version: int) -> Outcome | None:
        """Return what the ids of the events have against a write."""
        found = [key and self._one("SELECT seq, digest FROM keys WHERE hash = ?", key) for key in keys]
        pairs = [(event, row) for event, row in zip(write.events, found, strict=True) if row]
        gone = tuple(str(event.id) for event, row in pairs if row[0] is None)
        if gone:
            return Forgotten(gone)
        other = tuple(str(event.id) for event, row in pairs if row[1] != self._hasher.body(event.digest))
        if other:
            return Conflict(other)
        if not pairs:
            return None
        return Duplicate(
            version, tuple(_event(self._one(_EVENT + "WHERE l.seq = ?", row[0])) if row else None for row in found)
        )

    def _write(self, write: Write, uid: int, keys: Sequence[bytes | None], user: tuple[Any, ...]) -> Written:
        version, count, *last = user
        latest = Position(*last) if last[1] is not None else None
        owner = self._one("SELECT name FROM people WHERE uid = ?", uid)[0]
        stored = []
        for event, key in zip(write.events, keys, strict=True):
            body = event_to_bytes(event)
            at = self._insert(uid, event, body, key, latest)
            stored.append(event_from_bytes(body, owner.decode(), at))
            latest = at if latest is None else max(at, latest)
        version, count = version + len(stored), count + len(stored)
        if stored:
            row = (version, count, *(latest or ()), stored[-1].seq, uid)
            self._db.execute(
                "UPDATE users SET version = ?, count = ?, place = ?, seq = ?, active = ? WHERE uid = ?", row
            )
        for bundle, memory in write.states.items():
            self._db.execute(
                "INSERT INTO states VALUES (?, ?, ?, ?) ON CONFLICT(uid, bid) DO UPDATE SET "
                "version = excluded.version, memory = excluded.memory",
                (uid, self._bid(bundle), version, memory),
            )
        for snapshot in write.snapshots:
            self._put_snapshot(uid, snapshot, count)
        return Written(version, tuple(stored))

    def _insert(self, uid: int, event: Event, body: bytes, key: bytes | None, latest: Position | None) -> Position:
        """Put one event in its place, and drop the snapshots that lack it."""
        db = self._db
        seq = db.execute("INSERT INTO bodies(body) VALUES (?)", (body,)).lastrowid
        place = event.time if event.time is not None else latest.place if latest else START.place
        assert seq is not None
        db.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (seq, uid, place, key))
        if key is not None:
            db.execute("INSERT INTO keys VALUES (?, ?, ?)", (key, seq, self._hasher.body(event.digest)))
        if latest is not None and (place, seq) < latest:
            db.execute("DELETE FROM snapshots WHERE uid = ? AND (place, seq) > (?, ?)", (uid, place, seq))
        return Position(place, seq)

    def _put_snapshot(self, uid: int, snapshot: Snapshot, count: int) -> None:
        db, bid = self._db, self._bid(snapshot.bundle)
        if not 1 <= snapshot.count <= count:
            return
        query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place DESC, seq DESC LIMIT 1 OFFSET ?"
        place, seq = self._one(query, uid, count - snapshot.count)
        row = (uid, bid, place, seq, snapshot.count, snapshot.memory)
        db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", row)
        query = "SELECT count, place, seq FROM snapshots WHERE uid = ? AND bid = ? ORDER BY place, seq"
        there = db.execute(query, (uid, bid)).fetchall()
        kept = set(thin([row[0] for row in there], count))
        gone = [(uid, bid, *row[1:]) for row in there if row[0] not in kept]
        db.executemany("DELETE FROM snapshots WHERE uid = ? AND bid = ? AND place = ? AND seq = ?", gone)

    def _bid(self, bundle: str) -> int:
        row = self._one("SELECT bid FROM bundles WHERE name = ?", bundle)
        if row is None:
            return self._db.execute("INSERT INTO bundles(name) VALUES (?)", (bundle,)).lastrowid or 0
        return int(row[0])

    def _one(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()


def _head(user: str, row: Any, bundle: str) -> Head:
    if row is None:
        return Head(user)
    uid, name, version, count, place, seq, held, memory = row
    if uid is None:
        return Head(user, forgotten=True)
    state = StoredState(bundle, held, memory) if memory is not None else None
    return Head(name.decode(), version, count, Position(place, seq) if seq is not None else None, state)


def _event(row: Any) -> StoredEvent:
    seq, place, body, name = row
    return event_from_bytes(body, name.decode(), Position(place, seq))


def _put(db: sqlite3.Connection, name: str, value: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", ("value:" + name, value))


def _erase_events(db: sqlite3.Connection, which: str, value: int | None) -> None:
    """Write zeros over some events where they lie, leave their keys as tombstones, and take them out of the log."""
    chosen = f"(SELECT seq FROM log WHERE {which})"
    db.execute(f"UPDATE bodies SET body = zeroblob(length(body)) WHERE seq IN {chosen}", (value,))
    keys = f"(SELECT key FROM log WHERE {which} AND key IS NOT NULL)"
    db.execute(f"UPDATE keys SET seq = NULL, digest = NULL WHERE hash IN {keys}", (value,))
    db.execute(f"DELETE FROM log WHERE {which}", (value,))


def _drop_states(db: sqlite3.Connection, uid: int | None) -> None:
    db.execute("UPDATE states SET memory = zeroblob(length(memory)) WHERE uid = ?", (uid,))
    db.execute("DELETE FROM states WHERE uid = ?", (uid,))


def _recount(db: sqlite3.Connection, uid: int | None) -> None:
    """Bring count and last event of a user up to date after events have come or gone."""
    query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place DESC, seq DESC LIMIT 1"
    last = db.execute(query, (uid,)).fetchone() or (None, None)
    count = db.execute("SELECT count(*) FROM log WHERE uid = ?", (uid,)).fetchone()[0]
    db.execute("UPDATE users SET count = ?, place = ?, seq = ? WHERE uid = ?", (count, *last, uid))


def _move(db: sqlite3.Connection, old: int, new: int) -> None:
    """Make two users one."""
    query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place, seq LIMIT 1"
    first = db.execute(query, (old,)).fetchone() or END
    db.execute("DELETE FROM snapshots WHERE uid = ? OR (uid = ? AND (place, seq) > (?, ?))", (old, new, *first))
    for uid in (old, new):
        _drop_states(db, uid)
    db.execute("UPDATE log SET uid = ? WHERE uid = ?", (new, old))
    db.execute("UPDATE names SET uid = ? WHERE uid = ?", (new, old))
    both = "(SELECT version, active FROM users WHERE uid = ?)"
    db.execute(
        f"UPDATE users SET version = users.version + old.version + 1, active = max(users.active, old.active) "
        f"FROM {both} AS old WHERE uid = ?",
        (old, new),
    )
    db.execute("DELETE FROM users WHERE uid = ?", (old,))
    db.execute("UPDATE people SET name = zeroblob(length(name)) WHERE uid = ?", (old,))
    _recount(db, new)
