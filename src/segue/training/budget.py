"""The time budget of a run: what each part took, and what is left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from segue.model.transitions import REACH

#: Shares of the budget kept back at most, for the first validation and for tuning the blend.
VALIDATION, BLEND = 0.15, 0.15
#: Events that validation reads in the time in which training learns one, at least.
FORWARD = 5.0
#: Events that validation reads at least, whatever time is left: with fewer, no blend can be chosen.
LEAST = 10_000
#: Scores and counted pairs a second on two cores, about; they tell how long tuning the blend takes.
_SCORES_A_SECOND, _PAIRS_A_SECOND = 2e8, 3e7
#: Scores and events of a search (`segue.training.blend`) at most; settings of the shortest search.
_SCORES, _EVENTS, _FEW = 6e9, 1e7, 20
#: Seconds between two progress lines of a long part.
_LINES = 5.0


@dataclass
class Budget:
    """A stopwatch with a limit; it starts when it is made.

    Args:
        seconds: limit of the whole run; None for no limit.
        clock: seconds from an arbitrary start.
        earlier: seconds that a resumed run was trained before; they count as spent.
        kept: seconds kept back for the work after training.
        validation: seconds of a validation, as far as known.
        parts: seconds of each part, in the order in which they began.

    Example:
        >>> now = iter([0.0, 1.0, 5.0, 7.0])
        >>> budget = Budget(10.0, clock=lambda: next(now))
        >>> with budget.measured("reading"):
        ...     pass
        >>> budget.left(), budget.parts
        (3.0, {'reading': 4.0})
    """

    seconds: float | None = None
    clock: Callable[[], float] = time.perf_counter
    earlier: float = 0.0
    kept: float = 0.0
    validation: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def spent(self) -> float:
        """Return the seconds since the start, and those of training before it."""
        return self.earlier + self.clock() - self.begun

    def left(self) -> float:
        """Return the seconds left, below 0 if overrun; infinity without a limit."""
        return float("inf") if self.seconds is None else self.seconds - self.spent()

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Add the time of a `with` block to a part."""
        before = self.clock()
        try:
            yield
        finally:
            self.add(part, self.clock() - before)

    def add(self, part: str, seconds: float) -> None:
        """Add seconds to a part."""
        self.parts[part] = self.parts.get(part, 0.0) + seconds

    def for_training(self) -> float:
        """Return the seconds left for updates, without those of the work after them."""
        return self.left() - self.kept - self.validation

    def __str__(self) -> str:
        """How the budget was used, in one sentence; empty without a limit."""
        if self.seconds is None:
            return ""
        spent = self.spent()
        other = spent - self.earlier - sum(self.parts.values())
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in (*self.parts.items(), ("other", other)))
        before = f", {self.earlier:.0f} s of it before the run was resumed" if self.earlier else ""
        took = f"Took {spent:.1f} of {self.seconds:.1f} s{before} ({parts})"
        over = spent - self.seconds
        if over <= 0.02 * self.seconds:
            return f"{took}."
        fixed = [name for name in ("reading", "encoding", "compiling") if self.parts.get(name, 0.0) > over / 4]
        why = f"{' and '.join(fixed)} cannot be interrupted" if fixed else "the last part took longer than estimated"
        return f"{took}: {over:.1f} s over, because {why}. Raise train.minutes to {1.2 * spent / 60:.2g} or more."


def blend_seconds(events: int, questions: int, size: int, *, least: bool = False) -> float:
    """Return about how many seconds tuning the blend takes, or the least that it takes.

    Args:
        events: to count.
        questions: of validation.
        size: rows of the catalogue.
        least: a few settings on few questions.
    """
    scores, counts = (_FEW * min(questions, 200) * size, 2) if least else (min(_SCORES, 150.0 * questions * size), 7)
    return scores / _SCORES_A_SECOND + counts * REACH * min(events, _EVENTS) / _PAIRS_A_SECOND


class Every:
    """Prints progress lines of a long part, at most one every few seconds."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._say, self._clock, self._latest = say, clock, clock()

    def __call__(self, text: str) -> None:
        """Print a line, unless another was printed just before."""
        if self._clock() - self._latest >= _LINES:
            self._latest = self._clock()
            self._say(text)
