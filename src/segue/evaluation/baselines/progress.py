"""The progress of tuning baselines: a bar in a terminal or a notebook, nothing elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class TuningStep(NamedTuple):
    """How far the tuning of baselines is.

    Args:
        title: the baseline that is tuned.
        number: which it is, from 1.
        of: how many baselines there are.
        trials: how many of its settings were tried.
        most: how many are tried at most; a search that finds nothing better ends before.
    """

    title: str
    number: int
    of: int
    trials: int
    most: int


@contextmanager
def tuning_bar(wanted: bool = True) -> Iterator[Callable[[TuningStep], None] | None]:
    """Yield what shows each step as a bar on stderr; None where nobody looks, or it is not wanted."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not wanted or not (console.is_terminal or console.is_jupyter):
        yield None
        return
    bar = Progress(
        TextColumn("baseline {task.fields[number]} of {task.total}: {task.fields[title]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[trials]} trials"),
        TimeElapsedColumn(),
        TextColumn("about"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("left"),
        console=console,
        transient=True,
    )
    parts: dict[int, float] = {}  # several are tuned at the same time
    task = bar.add_task("tune", total=None, visible=False, number=0, title="", trials=0)

    def show(step: TuningStep) -> None:
        parts[step.number] = step.trials / max(step.most, 1)
        named: dict[str, Any] = {"number": step.number, "title": step.title, "trials": step.trials}
        bar.update(task, total=step.of, completed=sum(parts.values()), visible=True, refresh=True, **named)

    with bar:
        yield show
