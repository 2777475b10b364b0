"""Where the numbers of a training or a search go: a file of JSON lines, MLflow, or TensorBoard.

`RunLog` hands what a run reports to one of three writers. A writer that fails costs no training: `RunLog` says so once,
keeps what was not written, and tries again at the end.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from segue.errors import ArgumentError, nearest
from segue.files import check_file

if TYPE_CHECKING:
    from segue.training.trainer import Progress

Values = Mapping[str, Any]
#: Folder of the runs of TensorBoard; `tensorboard --logdir runs` shows them.
RUNS = Path("runs")
#: Seconds that MLflow waits for a server, and how often it asks again; its own defaults hold a training for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class Writer(Protocol):
    """What writes the numbers of one run; each call may raise."""

    def begin(self, name: str, settings: Values) -> None:
        """Open the run of that name; `settings` are those that were asked for, by path."""

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Write the metrics of an epoch, counted from 1."""

    def trial(self, number: int, state: str, settings: Values, metrics: Mapping[str, float | None]) -> None:
        """Write a trial of a search; a metric is None where the trial was stopped."""

    def end(self, settings: Values, tags: Mapping[str, str], *, whole: bool) -> None:
        """Write the settings that the run derived, and what the run made; then close. `whole`: not interrupted."""


class JsonLines:
    """Appends an object to a file for each epoch or trial."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, name: str, settings: Values) -> None:
        """Write nothing: each line is an epoch or a trial."""

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Write one object."""
        self._write({"epoch": number, **values})

    def trial(self, number: int, state: str, settings: Values, metrics: Mapping[str, float | None]) -> None:
        """Write one object."""
        self._write({"trial": number, "state": state, **metrics, "settings": settings})

    def end(self, settings: Values, tags: Mapping[str, str], *, whole: bool) -> None:
        """Write nothing."""

    def _write(self, values: Values) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


class MlflowRun:
    """A run of MLflow, in the store and the experiment that `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` name.

    The trials of a search are runs within the run.
    """

    def __init__(self) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        import mlflow

        self.mlflow: Any = mlflow

    def begin(self, name: str, settings: Values) -> None:
        """Start a run with the settings as parameters."""
        if self.mlflow.active_run() is None:
            self.mlflow.start_run(run_name=name)
        self.mlflow.log_params(dict(settings))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log metrics with the epoch as their step."""
        self.mlflow.log_metrics(_named(values), step=number)

    def trial(self, number: int, state: str, settings: Values, metrics: Mapping[str, float | None]) -> None:
        """Log a run within the run."""
        with self.mlflow.start_run(run_name=f"trial {number}", nested=True):
            self.mlflow.log_params(dict(settings))
            self.mlflow.set_tag("state", state)
            self.mlflow.log_metrics(_named(metrics))

    def end(self, settings: Values, tags: Mapping[str, str], *, whole: bool) -> None:
        """Log parameters and tags, and end the run."""
        self.mlflow.log_params(dict(settings))
        self.mlflow.set_tags(dict(tags))
        self.mlflow.end_run("FINISHED" if whole else "KILLED")


def _named(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the known metrics by names that both allow, "ndcg_at_10" for "ndcg@10"."""
    return {name.replace("@", "_at_"): value for name, value in values.items() if value is not None}


class TensorBoardRun:
    """A folder below `runs`; each trial of a search has a folder of its own, so that their settings are compared."""

    def __init__(self) -> None:
        from tensorboardX import SummaryWriter
        from tensorboardX.summary import hparams

        self.open: Any = SummaryWriter
        self.hparams: Any = hparams
        self.last: dict[str, float] = {}

    def begin(self, name: str, settings: Values) -> None:
        """Open the folder; `settings` are written at the end, with those that are derived."""
        self.folder = RUNS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.board, self.settings = self.open(str(self.folder)), dict(settings)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Write a scalar for each metric, with the epoch as its step."""
        self.last = _named(values)
        for name, value in self.last.items():
            self.board.add_scalar(name, value, number)
        self.board.flush()

    def trial(self, number: int, state: str, settings: Values, metrics: Mapping[str, float | None]) -> None:
        """Write a folder with the settings of the trial as its hyperparameters."""
        with self.open(str(self.folder / f"trial-{number}")) as board:
            self._add_settings(board, {**settings, "state": state}, _named(metrics))
            for name, value in _named(metrics).items():
                board.add_scalar(name, value)

    def end(self, settings: Values, tags: Mapping[str, str], *, whole: bool) -> None:
        """Write the settings as hyperparameters and the tags as texts."""
        self._add_settings(self.board, {**self.settings, **settings}, self.last)
        for name, text in tags.items():
            self.board.add_text(name, text)
        self.board.close()

    def _add_settings(self, board: Any, settings: Values, metrics: Mapping[str, float]) -> None:
        """Add hyperparameters; `add_hparams` of the library would open a second file."""
        plain = {
            path: each if isinstance(each, bool | int | float | str) else str(each) for path, each in settings.items()
        }
        for part in self.hparams(plain, metrics):
            board.file_writer.add_summary(part)


class RunLog(AbstractContextManager["RunLog"]):
    """Hands the numbers of a run to a writer: `with RunLog(writer, say) as log: train(..., report=log.epoch)`.

    Args:
        writer: None writes nothing.
        say: called with a sentence where the writer fails, once.
    """

    def __init__(self, writer: Writer | None, say: Callable[[str], None]) -> None:
        self.writer, self.say, self.failed = writer, say, False
        self.waiting: list[Callable[[Writer], None]] = []
        self.asked: Values = {}
        self.ended = False

    def begin(self, name: str, settings: Values) -> None:
        """Open the run; `settings` are those that were asked for."""
        self.asked = settings
        self._tell(lambda writer: writer.begin(name, settings))

    def epoch(self, report: "Progress") -> None:
        """Write the metrics where a report closes an epoch."""
        if report.epoch_ended:
            values = {"loss": report.loss, "seconds": report.seconds, "events_per_second": report.events_per_second}
            values |= report.validation
            self._tell(lambda writer: writer.epoch(report.epoch + 1, values))

    def trial(self, values: Values) -> None:
        """Write a trial of a search."""
        metrics = {"ndcg@10": values["ndcg@10"]}
        self._tell(lambda writer: writer.trial(values["trial"], values["state"], values["settings"], metrics))

    def end(self, settings: Values, tags: Mapping[str, str], *, whole: bool = True) -> None:
        """Write all settings and what the run made, and close the run."""
        self.ended = True
        derived = {path: value for path, value in settings.items() if path not in self.asked}
        self._tell(lambda writer: writer.end(derived, tags, whole=whole))

    def __exit__(self, *error: object) -> None:
        if not self.ended:
            self.end({}, {}, whole=False)
        if self.waiting and self._flushed():
            self.say("--log: what waited is written now.")

    def _tell(self, call: Callable[[Writer], None]) -> None:
        if self.writer is not None:
            self.waiting.append(call)
            if not self.failed and not self._flushed():
                self.failed = True

    def _flushed(self) -> bool:
        """Make the calls that wait, in order; say why where one fails."""
        assert self.writer is not None
        try:
            while self.waiting:
                self.waiting[0](self.writer)
                del self.waiting[0]
        except Exception as error:  # whatever it is, the run is worth more than its log
            why = (str(error).splitlines() or [""])[0][:300]
            rest = "lost" if self.failed else "kept, and written at the end if that is possible then. The run goes on"
            self.say(
                f"--log: {len(self.waiting)} entries could not be written ({type(error).__name__}: {why}): {rest}."
            )
            return False
        return True


#: Writers by the word of `--log`: the package that each needs, and its extra.
_WRITERS: dict[str, tuple[type[Any], str]] = {
    "mlflow": (MlflowRun, "mlflow"),
    "tensorboard": (TensorBoardRun, "tensorboardX"),
}


def writer_of(text: str | None) -> Writer | None:
    """Return the writer of `--log`: "mlflow", "tensorboard", or a file; None for none.

    Raises:
        ArgumentError: the package is not installed, the file cannot be written, or the text is a word without an ending
            that is none of the two.
    """
    if text is None:
        return None
    if text in _WRITERS:
        kind, package = _WRITERS[text]
        if find_spec(package) is None:
            raise ArgumentError(
                f'--log {text}: expected the package {package}, it is not installed. Run: pip install "segue[{text}]"'
            )
        writer: Writer = kind()
        return writer
    path = Path(text)
    if not path.suffix:
        like = nearest(text, _WRITERS)
        hint = f' Did you mean "{like}"?' if like else " Give the file an ending."
        raise ArgumentError(f'--log: expected mlflow, tensorboard, or a file such as run.jsonl, came "{text}".{hint}')
    check_file(path, "--log")
    return JsonLines(path)
