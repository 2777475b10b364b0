"""All items in blocks, for products with a few queries.

A BLAS library packs a large table again for each product, which costs as much as the product of sixteen queries; it
multiplies small tables without packing. So the items lie in small blocks, each with its biases as one more row, and one
call multiplies all blocks.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from segue.shapes import Floats, Rows

#: The most queries of one product; with more, a packed table is faster.
FEW = 64
#: Items in a block.
_BLOCK = 128


@dataclass(frozen=True, eq=False)
class Table:
    """Item vectors and biases in blocks.

    Args:
        blocks: float32[n, d + 1, _BLOCK].
        rest: float32[d + 1, n], the last items.
        rows: int32[n], items that differ from the blocks.
        others: float32[d + 1, n], their vectors, each with its bias.

    Example:
        >>> table = Table.of(np.float32([[1, 0], [0, 1], [2, 2]]), np.float32([0, 0, 5]))
        >>> table.scores(np.float32([[3, 4]])).tolist()
        [[3.0, 4.0, 19.0]]
    """

    blocks: Floats
    rest: Floats
    rows: Rows = field(default_factory=lambda: np.zeros(0, np.int32))
    others: Floats | None = None

    @classmethod
    def of(cls, vectors: Floats, bias: Floats) -> "Table":
        """Return the table of float32[V, d] and float32[V]; they are copied."""
        count = len(vectors) // _BLOCK
        both = np.concatenate([vectors.T, bias[None]], dtype=np.float32)
        blocks = both[:, : count * _BLOCK].reshape(len(both), count, _BLOCK)
        return cls(np.ascontiguousarray(blocks.swapaxes(0, 1)), np.ascontiguousarray(both[:, count * _BLOCK :]))

    def changed(self, rows: Rows, vectors: Floats, bias: Floats) -> "Table":
        """Return a table with other vectors in distinct rows. Cost: O(all rows changed so far x d).

        Example:
            >>> table = Table.of(np.float32([[1, 0], [0, 1], [2, 2]]), np.float32([0, 0, 5]))
            >>> table = table.changed(np.int32([1]), np.float32([[1, 1]]), np.float32([9]))
            >>> table = table.changed(np.int32([0]), np.float32([[0, 0]]), np.float32([1]))
            >>> table.scores(np.float32([[3, 4]])).tolist()
            [[1.0, 16.0, 19.0]]
        """
        new = np.concatenate([vectors.T, bias[None]], dtype=np.float32)
        if self.others is None:
            return replace(self, rows=rows, others=new)
        same = ~np.isin(self.rows, rows)
        others = np.concatenate([self.others[:, same], new], axis=1)
        return replace(self, rows=np.concatenate([self.rows[same], rows]), others=others)

    def more(self, vectors: Floats, bias: Floats) -> "Table":
        """Return a table with more items at the end. Cost: O(new items and items outside the blocks)."""
        new = np.concatenate([vectors.T, bias[None]], dtype=np.float32)
        return replace(self, rest=np.concatenate([self.rest, new], axis=1))

    def scores(self, queries: Floats) -> Floats:
        """Return float32[q, V], `query . vector + bias`, for at most `FEW` queries, float32[q, d]."""
        count, inside = len(self.blocks), len(self.blocks) * _BLOCK
        extended = np.concatenate([queries, np.ones((len(queries), 1), np.float32)], axis=1)
        scores: Floats = np.empty((len(queries), inside + self.rest.shape[1]), np.float32)
        into = scores[:, :inside].reshape(len(queries), count, _BLOCK).swapaxes(0, 1)
        np.matmul(extended, self.blocks, out=into)
        np.matmul(extended, self.rest, out=scores[:, inside:])
        if self.others is not None:
            scores[:, self.rows] = extended @ self.others
        return scores
