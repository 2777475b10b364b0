"""Where the time of a run goes, and what is left of what it was given.

Knows: a clock, the seconds of a budget, what each part took. Does not know: what the parts do.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from segue.model.transitions import REACH

#: Kept back at most for the first validation, and for the blend with counts, as shares of the budget.
VALIDATION, BLEND = 0.15, 0.15
#: Events that a validation reads in the time in which training learns one, at least.
FORWARD = 5.0
#: Events that a validation reads at least, whatever is left: of fewer a blend with counts cannot be chosen.
LEAST = 10_000
#: Scores and counted pairs a second on two cores, about: how long tuning the blend takes on all that it would look at.
_SCORES_A_SECOND, _PAIRS_A_SECOND = 2e8, 3e7
#: At most so many scores and events of a search (`segue.training.blend`), and so many settings of the shortest.
_SCORES, _EVENTS, _FEW = 6e9, 1e7, 20
#: Seconds between two lines on a part that takes long.
_LINES = 5.0


@dataclass
class Budget:
    """A stopwatch with a limit, from when it was made.

    Args:
        seconds: what the whole run may take; None for no limit.
        clock: seconds from anywhere.
        earlier: seconds that a resumed run was trained for before; they are spent of the budget.
        kept: seconds kept back for what comes after.
        validation: seconds that a validation takes, as far as that is known by now.
        parts: seconds by what they went to, in the order of their beginnings.

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
        """Return the seconds since the beginning, and those of training before it."""
        return self.earlier + self.clock() - self.begun

    def left(self) -> float:
        """Return the seconds left, below 0 where it is overrun; infinity without a limit."""
        return float("inf") if self.seconds is None else self.seconds - self.spent()

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Add what happens inside to a part."""
        before = self.clock()
        try:
            yield
        finally:
            self.add(part, self.clock() - before)

    def add(self, part: str, seconds: float) -> None:
        """Add seconds to a part."""
        self.parts[part] = self.parts.get(part, 0.0) + seconds

    def for_training(self) -> float:
        """Return the seconds left for updates: less what comes after them, as far as that is known by now."""
        return self.left() - self.kept - self.validation

    def __str__(self) -> str:
        """What became of the budget, in a sentence; empty without a limit."""
        if self.seconds is None:
            return ""
        spent = self.spent()
        other = spent - self.earlier - sum(self.parts.values())
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in (*self.parts.items(), ("other", other)))
        before = f", {self.earlier:.0f} of them before it was resumed" if self.earlier else ""
        said = f"Took {spent:.1f} of {self.seconds:.1f} s{before} ({parts})"
        over = spent - self.seconds
        if over <= 0.02 * self.seconds:
            return f"{said}."
        fixed = [name for name in ("reading", "encoding", "compiling") if self.parts.get(name, 0.0) > over / 4]
        why = (
            f"{' and '.join(fixed)} cannot be interrupted" if fixed else "what came last took longer than was foreseen"
        )
        return f"{said}: {over:.1f} s over, for {why}. Raise train.minutes to {1.2 * spent / 60:.2g} or more."


def blend_seconds(events: int, questions: int, size: int, *, least: bool = False) -> float:
    """Return about how long tuning the blend takes if nothing cuts it short, or the least that it takes.

    Args:
        events: that are counted.
        questions: of validation.
        size: rows of the catalogue.
        least: a few settings on few questions.
    """
    scores, counts = (_FEW * min(questions, 200) * size, 2) if least else (min(_SCORES, 150.0 * questions * size), 7)
    return scores / _SCORES_A_SECOND + counts * REACH * min(events, _EVENTS) / _PAIRS_A_SECOND


class Every:
    """Says lines on a part that takes long, at most one every few seconds."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._say, self._clock, self._latest = say, clock, clock()

    def __call__(self, text: str) -> None:
        """Say a line, unless one was said just before."""
        if self._clock() - self._latest >= _LINES:
            self._latest = self._clock()
            self._say(text)
