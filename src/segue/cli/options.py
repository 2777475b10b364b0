"""Options that several verbs share, and what the verbs do with the options."""

import csv
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

import segue
from segue.addresses import shown
from segue.config import parse_settings
from segue.data.features.table_encoder import TableEncoder
from segue.data.log.events import Events, Reading
from segue.data.values.times import microseconds
from segue.errors import ArgumentError
from segue.jobs.import_export import read_log
from segue.recommend.arguments import check_known
from segue.recommend.batch import Happened
from segue.recommend.lists.seen import SeenRule, seen_items
from segue.recommend.recommender import Recommender
from segue.store.readonly import is_store, read_store

Log = Annotated[
    str,
    typer.Argument(
        help="CSV, TSV, NDJSON (also .gz, .zst) or Parquet; a folder of segue prepare; or a store: an SQLite file, "
        "postgresql://..., valkey://...",
        metavar="EVENTS",
    ),
]
Model = Annotated[Path, typer.Argument(help="A model that segue train wrote.", metavar="MODEL")]
UsersLog = Annotated[str | None, typer.Option(help="Log with the user's events.")]
UsersStore = Annotated[str | None, typer.Option(help="Store with the user's events.")]
At = Annotated[str | None, typer.Option(help="Time of the request: epoch seconds or ISO 8601.")]
Profile = Annotated[list[str] | None, typer.Option(help="column=value of the user's profile, such as age=30.")]
Items = Annotated[Path | None, typer.Option(help="Table of items: titles, attributes, texts, vectors.")]
Users = Annotated[Path | None, typer.Option(help="Table of users with their profiles.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="column=kind, such as genres=categories, where the guessed kind is wrong."),
]
KeyFile = Annotated[Path, typer.Option("--keys", help="File of keys.")]
StoreAt = Annotated[
    str, typer.Option("--store", help="SQLite file, or postgresql:// or valkey:// address.", envvar="SEGUE_STORE")
]
Config = Annotated[Path | None, typer.Option(help="TOML file with settings.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="path=value, such as train.minutes=5.")]
Where = Annotated[str | None, typer.Option(help="Filter of items, such as 'genre = \"Comedy\" and price < $most'.")]
LogTo = Annotated[
    str | None,
    typer.Option(
        "--log",
        help="mlflow, tensorboard, or a file that gets a line of JSON for each epoch or trial, such as run.jsonl.",
    ),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="ray: work on a Ray cluster (--address), or on all cores of this machine. Needs the extra ray.",
    ),
]
ClusterAt = Annotated[
    str | None, typer.Option("--address", help="Ray cluster, HOST:6379 or auto; this machine if not given.")
]
ListLength = Annotated[int, typer.Option("-k", help="Length of the list.")]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        help='Exit 3 where this holds: "ndcg@10 < 0.12", "ndcg@10 < baseline", or against the interval of an earlier '
        'report, "ndcg@10 < report.json".',
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(frozen=True)
class LogColumns:
    """How the columns of a log are read: each field is an option of every verb that reads a log; see `reads_log`."""

    user_col: Annotated[str | None, typer.Option(help="Column of users; guessed if not given.")] = None
    item_col: Annotated[str | None, typer.Option(help="Column of items.")] = None
    time_col: Annotated[
        str | None, typer.Option(help='Column of times; "none": the rows are in the order of time.')
    ] = None
    rating_col: Annotated[str | None, typer.Option(help="Column of ratings.")] = None
    type_col: Annotated[str | None, typer.Option(help="Column of event types.")] = None
    context_col: Annotated[
        list[str] | None, typer.Option(help="Column of the event's context, such as device or place.")
    ] = None
    time_format: Annotated[str | None, typer.Option(help='Such as "%d.%m.%Y %H:%M", or s, ms, us, ns.')] = None
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether the first line names the columns.")
    ] = None
    sep: Annotated[str | None, typer.Option(help="Character between columns; detected if not given.")] = None
    encoding: Annotated[str | None, typer.Option(help="Encoding of a text file; detected if not given.")] = None
    missing: Annotated[
        list[str] | None, typer.Option(help="Words that stand for a missing value, such as NULL; separate by commas.")
    ] = None

    def read(self, path: str | Path, *, of: Recommender | None = None, more: Mapping[str, Any] | None = None) -> Events:
        """Return the events of a file or of a store.

        Args:
            path: the file, or the address of the store.
            of: the model whose log tells what no option says.
            more: further columns by role, such as the event ids.
        """
        columns, reading = self.options(more)
        if is_store(path):
            return self._of_store(str(path), columns)
        log = segue.read_events(path, **columns, reading=reading, like=of.facts.get("reading") if of else None)
        if of is not None:
            check_known(of.vocabulary.ids, log)
            for note in log.intake.notes:
                typer.echo(note, err=True)
        return log

    def options(self, more: Mapping[str, Any] | None = None) -> tuple[dict[str, str | None], Reading]:
        """Return the columns by role, and how the file is written."""
        names = ("user", "item", "time", "rating", "type")
        columns = {name: getattr(self, f"{name}_col") for name in names} | dict(more or {})
        words = tuple(word for several in self.missing or () for word in next(csv.reader([several]), []))
        return columns, Reading(
            self.time_format, self.header, self.sep, self.encoding, tuple(self.context_col or ()), words
        )

    def _of_store(self, address: str, columns: Mapping[str, Any]) -> Events:
        options = {**columns, "time_format": self.time_format, "sep": self.sep, "missing": self.missing}
        named = [name for name, value in options.items() if value is not None]
        if named:
            raise ArgumentError(
                f"{shown(address)}: expected no options for columns, a store has its own; came one for {named[0]}. "
                "Leave it out."
            )
        with closing(read_store(address)) as store:
            return read_log(store, source=Path(shown(address)).name, context=self.context_col)


@dataclass(frozen=True)
class ListChoice:
    """What a list may hold: each field is an option of every verb that makes lists; see `makes_list`."""

    where: Where = None
    param: Annotated[list[str] | None, typer.Option(help="name=value of the filter's $name.")] = None
    current: Annotated[str | None, typer.Option(help="Id of the item looked at: current.name in a filter.")] = None
    exclude: Annotated[str | None, typer.Option(help="Ids to leave out, as one CSV line, or @FILE.")] = None
    candidates: Annotated[
        str | None, typer.Option(help="Ids of which alone the list is made, as one CSV line, or @FILE.")
    ] = None
    exclude_events: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out items by their events, in place of all seen items: type=buy, within=30d, or both."
        ),
    ] = None
    repeats: Annotated[str | None, typer.Option(help="allow or exclude seen items.")] = None
    diversity: Annotated[float | None, typer.Option(help="Up to 1, the more unlike the items are.")] = None
    explore: Annotated[float | None, typer.Option(help="The share of places given to chance.")] = None
    scenarios: Annotated[Path | None, typer.Option(help="TOML file of scenarios, as segue serve takes it.")] = None
    scenario: Annotated[str | None, typer.Option(help="Named settings of that file, for all that no option says.")] = (
        None
    )

    def arguments(self, events: Iterable[Happened], at: str | None, **more: Any) -> dict[str, Any]:
        """Return the arguments of `Recommender.recommend`, for a user with these events.

        Args:
            events: of the user.
            at: the time of the request.
            more: arguments of the same call; what is None or empty, the scenario says.
        """
        if (self.scenario is None) != (self.scenarios is None):
            raise typer.BadParameter("--scenario NAME and --scenarios FILE go together")
        past = list(events)
        said = {name: value for name, value in (self._own(past, at) | more).items() if value not in (None, [], {})}
        if self.scenarios is None:
            return said
        return segue.scenario(self.scenarios, str(self.scenario), history=past, at=at) | said

    def _own(self, events: Iterable[Happened], at: str | None) -> dict[str, Any]:
        excluded, repeats = _ids_option(self.exclude, "--exclude") or [], self.repeats
        if repeats not in (None, "allow", "exclude"):
            raise ArgumentError(f'--repeats: expected allow or exclude, came "{repeats}".')
        if self.exclude_events:
            rules = [SeenRule.of(text, "--exclude-events") for text in self.exclude_events]
            excluded, repeats = [*excluded, *seen_items(events, rules, microseconds(at))], repeats or "allow"
        return {
            "where": self.where,
            "params": parse_settings(self.param or [], option="--param", example="most=20"),
            "current": self.current,
            "exclude": excluded,
            "candidates": _ids_option(self.candidates, "--candidates"),
            "repeats": repeats,
            "diversity": self.diversity,
            "explore": self.explore,
        }


def _ids_option(text: str | None, option: str) -> list[str] | None:
    """Return the ids of a CSV line, or of a file with an id on each line."""
    if text is None or not text.startswith("@"):
        return None if text is None else history_ids(text, option)
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ArgumentError(f'{option}: expected a file with an id on each line, "{text[1:]}": {error}.') from None
    return [id for line in lines if (id := line.strip())]


def reads_log(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb an option for each field of `LogColumns`; the verb takes all of them as its argument `columns`."""
    return _spread(verb, "columns", LogColumns)


def makes_list(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb an option for each field of `ListChoice`; the verb takes all of them as its argument `choice`."""
    return _spread(verb, "choice", ListChoice)


def _spread(verb: Callable[..., None], argument: str, group: type[Any]) -> Callable[..., None]:
    """Return a verb with an option for each field of a group in place of one argument."""
    hints, kind = get_type_hints(group, include_extras=True), inspect.Parameter.KEYWORD_ONLY
    parts = fields(group)
    new = [inspect.Parameter(one.name, kind, default=one.default, annotation=hints[one.name]) for one in parts]
    plain = inspect.signature(verb).parameters.values()
    every = [each for old in plain for each in (new if old.name == argument else [old.replace(kind=kind)])]

    @wraps(verb)
    def spread(**given: Any) -> None:
        values = group(**{one.name: given.pop(one.name) for one in parts})
        verb(**given, **{argument: values})

    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
    spread.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    return spread


def warn_unmet(encoding: TableEncoder | None, values: Mapping[str, object], *, option: str) -> None:
    """Say on stderr which values of an option training never met: they are no error, and change nothing."""
    if unmet := encoding.unknown_values(values) if encoding else []:
        typer.echo(f"never met in training, no effect ({option}): {', '.join(unmet)}", err=True)


def end_if(failures: Sequence[str]) -> None:
    """Say why a run failed, and end with exit code 3 if it did."""
    for why in failures:
        typer.echo(why, err=True)
    if failures:
        raise typer.Exit(3)


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
    rated: list[tuple[str, float | None]] = []
    for text in history_ids(history):
        id, equals, rating = text.rpartition("=")
        try:
            rated.append((id, float(rating)) if equals else (text, None))
        except ValueError:
            raise ArgumentError(f'--history: expected ITEM=RATING, came "{text}". Write 17=4.5,42=3.') from None
    return rated


def history_ids(history: str, option: str = "--history") -> list[str]:
    """Return the ids of one CSV line."""
    try:
        ids = [id.strip() for id in next(csv.reader([history], strict=True, skipinitialspace=True), []) if id.strip()]
    except csv.Error as error:
        raise ArgumentError(f"{option}: expected one CSV line of item ids, came {history!r}: {error}.") from None
    if not ids:
        advice = "oldest first" if option == "--history" else "such as 17,42"
        raise ArgumentError(f"{option}: expected at least one item id, came none. Give ID,ID,... {advice}.")
    return ids


def time_option(text: str | None) -> str | None:
    """Return the text of `--at`, checked."""
    microseconds(text, "--at")
    return text


def kinds_option(kind: list[str] | None) -> dict[str, str]:
    """Return column -> kind of `--kind`."""
    return parse_settings(kind or [], option="--kind", example="genres=categories")


def profile_option(profile: list[str] | None) -> dict[str, Any]:
    """Return column -> value of `--profile`."""
    return parse_settings(profile or [], option="--profile", example="age=30")
