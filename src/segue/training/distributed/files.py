"""The files of a run: each worker's part of the log, its checkpoint, the weights at the end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from segue.data.sequences.sequences import COLUMNS, Sequences
from segue.errors import TrainingError
from segue.model.network import NetworkParams

_ANEW = "Remove the folder to begin anew."


def write_sequences(sequences: Sequences, folder: Path) -> None:
    """Write sequences without the ids of users."""
    folder.mkdir(parents=True)
    for name in ("offsets", "profiles", *COLUMNS):
        if (values := getattr(sequences, name)) is not None:
            np.save(folder / f"{name}.npy", values)


def read_sequences(folder: Path) -> Sequences:
    """Return sequences of `write_sequences`, read through memory maps; users are numbers."""
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    offsets = np.asarray(arrays.pop("offsets"))
    return Sequences(pl.Series(np.arange(len(offsets) - 1)), offsets, **arrays)


def save_worker(folder: Path, worker: int, tree: Any, facts: dict[str, Any]) -> None:
    """Write one worker's arrays and facts into a folder; an array needs no second copy in memory."""
    for number, leaf in enumerate(jax.tree.leaves(tree)):
        np.save(folder / f"worker-{worker}-{number}.npy", leaf)
    (folder / f"worker-{worker}.json").write_text(json.dumps(facts), encoding="utf-8")


def load_facts(folder: Path, worker: int, same: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a worker.

    Args:
        same: what they must hold: the identity of the run, the number of workers.

    Raises:
        TrainingError: they are missing or damaged, or of another run.
    """
    kept = read_facts(folder, worker)
    for name, value in same.items():
        if kept.get(name) != value:
            raise TrainingError(
                f"{folder}: expected a checkpoint of this run, came a checkpoint of other settings, another log or "
                f"another number of workers ({name}). Give the same log, settings and --workers, or leave out --resume."
            )
    return kept


def load_arrays(
    folder: Path,
    worker: int,
    like: Any,
    *,
    skip: int = 0,
    mapped: bool = False,
    place: Callable[[Any], Any] = lambda array: array,
) -> Any:
    """Return a tree of arrays that `save_worker` wrote.

    Args:
        like: a tree of the same structure and shapes.
        skip: arrays that were written before it.
        mapped: whether arrays are read through memory maps.
        place: called with each array as it is read.

    Raises:
        TrainingError: a file is missing or damaged.
    """

    def load(number: int, leaf: Any) -> Any:
        array = _read(folder / f"worker-{worker}-{number}.npy", mapped=mapped)
        if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
            raise TrainingError(f"{folder}: damaged, an array has another shape. {_ANEW}")
        return place(array)

    leaves = [load(number, leaf) for number, leaf in enumerate(jax.tree.leaves(like), start=skip)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def read_facts(folder: Path, worker: int) -> dict[str, Any]:
    """Return the facts of a worker."""
    path = folder / f"worker-{worker}.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: damaged or missing ({error}). {_ANEW}") from None
    if not isinstance(facts, dict):
        raise TrainingError(f"{path}: damaged, expected an object. {_ANEW}")
    return facts


def _read(path: Path, *, mapped: bool = True) -> Any:
    try:
        return np.load(path, mmap_mode="r" if mapped else None)
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"{path}: damaged or missing ({error}). {_ANEW}") from None


def whole_params(folder: Path, workers: int, items: int, like: NetworkParams, *, owned: bool) -> NetworkParams:
    """Return the best averaged weights of a finished run; the first leaves of each worker's checkpoint.

    Args:
        items: V.
        like: weights of the same structure; sizes of the item table do not count.
        owned: whether each worker holds the rows of its own.
    """
    count = len(jax.tree.leaves(like))
    first = [_read(folder / f"worker-0-{number}.npy") for number in range(count)]
    params: NetworkParams = jax.tree.unflatten(jax.tree.structure(like), first)
    if owned:
        items_table, bias = (_dealt(folder, workers, number, items) for number in range(2))
        params = params._replace(items=items_table, bias=bias)
    whole: NetworkParams = jax.tree.map(np.asarray, params)
    return whole


def _dealt(folder: Path, workers: int, number: int, items: int) -> Any:
    """Return an array whose row `r` is row `r // N` of worker `r % N`."""
    parts = [_read(folder / f"worker-{worker}-{number}.npy") for worker in range(workers)]
    table = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.float32)
    for worker, part in enumerate(parts):
        table[worker::workers] = part
    return table[:items]
