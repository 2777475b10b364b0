"""The store in PostgreSQL says when its server would lose events, is full, or is gone, and erases from its files."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from engines import Postgres
from segue.errors import FullError, LockedError, LostError, StoreError
from segue.store import factory
from segue.store.base import Conflict, Duplicate, Snapshot, Stale, Write, Written
from segue.store.events import Event
from segue.store.factory import open_store
from segue.store.sql.postgres_store import PostgresStore


@pytest.fixture
def store(postgres, tmp_path):
    store = PostgresStore(postgres.address, schema=str(tmp_path))
    yield store
    store.close()


def add(store, user, item, **fields):
    return store.commit([Write(user, None, (Event(user, item, **fields),), client="web")])[0]


def items(store):
    return [event.item for event in store.log()]


def admin(postgres, *statements, path=None):
    with psycopg.connect(postgres.address, autocommit=True) as connection:
        if path is not None:
            connection.execute(f'SET search_path = "{path}"')
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("name", ["synchronous_commit", "fsync", "full_page_writes"])
def test_a_server_that_could_lose_events_is_not_ready_unless_that_is_accepted(postgres, store, tmp_path, name):
    careless = PostgresStore(postgres.address, schema=str(tmp_path), accept_loss=True)
    assert store.ready().ready and careless.ready().ready
    admin(postgres, f"ALTER SYSTEM SET {name} = off", "SELECT pg_reload_conf()")
    try:
        end = time.monotonic() + 10
        while (said := store.ready()).ready and time.monotonic() < end:
            time.sleep(0.01)
        assert f"expected {name} on (is off): an acknowledged event could be lost. Set these in" in said.reason
        assert careless.ready().ready
    finally:
        admin(postgres, f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()")
        while not store.ready().ready:
            time.sleep(0.01)
        careless.close()


def test_of_writers_at_a_time_in_two_replicas_one_writes_and_none_waits_for_ever(postgres, store, tmp_path):
    other = PostgresStore(postgres.address, schema=str(tmp_path))
    first, second = (Write("ann", 0, (Event("ann", item, id=item),), {"b1": item.encode()}) for item in "ab")
    assert isinstance(store.commit([first])[0], Written)
    assert other.commit([second]) == [Stale(1)]
    assert other.head("ann", "b1").state.data == b"a"

    def send(number):
        """Send new users, known users and ids that other threads send too, in another order."""
        some = (store, other)[number % 2]
        names = [f"u{n}" for n in range(8)][:: 1 if number % 3 else -1]
        writes = [Write(name, None, (Event(name, "1", id=f"{name}-{turn}"),)) for turn in range(5) for name in names]
        clash = Write(f"c{number}", None, (Event(f"c{number}", "1", id="the same"),))
        return some.commit([*writes, clash])

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(send, range(6)))
    assert sum(isinstance(each, Written) for several in outcomes for each in several[:-1]) == 40
    assert all(isinstance(each, Written | Duplicate) for several in outcomes for each in several[:-1])
    assert sorted(type(several[-1]).__name__ for several in outcomes) == ["Conflict"] * 5 + ["Written"]
    assert isinstance(outcomes[0][-1], Conflict | Written)
    assert [store.head(f"u{n}", "b1").count for n in range(8)] == [5] * 8
    other.erase_user("ann")
    assert store.head("ann", "b1").erased
    other.close()


def test_a_page_of_the_log_lacks_no_event_that_is_still_being_written(store):
    pages = []
    with store._server.pipeline() as db:
        store._enter(db, [], set())
        db.rows("SELECT nextval('seqs')")
        assert isinstance(add(store, "ann", "later"), Written)  # others need not wait
        reader = threading.Thread(target=lambda: pages.append(store.log()))
        reader.start()
        time.sleep(0.2)
        assert pages == []
        db.run("COMMIT")
    reader.join()
    assert [event.item for event in pages[0]] == ["later"]


def test_a_full_server_changes_nothing(postgres, store, tmp_path):
    add(store, "ann", "1")
    full = "RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';"
    create = f"CREATE FUNCTION full_disk() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN {full} END $$"
    trigger = "CREATE TRIGGER full_disk BEFORE INSERT ON states EXECUTE FUNCTION full_disk()"
    admin(postgres, create, trigger, path=tmp_path)
    write = Write("ann", 1, (Event("ann", "2", id="b"),), {"b1": b"m"})
    with pytest.raises(FullError, match=r"no room to write \(.*\). Nothing was changed. Make room, and repeat"):
        store.commit([write], values={"v": b"1"})
    admin(postgres, "DROP TRIGGER full_disk ON states", path=tmp_path)
    assert items(store) == ["1"] and store.get_value("v") is None
    assert store.head("ann", "b1").state is None and store.find_event("", "b") is None
    assert isinstance(store.commit([write])[0], Written)


def test_no_file_of_the_server_holds_what_was_erased(postgres, store):
    for n in range(30):
        user = f"user-{n}-of-this-shop"
        add(store, user, f"item-of-{user}", id=f"id-of-{user}", context={"at": user})
        snapshot = Snapshot("b1", 1, user.encode())
        store.commit([Write(user, 1, states={"b1": user.encode()}, snapshots=(snapshot,))])
    store.merge("user-0-of-this-shop", "user-1-of-this-shop")
    admin(postgres, "ANALYZE", "CHECKPOINT")

    def raw():
        files = [file for file in (postgres.folder / "data").rglob("*") if file.is_file()]
        return b"".join(file.read_bytes() for file in files)

    before = raw()
    assert all(f"user-{n}-of-this-shop".encode() in before for n in range(30))
    store.erase_user("user-1-of-this-shop")
    store.erase_user("user-2-of-this-shop")
    event = store.events("user-3-of-this-shop")[0]
    store.erase_event("user-3-of-this-shop", event.seq)
    left = raw()
    gone = [b"user-0-of", b"user-1-of", b"user-2-of", event.item.encode(), event.id.encode()]
    assert [text for text in gone if text in left] == []
    assert b"item-of-user-4-of-this-shop" in left


def test_others_write_while_many_are_erased_by_two_replicas(postgres, store, tmp_path):
    other = PostgresStore(postgres.address, schema=str(tmp_path))
    store.commit([Write(f"u{n}", None, (Event(f"u{n}", "1"),)) for n in range(200)])
    with ThreadPoolExecutor(6) as pool:
        erasing = [pool.submit((store, other)[n % 2].erase_user, f"u{n}") for n in range(6)]
        done = 0
        while not all(one.done() for one in erasing):
            done += isinstance(add(store, f"w{done}", "1"), Written)
    assert [one.result() for one in erasing] == [True] * 6 and done >= 3
    assert len(store.log()) == 194 + done
    other.close()


def test_an_erasure_that_the_files_cannot_follow_says_so_and_the_next_completes_it(postgres, tmp_path):
    hasty = PostgresStore(postgres.address, schema=str(tmp_path), erase_wait=0.1)
    add(hasty, "ann", "1")
    with psycopg.connect(postgres.address) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")  # could still read all rows of this moment, and holds no lock
        with pytest.raises(
            StoreError, match=r"erased, but the server has not rewritten its files in time.* Erase again"
        ):
            hasty.erase_user("ann")
        assert hasty.head("ann", "b1").erased
        assert isinstance(add(hasty, "bob", "1"), Written)
    hasty.finish_erasures()
    hasty.finish_erasures()
    hasty.close()


def test_a_server_that_is_gone_is_reported_and_reached_again():
    server = Postgres()
    try:
        store = open_store(server.address)
        add(store, "ann", "1", id="a")
        server.kill()
        lost = r"did not answer .* A write may or may not have been done: repeat it, with ids"
        with pytest.raises(LostError, match=lost):
            add(store, "ann", "2", id="b")
        assert "did not answer" in store.ready().reason
        server.start()
        assert isinstance(add(store, "ann", "2", id="b"), Written) and items(store) == ["1", "2"]
        server.kill()
        server.start()  # between two requests: nothing is lost
        assert isinstance(add(store, "ann", "3"), Written)
        store.close()
    finally:
        server.stop()
    with pytest.raises(LostError, match=r"did not answer"):
        open_store(server.address)


def test_tables_that_are_replaced_under_a_store_take_no_erased_id(postgres, store, tmp_path):
    add(store, "ann", "1", id="a")
    store.erase_user("ann")
    admin(postgres, f'DROP SCHEMA "{tmp_path}" CASCADE')
    gone = r"emptied or replaced\. Nothing was changed\. Stop every server of this store"
    with pytest.raises(StoreError, match=gone):
        add(store, "ann", "1", id="a")
    new = PostgresStore(postgres.address, schema=str(tmp_path))  # with another secret
    add(new, "bob", "1")
    assert "emptied or replaced" in store.ready().reason
    for method, *arguments in (("put_value", "v", b""), ("readmit", "ann"), ("erase_user", "bob")):
        with pytest.raises(StoreError, match="emptied or replaced"):
            getattr(store, method)(*arguments)
    assert [event.user for event in new.log()] == ["bob"] and new.get_value("v") is None and new.ready().ready
    new.close()


def test_what_cannot_be_a_store_is_refused_with_what_to_do(postgres, store, tmp_path, monkeypatch):
    plain = postgres.address
    admin(postgres, "CREATE ROLE locked LOGIN PASSWORD 'secret'")
    for address, kind, said in (
        (plain.replace("segue@", "locked:wrong-word@"), StoreError, r"refused the user or password \(.*\). Check them"),
        (plain.replace("/postgres", "/nothing"), StoreError, r"has no such database .* Create it: createdb NAME"),
        (plain.replace("segue@", "locked:secret@"), StoreError, r"expected a user that may write.*GRANT CREATE"),
        (plain + "?options=-cdefault_transaction_read_only%3Don", StoreError, r"cannot be written.*Give the primary"),
        (plain + "?wrong-word=1", StoreError, r"came an address that cannot be read\. Check each part"),
        (plain.replace("segue@", "segue:wrong/word@"), StoreError, "came an address that cannot be read so"),
    ):
        with pytest.raises(kind, match=said) as raised:
            open_store(address)
        assert "wrong" not in f"{raised.value}"
    admin(postgres, "UPDATE meta SET value = '2' WHERE name = 'format'", path=tmp_path)
    with pytest.raises(StoreError, match=r"expected format 1 or older, came 2\. Update Segue"):
        PostgresStore(plain, schema=str(tmp_path))
    admin(postgres, 'CREATE SCHEMA "other"', 'CREATE TABLE "other".meta(name TEXT, value BYTEA)')
    with pytest.raises(StoreError, match=r"expected a store of Segue in the schema .*, came other tables"):
        PostgresStore(plain, schema="other")
    monkeypatch.setitem(__import__("sys").modules, "segue.store.sql.postgres_store", None)
    with pytest.raises(StoreError, match=r'expected the extra for it.* Run: pip install "segue\[postgres\]"'):
        factory.open_store(plain)


def test_a_write_waits_a_while_for_another_program_and_then_says_so(postgres, store, tmp_path):
    add(store, "ann", "1")
    with psycopg.connect(postgres.address) as other:
        other.execute(f'LOCK TABLE "{tmp_path}".log IN ACCESS EXCLUSIVE MODE')
        with store._server.connection() as connection:
            connection.execute("SET lock_timeout = '50ms'")
        with pytest.raises(LockedError, match=r"another transaction holds it .* Nothing was changed\. Repeat it"):
            add(store, "ann", "2")
    assert isinstance(add(store, "ann", "2"), Written) and items(store) == ["1", "2"]
