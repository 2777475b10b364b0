"""ALS: users and items as short vectors, fitted by alternating least squares (the package `implicit`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from segue.data.sequences.sequences import Sequences
from segue.data.sequences.transition_counts import TIE, known_events, recent, shares, used_by
from segue.evaluation.baselines.contract import Baseline, FromBaseline, Grid, above_zero
from segue.shapes import Floats, Rows


@dataclass(frozen=True)
class ALS(Baseline):
    """Score an item by the product of its vector and the user's, which is computed from the history.

    The vectors x of users and y of items make `sum over users and items of c * (p - x.y)^2 +
    regularisation * (|x|^2 + |y|^2)` small, where p is 1 and c is `1 + alpha` for an item that the user had,
    0 and 1 for all others. A history gives the user's x in closed form, with c of `1 + alpha *
    2^(-lag / half_life)` for an item whose last place is `lag` steps back.

    Args:
        factors: the length of a vector.
        regularisation: above 0.
        alpha: the additional confidence of an item of the history.
        iterations: how often users and items are solved in turn.
        half_life: the lag in items at which an item of the history adds half of `alpha`.
        seed: of the first vectors.

    Raises:
        ArgumentError: a setting but `seed` is not above 0.

    Source: Hu, Koren, Volinsky 2008, equations 3 to 5; conjugate gradients of Takács, Pilászy, Tikk 2011.
    """

    factors: int = 64
    regularisation: float = 10.0
    alpha: float = 10.0
    iterations: int = 10
    half_life: float = np.inf
    seed: int = 0

    title: ClassVar[str] = "ALS"
    word: ClassVar[str] = "als"
    grid: ClassVar[Grid] = {
        "half_life": (0.5, 1.0, 2.0, 4.0, 8.0, np.inf),
        "factors": (32, 128),
        "alpha": (2.0, 50.0, 200.0),
        "regularisation": (1.0, 100.0),
    }
    reading: ClassVar[frozenset[str]] = frozenset({"half_life"})

    def __post_init__(self) -> None:
        above_zero(self, "factors", "regularisation", "alpha", "iterations", "half_life")

    @classmethod
    def obstacle(cls, n_items: int, features: Floats | None = None) -> str | None:
        """Return that the package is missing, or None."""
        if find_spec("implicit") is not None:
            return None
        return f'{cls.title}: expected the package implicit, it is not installed. pip install "segue[als]"'

    @classmethod
    def operations(cls, events: int, n_items: int) -> float:
        """Return about how much work a fit is: three steps of a solve for each user and item, in turn."""
        return 100.0 * events

    def count(
        self, sequences: Sequences, n_items: int, features: Floats | None = None
    ) -> tuple[sparse.csr_array, Floats]:
        """Return which items each user had, and their popularity. O(events)."""
        known = known_events(sequences, n_items)
        return used_by(known, n_items), shares(known.items, n_items, total=TIE)

    def of_counts(self, counts: tuple[sparse.csr_array, Floats]) -> "Factored":
        """Factorise; the same settings and events give the same vectors, whatever the order of the users.

        Cost: O(iterations x factors x (events + factors x (users + items))) time.
        """
        (had, popularity), n_items = counts, len(counts[1])
        model, vectors = self._model(), np.zeros((n_items, self.factors), np.float32)
        if had.nnz:
            used = _confident(had, self.alpha)
            # Users begin at 0 and are solved first, so that their order does not matter.
            model.user_factors = np.zeros((had.shape[0], self.factors), np.float32)
            random = np.random.default_rng(self.seed)
            model.item_factors = random.random((n_items, self.factors), dtype=np.float32) * np.float32(0.01)
            with _one_thread():
                model.fit(used, show_progress=False)
            vectors = np.where(popularity[:, None] > 0, model.item_factors, np.float32(0))
        model.item_factors = vectors
        with _one_thread():
            _ = model.YtY  # kept by the model from here on
        return Factored(self, popularity, model, self.half_life)

    def _model(self) -> Any:
        with _one_thread():
            from implicit.cpu.als import AlternatingLeastSquares

            # The given matrix holds confidences: the package's own alpha stays 1.
            return AlternatingLeastSquares(
                factors=self.factors, regularization=self.regularisation, alpha=1.0, iterations=self.iterations
            )


@dataclass(frozen=True, eq=False)
class Factored(FromBaseline):
    """Fitted ALS: vectors of items, and the solver that computes a user's vector from a history.

    An empty history, or a history of unknown items only, is scored by popularity alone.

    Args:
        baseline: the settings it was fitted with.
        popularity: float32[item], small beside the products.
        model: of the package `implicit`, with `item_factors`.
        half_life: the lag in items at which an item of the history adds half of `alpha`.
    """

    baseline: ALS
    popularity: Floats
    model: Any
    half_life: float = np.inf

    def score(self, histories: Sequence[Rows]) -> Floats:
        """Return float32[query, item]; see `Fitted.score`.

        Cost: O(query x factors x (factors x (items of the history + factors) + item)).
        """
        users = self.users(histories)
        scores: Floats = users @ self.model.item_factors.T + self.popularity
        scores[:, 0] = -np.inf
        return scores

    def users(self, histories: Sequence[Rows]) -> Floats:
        """Return float32[query, factor], the user's vector behind each history; zeros for an empty one."""
        recent_items = recent(histories, len(self.popularity), None, self.half_life, once=True)
        if not len(histories):
            return np.zeros((0, self.baseline.factors), np.float32)
        with _one_thread():
            return self.model.recalculate_user(np.arange(len(histories)), _confident(recent_items, self.baseline.alpha))

    def read_by(self, baseline: Baseline) -> "Factored":
        """Return the same vectors, histories read by other settings. O(1)."""
        assert isinstance(baseline, ALS)
        return replace(self, baseline=baseline, half_life=baseline.half_life)


def _confident(used: sparse.csr_array, alpha: float) -> sparse.csr_matrix:
    """Return the confidence of each entry, `1 + alpha * value`, in the class that `implicit` expects."""
    confidence = (1 + np.float32(alpha) * used.data).astype(np.float32)
    indices = used.indices.astype(np.int32), used.indptr.astype(np.int32)
    return sparse.csr_matrix((confidence, *indices), shape=used.shape)


def _one_thread() -> Any:
    """Return a context in which BLAS has one thread: `implicit` has its own, and warns of others."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")
