"""The verbs about data: `demo`, `inspect`, `prepare`, and `datasets list | get | expand`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import segue
from segue.api import describe_tables
from segue.cli import options
from segue.cli.demo import run_demo, run_live
from segue.data.log.datasets import datasets, get
from segue.data.log.synthetic import expand
from segue.data.prepared.manifest import BUCKETS
from segue.jobs.prepare import prepare as prepare_log
from segue.jobs.ray_engine import engine_of

first = typer.Typer()
named = typer.Typer(help="Fetch well-known data sets by name, or make a log larger.", no_args_is_help=True)


@first.command()
def demo(
    live: Annotated[bool, typer.Option("--live", help="Serve while a synthetic log of news goes on.")] = False,
    minutes: Annotated[float, typer.Option(help="With --live: for the last twelve hours of the log.")] = 2.0,
    port: Annotated[int, typer.Option(help="Of the server and its shop window.")] = 8000,
    shop: Annotated[
        bool | None,
        typer.Option(help="Open the shop window at the end. Without the option: where this is a terminal."),
    ] = None,
) -> None:
    """Show every stage on real films: fetch, train, evaluate beside baselines, recommend, serve the shop window."""
    console = Console()
    if live:
        run_live(console, minutes=minutes, port=port)
    else:
        run_demo(console, shop_window=console.is_terminal if shop is None else shop, port=port)


@first.command()
@options.reads_log
def inspect(
    events: options.Log,
    items: options.Items = None,
    users: options.Users = None,
    kind: options.Kinds = None,
    *,
    columns: options.LogColumns,
    as_json: options.AsJson = False,
) -> None:
    """Show what a log holds, which rows would be left out, and why."""
    log = columns.read(events)
    findings, kinds = segue.inspect(log), options.kinds_option(kind)
    tables = describe_tables(log, items, users, kinds) if items or users else []
    if as_json:
        options.print_json(findings.to_dict() | ({"tables": tables} if items or users else {}))
        return
    typer.echo(str(findings))
    for line in tables:
        typer.echo(f"{'table':<13}{line}")


@first.command()
@options.reads_log
def prepare(
    logs: Annotated[
        list[str],
        typer.Argument(help="Files of one log: CSV, TSV, NDJSON (also .gz, .zst) or Parquet.", metavar="LOG..."),
    ],
    out: Annotated[str, typer.Option("-o", "--out", help="Folder or address; one that is there is added to.")],
    engine: options.EngineName = None,
    address: options.ClusterAt = None,
    buckets: Annotated[
        int | None,
        typer.Option(
            help=f"Buckets of users of a new folder, {BUCKETS} if not given; one must fit into memory.", min=1
        ),
    ] = None,
    *,
    columns: options.LogColumns,
) -> None:
    """Prepare a log that may be larger than memory: a folder that every verb takes as a log, and grows by the day."""

    def say(line: str) -> None:
        typer.echo(line, err=True)

    requested, reading = columns.options()
    made = prepare_log(
        logs, out, requested=requested, reading=reading, buckets=buckets, engine=engine_of(engine, address), say=say
    )
    for note in made.runs[-1].notes:
        say(note)
    dropped = "".join(f", {count:,} rows left out with {why}" for why, count in made.dropped.items())
    files = f"{len(made.sources):,} file{'s' * (len(made.sources) != 1)}"
    typer.echo(f"{made.folder}: {made.events:,} events of {files} in {made.buckets:,} buckets{dropped}.")


@named.command("list")
def list_datasets() -> None:
    """List the data sets that can be fetched by name, with their terms."""
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


@named.command("expand")
@options.reads_log
def expand_log(
    events: options.Log,
    out: Annotated[Path, typer.Option("-o", "--out", help="Parquet file of the large log.")],
    users: Annotated[int, typer.Option(help="Copies of each user: so many times the events.", min=1)],
    items: Annotated[int, typer.Option(help="Copies of each item.", min=1)] = 1,
    *,
    columns: options.LogColumns,
) -> None:
    """Make a large log that is like a real one: try Segue at the scale that you will have."""
    log = columns.read(events)
    expand(log, out, users=users, items=items)
    typer.echo(f"{out}: {len(log) * users:,} events of {log.findings.users * users:,} users.")
