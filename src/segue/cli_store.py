"""The verbs of a store: a log into it, and out of it. No logic."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from segue.data.events import Events
from segue.files import replacing
from segue.serve.opening import open_store
from segue.serve.transfer import Imported, events_of, import_events, table_of, told_by

Store = Annotated[str, typer.Option(help="SQLite file, made if it is not there, or valkey:// address.")]


def import_log(log: Events, store: str) -> Imported:
    """Put a log into a store, going on where an earlier run of the same file stopped."""
    opened = open_store(store)
    try:
        return import_events(opened, told_by(log), source=f"{log.source}:{len(log)}")
    finally:
        opened.close()


def read_store(address: str) -> Events:
    """Return the log of a store."""
    opened = open_store(address)
    try:
        return events_of(opened, Path(address).name)
    finally:
        opened.close()


def export(
    store: Store,
    out: Annotated[Path, typer.Option("-o", "--out", help="A Parquet file.")],
) -> None:
    """All events of a store into a Parquet file, in the order of arrival."""
    opened = open_store(store)
    try:
        table = table_of(opened)
    finally:
        opened.close()
    table = table.with_columns(pl.col("time").cast(pl.Datetime("us")))  # numbers would be guessed at by their size
    with replacing(out) as part:
        table.write_parquet(part)
    typer.echo(f"{out}: {table.height:,} events.")
