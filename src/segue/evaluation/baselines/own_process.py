"""A function called for one thing after another in a process of its own, so that a crash costs that one thing.

    this process                              the other
    path                 ─ standard input ──► imports, and says that it is there
    function, given      ───────────────────►
    a key                ───────────────────► function(given, key)
    value or fault       ◄─ standard output ─

Knows: how a process is begun, limited and ended, and the words for how it ended. Does not know: what is called.
The process is a new one and no copy (`fork`): a copy of a process with threads, such as those of JAX, may hang.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from segue.errors import SegueError
from segue.free_memory import GIB, memory_available

Given = TypeVar("Given")
Key = TypeVar("Key")
Value = TypeVar("Value")

#: Seconds that one call may take, and seconds until the other process is there.
LONGEST, BEGINNING = 3600.0, 120.0
#: Bytes that libraries set aside for each thread and do not use.
_OF_A_THREAD = 128 * 2**20
_BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from segue.evaluation.baselines.own_process import serve; serve()"
)


class Fault(NamedTuple):
    """Why there is no value, in words for the reader of a report."""

    why: str


class _Here(NamedTuple):
    """Said by the other process of a key that it cannot import."""


def each_apart(
    function: Callable[[Given, Key], Value], given: Given, keys: Iterable[Key], *, longest: float | None = None
) -> Iterator[Value | Fault]:
    """Yield `function(given, key)` for each key, or the `Fault` that came in its place.

    The calls are made one after the other, in one other process. Where that ends before its time, the key that it
    was at has a fault, and the next key begins a new one. What the other process cannot import, such as a class of a
    notebook, is called in this process, and so is everything where no process can be begun: an exception is a fault
    there as well, but nothing is safe from a crash.

    Args:
        function: of a module, so that it can be pickled.
        given: what all calls are given; sent once to each process.
        keys: what each call is for, classes or plain values.
        longest: seconds that a call may take; None takes `LONGEST`.

    Cost: about half a second for a process, and a copy of what is given and returned.

    Example:
        >>> from operator import truediv
        >>> list(each_apart(truediv, 6, [2, 0]))
        [3.0, Fault(why='ZeroDivisionError: division by zero')]
    """
    limit, other, able = LONGEST if longest is None else longest, None, True
    try:
        for key in keys:
            if other is None and able:
                other = _Other.begun(function, given)
                able = other is not None
            found = other.call(key, limit) if other else _Here()
            if other and other.ended:
                other = None
            yield called(function, given, key) if isinstance(found, _Here) else found
    finally:
        if other:
            other.end()


def called(function: Callable[[Given, Key], Value], given: Given, key: Key) -> Value | Fault:
    """Return `function(given, key)`, or the fault that its exception is."""
    try:
        return function(given, key)
    except SegueError as error:
        return Fault(str(error))
    except MemoryError as error:
        what = f" ({error})" if str(error) else ""
        return Fault(f"memory ran out{what}. Measure where there is more, or keep fewer items.")
    except Exception as error:  # whatever it is, it costs this one thing
        return Fault(f"{type(error).__name__}: {error}".removesuffix(": "))


class _Other:
    """The other process, seen from this one."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-c", _BEGIN]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        self.said: deque[bytes] = deque(maxlen=5)  # the last lines of what it complains of
        self.listener = threading.Thread(target=self.said.extend, args=(self.process.stderr,), daemon=True)
        self.listener.start()
        self.ended = self.late = False

    @classmethod
    def begun(cls, function: Any, given: Any) -> "_Other | None":
        """Return a process that waits for keys, or None where there cannot be one."""
        try:
            whole = pickle.dumps(function)
            other = cls()
        except Exception:
            return None
        other._send(json.dumps([place for place in sys.path if isinstance(place, str)]).encode() + b"\n")
        if other._hear(BEGINNING) is None:
            return None
        other._send(whole)
        with contextlib.suppress(OSError):  # of one that has ended: seen at the first call
            try:
                pickle.dump(given, _of(other.process.stdin), pickle.HIGHEST_PROTOCOL)
            except (pickle.PicklingError, AttributeError, TypeError):
                other.end()
                return None
        return other

    def call(self, key: Any, limit: float) -> Any:
        """Return what came of a key: a value, a `Fault`, or `_Here`."""
        try:
            packed = pickle.dumps(key)
        except Exception:
            return _Here()
        began = time.monotonic()
        module = getattr(key, "__module__", None)
        self._send(pickle.dumps((module, getattr(sys.modules.get(module or ""), "__file__", None), packed)))
        found = self._hear(limit)
        return Fault(self._why(time.monotonic() - began)) if found is None else found[0]

    def _send(self, content: bytes) -> None:
        with contextlib.suppress(OSError):  # of one that has ended: seen at the next answer
            _of(self.process.stdin).write(content)
            _of(self.process.stdin).flush()

    def _hear(self, limit: float) -> tuple[Any] | None:
        """Return the next answer; None when the process has ended, or is ended because it is late."""

        def stop() -> None:
            self.late = True
            self.process.kill()

        timer = threading.Timer(limit, stop)
        timer.daemon = True
        timer.start()
        try:
            return (pickle.load(_of(self.process.stdout)),)
        except Exception:  # cut short, or too large for this process
            self.end()
            return None
        finally:
            timer.cancel()

    def end(self) -> None:
        """End the process, whatever it is doing."""
        if self.process.poll() is None and not self.ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)  # it may be about to end by itself, for a reason that is to be told
        self.process.kill()
        self.process.wait()
        self.listener.join(1.0)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                _of(pipe).close()
        self.ended = True

    def _why(self, seconds: float) -> str:
        """Return how the process ended, in words."""
        code = self.process.returncode
        last = self.said[-1].decode(errors="replace").strip() if self.said else ""
        said = f' The last it said: "{last}".' if last else ""
        if self.late:
            return (
                f"it had not ended after {seconds:,.0f} seconds and was stopped. Fit it with "
                "segue.evaluation.baselines.tuning.tuned and give it in baselines=, where no time is set."
            )
        if code == -9:
            return (
                "the system killed its process (SIGKILL), most often because memory ran out: "
                f"{memory_available():.1f} GiB are free now. Measure where there is more, or keep fewer items."
            )
        if code < 0:
            with contextlib.suppress(ValueError):
                name = f"{signal.Signals(-code).name}, {signal.strsignal(-code)}".rstrip(", ")
                return (
                    f"a library ended its process ({name}).{said} Measure with OPENBLAS_NUM_THREADS=1, or with other "
                    "versions of NumPy and SciPy."
                )
        return f"its process ended with code {code}.{said} Fit it alone to see more."


def _of(pipe: Any) -> Any:
    assert pipe is not None
    return pipe


def serve() -> None:
    """Answer keys from standard input until it is closed: what runs in the other process."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    _yield_memory()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _answer(answers, True)
    asked = sys.stdin.buffer
    function, given = pickle.load(asked), pickle.load(asked)
    while True:
        try:
            module, file, packed = pickle.load(asked)
        except EOFError:
            return
        try:
            _import(module, file)
            key = pickle.loads(packed)
        except Exception:
            _answer(answers, _Here())
            continue
        _answer(answers, called(function, given, key))


def _answer(answers: Any, value: Any) -> None:
    pickle.dump(value, answers, pickle.HIGHEST_PROTOCOL)
    answers.flush()


def _import(name: str | None, file: str | None) -> None:
    """Import a module by its name or, where no name leads to it, from its file."""
    if name is None or file is None or name == "__main__":
        return
    try:
        importlib.import_module(name)
    except ImportError:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])


def _end_with(parent: int) -> None:
    """End this process when the one that began it is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _yield_memory() -> None:
    """Let this process, and not the one with the report, fail where memory runs out: by an exception, or killed."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        room = int(memory_available() * GIB) + _OF_A_THREAD * (os.cpu_count() or 1)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (room if hard < 0 else min(room, hard), hard))
