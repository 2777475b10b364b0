"""Random bits for dropout: a hash of the position, the stream and the update's seed.

The hash is a few integer operations, which the compiler fuses into the multiplication by the mask;
a generator would fill memory first. The same seed gives the same bits on every machine.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array as JaxArray
from jax import lax

from segue.shapes import Array


def random_bits(seed: JaxArray, stream: int, shape: Sequence[int]) -> Array:
    """Return uint32[shape], each number a hash of its position (Wellons' lowbias32, 2018).

    Args:
        seed: uint32 scalar, another for each update.
        stream: another for each use within an update.
        shape: of the result.
    """
    count = 1
    for length in shape:
        count *= length
    x = lax.iota(jnp.uint32, count).reshape(tuple(shape))
    x = x * jnp.uint32(0x9E3779B1) + (seed ^ jnp.uint32((stream * 0x85EBCA6B) & 0xFFFFFFFF))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)


def chance(seed: JaxArray, stream: int, shape: Sequence[int], rate: float) -> Array:
    """Return bool[shape], true with probability `rate`."""
    return random_bits(seed, stream, shape) < jnp.uint32(min(int(rate * 2**32), 2**32 - 1))


def dropout_mask(seed: JaxArray, stream: int, shape: Sequence[int], rate: float) -> Array:
    """Return float32[shape]: 0 with probability `rate`, 1 / (1 - rate) elsewhere."""
    return jnp.where(chance(seed, stream, shape, rate), jnp.float32(0), jnp.float32(1 / (1 - rate)))
