"""The verb that makes the method visible. No logic."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from segue.cli.options import ContextCol, Header, ItemCol, RatingCol, Sep, TimeCol, TypeCol, UserCol, Users, read
from segue.data.log.events import Events
from segue.errors import ArgumentError
from segue.files import check_folder
from segue.recommend.arguments import profiles_of
from segue.recommend.recommender import load_model

#: The verbs of this page; `segue.cli.app` takes them among its own.
insight = typer.Typer()


@insight.command()
def look(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the figures, their numbers and a page.")],
    model: Annotated[
        Path | None, typer.Argument(help="A file that segue train wrote; without one, cells.", metavar="[MODEL]")
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option(help="simple_rnn:tanh, simple_rnn:relu, ..., linear, gru, lstm; all if left out."),
    ] = None,
    recall: Annotated[list[int] | None, typer.Option(help="Lag of the copy task; trains each cell on it.")] = None,
    passes: Annotated[int, typer.Option(help="Of that training.", min=1)] = 25,
    events: Annotated[str | None, typer.Option(help="A log of users to look at; drawn if left out.")] = None,
    user: Annotated[str | None, typer.Option(help="The user whose gates are shown.")] = None,
    lags: Annotated[int, typer.Option(help="How many events back to look.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    users: Users = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    rating_col: RatingCol = None,
    type_col: TypeCol = None,
    context_col: ContextCol = None,
    header: Header = None,
    sep: Sep = None,
) -> None:
    """How a model or a cell remembers: gradients, gates, how far back it looks, as figures and numbers."""
    from segue.insight.cell_choices import NAMES
    from segue.insight.report import look_at_cells, look_at_model, write_looks  # they differentiate: only now JAX

    if model is not None and (cell or recall):
        raise typer.BadParameter("give a MODEL, or cells with --cell and --recall")
    if model is None and (events or user):
        raise typer.BadParameter("--events and --user are for a MODEL")
    if user is not None and events is None:
        raise typer.BadParameter("--user needs --events LOG")
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"-o {out}: expected a folder, came a file. Name another.")
    check_folder(next(each for each in (out.absolute(), *out.absolute().parents) if each.exists()), f"-o {out}")
    if model is None:
        looks = look_at_cells(cell or NAMES, recall=recall or (), passes=passes, seed=seed)
        title = "How recurrent cells remember"
    else:
        rec, place, sequences = load_model(model), 0, None
        if events is not None:
            columns = {"user": user_col, "item": item_col, "time": time_col, "rating": rating_col, "type": type_col}
            log = read(events, columns, header=header, sep=sep, context=context_col, of=rec)
            sequences = rec.sequences(log, profiles_of(rec.facts, users, log))
            place = 0 if user is None else _place(sequences.users, user, log)
        looks = look_at_model(rec, sequences, user=place, longest=lags, seed=seed)
        title = f"How {model.name} remembers"
    write_looks(looks, out, title=title, say=typer.echo)


def _place(users: pl.Series, user: str, log: Events) -> int:
    place = users.index_of(user)
    if place is None:
        raise ArgumentError(f'{log.source}: expected events of user "{user}", found none. Check --user and --user-col.')
    return place
