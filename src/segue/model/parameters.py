"""The weights of a network from the arrays of a file, checked against its settings."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from segue.errors import ModelError
from segue.model.backend import leaves, map_tree
from segue.model.network import Network, NetworkParams

_AGAIN = "Take the model from its source again."


def kept_params(network: Network, arrays: Mapping[str, NDArray[np.generic]]) -> NetworkParams:
    """Return the weights of a network.

    Args:
        arrays: by path, as `leaves` names them.

    Raises:
        ModelError: an array is missing, unknown, of another shape or type, or not finite.

    Cost: O(numbers); settings that need more numbers than the file has are refused at once.
    """
    count, least = sum(array.size for array in arrays.values()), least_numbers(network)
    if least > count:
        raise ModelError(f"weights: expected {least:,} numbers or more by its settings, came {count:,}. {_AGAIN}")
    like = network.init(0)
    shapes = {path: array.shape for path, array in leaves(like)}
    if shapes.keys() != arrays.keys():
        other = min(shapes.keys() ^ arrays.keys())
        raise ModelError(f"weights: expected those of its settings, {other} is not in both. {_AGAIN}")
    for path, shape in shapes.items():
        _check_array(path, arrays[path], shape)
    paths = iter(shapes)
    params: NetworkParams = map_tree(lambda _: arrays[next(paths)], like)
    if params.rating and params.rating.tables.count.min(initial=0) < 0:
        raise ModelError(f"rating.tables.count: expected numbers of ratings from 0, came a negative one. {_AGAIN}")
    return params


def least_numbers(network: Network) -> int:
    """Return the least count of numbers in a network: all but those of cells and heads.

    Example:
        >>> from segue.model.cells import GRU
        >>> least_numbers(Network(GRU(), items=10, width=4, depth=1))
        194
    """
    d, features = network.width, network.attributes + network.details + network.asked + network.profile
    return network.items * (d + 1) + features * d + network.depth * 3 * d * d * (1 + network.expand)


def _check_array(path: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != np.float32 or array.shape != shape:
        raise ModelError(
            f"{path}: expected float32{list(shape)} by its settings, came {array.dtype}{list(array.shape)}. {_AGAIN}"
        )
    with np.errstate(invalid="ignore"):
        total = np.add.reduce(array, axis=None, dtype=np.float64)  # needs no array of booleans beside a large one
    if not np.isfinite(total):
        raise ModelError(f"{path}: expected finite numbers, came others. {_AGAIN}")
