"""A run on disk, so that it continues after a kill to the same weights."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from segue.data.values.plain import json_of
from segue.errors import ModelError, TrainingError
from segue.files import read_arrays, write_arrays


def save_checkpoint(path: Path, tree: Any, identity: str, facts: dict[str, Any]) -> None:
    """Write a run's arrays, identity and facts; the old file stands until the new one is whole."""
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
    write_arrays(path, arrays, {"facts": json.dumps(facts), "identity": identity})


def load_checkpoint(path: Path, like: Any, identity: str) -> tuple[Any, dict[str, Any]]:
    """Return the tree and the facts of a checkpoint; `like` gives the tree's structure.

    Raises:
        TrainingError: the checkpoint is damaged, or of other settings, another log or version.
    """
    try:
        arrays, metadata = read_arrays(path)
        facts = json_of(metadata.get("facts", ""))
    except (ModelError, ValueError) as error:
        raise TrainingError(f"{path}: damaged ({error}). Remove the file to begin anew.") from None
    leaves, structure = jax.tree.flatten(like)
    kept = [arrays[str(i)] for i in range(len(leaves)) if str(i) in arrays]
    alike = len(kept) == len(arrays) and [_kind(a) for a in kept] == [_kind(a) for a in leaves]
    if metadata.get("identity") != identity or not alike or not isinstance(facts, dict):
        raise TrainingError(
            f"{path}: expected a checkpoint of this run, came a checkpoint of other settings, another log or version. "
            "Give the same log and settings, or remove the file to begin anew."
        )
    return jax.tree.unflatten(structure, kept), facts


def _kind(array: Any) -> tuple[Any, Any]:
    return np.shape(array), np.asarray(array).dtype
