"""Rows in cells, each with a code of 4 bits a number: plain arrays, and the faiss index made of them.

Needs the extra `index` (faiss). Faiss reads no bytes of a file: it gets arrays that were checked.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.errors import ArgumentError
from segue.shapes import Floats, Rows

#: Numbers that a code of 4 bits can stand for.
_CODES = 16
#: Rows of the training for each cell, and rounds of it.
_SAMPLE, _ROUNDS = 50, 10
#: Rows coded at one time.
_BLOCK = 1 << 16


class Codes(NamedTuple):
    """The arrays that a search needs, for n rows of width w; row r stands at place r - 1.

    Args:
        centres: float32[cell, w], of each cell.
        books: float32[w, 16], the value of each code of each number.
        cells: int32[n], the cell of each row.
        codes: uint8[n, ceil(w / 2)], two codes a byte: the difference of a row to the centre of its cell.
        reach: float32[cell], how far the best row of a cell may score above the centre, for a query of length 1.
    """

    centres: Floats
    books: Floats
    cells: Rows
    codes: NDArray[np.uint8]
    reach: Floats

    @classmethod
    def of(cls, rows: Floats) -> "Codes":
        """Return the codes of float32[n, w], in about 2 sqrt(n) cells."""
        count, width = rows.shape
        number = max(1, int(2 * count**0.5))
        plain = _plain(number, width)
        plain.cp.spherical, plain.cp.niter, plain.cp.max_points_per_centroid = False, _ROUNDS, _SAMPLE
        plain.cp.min_points_per_centroid = plain.pq.cp.min_points_per_centroid = 1  # a small catalogue is no mistake
        draw = np.random.default_rng(0)
        plain.train(rows[np.sort(draw.permutation(count)[: max(number * _SAMPLE, 1 << 16)])])
        centres: Floats = plain.quantizer.reconstruct_n(0, number)
        books = faiss_module().vector_to_array(plain.pq.centroids).reshape(width, _CODES)
        cells, codes = np.empty(count, np.int32), np.empty((count, -(-width // 2)), np.uint8)
        for begin in range(0, count, _BLOCK):
            block = slice(begin, begin + _BLOCK)
            cells[block] = plain.quantizer.search(rows[block], 1)[1][:, 0]
            codes[block] = plain.pq.compute_codes(rows[block] - centres[cells[block]])
        return cls(centres, books, cells, codes, _reach(rows, centres, cells))

    def check(self, rows: int, width: int) -> None:
        """Do nothing if these are the codes of so many rows, row 0 included, of a width without the bias.

        Raises:
            ArgumentError: an array is of another type or shape, a row lies in no cell, or a number is not finite.
        """
        number, wide = len(self.reach), width + 1
        wanted = {
            "centres": (np.float32, (number, wide)),
            "books": (np.float32, (wide, _CODES)),
            "cells": (np.int32, (rows - 1,)),
            "codes": (np.uint8, (rows - 1, -(-wide // 2))),
            "reach": (np.float32, (number,)),
        }
        fits = all(getattr(self, name).dtype == kind for name, (kind, _) in wanted.items())
        fits = fits and all(getattr(self, name).shape == shape for name, (_, shape) in wanted.items())
        fits = fits and number > 0 and rows > 1 and 0 <= self.cells.min() <= self.cells.max() < number
        if not (fits and all(np.isfinite(part).all() for part in (self.centres, self.books, self.reach))):
            raise ArgumentError(f"index: expected codes of {rows - 1:,} rows of width {width}, came others.")

    def searcher(self) -> Any:
        """Return the index of faiss in which row r has the id r. Cost: O(n), a copy of the codes."""
        faiss, (number, width) = faiss_module(), self.centres.shape
        plain = _plain(number, width)
        plain.quantizer.add(np.ascontiguousarray(self.centres))
        faiss.copy_array_to_vector(self.books.ravel(), plain.pq.centroids)
        order = np.argsort(self.cells, kind="stable")
        ids, codes = order.astype(np.int64) + 1, np.ascontiguousarray(self.codes[order])
        ends = np.searchsorted(self.cells[order], np.arange(number + 1))
        for cell, (begin, end) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
            if end > begin:
                parts = map(faiss.swig_ptr, (ids[begin:end], codes[begin:end]))
                plain.invlists.add_entries(cell, end - begin, *parts)
        plain.ntotal, plain.is_trained = len(ids), True
        return faiss.IndexIVFPQFastScan(plain)

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(part.nbytes for part in self)

    @property
    def digest(self) -> str:
        """The sha256 of all arrays."""
        digest = hashlib.sha256()
        for part in self:
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def faiss_module() -> Any:
    """Return faiss.

    Raises:
        ArgumentError: the extra is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise ArgumentError(
            'index: expected the extra for large catalogues, it is not installed. Run: pip install "segue[index]"'
        ) from None
    return faiss


def _plain(cells: int, width: int) -> Any:
    """Return an empty faiss index with so many cells and a code for each number."""
    faiss = faiss_module()
    quantizer = faiss.IndexFlatL2(width)
    plain = faiss.IndexIVFPQ(quantizer, width, cells, width, 4, faiss.METRIC_INNER_PRODUCT)
    plain.by_residual = True
    return plain


def _reach(rows: Floats, centres: Floats, cells: Rows) -> Floats:
    """Return float32[cell]: how far the best row of a cell may score above the centre, for a query of length 1."""
    reach = np.zeros(len(centres), np.float32)
    order = np.argsort(cells, kind="stable")
    ends = np.searchsorted(cells[order], np.arange(len(centres) + 1))
    for cell, centre in enumerate(centres):
        own = rows[order[ends[cell] : ends[cell + 1]]] - centre
        if len(own) > 1:
            squared = np.einsum("nd,nd->n", own, own).mean()
            reach[cell] = np.sqrt(squared * 2 * np.log(len(own)) / rows.shape[1])
    return reach
