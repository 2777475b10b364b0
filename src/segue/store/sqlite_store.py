"""The store in one SQLite file, the default of the server: what each method of the contract is in tables."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segue.errors import StoreError
from segue.recommend.ratings import Shared, Tally
from segue.store.base import (
    PROBE,
    ActiveUser,
    Head,
    Outcome,
    Readiness,
    Snapshot,
    Store,
    StoredState,
    Values,
    Versions,
    Write,
    values_changed,
    version_of,
)
from segue.store.events import END, START, Position, StoredEvent
from segue.store.id_hashing import Hasher
from segue.store.sqlite_file import ROOM, SqliteFile, wrong_settings
from segue.store.sqlite_writes import SELECT_EVENT, Recent, Transaction, drop_rated, event_of_row


class SqliteStore(Store):
    """Events and states in one SQLite file that one process owns; see `Store` for the promises.

    Args:
        path: of the file, which is made if missing.

    Raises:
        LockedError: another process has the file open.
        StoreError: the file is no store, or its disk does not keep SQLite's promises.

    Example:
        >>> import tempfile
        >>> from segue.store.events import Event
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = SqliteStore(folder + "/shop.db")
        ...     write = Write("ann", 0, (Event("ann", "17", id="a"),), {"b1": b"state"}, client="web")
        ...     first, again = store.commit([write, write])
        ...     head = store.head("ann", "b1")
        ...     store.close()
        >>> first.version, type(again).__name__, again.originals == first.events
        (1, 'Duplicate', True)
        >>> head.count, head.fresh, head.state.data
        (1, True, b'state')
    """

    exclusive = True

    def __init__(self, path: str | Path) -> None:
        self._file = SqliteFile(path)
        with self._file.read() as db:
            secret = db.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()[0]
            last = db.execute("SELECT max(seq) FROM bodies").fetchone()[0]
        self._hasher, self._recent = Hasher(secret), Recent(last or 0)

    def heads(self, users: Sequence[str], model: str) -> list[Head]:
        """Return the heads of users; see `Store.heads`."""
        query = (
            "SELECT n.uid, p.name, u.version, u.count, u.place, u.seq, s.version, s.memory FROM names n "
            "LEFT JOIN people p ON p.uid = n.uid LEFT JOIN users u ON u.uid = n.uid "
            "LEFT JOIN states s ON s.uid = n.uid AND s.bid = (SELECT bid FROM bundles WHERE name = ?) WHERE n.hash = ?"
        )
        recent = self._recent.users
        heads = {user: known.head(model) for user in users if (known := recent.get(user)) and model in known.states}
        if len(heads) < len(users):
            with self._file.read() as db:
                for user in users:
                    if user not in heads:
                        row = db.execute(query, (model, self._hasher.user(user))).fetchone()
                        heads[user] = _head(user, row, model)
        return [heads[user] for user in users]

    @contextmanager
    def begin(
        self, writes: Sequence[Write], *, values: Values = None, versions: Versions = None
    ) -> Iterator[list[Outcome]]:
        """Do one transaction; see `Store.begin`."""
        db = self._file.begin()
        with self._file.rollback_on_error():
            for name, version in (versions or {}).items():
                if _version(db, name) != version:
                    raise values_changed(versions or ())
            transaction = Transaction(db, self._hasher, self._recent)
            outcomes = transaction.apply_all(writes)
            transaction.flush()
            for name, value in (values or {}).items():
                _put(db, name, value)
            syncing = self._file.sync()
        try:
            yield outcomes
        finally:  # also after an error in the block: the transaction is under way
            with self._file.synced(syncing):
                self._recent.take(transaction)  # nobody else has written since

    def find_event(self, client: str, id: str) -> StoredEvent | None:
        """Return the event under an id; see `Store.find_event`."""
        query = "WHERE l.seq = (SELECT seq FROM keys WHERE hash = ?)"
        with self._file.read() as db:
            row = db.execute(SELECT_EVENT + query, (self._hasher.event(client, id),)).fetchone()
        return event_of_row(row) if row else None

    def events(
        self, user: str, *, after: Position | None = None, limit: int = 1000, backwards: bool = False
    ) -> list[StoredEvent]:
        """Return a page of a user's events; see `Store.events`."""
        sign, order = ("<", "DESC") if backwards else (">", "ASC")
        after = after or (END if backwards else START)
        query = f"WHERE l.uid = ? AND (l.place, l.seq) {sign} (?, ?) ORDER BY l.place {order}, l.seq {order} LIMIT ?"
        with self._file.read() as db:
            return [event_of_row(row) for row in db.execute(SELECT_EVENT + query, (self._uid(db, user), *after, limit))]

    def snapshot(self, user: str, model: str, *, at: Position) -> Snapshot | None:
        """Return the last snapshot at or before a position; see `Store.snapshot`."""
        query = (
            "SELECT count, memory, place, seq FROM snapshots WHERE uid = ? AND bid = (SELECT bid FROM bundles "
            "WHERE name = ?) AND (place, seq) <= (?, ?) ORDER BY place DESC, seq DESC LIMIT 1"
        )
        with self._file.read() as db:
            row = db.execute(query, (self._uid(db, user), model, *at)).fetchone()
        return Snapshot(model, row[0], row[1], Position(row[2], row[3])) if row else None

    def shared(self, model: str, rows: Sequence[int]) -> Shared:
        """Return the shared value of a model; see `Store.shared`."""
        items = [-1, *rows]  # -1 stands for all items
        query = (
            "SELECT item, sum, count FROM shared WHERE bid = (SELECT bid FROM bundles WHERE name = ?) "
            f"AND item IN ({', '.join('?' * len(items))})"
        )
        with self._file.read() as db:
            tallies = {item: Tally(*tally) for item, *tally in db.execute(query, (model, *items))}
        return Shared(tallies, tallies.pop(-1, Tally()))

    def erase_event(self, user: str, seq: int) -> bool:
        """Erase an event; see `Store.erase_event`."""
        with self._file.write() as db:
            self._recent.users.clear()
            uid = self._uid(db, user)
            row = db.execute("SELECT place, key FROM log WHERE seq = ? AND uid = ?", (seq, uid)).fetchone()
            if row is not None:
                drop_rated(db, uid, Position(row[0], seq))
                db.execute("INSERT INTO erased VALUES (?, ?, ?)", (uid, seq, row[1]))
                _erase_events(db, "seq = ?", seq)
                _past_changed(db)
                _drop_states(db, uid)
                db.execute("DELETE FROM snapshots WHERE uid = ? AND (place, seq) >= (?, ?)", (uid, row[0], seq))
                db.execute("UPDATE users SET version = version + 1 WHERE uid = ?", (uid,))
                _recount(db, uid)
        self._file.purge_log()
        return row is not None

    def erase_user(self, user: str) -> bool:
        """Erase a user; see `Store.erase_user`."""
        with self._file.write() as db:
            self._recent.users.clear()
            uid = self._uid(db, user)
            if uid is None:
                db.execute("INSERT OR IGNORE INTO names VALUES (?, NULL)", (self._hasher.user(user),))
            else:
                drop_rated(db, uid, START)
                _erase_events(db, "uid = ?", uid)
                _past_changed(db)
                _drop_states(db, uid)
                db.execute("DELETE FROM snapshots WHERE uid = ?", (uid,))
                db.execute("DELETE FROM users WHERE uid = ?", (uid,))
                db.execute("DELETE FROM erased WHERE uid = ?", (uid,))
                db.execute("UPDATE people SET name = zeroblob(length(name)) WHERE uid = ?", (uid,))
                db.execute("UPDATE names SET uid = NULL WHERE uid = ?", (uid,))
        self._file.purge_log()
        return uid is not None

    def was_erased(self, user: str, event: int | tuple[str, str]) -> bool:
        """Return whether an event of a user was erased; see `Store.was_erased`."""
        by_id = isinstance(event, tuple)
        value = self._hasher.event(*event) if isinstance(event, tuple) else event
        with self._file.read() as db:
            row = db.execute("SELECT uid FROM names WHERE hash = ?", (self._hasher.user(user),)).fetchone()
            if row is None:
                return False
            if row[0] is not None:
                query = f"SELECT 1 FROM erased WHERE uid = ? AND {'key' if by_id else 'seq'} = ?"
                return db.execute(query, (row[0], value)).fetchone() is not None
            if by_id:
                query = "SELECT 1 FROM keys WHERE hash = ? AND seq IS NULL"
            else:
                query = "SELECT 1 FROM bodies WHERE seq = ? AND seq NOT IN (SELECT seq FROM log)"
            return db.execute(query, (value,)).fetchone() is not None

    def finish_erasures(self) -> None:
        """Erase from the files what an erasure before could not; see `Store.finish_erasures`."""
        self._file.purge_log()

    def readmit(self, user: str) -> bool:
        """Let an erased user begin anew; see `Store.readmit`."""
        with self._file.write() as db:
            self._recent.users.clear()
            deleted = db.execute("DELETE FROM names WHERE hash = ? AND uid IS NULL", (self._hasher.user(user),))
            return deleted.rowcount > 0

    def merge(self, old: str, new: str) -> int:
        """Give all events of one user to another; see `Store.merge`."""
        with self._file.write() as db:
            self._recent.users.clear()
            transaction = Transaction(db, self._hasher, self._recent)
            old_uid, new_uid = (transaction.user(name) for name in (old, new))
            if old_uid != new_uid:
                _merge_users(db, old_uid, new_uid)
                _past_changed(db)
            version: int = db.execute("SELECT version FROM users WHERE uid = ?", (new_uid,)).fetchone()[0]
        return version

    def past_version(self) -> int:
        """Return a number that grows with each erasure and merge; see `Store.past_version`."""
        with self._file.read() as db:
            row = db.execute("SELECT value FROM meta WHERE name = 'past'").fetchone()
        return row[0] if row else 0

    def drop_model(self, model: str) -> int:
        """Drop all states, snapshots and the shared value of a model; see `Store.drop_model`."""
        dropped = 0
        for table in ("states", "snapshots", "rated"):
            delete = f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE bid = ? LIMIT 1000)"
            rows = 1
            while rows:  # in short transactions, between which others can write
                with self._file.write() as db:
                    self._recent.users.clear()
                    bid = db.execute("SELECT bid FROM bundles WHERE name = ?", (model,)).fetchone()
                    rows = db.execute(delete, bid).rowcount if bid else 0
                dropped += rows if table == "states" else 0
        return dropped

    def get_value(self, name: str) -> bytes | None:
        """Return a value; see `Store.get_value`."""
        with self._file.read() as db:
            row = db.execute("SELECT value FROM meta WHERE name = ?", ("value:" + name,)).fetchone()
        return bytes(row[0]) if row else None

    def log(self, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Return a page of all events in the order of arrival; see `Store.log`."""
        with self._file.read() as db:
            return [
                event_of_row(row)
                for row in db.execute(SELECT_EVENT + "WHERE l.seq > ? ORDER BY l.seq LIMIT ?", (after, limit))
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
        """Return whether commits are done and synced; see `Store.ready`."""
        try:
            wrong = wrong_settings(self._file.settings())
            self.check_writable()
        except StoreError as error:
            return Readiness(False, f"{error}")
        advice = f"{self._file.path}: {', '.join(wrong)}: a loss of power would lose events. Open the store again."
        return Readiness(False, advice) if wrong else Readiness(True)

    def check_writable(self) -> None:
        """Write a value, a large one after a failed write; see `Store.check_writable`."""
        self._file.check_room()
        if self._file.failed:
            self.put_value(PROBE, bytes(ROOM))
        self.put_value(PROBE, b"")
        self._file.failed = False

    def close(self) -> None:
        """Close the file and release its locks."""
        self._file.close()

    def _uid(self, db: sqlite3.Connection, user: str) -> int | None:
        row = db.execute("SELECT uid FROM names WHERE hash = ?", (self._hasher.user(user),)).fetchone()
        return row[0] if row else None


def _head(user: str, row: Any, model: str) -> Head:
    if row is None:
        return Head(user)
    uid, name, version, count, place, seq, held, data = row
    if uid is None:
        return Head(user, erased=True)
    state = StoredState(model, held, data) if data is not None else None
    return Head(name.decode(), version, count, Position(place, seq) if seq is not None else None, state)


def _version(db: sqlite3.Connection, name: str) -> str:
    row = db.execute("SELECT value FROM meta WHERE name = ?", ("value:" + name,)).fetchone()
    return version_of(row and row[0])


def _put(db: sqlite3.Connection, name: str, value: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", ("value:" + name, value))


def _past_changed(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO meta VALUES ('past', 1) ON CONFLICT(name) DO UPDATE SET value = value + 1")


def _erase_events(db: sqlite3.Connection, which: str, value: int | None) -> None:
    """Write zeros over the bodies of events, empty the rows of their ids, and shorten the log."""
    chosen = f"(SELECT seq FROM log WHERE {which})"
    db.execute(f"UPDATE bodies SET body = zeroblob(length(body)) WHERE seq IN {chosen}", (value,))
    keys = f"(SELECT key FROM log WHERE {which} AND key IS NOT NULL)"
    db.execute(f"UPDATE keys SET seq = NULL, digest = NULL WHERE hash IN {keys}", (value,))
    db.execute(f"DELETE FROM log WHERE {which}", (value,))


def _drop_states(db: sqlite3.Connection, uid: int | None) -> None:
    db.execute("UPDATE states SET memory = zeroblob(length(memory)) WHERE uid = ?", (uid,))
    db.execute("DELETE FROM states WHERE uid = ?", (uid,))


def _recount(db: sqlite3.Connection, uid: int | None) -> None:
    """Set count and last event of a user anew after events have come or gone."""
    query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place DESC, seq DESC LIMIT 1"
    last = db.execute(query, (uid,)).fetchone() or (None, None)
    count = db.execute("SELECT count(*) FROM log WHERE uid = ?", (uid,)).fetchone()[0]
    db.execute("UPDATE users SET count = ?, place = ?, seq = ? WHERE uid = ?", (count, *last, uid))


def _merge_users(db: sqlite3.Connection, old: int, new: int) -> None:
    """Give all rows of one user to another."""
    query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place, seq LIMIT 1"
    first = db.execute(query, (old,)).fetchone() or END
    db.execute("DELETE FROM snapshots WHERE uid = ? OR (uid = ? AND (place, seq) > (?, ?))", (old, new, *first))
    for uid in (old, new):
        _drop_states(db, uid)
        drop_rated(db, uid, Position(*first))
    db.execute("UPDATE log SET uid = ? WHERE uid = ?", (new, old))
    db.execute("UPDATE names SET uid = ? WHERE uid = ?", (new, old))
    db.execute("UPDATE erased SET uid = ? WHERE uid = ?", (new, old))
    both = "(SELECT version, active FROM users WHERE uid = ?)"
    db.execute(
        f"UPDATE users SET version = users.version + old.version + 1, active = max(users.active, old.active) "
        f"FROM {both} AS old WHERE uid = ?",
        (old, new),
    )
    db.execute("DELETE FROM users WHERE uid = ?", (old,))
    db.execute("UPDATE people SET name = zeroblob(length(name)) WHERE uid = ?", (old,))
    _recount(db, new)
