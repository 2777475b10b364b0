"""Folders on this machine, or at an address that fsspec opens; a file in them is written whole or not at all."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from segue.addresses import hidden, shown
from segue.errors import DataError
from segue.files import replacing

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class DataFolder:
    """A folder of files, named by a path or by an address such as s3://bucket/plays.

    Addresses need fsspec, and the library of their kind: s3fs, gcsfs, adlfs. The folder is opened
    at each call, so that an object may go to another process.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as path:
        ...     folder = DataFolder(path)
        ...     folder.write("a/b.txt", b"whole")
        ...     folder.read("a/b.txt"), folder.has("a/c.txt"), folder.names("a")
        (b'whole', False, ['b.txt'])
    """

    address: str

    def __str__(self) -> str:
        return shown(self.address)

    @property
    def path(self) -> Path | None:
        """The path of a folder on this machine, None for an address."""
        return None if "://" in self.address else Path(self.address)

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            DataError: there is no such file, or the folder does not answer.
        """
        try:
            if self.path is not None:
                return (self.path / name).read_bytes()
            return self._asked("read", name, lambda fs, at: bytes(fs.cat_file(at)))
        except FileNotFoundError:
            raise DataError(f"{self}: expected a file {name}, found none. Check the path, or make it again.") from None
        except OSError as error:
            raise self._fault("read", name, error) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file beside its place and rename it; folders on the way are made.

        Raises:
            DataError: the folder cannot be written to, or does not answer.
        """
        try:
            if self.path is None:
                return self._asked("write", name, lambda fs, at: _put(fs, at, content))
            whole = self.path / name
            whole.parent.mkdir(parents=True, exist_ok=True)
            with replacing(whole) as part:
                part.write_bytes(content)
        except OSError as error:
            raise self._fault("write", name, error) from error

    def remove(self, name: str) -> None:
        """Remove a file; nothing where there is none.

        Raises:
            DataError: the folder cannot be written to, or does not answer.
        """
        try:
            if self.path is None:
                self._asked("write", name, lambda fs, at: fs.rm_file(at) if fs.exists(at) else None)
            else:
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._fault("write", name, error) from error

    def has(self, name: str) -> bool:
        """Return whether there is a file or folder with this name."""
        if self.path is not None:
            return (self.path / name).exists()
        return self._asked("read", name, lambda fs, at: bool(fs.exists(at)))

    def names(self, under: str = "") -> list[str]:
        """Return the names of what lies in the folder, or in a folder in it, in order; none where it is missing."""
        if self.path is not None:
            inside = self.path / under
            return sorted(path.name for path in inside.iterdir()) if inside.is_dir() else []
        try:
            found = self._asked("read", under, lambda fs, at: list(fs.ls(at, detail=False)))
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def _asked(self, verb: str, name: str, ask: Callable[[Any, str], _Result]) -> _Result:
        """Ask the file system of an address; its libraries raise errors of many kinds."""
        kind = self.address.partition("://")[0]
        try:
            from fsspec.core import url_to_fs

            fs, root = url_to_fs(self.address)
            if "file" in (protocol := fs.protocol) or protocol == "file":
                fs.auto_mkdir = True
            return ask(fs, f"{root.rstrip('/')}/{name}".rstrip("/"))
        except FileNotFoundError:
            raise
        except ImportError as error:
            raise DataError(
                f"{self}: expected libraries that open {kind}://, {error}. "
                "pip install fsspec with the library of the store (s3fs, gcsfs, adlfs), or give a path."
            ) from None
        except Exception as error:
            raise self._fault(verb, name, error) from error

    def _fault(self, verb: str, name: str, error: Exception) -> DataError:
        done = "read" if verb == "read" else "written"
        why = (getattr(error, "strerror", None) or str(error) or type(error).__name__).partition("\n")[0][:200]
        why = hidden(why, [self.address])
        check = "Check the address and its credentials." if self.path is None else "Check permissions and free room."
        return DataError(f"{self}: expected a folder that answers, {name} cannot be {done}: {why}. {check}")


def _put(fs: Any, at: str, content: bytes) -> None:
    aside = f"{at}.{secrets.token_hex(4)}.part"
    fs.makedirs(at.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(aside, content)
    fs.mv(aside, at)
