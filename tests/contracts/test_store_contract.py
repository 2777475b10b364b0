"""Every store keeps every promise of `Store`."""

import pytest

from segue.store.sql.postgres_store import PostgresStore
from segue.store.sql.sqlite_store import SqliteStore
from segue.store.valkey_store import ValkeyStore
from segue.testing import StoreContract


class TestSqliteStore(StoreContract):
    def open_store(self, folder):
        return SqliteStore(folder / "store.db")


class TestValkeyStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.server = server

    def open_store(self, folder):
        return ValkeyStore(self.server.address, prefix=str(folder))


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres):
        self.server = postgres

    def open_store(self, folder):
        return PostgresStore(self.server.address, schema=str(folder))
