"""A trained model as one safe file.

Version 1 is a safetensors file: arrays `weights.<path>`, `counts.<name>`, `trends.<name>`, `vocabulary` and
`catalogue` (bytes of Arrow), `encoding.<role>` (bytes of JSON), and a manifest in the metadata with the settings, the
facts of the training, a digest of each array and the description of a Keras cell (JSON). No pickle. A model file holds
no histories and no profiles. In a folder of models the file `current` names the running model.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.config import Config
from segue.data.features.catalogue import Catalogue
from segue.data.features.feature_encoders import IDS_ALONE, FeatureEncoders
from segue.data.features.table_encoder import TableEncoder
from segue.data.log.rating_scale import RATING_WIDTH
from segue.data.sequences.vocabulary import Vocabulary
from segue.data.values.arrow_file import table_from_bytes, table_to_bytes
from segue.errors import ConfigError, ModelError, SegueError, listed
from segue.files import read_arrays, replacing, write_arrays
from segue.interop.keras_cell import KerasCell
from segue.manifest import FORMAT, Manifest, read_manifest
from segue.model.backend import leaves, map_tree
from segue.model.cells import Cell, make_cell
from segue.model.heads import RatingHead
from segue.model.model import Model
from segue.model.network import Network
from segue.model.parameters import kept_params
from segue.model.time_encoding import Clock
from segue.model.transitions import TransitionCounts
from segue.trends.ranker import TrendRanker

logger = logging.getLogger("segue")
M = TypeVar("M", bound=Model)
#: The file in a folder of models that names the running model.
CURRENT = "current"
_PREFIX, _COUNTS, _TRENDS = "weights.", "counts.", "trends."
#: The names of the arrays of encoders.
_ENCODED = tuple((role, f"encoding.{role}") for role in ("items", "users", "events"))


def build_network(
    config: Config, *, items: int, longest_gap: float, encoders: FeatureEncoders = IDS_ALONE, cell: Cell | None = None
) -> Network:
    """Return the network of derived settings; `cell` is one that settings cannot name."""
    model, experiment, apart = config.model, config.experiment, config.train.task == "both"
    if model.width is None or model.session_gap == "auto":
        raise ConfigError("config model.width: expected settings without gaps, came some to derive. Use derive first.")
    head = None
    if encoders.scale is not None:
        head = RatingHead(encoders.scale, model.width, config.train.rating_loss, apart)
    return Network(
        cell=cell or make_cell(model.cell, activation=model.activation),
        items=items,
        width=model.width,
        depth=model.depth,
        expand=experiment.expand,
        clock=Clock(longest_gap) if model.time_features else None,
        attributes=encoders.items.width if encoders.items else 0,
        details=encoders.event_width - (RATING_WIDTH if head and apart else 0),
        asked=encoders.request_width if encoders.events else 0,
        timed=encoders.timed,
        profile=encoders.users.width if encoders.users else 0,
        session=model.session_gap,
        rating=head,
        norm=True if experiment.norm is None else experiment.norm,  # older models do not say, and have norms
    )


def with_fingerprint(model: M) -> M:
    """Return a model with its fingerprint, the digest of weights and vocabulary."""
    return replace(model, fingerprint=_fingerprint(_digests(_arrays(_as_learnt(model)))))


def save_model(model: Model, path: str | Path) -> None:
    """Write a model; a file at `path` is replaced only when the new file is complete and on disk.

    Raises:
        ModelError: the model cannot be written; the old file is untouched.
    """
    arrays = _arrays(model)
    write_arrays(Path(path), arrays, _metadata(model, _digests(arrays)))


def _metadata(model: Model, digests: Mapping[str, str]) -> dict[str, str]:
    """Return the manifest of a model with the digests of its arrays, and the manifest's own digest."""
    manifest = {
        "format": FORMAT,
        "config": asdict(model.config),
        "items": model.vocabulary.size,
        "learnt": model.learnt_rows,
        "asked": model.encoders.request_width,
        "ratings": asdict(model.encoders.scale) if model.encoders.scale else None,
        "longest_gap": model.network.clock.longest if model.network.clock else 0.0,
        "facts": model.facts,
        "digests": digests,
    }
    if isinstance(model.network.cell, KerasCell):
        manifest["cell"] = model.network.cell.description
    text = json.dumps(manifest, sort_keys=True)
    return {"segue": text, "digest": hashlib.sha256(text.encode()).hexdigest()}


def read_model(path: str | Path) -> Model:
    """Return the model in a file. Imports no JAX, except for a Keras cell, which is then logged.

    Raises:
        ModelError: the file is missing, cut short, edited (the message names the part), newer, or its parts do not
            fit each other.

    Cost: O(bytes) in time and memory, whatever numbers the file contains.
    """
    arrays, metadata = read_arrays(Path(path))
    manifest = read_manifest(path, metadata)
    digests = _digests(arrays)
    for name in sorted(digests.keys() | manifest.digests.keys()):
        if digests.get(name) != manifest.digests.get(name):
            raise ModelError(f"{path}: part {name} was edited or damaged. Take the model from a backup.")
    try:
        model = _model(manifest, arrays, path)
    except SegueError as error:
        message = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
        raise error if isinstance(error, ModelError) and message == str(error) else ModelError(message) from error
    if model.learnt < manifest.items:
        return with_fingerprint(model)
    return replace(model, fingerprint=_fingerprint(digests))


def _model(manifest: Manifest, arrays: Mapping[str, NDArray[Any]], path: str | Path) -> Model:
    """Return the model of a file without its fingerprint; each part is checked against the parts before it."""
    weights, counted, ranked = (_named(arrays, prefix) for prefix in (_PREFIX, _COUNTS, _TRENDS))
    encoders = _encoders(manifest, arrays)
    cell = _outside_cell(path, manifest, sum(array.size for array in weights.values()))
    items, gap = manifest.items, manifest.longest_gap
    network = build_network(manifest.config, items=items, longest_gap=gap, encoders=encoders, cell=cell)
    params = kept_params(network, weights)
    vocabulary = Vocabulary(_table(arrays, "vocabulary", items - 1, ("id",))["id"])
    catalogue = None
    if "catalogue" in arrays:
        catalogue = Catalogue(_table(arrays, "catalogue", items - 1, ("item", "title")))
        catalogue.check(vocabulary)
    counts = TransitionCounts.kept(counted, items) if counted else None
    parts = (network, params, vocabulary, manifest.config, catalogue, manifest.facts, "", encoders, manifest.learnt)
    return Model(*parts, counts=counts, ranker=TrendRanker.kept(ranked) if ranked else None)


def _named(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin with a prefix, by the rest of the name."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _encoders(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> FeatureEncoders:
    encoders = {role: TableEncoder.from_json(_bytes_of(arrays, key)) for role, key in _ENCODED if key in arrays}
    widths = {role: encoder.width for role, encoder in encoders.items()}
    if not all(widths.values()) or manifest.asked > widths.get("events", 0):
        raise ModelError(
            f"encoders: expected numbers of {', '.join(encoders) or 'events'}, {manifest.asked} of them of a request, "
            f"came {widths or 'none'}. Take the model from its source again."
        )
    return FeatureEncoders(**encoders, request_width=manifest.asked, scale=manifest.scale)


def _bytes_of(arrays: Mapping[str, NDArray[Any]], name: str) -> bytes:
    if name not in arrays or arrays[name].dtype != np.uint8:
        raise ModelError(f"{name}: expected bytes, came none. Take the model from its source again.")
    return arrays[name].tobytes()


def _table(arrays: Mapping[str, NDArray[Any]], name: str, height: int, columns: tuple[str, ...]) -> pl.DataFrame:
    """Return the table in an array of bytes; it has these columns."""
    try:
        table = table_from_bytes(_bytes_of(arrays, name), height)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    if not set(columns) <= set(table.columns):
        raise ModelError(
            f"{name}: expected columns {', '.join(columns)}, came {listed(table.columns)}. "
            "Take the model from its source again."
        )
    return table


def _outside_cell(path: str | Path, manifest: Manifest, most: int) -> KerasCell | None:
    """Return the Keras cell of a model and log what it costs; None for other models.

    The cell is made only if the file has as many numbers as its weights need.
    """
    if manifest.cell is None:
        return None
    cell = KerasCell.from_description(manifest.cell, most=most)
    logger.warning("%s: the cell is one of Keras, so serving imports Keras and JAX (segue convert).", path)
    return cell


def running_model(folder: Path) -> Path | None:
    """Return the running model of a folder: the file that `current` names, or else the newest model.

    Raises:
        ModelError: `current` names a file that is not there.
    """
    named = folder / CURRENT
    if named.is_file():
        path = folder / named.read_text().strip()
        if not path.is_file() or path.parent != folder:
            raise ModelError(
                f"{named}: expected the name of a model in this folder, came {named.read_text().strip()[:80]!r}. "
                "Write the name of the running model into it, or remove it."
            )
        return path
    models = [(path.stat().st_mtime_ns, path.name, path) for path in folder.glob("*.segue")]
    return max(models)[2] if models else None


def name_running(path: Path) -> None:
    """Name a model as the running model of its folder; the name is on disk when this returns.

    Raises:
        ModelError: the name cannot be written.
    """
    named = path.parent / CURRENT
    try:
        with replacing(named) as part:
            part.write_text(path.name + "\n")
    except OSError as error:
        raise ModelError(f"{named}: cannot be written: {error}. Make the folder writable for the server.") from error


def _as_learnt(model: Model) -> Model:
    """Return a model without the items added since its training: states stay valid when items are added."""
    if not model.learnt or model.learnt == model.vocabulary.size:
        return model
    params = model.params._replace(items=model.params.items[: model.learnt], bias=model.params.bias[: model.learnt])
    if params.rating:
        tables = map_tree(lambda table: table[: model.learnt], params.rating.tables)
        params = params._replace(rating=params.rating._replace(tables=tables))
    return replace(model, params=params, vocabulary=Vocabulary(model.vocabulary.ids[: model.learnt - 1]))


def _arrays(model: Model) -> dict[str, NDArray[Any]]:
    arrays = {_PREFIX + name: np.asarray(array) for name, array in leaves(model.params)}
    if model.counts is not None:
        arrays |= {
            _COUNTS + field.name: np.asarray(getattr(model.counts, field.name)) for field in fields(TransitionCounts)
        }
    if model.ranker is not None:
        arrays |= {_TRENDS + field.name: np.asarray(getattr(model.ranker, field.name)) for field in fields(TrendRanker)}
    arrays["vocabulary"] = _as_bytes(table_to_bytes(pl.DataFrame({"id": model.vocabulary.ids})))
    if model.catalogue is not None:
        arrays["catalogue"] = _as_bytes(table_to_bytes(model.catalogue.table))
    for role, key in _ENCODED:
        encoding = getattr(model.encoders, role)
        if encoding is not None:
            arrays[key] = _as_bytes(encoding.to_json().encode())
    return arrays


def _as_bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _digests(arrays: dict[str, NDArray[Any]]) -> dict[str, str]:
    """Return the sha256 of each array's type, shape and bytes."""

    def digest(array: NDArray[Any]) -> str:
        head = f"{array.dtype.str}{array.shape}".encode()
        return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()

    return {name: digest(array) for name, array in sorted(arrays.items())}


def _fingerprint(digests: dict[str, str]) -> str:
    named = {name: digest for name, digest in digests.items() if name != "catalogue"}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
