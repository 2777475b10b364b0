"""One SQLite file that one process owns, whose transactions are on disk when they return.

Two tables hold what people sent: `bodies` and `people`. Rows are only appended to them, and are
erased by zeros of the same length in the same place. The reason: SQLite copies cells between pages
when it splits or joins pages, and leaves the old copies in the gaps, which `secure_delete` does not
clean (seen: 5 of 19,500 deleted ids were still in the file). Rows that never move and are never
deleted leave no copies. All other tables hold numbers, keyed hashes and the bytes of states.
"""

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from segue.errors import FullError, LockedError, StoreError
from segue.store.id_hashing import new_secret
from segue.store.sql.tables import LATER_SCHEMA, SCHEMA, statements

logger = logging.getLogger("segue.serve")

FORMAT = 1
#: Bytes on disk that must be free for a store to be ready.
ROOM = 1 << 18
#: Seconds to wait for another program that holds the file.
PATIENCE = 5
_APPLICATION = int.from_bytes(b"Segu")
_SETTINGS = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}
#: Keep the shared values equal to the sums of `rated`, where item -1 stands for all items.
_TRIGGERS = [
    """CREATE TRIGGER IF NOT EXISTS rated_comes AFTER INSERT ON rated BEGIN
         INSERT INTO shared VALUES (new.bid, new.item, new.amount, 1), (new.bid, -1, new.amount, 1)
           ON CONFLICT(bid, item) DO UPDATE SET sum = sum + excluded.sum, count = count + 1;
       END""",
    """CREATE TRIGGER IF NOT EXISTS rated_goes AFTER DELETE ON rated BEGIN
         UPDATE shared SET sum = sum - old.amount, count = count - 1 WHERE bid = old.bid AND item IN (old.item, -1);
         DELETE FROM shared WHERE bid = old.bid AND item IN (old.item, -1) AND count = 0;
       END""",
]


class SqliteFile:
    """A file of events and states, open for one writer and one reader at a time.

    Raises:
        LockedError: another process, or another store of this one, has it open.
        StoreError: the file is no store, has a newer format, or its disk does not keep SQLite's
            promises.
    """

    _writer: Any = None
    _reader: Any = None
    _file_handle = _lock_handle = -1
    _wal: tuple[int, int] | None = None
    failed = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock_handle = _lock_path(self.path)
        self._writing, self._reading = threading.RLock(), threading.RLock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="segue-sync")
        try:
            self._file_handle = self._lock_file()
            self._writer = _connect(self.path)
            self._prepare()
            self._reader = _connect(self.path)
            self._reader.execute("PRAGMA query_only = ON")
            self._wal_path = os.path.realpath(self.path) + "-wal"
            self._wal = _identity(self._wal_path)
        except (sqlite3.Error, StoreError) as error:
            self._close_all()
            raise self._translate(error) from error

    def _lock_file(self) -> int:
        """Return a locked handle of the file itself, which refuses other owners by other names."""
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise self._unwritable(error.strerror) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise LockedError(
                f"{self.path}: expected to be its only owner, but another process has it open, by another name or "
                "after its .lock was removed. Stop that process, or give another store."
            ) from error
        return handle

    def _close_all(self) -> None:
        """Close what is open; the locked handles last."""
        for db in (self._reader, self._writer):
            if db is not None:
                db.close()
        if self._lock_handle >= 0:
            with suppress(OSError):
                os.ftruncate(self._lock_handle, 0)
        for handle in (self._file_handle, self._lock_handle):
            if handle >= 0:
                os.close(handle)
        self._file_handle = self._lock_handle = -1

    def _prepare(self) -> None:
        db = self._writer
        kind, version = _pragma(db, "application_id"), _pragma(db, "user_version")
        empty = kind == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty and kind != _APPLICATION:
            raise StoreError(f"{self.path}: expected a store of Segue, came another database. Give another path.")
        if version > FORMAT:
            raise StoreError(f"{self.path}: expected format {FORMAT} or older, came {version}. Update Segue.")
        db.execute("PRAGMA journal_mode = WAL")
        for name, wanted in _SETTINGS.items():
            if (value := _pragma(db, name)) != wanted:
                raise StoreError(
                    f"{self.path}: expected SQLite to run with {name} = {wanted}, came {value}. "
                    "Put the store on a local disk."
                )
        if empty:
            self._create()
        with self.write() as db:
            for statement in [*statements(LATER_SCHEMA), *_TRIGGERS]:
                db.execute(statement)

    def _create(self) -> None:
        with self.write() as db:
            for statement in statements(SCHEMA):
                db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('secret', ?)", (new_secret(),))
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def begin(self) -> sqlite3.Connection:
        """Lock the writing connection and start a transaction, which `synced` ends.

        Raises:
            StoreError: SQLite refused; nothing has changed.
        """
        self._writing.acquire()
        with self.rollback_on_error():
            self._check_replaced()
            self._writer.execute("BEGIN IMMEDIATE")
            return cast(sqlite3.Connection, self._writer)

    def sync(self) -> Future[None]:
        """Start to write the transaction to disk, in another thread."""
        begun = threading.Event()

        def commit() -> None:
            begun.set()
            self._writer.execute("COMMIT")

        syncing = self._worker.submit(commit)
        begun.wait()  # the disk works before this thread takes the interpreter back
        return syncing

    @contextmanager
    def synced(self, syncing: Future[None]) -> Iterator[None]:
        """Begin a block when the transaction is on disk, and unlock the connection at its end; raises as `write`."""
        with self.rollback_on_error():
            syncing.result()
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def rollback_on_error(self) -> Iterator[None]:
        """Roll the transaction back and unlock the connection if the block fails."""
        try:
            yield
        except BaseException as error:
            with suppress(sqlite3.Error):
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            self._writing.release()
            if isinstance(error, sqlite3.Error):
                self.failed = True
                raise self._translate(error) from error
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give the writing connection inside a transaction that is on disk when the block ends.

        Raises:
            StoreError: SQLite refused; nothing has changed. `FullError` when there was no room.
        """
        db = self.begin()
        with self.rollback_on_error():
            yield db
            db.execute("COMMIT")
        self._writing.release()

    def check_room(self) -> None:
        """Raise `FullError` unless there is some room left on disk."""
        disk = os.statvfs(self.path.parent)
        if disk.f_blocks and (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize < ROOM:
            raise FullError(f"{self.path}: no room to write (less than {ROOM:,} bytes are free). Make room.")

    def _check_replaced(self) -> None:
        """Raise `StoreError` where the path leads to another file than the open one."""
        opened = os.fstat(self._file_handle)
        if _identity(self.path) != (opened.st_dev, opened.st_ino):
            raise StoreError(
                f"{self.path}: expected the file that was opened, it was removed or replaced. Nothing was changed. Put "
                "it back, or stop this process and start it again."
            )
        if self._wal is not None and _identity(self._wal_path) != self._wal:  # SQLite keeps it while it is open
            raise StoreError(
                f"{self._wal_path}: expected the file that was opened, it was removed or replaced. Nothing was "
                "changed. Stop this process in the usual way, which saves what it has written, and start it again."
            )

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give the reading connection inside a transaction, which sees a single moment."""
        with self._reading:
            try:
                self._reader.execute("BEGIN")
                try:
                    yield self._reader
                finally:
                    self._reader.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._translate(error) from error

    def purge_log(self) -> None:
        """Move the write-ahead log into the file and empty the log, so that no old page stays."""
        end = time.monotonic() + PATIENCE
        while not self._empty_log():
            if time.monotonic() > end:
                raise StoreError(
                    f"{self.path}: erased, but {self.path.name}-wal still holds it, because another program reads the "
                    "file. Stop that program, and erase again."
                )
            time.sleep(0.05)  # in which others read and write

    def _empty_log(self) -> bool:
        """Try to empty the write-ahead log; False while another program reads it."""
        with self._writing, self._reading:
            try:
                self._writer.execute("PRAGMA busy_timeout = 0")
                try:
                    return not self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                finally:
                    self._writer.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")
            except sqlite3.Error as error:
                raise self._translate(error) from error

    def settings(self) -> dict[str, int | str]:
        """Return the settings of the writing connection that durability rests on."""
        with self._writing:
            try:
                return {name: _pragma(self._writer, name) for name in _SETTINGS}
            except sqlite3.Error as error:
                raise self._translate(error) from error

    def close(self) -> None:
        """Close the file and release its locks."""
        with self._writing, self._reading:
            self._worker.shutdown()
            self._close_all()

    def _translate(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return FullError(f"{self.path}: no room to write ({error}). Nothing was changed. Make room, and repeat.")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LockedError(f"{self.path}: another program holds it ({error}). Nothing was changed. Stop it.")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return self._unwritable(error)
        if code == sqlite3.SQLITE_NOTADB:
            return StoreError(f"{self.path}: expected a store of Segue, came another file. Give another path.")
        return StoreError(f"{self.path}: cannot be read or written ({error}). Nothing was changed. Check the disk.")

    def _unwritable(self, said: object) -> StoreError:
        return StoreError(
            f"{self.path}: expected a file and a folder that can be written, came others ({said}). Nothing was "
            "changed. Change their rights, mount the disk for writing, or give another path."
        )


def wrong_settings(settings: dict[str, int | str]) -> list[str]:
    """Say in words which settings that durability rests on are wrong.

    Example:
        >>> wrong_settings({"journal_mode": "wal", "synchronous": 0, "secure_delete": 1})
        ['synchronous is 0 and not 2']
    """
    return [
        f"{name} is {settings[name]} and not {_SETTINGS[name]}"
        for name in _SETTINGS
        if settings[name] != _SETTINGS[name]
    ]


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Return the device and inode of the file at a path, None without a file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _lock_path(path: Path) -> int:
    """Return an open handle of `.lock`, which locks out other processes until this one ends."""
    lock = path.resolve().with_name(path.resolve().name + ".lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: cannot be opened ({error.strerror}). Give a path that can be written.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(handle, 32).decode() or "unknown"
        os.close(handle)
        raise LockedError(
            f"{path}: expected to be its only owner, but process {owner} has it open. Stop that process, "
            "or give another store; several processes share a postgresql:// or valkey:// store."
        ) from None
    if left := os.read(handle, 32).decode(errors="replace"):  # an owner that closes removes this line
        logger.warning("%s: process %s, its last owner, was ended before it could close it or say why.", path, left)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError as error:
        os.close(handle)
        raise FullError(f"{lock}: cannot be written ({error.strerror}). Make room.") from error
    return handle


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("PRAGMA cache_size = -65536")
    return db


def _pragma(db: sqlite3.Connection, name: str) -> Any:
    return db.execute(f"PRAGMA {name}").fetchone()[0]
