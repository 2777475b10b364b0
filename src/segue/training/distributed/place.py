"""Where a training runs: in this process, or in several workers."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from segue.config import Config
from segue.data.sequences.sequences import Sequences, mapped
from segue.errors import ArgumentError
from segue.files import remove
from segue.model.network import Network
from segue.training.budget import Budget
from segue.training.distributed.cluster import Workers, train_on
from segue.training.trainer import Progress, Trained, Trainer, fit
from segue.training.validation import Answers, Validation

#: From so many events on, the sequences of a training lie on disk, read through a memory map.
MAPPED_EVENTS = 20_000_000


class RunPlace(NamedTuple):
    """Where a run goes on and how it tells of itself.

    Args:
        workers: to train with; None for this process.
        checkpoint: its file, or folder with workers; None keeps it while the run goes on.
        resume: go on from the checkpoint.
        report: called with the progress.
        say: called with lines to show.
    """

    workers: Workers | None
    checkpoint: str | Path | None
    resume: bool
    report: Callable[[Progress], None] | None
    say: Callable[[str], None]


def workers_of(number: int | None, address: str | None) -> Workers | None:
    """Return the workers that were asked for; None for this process.

    Raises:
        ArgumentError: the number is missing or below 1.
    """
    if number is None and address is None:
        return None
    if number is None or number < 1:
        raise ArgumentError(f"--workers: expected a number from 1, came {number}. Give --workers 2, or leave it out.")
    return Workers(number, address)


def run(
    network: Network,
    settings: Config,
    learnt: Sequences,
    validation: Validation,
    rest: tuple[Any, Any, Budget],
    place: RunPlace,
) -> tuple[Trained, Answers | None]:
    """Train to the end and return the weights, and the answers on validation; None for a model of ratings alone.

    `rest` are the trainer's attributes, ratings and budget.

    Raises:
        ArgumentError: the checkpoint to resume is of the other kind of run; see also `train_on`.
        TrainingError: see `Trainer.epochs` and `train_on`.
    """
    workers, ranked = place.workers, settings.train.task != "rating"
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(place.checkpoint) if place.checkpoint else Path(folder) / "run.checkpoint"
        _check_kind(kept, alone=workers is None, resume=place.resume)
        if len(learnt.items) >= MAPPED_EVENTS:
            learnt = mapped(learnt, Path(folder))
        watched = validation if len(validation.sequences) else None
        if workers is not None:
            how: Any = {"resume": place.resume, "report": place.report, "say": place.say}
            trained = train_on(workers, network, settings, learnt, watched, rest, kept, **how)
            params = trained.params if rest[0] is None else network.with_attributes(trained.params, rest[0])
            return trained, watched.answers(network, params) if watched and ranked else None
        trainer = Trainer(network, settings, learnt, watched, kept, *rest)
        if place.resume:
            resumed = trainer.resume()
            place.say(f"{kept}: " + (f"continuing at epoch {trainer.at.epoch + 1}." if resumed else "no such file."))
        trained = fit(trainer, report=place.report)
        return trained, trainer.answers() if ranked else None


def _check_kind(kept: Path, *, alone: bool, resume: bool) -> None:
    """Remove a checkpoint of the other kind of run, or refuse to resume it."""
    if not kept.exists() or kept.is_dir() != alone:
        return
    if resume:
        raise ArgumentError(
            f"{kept}: expected the checkpoint of a run {'without' if alone else 'with'} workers, came one "
            f"{'with' if alone else 'without'}. Give --workers as that run had it, or leave out --resume."
        )
    remove(kept)
