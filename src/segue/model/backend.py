"""The few things that differ between NumPy and JAX; JAX is imported only for JAX arrays."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from segue.shapes import Array, Tree


def namespace(array: Array) -> Any:
    """Return the module (`numpy` or `jax.numpy`) that computes with this array."""
    return array.__array_namespace__()


def is_jax(xp: Any) -> bool:
    """Say whether a namespace is `jax.numpy`."""
    return str(xp.__name__).startswith("jax")


def is_leaf(tree: Tree) -> bool:
    """Say whether a node of a parameter tree is an array."""
    return not isinstance(tree, tuple)


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Array]]:
    """Yield `(path, array)` for each array of nested (named) tuples, in field order.

    Example:
        >>> from typing import NamedTuple
        >>> class Pair(NamedTuple):
        ...     left: object
        ...     right: object
        >>> [path for path, _ in leaves(Pair(np.ones(1), (np.ones(1), np.ones(1))))]
        ['left', 'right.0', 'right.1']
    """
    if is_leaf(tree):
        yield path, tree
        return
    names = getattr(tree, "_fields", None) or [str(i) for i in range(len(tree))]
    for name, child in zip(names, tree, strict=True):
        yield from leaves(child, f"{path}.{name}" if path else name)


def map_tree(function: Callable[..., Array], tree: Tree, *others: Tree) -> Tree:
    """Apply a function to each array of a tree (and the arrays at the same place of others)."""
    if is_leaf(tree):
        return function(tree, *others)
    children = [map_tree(function, *nodes) for nodes in zip(tree, *others, strict=True)]
    return type(tree)(*children) if hasattr(tree, "_fields") else tuple(children)


def where_tree(condition: Array, yes: Tree, no: Tree) -> Tree:
    """Choose between two trees of `[B, ...]` arrays, user by user; condition is `bool[B]`."""

    def choose(a: Array, b: Array) -> Array:
        xp = namespace(b)
        return xp.where(condition.reshape(condition.shape + (1,) * (b.ndim - 1)), a, b)

    return map_tree(choose, yes, no)


def take(table: Array, rows: Array) -> Array:
    """Return `table[rows]`; rows must lie inside: NumPy would raise and JAX would clamp."""
    if is_jax(namespace(table)):
        return table.at[rows].get(mode="promise_in_bounds")
    return table[rows]


def product(x: Array, weights: Array) -> Array:
    """Return `x @ weights` for `x` [..., k].

    The axes before the last are flattened: with more axes the compiler computes the gradient of the
    weights from a transposed copy of x, which costs as much as the product. Where the weights are
    bfloat16, x is rounded to bfloat16 and sums are float32.
    """
    if x.ndim != 2:
        return product(x.reshape(-1, x.shape[-1]), weights).reshape(*x.shape[:-1], weights.shape[-1])
    if weights.dtype.itemsize > 2:
        return x @ weights
    from segue.kernels import training_loops

    return training_loops.product(x, weights)


def compiled_loops(array: Array) -> Any:
    """Return the compiled loops, or None where the pure code has to compute with this array."""
    if not is_jax(namespace(array)) or array.dtype != np.float32:
        return None
    from segue.kernels import build, training_loops

    return training_loops if build.available() else None


def parts(x: Array, count: int) -> list[Array]:
    """Return the last axis cut into `count` equal parts.

    JAX splits: the gradient of a split is one concatenation, while slices give a padded copy of the
    whole for each part, which was the slowest thing in the backward pass. NumPy slices: its split
    costs as much as a small product.
    """
    xp = namespace(x)
    if is_jax(xp):
        return list(xp.split(x, count, axis=-1))
    width = x.shape[-1] // count
    return [x[..., part * width : (part + 1) * width] for part in range(count)]


def scan(step: Callable[[Tree, Tree], tuple[Tree, Array]], state: Tree, inputs: Tree) -> tuple[Tree, Array]:
    """Run `state, y = step(state, input)` along the first axis and stack the `y`.

    Strictly equivalent to the loop

        ys = []
        for t in range(T):
            state, y = step(state, map_tree(lambda a: a[t], inputs))
            ys.append(y)
        return state, stack(ys)

    Cost: T calls of `step`. Under JAX the loop is not unrolled: the compiler would fuse later steps
    with earlier ones and compute these again for each (41 ms an update instead of 38, and twice the
    compile time, at 8 steps).
    """
    first = next(leaves(inputs))[1]
    xp, length = namespace(first), first.shape[0]
    if is_jax(xp):
        from jax import lax

        return lax.scan(step, state, inputs)
    outputs = []
    for t in range(length):
        state, y = step(state, map_tree(lambda array, t=t: array[t], inputs))
        outputs.append(y)
    return state, xp.stack(outputs)


def draw_normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Array:
    """Return float32 normal numbers of standard deviation `scale`."""
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def draw_rows(rng: np.random.Generator, shape: tuple[int, int], scale: float, first: int, step: int) -> Array:
    """Return `draw_normal(rng, shape, scale)[first::step]`, drawn block by block; first < step.

    All `first` have equally many rows; where there is none left, zeros.

    Example:
        >>> draw_rows(np.random.default_rng(0), (5, 2), 1.0, 1, 3).tolist() == draw_normal(
        ...     np.random.default_rng(0), (5, 2), 1.0)[1::3].tolist()
        True
    """
    table, filled = np.zeros((-(-shape[0] // step), shape[1]), np.float32), 0
    for begin in range(0, shape[0], 1 << 16):
        block = draw_normal(rng, (min(1 << 16, shape[0] - begin), shape[1]), scale)
        some = block[(first - begin) % step :: step]
        table[filled : filled + len(some)] = some
        filled += len(some)
    return table
