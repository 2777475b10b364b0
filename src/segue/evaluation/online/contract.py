"""The contract of an online baseline, and how it reads on.

Knows: moments, ranks, when an event is learnt. Does not know: any particular baseline.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from segue.evaluation.online.stream_log import StreamLog
from segue.shapes import Bools

#: The rank of a target that no list would hold: nothing is known of the item, or lists exclude it.
MISS = float("inf")
#: Seconds between two lines of progress.
_PAUSE = 15.0

Say = Callable[[str], None]


class Reader(Protocol):
    """A baseline at one place of a log: it knows the events that it has learnt and nothing else."""

    def rank(self, event: int) -> float:
        """Return the rank of an event's item among all items, ties against it, or `MISS`."""
        ...

    def learn(self, event: int) -> None:
        """Learn an event."""
        ...


@dataclass(frozen=True)
class OnlineBaseline(ABC):
    """The settings of an online baseline; a frozen dataclass that can be made without arguments.

    Class attributes:
        title: the name without settings.
        grid: for each setting the values to try.
    """

    title: ClassVar[str]
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @property
    def name(self) -> str:
        """The name for a report, with the settings."""
        return f"{self.title} ({', '.join(f'{key} {value:g}' for key, value in asdict(self).items())})"

    @abstractmethod
    def start(self, log: StreamLog, begin: int, *, exclude_seen: bool) -> Reader:
        """Return a reader that has learnt the events before a place.

        Args:
            log: the events; those from `begin` on are not read yet.
            begin: the place.
            exclude_seen: whether lists exclude the items that the user met strictly earlier.
        """


class StreamProgress:
    """Says at most every 15 seconds how far the work is, and how long the rest takes.

    Args:
        what: the work, in words.
        total: the number of events.
        say: called with each line; None for silence.
    """

    def __init__(self, what: str, total: int, say: Say | None) -> None:
        self.what, self.total, self.say = what, total, say
        self.began = self.said = monotonic()

    def __call__(self, done: int) -> None:
        """Note how many events are done."""
        now = monotonic()
        if self.say and now - self.said > _PAUSE and done:
            self.said = now
            left = (now - self.began) / done * (self.total - done)
            self.say(f"{self.what}: {done:,} of {self.total:,} events, {left:,.0f} s left.")


def read_on(
    log: StreamLog,
    reader: Reader,
    begin: int,
    end: int,
    *,
    wanted: Bools | None = None,
    progress: StreamProgress | None = None,
) -> NDArray[np.float64]:
    """Return the rank of each wanted event, and learn every event.

    The events of a moment are ranked before any of them is learnt.

    Args:
        log: the events.
        reader: which has learnt the events before `begin`.
        begin: the first event.
        end: one past the last.
        wanted: bool[event] of the whole log; None ranks all.
        progress: called with the number of events that are done.

    Returns:
        float64[end - begin]; NaN where no rank was wanted.
    """
    ranks = np.full(end - begin, np.nan)
    for moment in log.moments(begin, end):
        for event in moment:
            if wanted is None or wanted[event]:
                ranks[event - begin] = reader.rank(event)
        for event in moment:
            reader.learn(event)
        if progress:
            progress(moment.stop - begin)
    return ranks
