"""Tuned settings in a file beside the model, so that a second evaluation does not tune again.

Knows: settings by a key of the data and the code. Does not know: how settings are tuned.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.data.sequences import transition_counts
from segue.files import replacing
from segue.metrics import coordinate_search

#: Keys that a file holds at most, the newest.
_MOST = 20
#: Bytes of a file at most; a longer one is not read.
_LONGEST = 1 << 20

Settings = dict[str, dict[str, Any]]


def data_key(arrays: Iterable[NDArray[Any] | None], *facts: object) -> str:
    """Return 32 hexadecimal digits that stand for arrays, facts, and the code that tunes.

    Example:
        >>> one, other = data_key([np.arange(3)], 3), data_key([np.arange(3)], 4)
        >>> len(one), one == other, one == data_key([np.arange(3)], 3)
        (32, False, True)
    """
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=16)
    sources = [*Path(__file__).parent.glob("*.py"), Path(transition_counts.__file__), Path(coordinate_search.__file__)]
    for path in sorted(sources):
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    for array in arrays:
        digest.update(b"none" if array is None else f"{array.dtype} {array.shape}".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_settings(path: Path, key: str) -> Settings:
    """Return title -> settings of a key; nothing where the file is missing, or is not such a file."""
    every = _read(path)
    found = every.get(key)
    settings = found.items() if isinstance(found, dict) else ()
    return {title: each for title, each in settings if isinstance(each, dict)}


def write_settings(path: Path, key: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep settings under a key, beside those of other keys; the oldest keys go.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "films.segue.baselines.json"
        ...     write_settings(path, "k", {"EASE": {"half_life": float("inf")}})
        ...     read_settings(path, "k"), read_settings(path, "other")
        ({'EASE': {'half_life': inf}}, {})
    """
    every = _read(path)
    every[key] = every.pop(key, {}) | {title: dict(each) for title, each in settings.items()}
    newest = dict(list(every.items())[-_MOST:])
    with replacing(path) as part:
        part.write_text(json.dumps({"segue baselines": 1, "keys": newest}, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LONGEST:
            return {}
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    known = isinstance(whole, dict) and whole.get("segue baselines") == 1 and isinstance(whole.get("keys"), dict)
    return {key: each for key, each in whole["keys"].items() if isinstance(each, dict)} if known else {}
