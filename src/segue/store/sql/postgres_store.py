"""The store in a PostgreSQL server that several processes share.

Writers work side by side. A transaction locks the users and the event ids that it is about, and then
reads and writes them; erasures and merges are alone. A commit is on disk when it returns.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from segue.store.base import Outcome, Readiness, Values, Versions, Write, values_changed
from segue.store.id_hashing import Hasher
from segue.store.sql.postgres_erasing import follow_erasures
from segue.store.sql.postgres_server import PostgresDatabase, PostgresServer
from segue.store.sql.sql_store import SqlStore, put_values, values_are
from segue.store.sql.tables import Database
from segue.store.sql.writes import Recent, Transaction, ids_of

#: Locks of one transaction; one that needs more is alone, because the server's table of locks is small.
LOCKS = 500
#: Seconds between looks at whether the transactions that had begun have ended.
PAUSES = (0.001, 0.002, 0.004, 0.008, 0.016)


class PostgresStore(SqlStore):
    """Events and states in a PostgreSQL server that several processes share; see `Store` for the promises.

    Args:
        address: postgresql://user:password@host:port/database.
        schema: of the tables, so that several stores can share a database.
        accept_loss: be ready although the server does not sync each commit.
        erase_wait: seconds that an erasure may take until the server's files hold no trace.

    Raises:
        LostError: the server does not answer.
    """

    def __init__(
        self, address: str, *, schema: str = "segue", accept_loss: bool = False, erase_wait: float = 300
    ) -> None:
        self._server = PostgresServer(address, schema=schema)
        self._accept_loss, self._erase_wait = accept_loss, erase_wait
        self._hasher = Hasher(self._server.secret)
        self._models: dict[str, int] = {}

    @contextmanager
    def begin(
        self, writes: Sequence[Write], *, values: Values = None, versions: Versions = None
    ) -> Iterator[list[Outcome]]:
        """Do one transaction; see `Store.begin`."""
        users = {self._hasher.user(write.user) for write in writes}
        ids = {id for write in writes for id in ids_of(self._hasher, write) if id is not None}
        names = {self._hasher.event("value", name) for name in [*(values or {}), *(versions or {})]}
        with self._server.pipeline() as db:
            self._enter(db, list(users), {*users, *ids, *names})
            count = sum(len(write.events) for write in writes)
            seqs = db.ask("SELECT nextval('seqs') FROM generate_series(1, ?)", count)
            transaction = Transaction(db, self._hasher, Recent(0, models=self._models), (row[0] for row in seqs))
            if not values_are(db, versions or {}):
                raise values_changed(versions or ())
            outcomes = transaction.apply_all(writes)
            transaction.flush()
            put_values(db, values or {})
            db.run("COMMIT")  # is sent, and waited for at the end of the block
            yield outcomes
        self._models |= transaction.models

    def finish_erasures(self) -> None:
        """Erase from the files what an erasure before could not; see `Store.finish_erasures`."""
        follow_erasures(self._server, wait=self._erase_wait)

    def ready(self) -> Readiness:
        """Return whether the server takes and syncs each write; see `Store.ready`."""
        return self.proved(self._server.ready(accept_loss=self._accept_loss))

    def close(self) -> None:
        """Close the connections; the server keeps the data."""
        self._server.close()

    def _enter(self, db: PostgresDatabase, users: list[bytes], locked: set[bytes], *, alone: bool = False) -> None:
        """Begin a transaction, after others that are about the same users, ids or values."""
        alone = alone or len(locked) > LOCKS
        locks = [] if alone else sorted(int.from_bytes(hash[:8], signed=True) for hash in locked)
        db.run("BEGIN")
        db.run("SELECT enter(?, ?, ?::bigint[], ?::bytea[])", self._server.store_id, alone, locks, users)

    @contextmanager
    def _reading(self) -> Iterator[Database]:
        with self._server.connection() as connection:
            yield PostgresDatabase(connection)

    @contextmanager
    def _alone(self) -> Iterator[Database]:
        with self._server.pipeline() as db:
            self._enter(db, [], set(), alone=True)
            yield db
            db.run("COMMIT")

    def _erased(self, db: Database) -> None:
        db.run("UPDATE purges SET erased = pg_current_xact_id()::text::bigint")

    def _last_seq(self, db: Database, after: int) -> int:
        """Return the last number, once the transactions that had begun have ended: they may have taken numbers.

        Nobody waits for this, unless some transaction of the server goes on for long.
        """
        ((last,),) = db.rows("SELECT last_value FROM seqs")
        if last <= after:
            return int(last)
        ((begun,),) = db.rows("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        for pause in PAUSES:
            ((ended,),) = db.rows("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            if ended >= begun:
                return int(last)
            time.sleep(pause)
        with self._alone():
            return int(last)
