"""Removes from the files of a PostgreSQL server what was erased from its tables.

A deleted row stays in its page, and in the server's write-ahead log. So the tables that hold what
people sent are written anew (`VACUUM FULL`), and the log is moved on until its old files are gone or
overwritten. An erasure that this has not followed yet is kept in the table `purges`, so that the next
caller in any process completes it.
"""

import logging
import time
from typing import Any

import psycopg

from segue.errors import StoreError
from segue.store.sql.postgres_server import SESSION, PostgresDatabase, PostgresServer

logger = logging.getLogger("segue.serve")

_TABLES: tuple[str, ...] = ("people", "bodies", "states", "snapshots")
#: Others wait while a table is written anew; a table that is not had within this time is tried again later.
_LOCK_WAIT = "1s"
#: A transaction that began before an erasure keeps its rows in the tables.
_OLDER = (
    "SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND (datname = current_database() OR datname IS NULL) "
    "AND age(backend_xmin) >= age(?::text::xid) LIMIT 1"
)


def follow_erasures(server: PostgresServer, *, wait: float) -> None:
    """Return when the server's files hold no trace of what was erased; others write meanwhile.

    Callers at the same time share the work.

    Raises:
        StoreError: the work took longer than `wait` seconds. The data is deleted, but old files still
            hold it.
    """
    end = time.monotonic() + wait
    with server.connection() as connection:
        db = PostgresDatabase(connection)
        if not _unfollowed(db):
            return
        while not db.rows("SELECT pg_try_advisory_lock(hashtextextended(?, 1))", server.schema)[0][0]:
            _pause(server, end)
        try:
            if erased := _unfollowed(db):  # no other caller has done it since
                while db.rows(_OLDER, str(erased % (1 << 32))):
                    _pause(server, end)
                connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'; SET statement_timeout = 0")
                _rewrite(server, connection, end)
                _move_log(server, db)
                db.run("UPDATE purges SET purged = greatest(purged, ?)", erased)
        finally:
            if not connection.closed:
                connection.execute(SESSION)
                db.run("SELECT pg_advisory_unlock(hashtextextended(?, 1))", server.schema)


def _unfollowed(db: PostgresDatabase) -> int:
    """Return the last transaction that erased something, 0 if the files have followed it."""
    ((erased, purged),) = db.rows("SELECT erased, purged FROM purges")
    return int(erased) if erased > purged else 0


def _rewrite(server: PostgresServer, connection: psycopg.Connection[Any], end: float) -> None:
    """Write the tables anew, one after the other."""
    for table in _TABLES:
        while not _vacuumed(connection, table):
            _pause(server, end)


def _vacuumed(connection: psycopg.Connection[Any], table: str) -> bool:
    try:
        connection.execute(f"VACUUM FULL {table}")
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def _move_log(server: PostgresServer, db: PostgresDatabase) -> None:
    """Begin new files of the write-ahead log, until the old ones are removed or full of zeros."""
    try:
        files = 1
        for _ in range(2):  # the first checkpoint lets go of the old files, which the next ones are made of
            for _ in range(files):
                db.run("SELECT pg_logical_emit_message(false, 'segue', ''), pg_switch_wal()")
            db.run("CHECKPOINT")
            files = db.rows("SELECT count(*) FROM pg_ls_waldir()")[0][0] + 1
    except psycopg.errors.InsufficientPrivilege as error:
        logger.warning(
            "%s: erased from the tables; the write-ahead log holds it until the server has used its files again, "
            "because this user may not move the log (%s). See the guide to scaling out.", server.address, error
        )  # fmt: skip


def _pause(server: PostgresServer, end: float) -> None:
    if time.monotonic() > end:
        raise StoreError(
            f"{server.address}: erased, but the server has not rewritten its files in time, and the old files still "
            "hold it. Erase again to wait for that; a long transaction of another program may stand before it."
        )
    time.sleep(0.05)
