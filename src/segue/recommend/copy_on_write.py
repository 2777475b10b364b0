"""Arrays whose changed copies cost only the rows that change.

The operating system copies a page of memory when the page is first written to, and shares the others.
"""

import mmap
import os
import tempfile
import weakref
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segue.shapes import Rows


@dataclass(frozen=True, eq=False)
class Pages:
    """An array whose copies share its memory until they are written to.

    Args:
        file: the descriptor of a file with the array, in memory where the system can; closed with this value.
        shape: of the array.
        dtype: of the array.

    Example:
        >>> pages = Pages.of(np.float32([[1, 2], [3, 4]]))
        >>> one, other = (pages.copy_with(np.int32([row]), np.float32([[9, 9]])) for row in (0, 1))
        >>> one.tolist(), other.tolist()
        ([[9.0, 9.0], [3.0, 4.0]], [[1.0, 2.0], [9.0, 9.0]])
    """

    file: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: NDArray[Any]) -> "Pages":
        """Return the pages of an array. Cost: one copy."""
        with _new_file() as file:
            file.write(np.ascontiguousarray(array).data.cast("B"))
            file.flush()
            made = cls(os.dup(file.fileno()), array.shape, array.dtype)
        weakref.finalize(made, os.close, made.file)
        return made

    def copy_with(self, rows: Rows, values: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of the array with other values in some rows. Cost: a page of 4 kB for each row."""
        size = self.dtype.itemsize * int(np.prod(self.shape))
        mapped = mmap.mmap(self.file, size, access=mmap.ACCESS_COPY)
        copy = np.frombuffer(mapped, self.dtype).reshape(self.shape)
        copy[rows] = values
        return copy


def _new_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("segue"), "w+b")
    return tempfile.TemporaryFile()
