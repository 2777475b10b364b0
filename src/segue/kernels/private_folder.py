"""A private folder, from which code may be loaded: only its user can put a file into it."""

import os
import stat
from pathlib import Path

#: The permission to write of group and others, and of others alone.
_OTHERS, _EVERYBODY = 0o022, 0o002


def private_folder(path: Path) -> Path:
    """Return a private folder of this user, made with mode 0700 if it is not there.

    Raises:
        OSError: it cannot be made, is a link, belongs to somebody else, or others can write to it
            or replace a folder above it.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for above in {*path.parents, *path.resolve().parents}:
        _check_above(above)
    _check(path, folder=True)
    return path


def check_private(path: Path) -> None:
    """Check that a file in a private folder belongs to this user and is no link.

    Raises:
        OSError: it does not, or is not there.
    """
    _check(path, folder=False)


def _check(path: Path, *, folder: bool) -> None:
    status, kind = path.lstat(), "folder" if folder else "file"
    came = None
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        came = "a link or another kind"
    elif status.st_uid != os.geteuid():
        came = f"one of user {status.st_uid}"
    elif status.st_mode & _OTHERS:
        came = f"one that others can write to (mode {stat.S_IMODE(status.st_mode):o})"
    if came:
        remedy = f"chmod {'700' if folder else '600'} it, or remove it"
        raise PermissionError(f"{path}: expected a {kind} of this user alone, came {came}: {remedy}")


def _check_above(path: Path) -> None:
    status = path.lstat()
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{path}: expected a folder of this user or of root, came one of user {status.st_uid}")
    open_to_all = status.st_mode & _EVERYBODY and not status.st_mode & stat.S_ISVTX
    if open_to_all and not stat.S_ISLNK(status.st_mode):
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        raise PermissionError(f"{path}: expected a folder that not everybody can write to, came mode {mode}")
