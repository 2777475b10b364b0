"""What each method of the contract of a store is in tables, whatever the database."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from segue.recommend.ratings import Shared, Tally
from segue.store.base import ActiveUser, Head, Snapshot, Store, StoredState, version_of
from segue.store.events import END, START, Position, StoredEvent
from segue.store.id_hashing import Hasher
from segue.store.sql.tables import Database, Find, first
from segue.store.sql.writes import SELECT_EVENT, Recent, Transaction, drop_rated, event_of_row

_SELECT_HEAD = (
    "SELECT n.hash, n.uid, p.name, u.version, u.count, u.place, u.seq, s.version, s.memory FROM names n "
    "LEFT JOIN people p ON p.uid = n.uid LEFT JOIN users u ON u.uid = n.uid "
    "LEFT JOIN states s ON s.uid = n.uid AND s.bid = (SELECT bid FROM bundles WHERE name = ?) WHERE"
)
_OF_USER = "(SELECT uid FROM names WHERE hash = ?)"
_PAST = "past"
_OF_MODEL = "(SELECT bid FROM bundles WHERE name = ?)"


class SqlStore(Store):
    """Events and states in tables; see `Store` for the promises."""

    _hasher: Hasher

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Database]:
        """Give a connection to read."""

    @abstractmethod
    def _alone(self) -> AbstractContextManager[Database]:
        """Give a connection in a transaction beside which no other writes; on disk when the block ends."""

    @abstractmethod
    def _erased(self, db: Database) -> None:
        """Remember inside a transaction that the files have to follow an erasure."""

    def heads(self, users: Sequence[str], model: str) -> list[Head]:
        """Return the heads of users; see `Store.heads`."""
        hashes = {self._hasher.user(user): user for user in users}
        with self._reading() as db:
            (rows,) = db.find(Find(_SELECT_HEAD, "n.hash", list(hashes), (model,)))
        heads = {hashes[row[0]]: _head(hashes[row[0]], row, model) for row in rows}
        return [heads.get(user) or Head(user) for user in users]

    def find_event(self, client: str, id: str) -> StoredEvent | None:
        """Return the event under an id; see `Store.find_event`."""
        query = "WHERE l.seq = (SELECT seq FROM keys WHERE hash = ?)"
        with self._reading() as db:
            row = first(db.rows(SELECT_EVENT + query, self._hasher.event(client, id)))
        return event_of_row(row) if row else None

    def events(
        self, user: str, *, after: Position | None = None, limit: int = 1000, backwards: bool = False
    ) -> list[StoredEvent]:
        """Return a page of a user's events; see `Store.events`."""
        sign, order = ("<", "DESC") if backwards else (">", "ASC")
        after = after or (END if backwards else START)
        where = f"WHERE l.uid = {_OF_USER} AND (l.place, l.seq) {sign} (?, ?)"
        query = f"{SELECT_EVENT}{where} ORDER BY l.place {order}, l.seq {order} LIMIT ?"
        with self._reading() as db:
            return [event_of_row(row) for row in db.rows(query, self._hasher.user(user), *after, limit)]

    def snapshot(self, user: str, model: str, *, at: Position) -> Snapshot | None:
        """Return the last snapshot at or before a position; see `Store.snapshot`."""
        query = (
            f"SELECT count, memory, place, seq FROM snapshots WHERE uid = {_OF_USER} AND bid = {_OF_MODEL} "
            "AND (place, seq) <= (?, ?) ORDER BY place DESC, seq DESC LIMIT 1"
        )
        with self._reading() as db:
            row = first(db.rows(query, self._hasher.user(user), model, *at))
        return Snapshot(model, row[0], row[1], Position(row[2], row[3])) if row else None

    def shared(self, model: str, rows: Sequence[int]) -> Shared:
        """Return the shared value of a model; see `Store.shared`."""
        query = f"SELECT item, sum, count FROM shared WHERE bid = {_OF_MODEL} AND"  # item -1 stands for all items
        with self._reading() as db:
            (found,) = db.find(Find(query, "item", [-1, *rows], (model,)))
        tallies = {item: Tally(*tally) for item, *tally in found}
        return Shared(tallies, tallies.pop(-1, Tally()))

    def erase_event(self, user: str, seq: int) -> bool:
        """Erase an event; see `Store.erase_event`."""
        with self._alone() as db:
            query = f"SELECT uid, place, key FROM log WHERE seq = ? AND uid = {_OF_USER}"
            row = first(db.rows(query, seq, self._hasher.user(user)))
            if row is not None:
                uid, place, key = row
                drop_rated(db, uid, Position(place, seq))
                db.run("INSERT INTO erased VALUES (?, ?, ?)", uid, seq, key)
                _erase_events(db, "seq = ?", seq)
                _drop_states(db, uid)
                db.run("DELETE FROM snapshots WHERE uid = ? AND (place, seq) >= (?, ?)", uid, place, seq)
                db.run("UPDATE users SET version = version + 1 WHERE uid = ?", uid)
                _recount(db, uid)
                _past_changed(db)
                self._erased(db)
        self.finish_erasures()
        return row is not None

    def erase_user(self, user: str) -> bool:
        """Erase a user; see `Store.erase_user`."""
        with self._alone() as db:
            uid = self._uid(db, user)
            if uid is None:
                db.run("INSERT INTO names VALUES (?, NULL) ON CONFLICT DO NOTHING", self._hasher.user(user))
            else:
                drop_rated(db, uid, START)
                _erase_events(db, "uid = ?", uid)
                _drop_states(db, uid)
                for table in ("snapshots", "users", "erased"):
                    db.run(f"DELETE FROM {table} WHERE uid = ?", uid)
                db.run(f"UPDATE people SET name = {db.blank.format('name')} WHERE uid = ?", uid)
                db.run("UPDATE names SET uid = NULL WHERE uid = ?", uid)
                _past_changed(db)
                self._erased(db)
        self.finish_erasures()
        return uid is not None

    def was_erased(self, user: str, event: int | tuple[str, str]) -> bool:
        """Return whether an event of a user was erased; see `Store.was_erased`."""
        by_id = isinstance(event, tuple)
        value = self._hasher.event(*event) if isinstance(event, tuple) else event
        with self._reading() as db:
            row = first(db.rows("SELECT uid FROM names WHERE hash = ?", self._hasher.user(user)))
            if row is None:
                return False
            if row[0] is not None:
                query = f"SELECT 1 FROM erased WHERE uid = ? AND {'key' if by_id else 'seq'} = ?"
                return bool(db.rows(query, row[0], value))
            if by_id:
                query = "SELECT 1 FROM keys WHERE hash = ? AND seq IS NULL"
            else:
                query = "SELECT 1 FROM bodies b WHERE seq = ? AND NOT EXISTS (SELECT 1 FROM log l WHERE l.seq = b.seq)"
            return bool(db.rows(query, value))

    def readmit(self, user: str) -> bool:
        """Let an erased user begin anew; see `Store.readmit`."""
        with self._alone() as db:
            return db.changed("DELETE FROM names WHERE hash = ? AND uid IS NULL", self._hasher.user(user)) > 0

    def merge(self, old: str, new: str) -> int:
        """Give all events of one user to another; see `Store.merge`."""
        with self._alone() as db:
            transaction = Transaction(db, self._hasher, Recent(0), iter(()))
            old_uid, new_uid = (transaction.user(name) for name in (old, new))
            if old_uid != new_uid:
                _merge_users(db, old_uid, new_uid)
                _past_changed(db)
                self._erased(db)
            ((version,),) = db.rows("SELECT version FROM users WHERE uid = ?", new_uid)
        return int(version)

    def past_version(self) -> int:
        """Return a number that grows with each erasure and merge; see `Store.past_version`."""
        with self._reading() as db:
            return int(_value(db, _PAST) or 0)

    def drop_model(self, model: str) -> int:
        """Drop all states, snapshots and the shared value of a model; see `Store.drop_model`."""
        dropped = 0
        for table in ("states", "snapshots", "rated"):
            rows = 1
            while rows:  # in short transactions, between which others can write
                with self._alone() as db:
                    chosen = f"SELECT {db.row_id} FROM {table} WHERE bid = {_OF_MODEL} LIMIT 1000"
                    rows = db.changed(f"DELETE FROM {table} WHERE {db.row_id} IN ({chosen})", model)
                dropped += rows if table == "states" else 0
        return dropped

    def get_value(self, name: str) -> bytes | None:
        """Return a value; see `Store.get_value`."""
        with self._reading() as db:
            return _value(db, name)

    def log(self, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Return a page of all events in the order of arrival; see `Store.log`."""
        query = SELECT_EVENT + "WHERE l.seq > ? AND l.seq <= ? ORDER BY l.seq LIMIT ?"
        with self._reading() as db:
            return [event_of_row(row) for row in db.rows(query, after, self._last_seq(db, after), limit)]

    def users(self, *, before: int | None = None, limit: int = 1000) -> list[ActiveUser]:
        """Return a page of users by activity; see `Store.users`."""
        query = (
            "SELECT p.name, u.active FROM users u JOIN people p ON p.uid = u.uid "
            "WHERE u.active > 0 AND u.active < ? ORDER BY u.active DESC LIMIT ?"
        )
        with self._reading() as db:
            rows = db.rows(query, END.seq if before is None else before, limit)
        return [ActiveUser(name.decode(), active) for name, active in rows]

    def _last_seq(self, db: Database, after: int) -> int:
        """Return a number up to which no event can come any more; events are read after `after`."""
        return END.seq

    def _uid(self, db: Database, user: str) -> int | None:
        row = first(db.rows("SELECT uid FROM names WHERE hash = ?", self._hasher.user(user)))
        return row[0] if row else None


def values_are(db: Database, versions: Mapping[str, str]) -> bool:
    """Return whether values have these versions."""
    return all(version_of(_value(db, name)) == version for name, version in versions.items())


def put_values(db: Database, values: Mapping[str, bytes]) -> None:
    """Put values under their names; a value is written also where it is the same, which shows that it can be."""
    for name, value in values.items():
        db.run("DELETE FROM meta WHERE name = ?", "value:" + name)  # SQLite would write no update to the same bytes
        db.run("INSERT INTO meta VALUES (?, ?)", "value:" + name, value)


def _value(db: Database, name: str) -> bytes | None:
    row = first(db.rows("SELECT value FROM meta WHERE name = ?", "value:" + name))
    return bytes(row[0]) if row else None


def _past_changed(db: Database) -> None:
    put_values(db, {_PAST: b"%d" % (int(_value(db, _PAST) or 0) + 1)})


def _head(user: str, row: Any, model: str) -> Head:
    _, uid, name, version, count, place, seq, held, data = row
    if uid is None:
        return Head(user, erased=True)
    state = StoredState(model, held, data) if data is not None else None
    return Head(name.decode(), version, count, Position(place, seq) if seq is not None else None, state)


def _erase_events(db: Database, which: str, value: int) -> None:
    """Blank the bodies of events, empty the rows of their ids, and shorten the log."""
    chosen = f"(SELECT seq FROM log WHERE {which})"
    db.run(f"UPDATE bodies SET body = {db.blank.format('body')} WHERE seq IN {chosen}", value)
    keys = f"(SELECT key FROM log WHERE {which} AND key IS NOT NULL)"
    db.run(f"UPDATE keys SET seq = NULL, digest = NULL WHERE hash IN {keys}", value)
    db.run(f"DELETE FROM log WHERE {which}", value)


def _drop_states(db: Database, uid: int) -> None:
    db.run(f"UPDATE states SET memory = {db.blank.format('memory')} WHERE uid = ?", uid)
    db.run("DELETE FROM states WHERE uid = ?", uid)


def _recount(db: Database, uid: int) -> None:
    """Set count and last event of a user anew after events have come or gone."""
    query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place DESC, seq DESC LIMIT 1"
    last = first(db.rows(query, uid)) or (None, None)
    count = "(SELECT count(*) FROM log WHERE uid = users.uid)"
    db.run(f"UPDATE users SET count = {count}, place = ?, seq = ? WHERE uid = ?", *last, uid)


def _merge_users(db: Database, old: int, new: int) -> None:
    """Give all rows of one user to another."""
    query = "SELECT place, seq FROM log WHERE uid = ? ORDER BY place, seq LIMIT 1"
    since = first(db.rows(query, old)) or END
    db.run("DELETE FROM snapshots WHERE uid = ? OR (uid = ? AND (place, seq) > (?, ?))", old, new, *since)
    for uid in (old, new):
        _drop_states(db, uid)
        drop_rated(db, uid, Position(*since))
    for table in ("log", "names", "erased"):
        db.run(f"UPDATE {table} SET uid = ? WHERE uid = ?", new, old)
    ((version, active),) = db.rows("SELECT version, active FROM users WHERE uid = ?", old)
    later = "CASE WHEN active > ? THEN active ELSE ? END"
    change = f"UPDATE users SET version = version + ? + 1, active = {later} WHERE uid = ?"
    db.run(change, version, active, active, new)
    db.run("DELETE FROM users WHERE uid = ?", old)
    db.run(f"UPDATE people SET name = {db.blank.format('name')} WHERE uid = ?", old)
    _recount(db, new)
