"""The rating head: the rating of an item, from the state that also predicts the next item.

The user state carries a rating state beside the network's output: decayed sums of how far ratings
lay from the frozen biases, and in which direction of the item space. One definition runs under JAX
in training and NumPy in serving.

For an item i with vector v and frozen bias b, after ratings with residuals
x_j = rating - mean - b_j:

    sums_k   = sum_j decay_k^(events since j) x_j          counts_k the same of 1
    taste    = sum_j x_j v_j                               (the user's, as Koren's asymmetric factors)
    latent   = mean + unit (b + shared + offset + <u, output> + sum_k w_k sums_k / (counts_k + l_k)
                            + <output P + taste K / (counts_0 + l) + t, v> sqrt(d))

A unit is the standard deviation of the learnt ratings, so that the head is the same on any scale. A
head with `apart` reads vectors that were trained for the next item and may have any length: it
bounds their length, and divides by sqrt(d) instead of multiplying.

The mean of the rating is the latent value itself, held within the scale (loss "squared";
`segue.model.rating_distribution` makes the share of each step), or the mean of an ordinal
distribution over the steps of the scale, P(rating <= step k) = sigmoid((cut_k - latent) / spread)
("ordinal").
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from segue.data.log.rating_scale import RATING_WIDTH, Scale
from segue.model.activations import sigmoid
from segue.model.backend import draw_normal, namespace, product, scan, take, where_tree
from segue.model.rating_distribution import StepShares, shares_of, with_moments, within
from segue.shapes import Array, Floats

#: What of a sum is left after each further event; the first keeps all, so it counts the ratings.
DECAYS = (1.0, 0.95, 0.8)


class RatingTables(NamedTuple):
    """What is known of each item's ratings when training ends; not learnt by gradient."""

    bias: Array  # [V], in units: a shrunken mean of how far ratings lie above the mean and their users' biases
    count: Array  # [V], how many ratings that was


class RatingParams(NamedTuple):
    """The weights of the head."""

    preference: Array  # [d, d], P
    kindred: Array  # [d, d], K
    taste: Array  # [d], t, of all users: a linear map of an item's vector, so of its attributes too
    user: Array  # [d], u
    offset: Array  # [1]
    weight: Array  # [k], w
    shrink: Array  # [k + 1], logarithms of l_1 ... l_k and of l
    spread: Array  # [d], log of the spread, by the output
    spread_offset: Array  # [1]
    cuts: Array  # [steps - 1], how far each cut lies from the middle between two steps; "ordinal" alone
    tables: Any = ()  # RatingTables


@dataclass(frozen=True)
class RatingHead:
    """Static settings; the weights stand beside it in `RatingParams`.

    Args:
        scale: of the ratings.
        width: d.
        loss: "squared" or "ordinal".
        apart: the network reads no residuals and learns nothing from ratings, so that the next item
            is predicted as without a head; the head reads its output and the rating state.

    Older models have no unit: theirs is 1 and nothing is bounded, so that they answer as before.
    """

    scale: Scale
    width: int
    loss: str = "squared"
    apart: bool = False

    @property
    def bounds(self) -> bool:
        """Whether vectors are shortened before the head reads them."""
        return self.apart and self.scale.unit is not None

    @property
    def unit(self) -> float:
        """What the head's numbers are multiplied by to be ratings."""
        return 1.0 if self.scale.unit is None else self.scale.unit

    @property
    def state_width(self) -> int:
        """Numbers of the rating state, which the user state carries beside the output."""
        return 2 * len(DECAYS) + self.width

    def init(self, seed: int, items: int) -> RatingParams:
        """Return fresh float32 weights; they predict from biases and rating state alone."""
        d, steps, rng = self.width, len(DECAYS), np.random.default_rng([seed, 7])
        zeros = np.zeros(d, np.float32)
        return RatingParams(
            preference=draw_normal(rng, (d, d), 0.4 * d**-0.5),
            kindred=draw_normal(rng, (d, d), 0.02) + (0.1 if self.bounds else 0.3) * np.eye(d, dtype=np.float32),
            taste=zeros,
            user=zeros,
            offset=np.zeros(1, np.float32),
            weight=np.full(steps, 1.0 / steps, np.float32),
            shrink=np.log(np.array([3.0] * steps + [10.0], np.float32)),
            spread=zeros,
            spread_offset=np.full(1, -0.1 if self.loss == "squared" else -0.5, np.float32),
            cuts=np.zeros(len(self.scale.levels) - 1, np.float32),
            tables=RatingTables(np.zeros(items, np.float32), np.zeros(items, np.float32)),
        )

    def residuals(self, params: RatingParams, items: Array, details: Array) -> Array:
        """Return the event features with each rating replaced by its residual over the item's bias.

        Args:
            items: int32[...], rows.
            details: float32[..., m], event features; the last `RATING_WIDTH` hold the rating.
        """
        xp = namespace(details)
        known = details[..., -1:]
        noted = details[..., -RATING_WIDTH:-1] - take(params.tables.bias, items)[..., None] * known
        return xp.concat([details[..., :-RATING_WIDTH], noted, known], axis=-1)

    def entries(self, residual: Array, known: Array, vectors: Array) -> Array:
        """Return what each event adds to the rating state, [..., 2 k + d].

        Args:
            residual: float32[...], 0 without a rating.
            known: float32[...], whether there is a rating.
            vectors: float32[..., d], of the items.
        """
        xp = namespace(residual)
        ones = xp.ones((len(DECAYS),), dtype=vectors.dtype)
        x, n = residual[..., None], known[..., None]
        return xp.concat([x * ones, n * ones, x * self.vectors(vectors)], axis=-1)

    def vectors(self, items: Array) -> Array:
        """Return the vectors of items as they are multiplied, [..., d]."""
        return self.read(items * self.width**0.5)

    def read(self, x: Array) -> Array:
        """Return vectors as the head reads them, bounded by `x / sqrt(1 + mean(x^2))`, [..., d].

        A short vector keeps its length, which grows with what is known; a long one gets a root mean
        square of 1.
        """
        if not self.bounds:
            return x
        return x / namespace(x).sqrt(1.0 + (x * x).sum(axis=-1, keepdims=True) / self.width)

    def step(self, state: Array, entry: Array) -> Array:
        """Return the rating state after one event; without a rating only the sums decay."""
        kept = np.array([*DECAYS, *DECAYS, *[1.0] * self.width], np.float32)
        return state * namespace(entry).asarray(kept) + entry

    def scan(self, state: Array, entries: Array, reset: Array) -> Array:
        """Return the rating state after T positions, [T, B, 2 k + d]; emptied where reset."""

        def read_position(before: Array, now: Any) -> tuple[Array, Array]:
            reset_now, entry = now
            after = self.step(where_tree(reset_now, namespace(before).zeros_like(before), before), entry)
            return after, after

        result: Array = scan(read_position, state, (reset, entries))[1]
        return result

    def bias(self, params: RatingParams, state: Array) -> Array:
        """Return a user's bias from the rating state, [...]."""
        xp, k = namespace(state), len(DECAYS)
        return (state[..., :k] / (state[..., k : 2 * k] + xp.exp(params.shrink[:k]))) @ params.weight

    def taste(self, params: RatingParams, state: Array) -> Array:
        """Return a user's taste, a direction in the item space, from the rating state, [..., d]."""
        xp, k = namespace(state), len(DECAYS)
        return state[..., 2 * k :] / (state[..., k : k + 1] + xp.exp(params.shrink[k]))

    def latent(self, params: RatingParams, output: Array, bias: Array, taste: Array, item: "ItemSide") -> Array:
        """Return the latent value of one item for each user, [...].

        Args:
            output: float32[..., d], moved by the time of the request.
            bias: float32[...], of `bias`.
            taste: float32[..., d], of `taste`.
        """
        output = self.read(output)
        wanted = product(output, params.preference) + product(taste, params.kindred) + params.taste
        match = namespace(output).sum(wanted * self.vectors(item.vectors), axis=-1)
        if self.bounds:
            match = match / self.width**0.5
        units = item.bias + bias + output @ params.user + params.offset[0] + match
        return self.scale.mean + self.unit * units

    def spread(self, params: RatingParams, output: Array) -> Array:
        """Return the standard deviation ("squared") or the scale ("ordinal") of ratings, [...]."""
        xp = namespace(output)
        return self.unit * xp.exp(xp.clip(self.read(output) @ params.spread + params.spread_offset[0], -4.0, 4.0))

    def shares(self, params: RatingParams, latent: Array, spread: Array) -> Array:
        """Return the probability of each step of the scale by an ordinal head, [..., steps]."""
        xp = namespace(latent)
        levels = np.array(self.scale.levels, np.float32)
        cuts = (levels[1:] + levels[:-1]) * 0.5 + params.cuts * self.unit
        below = sigmoid((cuts - latent[..., None]) / spread[..., None])
        ends = xp.zeros_like(below[..., :1])
        whole = xp.concat([ends, below, ends + 1.0], axis=-1)
        return xp.maximum(whole[..., 1:] - whole[..., :-1], 0.0)

    def distribution(self, params: RatingParams, latent: Floats, spread: Floats) -> StepShares:
        """Return mean and deviation of predicted ratings, float32[n], and the share of each step.

        All belong to one distribution: that of an ordinal head, or the flattest distribution with
        the latent value as mean and the spread as deviation, as far as the scale permits.
        """
        scale = self.scale
        if self.loss == "ordinal":
            return with_moments(self.shares(params, latent, spread), scale.levels)
        if scale.has_steps:
            return shares_of(latent, spread, scale.levels)
        if scale.closed:
            return within(latent, spread, scale.lowest, scale.highest)
        mean = np.clip(latent, np.float32(scale.lowest), np.float32(scale.highest))
        return StepShares(mean, spread, np.zeros((len(mean), 0), np.float32))


class ItemSide(NamedTuple):
    """What the head reads of the items to be rated."""

    bias: Array  # [...], frozen, with what moved since
    vectors: Array  # [..., d]
