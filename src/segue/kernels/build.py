"""The libraries of compiled loops: made once on each machine, kept in the cache folder.

Without a C compiler, or with `SEGUE_KERNELS=0`, there is no library and callers use the pure twins.
The reason is logged once and kept beside the libraries. Compiling is tried again after a day, or
when a source, a flag or the compiler changes. JAX is imported only for the loops of the training.
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
#: The loops of the training, those of the server, counts of trends and of simple models, and their common part.
TRAINING, SERVING, TRENDS, COUNTING = (
    FOLDER / f"{name}_loops.c" for name in ("training", "serving", "trend", "counting")
)
FORMULAS = FOLDER / "formulas.h"
#: No flag changes the order of operations, except in sums that the source marks.
FLAGS = (
    "-std=gnu11 -O3 -march=native -fPIC -shared -fvisibility=hidden -fno-math-errno -fno-trapping-math -fopenmp-simd"
)
#: Seconds for which a failure is remembered, and seconds that a compiler may take.
RETRY, PATIENCE = 86_400, 120
#: The first JAX with faster products of bfloat16 (0.6: .9 times float32's rate, 0.8: 2 to 3 times).
FAST_BFLOAT16 = (0, 8)


@cache
def training() -> ctypes.CDLL | None:
    """Return the loops of the training; None on a GPU, without a compiler, or if turned off."""
    if os.environ.get("SEGUE_KERNELS") == "0":
        return None
    import jax

    if jax.default_backend() != "cpu":
        return None
    library = opened(TRAINING, jax.ffi.include_dir(), made_for=(version("jax"), version("jaxlib")))
    if library is None:
        return None
    capsule: Any = jax.ffi.pycapsule
    for name in handlers():
        jax.ffi.register_ffi_target(name, capsule(getattr(library, name)), platform="cpu")
    return library


@cache
def serving() -> ctypes.CDLL | None:
    """Return the loops of the server; None without a compiler, or if turned off."""
    return None if os.environ.get("SEGUE_KERNELS") == "0" else opened(SERVING)


@cache
def trends() -> ctypes.CDLL | None:
    """Return the counts of trends; None without a compiler, or if turned off."""
    return None if os.environ.get("SEGUE_KERNELS") == "0" else opened(TRENDS)


@cache
def counting() -> ctypes.CDLL | None:
    """Return the counts of simple models; None without a compiler, or if turned off."""
    return None if os.environ.get("SEGUE_KERNELS") == "0" else opened(COUNTING)


def available() -> bool:
    """Say whether XLA can call the loops here."""
    return training() is not None


def fast_bfloat16() -> bool:
    """Say whether products of bfloat16 are faster with this processor and this XLA."""
    library = training()
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
    return re.findall(r"^HANDLER\((\w+)\)", TRAINING.read_text(encoding="utf-8"), re.MULTILINE)


def opened(
    source: Path, headers: str | None = None, compiler: str | None = None, made_for: Iterable[str] = ()
) -> ctypes.CDLL | None:
    """Return the opened library of a source; one that cannot be opened is compiled once more."""
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
    """Return the library of a source, compiled if it is not kept; None where this fails.

    Only a folder and a file that belong to this user, and that others cannot write to, are used.

    Args:
        source: what is compiled.
        headers: the folder with XLA's headers, if needed.
        compiler: its command, with arguments; None takes the environment's `CC`, or `cc`.
        made_for: versions that the library is only good for.
    """
    try:
        folder = private_folder(cache_folder() / "kernels")
        command = _command(compiler or os.environ.get("CC") or "cc")
        path = folder / f"{_key(source, headers, command, made_for)}.so"
        if path.is_symlink() or path.exists():
            check_private(path)
            return path
    except (OSError, ValueError, SegueError, subprocess.SubprocessError) as error:
        _warn(str(error))
        return None
    return None if _failed_lately(path) else _made(path, source, headers, command)


def _made(path: Path, source: Path, headers: str | None, command: list[str]) -> Path | None:
    """Compile a library, whole or not at all, and return its path."""
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
    """Log why there is no library, and keep the reason for the next start."""
    _warn(why)
    try:
        with replacing(path.with_suffix(".failed")) as part:
            part.write_text(why + "\n", encoding="utf-8")
    except OSError:
        pass  # the next start tries again


@cache
def _warn(why: str) -> None:
    logger.warning(
        "Compiled loops: expected a C compiler and a private cache folder, came: %s. The slower pure code is used. "
        "Fix this, name another compiler (CC) or folder (SEGUE_CACHE), or set SEGUE_KERNELS=0 to silence this warning.",
        why,
    )


def _command(text: str) -> list[str]:
    """Return a compiler's command with its arguments; empty where there is no such program.

    Example:
        >>> _command("no-such-compiler -m64")
        []
    """
    program, *arguments = shlex.split(text) or ["cc"]
    path = shutil.which(program)
    return [path, *arguments] if path else []


def _key(source: Path, headers: str | None, command: list[str], made_for: Iterable[str]) -> str:
    """Return a digest of all that a library depends on: sources, flags, compiler, processor."""
    cpu, identity = Path("/proc/cpuinfo"), ""
    wanted = re.compile(r"^(?:flags|Features|model name)\s*:.*", re.MULTILINE)
    features = sorted(set(wanted.findall(cpu.read_text()))) if cpu.exists() else [platform.processor()]
    if command:
        version_of = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False, timeout=30)
        identity = version_of.stdout + version_of.stderr + os.path.realpath(command[0])
    files = [source, FORMULAS, *(sorted(Path(headers).rglob("*.h")) if headers else [])]
    parts = [*(file.read_text(encoding="utf-8") for file in files), FLAGS, *command, identity, platform.machine()]
    parts += [platform.node(), *features, *made_for]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
