"""What a model file says of itself, checked before anything is made of it.

Knows: the manifest of the format, which facts have which shape. Does not know: arrays, networks.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from segue.config import OLD_NAMES, Config, by_path
from segue.data.log.rating_scale import Scale
from segue.data.values import plain
from segue.errors import ModelError

FORMAT = 1
#: Rows are kept as int32.
_MOST = 2**31 - 1
_TIME = 2**63 - 1


@dataclass(frozen=True)
class Manifest:
    """All of it but the digest of itself.

    Args:
        config: the settings of the training, none left to derive.
        items: rows of the vocabulary, *unknown* included.
        learnt: how many of them training made; the others were added.
        asked: numbers of an event that are known when a question is asked.
        scale: of the ratings, where they are predicted.
        longest_gap: met in training, in seconds.
        facts: of the training.
        digests: of each array by name.
        cell: the description of a cell of Keras.
    """

    config: Config
    items: int
    learnt: int
    asked: int
    scale: Scale | None
    longest_gap: float
    facts: dict[str, Any]
    digests: Mapping[str, str]
    cell: str | None


def read_manifest(path: str | Path, metadata: Mapping[str, str]) -> Manifest:
    """Return the manifest of a file's metadata.

    Raises:
        ModelError: there is none, it was edited, is of a newer format, or says what cannot be.
    """
    text = metadata.get("segue", "")
    if not text:
        raise ModelError(f"{path}: expected a model, came another kind of file. Give what segue train wrote.")
    if hashlib.sha256(text.encode()).hexdigest() != metadata.get("digest"):
        raise ModelError(f"{path}: the manifest was edited or damaged. Take the model from a backup.")
    try:
        said = plain.json_of(text)
        if plain.whole(said["format"], "format") > FORMAT:
            raise ModelError(
                f"{path}: expected a model of format {FORMAT} or older, came format {said['format']}. "
                "Update Segue to read it."
            )
        return _manifest(said)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ModelError(
            f"{path}: expected the manifest of a model, its is none: {plain.one_line(error)}. "
            "Take the model from its source again, or update Segue if it is of a newer one."
        ) from None


def _manifest(said: Mapping[str, Any]) -> Manifest:
    config = _config(said["config"])
    if config.model.width is None or config.model.session_gap == "auto":
        raise ValueError("config: a width or a session gap is left to derive")
    items = plain.whole(said["items"], "items", 1, _MOST)
    longest = plain.number(said["longest_gap"], "longest_gap")
    if not 0 <= longest <= 1e18:
        raise ValueError(f"longest_gap: expected seconds from 0, came {longest}")
    return Manifest(
        config=config,
        items=items,
        learnt=plain.whole(said.get("learnt", items), "learnt", 1, items),
        asked=plain.whole(said.get("asked", 0), "asked", 0, _MOST),
        scale=Scale.from_dict(said["ratings"]) if said.get("ratings") else None,
        longest_gap=longest,
        facts=_facts(said["facts"]),
        digests={name: plain.text(digest, f"digest of {name}") for name, digest in said["digests"].items()},
        cell=plain.text(said["cell"], "cell") if "cell" in said else None,
    )


def _config(parts: Mapping[str, Any]) -> Config:
    """Return the settings of a training, from their earlier names, too."""
    renamed: dict[str, dict[str, Any]] = {}
    for path, value in by_path(parts).items():
        part, _, name = OLD_NAMES.get(path, path).partition(".")
        renamed.setdefault(part, {})[name] = value
    return TypeAdapter(Config).validate_python(renamed)


def _facts(facts: Any) -> dict[str, Any]:
    """Return the facts of a training; those that answers and later training depend on have their shape."""
    if not isinstance(facts, dict):
        raise ValueError("facts: expected them by name")
    if (span := facts.get("range")) is not None:
        begin, end = (plain.whole(time, "range", -_TIME, _TIME) for time in span)
        if begin > end:
            raise ValueError("range: expected two times in order")
    shapes = {"asked": dict, "kinds": dict, "curve": list, "hold_out": str, "digest": str, "hold_out_digest": str}
    for name, shape in shapes.items():
        if facts.get(name) is not None and not isinstance(facts[name], shape):
            raise ValueError(f"facts: expected {name} as {shape.__name__}")
    asked = facts.get("asked") or {}
    return facts | ({"asked": {OLD_NAMES.get(path, path): value for path, value in asked.items()}} if asked else {})
