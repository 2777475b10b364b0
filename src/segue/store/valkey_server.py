"""A connection to a Valkey or Redis server: scripts in, replies out; what errors mean, and its settings."""

import hashlib
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from valkey import Valkey
from valkey.backoff import NoBackoff
from valkey.exceptions import (
    AuthenticationError,
    ConnectionError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
    ValkeyError,
)
from valkey.retry import Retry

from segue.addresses import shown
from segue.errors import FullError, LostError, StoreError
from segue.store.base import Readiness

_SCRIPTS = Path(__file__).parent / "lua"
#: With these settings a reply comes after its write is on disk, and the write stays.
_SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
#: Fields of INFO that say that the server writes a file in the background.
_WRITING = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")


@cache
def _script(name: str) -> tuple[str, str]:
    """Return the text of a script and its digest."""
    text = (_SCRIPTS / "common.lua").read_text() + (_SCRIPTS / f"{name}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class ValkeyServer:
    """A server and the prefix of the store's keys.

    No command is repeated when a connection breaks, because the write may have been done.
    """

    def __init__(self, address: str, *, prefix: str) -> None:
        self.address = shown(address)  # without the password, for messages
        self.prefix = f"{{{prefix}}}:"  # in a cluster, all keys of a prefix lie on one server
        self.store_id = ""  # the SHA-1 of the store's secret, which each script compares
        self._purging, self._closed = threading.Lock(), False
        settings: dict[str, Any] = {"socket_timeout": 60, "socket_connect_timeout": 5, "health_check_interval": 10}
        try:
            self._client: Any = Valkey.from_url(address, retry=Retry(NoBackoff(), 0), **settings)
            self._client.connection_pool.make_connection()  # reads the options without connecting
        except (ValueError, TypeError, AttributeError, ValkeyError):  # its message would repeat the password
            raise StoreError(
                f"store {self.address}: expected valkey://:password@host:port/0, came an address that cannot be read. "
                "Check each part and each option."
            ) from None

    def run(self, name: str, *message: Any) -> Any:
        """Return the reply of a script. The server runs all of it or, short of room, nothing."""
        text, digest = _script(name)
        packed = _pack(message)
        try:
            return self.call("EVALSHA", digest, 1, self.prefix, packed, self.store_id)
        except NoScriptError:
            return self.call("EVAL", text, 1, self.prefix, packed, self.store_id)

    def call(self, *command: Any) -> Any:
        """Return the reply of the server to a command."""
        with self._errors():
            return self._client.execute_command(*command)

    def ready(self, *, accept_loss: bool) -> Readiness:
        """Return whether a reply means that a write is on disk."""
        where = f"{self.address}: "
        try:
            if self.call("INFO", "replication")["role"] != "master":
                return Readiness(False, where + "this is a replica, which cannot be written. Give the primary.")
            if accept_loss:
                return Readiness(True)
            if self.call("INFO", "persistence").get("aof_last_write_status", "ok") != "ok":
                return Readiness(False, where + "the server cannot write its append-only file. Check its disk.")
            settings = {name: self._setting(name) for name in _SETTINGS}
        except StoreError as error:
            return Readiness(False, f"{error}")
        wrong = [f"{name} {want} (is {settings[name]})" for name, want in _SETTINGS.items() if settings[name] != want]
        advice = "an acknowledged event could be lost. Set these in the server, or accept the loss (accept_loss)."
        return Readiness(False, f"{where}expected {', '.join(wrong)}: {advice}") if wrong else Readiness(True)

    def rewrite(self, *, wait: float) -> None:
        """Wait until the server's files hold no trace of what was erased; others write meanwhile.

        The server rewrites its files in the background, unless nothing was erased since the last
        rewrite. Callers at the same time share a rewrite. A rewrite that a crash interrupts is
        done by the next call.

        Raises:
            StoreError: the rewrite took longer than `wait` seconds. The data is deleted, but old
                files still hold it.
        """
        end, erased = time.monotonic() + wait, self._count("erased")
        if self._count("purged") >= erased:
            return
        if not self._purging.acquire(timeout=max(0, wait)):
            raise self._unpurged("BGREWRITEAOF")
        try:
            if self._count("purged") < erased:  # no other caller has rewritten the files since
                covered = self._count("erased")
                self._rewrite_files(end)
                self.run("purged", covered)
        finally:
            self._purging.release()

    def _count(self, name: str) -> int:
        return int(self.call("GET", self.prefix + name) or 0)

    def _rewrite_files(self, end: float) -> None:
        """Make the server rewrite its files without what was deleted, and wait for the end."""
        if self.call("INFO", "persistence")["aof_enabled"]:
            self._in_background("BGREWRITEAOF", "aof_last_bgrewrite_status", end)
        if self._setting("save"):
            self._in_background("BGSAVE", "rdb_last_bgsave_status", end)

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._client.close()

    def _in_background(self, command: str, status: str, end: float) -> None:
        """Run a command that writes a file, after the end of any that runs already."""
        begun, busy = False, True
        while busy or not begun:
            if time.monotonic() > end or self._closed:
                raise self._unpurged(command)
            now = self.call("INFO", "persistence")
            busy = any(now[name] for name in _WRITING)
            if not busy and not begun:
                begun = busy = self._begin(command)
            time.sleep(0.02 if busy else 0)
        if now[status] != "ok":
            raise StoreError(
                f"{self.address}: erased, but {command} failed, and the old files still hold it. "
                "Look into the log of the server."
            )

    def _begin(self, command: str) -> bool:
        """Start a background command; False where another has just started."""
        try:
            self.call(command)
        except StoreError as error:
            if "progress" in f"{error}" or "child process" in f"{error}":
                return False
            raise
        return True

    def _unpurged(self, command: str) -> StoreError:
        return StoreError(
            f"{self.address}: erased, but the server has not rewritten its files in time, and the old files still "
            f"hold it. Erase again to wait for that, or run {command} in the server."
        )

    def _setting(self, name: str) -> str:
        try:
            reply = self.call("CONFIG GET", name)
        except StoreError:
            return "hidden"
        return {_text(key): _text(value) for key, value in reply.items()}.get(name, "unknown")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except NoScriptError:
            raise
        except AuthenticationError as error:
            raise StoreError(f"{self.address}: refused the user or password ({error}). Check them.") from error
        except (ConnectionError, TimeoutError) as error:
            raise LostError(
                f"{self.address}: the server did not answer ({error}). A write may or may not have been done: "
                "repeat it, with ids."
            ) from error
        except ResponseError as error:
            if str(error).startswith(("OOM", "MISCONF", "command not allowed when used memory")):
                raise FullError(
                    f"{self.address}: no room to write ({error}). Nothing was changed. Make room, and repeat."
                ) from error
            if isinstance(error, ReadOnlyError | MasterDownError) or str(error).startswith("NOREPLICAS"):
                raise StoreError(
                    f"{self.address}: cannot be written ({error}). Nothing was changed. Give the primary, and see to "
                    "its replicas."
                ) from error
            if "EMPTIED" in str(error):
                raise StoreError(
                    f"{self.address}: expected the database that was opened, it was emptied or replaced. Nothing was "
                    "changed. Stop every server of this store, restore the data, and start again."
                ) from None
            raise StoreError(f"{self.address}: refused ({error}). Check the server and who else uses it.") from error
        except ValkeyError as error:
            raise StoreError(f"{self.address}: cannot be used ({error}). Check the server.") from error


def _pack(value: Any) -> bytes:
    """Return MessagePack for the scripts' reader, which takes bytes as texts only.

    Example:
        >>> _pack([True, 1, b"a"]).hex(" ")
        'dd 00 00 00 03 c3 d3 00 00 00 00 00 00 00 01 db 00 00 00 01 61'
    """
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value)
    if isinstance(value, str | bytes):
        text = value.encode() if isinstance(value, str) else value
        return struct.pack(">BI", 0xDB, len(text)) + text
    return struct.pack(">BI", 0xDD, len(value)) + b"".join(_pack(part) for part in value)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
