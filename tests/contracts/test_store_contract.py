"""Every store keeps every promise of `Store`."""

from segue.serve.sqlite_store import SqliteStore
from segue.testing import StoreContract


class TestSqliteStore(StoreContract):
    def open_store(self, folder):
        return SqliteStore(folder / "store.db")
