"""The manifest of a model file, of any version of the format, checked before anything else is read."""

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
#: Rows are stored as int32.
_MOST = 2**31 - 1
_TIME = 2**63 - 1
#: Earlier names of facts, and of the columns of the curve.
_OLD_FACTS = {
    "best_pass": "best_epoch",
    "fusion": "blend",
    "mix": "blend_settings",
    "number": "epoch",
    "pass_ended": "epoch_ended",
}


@dataclass(frozen=True)
class Manifest:
    """The manifest, without its own digest.

    Args:
        config: the settings of the training, none left to derive.
        items: rows of the vocabulary, *unknown* included.
        learnt: how many of these rows training made; the others were added later.
        asked: how many numbers of an event are known when a list is requested.
        scale: of the ratings, where they are predicted.
        longest_gap: in the training data, in seconds.
        facts: of the training.
        digests: of each array by name.
        cell: the description of a Keras cell.
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
        ModelError: the manifest is missing, edited, of a newer format, or invalid.
    """
    text = metadata.get("segue", "")
    if not text:
        raise ModelError(f"{path}: expected a model, came another kind of file. Give a file that segue train wrote.")
    if hashlib.sha256(text.encode()).hexdigest() != metadata.get("digest"):
        raise ModelError(f"{path}: the manifest was edited or damaged. Take the model from a backup.")
    try:
        fields = plain.json_of(text)
        if plain.whole(fields["format"], "format") > FORMAT:
            raise ModelError(
                f"{path}: expected a model of format {FORMAT} or older, came format {fields['format']}. "
                "Update Segue to read it."
            )
        return _manifest(fields)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ModelError(
            f"{path}: expected the manifest of a model, came an invalid manifest: {plain.one_line(error)}. "
            "Take the model from its source again, or update Segue if a newer version wrote it."
        ) from None


def _manifest(fields: Mapping[str, Any]) -> Manifest:
    config = _config(fields["config"])
    if config.model.width is None or config.model.session_gap == "auto":
        raise ValueError("config: a width or a session gap is left to derive")
    items = plain.whole(fields["items"], "items", 1, _MOST)
    longest = plain.number(fields["longest_gap"], "longest_gap")
    if not 0 <= longest <= 1e18:
        raise ValueError(f"longest_gap: expected seconds from 0, came {longest}")
    return Manifest(
        config=config,
        items=items,
        learnt=plain.whole(fields.get("learnt", items), "learnt", 1, items),
        asked=plain.whole(fields.get("asked", 0), "asked", 0, _MOST),
        scale=Scale.from_dict(fields["ratings"]) if fields.get("ratings") else None,
        longest_gap=longest,
        facts=_facts(fields["facts"]),
        digests={name: plain.text(digest, f"digest of {name}") for name, digest in fields["digests"].items()},
        cell=plain.text(fields["cell"], "cell") if "cell" in fields else None,
    )


def _config(parts: Mapping[str, Any]) -> Config:
    """Return the settings of a training; earlier names are read."""
    renamed: dict[str, dict[str, Any]] = {}
    for path, value in by_path(parts).items():
        part, _, name = OLD_NAMES.get(path, path).partition(".")
        renamed.setdefault(part, {})[name] = value
    return TypeAdapter(Config).validate_python(renamed)


def _facts(facts: Any) -> dict[str, Any]:
    """Return the facts of a training, checked where later work reads them."""
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
    named = _renamed(facts, _OLD_FACTS)
    if "asked" in named:
        named["asked"] = _renamed(named["asked"] or {}, OLD_NAMES)
    if "curve" in named:
        named["curve"] = [_renamed(row, _OLD_FACTS) for row in named["curve"] or ()]
    return named


def _renamed(values: Mapping[str, Any], new_names: Mapping[str, str]) -> dict[str, Any]:
    return {new_names.get(name, name): value for name, value in values.items()}
