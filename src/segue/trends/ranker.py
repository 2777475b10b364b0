"""Features of a candidate at a moment, and the small network that scores the candidates.

What everybody does now is counted beside the model (`segue.kernels.trend_loops`). For each request
some candidates come from the model's own list and some from these counts. A feed-forward network
with two hidden layers scores them by the counts, by the model's own score, and by what is known of
the user:

    score = w_3 . relu(W_2 relu(W_1 x + b_1) + b_2) + w_linear . x

Its softmax over the candidates is their distribution, learnt from a stream that is simulated from
the log (`segue.training.trend_fit`).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.errors import ModelError
from segue.kernels.trend_loops import FEATURES, WIDEST
from segue.shapes import Bools, Floats, Times

#: Numbers that describe a candidate with the user: those of the counts, and five more.
INPUTS = FEATURES + 5
#: The model's score of a candidate that the model does not know, below its best one.
UNKNOWN = -8.0


def item_key(id: str) -> int:
    """Return the number of 64 bits that stands for an item in the counts; never 0.

    Two of 10 million items share a number with a chance of about 3 in a million.

    Example:
        >>> item_key("17") == item_key("17"), item_key("17") == item_key("71")
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little", signed=True) or 1


def item_keys(ids: Iterable[str]) -> Times:
    """Return int64[n], the key of each id; see `item_key`."""
    return np.fromiter(map(item_key, ids), np.int64)


@dataclass(frozen=True, eq=False)
class TrendRanker:
    """The network that scores candidates.

    Args:
        shortest: int64[], the shortest half-life of the counts, in microseconds.
        w_1: float32[INPUTS, h], for features as they come.
        b_1: float32[h].
        w_2: float32[h, h].
        b_2: float32[h].
        w_3: float32[h].
        linear: float32[INPUTS].
        others: float32[], what is taken from the scores of the other items: the log of how often
            the target was among the candidates, as odds.
    """

    shortest: np.int64
    w_1: Floats
    b_1: Floats
    w_2: Floats
    b_2: Floats
    w_3: Floats
    linear: Floats
    others: np.float32

    @classmethod
    def kept(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "TrendRanker":
        """Return the ranker in the arrays of a file, by field, after a check of each.

        Raises:
            ModelError: an array is missing or has another type or shape, or a number is not finite.
        """
        names = {field.name for field in fields(cls)}
        hidden = min(arrays["b_1"].size, WIDEST) if "b_1" in arrays else 0
        shapes: dict[str, tuple[int, ...]] = {
            "shortest": (), "w_1": (INPUTS, hidden), "b_1": (hidden,), "w_2": (hidden, hidden), "b_2": (hidden,),
            "w_3": (hidden,), "linear": (INPUTS,), "others": (),
        }  # fmt: skip
        fit = arrays.keys() == names and all(
            arrays[name].shape == shape and arrays[name].dtype == (np.int64 if name == "shortest" else np.float32)
            for name, shape in shapes.items()
        )
        if not fit or not all(np.isfinite(array).all() for array in arrays.values()):
            raise ModelError(f"trends: expected the arrays {', '.join(sorted(names))} of one ranker, came others.")
        if not 1_000_000 <= int(arrays["shortest"][()]) <= 2**50:
            raise ModelError(
                "trends: expected a half-life from a second, came another. Take the model from its source."
            )
        return cls(**{name: array[()] for name, array in arrays.items()})  # type: ignore[arg-type]

    @classmethod
    def blank(cls, shortest: int) -> "TrendRanker":
        """Return a ranker that scores all candidates alike, for a half-life in microseconds."""
        none = np.zeros(1, np.float32)
        linear = np.zeros(INPUTS, np.float32)
        return cls(np.int64(shortest), linear[:, None], none, none[:, None], none, none, linear, np.float32(0))

    @cached_property
    def layers(self) -> tuple[Floats, ...]:
        """The weights as `segue.kernels.trend_loops` reads them."""
        arrays = (self.w_1, self.b_1, self.w_2, self.b_2, self.w_3, self.linear)
        return tuple(np.ascontiguousarray(array, np.float32) for array in arrays)

    def scores(self, inputs: Floats) -> Floats:
        """Return float32[...] for features float32[..., INPUTS]."""
        hidden: Any = np.maximum(inputs @ self.w_1 + self.b_1, np.float32(0))
        hidden = np.maximum(hidden @ self.w_2 + self.b_2, np.float32(0))
        scores: Floats = hidden @ self.w_3 + inputs @ self.linear
        return scores


def inputs_of(counted: Floats, scores: Floats, known: Bools, gaps: Floats, counts: Times, places: Floats) -> Floats:
    """Return float32[request, candidate, INPUTS], the features that a ranker reads.

    Args:
        counted: float32[request, candidate, FEATURES], of the counts.
        scores: float32[request, candidate], of the model.
        known: bool[request, candidate], whether the model knows the candidate.
        gaps: float32[request], seconds since the user's last event; NaN unknown.
        counts: int64[request], events of the user.
        places: float32[request, candidate], how many events ago the user took the candidate, 0 for
            none of the last.
    """
    best = np.where(known, scores, -np.inf).max(axis=1, initial=-1e30, keepdims=True)
    own = np.where(known, np.maximum(scores - best, np.float32(UNKNOWN)), np.float32(UNKNOWN))
    inputs = np.empty((*scores.shape, INPUTS), np.float32)
    inputs[..., :FEATURES] = counted
    inputs[..., FEATURES] = own
    inputs[..., FEATURES + 1] = known
    inputs[..., FEATURES + 2] = np.log1p(np.nan_to_num(np.maximum(gaps, 0)) / 10)[:, None]
    inputs[..., FEATURES + 3] = np.log1p(counts)[:, None]
    inputs[..., FEATURES + 4] = np.where(places > 0, 1 / np.maximum(places, 1), 0)
    return inputs
