"""The verbs about a model file: `info`, `add-items`, `convert` and `index`."""

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import segue
from segue.addresses import shown
from segue.cli import options
from segue.config import by_path
from segue.errors import ArgumentError
from segue.files import check_file
from segue.recommend.index.approximate import LARGE, build_index, queries_of
from segue.recommend.recommender import Recommender, load_model

verbs = typer.Typer()
NewModel = Annotated[Path, typer.Option("-o", "--out", help="File of the new model.")]


@verbs.command("add-items")
def add_items(
    model: options.Model,
    items: Annotated[Path, typer.Argument(help="Table of items, as in training.", metavar="ITEMS")],
    out: NewModel,
) -> None:
    """Add new items to a model by their attributes, without training."""
    check_file(out, "-o")
    rec = load_model(model)
    more = rec.add_items(items)
    more.save(out)
    for note in more.catalogue.notes if more.catalogue else ():
        typer.echo(note, err=True)
    added = len(more.items) - len(rec.items)
    typer.echo(
        f"{out}: {added:,} item{'s' * (added != 1)} added, {len(more.items):,} in all; known items are unchanged."
    )
    if len(more.unreachable):
        typer.echo(
            f"{len(more.unreachable):,} of them have no attribute that training met and will be in no list, "
            f"the first is {more.vocabulary.id(int(more.unreachable[0]))}.",
            err=True,
        )


@verbs.command()
def convert(model: options.Model, out: NewModel) -> None:
    """Replace Keras cells by Segue's own, so that the model runs without Keras."""
    check_file(out, "-o")
    rec = segue.convert(load_model(model))
    rec.save(out)
    typer.echo(f"{out}: cell {rec.config.model.cell}, the same scores, model {rec.fingerprint[:12]}.")


@verbs.command()
def info(model: options.Model, as_json: options.AsJson = False) -> None:
    """Show what a model holds: settings, sizes, training range, digest."""
    rec = load_model(model)
    facts = {name: value for name, value in rec.facts.items() if name != "curve"}
    if not as_json and facts.get("range"):
        facts["range"] = " to ".join(f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d %H:%M}" for at in facts["range"])
    settings = by_path(asdict(rec.config))
    size = {"model": rec.fingerprint, "bytes": model.stat().st_size, "items": len(rec.items)}
    if as_json:
        options.print_json(size | settings | facts)
        return
    for name, value in (size | settings | facts).items():
        typer.echo(f"{name:<24} {options.in_words(value)}")


@verbs.command()
def index(
    model: options.Model,
    events: Annotated[
        str | None, typer.Option(help="Log or store; the index is measured with the states of its users.")
    ] = None,
) -> None:
    """Build the approximate index of a large model, beside it, and measure it against exact search."""
    rec = load_model(model)
    queries, of = None, ""
    if events is not None:
        states = rec.encode(options.LogColumns().read(events, of=rec))
        queries, of = queries_of(rec, states.memory.output), f"states of {Path(shown(events)).name}"
    built = build_index(rec, model, queries=queries, of=of, say=partial(typer.echo, err=True))
    typer.echo(f"{model}.index: {built.facts}.")


def index_if_large(rec: Recommender, model: Path) -> None:
    """Build the index of a model of many items, where the extra for it is installed."""
    if len(rec.items) <= LARGE:
        return
    try:
        built = build_index(rec, model, say=partial(typer.echo, err=True))
        typer.echo(f"{model}.index: {built.facts}.", err=True)
    except ArgumentError as error:
        typer.echo(f"{error} Until then all items are scored for each list.", err=True)
