"""The verb `insight`."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from segue.cli import options
from segue.data.log.events import Events
from segue.errors import ArgumentError
from segue.files import check_folder
from segue.recommend.arguments import profiles_of
from segue.recommend.recommender import load_model

verbs = typer.Typer()


@verbs.command()
@options.reads_log
def insight(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the figures, their numbers and a page.")],
    model: Annotated[
        Path | None,
        typer.Argument(help="A model that segue train wrote; without a model, cells are compared.", metavar="[MODEL]"),
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option(help="simple_rnn:tanh, simple_rnn:relu, ..., linear, gru, lstm; all if left out."),
    ] = None,
    recall: Annotated[list[int] | None, typer.Option(help="Lag of the copy task; trains each cell on it.")] = None,
    epochs: Annotated[int, typer.Option(help="For --recall: epochs of the training.", min=1)] = 25,
    events: Annotated[
        str | None, typer.Option(help="Log of the users to analyse; histories are drawn from the model if left out.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Id of the user whose gates are shown.")] = None,
    lags: Annotated[int, typer.Option(help="How many events back to measure.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0,
    users: options.Users = None,
    *,
    columns: options.LogColumns,
) -> None:
    """Show how a model or a cell remembers: gradients, gates, influence of earlier events; figures and numbers."""
    from segue.insight.cell_choices import NAMES
    from segue.insight.report import cell_insights, model_insights, write_report  # imports JAX

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
        insights = cell_insights(cell or NAMES, recall=recall or (), epochs=epochs, seed=seed)
        title = "How recurrent cells remember"
    else:
        rec, place, sequences = load_model(model), 0, None
        if events is not None:
            log = columns.read(events, of=rec)
            sequences = rec.sequences(log, profiles_of(rec.facts, users, log))
            place = 0 if user is None else _place(sequences.users, user, log)
        insights = model_insights(rec, sequences, user=place, longest=lags, seed=seed)
        title = f"How {model.name} remembers"
    write_report(insights, out, title=title, say=typer.echo)


def _place(users: pl.Series, user: str, log: Events) -> int:
    place = users.index_of(user)
    if place is None:
        raise ArgumentError(f'{log.source}: expected events of user "{user}", found none. Check --user and --user-col.')
    return place
