"""A large Parquet file, written in parts that outlive a crash and joined at the end.

Knows: the folder beside the file, which parts are whole, whether they are of the same job.
Does not know: what the rows are.
"""

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
class Parts:
    """The parts of a file that is being written, in a folder `.<name>.parts` beside it.

    Args:
        out: where the whole file goes.
        job: what is written, in values of JSON; parts of another job are not gone on with.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts = Parts(Path(folder) / "all.parquet", {"of": "x"})
        ...     parts.add(pl.DataFrame({"n": [1]}))
        ...     again = Parts(Path(folder) / "all.parquet", {"of": "x"})  # after a crash
        ...     again.add(pl.DataFrame({"n": [2]}))
        ...     again.finish(pl.DataFrame({"n": []}, schema={"n": pl.Int64}))
        ...     pl.read_parquet(again.out)["n"].to_list(), again.paths()
        ([1, 2], [])
    """

    out: Path
    job: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where the parts lie."""
        return self.out.with_name(f".{self.out.name}.parts")

    def paths(self) -> list[Path]:
        """Return the parts that are whole and of this job, in order."""
        try:
            same = json.loads((self.folder / "job.json").read_text()) == dict(self.job)
        except (OSError, ValueError):
            same = False
        return sorted(self.folder.glob("*.parquet")) if same else []

    def add(self, table: pl.DataFrame) -> None:
        """Write one more part; it is on disk when this returns.

        Raises:
            DataError: it cannot be written.
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
        """Join all parts to the whole file, or write `empty` if there are none, and remove them.

        Raises:
            DataError: it cannot be written; the parts are kept.
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
