"""The service: what is told is kept, in order, once; what is answered is what the recommender says of the log."""

import sqlite3
import threading
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import segue
from engines import Server
from segue.errors import ArgumentError, ConflictError, ErasedError, FullError, NotFoundError, StoreError
from segue.model.backend import leaves
from segue.recommend.batch import observe_each, observe_long, state_from_bytes, state_to_bytes
from segue.recommend.lists.item_filters import Rule
from segue.recommend.lists.item_search import search
from segue.serve.live import ingest, replay, rollout
from segue.serve.live.service import Service
from segue.serve.ranking.event_ranks import RankedEvent
from segue.serve.ranking.online_metrics import OnlineMetrics
from segue.serve.ranking.types import IngestRequest, IngestResult, ListOptions, RecommendRequest
from segue.store.base import Write
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from segue.store.valkey_store import ValkeyStore
from tests_support import read_catalogue, small_rater, small_recommender

NOW = 1_700_000_000
ITEMS = [f"{i:03d}" for i in range(12)]


def event(user, item, at=None, **more):
    return Event(user, item, time=None if at is None else at * 1_000_000, **more)


def tell(*events, k=None, client="shop"):
    return IngestRequest(tuple(events), client, None if k is None else ListOptions(k=k))


@pytest.fixture(name="rec")
def a_recommender():
    return small_recommender()


@pytest.fixture(name="shared_server", scope="module")
def a_shared_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("shared"))
    yield server
    server.stop()


@pytest.fixture(name="store", params=["sqlite", "valkey"])
def a_store(tmp_path, request):
    if request.param == "sqlite":
        store = SqliteStore(tmp_path / "s.db")
    else:
        shared = request.getfixturevalue("shared_server")
        store = ValkeyStore(shared.address, prefix=tmp_path.name)
    yield store
    store.close()


@pytest.fixture(name="service")
def a_service(rec, store, tmp_path):
    service = Service(rec, store, models=tmp_path, clock=lambda: NOW)
    yield service
    service.close()


def expected(rec, events):
    """The state after events, in the order of time, observed one by one."""
    state = rec.start()
    for one in sorted(events, key=lambda one: one.time):
        more = {"rating": one.rating, "type": one.type, "context": one.context}
        state = rec.observe(state, one.item, time=one.time / 1e6, **more)
    return state


def stored(service, user):
    head = service.store.head(user, service.rec.fingerprint)
    assert head.fresh
    return state_from_bytes(service.rec, head.state.data)


def same(a, b):
    for (path, x), (_, y) in zip(leaves(a.memory), leaves(b.memory), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-5, err_msg=path)
    assert (a.time, a.count, a.seen.to_rows().tolist()) == (b.time, b.count, b.seen.to_rows().tolist())
    assert a.recent.tolist() == b.recent.tolist()


def drawn(rng, rows=60, users=4):
    """Events that arrive in any order of time, no two at once."""
    times = rng.permutation(rows)
    return [event(f"u{rng.integers(users)}", ITEMS[rng.integers(12)], 1000 + int(t)) for t in times]


@pytest.mark.parametrize("size", [1, 7, 60])
def test_law_batches_of_any_size_in_any_order_are_the_log_in_order(rec, service, size, monkeypatch):
    monkeypatch.setattr(replay, "SPACING", 8)
    events = drawn(np.random.default_rng(size))
    for begin in range(0, len(events), size):
        told = service.ingest([tell(one) for one in events[begin : begin + size]])
        assert all(isinstance(one, IngestResult) for one in told)
    for user in {one.user for one in events}:
        same(stored(service, user), expected(rec, [one for one in events if one.user == user]))


def test_law_state_bytes_are_the_state(rec):
    state = rec.observe_all(rec.start(), ["003", "nobody", "004"])
    for one in (rec.start(), state, observe_each(rec, [state], [event("u", "007", 5)])[0]):
        same(state_from_bytes(rec, state_to_bytes(one)), one)
    line = [event("u", ITEMS[i % 12], 100 + i) for i in range(515)]  # the last piece is short
    same(observe_long(rec, rec.start(), line), expected(rec, line))


def test_a_told_event_changes_the_next_list_at_once(rec, service):
    [one] = service.ingest([tell(event("ann", "003", 100), event("ann", "005", 160), k=5)])
    state = expected(rec, [event("ann", "003", 100), event("ann", "005", 160)])
    assert [line.item for line in one.answer.items] == [line.item for line in rec.recommend(state, 5, at=160)]
    assert one.answer.model == rec.fingerprint
    assert [kept.item for kept in one.events] == ["003", "005"]
    again = service.recommend("ann", ListOptions(k=5, at=160_000_000))
    assert [line.item for line in again.items] == [line.item for line in one.answer.items]
    nobody = service.recommend("nobody", ListOptions(k=3))
    assert [line.item for line in nobody.items] == [line.item for line in rec.recommend(rec.start(), 3)]
    [two] = service.ingest([tell(event("ann", "never heard of", 170), k=2)])
    assert two.answer.unknown == ["never heard of"]


def test_twice_is_once_and_another_body_is_a_conflict(service):
    one = tell(event("ann", "003", 100, id="a"), k=3)
    first, again = service.ingest([one, one])
    [later] = service.ingest([one])
    assert (first.duplicates, again.duplicates, later.duplicates) == (0, 1, 1)
    assert first.events == again.events == later.events
    assert [line.item for line in later.answer.items] == [line.item for line in first.answer.items]
    assert service.store.head("ann", "").count == 1
    [other] = service.ingest([tell(event("ann", "004", 100, id="a"))])
    assert isinstance(other, ConflictError)
    [mine] = service.ingest([tell(event("ann", "004", 100, id="a"), client="another shop")])
    assert mine.duplicates == 0
    # Without an id two equal events are two, and what is new beside what was there is written.
    assert [type(one) for one in service.ingest([tell(event("ann", "003", 100)), tell(event("ann", "003", 100))])] == [
        IngestResult
    ] * 2
    [mixed] = service.ingest([tell(event("ann", "003", 100, id="a"), event("ann", "006", 200, id="b"))])
    assert mixed.duplicates == 1
    assert service.store.head("ann", "").count == 5
    assert service.metrics.snapshot()["all"]["all"]["n"] == 5


def test_what_was_kept_is_told_again_though_it_would_not_be_taken_anew(store, tmp_path):
    first = Service(small_rater(), store, clock=lambda: NOW)
    sent = tell(event("ann", "003", NOW + 200, id="a", rating=5.0), event("bob", "003", NOW, id="b"))
    [kept] = first.ingest([sent])
    first.close()
    narrow = Service(small_rater(levels=(1.0, 2.0, 3.0)), store, clock=lambda: NOW - 200)
    both = sent.events
    some = [sent, tell(both[0], client="app"), tell(both[0], event("ann", "004", NOW)), tell(*both, k=2)]
    [again, new, partly, listed] = narrow.ingest(some)
    assert (again.events, again.duplicates, listed.events) == (kept.events, 2, kept.events)
    assert "at most 5 minutes" in str(new) and str(partly).startswith('events.0 id "a": expected a time')
    narrow.close()


def test_scores_come_in_pieces_that_fit_into_memory(rec, service, monkeypatch):
    monkeypatch.setattr("segue.serve.ranking.list_requests.SCORES", 80)
    told = service.ingest([tell(event(f"u{n}", ITEMS[n % 12], 100 + n), k=4) for n in range(10)])
    for n, one in enumerate(told):
        state = expected(rec, [event("u", ITEMS[n % 12], 100 + n)])
        assert [x.item for x in one.answer.items] == [x.item for x in rec.recommend(state, 4, at=100 + n)]
    assert service.metrics.snapshot()["all"]["all"]["n"] == 10


def test_a_request_of_several_users_is_all_or_nothing(service):
    service.ingest([tell(event("ann", "003", 100, id="a"))])
    [refused] = service.ingest([tell(event("bob", "003", 100), event("ann", "004", 100, id="a"))])
    assert isinstance(refused, ConflictError)
    assert service.store.head("bob", "").count == 0
    [done] = service.ingest([tell(event("bob", "003", 100), event("ann", "004", 100, id="c"), k=2)])
    assert [kept.user for kept in done.events] == ["bob", "ann"]
    assert done.answer.events == 2


def test_what_is_refused_says_why_and_spoils_no_other(service):
    answers = service.ingest(
        [
            tell(event("ann", "003", NOW + 301)),
            tell(event("ann", "004", NOW + 299)),
            tell(),
            tell(event("a", "1", id="x"), event("a", "1", id="x")),
        ]
    )
    assert [type(one) for one in answers] == [ArgumentError, IngestResult, ArgumentError, ArgumentError]
    assert "at most 5 minutes from now" in str(answers[0])


def test_when_the_disk_is_full_all_is_as_before(rec, service):
    service.ingest([tell(event("ann", "003", 100))])
    before = service.recommend("ann", ListOptions(k=12))

    def full(*_, **__):
        raise FullError("no room")

    begin, service.store.begin = service.store.begin, full
    answers = service.ingest([tell(event("ann", "005", 200), k=3), tell(event("bob", "005", 200))])
    assert [type(one) for one in answers] == [FullError, FullError]
    assert service.recommend("ann", ListOptions(k=12)) == before
    service.store.begin = begin
    assert isinstance(service.ingest([tell(event("ann", "005", 200))])[0], IngestResult)
    same(stored(service, "ann"), expected(rec, [event("ann", "003", 100), event("ann", "005", 200)]))


def test_lists_made_while_a_sync_failed_are_told_to_nobody_and_not_counted(rec, service, monkeypatch):
    if not isinstance(service.store, SqliteStore):
        pytest.skip("the lists are made when its server has synced")
    service.ingest([tell(event("ann", "003", 100), k=3)])
    before, counted = service.recommend("ann", ListOptions(k=12)), service.metrics.snapshot()
    made, rank, writer = [], service._rank, service.store._file._writer

    class Failing:
        def execute(self, statement, *values):
            if statement == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return writer.execute(statement, *values)

        def __getattr__(self, name):
            return getattr(writer, name)

    with monkeypatch.context() as patched:
        patched.setattr(service, "_rank", lambda *args: made.append(rank(*args)) or made[-1])
        patched.setattr(service.store._file, "_writer", Failing())
        answers = service.ingest([tell(event("ann", "005", 200), k=3), tell(event("bob", "005", 200), k=3)])
    assert len(made[0][0]) == len(made[0][1][rec.fingerprint]) == 2  # they were made
    assert [type(one) for one in answers] == [StoreError, StoreError]
    assert service.recommend("ann", ListOptions(k=12)) == before and service.metrics.snapshot() == counted
    [told] = service.ingest([tell(event("ann", "005", 200), k=3)])
    same(stored(service, "ann"), expected(rec, [event("ann", "003", 100), event("ann", "005", 200)]))
    assert len(told.answer.items) == 3 and service.metrics.snapshot()["all"]["all"]["n"] == 2


def test_a_long_history_is_rebuilt_in_the_background_and_said(rec, service, monkeypatch):
    line = [event("ann", ITEMS[i % 12], 1000 + i) for i in range(300)]
    service.ingest([tell(*line)])
    monkeypatch.setattr(ingest, "REPLAY_NOW", 10)
    [late] = service.ingest([tell(event("ann", "007", 10), k=3)])
    assert late.answer.rebuilding
    assert service._rollout.wait()
    assert not service.recommend("ann", ListOptions()).rebuilding
    same(stored(service, "ann"), expected(rec, [*line, event("ann", "007", 10)]))


def test_forgetting_gives_the_state_of_one_who_never_did_it(rec, service):
    line = [event("ann", ITEMS[i % 5], 1000 + i, id=f"e{i}") for i in range(20)]
    service.ingest([tell(*line)])
    receipt = service.erase_event("ann", "e3", client="shop")
    assert (receipt.erased, receipt.events, receipt.models[0]["model"]) == ("event", 1, rec.fingerprint)
    service.recommend("ann", ListOptions())
    same(stored(service, "ann"), expected(rec, line[:3] + line[4:]))
    assert isinstance(service.ingest([tell(line[3])])[0], ErasedError)
    again = service.erase_event("ann", "e3", client="shop")
    assert (again.events, again.already, again.models) == (0, True, receipt.models)
    for nobodys in (("4", "shop"), ("e4", "app"), (99, "shop")):
        with pytest.raises(NotFoundError, match="expected one of this user"):
            service.erase_event("ann", *nobodys)
    assert service.erase_user("ann").events == 19
    with pytest.raises(ErasedError, match="erased on request"):
        service.recommend("ann", ListOptions())
    assert isinstance(service.ingest([tell(event("ann", "001", 5))])[0], ErasedError)


def test_merged_users_are_one_in_the_order_of_time(rec, service):
    service.ingest([tell(event("guest", "003", 200)), tell(event("ann", "004", 100)), tell(event("ann", "005", 300))])
    assert service.merge("guest", "ann") == 3
    [told] = service.ingest([tell(event("guest", "006", 400), k=3)])
    assert told.answer.events == 4
    order = [("004", 100), ("003", 200), ("005", 300), ("006", 400)]
    same(stored(service, "ann"), expected(rec, [event("ann", item, at) for item, at in order]))


def test_bursts_from_many_threads_lose_no_update(rec, service):
    lines = {
        user: [event(user, ITEMS[i % 12], 1000 + i, id=f"{user}{i}") for i in range(40)] for user in ("ann", "bob")
    }
    lock, waiting = threading.Lock(), {user: list(line) for user, line in lines.items()}

    def work():
        while True:
            with lock:
                some = [line.pop(0) for line in waiting.values() if line]
            if not some:
                return
            assert all(isinstance(one, IngestResult) for one in service.ingest([tell(one) for one in [*some, *some]]))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for user, line in lines.items():
        assert service.store.head(user, rec.fingerprint).count == 40
        service.recommend(user, ListOptions())
        same(stored(service, user), expected(rec, line))


def test_a_swap_moves_each_user_when_caught_up_and_never_mixes(rec, service, tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "AT_ONCE", 5)
    lines = {u: [event(u, ITEMS[(i * 7) % 12], 1000 + i) for i in range(n)] for u, n in (("long", 30), ("short", 3))}
    service.ingest([tell(*line) for line in lines.values()])
    other = small_recommender(seed=6)
    other.save(tmp_path / "new.segue")
    held = threading.Event()
    catch_up = service._rollout._catch_up
    monkeypatch.setattr(service._rollout, "_catch_up", lambda *a: (held.wait(30), catch_up(*a)))
    assert service.roll_out("new.segue") == other.fingerprint
    assert service.status().rolling_out_to == other.fingerprint
    assert service.recommend("long", ListOptions(k=3)).model == rec.fingerprint
    quick = service.recommend("short", ListOptions(k=12))
    assert quick.model == other.fingerprint
    assert [x.item for x in quick.items] == [x.item for x in other.recommend(expected(other, lines["short"]), 12)]
    more = event("long", "002", 2000)
    assert service.ingest([tell(more, k=3)])[0].answer.model == rec.fingerprint
    service.change_item("002", attributes={"title": "renamed"})
    held.set()
    assert service._rollout.wait()
    assert service.rec.fingerprint == other.fingerprint
    assert service.rec.title("002") == "renamed"
    service.change_item("003", attributes={"title": "renamed too"})
    same(stored(service, "long"), expected(other, [*lines["long"], more]))
    assert service.roll_back() == rec.fingerprint
    assert service._rollout.wait()
    back = service.recommend("long", ListOptions(k=12))
    assert back.model == rec.fingerprint
    assert [service.rec.title(item) for item in ("002", "003")] == ["renamed", "renamed too"]
    same(stored(service, "long"), expected(rec, [*lines["long"], more]))
    for name, error in (("../new.segue", ArgumentError), ("", ArgumentError), ("none.segue", NotFoundError)):
        with pytest.raises(error):
            service.roll_out(name)


def test_a_user_who_comes_while_others_are_caught_up_is_next(rec, service, tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "AT_ONCE", 5)
    users = [f"u{n}" for n in range(8)]
    for n, user in enumerate(users):  # the last of them is the most recent, and so the first in the queue
        service.ingest([tell(*[event(user, ITEMS[i % 12], 1000 + 20 * n + i) for i in range(9)])])
    small_recommender(seed=6).save(tmp_path / "new.segue")
    begun, held, order, catch_up = threading.Event(), threading.Event(), [], service._rollout._catch_up

    def watched(model, user):
        order.append(user)
        begun.set()
        assert held.wait(30)
        catch_up(model, user)

    monkeypatch.setattr(service._rollout, "_catch_up", watched)
    service.roll_out("new.segue")
    assert begun.wait(30)
    assert service.recommend("u1", ListOptions(k=3)).model == rec.fingerprint
    assert service.ingest([tell(event("u0", "002", 2000), k=3)])[0].answer.model == rec.fingerprint
    held.set()
    assert service._rollout.wait()
    assert order[:3] == ["u7", "u1", "u0"]
    assert set(order) == set(users)


def test_online_metrics_are_kept_hour_by_hour_for_a_week_with_intervals(rec):
    metrics, rng = OnlineMetrics(), np.random.default_rng(4)
    ranks = rng.integers(1, 13, 100).astype(float)
    hours = [3, *range(120), 119, *range(240, 300)]
    for hour in hours:
        metrics.count(rec, [RankedEvent(event("ann", "001", hour * 3600 + 9), rank, 0.5) for rank in ranks])
    metrics.count(rec, [RankedEvent(event("ann", "001"), 1.0, 0.5)])  # without a time
    series = metrics.snapshot()["series"]
    kept = sorted(set(hours))[-168:]
    assert [(one["begin"], one["n"]) for one in series] == [(3600 * hour, 100 * hours.count(hour)) for hour in kept]
    metrics.count(rec, [RankedEvent(event("ann", "001", 9), 1.0, 0.5)])  # older than all that are kept
    assert metrics.snapshot()["series"] == series
    one, hits, reciprocal = series[-1], ranks <= 10, np.where(ranks <= 10, 1 / ranks, 0)
    assert one["recall@10"] == hits.mean() and one["mrr@10"] == pytest.approx(reciprocal.mean())
    low, high = one["recall@10_interval"]
    for bound in (low, high):  # Wilson: where the observed share is 1.96 standard errors away
        assert abs(bound - hits.mean()) == pytest.approx(1.959964 * np.sqrt(bound * (1 - bound) / 100))
    half = 1.959964 * reciprocal.std(ddof=1) / 10
    assert one["mrr@10_interval"] == pytest.approx((reciprocal.mean() - half, reciprocal.mean() + half))


def test_live_quality_is_the_offline_report_of_the_same_log(rec, store):
    rng = np.random.default_rng(3)
    table = pl.DataFrame(
        {
            "user": [f"u{u}" for u in rng.integers(0, 5, 200)],
            "item": [ITEMS[i] if i < 12 else "unknown" for i in rng.integers(0, 13, 200)],
            "time": np.arange(200) * 50 + 1000,
        }
    )
    service = Service(rec, store, clock=lambda: NOW)
    for begin in range(0, 200, 16):
        rows = table[begin : begin + 16].iter_rows(named=True)
        service.ingest([tell(event(row["user"], row["item"], row["time"])) for row in rows])
    live = service.metrics.snapshot()["all"]["all"]
    service.close()
    report = segue.evaluate(rec, segue.read_events(table), request_time="event").rows["segue"]
    assert live["n"] == 200
    assert live["recall@10"] == pytest.approx(report["recall@10"], abs=1e-9)
    assert live["mrr@10"] == pytest.approx(report["mrr@10"], abs=1e-6)


def test_a_model_in_the_shadow_reads_along_and_is_compared_on_the_same_events(rec, store, tmp_path):
    other, rng = small_recommender(seed=6), np.random.default_rng(4)
    with pytest.raises(ArgumentError, match="expected another model"):
        Service(rec, store, shadow=rec)
    store.commit([Write("old", 0, tuple(event("old", ITEMS[i], 900 + i) for i in range(5)))])
    service = Service(rec, store, models=tmp_path, clock=lambda: NOW, shadow=other)
    lines = [event(f"u{u}", ITEMS[i], 1000 + 50 * n) for n, (u, i) in enumerate(rng.integers(0, (4, 12), (120, 2)))]
    lines += [event("old", ITEMS[7], 9000), event("old", ITEMS[8], 9050)]
    for begin in range(0, 121, 11):
        told = service.ingest([tell(one, k=3) for one in lines[begin : begin + 11]])
        assert {one.answer.model for one in told} == {rec.fingerprint}
        assert service._rollout.wait()  # of a user who was there before, the state is rebuilt aside
    service.ingest([tell(lines[121])])
    found = service.online_metrics()
    assert found["all"]["all"]["n"] == 122 and found["shadow"]["shadow"]["n"] == 121
    assert found["shadow"]["running"]["n"] == 121 and found["shadow_model"] == other.fingerprint
    table = pl.DataFrame({"user": [x.user for x in lines], "item": [x.item for x in lines]})
    log = table.with_columns(time=pl.Series([x.time // 10**6 for x in lines]))[:120]
    for name, one in (("running", rec), ("shadow", other)):
        report = segue.evaluate(one, segue.read_events(log), request_time="event").rows["segue"]
        assert found["shadow"][name]["recall@10"] * 121 == pytest.approx(report["recall@10"] * 120, abs=1.01)
    service.ingest([tell(event("u1", ITEMS[3], 1010))])  # late
    service.ingest([tell(event("u1", ITEMS[4], 9999))])
    assert service._rollout.wait()
    for user in ("u0", "u1", "u2", "u3"):
        head = store.head(user, other.fingerprint)
        assert head.fresh
        same(state_from_bytes(other, head.state.data), expected(other, store.events(user)))
    service.erase_user("u0")
    assert store.head("u0", other.fingerprint).state is None
    other.save(tmp_path / "b.segue")
    service.roll_out("b.segue")
    assert service.recommend("u2", ListOptions()).model == other.fingerprint  # at once: its states are there
    assert service._rollout.wait() and "shadow" not in service.online_metrics()
    service.close()
    again = Service(other, store, clock=lambda: NOW)  # after a restart the states of the model before are let go
    until(lambda: store.head("u2", rec.fingerprint).state is None)
    assert store.head("u2", other.fingerprint).fresh
    again.close()


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_explanation_is_the_score_less_that_without_the_event(rec, service):
    line = [event("ann", item, 1000 + i) for i, item in enumerate(["001", "002", "003", "004"])]
    service.ingest([tell(*line)])
    found = service.explain("ann", last=3)
    whole = expected(rec, line)
    top = rec.recommend(whole, 1)[0]
    assert found.item.item == top.item
    row = rec.vocabulary.row(top.item) - 1
    for part in found.parts:
        rest = expected(rec, [one for one in line if one.item != part.event.item])
        assert part.change == pytest.approx(float(rec.score(whole)[0, row] - rec.score(rest)[0, row]), abs=1e-4)
    assert {part.event.item for part in found.parts} == {"002", "003", "004"}
    gone = service.store.events("ann")[1].seq
    what_if = service.what_if("ann", [gone], ListOptions(k=12))
    rest = expected(rec, [line[0], *line[2:]])
    assert [x.item for x in what_if.items] == [x.item for x in rec.recommend(rest, 12)]


def test_history_and_token_answer_without_a_trace(rec, service):
    line = [event("x", "003", 100), event("x", "odd", 200)]
    answer = service.recommend_history(line, ListOptions(k=4))
    assert [x.item for x in answer.items] == [x.item for x in rec.recommend(expected(rec, line), 4)]
    assert answer.unknown == ["odd"]
    token = service.new_token()
    for one in line:
        last, token = service.recommend_token(token, one, ListOptions(k=4))
    assert [line.item for line in last.items] == [line.item for line in answer.items]
    with pytest.raises(ConflictError, match="state of the running model"):
        service.recommend_token(b"0" * 64 + token[64:], None, ListOptions())
    assert service.store.log() == []


def with_kinds(rec):
    table = pl.DataFrame(
        {"item": ITEMS, "title": [f"film {i}" for i in ITEMS], "kind": ["a|b", "b", "c"] * 4, "size": [1, 2] * 6}
    )
    return replace(rec, catalogue=read_catalogue(table, rec.vocabulary))


def test_what_is_explored_is_drawn_for_each_user_and_again_the_same_for_the_same_question(rec, store, service):
    users = [f"u{n}" for n in range(30)]
    service.ingest([tell(event(user, "003", 100)) for user in users])

    def lists(ask, **more):
        return [tuple(x.item for x in ask(user, ListOptions(k=5, explore=0.5, **more)).items) for user in users]

    def history(user, options):
        return service.recommend_history([event("", "003"), event("", user)], options)

    def token(user, options):
        return service.recommend_token(service.new_token(), event("", f"{int(user[1:]) % 12:03d}"), options)[0]

    for ask, distinct in ((service.recommend, 15), (history, 15), (token, 8)):
        for seed in (None, 7):
            drawn = lists(ask, seed=seed)
            assert drawn == lists(ask, seed=seed) and len(set(drawn)) >= distinct
        assert lists(ask, seed=7) != lists(ask, seed=8) != lists(ask)
    before, seeded = lists(service.recommend), lists(service.recommend, seed=7)
    batch = service.recommend_each([RecommendRequest(user, ListOptions(k=5, explore=0.5)) for user in users])
    assert [tuple(x.item for x in one.items) for one in batch] == before
    service.store.merge("guest", "u3")
    assert (
        service.recommend("guest", ListOptions(k=5, explore=0.5)).items
        == service.recommend("u3", ListOptions(k=5, explore=0.5)).items
    )
    again = Service(small_recommender(), store, clock=lambda: NOW)  # after a restart, too
    assert lists(again.recommend) == before and lists(again.recommend, seed=7) == seeded
    why = again.explain("u4", options=ListOptions(k=5, explore=1.0))
    assert why.item.item == again.recommend("u4", ListOptions(k=5, explore=1.0)).items[0].item
    again.close()
    service.ingest([tell(event(user, "003", 200)) for user in users])
    assert lists(service.recommend) != before


def test_filters_rules_and_variety_come_after_the_scores(rec, store):
    service = Service(with_kinds(rec), store, clock=lambda: NOW)
    plain = [x.item for x in service.recommend("ann", ListOptions(k=12)).items]
    small = [x.item for x in service.recommend("ann", ListOptions(k=12, where={"size": 1, "kind": ["b", "c"]})).items]
    assert small == [item for item in plain if int(item) % 2 == 0 and int(item) % 3 in (1, 2)]
    with pytest.raises(ArgumentError, match=r'where: expected an attribute of the items .*came "colour"'):
        service.recommend("ann", ListOptions(where={"colour": "red"}))
    assert plain[0] not in [x.item for x in service.recommend("ann", ListOptions(k=12, exclude=(plain[0],))).items]
    service.set_rules(
        [
            Rule("block", {"size": 2}),
            Rule("pin", items=(small[-1],), name="of the day"),
            Rule("boost", {"kind": "c"}, by=50.0),
        ]
    )
    ruled = service.recommend("ann", ListOptions(k=12, debug=True))
    assert ruled.items[0].item == small[-1]
    assert ruled.debug[small[-1]]["of the day"] is True
    assert all(int(x.item) % 2 == 0 for x in ruled.items)
    assert int(ruled.items[1].item) % 3 == 2
    service.change_item(small[0], available=False)
    assert small[0] not in [x.item for x in service.recommend("ann", ListOptions(k=12)).items]
    assert service.status().unavailable == 1
    service.close()
    again = Service(with_kinds(rec), store, clock=lambda: NOW)
    assert [x.item for x in again.recommend("ann", ListOptions(k=12)).items] == [
        x.item for x in ruled.items if x.item != small[0]
    ]
    again.set_rules([])
    again.change_item(small[0], available=True)
    assert [x.item for x in again.recommend("ann", ListOptions(k=12)).items] == plain
    mixed = again.recommend("ann", ListOptions(k=4, diversity=0.9))
    assert mixed.items[0].item == plain[0] and [x.item for x in mixed.items] != plain[:4]
    drawn_by = [
        [x.item for x in again.recommend("ann", ListOptions(k=4, explore=0.5, seed=s)).items] for s in (1, 1, 2)
    ]
    assert drawn_by[0] == drawn_by[1] != drawn_by[2]
    assert all(len(set(one)) == 4 for one in drawn_by)
    assert search(again.rec, "FILM 00", limit=2).rows.tolist() == [1, 2]
    again.close()


def test_a_stored_state_that_is_damaged_is_made_anew_from_the_log(rec, service, caplog):
    """The log is the truth, and a state a cache of it: damage is said, and the answer is as before."""
    events = [event("ann", ITEMS[i % 7], 100 + i) for i in range(9)]
    service.ingest([tell(one) for one in events])
    before, head = service.recommend("ann", ListOptions(k=5)), service.store.head("ann", rec.fingerprint)
    whole = head.state.data
    for damaged in (b"", whole[:-3], b"\xc1" + whole[1:]):
        head = service.store.head("ann", rec.fingerprint)
        service.store.commit([Write("ann", head.version, states={rec.fingerprint: damaged})])
        caplog.clear()
        after = service.recommend("ann", ListOptions(k=5))
        assert [line.item for line in after.items] == [line.item for line in before.items]
        assert "A stored state is made anew from the log" in caplog.text
        assert "ann" not in caplog.text
    told = service.ingest([tell(event("ann", ITEMS[3], 200))])
    assert isinstance(told[0], IngestResult)
    same(stored(service, "ann"), expected(rec, [*events, event("ann", ITEMS[3], 200)]))
