"""Options that several verbs share, and what they all do with them.

Knows: names, help texts, how a log or a store becomes events. Does not know: verbs.
"""

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import segue
from segue.addresses import hidden, shown
from segue.config import parse_settings
from segue.data.features.table_encoder import TableEncoder
from segue.data.log.events import Events, Reading
from segue.data.values.times import microseconds
from segue.errors import ArgumentError
from segue.jobs.import_export import read_log
from segue.recommend.arguments import check_known
from segue.recommend.recommender import Recommender
from segue.store.readonly import is_store, read_store

Log = Annotated[
    str,
    typer.Argument(
        help="CSV, TSV, NDJSON (also .gz, .zst) or Parquet; or a store: an SQLite file, valkey://...", metavar="EVENTS"
    ),
]
Model = Annotated[Path, typer.Argument(help="A file that segue train wrote.", metavar="MODEL")]
UserCol = Annotated[str | None, typer.Option(help="Column of users; guessed if not given.")]
ItemCol = Annotated[str | None, typer.Option(help="Column of items.")]
TimeCol = Annotated[str | None, typer.Option(help='Column of times; "none": the order of the file is the order.')]
RatingCol = Annotated[str | None, typer.Option(help="Column of ratings.")]
TypeCol = Annotated[str | None, typer.Option(help="Column of event types.")]
UsersLog = Annotated[str | None, typer.Option(help="A log that holds the user.")]
UsersStore = Annotated[str | None, typer.Option(help="A store that holds the user.")]
At = Annotated[str | None, typer.Option(help="Time of the question: epoch seconds or ISO 8601.")]
About = Annotated[list[str] | None, typer.Option(help="column=value of who asks, such as age=30.")]
TimeFormat = Annotated[str | None, typer.Option(help='Such as "%d.%m.%Y %H:%M", or s, ms, us, ns.')]
Header = Annotated[
    bool | None, typer.Option("--header/--no-header", help="Whether the first line names the columns; it does.")
]
Sep = Annotated[str | None, typer.Option(help="Character between columns of the log; found if not given.")]
Missing = Annotated[
    list[str] | None, typer.Option(help="Word that stands where a value is missing, such as NULL; or words, by commas.")
]
ContextCol = Annotated[list[str] | None, typer.Option(help="Column that says how an event was: device, place.")]
Items = Annotated[Path | None, typer.Option(help="Table of items: titles, attributes, texts, vectors.")]
Users = Annotated[Path | None, typer.Option(help="Table of users with their profiles.")]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help="column=kind, such as genres=categories, where a guess is wrong.")
]
Encoding = Annotated[str | None, typer.Option(help="Of the log, a text file; found if not given.")]
KeyFile = Annotated[Path, typer.Option("--keys", help="File of keys.")]
StoreAt = Annotated[str, typer.Option("--store", help="SQLite file or valkey:// address.", envvar="SEGUE_STORE")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="path=value, such as train.minutes=5.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


#: What a call in a wrong way raises.
_UsageError: Any = typer.BadParameter.__base__


class Verbs(typer.core.TyperGroup):
    """The verbs; where one is called in a wrong way, no address is repeated with its password."""

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            error.message = hidden(error.message, sys.argv)
            raise


def read(
    path: str | Path,
    columns: Mapping[str, Any],
    time_format: str | None = None,
    header: bool | None = None,
    sep: str | None = None,
    encoding: str | None = None,
    context: list[str] | None = None,
    missing: list[str] | None = None,
    *,
    of: Recommender | None = None,
) -> Events:
    """Return the events of a file or of a store; what is not said is as in the log that `of` was trained on."""
    if is_store(path):
        return _of_store(str(path), {**columns, "time_format": time_format, "sep": sep, "missing": missing}, context)
    words = tuple(word for several in missing or () for word in next(csv.reader([several]), []))
    reading = Reading(time_format, header, sep, encoding, tuple(context or ()), words)
    log = segue.read_events(path, **columns, reading=reading, like=of.facts.get("reading") if of else None)
    if of is not None:
        check_known(of.vocabulary.ids, log)
        for note in log.intake.notes:
            typer.echo(note, err=True)
    return log


def _of_store(address: str, options: Mapping[str, Any], context: list[str] | None) -> Events:
    named = [name for name, value in options.items() if value is not None]
    if named:
        raise ArgumentError(
            f"{shown(address)}: expected no options for columns, a store has its own; came one for {named[0]}. "
            "Leave it out."
        )
    store = read_store(address)
    try:
        return read_log(store, source=Path(shown(address)).name, context=context)
    finally:
        store.close()


def say_unmet(encoding: TableEncoder | None, values: Mapping[str, object], *, option: str) -> None:
    """Say on stderr which values of an option were never met in learning: they are no error, and change nothing."""
    if unmet := encoding.unknown_values(values) if encoding else []:
        typer.echo(f"never met in learning, so it says nothing here ({option}): {', '.join(unmet)}", err=True)


def print_json(value: Any) -> None:
    """Print one object."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def in_words(value: Any) -> str:
    """Return a value as `segue info` shows it.

    Example:
        >>> in_words({"train.seed": 3, "train.refit": False}), in_words(None), in_words({})
        ('train.seed=3, train.refit=false', 'none', 'none')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        value = ", ".join(f"{name}={in_words(each)}" for name, each in value.items())
    return "none" if value in (None, "") else str(value)


def rated_ids(history: str) -> list[tuple[str, float | None]]:
    """Return the ids and ratings of one CSV line; an id without a rating was seen and not rated.

    Example:
        >>> rated_ids("17=4.5, 42")
        [('17', 4.5), ('42', None)]
    """
    found: list[tuple[str, float | None]] = []
    for text in history_ids(history):
        id, equals, rating = text.rpartition("=")
        try:
            found.append((id, float(rating)) if equals else (text, None))
        except ValueError:
            raise ArgumentError(f'--history: expected ITEM=RATING, came "{text}". Write 17=4.5,42=3.') from None
    return found


def history_ids(history: str) -> list[str]:
    """Return the ids of one CSV line."""
    try:
        ids = [id.strip() for id in next(csv.reader([history], strict=True, skipinitialspace=True), []) if id.strip()]
    except csv.Error as error:
        raise ArgumentError(f"--history: expected one CSV line of item ids, came {history!r}: {error}.") from None
    if not ids:
        raise ArgumentError("--history: expected at least one item id, came none. Give ID,ID,... oldest first.")
    return ids


def time_option(text: str | None) -> str | None:
    """Return the text of `--at`, checked."""
    microseconds(text, "--at")
    return text


def kinds_option(kind: list[str] | None) -> dict[str, str]:
    """Return column -> kind of `--kind`."""
    return parse_settings(kind or [], option="--kind", example="genres=categories")
