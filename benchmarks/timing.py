"""The shortest time of a call, repeated."""

import time
from collections.abc import Callable
from typing import Any

import jax


def best_seconds(call: Callable[..., Any], *arguments: Any, during: float = 1.5) -> float:
    """Return the seconds of the fastest call of those made within `during` seconds, after one that compiles."""
    jax.block_until_ready(call(*arguments))
    best, end = float("inf"), time.perf_counter() + during
    while time.perf_counter() < end:
        began = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        best = min(best, time.perf_counter() - began)
    return best
