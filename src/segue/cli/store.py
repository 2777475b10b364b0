"""The verbs of every day: a log into a store and out of it, a new model, lists for all, an index. No logic."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from segue.addresses import shown
from segue.cli.options import (
    AsJson,
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
    StoreAt,
    TimeCol,
    TimeFormat,
    TypeCol,
    UserCol,
    Users,
    print_json,
    read,
)
from segue.config import configure, parse_settings, read_config
from segue.data.log.events import Events
from segue.data.log.sources import Reading, open_source
from segue.errors import ArgumentError, LockedError, StoreError
from segue.files import check_file, check_folder
from segue.jobs.batch_recommend import recommend_all, state_of
from segue.jobs.event_frames import CONTEXT, told_by
from segue.jobs.export_log import events_of, export_file, import_events
from segue.jobs.retrain import TOLERANCE
from segue.jobs.retrain import retrain as retrain_and_publish
from segue.recommend.arguments import profiles_of
from segue.recommend.index.approximate import LARGE, build_index, open_index, queries_of
from segue.recommend.ratings import Shared
from segue.recommend.recommender import Recommender, Time, load_model
from segue.recommend.state import State
from segue.store.base import Store
from segue.store.factory import open_store
from segue.store.readonly import is_store, read_store

#: The verbs of this page; `segue.cli.app` takes them among its own.
stored = typer.Typer()


@stored.command("import")
def import_log(
    events: Log,
    store: StoreAt,
    source: Annotated[
        str | None, typer.Option(help="Name under which the position is kept; that of the file if not given.")
    ] = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    rating_col: RatingCol = None,
    type_col: TypeCol = None,
    id_col: Annotated[str | None, typer.Option(help="Column of event ids; an event with an id is never twice.")] = None,
    context_col: ContextCol = None,
    time_format: TimeFormat = None,
    header: Header = None,
    sep: Sep = None,
    encoding: Encoding = None,
    missing: Missing = None,
    as_json: AsJson = False,
) -> None:
    """A log into a store; run again, it goes on where it stopped."""
    columns = {"user": user_col, "item": item_col, "time": time_col, "rating": rating_col, "type": type_col}
    context = list(context_col or ())
    if not is_store(events):
        reading = Reading(header=header, sep=sep, encoding=encoding)
        names = open_source(events, reading).frame.collect_schema().names()
        exported = CONTEXT in names and "id" in names
        columns["id"] = id_col or ("id" if exported else None)
        context += [CONTEXT] if exported and CONTEXT not in context else []
    log = read(events, columns, time_format, header, sep, encoding, context, missing)
    for why, count in log.intake.dropped.items():
        typer.echo(f"left out: {count:,} rows, {why}", err=True)
    for note in log.intake.notes:
        typer.echo(note, err=True)
    opened = open_store(store)
    try:
        done = import_events(opened, told_by(log), source=source or log.source)
    finally:
        opened.close()
    if done.behind:
        typer.echo(f"{log.source} begins with what was imported as {done.behind}; only the rest is new.", err=True)
    if as_json:
        print_json({name: getattr(done, name) for name in ("position", "written", "known", "refused")})
        return
    typer.echo(
        f"{shown(store)}: {done.written:,} events written, {done.known:,} known already, {done.refused:,} refused; "
        f"{done.position:,} of {len(log):,} in {log.source} done."
    )


@stored.command()
def export(
    store: StoreAt,
    out: Annotated[Path, typer.Option("-o", "--out", help="A Parquet file.")],
) -> None:
    """All events of a store into a Parquet file, in the order of arrival, also while a server runs."""
    check_file(out, "-o", ".parquet")
    with _reading(store) as opened:
        count = export_file(opened, out)
    typer.echo(f"{out}: {count:,} event{'s' * (count != 1)}.")


@stored.command()
def readmit(
    user: Annotated[str, typer.Argument(help="Id of a user who was erased.")],
    store: StoreAt,
    as_json: AsJson = False,
) -> None:
    """Take the id of an erased user again. What was erased stays erased; ids of erased events stay blocked."""
    if not is_store(store):
        raise StoreError(f"{store}: expected a store of Segue, found none. Check the path.")
    try:
        opened = open_store(store)
    except LockedError as error:
        raise LockedError(
            f"{store}: expected no server on it, one has it open. Ask the server, with a key of the role admin where "
            "it asks for keys: DELETE /v1/users/USER/block."
        ) from error
    try:
        blocked = opened.readmit(user)
    finally:
        opened.close()
    if as_json:
        print_json({"user": user, "blocked": False, "was_blocked": blocked})
    else:
        typer.echo(f"{user}: taken again from now on." if blocked else f"{user}: was not blocked; nothing to do.")


@stored.command()
def retrain(
    store: StoreAt,
    models: Annotated[Path, typer.Option(help="Folder of the models; its file current names the running one.")],
    items: Items = None,
    users: Users = None,
    kind: Kinds = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    settings: Settings = None,
    minutes: Annotated[float | None, typer.Option(help="Time for all of it, about.", min=0.01)] = None,
    tolerance: Annotated[
        float, typer.Option(help="Loss that is tolerated, as a share of what the running one reaches.", min=0, max=1)
    ] = TOLERANCE,
    as_json: AsJson = False,
) -> None:
    """Train on a store and publish the model if it is shown not to be worse: exit 0 published, 3 not. For cron."""
    console = Console(stderr=True)
    wanted = (read_config(config) if config else {}) | parse_settings(settings or [])
    configure(wanted)  # what cannot hold is said before the store is read
    check_folder(models, f"--models {models}")
    with _reading(store) as opened:
        log = events_of(opened, source=Path(shown(store)).name)
    done = retrain_and_publish(
        log,
        models,
        catalogue=items,
        users=users,
        kinds=parse_settings(kind, option="--kind", example="genres=categories") if kind else None,
        config=wanted,
        minutes=minutes,
        tolerance=tolerance,
        say=lambda text: console.print(text, soft_wrap=True, highlight=False),
    )
    if as_json:
        print_json(done.to_dict())
    else:
        typer.echo(str(done))
    if done.model:
        index_if_large(load_model(models / done.model), models / done.model)
    if not done.published:
        raise typer.Exit(3)


@stored.command("index")
def build(
    model: Model,
    events: Annotated[str | None, typer.Option(help="Log or store whose users it is measured with.")] = None,
) -> None:
    """Build the index of a large model, beside it, and measure it against exact search."""
    rec = load_model(model)
    queries, of = None, ""
    if events is not None:
        states = rec.encode(read(events, {}, of=rec))
        queries, of = queries_of(rec, states.memory.output), f"states of {Path(shown(events)).name}"
    index = build_index(rec, model, queries=queries, of=of, say=lambda text: typer.echo(text, err=True))
    typer.echo(f"{model}.index: {index.facts}.")


def index_if_large(rec: Recommender, model: Path) -> None:
    """Build the index of a model of many items, where the extra for it is installed."""
    if len(rec.items) <= LARGE:
        return
    try:
        index = build_index(rec, model, say=lambda text: typer.echo(text, err=True))
        typer.echo(f"{model}.index: {index.facts}.", err=True)
    except ArgumentError as error:
        typer.echo(f"{error} Until then all items are scored for each list.", err=True)


def list_all(
    rec: Recommender, model: Path, source: Events | str, out: Path, *, k: int, at: Time, users: Path | None
) -> None:
    """Write the lists of all users of a log or of the store at an address."""
    index, said = open_index(rec, model)
    if index is not None or len(rec.items) > LARGE:
        typer.echo(said, err=True)
    profiles = profiles_of(rec.facts, users)
    rec = rec.with_index(index)
    if isinstance(source, Events):
        done = recommend_all(rec, source, out, k=k, at=at, profiles=profiles, report=_progress)
    else:
        with _reading(source) as opened:
            done = recommend_all(rec, opened, out, k=k, at=at, profiles=profiles, report=_progress)
    count = done.users + done.before
    before = f", {done.before:,} of them by the run before" if done.before else ""
    typer.echo(f"{out}: lists of {count:,} user{'s' * (count != 1)}{before}.")


def state_in_store(rec: Recommender, store: str, user: str, users: Path | None) -> tuple[State, list[str]]:
    """Return the state of a user of the store at an address, and the items of their latest events."""
    with _reading(store) as opened:
        latest = opened.events(user, backwards=True, limit=1000)
        if not latest:
            raise ArgumentError(f'{shown(store)}: expected events of user "{user}", found none. Check --user.')
        state = state_of(rec, opened, user, profiles_of(rec.facts, users))
    return state, [event.item for event in reversed(latest)]


def shared_in_store(rec: Recommender, store: str, item: str) -> Shared | None:
    """Return what ratings of others say of an item, of the store at an address; None where none were learnt."""
    if rec.network.rating is None:
        return None
    with _reading(store) as opened:
        return opened.shared(rec.fingerprint, [rec.vocabulary.row(item)])


def _progress(done: int, of: int) -> None:
    typer.echo(f"{done:,} of {of:,} user{'s' * (of != 1)}", err=True)


@contextmanager
def _reading(address: str) -> Iterator[Store]:
    store = read_store(address)
    try:
        yield store
    finally:
        store.close()
