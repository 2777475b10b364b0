"""The SQLite store owns its file, syncs it, survives a full disk, and leaves no trace of what was erased."""

import os
import random
import re
import sqlite3
import subprocess
import sys
import threading

import pytest

from segue.errors import ArgumentError, FullError, LockedError, StoreError
from segue.jobs.import_export import import_events
from segue.store.base import Snapshot, Write, Written
from segue.store.events import Event, Position
from segue.store.factory import open_store
from segue.store.sql import sqlite_file
from segue.store.sql.sqlite_store import SqliteStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.db"


@pytest.fixture
def store(path):
    store = open_store(path)
    yield store
    store.close()


def add(store, user, item, **fields):
    return store.commit([Write(user, None, (Event(user, item, **fields),), client="web")])[0]


def raw(path):
    """The bytes of every file of a store."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name))


def dump(path):
    """All rows of all tables, read by another program."""
    with sqlite3.connect(path) as db:
        lines = list(db.iterdump())
    db.close()
    return lines


def test_a_second_owner_is_refused_until_the_first_has_gone(store, path):
    with pytest.raises(LockedError, match=rf"only owner, but process {os.getpid()} has it open. Stop that process"):
        SqliteStore(path)
    code = f"from segue.store.sql.sqlite_store import SqliteStore; SqliteStore({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode and f"but process {os.getpid()} has it open" in done.stderr
    store.close()
    open_store(path).close()


def test_a_refused_file_is_not_kept_locked(path):
    path.write_text("no database, but long enough to be read as one" * 50)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"expected a store of Segue, came another file. Give another path"):
            SqliteStore(path)
    path.unlink()
    SqliteStore(path).close()


def test_other_databases_newer_formats_and_missing_folders_are_refused(path, tmp_path):
    with pytest.raises(StoreError, match=r"cannot be opened \(No such file or directory\). Give a path"):
        SqliteStore(tmp_path / "none" / "shop.db")
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine(x)")
    db.close()
    with pytest.raises(StoreError, match=r"expected a store of Segue, came another database"):
        SqliteStore(path)
    newer = tmp_path / "newer.db"
    SqliteStore(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(StoreError, match=r"expected format 1 or older, came 2. Update Segue"):
        SqliteStore(newer)


def test_a_file_of_an_older_version_gets_the_tables_that_it_lacks(path):
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        for name in ("rated", "shared", "erased"):
            db.execute(f"DROP TABLE {name}")
    db.close()
    store = SqliteStore(path)
    (event,) = add(store, "ann", "1", id="a").events
    assert store.erase_event("ann", event.seq) and store.was_erased("ann", event.seq)
    store.close()


@pytest.mark.parametrize("setting", ["synchronous = NORMAL", "synchronous = OFF", "secure_delete = OFF"])
def test_a_store_that_would_not_sync_or_not_erase_does_not_open(path, monkeypatch, setting):
    connect = sqlite_file._connect

    def careless(path):
        db = connect(path)
        db.execute(f"PRAGMA {setting}")
        return db

    monkeypatch.setattr(sqlite_file, "_connect", careless)
    name = setting.split()[0]
    with pytest.raises(StoreError, match=rf"expected SQLite to run with {name} = \d, came \d. Put the store on"):
        SqliteStore(path)


def test_it_is_not_ready_when_a_setting_was_lost(store):
    assert store.ready().ready
    store._file._writer.execute("PRAGMA synchronous = OFF")
    assert "synchronous is 0 and not 2: a loss of power would lose events" in store.ready().reason


def test_on_a_full_disk_all_is_as_before_and_goes_on_when_there_is_room(store, path):
    add(store, "ann", "1", id="a")
    before = dump(path)
    db = store._file._writer
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages + 2}")
    data = bytes(50_000)
    small = Write("bob", 0, (Event("bob", "2", id="b"),), {"b1": b"m"})
    large = Write("ann", 1, (Event("ann", "3", id="c"),), {"b1": data}, (Snapshot("b1", 1, data),))
    for _ in range(3):
        with pytest.raises(FullError, match=r"no room to write \(.*full\). Nothing was changed. Make room, and repeat"):
            store.commit([small, large], values={"v": b"1"})
        assert dump(path) == before
    assert store.head("bob", "b1").version == 0 and store.find_event("", "b") is None and store.get_value("v") is None
    assert isinstance(store.commit([small])[0], Written)
    db.execute("PRAGMA max_page_count = 1000000")
    assert isinstance(store.commit([large])[0], Written)
    assert store.head("ann", "b1").state.data == data


def test_what_cannot_be_synced_is_not_done_whatever_was_done_meanwhile(store, path, monkeypatch):
    add(store, "ann", "1", id="a")
    before, met = dump(path), []

    with monkeypatch.context() as patched:
        patched.setattr(store._file, "_writer", Failing(store._file._writer))

        def work():
            with store.begin([Write("ann", 1, (Event("ann", "2"),), {"b1": b"m"})]) as outcomes:
                met.append(outcomes)

        with pytest.raises(StoreError, match="Nothing was changed"):
            work()
    assert len(met) == 1 and dump(path) == before and store.head("ann", "b1").version == 1
    assert isinstance(store.commit([Write("ann", 1, (Event("ann", "2"),))])[0], Written)


class Failing:
    """A connection that cannot sync."""

    def __init__(self, db):
        self.db = db

    def __getattr__(self, name):
        return getattr(self.db, name)

    def execute(self, statement, *values):
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self.db.execute(statement, *values)


def test_an_error_inside_a_commit_leaves_nothing(store, path):
    add(store, "ann", "1")
    before = dump(path)
    bad = Write("bob", None, (Event("bob", "2", id="b"),), client=7)
    with pytest.raises(AttributeError):
        store.commit([Write("ann", None, (Event("ann", "2"),)), bad])
    assert dump(path) == before
    assert isinstance(add(store, "ann", "3"), Written)


def test_a_closed_store_says_so(store):
    store.close()
    with pytest.raises(StoreError, match=r"cannot be read or written .*closed"):
        store.log()
    store.close()


def test_no_file_holds_what_was_erased(store, path):
    """Many users in random order, so that pages split and join; nearly all are erased."""
    rng = random.Random(3)
    names = [f"U{rng.getrandbits(60):015x}" for _ in range(400)]
    events = [(user, f"item-of-{user}-{n}", f"id-of-{user}-{n}") for user in names for n in range(rng.randrange(1, 12))]
    rng.shuffle(events)
    writes = [
        Write(u, None, (Event(u, item, 5, id, None, "view", {"at": "x" * rng.randrange(300) + u}),))
        for u, item, id in events
    ]
    for first in range(0, len(writes), 50):
        store.commit(writes[first : first + 50])
    heads = store.heads(names, "b1")
    store.commit(
        [Write(h.user, h.version, states={"b1": h.user.encode()}, snapshots=(Snapshot("b1", 1, b"s"),)) for h in heads]
    )
    store.merge(names[0], names[1])
    assert all(user.encode() in raw(path) for user in names[1:])
    rng.shuffle(names)
    kept = names[:8]
    for user in names[8:]:
        store.erase_user(user)
    left = raw(path)
    assert [user for user in names[8:] if user.encode() in left] == []
    event = store.events(kept[0])[0]
    store.erase_event(kept[0], event.seq)
    left = raw(path)
    assert event.item.encode() not in left and event.id.encode() not in left
    assert all(user.encode() in left for user in kept)


def test_another_program_that_reads_the_file_delays_an_erasure_with_a_message_and_nobody_else(store, path, monkeypatch):
    add(store, "ann", "1")
    monkeypatch.setattr(sqlite_file, "PATIENCE", 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM log").fetchall()
    add(store, "bob", "2")
    said, written = [], 0

    def erase():
        try:
            store.erase_user("ann")
        except StoreError as error:
            said.append(str(error))

    erasing = threading.Thread(target=erase)
    erasing.start()
    while erasing.is_alive():
        add(store, "bob", "3")
        written += erasing.is_alive()
    assert "erased, but shop.db-wal still holds it, because another program reads" in said[0]
    assert written >= 5
    other.close()
    store.erase_user("ann")
    assert b"ann" not in raw(path)


def test_a_hashed_id_and_its_secret_do_not_hold_the_id(store, path):
    add(store, "ann-of-the-hills", "1", id="id-of-ann")
    store.erase_user("ann-of-the-hills")
    text = "\n".join(dump(path)) + raw(path).decode("latin-1")
    assert "ann" not in text
    assert store.head("ann-of-the-hills", "b").erased


def plan(store, query, *values):
    rows = store._file._writer.execute("EXPLAIN QUERY PLAN " + query, values).fetchall()
    return " / ".join(row[-1] for row in rows)


def test_no_statement_reads_a_whole_table(store):
    """Every statement that a store runs is explained; none scans or sorts a table."""
    seen = set()
    for db in (store._file._writer, store._file._reader):
        db.set_trace_callback(lambda text: seen.add(text))
    add(store, "ann", "1", time=5, id="a")
    store.commit([Write("ann", 1, (Event("ann", "2", 3),), {"b1": b"m"}, (Snapshot("b1", 1, b"s"),))])
    add(store, "bob", "2", id="b")
    store.events("ann"), store.events("ann", backwards=True, after=Position(4, 1))
    store.snapshot("ann", "b1", at=Position(4, 1)), store.find_event("web", "a"), store.get_value("v")
    store.log(), store.users(), store.head("ann", "b1"), store.erase_event("ann", 1), store.merge("bob", "ann")
    store.was_erased("ann", 1), store.was_erased("ann", ("web", "a"))
    store.drop_model("b1"), store.erase_user("ann"), store.was_erased("ann", 1), store.was_erased("ann", ("web", "a"))
    store.readmit("ann")
    store._file._writer.set_trace_callback(None)
    plans = {text: plan(store, text) for text in seen if text.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT")}
    assert len(plans) > 30
    slow = {text: how for text, how in plans.items() if re.search(r"SCAN (?!CONSTANT ROW|old\b)|TEMP B-TREE", how)}
    assert slow == {}


@pytest.mark.slow
def test_one_user_with_many_events_is_read_from_anywhere_at_once(store):
    import time

    import_events(store, (Event("ann", "1", n) for n in range(100_000)), source="s", batch=20_000)
    add(store, "ann", "late", time=50_000)
    begin = time.perf_counter()
    for place in range(0, 100_000, 2000):
        page = store.events("ann", after=Position(place, 10**9), limit=10)
        assert [event.place for event in page] == sorted(event.place for event in page)
        store.head("ann", "b1")
        add(store, "ann", "more", time=place)
    assert (time.perf_counter() - begin) / 50 < 0.1


def test_readers_see_whole_commits_while_others_write(store):
    wrong, done = [], threading.Event()

    def read():
        while not done.is_set():
            head = store.head("ann", "b1")
            if head.count and not head.fresh:
                wrong.append(head)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(60):
        store.commit([Write("ann", n, (Event("ann", str(n)),), {"b1": b"%d" % n})])
    done.set()
    reader.join()
    assert wrong == [] and store.head("ann", "b1").count == 60


def test_writes_that_make_no_sense_are_refused_before_they_are_sent():
    with pytest.raises(ArgumentError, match=r"write for 'ann': came an event of 'bob'. Make one write for each user"):
        Write("ann", 0, (Event("bob", "1"),))
    with pytest.raises(ArgumentError, match=r"expected event ids that differ, came an id twice. Send each event once"):
        Write("ann", 0, (Event("ann", "1", id="a"), Event("ann", "2", id="a")))
    with pytest.raises(
        ArgumentError, match=r"came a state without the version that it was computed from. Give expected="
    ):
        Write("ann", None, states={"b1": b""})
    for fields in ({"context": {"x": {1j}}}, {"item": "\ud800"}, {"rating": 1j}):
        with pytest.raises(ArgumentError, match=r"expected fields that JSON can say, came something else"):
            Event(**{"user": "ann", "item": "1"} | fields)
    with pytest.raises(ArgumentError, match=r"expected a time in microseconds that fits into 64 bits, came 92"):
        Event("ann", "1", 2**63)
