"""What several files of this folder need."""

import pytest

from engines import Postgres, Server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres():
    server = Postgres()
    yield server
    server.stop()
