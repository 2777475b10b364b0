"""Activations missing from array namespaces, numerically stable, in the float32 of their input."""

from collections.abc import Callable

from segue.model.backend import compiled_loops, namespace, parts
from segue.shapes import Array

LEAK = 0.01


def sigmoid(x: Array) -> Array:
    """Return `1 / (1 + exp(-x))`, as `0.5 tanh(x / 2) + 0.5`, which cannot overflow."""
    return 0.5 * namespace(x).tanh(0.5 * x) + 0.5


def softplus(x: Array) -> Array:
    """Return `log(1 + exp(x))`, stable on both sides."""
    xp = namespace(x)
    return xp.logaddexp(x, xp.zeros_like(x))


def silu(x: Array) -> Array:
    """Return `x sigmoid(x)`."""
    return x * sigmoid(x)


def gelu(x: Array) -> Array:
    """Return the tanh form of the Gaussian error linear unit (Hendrycks and Gimpel, 2016)."""
    return 0.5 * x * (1.0 + namespace(x).tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def geglu(gate: Array, y: Array) -> Array:
    """Return `gelu(gate) * y`."""
    loops = compiled_loops(y)
    return loops.geglu(gate, y) if loops else y * gelu(gate)


def swiglu(both: Array) -> Array:
    """Return `silu(a) * b` with `a, b` the halves of the last axis (Shazeer, 2020)."""
    loops = compiled_loops(both)
    if loops:
        return loops.swiglu(both)
    a, b = parts(both, 2)
    return silu(a) * b


def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent."""
    return namespace(x).tanh(x)


def relu(x: Array) -> Array:
    """Return `max(x, 0)`."""
    return namespace(x).maximum(x, 0.0)


def leaky_relu(x: Array) -> Array:
    """Return `x` where positive and `LEAK x` elsewhere."""
    return namespace(x).where(x > 0, x, LEAK * x)


#: What `model.activation` may name, for the plain recurrence.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": tanh, "relu": relu, "leaky_relu": leaky_relu}
