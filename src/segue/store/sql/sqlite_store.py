"""The store in one SQLite file, the default of the server."""

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segue.errors import StoreError
from segue.store.base import PROBE, Head, Outcome, Readiness, Values, Versions, Write, values_changed
from segue.store.id_hashing import Hasher
from segue.store.sql.sql_store import SqlStore, put_values, values_are
from segue.store.sql.sqlite_file import ROOM, SqliteFile, wrong_settings
from segue.store.sql.tables import Database, Find, Rows
from segue.store.sql.writes import Recent, Transaction


class SqliteStore(SqlStore):
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
        recent = self._recent.users
        heads = {user: known.head(model) for user in users if (known := recent.get(user)) and model in known.states}
        rest = [user for user in users if user not in heads]
        if rest:
            heads |= zip(rest, super().heads(rest, model), strict=True)
        return [heads[user] for user in users]

    @contextmanager
    def begin(
        self, writes: Sequence[Write], *, values: Values = None, versions: Versions = None
    ) -> Iterator[list[Outcome]]:
        """Do one transaction; see `Store.begin`."""
        connection = self._file.begin()
        with self._file.rollback_on_error():
            db = _SqliteDatabase(connection)
            if not values_are(db, versions or {}):
                raise values_changed(versions or ())
            transaction = Transaction(db, self._hasher, self._recent, itertools.count(self._recent.last_seq + 1))
            outcomes = transaction.apply_all(writes)
            transaction.flush()
            put_values(db, values or {})
            syncing = self._file.sync()
        try:
            yield outcomes
        finally:  # also after an error in the block: the transaction is under way
            with self._file.synced(syncing):
                self._recent.take(transaction)  # nobody else has written since

    def finish_erasures(self) -> None:
        """Erase from the files what an erasure before could not; see `Store.finish_erasures`."""
        self._file.purge_log()

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

    @contextmanager
    def _reading(self) -> Iterator[Database]:
        with self._file.read() as connection:
            yield _SqliteDatabase(connection)

    @contextmanager
    def _alone(self) -> Iterator[Database]:
        with self._file.write() as connection:
            self._recent.users.clear()
            yield _SqliteDatabase(connection)

    def _erased(self, db: Database) -> None:
        """Do nothing: the files are always looked at."""


class _SqliteDatabase:
    """A connection of SQLite as a `Database`."""

    blank, row_id = "zeroblob(length({}))", "rowid"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, *values: Any) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def find(self, *queries: Find) -> list[list[Any]]:
        # a query for each value: the text stays the same, so SQLite prepares it once
        execute, found = self._connection.execute, list[list[Any]]()
        for select, column, values, before in queries:
            statement, rows = f"{select} {column} = ?", list[Any]()
            for value in values:
                rows += execute(statement, (*before, value)).fetchall()
            found.append(rows)
        return found

    def run(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)

    def changed(self, statement: str, *values: Any) -> int:
        return self._connection.execute(statement, values).rowcount

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(statement, rows)

    def insert(self, into: Rows, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(into.statement, rows)

    def new_uids(self, count: int) -> Iterable[int]:
        last = self._connection.execute("SELECT max(uid) FROM people").fetchone()[0] or 0
        return range(last + 1, last + 1 + count)
