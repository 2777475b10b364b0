"""The compiled loops: made once on each machine, kept in the cache folder, those of the training named to XLA.

Knows: how a source becomes a library for this very processor, when there is none, and when one may not be trusted.
Does not know: what the loops compute, or who calls them.

A machine without a C compiler, or `SEGUE_KERNELS=0`, has no library; what would call it uses its pure twin. Why there
is none is said once in the log and kept beside the libraries. It is tried again after a day, or when anything changes
that a library is made of. Imports JAX only when it is asked for the loops of the training.
"""

import ctypes
import hashlib
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from segue.errors import SegueError
from segue.files import cache_folder, replacing
from segue.kernels.private_folder import check_private, private_folder

logger = logging.getLogger("segue")
FOLDER = Path(__file__).parent
#: The loops of the training, those of the server, and what both include.
SOURCE, LISTS, FORMULAS = (FOLDER / name for name in ("training_loops.c", "serving_loops.c", "formulas.h"))
#: No flag changes the order of operations, but for sums that the source names.
FLAGS = (
    "-std=gnu11 -O3 -march=native -fPIC -shared -fvisibility=hidden -fno-math-errno -fno-trapping-math -fopenmp-simd"
)
#: Seconds for which a failure is remembered, and that a compiler may take.
RETRY, PATIENCE = 86_400, 120
#: The first JAX whose products of bfloat16 are the faster ones (0.6: .9 times the rate of float32, 0.8: 2 to 3 times).
FAST_BFLOAT16 = (0, 8)


@cache
def loaded() -> ctypes.CDLL | None:
    """Return the library with its loops named to XLA: on a processor, with a compiler, unless `SEGUE_KERNELS=0`."""
    if os.environ.get("SEGUE_KERNELS") == "0":
        return None
    import jax

    if jax.default_backend() != "cpu":
        return None
    library = opened(SOURCE, jax.ffi.include_dir(), made_for=(version("jax"), version("jaxlib")))
    if library is None:
        return None
    capsule: Any = jax.ffi.pycapsule
    for name in handlers():
        jax.ffi.register_ffi_target(name, capsule(getattr(library, name)), platform="cpu")
    return library


@cache
def lists() -> ctypes.CDLL | None:
    """Return the library with the loops of the server: with a compiler, unless `SEGUE_KERNELS=0`."""
    return None if os.environ.get("SEGUE_KERNELS") == "0" else opened(LISTS)


def available() -> bool:
    """Say whether XLA can call the loops here."""
    return loaded() is not None


def fast_bfloat16() -> bool:
    """Say whether products of bfloat16 are the faster ones here: this processor multiplies them, and XLA lets it."""
    library = loaded()
    if library is None:
        return False
    import jax

    return jax.__version_info__ >= FAST_BFLOAT16 and bool(library.segue_multiplies_bfloat16())


def compiling() -> str:
    """Return the line to print before a model is compiled."""
    slower = "" if available() else " Training is a fifth to a half slower without a C compiler (cc)."
    return f"Compiling the model (first run: a few seconds).{slower}"


def handlers() -> list[str]:
    """Return the names of all loops, as `training_loops.c` has them."""
    return re.findall(r"^HANDLER\((\w+)\)", SOURCE.read_text(encoding="utf-8"), re.MULTILINE)


def opened(
    source: Path, headers: str | None = None, compiler: str | None = None, made_for: Iterable[str] = ()
) -> ctypes.CDLL | None:
    """Return the library of a source, opened; see `compiled`. One that cannot be opened is made anew once."""
    for last in (False, True):
        path = compiled(source, headers, compiler, made_for)
        if path is None:
            return None
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            path.unlink(missing_ok=True)
            if last:
                _failed(path, f"the library cannot be opened: {error}")
    return None


def compiled(
    source: Path, headers: str | None = None, compiler: str | None = None, made_for: Iterable[str] = ()
) -> Path | None:
    """Return the library of a source, compiled if it is not in the cache folder; None where that cannot be done.

    Args:
        source: what is compiled.
        headers: the folder with XLA's headers, where it needs them.
        compiler: its command, with arguments; the environment's `CC`, or `cc`, where None.
        made_for: what else a library is only good for.

    A library is taken from a folder and a file of this user alone, which others cannot write to.
    """
    try:
        folder = private_folder(cache_folder() / "kernels")
        command = _command(compiler or os.environ.get("CC") or "cc")
        path = folder / f"{_key(source, headers, command, made_for)}.so"
        if path.is_symlink() or path.exists():
            check_private(path)
            return path
    except (OSError, ValueError, SegueError, subprocess.SubprocessError) as error:
        _tell(str(error))
        return None
    return None if _failed_lately(path) else _made(path, source, headers, command)


def _made(path: Path, source: Path, headers: str | None, command: list[str]) -> Path | None:
    """Return the path of a library after compiling it, whole or not at all."""
    try:
        if not command:
            raise OSError("there is no C compiler")
        with replacing(path) as part:
            include = [] if headers is None else ["-I", headers]
            whole = [*command, *FLAGS.split(), *include, "-o", str(part), str(source), "-lm"]
            done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=PATIENCE)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["it said nothing"])[0][:200]
                raise OSError(f"{shlex.join(command)} ended with {done.returncode}: {said}")
    except (OSError, subprocess.SubprocessError) as error:
        _failed(path, str(error))
        return None
    path.with_suffix(".failed").unlink(missing_ok=True)
    return path


def _failed_lately(path: Path) -> bool:
    try:
        return 0 <= time.time() - path.with_suffix(".failed").lstat().st_mtime < RETRY
    except OSError:
        return False


def _failed(path: Path, why: str) -> None:
    """Say why there is no library, and remember that so that the next start does not try."""
    _tell(why)
    try:
        with replacing(path.with_suffix(".failed")) as part:
            part.write_text(why + "\n", encoding="utf-8")
    except OSError:
        pass  # then it is tried again


@cache
def _tell(why: str) -> None:
    logger.warning(
        "Compiled loops: expected a C compiler and a cache folder of one's own, came: %s. The pure code does the same, "
        "slower. Mend it, name another compiler (CC) or folder (SEGUE_CACHE), or set SEGUE_KERNELS=0 to hear no more.",
        why,
    )


def _command(text: str) -> list[str]:
    """Return a compiler's command with its arguments; empty where there is no such program.

    Example:
        >>> _command("no-such-compiler -m64")
        []
    """
    program, *arguments = shlex.split(text) or ["cc"]
    found = shutil.which(program)
    return [found, *arguments] if found else []


def _key(source: Path, headers: str | None, command: list[str], made_for: Iterable[str]) -> str:
    """Return what a library is only good for: its sources, flags, compiler and kind of processor, and the rest."""
    cpu, identity = Path("/proc/cpuinfo"), ""
    wanted = re.compile(r"^(?:flags|Features|model name)\s*:.*", re.MULTILINE)
    features = sorted(set(wanted.findall(cpu.read_text()))) if cpu.exists() else [platform.processor()]
    if command:
        asked = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False, timeout=30)
        identity = asked.stdout + asked.stderr + os.path.realpath(command[0])
    files = [source, FORMULAS, *(sorted(Path(headers).rglob("*.h")) if headers else [])]
    parts = [*(file.read_text(encoding="utf-8") for file in files), FLAGS, *command, identity, platform.machine()]
    parts += [platform.node(), *features, *made_for]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
