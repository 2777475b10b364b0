"""Items alike by their vectors: the cosine after what all items share is taken out."""

from dataclasses import dataclass

import numpy as np

from segue.shapes import Floats

#: The share of the mean variance that is added to the variance of each direction.
RIDGE = 1.0
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class Whitening:
    """Takes out of vectors what all items share, so that a cosine tells what few share.

    All vectors point to one side, because popular items score high after any history. The mean is subtracted. Then
    each principal direction is divided by the fourth root of its variance: half-way to white.

    Args:
        mean: float32[d].
        map: float32[d, d].

    Source: Mu, Viswanath, "All-but-the-top: simple and effective postprocessing for word representations", 2018, with
        the directions damped, not removed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> vectors = (rng.normal(size=(500, 2)) * [9, 1] + [20, 0]).astype(np.float32)
        >>> np.cov(Whitening.of(vectors).to(vectors).T).diagonal().round().tolist()
        [0.0, 7.0]
    """

    mean: Floats
    map: Floats

    @classmethod
    def of(cls, vectors: Floats) -> "Whitening":
        """Return the whitening of a sample of vectors, float32[n, d]. Cost: O(n d^2 + d^3)."""
        mean = vectors.mean(axis=0)
        variances, directions = np.linalg.eigh(np.cov(vectors - mean, rowvar=False, bias=True).reshape(len(mean), -1))
        variances = np.maximum(variances, 0) + RIDGE * max(float(variances.mean()), _LEAST)
        return cls(mean, (directions * variances**-0.25).astype(np.float32))

    def to(self, vectors: Floats) -> Floats:
        """Return float32[n, d], whitened."""
        whitened: Floats = np.matmul(vectors - self.mean, self.map)
        return whitened

    def query(self, vector: Floats) -> Floats:
        """Return float32[d], whose products with all vectors are those of the whitened vectors, up to a constant."""
        query: Floats = np.matmul(self.map, self.to(vector))
        return query

    def cosines(self, vector: Floats, others: Floats) -> Floats:
        """Return float32[n], the cosines of a vector with others, float32[n, d], all of them whitened.

        Example:
            >>> plain = Whitening(np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
            >>> plain.cosines(np.float32([3, 4]), np.float32([[6, 8], [4, -3], [0, 0]])).round(3).tolist()
            [1.0, 0.0, 0.0]
        """
        one, many = self.to(vector), self.to(others)
        lengths = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
        cosines: Floats = many @ one / np.maximum(lengths, _LEAST)
        return cosines
