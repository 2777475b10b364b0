"""A thread that works beside the requests, whatever goes wrong in its work.

Knows: turns of work, errors, pauses, how a waiting thread is woken. Does not know: what the work is.
"""

import logging
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from segue.store.base import Readiness

logger = logging.getLogger("segue.serve")

#: Seconds to wait after an error, doubled with each that follows, and at most.
PAUSE, LONGEST = 0.5, 30.0
#: Turns that fail one after the other until it counts as not working.
FAILING = 3
#: Seconds that a check waits for what comes of one more try.
LOOKED = 1.0


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
        self._failed, self._died = 0, False
        self._stopped = self._hurried = False
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin the first turn."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def check(self) -> str:
        """Return what is wrong with the thread, "" for nothing.

        One that has died is begun anew; one that pauses after many errors tries again at once, which is waited for.
        """
        with self._wake:
            if self._thread is not None and not self._thread.is_alive() and not self._stopped:
                self.errors += 1
                logger.error("%s: it had died, and is begun anew", self.name)
                self._died = True
                self.start()
            if self._failed >= FAILING:
                self._hurried = True
                self._wake.notify_all()
                self._wake.wait_for(lambda: not self._failed, LOOKED)
            if self._died:
                return f"thread {self.name}: expected to work, it died and is begun anew. See the log."
            if self._failed >= FAILING:
                return (
                    f"thread {self.name}: expected to work, it failed {self._failed} times one after the other. It "
                    "goes on trying; see the log."
                )
        return ""

    def report(self, error: BaseException) -> None:
        """Count and log an error that ends neither the thread nor the turn."""
        self.errors += 1
        logger.error("%s: %s at %s", self.name, type(error).__name__, raised_at(error))

    def hurry(self) -> None:
        """Begin the next turn as soon as the one under way has ended."""
        with self._wake:
            self._hurried = True
            self._wake.notify_all()

    def stop(self, seconds: float = 30.0) -> None:
        """Begin no further turn, and wait for the one that is under way."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._turn()
            except BaseException as error:  # also one that would end the thread without a word
                self.report(error)
                failed = self._failed + 1
            else:
                failed = 0
            with self._wake:
                self._failed, self._died = failed, self._died and failed > 0
                self._wake.notify_all()
                pause = min(LONGEST, PAUSE * 2 ** min(failed - 1, 10)) if failed else self._every
                self._wake.wait_for(lambda: self._stopped or self._hurried, pause)
                self._hurried = False


def checked(threads: Iterable[Background], store: Readiness) -> Readiness:
    """Return what is wrong with a store or, where it is ready, with some threads; ready where all work."""
    troubles = [said for thread in threads if (said := thread.check())] if store.ready else []
    return Readiness(False, " ".join(troubles)) if troubles else store


def raised_at(error: BaseException) -> str:
    """Return where an error was raised, innermost last, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
