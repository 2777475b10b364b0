"""The verbs `train`, `tune` and `evaluate`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console

import segue
from segue.cli import options
from segue.cli.models import index_if_large
from segue.cli.progress import TrainingView
from segue.config import configure, parse_settings, read_config
from segue.data.log.events import Events
from segue.data.log.split import digest
from segue.evaluation.held_out import held_out_rows
from segue.evaluation.protocols import Targets
from segue.evaluation.registry import words_of
from segue.files import check_file, replacing
from segue.jobs.tune import titled
from segue.jobs.tune import tune as search_settings
from segue.recommend.recommender import load_model

verbs = typer.Typer()


@verbs.command()
@options.reads_log
def train(
    events: options.Log,
    out: Annotated[Path, typer.Option("-o", "--out", help="File of the new model.")],
    items: options.Items = None,
    users: options.Users = None,
    kind: options.Kinds = None,
    hold_out: Annotated[
        str | None,
        typer.Option(
            help="Rows kept for segue evaluate: time:0.1, last:1, last:0.1, random:0.1, users:0.1, items:0.1, "
            "sessions:0.1."
        ),
    ] = None,
    config: options.Config = None,
    settings: options.Settings = None,
    task: Annotated[str | None, typer.Option(help="next, rating or both; guessed if not given.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run.")] = False,
    *,
    columns: options.LogColumns,
) -> None:
    """Train a model on a log."""
    asked = {"train.task": task} if task else {}
    wanted = configure((read_config(config) if config else {}) | parse_settings(settings or []) | asked)
    check_file(out, "-o")
    log = columns.read(events)
    console = Console(stderr=True)
    say = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    for line in _notes(log):
        say(line)
    facts: dict[str, Any] = {}
    if hold_out:
        log, test = segue.hold_out(log, hold_out)
        facts = {"hold_out": hold_out, "hold_out_digest": digest(test), "hold_out_events": len(test)}
    kept = out.with_name(out.name + ".checkpoint")
    if kept.exists() and not resume:
        say(f"{kept}: checkpoint of an interrupted run, not used. Training starts anew; --resume continues that run.")
    with _resumable(kept, console), TrainingView(console) as view:
        rec = segue.train(
            log,
            catalogue=items,
            users=users,
            kinds=options.kinds_option(kind),
            config=wanted,
            checkpoint=kept,
            resume=resume,
            report=view,
            say=say,
            facts=facts,
        )
    rec.save(out)
    kept.unlink(missing_ok=True)
    typer.echo(f"{out}: {len(rec.items):,} items, {out.stat().st_size:,} bytes, model {rec.fingerprint[:12]}.")
    index_if_large(rec, out)


@verbs.command()
@options.reads_log
def tune(
    events: options.Log,
    minutes: Annotated[float, typer.Option(help="Time of the search; the trial with the defaults always ends.", min=0)],
    out: Annotated[Path, typer.Option("-o", "--out", help="TOML file of the best settings, for segue train --config.")],
    items: options.Items = None,
    users: options.Users = None,
    kind: options.Kinds = None,
    hold_out: Annotated[
        str | None, typer.Option(help="Rows that the search must not read; give what segue train gets.")
    ] = None,
    config: options.Config = None,
    settings: options.Settings = None,
    *,
    columns: options.LogColumns,
) -> None:
    """Search settings on validation, beside the defaults. Run again, the search goes on. Needs the extra optuna."""
    fixed = (read_config(config) if config else {}) | parse_settings(settings or [])
    configure(fixed)
    check_file(out, "-o")
    log = columns.read(events)
    say = partial(typer.echo, err=True)
    for line in _notes(log):
        say(line)
    log = segue.hold_out(log, hold_out)[0] if hold_out else log
    found = search_settings(
        log,
        minutes=minutes,
        kept=out.with_name(f"{out.name}.trials"),
        settings=fixed,
        catalogue=items,
        users=users,
        kinds=options.kinds_option(kind),
        say=say,
    )
    with replacing(out) as part:
        part.write_text(found.to_toml(titled(log.source, minutes)), encoding="utf-8")
    typer.echo(f"{out}: {found}")


@contextmanager
def _resumable(kept: Path, console: Console) -> Iterator[None]:
    """Say, when a run is interrupted, where its checkpoint is and how the run continues."""
    try:
        yield
    except KeyboardInterrupt:
        if kept.exists():
            console.print(f"Interrupted: {kept} keeps the run so far; add --resume to go on with it.", soft_wrap=True)
        raise


def _notes(log: Events) -> list[str]:
    """Return what a reader of the log must know at once: the guessed columns and what was left out."""
    chosen = ", ".join(f"{role} = {column}" for role, column in log.intake.columns.items())
    dropped = [f"left out: {count:,} rows, {why}" for why, count in log.intake.dropped.items()]
    return [f"{log.source}: {len(log):,} events; {chosen}", *dropped, *log.intake.notes]


@verbs.command()
@options.reads_log
def evaluate(
    model: options.Model,
    events: options.Log,
    in_sample: Annotated[
        bool, typer.Option("--in-sample", help="Measure on rows that the model was trained on, too.")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(help="next: lists; rating: predicted ratings; as trained if not given."),
    ] = None,
    at_event: Annotated[
        bool, typer.Option("--at-event", help="Request each list at the time of its event, as a server does.")
    ] = False,
    targets: Annotated[
        str,
        typer.Option(
            help="Held-out events that are predicted: all, first or last of each user, prefixes (of sessions)."
        ),
    ] = "all",
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Read the held-out events on in the order of time, beside baselines that learn online."
        ),
    ] = False,
    users: options.Users = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            help="Names, such as markov,own, or none; all that suit the log if not given. Tuned settings are kept in "
            "MODEL.baselines.json."
        ),
    ] = None,
    *,
    columns: options.LogColumns,
    as_json: options.AsJson = False,
) -> None:
    """Measure a model on the rows it held out, beside baselines."""
    if task not in (None, "next", "rating"):
        raise typer.BadParameter("--task is next or rating")
    rec = load_model(model)
    task = task or ("rating" if rec.config.train.task == "rating" else "next")
    if at_event and task == "rating":
        raise typer.BadParameter("--at-event is for --task next; ratings are always predicted at their times")
    if stream and (at_event or in_sample or task == "rating"):
        raise typer.BadParameter("--stream is for --task next; it goes without --at-event and --in-sample")
    words = words_of(baselines)
    if targets not in get_args(Targets):
        raise typer.BadParameter(f"--targets is one of {', '.join(get_args(Targets))}")
    if targets != "all" and (stream or task == "rating"):
        raise typer.BadParameter("--targets is for lists; with --stream or --task rating all events are predicted")
    if words and (stream or task == "rating"):
        raise typer.BadParameter("--baselines names those of lists; with --stream or --task rating: none or all")
    rows = held_out_rows(rec.facts, columns.read(events, of=rec), in_sample=in_sample)
    train = None if words == () else rows.train
    typer.echo(f"Measuring {len(rows.test):,} events." + (" The baselines are tuned first." if train else ""), err=True)
    say = partial(typer.echo, err=True)
    lists: Any = partial(
        segue.evaluate,
        request_time="event" if at_event else "unknown",
        targets=cast(Targets, targets),
        baselines=words,
        keep=model.with_name(f"{model.name}.baselines.json"),
        say=None if sys.stderr.isatty() else say,
    )
    measure = lists if task == "next" else segue.evaluate_ratings
    if stream:
        measure = partial(segue.evaluate_stream, say=say)
    report = measure(rec, rows.test, train=train, users=users, notes=rows.notes)
    if as_json:
        options.print_json(report.to_dict())
    else:
        typer.echo(str(report))
