"""A thread that works beside the requests, whatever goes wrong in its work.

Knows: turns of work, errors, pauses, how somebody is told. Does not know: what the work is.
"""

import logging
import threading
from collections.abc import Callable, Iterable

from segue.serve.problems import raised_at
from segue.serve.store import Readiness

logger = logging.getLogger("segue.serve")

#: Seconds to wait after an error, doubled with each that follows, and at most.
PAUSE, LONGEST = 0.5, 30.0
#: Turns that fail one after the other until it counts as not working.
FAILING = 3


class Background:
    """A thread that does turns of work, one after the other, until it is stopped.

    An error is counted and logged by its place in the code, for messages may hold ids; then the next turn comes.

    Args:
        name: of the thread.
        turn: the work; it returns now and then.
        every: seconds between two turns.
    """

    def __init__(self, name: str, turn: Callable[[], object], *, every: float = 0.0) -> None:
        self.name, self.errors = name, 0
        self._turn, self._every = turn, every
        self._failed = 0
        self._stopped, self._checking = threading.Event(), threading.Lock()
        self._died = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin the first turn."""
        self._thread = self._begin()

    def check(self) -> str:
        """Return what is wrong with the thread, "" for nothing; one that has died is begun anew."""
        with self._checking:
            if self._thread is not None and not self._thread.is_alive() and not self._stopped.is_set():
                self.errors += 1
                logger.error("%s: it had died, and is begun anew", self.name)
                self._died, self._thread = True, self._begin()
            if self._died:
                return f"thread {self.name}: expected to work, it died and is begun anew. See the log."
            if self._failed >= FAILING:
                return (
                    f"thread {self.name}: expected to work, it failed {self._failed} times one after "
                    "the other. It goes on trying; see the log."
                )
        return ""

    def report(self, error: BaseException) -> None:
        """Count and log an error that ends neither the thread nor the turn."""
        self.errors += 1
        logger.error("%s: %s at %s", self.name, type(error).__name__, raised_at(error))

    def stop(self, seconds: float = 30.0) -> None:
        """Begin no further turn, and wait for the one that is under way."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _begin(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._turn()
            except BaseException as error:  # also one that would end the thread without a word
                self._failed += 1
                self.report(error)
                self._stopped.wait(min(LONGEST, PAUSE * 2 ** min(self._failed - 1, 10)))
            else:
                self._failed, self._died = 0, False
                self._stopped.wait(self._every)


def checked(threads: Iterable[Background]) -> Readiness | None:
    """Return what is wrong with some threads; None where all work."""
    troubles = [said for thread in threads if (said := thread.check())]
    return Readiness(False, " ".join(troubles)) if troubles else None
