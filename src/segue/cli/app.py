"""One verb per stage. No logic: each verb reads its arguments, calls a function and prints the result."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console

import segue
from segue.addresses import hidden
from segue.api import describe_tables
from segue.cli.demo import run_demo
from segue.cli.insight import insight
from segue.cli.keys import keyring
from segue.cli.options import (
    About,
    AsJson,
    At,
    ContextCol,
    Encoding,
    Header,
    ItemCol,
    Items,
    Kinds,
    Log,
    Missing,
    Model,
    RatingCol,
    Sep,
    Settings,
    TimeCol,
    TimeFormat,
    TypeCol,
    UserCol,
    Users,
    UsersLog,
    UsersStore,
    Verbs,
    history_ids,
    in_words,
    kinds_option,
    print_json,
    rated_ids,
    read,
    say_unmet,
    time_option,
)
from segue.cli.progress import TrainingView
from segue.cli.store import index_if_large, list_all, shared_in_store, state_in_store, stored
from segue.config import configure, parse_settings, read_config
from segue.data.log.datasets import datasets, get
from segue.data.log.events import Events
from segue.data.log.split import digest
from segue.errors import ArgumentError, SegueError
from segue.evaluation.held_out import held_out_rows
from segue.files import check_file
from segue.recommend.plan import Beam, Sample
from segue.recommend.ratings import RatingDistribution
from segue.recommend.recommender import Item, Recommender, load_model
from segue.recommend.state import State

app = typer.Typer(no_args_is_help=True, add_completion=False, cls=Verbs)
named = typer.Typer(help="Well-known data sets, fetched on request.", no_args_is_help=True)
app.add_typer(named, name="datasets")
app.add_typer(keyring, name="keys")


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"segue {segue.__version__}")
        raise typer.Exit


@app.callback()
def segue_command(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version and stop.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """A recommender that remembers."""


@app.command()
def demo() -> None:
    """Real data end to end: fetch, train, evaluate beside baselines, recommend."""
    run_demo(Console())


@app.command()
def inspect(
    events: Log,
    items: Items = None,
    users: Users = None,
    kind: Kinds = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    rating_col: RatingCol = None,
    type_col: TypeCol = None,
    context_col: ContextCol = None,
    time_format: TimeFormat = None,
    header: Header = None,
    sep: Sep = None,
    encoding: Encoding = None,
    missing: Missing = None,
    as_json: AsJson = False,
) -> None:
    """What the log holds, what would be dropped and why."""
    columns = {"user": user_col, "item": item_col, "time": time_col, "rating": rating_col, "type": type_col}
    log = read(events, columns, time_format, header, sep, encoding, context_col, missing)
    findings = segue.inspect(log)
    kinds = kinds_option(kind)
    if as_json:
        tables = {"tables": describe_tables(log, items, users, kinds)} if items or users else {}
        print_json(findings.to_dict() | tables)
        return
    typer.echo(str(findings))
    for line in describe_tables(log, items, users, kinds) if items or users else ():
        typer.echo(f"{'table':<13}{line}")


@app.command()
def train(
    events: Log,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the model goes.")],
    items: Items = None,
    users: Users = None,
    kind: Kinds = None,
    hold_out: Annotated[
        str | None,
        typer.Option(help="time:0.1, last:1, last:0.1, random:0.1, users:0.1, items:0.1: rows for evaluate."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    settings: Settings = None,
    task: Annotated[str | None, typer.Option(help="next, rating or both; guessed if not given.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted run.")] = False,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    rating_col: RatingCol = None,
    type_col: TypeCol = None,
    context_col: ContextCol = None,
    time_format: TimeFormat = None,
    header: Header = None,
    sep: Sep = None,
    encoding: Encoding = None,
    missing: Missing = None,
) -> None:
    """Train a network on a log and write a model."""
    asked = {"train.task": task} if task else {}
    wanted = configure((read_config(config) if config else {}) | parse_settings(settings or []) | asked)
    check_file(out, "-o")
    columns = {"user": user_col, "item": item_col, "time": time_col, "rating": rating_col, "type": type_col}
    log = read(events, columns, time_format, header, sep, encoding, context_col, missing)
    console = Console(stderr=True)
    for line in _notes(log):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    facts: dict[str, Any] = {}
    if hold_out:
        log, test = segue.hold_out(log, hold_out)
        facts = {"hold_out": hold_out, "hold_out_digest": digest(test), "hold_out_events": len(test)}
    kept = out.with_name(out.name + ".checkpoint")
    if kept.exists() and not resume:
        console.print(f"{kept}: of an interrupted run, begun anew; --resume would go on with it.", soft_wrap=True)
    with _resumable(kept, console), TrainingView(console) as view:
        rec = segue.train(
            log,
            catalogue=items,
            users=users,
            kinds=kinds_option(kind),
            config=wanted,
            checkpoint=kept,
            resume=resume,
            report=view,
            say=lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False),
            facts=facts,
        )
    rec.save(out)
    kept.unlink(missing_ok=True)
    typer.echo(f"{out}: {len(rec.items):,} items, {out.stat().st_size:,} bytes, model {rec.fingerprint[:12]}.")
    index_if_large(rec, out)


@contextmanager
def _resumable(kept: Path, console: Console) -> Iterator[None]:
    """Say, when a run is interrupted, where it is kept and how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if kept.exists():
            console.print(f"Interrupted: {kept} keeps the run so far; add --resume to go on with it.", soft_wrap=True)
        raise


def _notes(log: Events) -> list[str]:
    """Return what a reader of the log must be told at once: the guessed columns and what was left out."""
    chosen = ", ".join(f"{role} = {column}" for role, column in log.intake.columns.items())
    dropped = [f"left out: {count:,} rows, {why}" for why, count in log.intake.dropped.items()]
    return [f"{log.source}: {len(log):,} events; {chosen}", *dropped, *log.intake.notes]


@app.command()
def evaluate(
    model: Model,
    events: Log,
    in_sample: Annotated[bool, typer.Option("--in-sample", help="Measure on rows that were learnt, too.")] = False,
    task: Annotated[str | None, typer.Option(help="next: lists; rating: predicted ratings; else as trained.")] = None,
    at_event: Annotated[bool, typer.Option("--at-event", help="Ask at the time of each event, as one serves.")] = False,
    users: Users = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    rating_col: RatingCol = None,
    type_col: TypeCol = None,
    context_col: ContextCol = None,
    time_format: TimeFormat = None,
    header: Header = None,
    sep: Sep = None,
    encoding: Encoding = None,
    missing: Missing = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on the rows it held out, beside baselines."""
    if task not in (None, "next", "rating"):
        raise typer.BadParameter("--task is next or rating")
    rec = load_model(model)
    task = task or ("rating" if rec.config.train.task == "rating" else "next")
    if at_event and task == "rating":
        raise typer.BadParameter("--at-event is of --task next; ratings are asked at their times anyway")
    columns = {"user": user_col, "item": item_col, "time": time_col, "rating": rating_col, "type": type_col}
    log = read(events, columns, time_format, header, sep, encoding, context_col, missing, of=rec)
    rows = held_out_rows(rec.facts, log, in_sample=in_sample)
    typer.echo(f"Measuring {len(rows.test):,} events; the baselines beside it are tuned first.", err=True)
    asked: Any = partial(segue.evaluate, ask_at="event" if at_event else "unknown", say=partial(typer.echo, err=True))
    measure = asked if task == "next" else segue.evaluate_ratings
    report = measure(rec, rows.test, train=rows.train, users=users, marks=rows.marks)
    if as_json:
        print_json(report.to_dict())
    else:
        typer.echo(str(report))


@app.command()
def recommend(
    model: Model,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, as one CSV line.")] = None,
    user: Annotated[str | None, typer.Option(help="A user of the log or store.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All users, into the file of -o.")] = False,
    events: UsersLog = None,
    store: UsersStore = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Parquet file of --all.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    plan: Annotated[int | None, typer.Option(help="The next N as an ordered path, in place of a list.")] = None,
    beam: Annotated[int, typer.Option(help="Of --plan: paths kept at each step; 1 takes the best item.")] = 1,
    temperature: Annotated[float | None, typer.Option(help="Of --plan: draw by chance, 1 as believed.")] = None,
    seed: Annotated[int, typer.Option(help="Of that chance.")] = 0,
    at: At = None,
    type: Annotated[str | None, typer.Option(help="Type of the event to come, such as buy.")] = None,
    context: Annotated[list[str] | None, typer.Option(help="column=value of the question, such as device=tv.")] = None,
    profile: About = None,
    users: Users = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    rating_col: RatingCol = None,
    type_col: TypeCol = None,
    context_col: ContextCol = None,
    time_format: TimeFormat = None,
    header: Header = None,
    sep: Sep = None,
    encoding: Encoding = None,
    missing: Missing = None,
    as_json: AsJson = False,
) -> None:
    """What comes next, for a history, for a user of a log or store, or for all of them."""
    if [history is not None, user is not None, everyone].count(True) != 1:
        raise typer.BadParameter("give one of --history ID,ID,..., --user ID and --all")
    if everyone != (out is not None):
        raise typer.BadParameter("--all and -o FILE go together")
    if (history is None) != ((events is None) != (store is None)):
        of = "history stands by itself, without" if history is not None else "user and --all need one of"
        raise typer.BadParameter(f"--{of} --events LOG and --store S")
    if plan is not None and (everyone or (beam != 1 and temperature is not None)):
        raise typer.BadParameter("--plan is for one history or user, with --beam or with --temperature")
    if out is not None:
        check_file(out, "-o", ".parquet")
    rec, source = load_model(model), store
    if rec.config.train.task == "rating":
        typer.echo("this model learnt ratings alone, not what comes next: train with --task both for lists", err=True)
    columns = {"user": user_col, "item": item_col, "time": time_col, "rating": rating_col, "type": type_col}
    options: Any = (time_format, header, sep, encoding, context_col, missing)
    log = read(events, columns, *options, of=rec) if events is not None else None
    if out is not None:
        return list_all(rec, model, log or str(source), out, k=k, at=time_option(at), users=users)
    if history is not None:
        ids = history_ids(history)
        about = parse_settings(profile or [], option="--profile", example="age=30")
        say_unmet(rec.encodings.users, about, option="--profile")
        state, asked = rec.observe_all(rec.start(about), ids), ids
    elif log is not None:
        state, asked = _state_of(rec, log, str(user), users)
    else:
        state, asked = state_in_store(rec, str(source), str(user), users)
    unknown = [id for id in dict.fromkeys(asked) if id not in rec.vocabulary]
    seen_as = parse_settings(context or [], option="--context", example="device=tv")
    say_unmet(rec.encodings.events, {"type": type}, option="--type")
    say_unmet(rec.encodings.events, seen_as, option="--context")
    if plan is None:
        _print_list(rec.recommend(state, k, at=time_option(at), type=type, context=seen_as), unknown, as_json)
        return
    by = Beam(beam) if temperature is None else Sample(temperature, seed)
    path = rec.plan(state, plan, by=by, at=time_option(at), type=type, context=seen_as)
    _print_list(path.items, unknown, as_json, log_probability=path.log_probability)


@app.command()
def rate(
    model: Model,
    item: Annotated[str, typer.Option(help="The item.")],
    history: Annotated[str | None, typer.Option(help="ITEM=RATING,... oldest first, as one CSV line.")] = None,
    user: Annotated[str | None, typer.Option(help="A user of the log or store.")] = None,
    events: UsersLog = None,
    store: UsersStore = None,
    at: At = None,
    profile: About = None,
    users: Users = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    rating_col: RatingCol = None,
    as_json: AsJson = False,
) -> None:
    """What a user would think of an item, in the scale of the log."""
    if (history is None) == (user is None) or (user is None) != ((events is None) == (store is None)):
        raise typer.BadParameter("give --history ITEM=RATING,... or --user ID with one of --events LOG and --store S")
    rec = load_model(model)
    columns = {"user": user_col, "item": item_col, "time": time_col, "rating": rating_col}
    if history is not None:
        state = rec.start(parse_settings(profile or [], option="--profile", example="age=30"))
        for id, rating in (rated := rated_ids(history)):
            state = rec.observe(state, id, rating=rating)
        if unrated := [id for id, rating in rated if rating is None]:
            typer.echo(f"seen without a rating (write ITEM=RATING): {', '.join(unrated)}", err=True)
    elif events is not None:
        state, _ = _state_of(rec, read(events, columns, of=rec), str(user), users)
    else:
        state, _ = state_in_store(rec, str(store), str(user), users)
    shared = shared_in_store(rec, str(store), item) if store else None
    found = rec.rating_distribution(state, item, at=time_option(at), shared=shared)
    if as_json:
        known = item in rec.vocabulary
        print_json({"item": item, "known": known, "rating": found.mean, "deviation": found.deviation} | _steps(found))
        return
    typer.echo(f"{found.mean:.2f}, give or take {found.deviation:.2f}")
    for step, share in found.shares.items():
        typer.echo(f"{step:6g}  {share:6.1%}")
    if item not in rec.vocabulary:
        typer.echo(f"unknown, rated as the user rates: {item}", err=True)


def _steps(found: RatingDistribution) -> dict[str, Any]:
    return {"shares": [{"rating": step, "share": share} for step, share in found.shares.items()]}


@app.command(context_settings={"ignore_unknown_options": True})  # an id may begin with a dash
def similar(
    model: Model,
    item: Annotated[str, typer.Argument(help="An item id.", metavar="ITEM")],
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    mix: Annotated[float, typer.Option(help="0: what people do next; 1: what items are.")] = 0.5,
    as_json: AsJson = False,
) -> None:
    """What is like an item: by what people do after it and by what it is."""
    rec = load_model(model)
    items = rec.similar(item, k, mix=mix)
    shared = {line.item: [label for label in rec.labels(line.item) if label in rec.labels(item)] for line in items}
    if as_json:
        lines = [line._asdict() | {"shared": shared[line.item]} for line in items]
        print_json({"items": lines, "unknown": []})
        return
    width = max((len(line.item) for line in items), default=0)
    for place, line in enumerate(items, start=1):
        why = f"  [{', '.join(shared[line.item])}]" if shared[line.item] else ""
        typer.echo(f"{place:3}  {line.item:<{width}}  {line.score:6.2f}  {line.title or ''}{why}".rstrip())


@app.command("add-items")
def add_items(
    model: Model,
    items: Annotated[Path, typer.Argument(help="Table of items, as in training.", metavar="ITEMS")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the larger model goes.")],
) -> None:
    """Make new items known to a model by what they are, without training."""
    check_file(out, "-o")
    rec = load_model(model)
    more = rec.add_items(items)
    more.save(out)
    for note in more.catalogue.notes if more.catalogue else ():
        typer.echo(note, err=True)
    added = len(more.items) - len(rec.items)
    typer.echo(
        f"{out}: {added:,} item{'s' * (added != 1)} added, {len(more.items):,} in all; known ones stay as they were."
    )
    if len(more.unreachable):
        typer.echo(
            f"{len(more.unreachable):,} of them say nothing that was learnt and will be in no list, "
            f"the first is {more.vocabulary.id(int(more.unreachable[0]))}.",
            err=True,
        )


@app.command()
def convert(
    model: Model,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the new model goes.")],
) -> None:
    """Put Segue's own cells in place of those of Keras, so that the model answers without it."""
    check_file(out, "-o")
    rec = segue.convert(load_model(model))
    rec.save(out)
    typer.echo(f"{out}: cell {rec.config.model.cell}, the same scores, model {rec.fingerprint[:12]}.")


def _state_of(rec: Recommender, log: Events, user: str, users: Path | None) -> tuple[State, list[str]]:
    own = log.table.filter(pl.col("user").cast(pl.String) == user)
    if not len(own):
        raise ArgumentError(f'{log.source}: expected events of user "{user}", found none. Check --user and --user-col.')
    return rec.encode(Events(own, log.source), users)[0], own["item"].cast(pl.String).to_list()


def _print_list(items: list[Item], unknown: list[str], as_json: bool, **more: float) -> None:
    if as_json:
        print_json({"items": [line._asdict() for line in items], "unknown": unknown, **more})
        return
    width = max((len(line.item) for line in items), default=0)
    for place, line in enumerate(items, start=1):
        typer.echo(f"{place:3}  {line.item:<{width}}  {line.score:8.3f}  {line.title or ''}".rstrip())
    if unknown:
        typer.echo(f"unknown, skipped: {', '.join(unknown)}", err=True)
        if any("=" in item for item in unknown):
            typer.echo(
                "A history of `recommend` is of items alone; one with ratings (17=4.5) is for `segue rate`.", err=True
            )


@app.command()
def info(model: Model, as_json: AsJson = False) -> None:
    """What a model holds: settings, sizes, training range, digest."""
    rec = load_model(model)
    facts = {name: value for name, value in rec.facts.items() if name != "curve"}
    if not as_json and facts.get("range"):
        facts["range"] = " to ".join(f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d %H:%M}" for at in facts["range"])
    settings = {
        f"{part}.{name}": value for part, values in asdict(rec.config).items() for name, value in values.items()
    }
    shown = {
        "model": rec.fingerprint,
        "bytes": model.stat().st_size,
        "items": len(rec.items),
        **settings,
        **facts,
    }
    if as_json:
        print_json(shown)
    else:
        for name, value in shown.items():
            typer.echo(f"{name:<24} {in_words(value)}")


@app.command()
def serve(
    model: Annotated[Path, typer.Argument(help="A file that segue train wrote, or a folder of them.")],
    store: Annotated[
        str | None,
        typer.Option(
            help="SQLite file or valkey:// address; segue.db beside the model if not given.", envvar="SEGUE_STORE"
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address; others than 127.0.0.1 need --keys.")] = "127.0.0.1",
    models: Annotated[Path | None, typer.Option(help="Folder of models; its file current says which runs.")] = None,
    keys: Annotated[Path | None, typer.Option(help="File that segue keys made; each request needs one then.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="Further name in Host headers; * for any.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second of a key or address, 0 for any; 200 if not local.")
    ] = None,
    accept_loss: Annotated[bool, typer.Option("--accept-loss", help="Be ready though a server may not sync.")] = False,
    shadow: Annotated[Path | None, typer.Option(help="Model that ranks the same events and answers nobody.")] = None,
) -> None:
    """Answer over HTTP: tell events, get lists, nothing lost."""
    from segue.serve import server

    names = tuple(allow_host or ())
    settings = server.Settings(model, store, host, port, models, keys, names, rate, accept_loss, shadow=shadow)
    server.serve(settings)


@named.command("list")
def list_datasets() -> None:
    """The data sets that can be fetched by name, with their terms."""
    for known in datasets():
        typer.echo(f"{known.name:<18} {known.description} ({known.size})\n{'':<18} {known.terms}")


@named.command("get")
def get_dataset(name: str) -> None:
    """Fetch a data set into the cache and print where its files are."""
    files = get(name)
    for path in (files.events, files.items, files.users):
        if path:
            typer.echo(str(path))
    if files.note:
        typer.echo(files.note, err=True)


app.registered_commands += stored.registered_commands + insight.registered_commands


def main() -> None:
    """Run the command line: exit 0 done, 1 bad input with a message, 2 usage."""
    try:
        app()
    except SegueError as error:
        typer.echo(f"segue: {hidden(str(error), sys.argv)}", err=True)
        sys.exit(1)
