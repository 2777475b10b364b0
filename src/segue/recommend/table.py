"""All items, laid out for products with a few queries.

Knows: that a library packs a large table anew for each product, which costs as much as the product of sixteen
queries, and multiplies small tables as they lie. So the items lie in blocks that are small enough, each with its
biases as one more row, and one call makes all products.
Does not know: what the scores are for.
"""

from dataclasses import dataclass

import numpy as np

from segue.shapes import Floats

#: Queries of one product; more are worth a packed table.
FEW = 64
#: Items in a block.
_BLOCK = 128


@dataclass(frozen=True, eq=False)
class Table:
    """Item vectors and biases in blocks.

    Args:
        blocks: float32[n, d + 1, _BLOCK].
        rest: float32[d + 1, less than _BLOCK], the last items.

    Example:
        >>> table = Table.of(np.float32([[1, 0], [0, 1], [2, 2]]), np.float32([0, 0, 5]))
        >>> table.scores(np.float32([[3, 4]])).tolist()
        [[3.0, 4.0, 19.0]]
    """

    blocks: Floats
    rest: Floats

    @classmethod
    def of(cls, vectors: Floats, bias: Floats) -> "Table":
        """Lay out float32[V, d] and float32[V]; they are copied."""
        count = len(vectors) // _BLOCK
        both = np.concatenate([vectors.T, bias[None]], dtype=np.float32)
        blocks = both[:, : count * _BLOCK].reshape(len(both), count, _BLOCK)
        return cls(np.ascontiguousarray(blocks.swapaxes(0, 1)), np.ascontiguousarray(both[:, count * _BLOCK :]))

    def scores(self, queries: Floats) -> Floats:
        """Return float32[q, V], `query . vector + bias`, for at most `FEW` queries, float32[q, d]."""
        count, inside = len(self.blocks), len(self.blocks) * _BLOCK
        asked = np.concatenate([queries, np.ones((len(queries), 1), np.float32)], axis=1)
        scores: Floats = np.empty((len(queries), inside + self.rest.shape[1]), np.float32)
        into = scores[:, :inside].reshape(len(queries), count, _BLOCK).swapaxes(0, 1)
        np.matmul(asked, self.blocks, out=into)
        np.matmul(asked, self.rest, out=scores[:, inside:])
        return scores
