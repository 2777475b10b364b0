"""A folder that code is loaded from: the user's own, which nobody else can put a file into.

Knows: owners, modes, links. Does not know: what the code is.
"""

import os
import stat
from pathlib import Path

#: The right to write of a group and of everybody, and the mark of a folder where only owners rename.
_OTHERS, _EVERYBODY = 0o022, 0o002


def private_folder(path: Path) -> Path:
    """Return a folder, made with mode 0700 if it is not there, that is this user's alone.

    Raises:
        OSError: it cannot be made, is a link, is somebody else's or can be written to by others; or one of the folders
            above could be replaced by others.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for above in {*path.parents, *path.resolve().parents}:
        _check_above(above)
    _check(path, folder=True)
    return path


def check_private(path: Path) -> None:
    """Do nothing if a file in a private folder is this user's own, and no link.

    Raises:
        OSError: it is not, or is not there.
    """
    _check(path, folder=False)


def _check(path: Path, *, folder: bool) -> None:
    found, kind = path.lstat(), "folder" if folder else "file"
    came = None
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(found.st_mode):
        came = "a link or another thing"
    elif found.st_uid != os.geteuid():
        came = f"one of user {found.st_uid}"
    elif found.st_mode & _OTHERS:
        came = f"one that others can write to (mode {stat.S_IMODE(found.st_mode):o})"
    if came:
        remedy = f"chmod {'700' if folder else '600'} it, or remove it"
        raise PermissionError(f"{path}: expected a {kind} of this user alone, came {came}: {remedy}")


def _check_above(path: Path) -> None:
    found = path.lstat()
    if found.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{path}: expected a folder of this user or of root, came one of user {found.st_uid}")
    open_to_all = found.st_mode & _EVERYBODY and not found.st_mode & stat.S_ISVTX
    if open_to_all and not stat.S_ISLNK(found.st_mode):
        mode = f"{stat.S_IMODE(found.st_mode):o}"
        raise PermissionError(f"{path}: expected a folder that not everybody can write to, came mode {mode}")
