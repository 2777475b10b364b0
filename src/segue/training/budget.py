"""Where the time of a run goes, and what is left of what it was given.

Knows: a clock, the seconds of a budget, what each part took. Does not know: what the parts do.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from segue.data.sequences import Sequences
from segue.model.counts import REACH

#: What is kept back for a part that was not measured yet, and at most for the blend with counts, as shares of the budget.
UNMEASURED, BLEND = 0.05, 0.15
#: Scores and counted pairs a second on two cores, about: how long tuning the blend takes on all that it would look at.
_SCORES_A_SECOND, _PAIRS_A_SECOND = 2e8, 3e7
#: Seconds between two lines on a part that takes long.
_LINES = 5.0


@dataclass
class Budget:
    """A stopwatch with a limit, from when it was made.

    Args:
        seconds: what the whole run may take; None for no limit.
        clock: seconds from anywhere.
        earlier: seconds that a resumed run was trained for before; they are spent of the budget.
        kept: seconds kept back for what comes after the training, but for the validation at its end.
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
        if self.seconds is None:
            return float("inf")
        validation = self.parts.get("one validation", UNMEASURED * self.seconds)
        return self.left() - self.kept - validation

    def __str__(self) -> str:
        """What became of the budget, in a sentence; empty without a limit."""
        if self.seconds is None:
            return ""
        spent = self.spent()
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.parts.items() if name != "one validation")
        before = f", {self.earlier:.0f} of them before it was resumed" if self.earlier else ""
        said = f"Took {spent:.1f} of {self.seconds:.1f} s{before} ({parts})"
        over = spent - self.seconds
        if over <= 0.02 * self.seconds:
            return f"{said}."
        longest = max((name for name in self.parts if name != "updates"), key=lambda name: self.parts[name], default="")
        why = {"compiling": "compiling cannot be interrupted", "reading": "reading cannot be interrupted"}
        return f"{said}: {over:.1f} s over, for {why.get(longest, f'{longest} took longest')}. Give train.minutes more."


def blend_seconds(known: Sequences, questions: int, size: int, trials: int, most: float) -> float:
    """Return about how long tuning the blend takes if nothing cuts it short: `trials` of `most` scores together."""
    scores = min(2 * most, trials * float(questions) * size)
    return scores / _SCORES_A_SECOND + 7 * REACH * len(known.items) / _PAIRS_A_SECOND


class Every:
    """Says lines on a part that takes long, at most one every few seconds."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._say, self._clock, self._latest = say, clock, clock()

    def __call__(self, text: str) -> None:
        """Say a line, unless one was said just before."""
        if self._clock() - self._latest >= _LINES:
            self._latest = self._clock()
            self._say(text)
