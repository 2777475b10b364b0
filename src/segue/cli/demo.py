"""The tour on real films, which ends at the shop window; and a log of news that goes on before a server."""

import os
import sys
import tempfile
import threading
import time
import webbrowser
from collections import deque
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
from rich.console import Console

import segue
from segue.cli.progress import TrainingView
from segue.data.features.catalogue import Catalogue
from segue.data.log.datasets import get
from segue.data.log.events import Events
from segue.data.log.synthetic import news, shop
from segue.errors import ArgumentError, DatasetError
from segue.evaluation.report import Report
from segue.files import cache_folder, replacing
from segue.model_file import with_fingerprint
from segue.recommend.lists.options import ListOptions
from segue.recommend.recommender import Item, Recommender
from segue.serve.app import make_app
from segue.serve.http.limits import Limits
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest
from segue.serve.server import Server, Settings, config_of, serve
from segue.store.base import Write
from segue.store.events import Event
from segue.store.factory import open_store

#: The last part of the log of news, which is replayed, and how often a list is printed meanwhile.
REPLAYED, SHOWN = 0.2, 12

HISTORIES = (("Star Wars", "Empire Strikes Back", "Raiders"), ("Toy Story", "Lion King", "Aladdin"))


def run_demo(console: Console, *, shop_window: bool, port: int) -> None:
    """Fetch, inspect, train, evaluate beside baselines, save, load, recommend and, if wanted, open the shop window."""
    began = time.perf_counter()
    events, catalogue = load_films(console)
    _title(console, "The log")
    _say(console, str(segue.inspect(events)))
    train, test = segue.split_last(events)
    _title(console, "Training; the last event of each user is held out")
    with TrainingView(console) as view:
        rec = segue.train(train, catalogue=catalogue, report=view, say=lambda text: _say(console, text))
    _title(console, "Evaluation beside baselines")
    report = segue.evaluate(rec, test, train=train, log=events, command="segue demo")
    _say(console, str(report))
    write_page(console, report, cache_folder() / "demo-report.html")
    path = cache_folder() / "demo-films.segue"
    rec.save(path)
    rec = segue.load(path)
    _title(console, f"Lists, from the model saved and loaded again ({path.stat().st_size / 1e6:.1f} MB)")
    show_lists(console, rec, events)
    _title(console, f"Done in {time.perf_counter() - began:.0f} s. Next, on a log of your own:")
    _say(console, "segue inspect LOG.csv")
    _say(console, "segue train LOG.csv -o my.segue --hold-out last:1")
    _say(console, "segue evaluate my.segue LOG.csv --report report.html")
    _say(console, "segue recommend my.segue --history ID,ID,ID")
    if shop_window:
        open_shop_window(console, path, port)
    else:
        _say(console, f"segue serve {path}     # the shop window of these films")


def open_shop_window(console: Console, model: Path, port: int) -> None:
    """Serve a model from an empty store until Ctrl-C, and open the shop window in a browser where there is a screen.

    Raises:
        ArgumentError: the port is taken.
    """
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")

    def say(text: str) -> None:
        _say(console, text)
        if screen and text.startswith("http"):
            webbrowser.open(text.partition(": ")[0])

    _title(console, "The shop window of these films. You are somebody new: open a film, record that you saw it")
    with tempfile.TemporaryDirectory() as folder:
        serve(Settings(model, str(Path(folder) / "demo.db"), port=port), say)


def run_live(console: Console, *, minutes: float, port: int) -> None:
    """Train on a synthetic log of news up to a moment, then serve while the log goes on in accelerated time."""
    log = news().events
    cut = int(log["time"].to_numpy()[-1] * (1 - REPLAYED))
    earlier, later = log.filter(pl.col("time") < cut), log.filter(pl.col("time") >= cut)
    _title(console, f"Training on {len(earlier):,} clicks; {len(later):,} later ones are replayed")
    config = {"model.trends": "on", "model.width": 32, "train.epochs": 3}
    with TrainingView(console) as view:
        rec = segue.train(segue.read_events(earlier), config=config, report=view, say=lambda text: _say(console, text))
    with tempfile.TemporaryDirectory() as folder:
        replay_live(console, rec, earlier, later, seconds=minutes * 60, port=port, folder=Path(folder))


def replay_live(
    console: Console,
    rec: Recommender,
    earlier: pl.DataFrame,
    later: pl.DataFrame,
    *,
    seconds: float,
    port: int,
    folder: Path,
) -> None:
    """Serve a model while a log goes on in accelerated time, and print now and then what a new reader is shown.

    Args:
        console: that is printed on.
        rec: with a ranker.
        earlier, later: columns user, item, time (seconds), in order; what the store has at the start, and what comes.
        seconds: for the later part.
        port: of the server.
        folder: of the store.
    """
    store = open_store(folder / "news.db")
    store.commit([Write(event.user, None, (event,)) for event in _events_of(earlier)])
    begin, end = later["time"].to_numpy()[[0, -1]].tolist()
    speed, started = (end - begin) / seconds, time.monotonic()
    frozen = with_fingerprint(replace(rec, ranker=None))
    service = Service(rec, store, clock=lambda: begin + (time.monotonic() - started) * speed, shadow=frozen)
    known, coming = set(earlier["item"]), deque(_events_of(later))
    try:
        with _served(service, port):
            _say(console, f"http://127.0.0.1:{port}: the page of the server; an hour takes {3600 / speed:.0f} s.")
            for n in range(1, SHOWN + 1):
                while (now := service.clock()) < begin + (end - begin) * n / SHOWN:
                    requests: list[IngestRequest] = []
                    while coming and (coming[0].time or 0) <= now * 1e6 and len(requests) < 200:
                        requests.append(IngestRequest((coming.popleft(),)))
                    if requests:
                        service.ingest(requests)
                    time.sleep(0.02)
                _show_live(console, service, known)
    finally:
        service.close()
        store.close()


def _show_live(console: Console, service: Service, known: Set[str]) -> None:
    """Print the list of a new reader, and how often an event was in the list just before, with and without trends."""
    found, now = service.online_metrics().get("shadow", {}), service.clock()
    hits = [found.get(side, {}).get("recall@10", 0.0) for side in ("running", "shadow")]
    clock = f"day {1 + int(now // 86400)}, {int(now // 3600 % 24):02d}:{int(now // 60 % 60):02d}"
    _title(console, f"{clock}. In the list of ten before: {hits[0]:.0%} of the clicks; without trends {hits[1]:.0%}")
    for line in service.recommend("a new reader", ListOptions(k=5, at=int(now * 1e6))).items:
        _say(console, f"  {line.item}{'' if line.item in known else '   (after the training)'}")


@contextmanager
def _served(service: Service, port: int) -> Iterator[None]:
    """Answer on a port of this machine, from a thread of its own."""
    server = Server(config_of(make_app(service), Limits(), host="127.0.0.1", port=port), lambda: None)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


def _events_of(table: pl.DataFrame) -> list[Event]:
    return [Event(user, item, at * 1_000_000) for user, item, at in table.iter_rows()]


def write_page(console: Console, report: Report, path: Path) -> None:
    """Write the page of a report and say where it lies, or what is missing for it."""
    try:
        page = report.to_html()
    except ArgumentError as error:
        _say(console, str(error))
        return
    with replacing(path) as new:
        new.write_text(page, encoding="utf-8")
    _say(console, f"The same with intervals, slices and the lists of 40 users, on one page: {path}")


def load_films(console: Console) -> tuple[Events, object]:
    """Return ml-100k and its films, or the synthetic shop where there is no package index."""
    try:
        files = get("ml-100k")
    except DatasetError as error:
        _say(console, f"{error}\nGoing on with a synthetic shop instead.")
        made = shop()
        return segue.read_events(made.events), made.catalogue
    _say(console, files.terms)
    return segue.read_events(files.events), files.items


def show_lists(console: Console, rec: Recommender, events: Events) -> None:
    """Print lists for two known users and for the histories of new users."""
    states = rec.encode(events)
    for user in [str(id) for id in states.users[:2]]:
        state = states.of(user)
        at = None if state.time is None else state.time / 1e6
        _list(console, f"user {user}, after {state.count} events", rec.recommend(state, k=5, at=at))
    if rec.catalogue is None:
        return
    known = [ids for words in HISTORIES if (ids := _found(rec.catalogue, words))]
    for ids in known or [rec.items[5:8], rec.items[20:23]]:
        titles = [rec.catalogue.title(rec.vocabulary.row(id)) or id for id in ids]
        state = rec.observe_all(rec.start(), ids)
        _list(console, "a new user who saw " + "; ".join(titles), rec.recommend(state, k=5))


def _found(catalogue: Catalogue, words: Sequence[str]) -> list[str]:
    return [hits[0] for word in words if (hits := catalogue.find(word))]


def _list(console: Console, heading: str, items: Sequence[Item]) -> None:
    _say(console, f"\n{heading}:")
    for place, line in enumerate(items, start=1):
        _say(console, f"  {place}. {line.title or line.item}")


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
