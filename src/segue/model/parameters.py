"""The weights of a network out of the arrays of a file, checked against what its settings ask for.

Knows: names and shapes of weights, that they are float32 and finite. Does not know: files, digests, ids.
"""

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
        network: its settings.
        arrays: by path, as `leaves` names them.

    Raises:
        ModelError: they are not the network's: too few, others, of another shape or type, or not finite.

    Cost: O(numbers); settings that ask for more than there are cost nothing.
    """
    there, asked = sum(array.size for array in arrays.values()), least_numbers(network)
    if asked > there:
        raise ModelError(f"weights: expected {asked:,} numbers or more, as its settings say, came {there:,}. {_AGAIN}")
    like = network.init(0)
    shapes = {path: array.shape for path, array in leaves(like)}
    if shapes.keys() != arrays.keys():
        other = min(shapes.keys() ^ arrays.keys())
        raise ModelError(f"weights: expected those that its settings ask for, {other} is not in both. {_AGAIN}")
    for path, shape in shapes.items():
        _check_array(path, arrays[path], shape)
    paths = iter(shapes)
    params: NetworkParams = map_tree(lambda _: arrays[next(paths)], like)
    if params.rating and params.rating.tables.count.min(initial=0) < 0:
        raise ModelError(f"rating.tables.count: expected numbers of ratings from 0, came one below. {_AGAIN}")
    return params


def least_numbers(network: Network) -> int:
    """Return numbers that a network of these settings has at least, all but those of its cells and heads.

    Example:
        >>> from segue.model.cells import GRU
        >>> least_numbers(Network(GRU(), items=10, width=4, depth=1))
        194
    """
    d, described = network.width, network.attributes + network.details + network.asked + network.profile
    return network.items * (d + 1) + described * d + network.depth * 3 * d * d * (1 + network.expand)


def _check_array(path: str, array: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if array.dtype != np.float32 or array.shape != shape:
        raise ModelError(
            f"{path}: expected float32{list(shape)}, as its settings say, "
            f"came {array.dtype}{list(array.shape)}. {_AGAIN}"
        )
    with np.errstate(invalid="ignore"):
        total = np.add.reduce(array, axis=None, dtype=np.float64)  # no array of truths beside a large one
    if not np.isfinite(total):
        raise ModelError(f"{path}: expected finite numbers, came others. {_AGAIN}")
