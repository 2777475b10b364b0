"""A trained model as one safe file.

Knows: the format. Version 1 is a safetensors file: arrays `weights.<path>`, `counts.<name>`, `vocabulary` and
`catalogue` (bytes of Arrow), `encoding.<role>` (bytes of JSON), and a manifest in the metadata with the settings, the
facts of the training, a digest of each array and, where the cell is one of Keras, its description (JSON).
No pickle. It holds no histories and no profiles. In a folder of bundles the file `current` names the one that runs.
Does not know: how a model is trained or asked.
"""

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import TypeAdapter

from segue.config import Config
from segue.data.catalogue import Catalogue
from segue.data.described import IDS_ALONE, Encodings
from segue.data.encoding import Encoding
from segue.data.ratings import NOTED, Scale
from segue.data.vocabulary import Vocabulary
from segue.errors import ArgumentError, BundleError
from segue.files import read_arrays, replacing, write_arrays
from segue.interop.keras_cell import KerasCell
from segue.model.backend import leaves, map_tree
from segue.model.cells import Cell, make_cell
from segue.model.counts import Counts
from segue.model.features import Clock
from segue.model.heads import RatingHead
from segue.model.network import Network
from segue.recommend.recommender import Recommender

logger = logging.getLogger("segue")
FORMAT = 1
#: The file in a folder of bundles that names the one to run.
CURRENT = "current"
_PREFIX, _COUNTS = "weights.", "counts."
#: The names under which encodings are kept.
_ENCODED = tuple((role, f"encoding.{role}") for role in ("items", "users", "events"))


def build_network(
    config: Config, *, items: int, longest_gap: float, encodings: Encodings = IDS_ALONE, cell: Cell | None = None
) -> Network:
    """Return the network that settings without gaps describe; `cell` is one that they cannot name."""
    model, apart = config.model, config.train.task == "both"
    assert model.width is not None and model.session_gap != "auto"
    head = None
    if encodings.scale is not None:
        head = RatingHead(encodings.scale, model.width, config.train.rating_loss, apart)
    return Network(
        cell=cell or make_cell(model.cell, activation=model.activation),
        items=items,
        width=model.width,
        depth=model.depth,
        expand=model.expand,
        clock=Clock(longest_gap) if model.clock else None,
        attributes=encodings.items.width if encodings.items else 0,
        details=encodings.event_width - (NOTED if head and apart else 0),
        asked=encodings.asked if encodings.events else 0,
        timed=encodings.timed,
        profile=encodings.users.width if encodings.users else 0,
        session=model.session_gap,
        rating=head,
        norm=model.norm is not False,  # older bundles do not say, and have norms
    )


def with_fingerprint(rec: Recommender) -> Recommender:
    """Return the recommender named by what it holds: the digest of weights and vocabulary."""
    return replace(rec, fingerprint=_fingerprint(_digests(_arrays(_as_learnt(rec)))))


def save_bundle(rec: Recommender, path: str | Path) -> None:
    """Write a bundle; what stood at `path` is replaced only when the new file is whole and on disk.

    Raises:
        BundleError: it cannot be written; the old file is untouched.
    """
    arrays = _arrays(rec)
    text = json.dumps(_manifest(rec) | {"digests": _digests(arrays)}, sort_keys=True)
    metadata = {"segue": text, "digest": hashlib.sha256(text.encode()).hexdigest()}
    write_arrays(Path(path), arrays, metadata)


def taken_apart(rec: Recommender) -> tuple[Any, ...]:
    """Return what `put_together` makes a recommender of: what a bundle holds, and what is known beside it.

    So it can be pickled and copied, whatever it has computed and kept. Cost: O(items), the weights are not copied.
    """
    beside = {"fingerprint": rec.fingerprint, "facts": rec.facts, "learnt": rec.learnt, "index": rec.index}
    return _arrays(rec), json.dumps(_manifest(rec)), rec.catalogue.notes if rec.catalogue else (), beside


def put_together(
    arrays: Mapping[str, NDArray[Any]], manifest: str, notes: tuple[str, ...], beside: Mapping[str, Any]
) -> Recommender:
    """Return the recommender that `taken_apart` was given.

    Raises:
        BundleError: its cell is one of Keras whose class is not registered here.
    """
    rec = _made(arrays, json.loads(manifest), "the recommender")
    catalogue = None if rec.catalogue is None else replace(rec.catalogue, notes=notes)
    return replace(rec, catalogue=catalogue, **beside)


def _manifest(rec: Recommender) -> dict[str, Any]:
    manifest = {
        "format": FORMAT,
        "config": asdict(rec.config),
        "items": rec.vocabulary.size,
        "learnt": rec.learnt or rec.vocabulary.size,
        "asked": rec.encodings.asked,
        "ratings": asdict(rec.encodings.scale) if rec.encodings.scale else None,
        "longest_gap": rec.network.clock.longest if rec.network.clock else 0.0,
        "facts": rec.facts,
    }
    if isinstance(rec.network.cell, KerasCell):
        manifest["cell"] = rec.network.cell.description
    return manifest


def read_manifest(path: str | Path, metadata: dict[str, str]) -> dict[str, Any]:
    """Return the manifest of a bundle's metadata, checked."""
    text = metadata.get("segue", "")
    if not text:
        raise BundleError(f"{path}: expected a bundle, came another kind of file. Give what segue train wrote.")
    if hashlib.sha256(text.encode()).hexdigest() != metadata.get("digest"):
        raise BundleError(f"{path}: the manifest was edited or damaged. Take the bundle from a backup.")
    manifest: dict[str, Any] = json.loads(text)
    if manifest["format"] > FORMAT:
        raise BundleError(
            f"{path}: expected a bundle of format {FORMAT} or older, came format {manifest['format']}. "
            "Update Segue to read it."
        )
    return manifest


def _scale(kept: Mapping[str, Any]) -> Scale:
    """Return the scale of a manifest; older ones do not say whether it is closed."""
    levels = tuple(kept["levels"])
    return Scale(levels, kept["mean"], kept.get("closed", len(levels) > 2))


def load_bundle(path: str | Path) -> Recommender:
    """Return the recommender in a bundle. Imports no JAX, unless its cell is one of Keras, which is then logged.

    Raises:
        BundleError: the file is missing, cut short, edited (the message says in which part), or newer.
    """
    arrays, metadata = read_arrays(Path(path))
    manifest = read_manifest(path, metadata)
    digests = _digests(arrays)
    for name, digest in manifest["digests"].items():
        if digests.get(name) != digest:
            raise BundleError(f"{path}: part {name} was edited or damaged. Take the bundle from a backup.")
    rec = _made(arrays, manifest, path)
    added = (rec.learnt or rec.vocabulary.size) < rec.vocabulary.size
    return with_fingerprint(rec) if added else replace(rec, fingerprint=_fingerprint(digests))


def _made(arrays: Mapping[str, NDArray[Any]], manifest: dict[str, Any], path: str | Path) -> Recommender:
    """Return the recommender that arrays and a manifest describe, without its fingerprint."""
    config = TypeAdapter(Config).validate_python(manifest["config"])
    found = {role: Encoding.from_json(arrays[key].tobytes().decode()) for role, key in _ENCODED if key in arrays}
    scale = _scale(manifest["ratings"]) if manifest.get("ratings") else None
    encodings = Encodings(**found, asked=manifest.get("asked", 0), scale=scale)
    items, gap = manifest["items"], manifest["longest_gap"]
    cell = _outside_cell(path, manifest)
    network = build_network(config, items=items, longest_gap=gap, encodings=encodings, cell=cell)
    like = network.init(0)
    paths = iter([name for name, _ in leaves(like)])
    params = map_tree(lambda _: arrays[_PREFIX + next(paths)], like)
    catalogue = Catalogue(_table(arrays["catalogue"])) if "catalogue" in arrays else None
    vocabulary = Vocabulary(_table(arrays["vocabulary"])["id"])
    learnt, facts = manifest.get("learnt", items), manifest["facts"]
    kept: Any = {f.name: arrays[_COUNTS + f.name] for f in fields(Counts) if _COUNTS + f.name in arrays}
    counts = Counts(**kept) if kept else None
    return Recommender(network, params, vocabulary, config, catalogue, facts, "", encodings, learnt, counts=counts)


def _outside_cell(path: str | Path, manifest: dict[str, Any]) -> KerasCell | None:
    """Return the cell that a bundle describes in words of Keras, and say what that means; None in all others."""
    if "cell" not in manifest:
        return None
    try:
        cell = KerasCell.from_description(manifest["cell"])
    except ArgumentError as error:
        raise BundleError(f"{path}: {error}") from None
    logger.warning("%s: its cell is one of Keras, so answering imports Keras and JAX (segue convert).", path)
    return cell


def running_bundle(folder: Path) -> Path | None:
    """Return the bundle that a folder says is running: named in `current`, or else the newest.

    Raises:
        BundleError: `current` names a file that is not there.
    """
    named = folder / CURRENT
    if named.is_file():
        path = folder / named.read_text().strip()
        if not path.is_file() or path.parent != folder:
            raise BundleError(
                f"{named}: expected the name of a bundle in this folder, came {named.read_text().strip()[:80]!r}. "
                "Write the name of the running bundle into it, or remove it."
            )
        return path
    bundles = [(path.stat().st_mtime_ns, path.name, path) for path in folder.glob("*.segue")]
    return max(bundles)[2] if bundles else None


def name_running(path: Path) -> None:
    """Write into the folder of a bundle that it is the one to run; on disk when this returns.

    Raises:
        BundleError: it cannot be written.
    """
    named = path.parent / CURRENT
    try:
        with replacing(named) as part:
            part.write_text(path.name + "\n")
    except OSError as error:
        raise BundleError(f"{named}: cannot be written: {error}. Make the folder writable for the server.") from error


def _as_learnt(rec: Recommender) -> Recommender:
    """Return a recommender without the items added since its training: states go on over added items."""
    if not rec.learnt or rec.learnt == rec.vocabulary.size:
        return rec
    params = rec.params._replace(items=rec.params.items[: rec.learnt], bias=rec.params.bias[: rec.learnt])
    if params.rating:
        tables = map_tree(lambda table: table[: rec.learnt], params.rating.tables)
        params = params._replace(rating=params.rating._replace(tables=tables))
    return replace(rec, params=params, vocabulary=Vocabulary(rec.vocabulary.ids[: rec.learnt - 1]))


def _arrays(rec: Recommender) -> dict[str, NDArray[Any]]:
    arrays = {_PREFIX + name: np.asarray(array) for name, array in leaves(rec.params)}
    if rec.counts is not None:
        arrays |= {_COUNTS + field.name: np.asarray(getattr(rec.counts, field.name)) for field in fields(Counts)}
    arrays["vocabulary"] = _bytes(pl.DataFrame({"id": rec.vocabulary.ids}))
    if rec.catalogue is not None:
        arrays["catalogue"] = _bytes(rec.catalogue.table)
    for role, key in _ENCODED:
        encoding = getattr(rec.encodings, role)
        if encoding is not None:
            arrays[key] = np.frombuffer(encoding.to_json().encode(), np.uint8)
    return arrays


def _bytes(table: pl.DataFrame) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    table.write_ipc(buffer)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _table(array: NDArray[Any]) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(array.tobytes()))


def _digests(arrays: dict[str, NDArray[Any]]) -> dict[str, str]:
    """Return the sha256 of each array's type, shape and bytes."""

    def digest(array: NDArray[Any]) -> str:
        head = f"{array.dtype.str}{array.shape}".encode()
        return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()

    return {name: digest(array) for name, array in sorted(arrays.items())}


def _fingerprint(digests: dict[str, str]) -> str:
    named = {name: digest for name, digest in digests.items() if name != "catalogue"}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
