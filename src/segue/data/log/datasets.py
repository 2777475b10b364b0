"""Well-known data sets by name, fetched on request and checked by digest."""

import hashlib
import io
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from segue.errors import DatasetError
from segue.files import cache_folder, replacing

_GROUPLENS = "GroupLens, research use, no redistribution; cite Harper and Konstan, ACM TiiS 5(4), 2015."
_PUBLISHER = "https://files.grouplens.org/datasets/movielens/"
#: SHA-256 of each archive: the recbole 1.2.0 wheel for ml-100k, else zip files of GroupLens.
DIGESTS = {
    "ml-100k": "075820e2ea8f182ec4d30c4ec9067d5ac7b07c2f5e3ae1adeb8a5fbee2d4204d",
    "ml-1m": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    "ml-latest-small": "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",  # of September 2018
}
#: Data sets that may be renewed, with the digest of their files; a note names another version.
RENEWED = {"ml-latest-small": "2fb979e8e669ac33d4a05c3123b833a8059f13229c46e0ded46e0754494565f0"}
_PAGE_SECONDS = 60
#: The most bytes of a data set's files: ten times the largest set.
_UNPACKED = 300_000_000


@dataclass(frozen=True)
class Dataset:
    """A data set that can be fetched."""

    name: str
    description: str
    size: str
    terms: str


@dataclass(frozen=True)
class DatasetFiles:
    """A fetched data set.

    Args:
        events, items, users: paths; None where the set has none.
        terms: to be shown to the user.
        note: a sentence where this is not the version that Segue's pages measure; else empty.
    """

    events: Path
    items: Path | None
    users: Path | None
    terms: str
    note: str = ""


def datasets() -> tuple[Dataset, ...]:
    """Return the data sets that `get` knows."""
    return (
        Dataset("ml-100k", "100,000 ratings of 1,682 films by 943 users", "2 MB", _GROUPLENS),
        Dataset("ml-1m", "1,000,209 ratings of 3,706 films by 6,040 users", "6 MB", _GROUPLENS),
        Dataset("ml-latest-small", "100,836 ratings of 9,724 films by 610 users", "1 MB", _GROUPLENS),
    )


def get(name: str, *, cache: Path | None = None, fetch: Callable[[str], bytes] | None = None) -> DatasetFiles:
    """Return the files of a data set, fetched unless the cache has them whole and unchanged.

    Args:
        name: one of `datasets()`.
        cache: a folder; None takes `cache_folder()`.
        fetch: returns the archive of a data set; None asks the package index or publisher.

    Raises:
        DatasetError: the name is unknown, the archive cannot be fetched, or its digest is another.
    """
    known = {dataset.name: dataset for dataset in datasets()}
    if name not in known:
        raise DatasetError(f'data set "{name}": not known. Choose from {", ".join(known)}.')
    folder = (cache or cache_folder()) / name
    if not _whole(folder):
        archive = (fetch or _FETCH[name])(name)
        _check(name, archive)
        files = _UNPACK[name](archive)
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            with replacing(folder / file) as part:
                part.write_bytes(content)
        sums = "".join(f"{_digest(content)} {file}\n" for file, content in files.items())
        with replacing(folder / "SHA256") as part:
            part.write_text(sums)
    path = {file.stem: file for file in _data_files(folder)}
    return DatasetFiles(path["events"], path.get("items"), path.get("users"), known[name].terms, _note(name, folder))


def _note(name: str, folder: Path) -> str:
    if name not in RENEWED or _digest((folder / "SHA256").read_bytes()) == RENEWED[name]:
        return ""
    return f"{name}: its publisher renews it, and this is another version than that of Segue's pages: numbers differ."


def _check(name: str, archive: bytes) -> None:
    """Refuse an archive of another digest, unless its publisher may renew it."""
    came = _digest(archive)
    if came == DIGESTS[name] or name in RENEWED:
        return
    what = "the recbole 1.2.0 wheel" if name == "ml-100k" else f"{name}.zip of GroupLens"
    raise DatasetError(
        f"{name}: the archive is damaged or another one: expected {what} with sha256 {DIGESTS[name]}, came {came} "
        f"({len(archive):,} bytes). Nothing was kept. Try again; if it comes again, do not use it."
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _whole(folder: Path) -> bool:
    """Return whether the list of digests names every file, and each file has its digest."""
    sums = folder / "SHA256"
    if not sums.is_file():
        return False
    # A damaged list lacks the name or the digest of a file.
    digests = {file: sum for sum, _, file in (x.partition(" ") for x in sums.read_text("latin-1").splitlines())}
    files = _data_files(folder)
    complete = digests.keys() == {file.name for file in files} and {"events", "items"} <= {file.stem for file in files}
    return complete and all(_digest(file.read_bytes()) == digests[file.name] for file in files)


def _data_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in (".tsv", ".csv"))


def _from_package_index(name: str) -> bytes:
    """Return the RecBole 1.2.0 wheel, which holds ml-100k, from the user's own package index."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "recbole==1.2.0", "--no-deps"]
        command += ["--only-binary", ":all:", "--quiet", "--disable-pip-version-check", "--dest", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise DatasetError(
                f"{name}: it comes out of the package recbole 1.2.0, which pip could not fetch ({last}). "
                "Check the connection to your package index, and that pip is installed."
            )
        return wheels[0].read_bytes()


def _from_publisher(name: str) -> bytes:
    address = f"{_PUBLISHER}{name}.zip"
    try:
        with urllib.request.urlopen(address, timeout=_PAGE_SECONDS) as page:
            content: bytes = page.read(_UNPACKED)
            return content
    except (urllib.error.URLError, OSError) as error:
        raise DatasetError(
            f"{name}: could not be fetched from {address} ({error}). "
            "It needs an internet connection; ml-100k comes from your package index instead."
        ) from None


def _members(archive: bytes, name: str, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """Return members of a zip file under new names, not under paths of the archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as whole:
            if sum(whole.getinfo(old).file_size for old in wanted) > _UNPACKED:
                raise zipfile.BadZipFile(f"more than {_UNPACKED:,} bytes in it")
            return {new: whole.read(old) for old, new in wanted.items()}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, KeyError) as error:
        raise DatasetError(f"{name}: the archive is damaged or another one ({error}). Try again.") from None


def _unpack_100k(archive: bytes) -> dict[str, bytes]:
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    names = {f"{folder}.inter": "events.tsv", f"{folder}.item": "items.tsv", f"{folder}.user": "users.tsv"}
    return _members(archive, "ml-100k", names)


def _unpack_small(archive: bytes) -> dict[str, bytes]:
    names = {"ml-latest-small/ratings.csv": "events.csv", "ml-latest-small/movies.csv": "items.csv"}
    return _members(archive, "ml-latest-small", names)


def _unpack_1m(archive: bytes) -> dict[str, bytes]:
    """Turn the `::`-separated latin-1 files into CSV."""
    columns = {
        "ratings": ("events.csv", ["userId", "movieId", "rating", "timestamp"]),
        "movies": ("items.csv", ["movieId", "title", "genres"]),
        "users": ("users.csv", ["userId", "gender", "age", "occupation", "zip"]),
    }
    files = {}
    raw = _members(archive, "ml-1m", {f"ml-1m/{old}.dat": old for old in columns})
    for old, (new, names) in columns.items():
        lines = raw[old].decode("latin-1").splitlines()
        rows = [line.split("::") for line in lines]
        files[new] = pl.DataFrame(rows, schema=names, orient="row").write_csv().encode()
    return files


_FETCH: Mapping[str, Callable[[str], bytes]] = {
    "ml-100k": _from_package_index,
    "ml-1m": _from_publisher,
    "ml-latest-small": _from_publisher,
}
_UNPACK: Mapping[str, Callable[[bytes], dict[str, bytes]]] = {
    "ml-100k": _unpack_100k,
    "ml-1m": _unpack_1m,
    "ml-latest-small": _unpack_small,
}
