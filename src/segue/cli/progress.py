"""The progress of a training run: a bar in a terminal, plain lines elsewhere."""

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from segue.training.trainer import Progress as Report


class TrainingView:
    """Shows reports of a trainer: `with TrainingView(console) as view: train(..., report=view)`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%  loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[score]}  {task.fields[rate]:,.0f} events/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.first: Report | None = None
        self.task = self.bar.add_task("train", total=None, epoch=1, loss=float("nan"), score="-", rate=0.0)

    def __enter__(self) -> "TrainingView":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def __call__(self, report: "Report") -> None:
        """Show one report."""
        self.first = self.first or report
        names = {"ndcg@10": "NDCG@10", "rmse": "RMSE"}
        scores = [f"{word} {report.validation[name]:.4f}" for name, word in names.items() if name in report.validation]
        shown = ", ".join(scores) or "-"
        self.bar.update(
            self.task,
            total=report.total,
            completed=report.done,
            epoch=report.epoch + 1,
            loss=report.loss,
            score=shown,
            rate=report.events_per_second,
        )
        if report.epoch_ended and not self.console.is_terminal:
            self.console.print(
                f"epoch {report.epoch + 1}: loss {report.loss:.3f}, validation {shown}, "
                f"{report.events_per_second:,.0f} events/s, {report.seconds:.0f} s{self._left(report)}",
                soft_wrap=True,
            )

    def _left(self, report: "Report") -> str:
        """Return the remaining time at the pace since the first report; the time before it was mostly compiling."""
        assert self.first is not None
        done = report.done - self.first.done
        if not done:
            return ""
        pace = (report.seconds - self.first.seconds) / done
        return f", {pace * max(report.total - report.done, 0):.0f} s left"
