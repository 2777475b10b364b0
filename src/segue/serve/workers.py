"""Several processes that answer on one port, over one store.

Knows: who starts and ends them, and that each tells the others its metrics.
Does not know: how a request is answered (`app`), which is the same in each.

Uvicorn's supervisor owns the port and starts the workers, which accept connections from it. A worker
that dies is started again, and the connections that wait meanwhile go to the others. SIGHUP replaces
the workers one after the other, each when its successor answers.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send
from uvicorn.supervisors import Multiprocess

from segue.addresses import shown
from segue.errors import ArgumentError, LostError, SegueError
from segue.serve.http import shutdown
from segue.serve.http.metrics import Metrics
from segue.serve.live.background import Background
from segue.serve.server import OpenApp, Settings, config_of, listening, log_requests, opened, serving_process, url_of
from segue.store.factory import is_shared, open_store

logger = logging.getLogger("segue.serve")

#: Seconds after which a worker tells the others its metrics, or tries the store again.
PUBLISHED = 1.0
#: Seconds within which a worker has to answer its supervisor, and a new one has to be ready. The supervisor waits so
#: long for a worker that dies while it starts.
PATIENCE = 30


def serve_workers(settings: Settings, workers: int, say: Callable[[str], None] = logger.info) -> None:
    """Run several workers until they are stopped; `say` gets a line where they listen and a line at the end.

    Raises:
        ArgumentError: settings do not fit together, or the address is taken.
        ModelError, StoreError: one of them cannot be opened.
    """
    if settings.store is None or not is_shared(settings.store):
        came = shown(settings.store) if settings.store else "none, which stands for an SQLite file"
        raise ArgumentError(
            f"--workers {workers}: expected a store that processes share, --store postgresql://... or valkey://..., "
            f"came {came}. Give one, or leave --workers out: one process owns an SQLite file."
        )
    log_requests()
    settings.access()  # what cannot work is said here, once
    path, why = settings.in_force()
    open_store(settings.store, accept_loss=settings.accept_loss).close()
    with (
        shutdown.said(say) as end,
        listening(settings) as listener,
        tempfile.TemporaryDirectory(prefix="segue-workers-") as folder,
    ):
        listener.listen(2048)  # connections wait here while there is no worker
        supervisor = Multiprocess(_Config(settings, workers, Path(folder)), [listener])
        end.stop = lambda number, frame: supervisor.should_exit.set()
        for number in (signal.SIGTERM, signal.SIGINT):  # so that the last line names it
            signal.signal(number, end.take)
        say(f"{url_of(listener)}: {workers} workers, {path}{why}; stop them with Ctrl-C.")
        supervisor.run()


class _Config(uvicorn.Config):
    """How uvicorn runs a worker; each process makes its own from the settings."""

    def __init__(self, settings: Settings, workers: int, folder: Path) -> None:
        made = config_of(
            WorkerApp(settings, folder), settings.limits, workers=workers, lifespan="on",
            timeout_worker_healthcheck=PATIENCE,
        )  # fmt: skip
        self.__dict__.update(made.__dict__)
        self._arguments = settings, workers, folder

    def __reduce__(self) -> tuple[Any, ...]:
        return _Config, self._arguments


class WorkerApp:
    """The application of one worker. It opens what it needs when its process begins to serve.

    Args:
        settings: of the server.
        folder: where the workers of the server keep what the others read.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._open: OpenApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does; its lifespan is that of what it has open."""
        if self._open is not None:
            await self._open.app(scope, receive, send)
            return
        log_requests()
        try:
            with _worker(self._settings, self._folder) as self._open:
                await self._open.app(scope, receive, send)
        except SegueError as error:
            if self._open is not None:
                raise
            await send({"type": "lifespan.startup.failed", "message": f"{error}"})


@contextlib.contextmanager
def _worker(settings: Settings, folder: Path) -> Iterator[OpenApp]:
    """Open an application in a worker, and keep up with the other workers."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    metrics: list[SharedMetrics] = []

    def make_metrics(*sources: Any) -> Metrics:
        metrics.append(SharedMetrics(folder, *sources))
        return metrics[0]

    with contextlib.ExitStack() as stack:
        open_app = _opened_patiently(settings, make_metrics, stack)
        thread = Background("segue-workers", metrics[0].publish, every=PUBLISHED)
        thread.start()
        stack.callback(thread.stop)
        stack.enter_context(serving_process())
        yield open_app


def _opened_patiently(settings: Settings, make_metrics: Callable[..., Metrics], stack: contextlib.ExitStack) -> OpenApp:
    """Open an application, as soon as the store answers: a worker that gave up would end all of them."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_DFL) for number in signals]  # nothing is open that had to be closed
    while True:
        try:
            open_app = stack.enter_context(opened(settings, make_metrics))
            break
        except LostError as error:
            logger.error("waiting for the store: %s", error)
            time.sleep(PUBLISHED)
    for number, handler in zip(signals, before, strict=True):
        signal.signal(number, handler)
    return open_app


def _end_with_parent() -> None:
    """End this process in order when the one that started it has ended, however that was."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class SharedMetrics(Metrics):
    """The numbers of all workers of a server, each with the label `worker`, the number of its process.

    Each worker writes its numbers into a file now and then; whoever is asked reads the files of those that live.

    Args:
        folder: of the files.
        sources: as of `Metrics`.
    """

    def __init__(self, folder: Path, *sources: Any) -> None:
        super().__init__(*sources)
        self._folder = folder

    def publish(self) -> None:
        """Write the numbers of this worker."""
        path = self._folder / f"{os.getpid()}"
        new = path.with_suffix(f".{threading.get_ident()}")
        new.write_bytes(super().text())
        new.replace(path)

    def text(self) -> bytes:
        """Return the numbers of all workers as Prometheus reads them."""
        self.publish()
        families: dict[str, Metric] = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix:
                continue  # is being written
            if not _lives(path.name):
                path.unlink(missing_ok=True)
                continue
            for family in text_string_to_metric_families(path.read_text()):
                whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                whole.samples += [one._replace(labels={**one.labels, "worker": path.name}) for one in family.samples]
        return generate_latest(_Collected(list(families.values())))


def _lives(number: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(number), 0)
        return True
    return False


@dataclass(frozen=True)
class _Collected:
    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families
