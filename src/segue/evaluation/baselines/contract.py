"""The contract of every baseline."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError
from segue.shapes import Floats, Rows

Grid = Mapping[str, tuple[Any, ...]]


@runtime_checkable
class Fitted(Protocol):
    """A fitted baseline: it scores any history, also of a new user."""

    @property
    def baseline(self) -> "Baseline":
        """The settings it was fitted with."""
        ...

    @property
    def name(self) -> str:
        """The name for a report, with the settings."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        ...

    def score(self, histories: Sequence[Rows]) -> Floats:
        """Return the score of every item for each history; higher is better.

        Seen items are scored like all others: the caller excludes or allows them.

        Args:
            histories: for each query int32[event], vocabulary rows, oldest first; rows 0 are ignored.

        Returns:
            float32[query, item], dense; column 0 (*unknown*) is -inf.

        Raises:
            ArgumentError: a row of a history is negative or not a column of the scores.
        """
        ...

    def read_by(self, baseline: "Baseline") -> "Fitted":
        """Return the same, its histories read by other settings; see `Baseline.learns_like`. O(1)."""
        ...


@dataclass(frozen=True)
class Baseline(ABC):
    """The settings of a baseline; `fit` learns from sequences what `Fitted.score` needs, in two steps.

    `count` is the dear step. It reads the log and few settings, so that many settings are tried on the same counts.
    `of_counts` makes a fitted baseline of them.

    A baseline is a frozen dataclass that can be made without arguments.

    Class attributes:
        title: the name without settings.
        word: the name on a command line; empty for the title.
        grid: for each setting worth tuning, the values to try.
        reading: the settings that say how a history is read, and nothing of what is learnt: `window` (how
            many events) and `half_life` (the lag in events at which an event counts half).
        repeats: whether it is useful only where seen items are allowed.
    """

    title: ClassVar[str]
    word: ClassVar[str] = ""
    grid: ClassVar[Grid] = {}
    reading: ClassVar[frozenset[str]] = frozenset()
    repeats: ClassVar[bool] = False

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self)

    @property
    def name(self) -> str:
        """The name for a report, with the settings."""
        settings = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        return f"{self.title} ({settings})" if settings else self.title

    @property
    def counting(self) -> tuple[Any, ...]:
        """What `count` reads of the settings; where it is equal, counts are equal."""
        return ()

    @classmethod
    def obstacle(cls, n_items: int, features: Floats | None = None) -> str | None:
        """Return why it cannot be fitted here, a sentence for the reader of a report; None when it can."""
        return None

    @classmethod
    def operations(cls, events: int, n_items: int) -> float:
        """Return about how much work a fit is, in additions of a sparse product."""
        return 20.0 * events

    def learns_like(self, other: "Baseline") -> bool:
        """Return whether both learn the same and differ at most in how they read a history."""
        mine, yours = self.settings, other.settings
        return type(self) is type(other) and all(mine[name] == yours[name] for name in mine if name not in self.reading)

    def fit(self, sequences: Sequences, n_items: int, features: Floats | None = None) -> Fitted:
        """Return the fitted baseline.

        Args:
            sequences: the events to learn from; rows 0 (*unknown*) are left out.
            n_items: the length of a score row, row 0 included.
            features: float32[item, m], what is known of each item beside events; row 0 is not read. Most
                baselines do not use features.

        Raises:
            ArgumentError: a row of the sequences is not below `n_items`, or there is an `obstacle`.

        Cost: that of `count` and of `of_counts`.
        """
        why = self.obstacle(n_items, features)
        if why:
            raise ArgumentError(why)
        return self.of_counts(self.count(sequences, n_items, features))

    @abstractmethod
    def count(self, sequences: Sequences, n_items: int, features: Floats | None = None) -> Any:
        """Return what all settings with this `counting` share; arguments and errors as of `fit`."""

    @abstractmethod
    def of_counts(self, counts: Any) -> Fitted:
        """Return the fitted baseline; `counts` are of `count` and stay as they are."""


def above_zero(baseline: Baseline, *names: str) -> None:
    """Raise ArgumentError where a setting is not above 0."""
    for name in names:
        value = getattr(baseline, name)
        if not value > 0:
            raise ArgumentError(f"{baseline.title}, {name}: expected a number above 0, came {value}. Raise it.")


def not_negative(baseline: Baseline, *names: str) -> None:
    """Raise ArgumentError where a setting is below 0."""
    for name in names:
        value = getattr(baseline, name)
        if not value >= 0:
            raise ArgumentError(f"{baseline.title}, {name}: expected 0 or more, came {value}. Raise it.")


class FromBaseline:
    """The name and settings of a fitted baseline: those that it was fitted with."""

    baseline: Baseline

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return self.baseline.settings

    @property
    def name(self) -> str:
        """The name for a report, with the settings."""
        return self.baseline.name
