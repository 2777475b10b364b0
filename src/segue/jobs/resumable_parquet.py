"""A large Parquet file, written in parts that survive a crash and are joined at the end."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from segue.errors import DataError
from segue.files import replacing


@dataclass(frozen=True)
class ResumableParquet:
    """The parts of a file that is being written, in a folder `.<name>.parts` beside it.

    Args:
        out: where the whole file goes.
        job: what is written, in JSON values; the parts of another job are discarded.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts = ResumableParquet(Path(folder) / "all.parquet", {"job": "x"})
        ...     parts.add(pl.DataFrame({"n": [1]}))
        ...     again = ResumableParquet(Path(folder) / "all.parquet", {"job": "x"})
        ...     again.add(pl.DataFrame({"n": [2]}))
        ...     again.finish(pl.DataFrame({"n": []}, schema={"n": pl.Int64}))
        ...     pl.read_parquet(again.out)["n"].to_list(), again.paths()
        ([1, 2], [])
    """

    out: Path
    job: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder of the parts."""
        return self.out.with_name(f".{self.out.name}.parts")

    def paths(self) -> list[Path]:
        """Return the whole parts of this job, in order."""
        try:
            same = json.loads((self.folder / "job.json").read_text()) == dict(self.job)
        except (OSError, ValueError):
            same = False
        return sorted(self.folder.glob("*.parquet")) if same else []

    def add(self, table: pl.DataFrame) -> None:
        """Write another part; it is on disk when the method returns.

        Raises:
            DataError: the part cannot be written.
        """
        paths = self.paths()
        try:
            if not paths:
                self.clear()
                self.folder.mkdir()
                (self.folder / "job.json").write_text(json.dumps(dict(self.job)))
            with replacing(self.folder / f"{len(paths):08}.parquet") as part:
                table.write_parquet(part)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise self._unwritten(error) from error

    def finish(self, empty: pl.DataFrame) -> None:
        """Join and remove all parts, or write `empty` if there are none.

        Raises:
            DataError: the file cannot be written; the parts are kept.
        """
        paths = self.paths()
        try:
            with replacing(self.out) as part:
                (pl.scan_parquet(paths) if paths else empty.lazy()).sink_parquet(part)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise self._unwritten(error) from error
        self.clear()

    def clear(self) -> None:
        """Remove all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _unwritten(self, error: Exception) -> DataError:
        return DataError(f"{self.out}: cannot be written ({error}). Give another path, or make room.")
