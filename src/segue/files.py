"""Files that are written whole or not at all: arrays with text in one file, and the cache folder."""

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from segue.errors import ArgumentError, DatasetError, ModelError


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the cache folder: SEGUE_CACHE, or `segue` in XDG_CACHE_HOME or in ~/.cache.

    Example:
        >>> cache_folder({"XDG_CACHE_HOME": "/c"}).as_posix()
        '/c/segue'

    Raises:
        DatasetError: none of the variables is set, and the user has no home.
    """
    if environment.get("SEGUE_CACHE"):
        return Path(environment["SEGUE_CACHE"])
    home = Path(environment.get("XDG_CACHE_HOME", ""))
    try:
        return (home if home.is_absolute() else Path.home() / ".cache") / "segue"
    except RuntimeError:
        raise DatasetError(
            "cache folder: expected SEGUE_CACHE, XDG_CACHE_HOME or a home folder, found none. Set SEGUE_CACHE."
        ) from None


@contextlib.contextmanager
def replacing(path: Path, *, secret: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; then sync the new file and rename it to `path`.

    After any error the old file is unchanged and nothing else is left. A new file has the mode of
    the umask; a file that replaces another keeps its mode.

    Args:
        secret: only the owner may read and write the file, whatever the mode before.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600 if secret else 0o666))
    try:
        like = path if path.exists() and not secret else part
        mode = stat.S_IMODE(like.stat().st_mode) & 0o777
        part.chmod(mode | 0o600)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(mode)  # the writer may have made the file anew
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_file(path: Path, option: str, ending: str = "") -> None:
    """Do nothing if a file can be written at `path`; for checks before long work.

    Args:
        option: what messages call the argument.
        ending: that the name must have, such as ".parquet".

    Raises:
        ArgumentError: the folder cannot be written to, the path is a folder, or its name ends
            otherwise.
    """
    if path.is_dir():
        raise ArgumentError(f"{option} {path}: expected the name of a file, came a folder. Name a file in it.")
    check_folder(path.parent, f"{option} {path}")
    if ending and path.suffix.lower() != ending:
        raise ArgumentError(
            f"{option} {path}: expected a name that ends in {ending}, the format that is written. Rename it."
        )


def check_folder(folder: Path, named: str) -> None:
    """Do nothing if files can be written into a folder; see `check_file`.

    Raises:
        ArgumentError: the folder is missing, or cannot be written to.
    """
    if not folder.is_dir():
        raise ArgumentError(f"{named}: expected an existing folder, found no {folder}. Make it first.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ArgumentError(
            f"{named}: expected a folder that can be written to, {folder} cannot: {error.strerror or error}. "
            "Give another, or change its permissions."
        ) from None


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file: all of it or, on any error, nothing.

    Raises:
        ModelError: the folder is missing or cannot be written, or the disk is full.
    """
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        with replacing(path) as part:
            part.write_bytes(save(whole, metadata=dict(metadata)))
    except OSError as error:
        state = "The old file is unchanged." if path.exists() else "Nothing was written."
        raise ModelError(f"{path}: cannot be saved: {error.strerror or error}. {state}") from error


def read_arrays(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """Return the arrays and the metadata of a file that `write_arrays` wrote.

    Raises:
        ModelError: there is no such file, or the file is cut short or of another kind.
    """
    if path.is_dir():
        raise ModelError(f"{path}: expected a model, came a folder. Name a model in it.")
    if not path.is_file():
        raise ModelError(f"{path}: expected a file written by Segue, found none. Check the path.")
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}. Check its permissions.") from None
    except (TypeError, ValueError, AttributeError, MemoryError) as error:
        raise ModelError(
            f"{path}: expected arrays as Segue writes them, NumPy has none of this kind ({error}). "
            "Take the file from a backup."
        ) from None
    except SafetensorError as error:
        with path.open("rb") as file:
            begins = file.read(9)[8:]
        if begins not in (b"{", b""):
            raise ModelError(
                f"{path}: expected a file written by Segue, came another kind of file. Give what segue train wrote."
            ) from None
        raise ModelError(
            f"{path}: damaged, cut short, or not a file of Segue ({error}). Take it from a backup, or train again."
        ) from None
