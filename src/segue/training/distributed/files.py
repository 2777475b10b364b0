"""The files of a run: each worker's part of the log, its checkpoint, the weights at the end."""

import json
from dataclasses import replace
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


def load_worker(folder: Path, worker: int, like: Any, facts: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the arrays and all facts that `save_worker` wrote.

    Args:
        like: a tree of arrays or shapes of the same structure.
        facts: what must be the same: the identity of the run, the number of workers.

    Raises:
        TrainingError: a file is missing or damaged, or of another run.
    """
    kept, leaves = read_facts(folder, worker), jax.tree.leaves(like)
    for name, value in facts.items():
        if kept.get(name) != value:
            raise TrainingError(
                f"{folder}: expected a checkpoint of this run, came one of other settings, another log or another number "
                f"of workers ({name}). Give the same log, settings and --workers, or remove the folder to begin anew."
            )
    arrays = [_read(folder / f"worker-{worker}-{number}.npy") for number in range(len(leaves))]
    if [(a.shape, a.dtype) for a in arrays] != [(np.shape(a), a.dtype) for a in leaves]:
        raise TrainingError(f"{folder}: damaged, its arrays have other shapes. {_ANEW}")
    return jax.tree.unflatten(jax.tree.structure(like), arrays), kept


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


def _read(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r")
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
        for number, name in enumerate(("items", "bias")):
            parts = [_read(folder / f"worker-{worker}-{number}.npy") for worker in range(workers)]
            table = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.float32)
            for worker, part in enumerate(parts):
                table[worker::workers] = part
            params = params._replace(**{name: table[:items]})
    return jax.tree.map(np.asarray, params)


