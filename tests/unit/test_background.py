"""No error ends a thread of the server without a word, and what one user or request meets stops no other."""

import asyncio
import itertools
import logging
import threading
import time

import pytest
from starlette.testclient import TestClient

from segue.errors import LostError, StoreError
from segue.serve.api import health
from segue.serve.app import make_app
from segue.serve.http import app_context, batching
from segue.serve.http.batching import Batcher
from segue.serve.live import background
from segue.serve.live.background import Background
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest, ListOptions
from segue.serve.server import Settings, reload
from segue.store.base import Readiness, Write
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import small_recommender, until

ERRORS = [KeyError("x"), MemoryError(), ZeroDivisionError(), SystemExit(), StoreError("this one is broken")]


@pytest.fixture(name="store")
def a_store(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    yield store
    store.close()


@pytest.fixture(name="service")
def a_service(store, tmp_path):
    service = Service(small_recommender(), store, models=tmp_path)
    yield service
    service.close()


def late(service, *users):
    """Tell events of users whose states are rebuilt in the background."""
    for user in users:
        service.store.commit([Write(user, None, (Event(user, "003", 5),))])
        service._rollout.rebuild_later(user)


def metric(service, name="segue-replay"):
    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        lines = client.get("/metrics").text.splitlines()
    return float(next(x for x in lines if x.startswith(f'segue_background_errors_total{{thread="{name}"')).split()[-1])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_user_whose_state_cannot_be_rebuilt_stops_no_other(service, monkeypatch, caplog, error):
    catch_up = service._rollout._catch_up

    def broken(rec, user):
        if user == "bad":
            raise error
        catch_up(rec, user)

    monkeypatch.setattr(service._rollout, "_catch_up", broken)
    with caplog.at_level(logging.ERROR, "segue.serve"):
        late(service, "a", "bad", "b", "c")
        until(lambda: all(service.store.head(user, service.rec.fingerprint).fresh for user in "abc"))
    assert service._rollout.wait()
    said = [record.getMessage() for record in caplog.records]
    assert any(f"segue-replay: {type(error).__name__} at " in line for line in said), said
    assert "bad" not in "".join(said)
    assert metric(service) >= 1
    until(lambda: service.status().ready.ready)


@pytest.mark.parametrize("error", [KeyError("x"), StoreError("this one is broken")])
def test_a_user_whose_state_cannot_be_rebuilt_does_not_hold_up_a_new_model(service, tmp_path, monkeypatch, error):
    late(service, *(f"u{n}" for n in range(9)))
    assert service._rollout.wait()
    small_recommender(seed=6).save(tmp_path / "new.segue")
    catch_up = service._rollout._catch_up

    def broken(rec, user):
        if user == "u5":
            raise error
        catch_up(rec, user)

    monkeypatch.setattr(service._rollout, "_catch_up", broken)
    new = service.roll_out("new.segue")
    assert service._rollout.wait() and service.rec.fingerprint == new
    assert service.recommend("u4", ListOptions(k=3)).model == new == service.recommend("u5", ListOptions(k=3)).model


def test_a_store_in_trouble_is_tried_less_and_less_often_and_all_is_made_good(service, monkeypatch):
    monkeypatch.setattr(background, "PAUSE", 0.02)
    down, tried, heads = [True], [], service.store.heads

    def lost(users, model):
        if down[0] and threading.current_thread().name == "segue-replay":
            tried.append(time.monotonic())
            raise LostError("gone")
        return heads(users, model)

    monkeypatch.setattr(service.store, "heads", lost)
    ready = service.store.ready
    monkeypatch.setattr(service.store, "ready", lambda: Readiness(False, "gone") if down[0] else ready())
    late(service, "a", "b")
    until(lambda: len(tried) >= 6)
    pauses = [late - early for early, late in itertools.pairwise(tried)]
    assert pauses[4] > 2 * pauses[1]
    assert not service.status().ready.ready
    down[0] = False
    assert service._rollout.wait()
    assert all(heads([user], service.rec.fingerprint)[0].fresh for user in "ab")
    until(lambda: service.status().ready.ready)


def test_a_thread_that_has_died_is_told_and_begun_anew(service, monkeypatch):
    run, died = Background._run, []

    def mortal(self):
        if self.name == "segue-replay" and not died:
            died.append(1)
            return  # as if something had ended it
        run(self)

    service._rollout.worker.stop()
    monkeypatch.setattr(Background, "_run", mortal)
    service._rollout.worker._stopped = False
    service._rollout.worker.start()
    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        until(lambda: died)
        answer = client.get("/readyz")
        assert answer.status_code == 503 and "segue-replay" in answer.json()["reason"]
        until(lambda: client.get("/readyz").status_code == 200)
    late(service, "a")
    assert service._rollout.wait() and service.store.head("a", service.rec.fingerprint).fresh


def test_a_thread_that_does_nothing_but_fail_is_not_ready(service, monkeypatch):
    monkeypatch.setattr(background, "PAUSE", 0.01)
    with monkeypatch.context() as patched:
        patched.setattr(service._rollout, "_do_urgent", lambda: 1 / 0)
        service._rollout.rebuild_later("a")
        until(lambda: not service.status().ready.ready)
        assert "segue-replay: expected to work, it failed" in service.status().ready.reason
    until(lambda: service.status().ready.ready)


class Shared:
    """A store that others may write to."""

    exclusive = False

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_thread_that_follows_other_replicas_goes_on(store, monkeypatch, error):
    monkeypatch.setattr(background, "PAUSE", 0.01)
    shared = Shared(store)
    service = Service(small_recommender(), shared)
    try:
        with monkeypatch.context() as patched:

            def broken(name):
                raise error

            patched.setattr(store, "value_version", broken)
            until(lambda: not service.status().ready.ready)
            assert "segue-follow" in service.status().ready.reason
        until(lambda: service.status().ready.ready)
        assert metric(service, "segue-follow") >= 3
    finally:
        service.close()


# --- batches ----------------------------------------------------------------------------------------------------


def batched(work, requests, **more):
    """Send requests one after the other through a batcher, and return what came of each."""

    async def run():
        batcher = Batcher(work, **more)
        found = []
        for request in requests:
            try:
                found.append(await asyncio.wait_for(batcher.send(request), 10))
            except Exception as error:
                found.append(type(error))
        await batcher.close()
        return found

    return asyncio.run(run())


@pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_after_an_error_in_a_batch_the_next_one_is_done(error):
    def work(requests):
        if "bad" in requests:
            raise error
        return requests

    found = batched(work, ["a", "bad", "b"])
    assert (found[0], found[2]) == ("a", "b") and issubclass(found[1], Exception)


def test_a_batch_that_cannot_be_begun_or_counted_holds_up_no_other(monkeypatch):
    calls = iter([None, RuntimeError("can't start new thread"), None])

    def start(*args, **more):
        if error := next(calls):
            raise error
        return submit(*args, **more)

    submit = batching.ThreadPoolExecutor.submit
    monkeypatch.setattr(batching.ThreadPoolExecutor, "submit", start)
    assert batched(list, ["a", "b", "c"]) == ["a", RuntimeError, "c"]
    monkeypatch.undo()
    sizes = iter([1, 0, 1])
    assert batched(list, ["a", "b", "c"], seen=lambda size: 1 / next(sizes)) == ["a", ZeroDivisionError, "c"]
    assert batched(lambda requests: [], ["a"]) == [ValueError]


def test_who_cannot_be_answered_keeps_no_other_from_an_answer():
    async def run():
        batcher = Batcher(list)
        gone, other = asyncio.create_task(batcher.send("a")), asyncio.create_task(batcher.send("b"))
        await asyncio.sleep(0)  # both wait
        gone.cancel()
        told = [await other, await batcher.send("c")]
        await batcher.close()
        return told, gone.cancelled()

    assert asyncio.run(run()) == (["b", "c"], True)


@pytest.mark.parametrize("error", ERRORS[:-1], ids=lambda error: type(error).__name__)
def test_an_error_of_an_answer_or_erasure_is_of_that_request_alone(service, monkeypatch, error):
    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        for name, method, path in (
            ("recommend_history", "GET", "/v1/recommend?history=003"),
            ("erase_user", "DELETE", "/v1/users/a"),
        ):
            with monkeypatch.context() as patched:

                def broken(*args, **more):
                    raise error

                patched.setattr(Service, name, broken)
                assert [client.request(method, path).status_code for _ in range(app_context.ERASURES + 2)] == [500] * 34
            assert client.request(method, path).status_code in (200, 404)
        assert client.get("/readyz").status_code == 200


def test_an_error_while_the_model_is_read_again_is_told(service, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Service, "roll_out", lambda *args: 1 / 0)
    reload(Settings(tmp_path / "b.segue"), service, None)
    assert any("SIGHUP: ZeroDivisionError at " in record.getMessage() for record in caplog.records)
    assert service.ingest([IngestRequest((Event("a", "003", 5),))])[0].events


def test_a_busy_server_says_whether_it_is_ready_and_a_store_that_hangs_is_not(service, monkeypatch):
    held, waiting = threading.Event(), []

    def slow(*args, **more):
        waiting.append(1)
        held.wait(30)

    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        with monkeypatch.context() as patched:
            patched.setattr(service, "recommend_history", slow)
            threads = [
                threading.Thread(target=client.get, args=("/v1/recommend?history=003",))
                for _ in range(app_context.THREADS)
            ]
            for thread in threads:
                thread.start()
            until(lambda: len(waiting) == app_context.THREADS)
            assert client.get("/readyz").status_code == 200
            patched.setattr(health, "PATIENCE", 0.1)
            patched.setattr(service.store, "ready", slow)
            answer = client.get("/readyz")
            assert answer.status_code == 503 and "within 0.1 seconds, it has not" in answer.json()["reason"]
            held.set()
            for thread in threads:
                thread.join()
        assert client.get("/readyz").status_code == 200
