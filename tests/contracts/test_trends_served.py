"""Lists of a server follow what everybody does, and the counts are those of the log, whatever happens to servers."""

import io
import threading
import time

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from segue.cli.demo import replay_live
from segue.data.log.synthetic import news
from segue.data.sequences.vocabulary import Vocabulary
from segue.model_file import save_model
from segue.recommend.lists.item_filters import Rule
from segue.serve.live.service import Service
from segue.serve.live.trend_follower import TrendReplay
from segue.serve.ranking.types import IngestRequest, ListOptions
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from segue.store.valkey_store import ValkeyStore
from segue.trends.moves import RECENT
from served import Server
from tests_support import small_recommender, trends_of_log, until, with_ranker

SHORTEST = 300_000_000
NOW = 1_700_000_000


def click(service, user, item, ago=0.0):
    return clicks(service, (user, item, ago))[0]


def clicks(service, *some):
    """Ingest events of (user, item, seconds ago) in one request."""
    (done,) = service.ingest([IngestRequest(tuple(Event(u, i, int((NOW - ago) * 1e6)) for u, i, ago in some))])
    return done.events


def lines(service):
    return service.rec.live.trends.lines()


def scores(service, later=0):
    """The scores of a user's whole list, some seconds later: what is popular is looked for once a second."""
    found = service.recommend("bob", ListOptions(k=50, at=(NOW + later) * 1_000_000))
    return {one.item: one.score for one in found.items}


@pytest.fixture(name="open_service")
def of_a_store(tmp_path):
    """Returns services, each over a new store, which are closed at the end."""
    opened = []

    def service(**settings):
        store = SqliteStore(tmp_path / f"{len(opened)}.db")
        opened.append((Service(with_ranker(small_recommender()), store, clock=lambda: NOW, **settings), store))
        return opened[-1][0]

    yield service
    for service, store in opened:
        service.close()
        store.close()


def test_an_item_that_the_model_never_met_comes_into_the_list_of_another(open_service):
    service = open_service()
    click(service, "bob", "001", ago=60)
    assert "new" not in scores(service)
    for n in range(5):
        click(service, f"u{n}", "new")
    assert service.settle()
    assert next(iter(scores(service))) == "new"
    said = service.status().trends
    assert (said.half_life, said.events, said.caught_up, said.items) == (300.0, 6, True, 2) and said.behind < 5


def test_a_flood_of_one_user_moves_lists_of_others_like_a_click(open_service):
    """A thousand clicks of a minute on one item count once; on many items, `RECENT` of them count."""
    flood, once, many = (open_service() for _ in range(3))
    for service in (flood, once, many):
        click(service, "ann", "002", ago=120)
    clicks(flood, *(("eve", "001", 60 - n * 0.06) for n in range(1000)))
    clicks(many, *(("eve", f"x{n}", 60 - n * 0.06) for n in range(1000)))
    click(once, "eve", "001", ago=60)
    assert flood.settle() and once.settle() and many.settle()
    assert scores(flood) == scores(once)
    counts = many.rec.live.trends.counts
    assert sum(counts.values()) == RECENT + 1 and len(scores(many)) == 12 + RECENT


def test_a_model_with_another_half_life_begins_with_the_counts_of_the_log(open_service, tmp_path):
    save_model(with_ranker(small_recommender(seed=6), 600.0), tmp_path / "other.segue")
    for seed, name in ((7, "without"), (8, "again")):
        save_model(small_recommender(seed=seed), tmp_path / f"{name}.segue")
    service = open_service(models=tmp_path)
    for n in range(5):
        click(service, f"u{n}", "new")
    service.roll_out("other.segue")
    assert service.settle() and service.status().trends.half_life == 600.0
    assert next(iter(scores(service))) == "new" and len(service._trends._replays) == 2  # one may roll back
    service.roll_out("without.segue")
    assert service.settle() and service.status().trends is None and "new" not in scores(service)
    service.roll_back()
    assert service.settle() and next(iter(scores(service))) == "new"
    for name in ("without", "again", "other"):  # until no model at hand has trends, and back
        service.roll_out(f"{name}.segue")
        assert service.settle()
    assert next(iter(scores(service, 1))) == "new" and service.status().trends.events == 5
    assert sum(thread.name == "segue-trends" for thread in threading.enumerate()) == 1


def test_rows_for_unknown_items_are_made_when_they_are_used_up(open_service, monkeypatch):
    monkeypatch.setattr("segue.recommend.lists.live_scores.ROOM", 4)
    service = open_service()
    bound = service.rec
    for n in range(10):
        click(service, f"u{n}", f"new{n}")
        assert service.settle()
        scores(service, n)
    assert service.settle() and service.rec is not bound
    assert {f"new{n}" for n in range(10)} <= scores(service, 11).keys()


def test_two_replicas_count_the_same(server, tmp_path):
    stores = [ValkeyStore(server.address, prefix=str(tmp_path)) for _ in range(2)]
    one, two = services = [Service(with_ranker(small_recommender()), store, clock=lambda: NOW) for store in stores]
    rng = np.random.default_rng(0)

    def work(service):
        for n in range(80):
            ago = 600 - 7 * n + (rng.exponential(300) if rng.random() < 0.2 else 0)
            click(service, f"u{rng.integers(8)}", f"{rng.integers(15):03d}", ago)

    def agree():
        return np.array_equal(lines(one), lines(two))

    threads = [threading.Thread(target=work, args=(service,)) for service in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = click(one, "u1", "new")
    changes = [lambda: None, lambda: one.erase_user("u3"), lambda: two.merge("u4", "u5"),
               lambda: two.erase_event("u1", last.seq)]  # fmt: skip
    for change in changes:
        change()
        end = time.monotonic() + 1
        until(lambda: agree() and np.array_equal(lines(one), trends_of_log(stores[0], SHORTEST, NOW * 1_000_000)))
        assert time.monotonic() < end + 9  # within about a second on a free machine
    assert len(lines(one)) > 150
    for service, store in zip(services, stores, strict=True):
        service.close()
        store.close()


def test_a_server_that_is_killed_counts_the_same_when_it_is_back(tmp_path):
    save_model(with_ranker(small_recommender()), tmp_path / "b.segue")
    server = Server(tmp_path)
    rng, stop = np.random.default_rng(1), threading.Event()

    def write():
        while not stop.is_set():
            event = {
                "user": f"u{rng.integers(5)}",
                "item": f"{rng.integers(20)}",
                "time": time.time() - rng.integers(60),
            }
            server.call("POST", "/v1/events", event)

    try:
        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(0.5)
        server.kill()
        stop.set()
        writer.join()
        store = SqliteStore(tmp_path / "s.db")
        replay = TrendReplay(store, SHORTEST)
        while not replay.step():
            pass
        expected = trends_of_log(store, SHORTEST, replay.trends.newest)
        events, sizes = replay.events, replay.trends.table.sizes
        assert events > 20 and np.array_equal(replay.trends.lines(), expected)
        store.close()
        server.start()
        until(lambda: server.call("GET", "/v1/status")[1]["trends"]["caught_up"])
        said = server.call("GET", "/v1/status")[1]["trends"]
        assert (said["events"], (said["items"], said["pairs"], said["bytes"])) == (events, sizes)
        text = server.call("GET", "/metrics")[1].decode()
        assert f"segue_trends_events_total {events}.0" in text and "segue_trends_behind_seconds 0." in text
    finally:
        server.kill()


def test_an_item_that_was_met_can_be_taken_out_of_the_lists_and_added_with_what_it_is(open_service):
    service = open_service()
    for n in range(5):
        click(service, f"u{n}", "new")
        click(service, f"u{n}", "banned")
        click(service, f"u{n}", "hers")
    service.set_rules([Rule("block", {}, ("banned",), 0.0, "block")])
    assert service.settle() and {"new", "hers"} <= scores(service).keys() and "banned" not in scores(service)
    service.change_item("new", available=False)
    assert "new" not in scores(service) and "hers" in scores(service)
    service.change_item("new", available=True)
    assert next(iter(scores(service))) == "new" and service.status().items == 12
    service.set_rules([])
    assert "banned" in scores(service, 1)


def test_the_demo_shows_what_came_after_the_training(tmp_path):
    log = news(hours=6, articles=4, users=60, clicks=400).events
    earlier, later = log.filter(pl.col("time") < 14_400), log.filter(pl.col("time") >= 14_400)
    rec = with_ranker(small_recommender(Vocabulary(earlier["item"].unique().sort())), 7200.0)
    console = Console(record=True, file=io.StringIO(), width=200)
    replay_live(console, rec, earlier, later, seconds=1, port=0, folder=tmp_path)
    text = console.export_text()
    assert "In the list of ten before: " in text and "(after the training)" in text
