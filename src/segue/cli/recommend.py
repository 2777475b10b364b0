"""The verbs `recommend`, `explain`, `rate` and `similar`."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from segue.addresses import shown
from segue.cli import options
from segue.config import parse_settings
from segue.data.log.events import Events
from segue.data.prepared.items import items_of
from segue.data.prepared.manifest import Prepared, is_prepared, open_prepared
from segue.errors import ArgumentError
from segue.files import check_file
from segue.jobs.batch_recommend import recommend_all, state_of
from segue.jobs.bucket_recommend import recommend_buckets
from segue.jobs.engines import Engine
from segue.jobs.ray_engine import engine_of
from segue.recommend.arguments import check_items, profiles_of
from segue.recommend.batch import Happened
from segue.recommend.index.approximate import LARGE, open_index
from segue.recommend.lists.explain import past_events
from segue.recommend.lists.options import ListOptions
from segue.recommend.plan import Beam, Sample
from segue.recommend.ratings import RatingDistribution, Shared
from segue.recommend.recommender import Item, Recommender, Time, load_model
from segue.recommend.state import State
from segue.store.readonly import read_store

verbs = typer.Typer()
UserId = Annotated[str | None, typer.Option(help="Id of a user of the log or store.")]


@verbs.command()
@options.reads_log
@options.makes_list
def recommend(
    model: options.Model,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, as one CSV line.")] = None,
    user: UserId = None,
    everyone: Annotated[bool, typer.Option("--all", help="Lists for all users, into -o.")] = False,
    events: options.UsersLog = None,
    store: options.UsersStore = None,
    out: Annotated[
        str | None,
        typer.Option("-o", "--out", help="For --all: Parquet file, or a folder for a log of segue prepare."),
    ] = None,
    engine: options.EngineName = None,
    address: options.ClusterAt = None,
    k: Annotated[int | None, typer.Option("-k", help="Length of the list; 10, or as the scenario says.")] = None,
    plan: Annotated[int | None, typer.Option(help="Plan the next N items as an ordered path, not a list.")] = None,
    beam: Annotated[int, typer.Option(help="For --plan: paths kept at each step; 1 takes the best item.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(help="Draw items at random; 1 draws by the model's probabilities.")
    ] = None,
    seed: Annotated[int, typer.Option(help="For --temperature and --explore: seed of the draws.")] = 0,
    at: options.At = None,
    type: Annotated[str | None, typer.Option(help="Type of the next event, such as buy.")] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="column=value of the request's context, such as device=tv.")
    ] = None,
    profile: options.Profile = None,
    users: options.Users = None,
    *,
    choice: options.ListChoice,
    columns: options.LogColumns,
    as_json: options.AsJson = False,
) -> None:
    """Recommend what comes next: for a history, for a user of a log or store, or for all users."""
    if [history is not None, user is not None, everyone].count(True) != 1:
        raise typer.BadParameter("give one of --history ID,ID,..., --user ID and --all")
    if everyone != (out is not None):
        raise typer.BadParameter("--all and -o FILE go together")
    by_bucket = out is not None and not out.lower().endswith(".parquet") and is_prepared(events)
    if (engine or address) and not by_bucket:
        raise typer.BadParameter("--engine is for --all with --events FOLDER of segue prepare and -o FOLDER")
    if (history is None) != ((events is None) != (store is None)):
        of = "history stands by itself, without" if history is not None else "user and --all need one of"
        raise typer.BadParameter(f"--{of} --events LOG and --store S")
    if plan is not None and (everyone or (beam != 1 and temperature is not None)):
        raise typer.BadParameter("--plan is for one history or user, with --beam or with --temperature")
    if choice != options.ListChoice() and plan is not None:
        raise typer.BadParameter("filters are for lists, without --plan")
    if out is not None and not by_bucket:
        check_file(Path(out), "-o", ".parquet")
    rec = load_model(model)
    if rec.config.train.task == "rating":
        typer.echo("this model learnt ratings alone, not what comes next: train with --task both for lists", err=True)
    length = 10 if k is None else k
    everyones = partial(list_all, rec, model, k=length, at=options.time_option(at), users=users, choice=choice)
    if by_bucket:
        prepared = open_prepared(str(events))
        check_items(rec.vocabulary.ids, items_of(prepared)["item"], prepared.source)
        return everyones(prepared, str(out), engine=engine_of(engine, address))
    source = columns.read(events, of=rec) if events is not None else str(store)
    if out is not None:
        return everyones(source, out)
    about = options.profile_option(profile)
    if history is not None:
        past: Sequence[Happened] = past_events(options.history_ids(history))
        options.warn_unmet(rec.encoders.users, about, option="--profile")
        state = rec.observe_all(rec.start(about), [event.item for event in past])
    else:
        state, past = _user_state(rec, source, str(user), users)
        about = _profile_of(rec, users, str(user)) or about
    unknown = [id for id in dict.fromkeys(event.item for event in past) if id not in rec.vocabulary]
    given = parse_settings(context or [], option="--context", example="device=tv")
    options.warn_unmet(rec.encoders.events, {"type": type}, option="--type")
    options.warn_unmet(rec.encoders.events, given, option="--context")
    if plan is None:
        wanted = {"k": k, "type": type, "context": given, "temperature": temperature, "seed": seed or None}
        arguments = choice.arguments(past, at, **wanted)
        found = rec.recommend(state, at=options.time_option(at), profile=about, **{"seed": 0, **arguments})
        _print_list(found, [*unknown, *found.unknown], as_json, found.notes, chances=found.probabilities)
        return
    by = Beam(beam) if temperature is None else Sample(temperature, seed)
    path = rec.plan(state, plan, by=by, at=options.time_option(at), type=type, context=given)
    _print_list(path.items, unknown, as_json, log_probability=path.log_probability)


@verbs.command()
@options.reads_log
def explain(
    model: options.Model,
    item: Annotated[str | None, typer.Option(help="Id of the item; the first of the list if not given.")] = None,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, as one CSV line.")] = None,
    user: UserId = None,
    events: options.UsersLog = None,
    store: options.UsersStore = None,
    last: Annotated[int, typer.Option(help="Events that are looked at.")] = 20,
    at: options.At = None,
    profile: options.Profile = None,
    users: options.Users = None,
    *,
    columns: options.LogColumns,
    as_json: options.AsJson = False,
) -> None:
    """Say how much each recent event adds to the score of an item in a user's list."""
    _check_one_user(history, user, events, store, "ID,ID,...")
    rec = load_model(model)
    about = options.profile_option(profile)
    if history is not None:
        past: Sequence[Happened] = past_events(options.history_ids(history))
    else:
        past = _user_events(columns.read(events, of=rec) if events is not None else str(store), str(user))
        about = _profile_of(rec, users, str(user)) or about
    found = rec.explain(past, item, last=last, at=options.time_option(at), profile=about)
    if as_json:
        parts = [
            {"item": part.event.item, "title": part.title, "change": part.change, "shared": part.shared}
            for part in found.parts
        ]
        options.print_json({**found.item._asdict(), "labels": found.labels, "parts": parts})
        return
    typer.echo(f"{found.item.item}  {found.item.score:.3f}  {found.item.title or ''}".rstrip())
    for part in found.parts:
        why = f"  [{', '.join(part.shared)}]" if part.shared else ""
        typer.echo(f"{part.change:+9.3f}  {part.event.item}  {part.title or ''}{why}".rstrip())


@verbs.command()
@options.reads_log
def rate(
    model: options.Model,
    item: Annotated[str, typer.Option(help="Id of the item.")],
    history: Annotated[str | None, typer.Option(help="ITEM=RATING,... oldest first, as one CSV line.")] = None,
    user: UserId = None,
    events: options.UsersLog = None,
    store: options.UsersStore = None,
    at: options.At = None,
    profile: options.Profile = None,
    users: options.Users = None,
    *,
    columns: options.LogColumns,
    as_json: options.AsJson = False,
) -> None:
    """Predict a user's rating of an item, in the scale of the log."""
    _check_one_user(history, user, events, store, "ITEM=RATING,...")
    rec = load_model(model)
    if history is not None:
        state = rec.start(options.profile_option(profile))
        for id, rating in (rated := options.rated_ids(history)):
            state = rec.observe(state, id, rating=rating)
        if unrated := [id for id, rating in rated if rating is None]:
            typer.echo(f"seen without a rating (write ITEM=RATING): {', '.join(unrated)}", err=True)
    else:
        source = columns.read(events, of=rec) if events is not None else str(store)
        state, _ = _user_state(rec, source, str(user), users)
    shared = _shared_ratings(rec, store, item) if store else None
    predicted = rec.rating_distribution(state, item, at=options.time_option(at), shared=shared)
    _print_rating(predicted, item, known=item in rec.vocabulary, as_json=as_json)


@verbs.command(context_settings={"ignore_unknown_options": True})  # an id may begin with a dash
def similar(
    model: options.Model,
    item: Annotated[str, typer.Argument(help="Id of an item.", metavar="ITEM")],
    k: options.ListLength = 10,
    mix: Annotated[
        float, typer.Option(help="0: alike by what users do next; 1: alike by attributes; between: both.")
    ] = 0.5,
    where: options.Where = None,
    history: Annotated[
        str | None, typer.Option(help="Item ids of a user, oldest first, as one CSV line: the list is in their order.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the items most like an item: by what users do next and by the items' attributes."""
    rec = load_model(model)
    state = None if history is None else rec.observe_all(rec.start(), options.history_ids(history))
    items = rec.similar(item, k, mix=mix, where=where, state=state)
    for note in items.notes:
        typer.echo(note, err=True)
    shared = {line.item: [label for label in rec.labels(line.item) if label in rec.labels(item)] for line in items}
    if as_json:
        options.print_json({"items": [line._asdict() | {"shared": shared[line.item]} for line in items], "unknown": []})
        return
    width = max((len(line.item) for line in items), default=0)
    for place, line in enumerate(items, start=1):
        why = f"  [{', '.join(shared[line.item])}]" if shared[line.item] else ""
        typer.echo(f"{place:3}  {line.item:<{width}}  {line.score:6.2f}  {line.title or ''}{why}".rstrip())


def list_all(
    rec: Recommender,
    model: Path,
    source: Events | Prepared | str,
    out: str,
    *,
    k: int,
    at: Time,
    users: Path | None,
    choice: options.ListChoice,
    engine: Engine | None = None,
) -> None:
    """Write the lists of all users of a log, of a prepared folder, or of the store at an address."""
    index, note = open_index(rec, model)
    if index is not None or len(rec.items) > LARGE:
        typer.echo(note, err=True)
    if choice.exclude_events or choice.current or choice.diversity or choice.explore or choice.scenario:
        raise typer.BadParameter("--all takes --where, --param, --exclude, --candidates and --repeats alone")
    wanted = choice.arguments((), None)
    wanted |= {name: tuple(wanted[name]) for name in ("exclude", "candidates") if name in wanted}
    narrow = ListOptions(**wanted)
    profiles = profiles_of(rec.facts, users)
    rec = rec.with_index(index)
    if isinstance(source, Prepared):
        done = recommend_buckets(
            rec, source, out, k=k, at=at, profiles=profiles, choice=narrow, engine=engine,
            index=None if index is None else model.absolute(), report=partial(_progress, what="bucket"),
        )  # fmt: skip
        typer.echo(f"{out}: lists of {done.users + done.before:,} users in {source.buckets:,} files.")
        return
    with ExitStack() as stack:
        of = source if isinstance(source, Events) else stack.enter_context(closing(read_store(source)))
        done = recommend_all(rec, of, out, k=k, at=at, profiles=profiles, choice=narrow, report=_progress)
    count = done.users + done.before
    before = f", {done.before:,} of them by the run before" if done.before else ""
    typer.echo(f"{out}: lists of {count:,} user{'s' * (count != 1)}{before}.")


def _progress(done: int, of: int, what: str = "user") -> None:
    typer.echo(f"{done:,} of {of:,} {what}{'s' * (of != 1)}", err=True)


def _user_state(
    rec: Recommender, source: Events | str, user: str, users: Path | None
) -> tuple[State, Sequence[Happened]]:
    """Return the state of a user of a log or of the store at an address, and their latest events, oldest first."""
    events = _user_events(source, user)
    if isinstance(source, Events):
        return rec.encode(Events(_rows_of(source, user), source.source), users)[0], events
    with closing(read_store(source)) as opened:
        return state_of(rec, opened, user, profiles_of(rec.facts, users)), events


def _profile_of(rec: Recommender, users: Path | None, user: str) -> dict[str, Any]:
    """Return the profile of a user in a table, nothing where there is none."""
    profiles = profiles_of(rec.facts, users)
    return {} if profiles is None else dict(profiles.of(user))


def _rows_of(log: Events, user: str) -> pl.DataFrame:
    return log.table.filter(pl.col("user").cast(pl.String) == user)


def _user_events(source: Events | str, user: str) -> Sequence[Happened]:
    """Return the events of a user of a log, or the last 1,000 of the store at an address, oldest first.

    Raises:
        ArgumentError: there is none.
    """
    if isinstance(source, Events):
        if not len(rows := _rows_of(source, user)):
            raise ArgumentError(
                f'{source.source}: expected events of user "{user}", found none. Check --user and --user-col.'
            )
        return past_events(Events(rows, source.source))
    with closing(read_store(source)) as opened:
        latest = opened.events(user, backwards=True, limit=1000)
    if not latest:
        raise ArgumentError(f'{shown(source)}: expected events of user "{user}", found none. Check --user.')
    return latest[::-1]


def _shared_ratings(rec: Recommender, store: str, item: str) -> Shared | None:
    """Return what ratings of other users say of an item, from a store; None where the model learnt no ratings."""
    if rec.network.rating is None:
        return None
    with closing(read_store(store)) as opened:
        return opened.shared(rec.fingerprint, [rec.vocabulary.row(item)])


def _print_list(
    items: list[Item],
    unknown: list[str],
    as_json: bool,
    notes: Sequence[str] = (),
    chances: Sequence[float] | None = None,
    **more: float,
) -> None:
    if as_json:
        said = {"notes": list(notes)} if notes else {}
        lines = [line._asdict() for line in items]
        if chances is not None:
            lines = [line | {"probability": likely} for line, likely in zip(lines, chances, strict=True)]
        options.print_json({"items": lines, "unknown": unknown, **said, **more})
        return
    for note in notes:
        typer.echo(note, err=True)
    width = max((len(line.item) for line in items), default=0)
    for place, line in enumerate(items, start=1):
        typer.echo(f"{place:3}  {line.item:<{width}}  {line.score:8.3f}  {line.title or ''}".rstrip())
    if unknown:
        typer.echo(f"unknown, skipped: {', '.join(unknown)}", err=True)
        if any("=" in item for item in unknown):
            typer.echo(
                "A history of `recommend` is of items alone; one with ratings (17=4.5) is for `segue rate`.", err=True
            )


def _print_rating(rating: RatingDistribution, item: str, *, known: bool, as_json: bool) -> None:
    if as_json:
        shares: Any = [{"rating": step, "share": share} for step, share in rating.shares.items()]
        options.print_json(
            {"item": item, "known": known, "rating": rating.mean, "deviation": rating.deviation, "shares": shares}
        )
        return
    typer.echo(f"{rating.mean:.2f}, standard deviation {rating.deviation:.2f}")
    for step, share in rating.shares.items():
        typer.echo(f"{step:6g}  {share:6.1%}")
    if not known:
        typer.echo(f"unknown item, predicted from the user's other ratings: {item}", err=True)


def _check_one_user(history: str | None, user: str | None, events: object, store: object, like: str) -> None:
    """Do nothing if either a history or a user with one place to read them from is given."""
    if (history is None) == (user is None) or (user is None) != ((events is None) == (store is None)):
        raise typer.BadParameter(f"give --history {like} or --user ID with one of --events LOG and --store S")
