"""The verbs `train`, `tune` and `evaluate`."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from rich.console import Console

import segue
from segue.addresses import hidden
from segue.cli import options
from segue.cli.models import index_if_large
from segue.cli.progress import TrainingView
from segue.config import asked_of, by_path, configure, parse_settings, read_config
from segue.data.log.events import Events
from segue.data.log.split import digest
from segue.evaluation.comparison_report.gate import condition_of, failures
from segue.evaluation.comparison_report.report import check_figures
from segue.evaluation.held_out import held_out_by_all
from segue.evaluation.protocols import Targets
from segue.evaluation.registry import words_of
from segue.files import check_file, remove, replacing
from segue.jobs.tune import titled
from segue.jobs.tune import tune as search_settings
from segue.recommend.recommender import load_model
from segue.training.run_log import RunLog, writer_of

if TYPE_CHECKING:
    from segue.training.trainer import Progress

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
    workers: Annotated[
        int | None, typer.Option(help="Processes that train together. Needs the extra ray.", min=1)
    ] = None,
    address: options.ClusterAt = None,
    log_to: options.LogTo = None,
    *,
    columns: options.LogColumns,
) -> None:
    """Train a model on a log."""
    asked = {"train.task": task} if task else {}
    wanted = configure((read_config(config) if config else {}) | parse_settings(settings or []) | asked)
    check_file(out, "-o")
    writer = writer_of(log_to)
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
    with _resumable(kept, console), TrainingView(console) as view, RunLog(writer, say) as lines:
        lines.begin(out.stem, asked_of(wanted))

        def report(at: "Progress") -> None:
            view(at)
            lines.epoch(at)

        rec = segue.train(
            log,
            catalogue=items,
            users=users,
            kinds=options.kinds_option(kind),
            config=wanted,
            checkpoint=kept,
            resume=resume,
            report=report,
            say=say,
            facts=facts,
            workers=workers,
            address=address,
        )
        rec.save(out)
        lines.end(by_path(asdict(rec.config)), {"model": rec.fingerprint, "log": log.source, "log digest": digest(log)})
    remove(kept)
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
    log_to: options.LogTo = None,
    *,
    columns: options.LogColumns,
) -> None:
    """Search settings on validation, beside the defaults. Run again, the search goes on. Needs the extra optuna."""
    fixed = (read_config(config) if config else {}) | parse_settings(settings or [])
    configure(fixed)
    check_file(out, "-o")
    writer = writer_of(log_to)
    log = columns.read(events)
    say = partial(typer.echo, err=True)
    for line in _notes(log):
        say(line)
    log = segue.hold_out(log, hold_out)[0] if hold_out else log
    with RunLog(writer, say) as lines:
        lines.begin(out.stem, asked_of(configure(fixed)))
        found = search_settings(
            log,
            minutes=minutes,
            kept=out.with_name(f"{out.name}.trials"),
            settings=fixed,
            catalogue=items,
            users=users,
            kinds=options.kinds_option(kind),
            say=say,
            note=lines.trial,
        )
        lines.end(found.settings, {"result": str(found)})
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
    models: Annotated[
        list[Path],
        typer.Argument(help="A model that segue train wrote, or several to compare.", metavar="MODEL..."),
    ],
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
    report: Annotated[
        Path | None, typer.Option(help="File of a page with intervals, slices and users; needs no other file.")
    ] = None,
    report_json: Annotated[
        Path | None, typer.Option(help="File of all numbers of the page; beside the page if not given.")
    ] = None,
    report_users: Annotated[int, typer.Option(help="Users that the page shows; 0 for none.", min=0)] = 40,
    fail_if: options.FailIf = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE: lists of another library beside the models, a table with user, item, and rank or score."
        ),
    ] = None,
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
    """Measure models on the rows that they held out, beside baselines: exit 0, or 3 where --fail-if holds."""
    if task not in (None, "next", "rating"):
        raise typer.BadParameter("--task is next or rating")
    recs = {name: load_model(path) for name, path in _named(models).items()}
    first = next(iter(recs.values()))
    task = task or ("rating" if first.config.train.task == "rating" else "next")
    beside = _lists(lists or [], recs)
    several = len(recs) > 1 or bool(beside) or report is not None or report_json is not None
    if at_event and task == "rating":
        raise typer.BadParameter("--at-event is for --task next; ratings are always predicted at their times")
    if stream and (at_event or in_sample or task == "rating"):
        raise typer.BadParameter("--stream is for --task next; it goes without --at-event and --in-sample")
    if several and stream:
        raise typer.BadParameter("several models, --lists and --report go without --stream")
    if beside and task == "rating":
        raise typer.BadParameter("--lists goes with --task next")
    words = words_of(baselines)
    if targets not in get_args(Targets):
        raise typer.BadParameter(f"--targets is one of {', '.join(get_args(Targets))}")
    if targets != "all" and (stream or task == "rating"):
        raise typer.BadParameter("--targets is for lists; with --stream or --task rating all events are predicted")
    if words and (stream or task == "rating"):
        raise typer.BadParameter("--baselines names those of lists; with --stream or --task rating: none or all")
    conditions = [condition_of(text) for text in fail_if or ()]
    written = _files(report, report_json)
    log = columns.read(events, of=first)
    rows = held_out_by_all({name: rec.facts for name, rec in recs.items()}, log, in_sample=in_sample)
    tuned = "" if words == () else " The baselines are tuned first."
    typer.echo(f"Measuring {len(rows.test):,} events.{tuned}", err=True)
    say = partial(typer.echo, err=True)
    measured: Any = first
    how: dict[str, Any] = {"train": None if words == () else rows.train, "users": users, "notes": rows.notes}
    measure: Any = segue.evaluate_ratings
    if stream:
        measure = partial(segue.evaluate_stream, say=say)
    elif task == "next":
        kept = models[0].with_name(f"{models[0].name}.baselines.json")
        measure = partial(segue.evaluate, baselines=words, keep=kept, targets=cast(Targets, targets))
        how |= {"train": rows.train, "request_time": "event" if at_event else "unknown"}
        how |= {"say": None if sys.stderr.isatty() else say}
    if several:
        measured, how = recs | beside, how | {"log": log, "command": _command()}
        how |= {"cases": report_users} if task == "next" else {}
    found = measure(measured, rows.test, **how)
    for path, what in written.items():
        found.write(path)
        typer.echo(f"{path}: {what}.", err=True)
    if as_json:
        options.print_json(found.to_dict())
    else:
        typer.echo(str(found))
    options.end_if(failures(conditions, found.to_dict()["models"] if stream else found.rows))


def _named(models: list[Path]) -> dict[str, Path]:
    """Return model files by the names of a report: those of the files, or their paths where two are alike."""
    stems = [path.stem for path in models]
    if len(set(models)) < len(models):
        raise typer.BadParameter("each model is given once")
    return {stem if stems.count(stem) == 1 else str(path): path for stem, path in zip(stems, models, strict=True)}


def _lists(given: list[str], recs: Mapping[str, Any]) -> dict[str, Any]:
    """Return files of lists by name: NAME of NAME=FILE, or that of the file."""
    found: dict[str, Any] = {}
    for text in given:
        name, _, path = text.rpartition("=")
        name = name or Path(path).stem
        if name in recs or name in found:
            raise typer.BadParameter(f"--lists: {name} is given twice; write NAME=FILE with another name")
        found[name] = path
    return found


def _files(report: Path | None, report_json: Path | None) -> dict[Path, str]:
    """Return the files to write with what they are, checked before the long work."""
    written = {}
    if report is not None:
        check_figures()
        check_file(report, "--report", ".html")
        written[report] = "the report, one page"
        report_json = report_json or report.with_suffix(".json")
    if report_json is not None:
        check_file(report_json, "--report-json", ".json")
        written[report_json] = "the numbers of the report"
    return written


def _command() -> str:
    """Return the command that was given, without passwords."""
    return hidden(shlex.join(["segue", *sys.argv[1:]]), sys.argv)
