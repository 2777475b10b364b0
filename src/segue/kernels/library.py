"""The compiled loops: made once on each machine, kept in the cache folder, those of the training named to XLA.

Knows: how a source becomes a library for this very processor, and when there is none.
Does not know: what the loops compute, or who calls them.

A machine without a C compiler, or `SEGUE_KERNELS=0`, has no library; what would call it uses its pure twin. Imports JAX
only when it is asked for the loops of the training.
"""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from segue.data.datasets import cache_folder
from segue.files import replacing

FOLDER = Path(__file__).parent
#: The loops of the training, those of the server, and what both include.
SOURCE, LISTS, FORMULAS = (FOLDER / name for name in ("kernels.c", "lists.c", "formulas.h"))
#: No flag changes the order of operations, but for sums that the source names.
FLAGS = (
    "-std=gnu11 -O3 -march=native -fPIC -shared -fvisibility=hidden -fno-math-errno -fno-trapping-math -fopenmp-simd"
)
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
    library = _opened(compiled(SOURCE, jax.ffi.include_dir()))
    if library is None:
        return None
    capsule: Any = jax.ffi.pycapsule
    for name in handlers():
        jax.ffi.register_ffi_target(name, capsule(getattr(library, name)), platform="cpu")
    return library


@cache
def lists() -> ctypes.CDLL | None:
    """Return the library with the loops of the server: with a compiler, unless `SEGUE_KERNELS=0`."""
    return None if os.environ.get("SEGUE_KERNELS") == "0" else _opened(compiled(LISTS))


def _opened(path: Path | None) -> ctypes.CDLL | None:
    try:
        return None if path is None else ctypes.CDLL(str(path))
    except OSError:
        return None


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


def described() -> str:
    """Return a line on whether the loops are compiled here."""
    if available():
        return "Loops between products: compiled for this processor."
    return "Loops between products: XLA's own, a fifth to a half slower; a C compiler (cc) would make them faster."


def handlers() -> list[str]:
    """Return the names of all loops, as `kernels.c` has them."""
    return re.findall(r"^HANDLER\((\w+)\)", SOURCE.read_text(encoding="utf-8"), re.MULTILINE)


def compiled(source: Path, headers: str | None = None, compiler: str | None = None) -> Path | None:
    """Return the library of a source, compiled if it is not in the cache folder; None where that cannot be done.

    Args:
        source: what is compiled.
        headers: the folder with XLA's headers, where it needs them.
        compiler: its command; the environment's `CC`, or `cc`, where None.
    """
    compiler = shutil.which(compiler or os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    path = cache_folder() / "kernels" / f"{_key(source, compiler)}.so"
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            include = [] if headers is None else ["-I", headers]
            command = [compiler, *FLAGS.split(), *include, "-o", str(part), str(source), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        return None
    return path


def _key(source: Path, compiler: str) -> str:
    """Return what a library is only good for: this source, these flags, this compiler and this kind of processor."""
    cpu = Path("/proc/cpuinfo")
    features = re.findall(r"^(?:flags|Features)\s*:.*", cpu.read_text(), re.MULTILINE)[:1] if cpu.exists() else []
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    parts = [
        source.read_text(encoding="utf-8"),
        FORMULAS.read_text(encoding="utf-8"),
        FLAGS,
        compiler,
        version,
        platform.machine(),
        platform.node(),
        *features,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
