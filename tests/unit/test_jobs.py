"""A log goes into a store and comes out of it as the same log; what was interrupted goes on."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from engines import Server
from segue.cli.app import app
from segue.cli.options import LogColumns
from segue.data.log import synthetic
from segue.data.log.split import digest
from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import ArgumentError, ColumnError, DataError, LockedError, ModelError, StoreError
from segue.jobs import batch_recommend, import_export, retrain
from segue.jobs.event_frames import LogEvents
from segue.jobs.import_export import export_events, export_file, import_events, read_log
from segue.jobs.resumable_parquet import ResumableParquet
from segue.model.backend import map_tree
from segue.model_file import running_model, with_fingerprint
from segue.recommend.index.approximate import open_index
from segue.store.base import Write, Written
from segue.store.events import Event
from segue.store.factory import open_store
from segue.store.readonly import is_store, read_store
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import rated_log, small_rater, small_recommender

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
    import_events(store, LogEvents(log), source="log", batch=2)
    out = read_log(store)
    assert digest(out) == digest(log)
    shown = log.as_text().select("user", "item", "time", "rating", "type", "device")
    assert out.table.select(shown.columns).equals(shown)
    assert store.head("ann", "").count == 2


def test_an_import_that_was_cut_short_goes_on_and_twice_is_once(store):
    log = read()
    first = [event for n, event in enumerate(LogEvents(log)) if n < 3]
    import_events(store, first, source="log", batch=2)
    done = import_events(store, LogEvents(log), source="log", batch=2)
    assert (done.position, done.written) == (5, 2)
    assert import_events(store, LogEvents(log), source="log").written == 0
    assert digest(read_log(store)) == digest(log)


def test_an_empty_store_is_no_log(store):
    with pytest.raises(DataError, match="expected a store with events, it holds none"):
        read_log(store)


def test_a_log_without_times_keeps_the_order_of_arrival(store):
    log = segue.read_events(TABLE.drop("time", "device"), time="none")
    import_events(store, LogEvents(log), source="log")
    out = read_log(store)
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
    assert pl.read_parquet(out)["item"].to_list() == TABLE["item"].to_list()  # in the order of the file
    assert digest(segue.read_events(out)) == digest(read())


def grown(store, log):
    import_events(store, LogEvents(log), source="log")
    return store


def test_an_import_knows_its_source(store):
    events = [Event("ann", str(n), n) for n in range(6)]
    assert import_events(store, events[:4], source="s").written == 4
    assert import_events(store, events, source="s").written == 2
    with pytest.raises(DataError, match=r"s: expected to begin with the 6 events that were imported under this name"):
        import_events(store, [Event("bob", "0", 0), *events], source="s")
    with pytest.raises(DataError, match=r"came 5 in all\. Nothing was imported"):
        import_events(store, events[:5], source="s")
    assert len(store.log()) == 6


def test_an_import_that_an_older_version_made_goes_on(store):
    events = [Event("ann", "x", 100), Event("ann", "y", 300), Event("bob", "z", 200)]
    by_time = sorted(events, key=lambda event: event.time)
    for done in (2, 3):  # kept in the order of time: cut short, and whole
        name = f"log {done}"
        sha = hashlib.sha256(b"".join(event.digest for event in by_time[:done])).hexdigest()
        store.commit([], values={f"import:{name}": f"{done} {sha}".encode()})
        late = Event("cid", "x", 150 if done == 3 else 400)
        report = import_events(store, [*events, late], source=name)
        assert (report.position, report.written) == (4, 4 - done)
        assert import_events(store, [*events, late], source=name).written == 0
    with pytest.raises(DataError, match="expected to begin with the 4 events"):
        import_events(store, [*events[1:], events[0].at(7)], source=name)


def test_a_log_that_grew_by_a_late_row_is_imported_to_its_end(tmp_path):
    rows = ["ann,x,1700000000", "ann,y,1700000100", "bob,z,1700000050"]
    store, log, run = str(tmp_path / "s.db"), tmp_path / "log.csv", CliRunner()
    for count, said in ((2, "2 events written"), (3, "1 events written"), (3, "0 events written")):
        log.write_text("\n".join(["user,item,time", *rows[:count]]))
        done = run.invoke(app, ["import", str(log), "--store", store])
        assert done.exit_code == 0 and said in done.output, done.output
    assert LogColumns().read(store).table["item"].to_list() == ["x", "z", "y"]
    log.rename(tmp_path / "renamed.csv")
    done = run.invoke(app, ["import", str(tmp_path / "renamed.csv"), "--store", store])
    assert "begins with what was imported as log.csv" in done.output and "0 events written" in done.output


def test_a_store_is_read_while_another_owns_it(store, tmp_path):
    grown(store, read())
    other = read_store(tmp_path / "s.db")
    assert digest(read_log(other)) == digest(read())
    store.commit([Write("dan", None, (Event("dan", "x"),))])
    assert [event.user for event in other.log(after=5)] == ["dan"] and other.head("dan", "").count == 1
    with pytest.raises(StoreError, match=r"opened to be read only, came a write. Open it with open_store"):
        other.put_value("a", b"b")
    assert store.erase_user("ann")  # a reader between its pages is in nobody's way
    assert b"ann" not in (tmp_path / "s.db").read_bytes()
    other.close()
    other.close()
    (tmp_path / "other.db").write_bytes((tmp_path / "s.db").read_bytes()[:100])
    for path in ("other.db", "nothing.db"):
        with pytest.raises(StoreError):
            read_store(tmp_path / path)


def test_what_arrives_during_an_export_is_left_for_the_next(store):
    grown(store, read())
    seen = []
    for page in export_events(store, batch=2):
        seen += page
        store.commit([Write("new", None, (Event("new", "x"),))])
    assert [event.user for event in seen] == ["ann", "bob", "ann", "cid", "bob"]


def test_events_without_times_among_others_follow_the_one_before(store):
    sent = [("ann", "a", 5), ("ann", "b", None), ("bob", "c", None), ("bob", "d", 3), ("bob", "e", None)]
    for user, item, time in sent:
        store.commit([Write(user, None, (Event(user, item, time),))])
    log = read_log(store)
    assert log.table.rows() == [("bob", "d", 3), ("bob", "e", 3), ("ann", "a", 5), ("ann", "b", 5)]
    assert log.intake.dropped == {"no time": 1} and "2 events without a time" in log.intake.notes[0]


def test_context_comes_out_as_columns_and_an_export_as_it_was_sent(store, tmp_path):
    contexts = [{"page": 1, "new": True, "user": "x"}, {"page": 2.5, "tags": ["a"]}, {"page": None, "new": "no"}, {}]
    for n, context in enumerate(contexts):
        store.commit([Write("ann", None, (Event("ann", "x", n, id=f"e{n}", context=context),))])
    table = read_log(store).table
    assert table["page"].to_list() == [1.0, 2.5, None, None] and table["tags"].to_list()[1] == '["a"]'
    assert table["new"].to_list() == ["true", None, "no", None] and "place" not in table.columns
    assert read_log(store, context=["page"]).table.columns == ["user", "item", "time", "page"]
    assert export_file(store, tmp_path / "out.parquet") == 4
    again = SqliteStore(tmp_path / "again.db")
    log = segue.read_events(tmp_path / "out.parquet", id="id", reading=segue.Reading(context=("context",)))
    assert import_events(again, LogEvents(log), source="out").written == 4
    sent = [{name: value for name, value in context.items() if value is not None} for context in contexts]
    assert [(e.time, e.id, dict(e.context)) for e in again.log()] == [(n, f"e{n}", c) for n, c in enumerate(sent)]
    again.close()
    assert not list(tmp_path.glob(".out*"))


def test_an_export_that_breaks_leaves_the_old_file_and_nothing_else(store, tmp_path, monkeypatch):
    grown(store, read())
    out = tmp_path / "out.parquet"
    assert export_file(store, out) == 5
    monkeypatch.setattr(import_export, "_TABLE", 1)
    monkeypatch.setattr(ResumableParquet, "finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_file(store, out)
    assert pl.read_parquet(out).height == 5 and {path.name for path in tmp_path.glob("*.parquet*")} == {"out.parquet"}
    assert not list(tmp_path.glob(".out*"))


def test_an_empty_store_is_exported_as_an_empty_file(store, tmp_path):
    assert export_file(store, tmp_path / "out.parquet") == 0
    assert pl.read_parquet(tmp_path / "out.parquet").columns[:2] == ["user", "item"]


def shop(users=40, length=8, items=12):
    """A log of users with and without many events, and a store that holds it in another order of arrival."""
    rng = np.random.default_rng(0)
    table = synthetic.ring(items=items, users=users, length=length).events
    return segue.read_events(table.filter(pl.Series(rng.random(len(table)) < 0.7)))


def known_items(log):
    return Vocabulary(log.table["item"].cast(pl.String).unique(maintain_order=True))


@pytest.mark.parametrize("repeats", ["allow", "exclude"])
@pytest.mark.parametrize("of", ["log", "store"])
def test_all_is_one_by_one(store, tmp_path, monkeypatch, repeats, of):
    monkeypatch.setattr(batch_recommend, "USERS", 7)
    log = shop()
    rec = small_recommender(known_items(log), repeats=repeats)
    grown(store, log)
    source = log if of == "log" else store
    if of == "store":  # a user without times and one with some
        store.commit([Write("late", None, (Event("late", "i3"), Event("late", "i4")))])
        store.commit([Write("both", None, (Event("both", "i3", 5), Event("both", "i4"), Event("both", "i5", 9)))])
    out = tmp_path / "all.parquet"
    at = float(log.table["time"].max()) / 1e6 + 60
    done = batch_recommend.recommend_all(rec, source, out, k=5, at=at)
    assert done == batch_recommend.BatchReport(len(log.users) + 2 * (of == "store"), 0)
    lists = {user: rows for (user,), rows in pl.read_parquet(out).group_by("user", maintain_order=True)}
    assert len(lists) == done.users
    for user, rows in lists.items():
        state = batch_recommend.state_of(rec, store, user)
        expected = rec.recommend(state, 5, at=at)
        assert rows["item"].to_list() == [line.item for line in expected]
        assert rows["place"].to_list() == list(range(1, len(expected) + 1))
        np.testing.assert_allclose(rows["score"], [line.score for line in expected], atol=1e-4)
    assert batch_recommend.state_of(rec, store, lists.popitem()[0]).count > 0


@pytest.mark.parametrize("of", ["log", "store"])
def test_a_stopped_run_for_all_goes_on(store, tmp_path, monkeypatch, of):
    monkeypatch.setattr(batch_recommend, "USERS", 7)
    log = shop()
    rec = small_recommender(known_items(log))
    source = log if of == "log" else grown(store, log)
    whole, out = tmp_path / "whole.parquet", tmp_path / "all.parquet"
    batch_recommend.recommend_all(rec, source, whole, k=3)

    def stop(done, of):
        if done >= 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch_recommend.recommend_all(rec, source, out, k=3, report=stop)
    assert not out.exists()
    assert batch_recommend.recommend_all(rec, source, out, k=3) == batch_recommend.BatchReport(len(log.users) - 14, 14)
    assert pl.read_parquet(out).equals(pl.read_parquet(whole)) and not list(tmp_path.glob(".all*"))
    with pytest.raises(KeyboardInterrupt):
        batch_recommend.recommend_all(rec, source, out, k=3, report=stop)
    assert batch_recommend.recommend_all(rec, source, out, k=4).before == 0  # another job begins anew
    with pytest.raises(ArgumentError, match="expected k from 1, a whole number, came 0"):
        batch_recommend.recommend_all(rec, source, out, k=0)


def test_users_who_become_active_while_users_are_read_are_there(store):
    for n in range(3):
        store.commit([Write(f"u{n}", None, (Event(f"u{n}", "x"),))])
    pages, users = [], store.users

    def moved(*, before=None, limit=1000):
        page = users(before=before, limit=1)
        if before is not None and not pages:
            pages.append(
                store.commit([Write("u0", None, (Event("u0", "y"),)), Write("new", None, (Event("new", "y"),))])
            )
        return page

    store.users = moved
    assert set(batch_recommend.all_users(store)) == {"u0", "u1", "u2", "new"}


def a_running_model(log, folder, name="2020-01-01-a.segue", **facts):
    rec = small_recommender(known_items(log))
    rec = replace(rec, facts={"range": [0, int(log.table["time"][len(log) // 2])], **facts})
    rec.save(folder / name)
    return rec


def test_retraining_publishes_what_is_better_and_exits_0(tmp_path):
    log = shop(users=150)
    run, models = CliRunner(), tmp_path / "models"
    models.mkdir()
    a_running_model(log, models)
    log.as_text().with_columns(pl.col("time").cast(pl.Datetime("us"))).write_parquet(tmp_path / "log.parquet")
    assert run.invoke(app, ["import", str(tmp_path / "log.parquet"), "--store", str(tmp_path / "s.db")]).exit_code == 0
    small = [word for text in ("model.width=8", "model.depth=1", "train.epochs=3") for word in ("--set", text)]
    verb = ["retrain", "--store", str(tmp_path / "s.db"), "--models", str(models), *small, "--json"]
    server = SqliteStore(tmp_path / "s.db")  # it may run meanwhile
    done = run.invoke(app, verb)
    server.close()
    assert done.exit_code == 0, (done.output, done.exception)
    said = json.loads(done.stdout)
    assert said["published"] and said["running"] == "2020-01-01-a.segue" and said["improvement"]["low"] > 0
    assert "has learnt less than the candidate" in said["notes"][0]
    new = segue.load(models / said["model"])
    assert (models / "current").read_text().strip() == said["model"]
    assert said["model"].endswith(f"-{new.fingerprint[:12]}.segue")
    assert new.facts["digest"] == digest(log) and new.facts["retrained"]["questions"] == said["questions"]
    again = run.invoke(app, verb)
    assert again.exit_code == 3 and json.loads(again.stdout)["why"].startswith("0 events are new to"), again.output


def test_retraining_goes_on_with_what_the_running_model_was_given(tmp_path):
    log = shop(users=150)
    ids = known_items(log).ids
    items = pl.DataFrame({"item": ids, "year": [1990 + n % 4 for n in range(len(ids))]})
    people = pl.DataFrame({"user": log.users, "age": [20 + n % 30 for n in range(len(log.users))]})
    quick = {"train.epochs": 1, "model.width": 8, "model.depth": 1, "model.cell": "gru"}
    rec = segue.train(log, catalogue=items, users=people, kinds={"year": "category"}, config=quick)
    half = {"range": [0, int(log.table["time"][len(log) // 2])]}
    replace(rec, facts=rec.facts | half).save(tmp_path / "a.segue")
    with pytest.raises(ArgumentError, match=r"that a\.segue was trained with, came none.*Give --users FILE"):
        retrain.retrain(log, tmp_path)
    said = []
    done = retrain.retrain(log, tmp_path, users=people, config={"train.seed": 7, "train.epochs": 2}, say=said.append)
    assert done.published, done
    new = segue.load(tmp_path / done.model)
    assert f"No --items: items keep the {len(ids)} lines that a.segue holds; newer items are ids alone." in said
    assert new.encoders == rec.encoders and "year: category, 4 values" in new.encoders.items.describe()
    assert new.facts["asked"] == quick | {"train.seed": 7, "train.epochs": 2}
    assert new.config.model == rec.config.model and new.facts["kinds"] == {"year": "category"}


def test_retraining_with_some_items_keeps_what_was_known_of_the_others(tmp_path):
    log = shop(users=150)
    ids = known_items(log).ids
    items = pl.DataFrame({"item": ids, "year:float": [1990 + n % 4 for n in range(len(ids))], "title": ids})
    quick = {"train.epochs": 1, "model.width": 8, "model.depth": 1}
    segue.train(segue.split_last(log)[0], catalogue=items, config=quick).save(tmp_path / "a.segue")
    newer = tmp_path / "newer.csv"
    newer.write_text(f"item,year,price\n{ids[0]},2001,5\nnobody had it,2001,5\n")
    said = []
    done = retrain.retrain(log, tmp_path, catalogue=newer, config=quick, say=said.append)
    assert f"newer.csv: {len(ids) - 1} items that have no line there keep the line of a.segue." in said, said
    table = segue.load(tmp_path / done.model).catalogue.table.sort("item")
    first = table["item"] == ids[0]
    assert table.filter(first).select("year", "price", "title").rows() == [("2001", "5", None)]
    assert table.filter(item="nobody had it").select("year", "price", "title").rows() == [("2001", "5", None)]
    table, first = table.filter(pl.col("item") != "nobody had it"), first.filter(table["item"] != "nobody had it")
    before = items.filter(pl.col("item") != ids[0]).sort("item")
    assert table.filter(~first)["year"].to_list() == before["year:float"].cast(str).to_list()
    assert table.filter(~first)["title"].to_list() == before["title"].to_list()
    lists = pl.DataFrame({"item": [ids[1]], "year": [[2001]]})
    with pytest.raises(ColumnError, match=r"expected year as \w+, as .* has it, came List"):
        retrain.retrain(log, tmp_path, catalogue=lists, config=quick)


def test_a_folder_in_place_of_the_model_is_refused_before_training(tmp_path):
    TABLE.write_csv(tmp_path / "log.csv")
    done = CliRunner().invoke(app, ["train", str(tmp_path / "log.csv"), "-o", str(tmp_path)])
    assert isinstance(done.exception, ArgumentError), done.output
    assert "expected the name of a file, came a folder. Name a file in it." in str(done.exception)


def test_retraining_refuses_what_is_worse(tmp_path, monkeypatch):
    log = shop(users=150)
    good, bad = a_running_model(log, tmp_path), small_recommender(known_items(log), seed=9)
    asked = []

    def train(events, **given):
        asked.append((len(events), given["config"].train.minutes))
        return bad

    monkeypatch.setattr(retrain, "train", train)
    numbers = lambda job, rec, test, rated: (scores(rec, test), np.arange(len(test)))  # noqa: E731
    monkeypatch.setattr(retrain._Retraining, "_scored", numbers)

    def scores(rec, test):
        return np.full(len(test), 0.2 if rec.fingerprint == good.fingerprint else level)

    level = 0.1
    done = retrain.retrain(log, tmp_path, minutes=4)
    assert not done.published and "is worse than 2020-01-01-a.segue, by more than noise" in str(done)
    assert [path.name for path in tmp_path.glob("*.segue")] == ["2020-01-01-a.segue"]
    assert not (tmp_path / "current").exists() and asked == [(len(log) - done.questions, 2.0)]
    level = 0.2
    done = retrain.retrain(log, tmp_path, now=datetime(2026, 5, 4, tzinfo=UTC))
    assert done.published and done.model == f"2026-05-04-{bad.fingerprint[:12]}.segue"
    assert running_model(tmp_path).name == done.model


def test_what_learnt_ratings_alone_is_compared_by_their_errors(tmp_path, monkeypatch):
    log = rated_log(events=600, users=20, seconds=6000)
    plain = small_rater(task="rating")

    def always(above):
        head = map_tree(np.zeros_like, plain.params.rating)._replace(offset=np.float32([above]))
        facts = {"range": [0, 3000 * 10**6]}
        return with_fingerprint(replace(plain, params=plain.params._replace(rating=head), facts=facts))

    mean, far = always(0.0), always(1.5)
    for folder, running, candidate in (("up", far, mean), ("down", mean, far)):
        (tmp_path / folder).mkdir()
        running.save(tmp_path / folder / "2020-01-01-a.segue")
        monkeypatch.setattr(retrain, "train", lambda events, given=candidate, **_: given)
        done = retrain.retrain(log, tmp_path / folder)
        assert done.published is (folder == "up")
        assert done.ndcg is None
        assert (done.rmse[0] < done.rmse[1]) is done.published
        assert done.improvement.mean == pytest.approx(done.rmse[1] ** 2 - done.rmse[0] ** 2)
        assert done.questions == log.table["rating"][-100:].count()
        assert "RMSE of the candidate" in str(done)
    assert "is worse than 2020-01-01-a.segue, by more than noise" in done.why
    wide = replace(mean, facts={"curve": [{"validation": {"rmse": 1.0}}, {"validation": {"rmse": 1.2}}, {}]})
    assert retrain._validated(wide, True) == 1.2
    assert retrain._validated(wide, False) is None
    both = small_rater(task="both")
    assert [retrain._by_ratings(*pair) for pair in ((mean, both), (both, both), (mean, small_recommender()))] == [
        True, False, False
    ]  # fmt: skip


def test_only_events_that_the_running_model_has_not_learnt_are_compared_on(tmp_path):
    log = shop(users=150)
    time = log.table["time"]
    for end in (time[len(log) // 2], time[len(log) - 60]):
        learnt, test, _ = retrain.newest_slice(log, {"range": [0, end]})
        assert test.table["time"].min() > max(end, learnt.table["time"].max()) and len(learnt) + len(test) == len(log)
    untimed = segue.read_events(TABLE.drop("time", "device"), time="none")
    assert "may have learnt" in retrain.newest_slice(untimed, {"range": None})[2][0]
    assert "does not say until when" in retrain.newest_slice(log, {})[2][0]


def test_the_running_model_is_named_or_the_newest(tmp_path):
    assert running_model(tmp_path) is None
    for number, name in enumerate(("b.segue", "a.segue")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    assert running_model(tmp_path).name == "a.segue"
    (tmp_path / "current").write_text("b.segue\n")
    assert running_model(tmp_path).name == "b.segue"
    for name in ("c.segue", "../b.segue", ""):
        (tmp_path / "current").write_text(name)
        with pytest.raises(ModelError, match="expected the name of a model in this folder"):
            running_model(tmp_path)


def test_two_runs_in_one_folder_do_not_meet(tmp_path):
    with retrain._alone(tmp_path), pytest.raises(LockedError, match="expected no other run, but one is at work"):
        retrain.retrain(shop(), tmp_path)
    with pytest.raises(ModelError, match=r"expected an existing folder, found none\. Make it first"):
        retrain.retrain(shop(), tmp_path / "nowhere")


def test_the_verbs_for_lists_and_indexes(tmp_path):
    log = shop()
    rec = small_recommender(Vocabulary(pl.Series([f"i{n}" for n in range(40)])))
    rec.save(model := tmp_path / "b.segue")
    log.as_text().with_columns(pl.col("time").cast(pl.Datetime("us"))).write_parquet(tmp_path / "log.parquet")
    run, store = CliRunner(), str(tmp_path / "s.db")
    user = str(log.users[0])

    def said(*words, code=0):
        done = run.invoke(app, list(map(str, words)))
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    said("import", tmp_path / "log.parquet", "--store", store)
    single = said("recommend", model, "--user", user, "--store", store, "--json")
    assert single == said("recommend", model, "--user", user, "--events", tmp_path / "log.parquet", "--json")
    everyone = ("recommend", model, "--all", "-k", 3)
    assert "lists of 40 users" in said(*everyone, "--store", store, "-o", tmp_path / "a.parquet")
    said(*everyone, "--events", store, "-o", tmp_path / "b.parquet")
    lists = [pl.read_parquet(tmp_path / name).sort("user", "place") for name in ("a.parquet", "b.parquet")]
    assert lists[0]["item"].equals(lists[1]["item"])
    assert "recall@20" in said("index", model, "--events", store) and "recall@20" in said("index", model)
    assert open_index(rec, model)[0] is not None
    assert "recall@20" in said(*everyone, "--store", store, "-o", tmp_path / "c.parquet")
    said("export", "--store", store, "-o", tmp_path / "out.parquet")
    again = str(tmp_path / "again.db")
    assert json.loads(said("import", tmp_path / "out.parquet", "--store", again, "--json"))["written"] == len(log)
    assert said("import", store, "--store", str(tmp_path / "third.db")).count(f"{len(log)} events written")
    assert digest(LogColumns().read(again)) == digest(LogColumns().read(str(tmp_path / "third.db"))) == digest(log)
    assert "expected no options for columns" in run.invoke(app, ["inspect", store, "--user-col", "x"]).exception.args[0]
    for words in (["--all", "--store", store], ["--user", "x"], ["--all", "--user", "x", "--store", store], []):
        said("recommend", model, *words, code=2)


@pytest.mark.parametrize("kind", ["sqlite", "valkey"])
def test_the_id_of_an_erased_user_is_taken_again_by_a_verb(tmp_path, kind):
    server = Server(tmp_path) if kind == "valkey" else None
    address = server.address if server else str(tmp_path / "s.db")
    run, store = CliRunner(), open_store(address)
    try:
        store.erase_user("né/1")
        if kind == "sqlite":
            held = run.invoke(app, ["readmit", "né/1", "--store", address]).exception
            assert isinstance(held, LockedError) and "DELETE /v1/users/USER/block" in str(held)
        store.close()
        for said in ("né/1: accepted again from now on.", "né/1: was not blocked; nothing to do."):
            done = run.invoke(app, ["readmit", "né/1", "--store", address])
            assert (done.exit_code, done.output) == (0, said + "\n"), done.exception
        output = run.invoke(app, ["readmit", "bob", "--store", address, "--json"]).output
        assert json.loads(output) == {"user": "bob", "blocked": False, "was_blocked": False}
        store = open_store(address)
        assert isinstance(store.commit([Write("né/1", 0, (Event("né/1", "1"),))])[0], Written)
    finally:
        store.close()
        if server:
            server.stop()
    none = run.invoke(app, ["readmit", "ann", "--store", str(tmp_path / "none.db")])
    assert isinstance(none.exception, StoreError) and not (tmp_path / "none.db").exists()


def test_an_import_that_was_killed_goes_on(tmp_path):
    log = shop()
    log.as_text().with_columns(pl.col("time").cast(pl.Datetime("us"))).write_parquet(tmp_path / "log.parquet")
    code = (
        "import os, signal, segue, itertools\n"
        "from segue.store.sql.sqlite_store import SqliteStore\n"
        "from segue.jobs.event_frames import LogEvents\n"
        "from segue.jobs.import_export import import_events\n"
        "def broken():\n"
        "    yield from itertools.islice(LogEvents(segue.read_events('log.parquet')), 35)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "import_events(SqliteStore('s.db'), broken(), source='log.parquet', batch=10)\n"
    )
    path = os.pathsep.join(sys.path)
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    assert killed.returncode == -9
    said = CliRunner().invoke(app, ["import", str(tmp_path / "log.parquet"), "--store", str(tmp_path / "s.db")])
    assert f"{len(log) - 30} events written, 0 known already, 0 refused; {len(log)} of" in said.output
    assert digest(LogColumns().read(tmp_path / "s.db")) == digest(log)
