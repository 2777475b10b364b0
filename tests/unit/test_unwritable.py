"""A server does not start on a store that cannot be written, and says so while one cannot."""

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import engines
from segue.errors import FullError, LockedError, StoreError
from segue.store.base import Write, Written
from segue.store.events import Event
from segue.store.factory import open_store
from segue.store.readonly import read_store
from segue.store.sql import sqlite_file
from segue.store.sql.sqlite_store import SqliteStore
from segue.store.valkey_store import ValkeyStore
from served import Server, model


@pytest.fixture(name="folder")
def a_folder_of_anybody():
    folder = Path(tempfile.mkdtemp())  # others reach it too
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


@contextlib.contextmanager
def unprivileged():
    """Be nobody, whom rights of files hold back."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def limited(size, process=0):
    """Let no file grow beyond a size, as a full disk would not."""
    soft, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (soft, hard))


def add(store, user, n=1):
    return store.commit([Write(user, None, tuple(Event(user, str(i)) for i in range(n)))])[0]


@pytest.mark.parametrize("what", ["file", "folder", "both", "new"])
def test_a_store_without_the_right_to_write_is_refused(folder, what):
    path = folder / "s.db"
    with unprivileged():
        if what != "new":
            store = open_store(path)
            add(store, "ann")
            store.close()
        if what in ("file", "both"):
            path.chmod(0o444)
    if what != "file":
        folder.chmod(0o555)
    with unprivileged():
        for _ in range(2):
            with pytest.raises(StoreError, match=r"s\.db: .*(can be written|Check the disk)") as caught:
                open_store(path)
            assert "denied" in str(caught.value) or "readonly" in str(caught.value), caught.value
        if what != "new":
            path.chmod(0o644)
    folder.chmod(0o777)
    with unprivileged():
        store = open_store(path)
        assert isinstance(add(store, "bob"), Written) and store.ready().ready
        store.close()


def test_a_store_that_opens_but_takes_nothing_is_refused(folder):
    path = folder / "s.db"
    open_store(path).close()
    with limited(2048), pytest.raises(StoreError, match="Nothing was changed"):
        open_store(path)
    with limited(0), pytest.raises(StoreError, match=r"Make room|Nothing was changed"):
        open_store(folder / "new.db")
    open_store(path).close()


def test_a_store_is_not_ready_while_nothing_can_be_written_and_ready_again_after(tmp_path):
    store = open_store(tmp_path / "s.db")
    add(store, "ann")
    assert store.ready().ready
    with limited(1024):
        said = store.ready()
        assert not said.ready and "s.db: " in said.reason and "Nothing was changed" in said.reason
        with pytest.raises(StoreError):
            add(store, "ann")
    assert store.ready().ready and isinstance(add(store, "ann"), Written)
    assert len(store.events("ann")) == 2
    store.close()


def test_a_store_is_ready_again_where_there_is_room_for_more_than_a_word(tmp_path):
    store = open_store(tmp_path / "s.db")
    db = store._file._writer
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0] + 3}")
    assert store.ready().ready
    with pytest.raises(FullError):
        add(store, "ann", 3000)
    assert "no room to write" in store.ready().reason
    db.execute("PRAGMA max_page_count = 1000000")
    assert store.ready().ready and store.get_value("proof") == b""
    store.close()


def test_a_disk_that_is_nearly_full_is_not_ready(tmp_path, monkeypatch):
    store = open_store(tmp_path / "s.db")
    monkeypatch.setattr(sqlite_file, "ROOM", 1 << 62)
    assert "no room to write" in store.ready().reason
    monkeypatch.undo()
    assert store.ready().ready
    store.close()


def test_what_another_program_locks_is_not_ready(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.1)
    store = open_store(tmp_path / "s.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "another program holds it" in store.ready().reason
        other.execute("ROLLBACK")
    assert store.ready().ready
    store.close()


def test_a_file_that_was_removed_or_replaced_takes_no_event(tmp_path):
    path = tmp_path / "s.db"
    store = open_store(path)
    add(store, "ann")
    path.rename(tmp_path / "kept.db")
    SqliteStore(tmp_path / "other.db").close()
    for replaced in (False, True):
        if replaced:
            shutil.copy(tmp_path / "other.db", path)
        assert "removed or replaced" in store.ready().reason
        with pytest.raises(StoreError, match=r"removed or replaced. Nothing was changed. Put it back"):
            add(store, "ann")
    (tmp_path / "kept.db").replace(path)
    assert store.ready().ready and isinstance(add(store, "ann"), Written)
    store.close()


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_whose_recent_writes_were_removed_takes_no_event_and_saves_them_when_closed(tmp_path, replaced, linked):
    path, wal = tmp_path / "s.db", tmp_path / "s.db-wal"
    if linked:
        (tmp_path / "link.db").symlink_to(path)
    store = open_store(tmp_path / "link.db" if linked else path)
    add(store, "ann")
    with contextlib.closing(sqlite3.connect(path)) as other:  # who looks in and leaves takes nothing away
        other.execute("SELECT count(*) FROM log").fetchone()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    store.erase_user("nobody")
    add(store, "bob")
    assert store.ready().ready
    wal.rename(tmp_path / "kept")
    if replaced:
        wal.write_bytes(b"")
    assert "s.db-wal: expected the file that was opened" in store.ready().reason
    with pytest.raises(StoreError, match=r"removed or replaced. Nothing was changed. Stop this process"):
        add(store, "cat")
    store.close()
    (tmp_path / "kept").unlink()
    again = open_store(path)
    assert {each.user for each in again.users()} == {"ann", "bob"}
    again.close()


@pytest.mark.parametrize("way", ["symlink", "hard link", "no lock"])
def test_one_process_owns_a_file_whatever_it_is_called(tmp_path, way):
    path, other = tmp_path / "s.db", tmp_path / "other.db"
    store = open_store(path)
    if way == "symlink":
        other.symlink_to(path)
    elif way == "hard link":
        other.hardlink_to(path)
    else:
        (tmp_path / "s.db.lock").unlink()
        other = path
    code = f"from segue.store.factory import open_store; open_store({str(other)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode and "LockedError" in done.stderr and "only owner" in done.stderr, done.stderr
    store.close()
    again = open_store(other)
    with pytest.raises(LockedError):
        open_store(other)
    again.close()


def test_a_server_is_not_ready_while_its_disk_takes_nothing(tmp_path):
    model(tmp_path / "b.segue")
    server = Server(tmp_path)
    event = {"user": "ann", "item": "003", "time": 1000}
    try:
        assert server.call("POST", "/v1/events", event)[0] == 200
        assert server.call("GET", "/readyz")[0] == 200
        with limited(1024, server.process.pid):
            code, said = server.call("GET", "/readyz")
            assert code == 503 and "Nothing was changed" in said["reason"]
            assert server.call("POST", "/v1/events", event)[0] == 503
            assert server.call("GET", "/healthz")[0] == 200
        assert server.call("GET", "/readyz")[0] == 200
        assert server.call("POST", "/v1/events", event)[0] == 200
    finally:
        server.stop()


# --- a shared server --------------------------------------------------------------------------------------------


@pytest.fixture(name="valkey", scope="module")
def a_server(tmp_path_factory):
    server = engines.Server(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.mark.parametrize("how", ["memory", "replica", "replicas"])
def test_a_shared_server_that_takes_no_write_is_not_ready_and_not_begun_with(valkey, tmp_path, how):
    store = ValkeyStore(valkey.address, prefix=str(tmp_path))
    careless = ValkeyStore(valkey.address, prefix=str(tmp_path), accept_loss=True)
    open_store(valkey.address).close()
    call = store._server.call
    assert store.ready().ready and careless.ready().ready
    bad, good, word = {
        "memory": (("CONFIG SET", "maxmemory", 1), ("CONFIG SET", "maxmemory", 0), "no room to write"),
        "replica": (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE"), "cannot be written"),
        "replicas": (
            ("CONFIG SET", "min-replicas-to-write", 1), ("CONFIG SET", "min-replicas-to-write", 0), "cannot be written"
        ),
    }[how]  # fmt: skip
    call(*bad)
    try:
        for one in (store, careless):
            assert not one.ready().ready and word in one.ready().reason
        with pytest.raises(StoreError, match=word):
            open_store(valkey.address)
        read = read_store(valkey.address)  # to read it is another matter
        assert read.log() == []
        read.close()
    finally:
        call(*good)
    assert store.ready().ready and isinstance(add(store, "ann"), Written)
    store.close()
    careless.close()


def test_a_shared_server_that_cannot_save_is_not_ready(tmp_path):
    server = engines.Server(tmp_path, "--save", "3600 1000000")
    store = open_store(server.address)
    call = store._server.call
    try:
        (tmp_path / "dump.rdb").mkdir()  # its file cannot be written there
        call("BGSAVE")
        end = time.monotonic() + 20
        while call("INFO", "persistence")["rdb_last_bgsave_status"] == "ok":
            assert time.monotonic() < end
            time.sleep(0.02)
        assert "no room to write (MISCONF" in store.ready().reason
        with pytest.raises(FullError):
            open_store(server.address)
        (tmp_path / "dump.rdb").rmdir()
        call("BGSAVE")
        while not store.ready().ready:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        store.close()
        server.kill()
