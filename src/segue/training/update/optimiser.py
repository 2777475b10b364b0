"""AdamW with clipping, the learning-rate schedule, the running average of the weights."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from segue.config import TrainConfig

#: Share of the run in which the learning rate rises.
WARM_UP = 0.02
#: Decay of the running means of the gradient and of its square.
B1, B2 = 0.9, 0.98


def make_optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """Return AdamW without its learning rate, after clipping; decay acts on matrices alone."""

    def matrices(params: Any) -> Any:
        return jax.tree.map(lambda weights: weights.ndim >= 2, params)

    return optax.chain(
        clip_apart(config.clip),
        optax.scale_by_adam(b1=B1, b2=B2),
        optax.add_decayed_weights(config.weight_decay, mask=matrices),
    )


def clip_apart(limit: float) -> optax.GradientTransformation:
    """Return clipping by global norm; the rating head's is apart, so it changes no other steps."""
    clip = optax.clip_by_global_norm(limit)

    def update(gradient: Any, state: Any, params: Any = None) -> Any:
        others, state = clip.update(gradient._replace(rating=()), state)
        return others._replace(rating=clip.update(gradient.rating, state)[0]), state

    return optax.GradientTransformation(clip.init, update)


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Return the rate at a share of the run: a linear rise, then half a cosine down to 1 %.

    Example:
        >>> config = TrainConfig(learning_rate=1.0)
        >>> [round(learning_rate(config, p), 2) for p in (0.0, 0.01, 0.02, 0.51, 1.0)]
        [0.02, 0.5, 1.0, 0.51, 0.01]
    """
    assert config.learning_rate is not None
    rise = min(1.0, max(progress, WARM_UP / 50) / WARM_UP)
    fall = max(0.0, (min(progress, 1.0) - WARM_UP) / (1.0 - WARM_UP))
    return config.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * fall)))


def kept_share(decay: float, step: Array) -> Array:
    """Return the share of the running average that is kept: `decay`, less in first updates."""
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def running_average(average: Any, params: Any, kept: Array) -> Any:
    """Return `kept average + (1 - kept) params`."""
    return jax.tree.map(lambda old, new: new + kept * (old - new), average, params)
