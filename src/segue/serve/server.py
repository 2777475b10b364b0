"""The server as a process.

Knows: addresses, signals, the order in which things are opened and closed.
Does not know: routes.

SIGTERM and SIGINT: no new connections, requests under way are finished, ingested events are on disk, then the store
is closed, and a last line says why (`ending`). SIGHUP: the model, the keys and the scenarios are
read again.

Which model runs: in a folder of models the one that its file `current` names. A roll-out, a roll-back and `segue
retrain` write that file, so a restart runs what ran before it. A model given as a file, without a folder, runs itself.
"""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, cast

import uvicorn
from starlette.applications import Starlette
from threadpoolctl import threadpool_limits

from segue.errors import ArgumentError, ModelError, SegueError, StoreError
from segue.kernels import build
from segue.model_file import CURRENT, name_running, running_model
from segue.recommend.index.approximate import index_path
from segue.serve.api.scenarios import read_scenarios
from segue.serve.app import make_app
from segue.serve.http import shutdown
from segue.serve.http.auth import read_keys
from segue.serve.http.connection import bounded
from segue.serve.http.limits import Limits, Rates
from segue.serve.http.metrics import Metrics
from segue.serve.http.middleware import LOCAL, Access
from segue.serve.live.background import Background, raised_at
from segue.serve.live.model_source import open_model
from segue.serve.live.service import Service
from segue.store.factory import open_store

logger = logging.getLogger("segue.serve")

#: Requests a second of a key or address where other machines reach the server and no rate is given.
RATE = 200.0
#: Seconds between two looks at which model the other servers of a folder run.
FOLLOWED = 1.0


@dataclass(frozen=True)
class Settings:
    """How a server is run.

    Args:
        model: the file that answers; or a folder of models, as with `models`.
        store: a path of an SQLite file, or a `postgresql://` or `valkey://` address; None puts `segue.db` beside the
            model.
        host: the address that is listened on; others than 127.0.0.1 need keys.
        port: 0 takes a free one.
        models: the folder of the models that may be rolled out by name. Which one runs its file `current` says;
            where there is none, `model`, which lies in it.
        keys: a file that `segue keys` made.
        allow_host: further names that a Host header may have; "*" takes any.
        rate: requests a second of each key, or address; 0 for no bound, None for none on this machine alone
            and `RATE` otherwise.
        accept_loss: be ready although a shared store does not sync each write.
        limits: of single requests.
        shadow: a model that reads the same events and ranks them, and answers nobody.
        scenarios: a TOML file of scenarios and experiments. Read at the start and at SIGHUP, it replaces those of the
            store, once for each content of the file.
    """

    model: Path
    store: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    models: Path | None = None
    keys: Path | None = None
    allow_host: tuple[str, ...] = ()
    rate: float | None = None
    accept_loss: bool = False
    limits: Limits = field(default_factory=Limits)
    shadow: Path | None = None
    scenarios: Path | None = None

    def __post_init__(self) -> None:
        if not self.local and self.keys is None:
            raise ArgumentError(
                f"--host {self.host}: expected --keys FILE with an address that others reach, came none. "
                "Make a key: segue keys add NAME --keys FILE."
            )
        if self.models is not None and self.models.resolve() not in (
            self.model.resolve(),
            self.model.resolve().parent,
        ):
            raise ArgumentError(
                f"--models {self.models}: expected the folder that {self.model.name} lies in, came another. "
                "Put the model into it."
            )
        if self.rate is not None and not 0 <= self.rate < 1e9:
            raise ArgumentError(f"--rate: expected requests a second, or 0 for no bound, came {self.rate:g}.")

    @property
    def folder(self) -> Path | None:
        """The folder of the models that may be rolled out."""
        return self.model if self.model.is_dir() else self.models

    def in_force(self) -> tuple[Path, str]:
        """Return the file of the model that is to run, and why it is this one.

        Raises:
            ModelError: the folder has none, or its file `current` names none.
        """
        folder = self.folder
        if folder is None:
            return self.model, ""
        if (folder / CURRENT).is_file():
            why = f", named in {folder / CURRENT}"
        elif self.model.is_dir():
            why = f", the newest in {folder}"
        else:
            return self.model, ""
        path = running_model(folder)
        if path is None:
            raise ModelError(f"{folder}: expected a model in it, found none. Train one: segue train EVENTS -o FILE.")
        return path, why

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    def access(self) -> Access:
        """Return who is let in."""
        named = f"[{self.host}]" if ":" in self.host else self.host
        hosts = LOCAL | {named.lower()} | {name.lower() for name in self.allow_host}
        rate = self.rate if self.rate is not None else 0.0 if self.local else RATE
        return Access(hosts, read_keys(self.keys) if self.keys else None, Rates(rate), self.limits)


class Server(uvicorn.Server):
    """Uvicorn, with SIGHUP, and a word as soon as it listens. It leaves it to `ending` to end by a signal."""

    def __init__(self, config: uvicorn.Config, reload: Callable[[], object]) -> None:
        super().__init__(config)
        self._reload = reload
        self.listening: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and take SIGHUP from now on."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError, AttributeError):
            loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, self._reload))
        if self.started:
            self.listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in order; at once if Ctrl-C is pressed again."""
        self.force_exit |= self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to who started it: uvicorn would end the process before the store is closed."""
        yield


class OpenApp(NamedTuple):
    """An application with what it answers from, open.

    Args:
        app: the application.
        access: who is let in.
        service: which does the work.
        running: the name of the model that runs, and why this one.
    """

    app: Starlette
    access: Access
    service: Service
    running: str


@contextlib.contextmanager
def opened(settings: Settings, make_metrics: Callable[..., Metrics] = Metrics) -> Iterator[OpenApp]:
    """Open all that an application needs, ready to answer, and close it in the opposite order."""
    access = settings.access()
    path, why = settings.in_force()
    rec, found = open_model(path)
    with contextlib.ExitStack() as stack:
        store = open_store(settings.store or path.with_name("segue.db"), accept_loss=settings.accept_loss)
        stack.callback(store.close)
        service: Service
        metrics = make_metrics(
            lambda: service.online_metrics(),
            lambda: service.index_recall(),
            lambda: service.faults(),
            lambda: service.trends(),
        )
        shadow = open_model(settings.shadow)[0] if settings.shadow else None
        service = Service(
            rec, store, models=settings.folder, found=found, path=path, shadow=shadow, committed=metrics.commit
        )
        _take_scenarios(settings, service)
        if settings.folder is not None and not why:
            name_running(path)
        if rec.index is not None or index_path(path).exists():
            logger.info("lists: %s", found)
        stack.callback(service.close)
        app = make_app(service, access=access, metrics=metrics, rollouts=settings.folder is not None)
        if settings.folder is not None and not store.exclusive:
            follower = Follower(settings.folder, lambda: reload(settings, service, access, "another server"))
            stack.callback(follower.thread.stop)
        yield OpenApp(app, access, service, f"{path}{why}" if settings.folder else str(path))


def _take_scenarios(settings: Settings, service: Service) -> None:
    if settings.scenarios is not None:
        service.scenarios.put_file(read_scenarios(settings.scenarios, service))


@contextlib.contextmanager
def serving_process() -> Iterator[None]:
    """Make this process one that serves, once its application is open."""
    build.serving()  # compiled or opened now, not while somebody waits
    # What is there at the start stays: a full collection, which would look at all of it, stops everybody.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # what a request makes dies with it; a collection of it finds nothing
    # Requests are the threads here: products of matrices that start more of them wait for each other.
    with threadpool_limits(1, "blas"):
        yield


class Follower:
    """Reads the model again when another server of the same folder has rolled one out.

    Args:
        folder: of the models.
        reload: reads the model and the keys again, and returns whether that was possible.
    """

    def __init__(self, folder: Path, reload: Callable[[], bool]) -> None:
        self._path, self._reload = folder / CURRENT, reload
        self._named = self._read()
        self.thread = Background("segue-models", self.turn, every=FOLLOWED)
        self.thread.start()

    def turn(self) -> None:
        """Look once.

        Raises:
            ModelError: the model cannot be rolled out now, such as while another roll-out is under way.
        """
        if (named := self._read()) != self._named:
            if not self._reload():
                raise ModelError(f"{self._path}: expected a model that can be rolled out, came another.")
            self._named = named

    def _read(self) -> bytes:
        with contextlib.suppress(OSError):
            return self._path.read_bytes()
        return b""


def config_of(app: Any, limits: Limits, **more: Any) -> uvicorn.Config:
    """Return how uvicorn runs an application."""
    return uvicorn.Config(
        app, http=cast(Any, bounded(limits)), ws="none", log_level="warning", access_log=False, log_config=None,
        server_header=False, proxy_headers=False, h11_max_incomplete_event_size=limits.header_bytes,
        timeout_keep_alive=limits.idle_seconds, timeout_graceful_shutdown=30, **more,
    )  # fmt: skip


def serve(settings: Settings, say: Callable[[str], None] = logger.info) -> None:
    """Run a server until it is stopped; `say` gets a line where it listens and a line why it ended.

    Raises:
        ArgumentError: settings do not fit together, or the address is taken.
        ModelError, StoreError: one of them cannot be opened.
    """
    log_requests()
    with shutdown.said(say) as end, listening(settings) as listener, opened(settings) as open_app:
        server = Server(
            config_of(open_app.app, settings.limits), lambda: reload(settings, open_app.service, open_app.access)
        )
        end.stop = server.handle_exit

        def started() -> None:
            say(f"{url_of(listener)}: {open_app.running}; stop it with Ctrl-C.")
            if end.hung_up:
                signal.raise_signal(signal.SIGHUP)

        server.listening = started
        with serving_process():
            server.run(sockets=[listener])
        if not server.started:
            raise StoreError("server: expected to start, it did not; the lines above say why.")


def log_requests() -> None:
    """Log what the server has to say to stderr."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it logs the processor at its import


def reload(settings: Settings, service: Service, access: Access, why: str = "SIGHUP") -> bool:
    """Read the model and the keys again; what cannot be read is logged, and all stays as it was.

    Returns:
        Whether all could be read.
    """
    try:
        if settings.keys is not None:
            access.keys = read_keys(settings.keys)
        _take_scenarios(settings, service)
        fingerprint = service.roll_out(settings.in_force()[0])
    except (SegueError, OSError) as error:
        logger.error("%s: %s", why, error)
    except Exception as error:  # nobody waits for this: it would be lost without a word
        logger.error("%s: %s at %s", why, type(error).__name__, raised_at(error))
    else:
        logger.info("%s: model %s", why, fingerprint[:12])
        return True
    return False


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """Take the address that is listened on.

    Raises:
        ArgumentError: the address is taken, or is not one of this machine.
    """
    host, port = settings.host, settings.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"--host {host} --port {port}: cannot be listened on: {reason}. Take another.") from None
    with listener:
        yield listener


def url_of(listener: socket.socket) -> str:
    """Return the address at which a server is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
