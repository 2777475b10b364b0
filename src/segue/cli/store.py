"""The verbs about a store: `import`, `consume`, `export`, `readmit` and `retrain`."""

from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from segue.addresses import shown
from segue.cli import options
from segue.cli.models import index_if_large
from segue.config import configure, parse_settings, read_config
from segue.data.log.sources import Reading, open_source
from segue.errors import ArgumentError, LockedError, StoreError
from segue.files import check_file, check_folder
from segue.jobs.event_frames import CONTEXT, LogEvents
from segue.jobs.import_export import export_file, import_events, read_log
from segue.jobs.retrain import TOLERANCE
from segue.jobs.retrain import retrain as retrain_and_publish
from segue.recommend.recommender import load_model
from segue.store.factory import open_store
from segue.store.readonly import is_store, read_store

verbs = typer.Typer()


@verbs.command("import")
@options.reads_log
def import_log(
    events: options.Log,
    store: options.StoreAt,
    source: Annotated[
        str | None, typer.Option(help="Name under which the store keeps the position; the file's name if not given.")
    ] = None,
    id_col: Annotated[
        str | None, typer.Option(help="Column of event ids; the store keeps an event with an id once.")
    ] = None,
    *,
    columns: options.LogColumns,
    as_json: options.AsJson = False,
) -> None:
    """Import a log into a store. Run again, it continues where it stopped."""
    if not is_store(events):
        names = open_source(events, Reading(header=columns.header, sep=columns.sep, encoding=columns.encoding)).frame
        exported = {CONTEXT, "id"} <= set(names.collect_schema().names())
        id_col = id_col or ("id" if exported else None)
        context = dict.fromkeys([*(columns.context_col or ()), *([CONTEXT] if exported else ())])
        columns = replace(columns, context_col=list(context))
    log = columns.read(events, more={"id": id_col})
    for why, count in log.intake.dropped.items():
        typer.echo(f"left out: {count:,} rows, {why}", err=True)
    for note in log.intake.notes:
        typer.echo(note, err=True)
    with closing(open_store(store)) as opened:
        done = import_events(opened, LogEvents(log), source=source or log.source)
    if done.behind:
        typer.echo(f"{log.source} begins with what was imported as {done.behind}; only the rest is new.", err=True)
    if as_json:
        options.print_json({name: getattr(done, name) for name in ("position", "written", "known", "refused")})
        return
    typer.echo(
        f"{shown(store)}: {done.written:,} events written, {done.known:,} known already, {done.refused:,} refused; "
        f"{done.position:,} of {len(log):,} in {log.source} done."
    )


@verbs.command()
def consume(
    topic: Annotated[str, typer.Argument(help="kafka://HOST:PORT/TOPIC; several brokers with commas between.")],
    store: Annotated[
        str | None, typer.Option(help="Store that gets the events: postgresql:// or valkey:// address, or SQLite file.")
    ] = None,
    server: Annotated[str | None, typer.Option(help="Server that gets the events, such as http://host:8000.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="File with the API key for the server.")] = None,
    group: Annotated[str, typer.Option(help="Consumers of a group share the topic.")] = "segue",
    dead_letters: Annotated[str | None, typer.Option(help="Topic that gets messages that are no events.")] = None,
    properties: Annotated[
        Path | None, typer.Option(help="File with key=value lines for Kafka, such as those of TLS and SASL.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Consume events from Kafka into a store or a server, each once, until stopped (SIGTERM, Ctrl-C)."""
    from segue.client import Client
    from segue.jobs.consume import ServerSink, Sink, StoreSink
    from segue.jobs.consume import consume as consume_until
    from segue.jobs.kafka import KafkaSource, Topic, read_properties
    from segue.serve.http.auth import read_key
    from segue.serve.http.shutdown import said
    from segue.serve.server import log_requests

    if (store is None) == (server is None):
        raise ArgumentError("consume: expected exactly one of --store and --server, came both or none. Give one.")
    source = Topic.of(topic)
    more = read_properties(properties) if properties else {}
    key = read_key(key_file) if key_file else None
    log_requests()
    with ExitStack() as held, said(partial(typer.echo, err=True)) as end:
        sink: Sink
        if server is not None:
            client = held.enter_context(Client(server, key=key))
            client.get_status()  # a wrong key is said now
            sink = ServerSink(client)
        else:
            sink = StoreSink(held.enter_context(closing(open_store(store or ""))))
        messages = KafkaSource(source, group=group, dead_letters=dead_letters, properties=more)
        held.enter_context(closing(messages))
        end.stop = lambda number, frame: None  # what is under way is finished; `end` knows the signal
        typer.echo(f"{topic}: consuming into {shown(store or server or '')}; stop it with Ctrl-C.", err=True)
        done = consume_until(messages, sink, lambda: end.signal is not None)
        if as_json:
            options.print_json({"kept": done.kept, "refused": done.refused})
        else:
            typer.echo(f"{done.kept:,} events on disk, {done.refused:,} messages refused.")


@verbs.command()
def export(
    store: options.StoreAt,
    out: Annotated[Path, typer.Option("-o", "--out", help="A Parquet file.")],
) -> None:
    """Export all events of a store to a Parquet file, in the order of arrival, also while a server runs."""
    check_file(out, "-o", ".parquet")
    with closing(read_store(store)) as opened:
        count = export_file(opened, out)
    typer.echo(f"{out}: {count:,} event{'s' * (count != 1)}.")


@verbs.command()
def readmit(
    user: Annotated[str, typer.Argument(help="Id of a user who was erased.")],
    store: options.StoreAt,
    as_json: options.AsJson = False,
) -> None:
    """Accept events of an erased user again. Erased data stays erased; ids of erased events stay blocked."""
    if not is_store(store):
        raise StoreError(f"{store}: expected a store of Segue, found none. Check the path.")
    try:
        opened = open_store(store)
    except LockedError as error:
        raise LockedError(
            f"{store}: expected no server on it, one has it open. Ask the server, with a key of the role admin where "
            "it asks for keys: DELETE /v1/users/USER/block."
        ) from error
    with closing(opened):
        blocked = opened.readmit(user)
    if as_json:
        options.print_json({"user": user, "blocked": False, "was_blocked": blocked})
    else:
        typer.echo(f"{user}: accepted again from now on." if blocked else f"{user}: was not blocked; nothing to do.")


@verbs.command()
def retrain(
    store: options.StoreAt,
    models: Annotated[Path, typer.Option(help="Folder of the models; its file current names the running one.")],
    items: options.Items = None,
    users: options.Users = None,
    kind: options.Kinds = None,
    config: options.Config = None,
    settings: options.Settings = None,
    minutes: Annotated[float | None, typer.Option(help="Time for the whole run, about.", min=0.01)] = None,
    tolerance: Annotated[
        float, typer.Option(help="Loss that is tolerated, as a share of the running model's metric.", min=0, max=1)
    ] = TOLERANCE,
    fail_if: options.FailIf = None,
    as_json: options.AsJson = False,
) -> None:
    """Train on a store and publish the model if it is shown not to be worse: exit 0 published, 3 not. For cron."""
    wanted = (read_config(config) if config else {}) | parse_settings(settings or [])
    configure(wanted)  # impossible settings are refused before the store is read
    check_folder(models, f"--models {models}")
    with closing(read_store(store)) as opened:
        log = read_log(opened, source=Path(shown(store)).name)
    done = retrain_and_publish(
        log,
        models,
        catalogue=items,
        users=users,
        kinds=options.kinds_option(kind) or None,
        config=wanted,
        minutes=minutes,
        tolerance=tolerance,
        fail_if=fail_if or (),
        say=partial(Console(stderr=True).print, soft_wrap=True, highlight=False),
    )
    if as_json:
        options.print_json(done.to_dict())
    else:
        typer.echo(str(done))
    if done.model:
        index_if_large(load_model(models / done.model), models / done.model)
    if not done.published:
        raise typer.Exit(3)
