"""How gradients become new weights.

Knows: AdamW with clipping by the global norm, the learning-rate schedule, the running average.
Does not know: the loss.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from segue.config import TrainConfig

#: Share of the run in which the learning rate rises.
WARM_UP = 0.02


def make_optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """Return AdamW without its learning rate, after clipping; decay acts on matrices alone."""

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda weights: weights.ndim >= 2, params)

    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.scale_by_adam(b1=0.9, b2=0.98),
        optax.add_decayed_weights(config.weight_decay, mask=matrices),
    )


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Return the rate at a share of the run: a linear rise, then half a cosine down to 1 %.

    Example:
        >>> config = TrainConfig(learning_rate=1.0)
        >>> [round(learning_rate(config, p), 2) for p in (0.0, 0.01, 0.02, 0.51, 1.0)]
        [0.02, 0.5, 1.0, 0.51, 0.01]
    """
    rise = min(1.0, max(progress, WARM_UP / 50) / WARM_UP)
    fall = max(0.0, (min(progress, 1.0) - WARM_UP) / (1.0 - WARM_UP))
    return config.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * fall)))


def running_average(average: Any, params: Any, decay: float, step: Array) -> Any:
    """Return `decay average + (1 - decay) params`, with less decay in the first updates."""
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: new + kept * (old - new), average, params)
