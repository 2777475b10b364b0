"""A log goes into a store and comes out of it as the same log; what was interrupted goes on."""

import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.cli import app
from segue.data.split import digest
from segue.errors import DataError
from segue.serve.reading import is_store
from segue.serve.sqlite_store import SqliteStore
from segue.serve.tables import told_by
from segue.serve.transfer import events_of, import_events

TABLE = pl.DataFrame(
    {
        "user": ["ann", "bob", "ann", "cid", "bob"],
        "item": ["x", "y", "y", "007", "x"],
        "time": [100, 100, 200, 300, 50],
        "rating": [1.0, None, 3.0, 4.5, 5.0],
        "type": ["view", "buy", None, "view", "view"],
        "device": ["tv", None, "pc", "tv", "tv"],
    }
)


def read(source=TABLE):
    return segue.read_events(source, reading=segue.Reading(context=("device",)))


@pytest.fixture(name="store")
def a_store(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    yield store
    store.close()


def test_what_comes_out_is_what_went_in(store):
    log = read()
    import_events(store, told_by(log), source="log", batch=2)
    out = events_of(store)
    assert digest(out) == digest(log)
    shown = log.as_text().select("user", "item", "time", "rating", "type", "device")
    assert out.table.select(shown.columns).equals(shown)
    assert store.head("ann", "").count == 2


def test_an_import_that_was_cut_short_goes_on_and_twice_is_once(store):
    log = read()
    some = [event for n, event in enumerate(told_by(log)) if n < 3]
    import_events(store, some, source="log", batch=2)
    done = import_events(store, told_by(log), source="log", batch=2)
    assert (done.position, done.written) == (5, 2)
    assert import_events(store, told_by(log), source="log").written == 0
    assert digest(events_of(store)) == digest(log)


def test_an_empty_store_is_no_log(store):
    with pytest.raises(DataError, match="expected a store with events, it holds none"):
        events_of(store)


def test_a_log_without_times_keeps_the_order_of_arrival(store):
    log = segue.read_events(TABLE.drop("time", "device"), time="none")
    import_events(store, told_by(log), source="log")
    out = events_of(store)
    assert not out.has_times
    assert digest(out) == digest(log)


def test_the_verbs_take_a_store_for_a_log(tmp_path):
    TABLE.write_csv(tmp_path / "log.csv")
    store, out = str(tmp_path / "s.db"), tmp_path / "out.parquet"
    run = CliRunner()
    for expected in ("5 events written, 0 known", "0 events written, 0 known"):
        said = run.invoke(app, ["import", str(tmp_path / "log.csv"), "--store", store, "--context-col", "device"])
        assert said.exit_code == 0 and expected in said.output, said.output
    assert is_store(store) and not is_store(tmp_path / "log.csv") and is_store("valkey://host:1/0")
    assert "source       s.db" in run.invoke(app, ["inspect", store]).output
    assert run.invoke(app, ["export", "--store", store, "-o", str(out)]).exit_code == 0
    assert pl.read_parquet(out)["item"].to_list() == ["x", "x", "y", "y", "007"]
    assert digest(segue.read_events(out)) == digest(read())
