"""Reads a store while a server owns it, for reports and training.

SQLite lets others read beside its one writer (write-ahead log). Each page is a separate read: a reader that held one
moment for long would keep erased data on disk.
"""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segue.addresses import is_address
from segue.errors import StoreError
from segue.store.base import Store
from segue.store.factory import is_shared, open_unchecked
from segue.store.id_hashing import Hasher
from segue.store.sql.sqlite_file import FORMAT, SqliteFile
from segue.store.sql.sqlite_store import SqliteStore
from segue.store.sql.writes import Recent

_HEADER = b"SQLite format 3\0"


def is_store(address: str | Path) -> bool:
    """Return whether an address names a store: `postgresql://...`, `valkey://...`, or a file that SQLite wrote.

    Example:
        >>> is_store("valkey://localhost:6379/0"), is_store("plays.csv")
        (True, False)
    """
    if is_shared(address):
        return True
    try:
        with Path(address).open("rb") as file:
            return file.read(len(_HEADER)) == _HEADER
    except OSError:
        return False


def read_store(address: str | Path) -> Store:
    """Return a store to read, also while a server has it open; a write raises `StoreError`.

    The store of a shared server is opened as usual, because several may open it.

    Raises:
        StoreError: there is no such store, or its format is newer.

    Example:
        >>> read_store("nowhere.db")
        Traceback (most recent call last):
        ...
        segue.errors.StoreError: nowhere.db: expected a store of Segue, found none. Check the path.
    """
    if is_address(address):
        return open_unchecked(address, accept_loss=True)
    return _ReadOnlyStore(Path(address))


class _ReadOnlyFile(SqliteFile):
    """The file of a store, opened without its lock to be read only."""

    def __init__(self, path: Path) -> None:
        if not is_store(path):
            raise StoreError(f"{path}: expected a store of Segue, found none. Check the path.")
        self.path = path
        self._writing, self._reading = threading.RLock(), threading.RLock()
        self._worker = ThreadPoolExecutor(1)  # never given work
        try:
            where = f"{path.absolute().as_uri()}?mode=ro"
            self._reader = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False, timeout=5)
            self._writer = self._reader  # closed twice; never written to
            kind = self._reader.execute("SELECT count(*) FROM sqlite_master WHERE name = 'bodies'").fetchone()[0]
            version = self._reader.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise self._translate(error) from error
        if not kind or version > FORMAT:
            came = f"format {version}" if kind else "another database"
            raise StoreError(f"{path}: expected a store of Segue of format {FORMAT}, came {came}. Update Segue.")

    def begin(self) -> sqlite3.Connection:
        """Refuse."""
        raise StoreError(f"{self.path}: opened to be read only, came a write. Open it with open_store.")

    def purge_log(self) -> None:
        """Refuse."""
        raise StoreError(f"{self.path}: opened to be read only, came a write. Open it with open_store.")


class _ReadOnlyStore(SqliteStore):
    def __init__(self, path: Path) -> None:
        self._file = _ReadOnlyFile(path)
        with self._file.read() as db:
            self._recent = Recent(0)  # caches nothing: others write
            self._hasher = Hasher(db.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()[0])
