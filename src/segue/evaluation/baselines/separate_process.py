"""A function called for one key after another in a separate process, so that a crash costs that key alone.

    this process                              the other
    path                 ─ standard input ──► imports, and reports that it has started
    function, given      ───────────────────►
    a key                ───────────────────► function(given, key)
    messages, if wanted  ◄─ standard output ─ tell(message)
    value or failure     ◄─ standard output ─

The process is new and not a copy (`fork`): a copy of a process with threads, such as those of JAX, may hang.
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
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from segue.errors import SegueError
from segue.free_memory import GIB, memory_available

Given = TypeVar("Given")
Key = TypeVar("Key")
Value = TypeVar("Value")

#: Seconds that a call may take, and seconds until the other process has started.
LONGEST, STARTING = 3600.0, 120.0
#: Bytes that libraries reserve for each thread and do not use.
_OF_A_THREAD = 128 * 2**20
#: What tells libraries how many threads to take.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from segue.evaluation.baselines.separate_process import serve; serve()"
)


class Failure(NamedTuple):
    """Why there is no value, in words for the reader of a report."""

    why: str


class _CallHere(NamedTuple):
    """The answer of the other process to a key that it cannot import."""


class _Message(NamedTuple):
    """What the function tells while it works."""

    content: Any


def call_each(
    function: Callable[..., Value],
    given: Given,
    keys: Iterable[Key],
    *,
    longest: float | None = None,
    heard: Callable[[Any], None] | None = None,
    threads: int | None = None,
) -> Iterator[Value | Failure]:
    """Yield `function(given, key)` for each key, or the `Failure` in its place.

    The calls are made one after the other, in another process. Where that process ends early, its current key is a
    failure, and the next key starts a new process. What the other process cannot import, such as a class of a
    notebook, is called in this process, and so is everything where no process can be started: an exception is a
    failure there as well, but nothing is safe from a crash.

    Args:
        function: of a module, so that it can be pickled.
        given: the first argument of all calls; sent once to each process.
        keys: the second argument of each call, classes or plain values.
        longest: seconds that a call may take; None takes `LONGEST`.
        heard: called with each message of the function, which then takes a third argument, `tell`, that sends one.
        threads: of libraries in that process, unless the environment says how many; None leaves the number to them.

    Cost: about half a second for a process, and a copy of what is given and returned.

    Example:
        >>> from operator import truediv
        >>> list(call_each(truediv, 6, [2, 0]))
        [3.0, Failure(why='ZeroDivisionError: division by zero')]
    """
    limit, other, able = LONGEST if longest is None else longest, None, True
    here = function if heard is None else partial(function, tell=heard)
    try:
        for key in keys:
            if other is None and able:
                other = _Other.started(function, given, heard, threads)
                able = other is not None
            result = other.call(key, limit) if other else _CallHere()
            if other and other.ended:
                other = None
            yield attempt(here, given, key) if isinstance(result, _CallHere) else result
    finally:
        if other:
            other.end()


def run_beside(work: Callable[[], None], count: int) -> None:
    """Call a function in this thread and, at the same time, in `count - 1` others; an exception of any is raised here.

    After an interrupt the others are not waited for.
    """
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    others = [threading.Thread(target=guarded, daemon=True) for _ in range(count - 1)]
    for other in others:
        other.start()
    work()
    for other in others:
        other.join()
    if raised:
        raise raised[0]


def attempt(function: Callable[[Given, Key], Value], given: Given, key: Key) -> Value | Failure:
    """Return `function(given, key)`, or the `Failure` that its exception is."""
    try:
        return function(given, key)
    except SegueError as error:
        return Failure(str(error))
    except MemoryError as error:
        what = f" ({error})" if str(error) else ""
        return Failure(f"memory ran out{what}. Measure where there is more, or keep fewer items.")
    except Exception as error:  # whatever it is, it costs this key alone
        return Failure(f"{type(error).__name__}: {error}".removesuffix(": "))


class _Other:
    """The other process, seen from this one."""

    def __init__(self, heard: Callable[[Any], None] | None, threads: int | None) -> None:
        self.heard = heard
        few = {} if threads is None else dict.fromkeys(_THREADS, str(threads))
        command = [sys.executable, "-P", "-c", _START]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env={**few, **os.environ})
        self.errors: deque[bytes] = deque(maxlen=5)  # the last lines of its standard error
        self.listener = threading.Thread(target=self.errors.extend, args=(self.process.stderr,), daemon=True)
        self.listener.start()
        self.ended = self.late = False

    @classmethod
    def started(
        cls, function: Any, given: Any, heard: Callable[[Any], None] | None, threads: int | None
    ) -> "_Other | None":
        """Return a process that waits for keys, or None where none can be started."""
        try:
            whole = pickle.dumps((function, heard is not None))
            other = cls(heard, threads)
        except Exception:
            return None
        other._send(json.dumps([place for place in sys.path if isinstance(place, str)]).encode() + b"\n")
        if other._receive(STARTING) is None:
            return None
        other._send(whole)
        with contextlib.suppress(OSError):  # the process has ended: seen at the first call
            try:
                pickle.dump(given, _open(other.process.stdin), pickle.HIGHEST_PROTOCOL)
            except (pickle.PicklingError, AttributeError, TypeError):
                other.end()
                return None
        return other

    def call(self, key: Any, limit: float) -> Any:
        """Return the result for a key: a value, a `Failure`, or `_CallHere`."""
        try:
            packed = pickle.dumps(key)
        except Exception:
            return _CallHere()
        began = time.monotonic()
        module = getattr(key, "__module__", None)
        self._send(pickle.dumps((module, getattr(sys.modules.get(module or ""), "__file__", None), packed)))
        answer = self._receive(limit)
        return Failure(self._why(time.monotonic() - began)) if answer is None else answer[0]

    def _send(self, content: bytes) -> None:
        with contextlib.suppress(OSError):  # the process has ended: seen at the next answer
            _open(self.process.stdin).write(content)
            _open(self.process.stdin).flush()

    def _receive(self, limit: float) -> tuple[Any] | None:
        """Return the next answer that is no message; None when the process has ended, or is killed: it is late."""

        def stop() -> None:
            self.late = True
            self.process.kill()

        timer = threading.Timer(limit, stop)
        timer.daemon = True
        timer.start()
        try:
            while True:
                try:
                    answer = pickle.load(_open(self.process.stdout))
                except Exception:  # cut short, or too large for this process
                    self.end()
                    return None
                if not isinstance(answer, _Message):
                    return (answer,)
                if self.heard:
                    self.heard(answer.content)
        finally:
            timer.cancel()

    def end(self) -> None:
        """End the process, whatever it is doing."""
        if self.process.poll() is None and not self.ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)  # it may be ending by itself, for a reason that the report names
        self.process.kill()
        self.process.wait()
        self.listener.join(1.0)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                _open(pipe).close()
        self.ended = True

    def _why(self, seconds: float) -> str:
        """Return how the process ended, in words."""
        code = self.process.returncode
        last = self.errors[-1].decode(errors="replace").strip() if self.errors else ""
        message = f' Its last message: "{last}".' if last else ""
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
                    f"a library ended its process ({name}).{message} Measure with OPENBLAS_NUM_THREADS=1, or with "
                    "other versions of NumPy and SciPy."
                )
        return f"its process ended with code {code}.{message} Fit it alone to see more."


def _open(pipe: Any) -> Any:
    assert pipe is not None
    return pipe


def serve() -> None:
    """Answer keys from standard input until it is closed: what runs in the other process."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not an answer
    _yield_memory()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _answer(answers, True)
    keys = sys.stdin.buffer
    (function, tells), given = pickle.load(keys), pickle.load(keys)
    if tells:
        function = partial(function, tell=lambda content: _answer(answers, _Message(content)))
    while True:
        try:
            module, file, packed = pickle.load(keys)
        except EOFError:
            return
        try:
            _import(module, file)
            key = pickle.loads(packed)
        except Exception:
            _answer(answers, _CallHere())
            continue
        _answer(answers, attempt(function, given, key))


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
    """End this process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _yield_memory() -> None:
    """Make this process, not its parent, fail where memory runs out: by an exception, or killed."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        room = int(memory_available() * GIB) + _OF_A_THREAD * (os.cpu_count() or 1)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (room if hard < 0 else min(room, hard), hard))
