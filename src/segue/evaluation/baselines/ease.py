"""EASE: every item predicted from all others, by one matrix in closed form."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from segue.data.sequences.sequences import Sequences
from segue.data.sequences.transition_counts import TIE, blocks_of_items, known_events, shares, used_by
from segue.errors import ArgumentError
from segue.evaluation.baselines.contract import Baseline, Grid, above_zero
from segue.evaluation.baselines.counting import Counted
from segue.shapes import Floats

#: Rows of a score above which the item-item matrix is not made.
LARGEST = 20_000
#: Rows of a matrix that is inverted whole, and columns that are eliminated at once from a larger one.
_WHOLE, _BLOCK = 4096, 256


@dataclass(frozen=True)
class EASE(Baseline):
    """Score an item by a linear model of the items of the history: the best one with a zero diagonal.

    With X[user, item] of zeros and ones, the weights are the B of zero diagonal that make
    `|X - X B|^2 + regularisation * |B|^2` least: with `P = (X'X + regularisation * I)^-1`,
    `B[x, y] = -P[x, y] / P[y, y]`. A score adds up the rows of B of the items in the history, each once,
    an item whose last place is `lag` steps back times `2^(-lag / half_life)`.

    Args:
        regularisation: above 0; the larger, the smaller the weights.
        half_life: the lag in items at which an item of the history counts half; infinite as in the paper.

    Raises:
        ArgumentError: a setting is not above 0.

    Source: Steck 2019, "Embarrassingly shallow autoencoders for sparse data", equation 8.

    Example:
        >>> import polars as pl
        >>> log = Sequences(pl.Series(["ann", "bob"]), np.array([0, 2, 4]), np.array([1, 2, 1, 2], np.int32))
        >>> fitted = EASE(regularisation=2.0).fit(log, 4)
        >>> fitted.score([np.array([1], np.int32)]).round(2).tolist()    # 2 common users / (2 + 2)
        [[-inf, 0.0, 0.5, 0.0]]
    """

    regularisation: float = 300.0
    half_life: float = np.inf

    title: ClassVar[str] = "EASE"
    word: ClassVar[str] = "ease"
    grid: ClassVar[Grid] = {
        "half_life": (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, np.inf),
        "regularisation": (30.0, 100.0, 300.0, 1000.0, 3000.0),
    }
    reading: ClassVar[frozenset[str]] = frozenset({"half_life"})

    def __post_init__(self) -> None:
        above_zero(self, "regularisation", "half_life")

    @classmethod
    def obstacle(cls, n_items: int, features: Floats | None = None) -> str | None:
        """Return why the catalogue is too large, or None."""
        if n_items <= LARGEST + 1:
            return None
        return (
            f"{cls.title}: expected at most {LARGEST:,} items, came {n_items - 1:,}: its matrix of items by items "
            f"would take {12 * n_items**2 / 1e9:,.0f} GB, and time by the cube of the items. Item-kNN keeps the "
            "nearest pairs only."
        )

    @classmethod
    def operations(cls, events: int, n_items: int) -> float:
        """Return about how much work a fit is: the Gram matrix, and an inverse whose additions are quick."""
        return 20.0 * events + n_items**3 / 500

    def count(self, sequences: Sequences, n_items: int, features: Floats | None = None) -> tuple[Floats, Floats]:
        """Make the item-item Gram matrix, float32[item, item].

        Raises:
            ArgumentError: a row is not below `n_items`, or there are more than 20,000 items.

        Cost: O(sum over users of (items of the user)^2) time.
        """
        known = known_events(sequences, n_items)
        return shares(known.items, n_items, total=TIE), _gram(used_by(known, n_items))

    def of_counts(self, counts: tuple[Floats, Floats]) -> Counted:
        """Invert the Gram matrix. O(item^3) time, 16 item^2 bytes."""
        popularity, gram = counts[0], counts[1].astype(np.float64)
        gram[np.diag_indices(len(gram))] += self.regularisation
        try:
            weights = _without_diagonal(invert(gram))
        except np.linalg.LinAlgError:
            raise ArgumentError(
                "EASE, regularisation: expected a value that makes the item-item matrix invertible, came "
                f"{self.regularisation}. Raise it."
            ) from None
        return Counted(self, popularity, weights, None, self.half_life, once=True)


def _gram(used: sparse.csr_array) -> Floats:
    """Return float32[item, item], how many users have both, from used[user, item] of ones; a block at a time."""
    by_item = used.T.tocsr()
    gram = np.empty((used.shape[1], used.shape[1]), np.float32)
    for begin, end in blocks_of_items(by_item, used):
        gram[begin:end] = (by_item[begin:end] @ used).toarray()
    return gram


def invert(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of a symmetric positive definite matrix, in place.

    Gauss-Jordan by blocks: a block of columns at a time is eliminated from the rest, by products of matrices. BLAS and
    LAPACK have one thread, for with two OpenBLAS factorises a matrix of 18,000 rows beyond the end of its buffer,
    which ends the process; blocks of rows go to as many threads as BLAS may have. A matrix of up to 4,096 rows is
    one block.

    Args:
        matrix: float64[n, n], in the order of C; its lower triangle is read, all of it is changed.

    Returns:
        The same array; its lower triangle is that of the inverse, the rest means nothing.

    Raises:
        numpy.linalg.LinAlgError: the matrix is not positive definite.

    Cost: n^3 multiplications; 8 KB a row beside the matrix.

    Example:
        >>> np.tril(invert(np.array([[2.0, 0.0], [1.0, 2.0]]))).round(3).tolist()
        [[0.667, 0.0], [-0.333, 0.667]]
    """
    from threadpoolctl import threadpool_info, threadpool_limits

    threads = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    with threadpool_limits(1, "blas"):
        if len(matrix) <= _WHOLE:
            return _inverse(matrix)
        with ThreadPoolExecutor(threads) as pool:
            for begin in range(0, len(matrix), _BLOCK):
                _eliminate(matrix, begin, pool)
    return np.negative(matrix, out=matrix)


def _eliminate(matrix: NDArray[np.float64], begin: int, pool: ThreadPoolExecutor) -> None:
    """Eliminate a block of columns from all others, in place; see `invert`."""
    n, end = len(matrix), min(begin + _BLOCK, len(matrix))
    column = np.concatenate([matrix[begin:end, :begin].T, matrix[begin:, begin:end]])
    column[begin:end] = _mirrored(column[begin:end])
    pivot = _mirrored(_inverse(column[begin:end].copy()))
    solved = np.empty_like(column)

    def rows(top: int) -> None:
        bottom = min(top + _BLOCK, n)
        solved[top:bottom] = column[top:bottom] @ pivot
        matrix[top:bottom, :bottom] -= solved[top:bottom] @ column[:bottom].T

    list(pool.map(rows, range(0, n, _BLOCK)[::-1]))  # the longest rows first
    matrix[begin:end, :begin] = solved[:begin].T
    matrix[end:, begin:end] = solved[end:]
    matrix[begin:end, begin:end] = -pivot


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse by LAPACK, in the same memory."""
    from scipy.linalg import lapack  # .08 s to import, a twelfth of the start of a server

    # LAPACK's upper triangle, column by column, is our lower one, row by row.
    factor, failed = lapack.dpotrf(matrix.T, lower=False, overwrite_a=True, clean=False)
    inverse, broken = lapack.dpotri(factor, lower=False, overwrite_c=True)
    if failed or broken:
        raise np.linalg.LinAlgError("expected a positive definite matrix, came another")
    return inverse.T


def _mirrored(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric matrix of a lower triangle."""
    return np.tril(matrix) + np.tril(matrix, -1).T


def _without_diagonal(inverse: NDArray[np.float64]) -> Floats:
    """Return float32[item, item], `-P[x, y] / P[y, y]` and a diagonal of zeros, from the lower triangle of P."""
    weights = inverse.astype(np.float32)
    scale = (-1 / np.diagonal(inverse)).astype(np.float32)
    for row in range(len(weights)):
        weights[row, row + 1 :] = weights[row + 1 :, row]
    weights *= scale
    weights[np.diag_indices(len(weights))] = 0
    return weights
