"""Why a server ends: said in one line, whatever the reason.

Knows: signals and errors that end a process. Does not know: what is to be closed.

A signal that would end the process without a word is taken: a server that is starting gives up, one that runs
finishes what is under way. Once all is closed the reason is said, and the process ends by that same signal, so
that whoever started it sees it too. A crash inside a library says where it was. What nobody can say oneself
(SIGKILL, so also a lack of memory; a loss of power) the next owner of the store says (`sqlite_file`).
"""

import contextlib
import faulthandler
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from segue.errors import SegueError

#: Signals that end a process unless it takes them, but for those of a debugger or a crash. Some systems lack some.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGBREAK")
_TAKEN = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Stopped(BaseException):
    """A signal came while the server was starting."""


class Ending:
    """What ends a server.

    Args:
        stop: what a signal does once the server runs; until this is set, a signal raises `Stopped`.
        signal: the first signal that came.
        hung_up: whether SIGHUP came before the server could take it: then it is to read its model again.
    """

    def __init__(self) -> None:
        self.stop: Callable[[int, FrameType | None], None] | None = None
        self.signal: int | None = None
        self.hung_up = False

    def take(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, and stop the server."""
        if number == getattr(signal, "SIGHUP", None):
            self.hung_up = True
            return
        first, self.signal = self.signal is None, self.signal or number
        if self.stop is not None:
            self.stop(number, frame)
        elif first:
            raise Stopped


@contextlib.contextmanager
def said(say: Callable[[str], None]) -> Iterator[Ending]:
    """Log why the server stopped when this block ends; then raise the error or send the signal again.

    A SegueError is not logged: its message is the line. SIGINT is not sent again: somebody pressed
    Ctrl-C. Signals are taken in the main thread alone, where Python delivers them.
    """
    ending = Ending()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no stderr that is a file
        faulthandler.enable(sys.stderr)
    taken = _TAKEN if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, ending.take) for number in taken}
    try:
        with contextlib.suppress(Stopped):
            yield ending
        name = "nothing but its caller" if ending.signal is None else signal.Signals(ending.signal).name
        say(f"stopped by {name}; requests under way are finished, ingested events are on disk.")
    except SegueError:
        raise
    except BaseException as error:
        say(f"stopped by an error, {type(error).__name__}: {error}; what was acknowledged is on disk.")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if ending.signal is not None and ending.signal != signal.SIGINT:
        signal.raise_signal(ending.signal)
