"""The tour on real films, by the public functions alone."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import segue
from segue.cli.progress import TrainingView
from segue.data.features.catalogue import Catalogue
from segue.data.log.datasets import get
from segue.data.log.events import Events
from segue.data.log.synthetic import shop
from segue.errors import ArgumentError, DatasetError
from segue.evaluation.report import Report
from segue.files import cache_folder, replacing
from segue.recommend.recommender import Item, Recommender

HISTORIES = (("Star Wars", "Empire Strikes Back", "Raiders"), ("Toy Story", "Lion King", "Aladdin"))


def run_demo(console: Console) -> None:
    """Fetch, inspect, train, evaluate beside baselines, save, load and recommend."""
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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "films.segue"
        rec.save(path)
        size = path.stat().st_size
        rec = segue.load(path)
    _title(console, f"Lists, from the model saved and loaded again ({size / 1e6:.1f} MB)")
    show_lists(console, rec, events)
    _title(console, f"Done in {time.perf_counter() - began:.0f} s. Next, on a log of your own:")
    _say(console, "segue inspect LOG.csv")
    _say(console, "segue train LOG.csv -o my.segue --hold-out last:1")
    _say(console, "segue evaluate my.segue LOG.csv --report report.html")
    _say(console, "segue recommend my.segue --history ID,ID,ID")


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
