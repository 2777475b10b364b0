"""The letters of axes and the names of array types.

Axis letters, used in all docstrings and comments:

    T  time steps (BPTT steps)   B  batch: lanes or users    d  width of the network
    V  rows of the vocabulary, row 0 (*unknown*) included    N  positions = T x B
    e  width inside the feed-forward                         K  knots of the clock

Arrays are time-major inside the network: `float32[T, B, d]`.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: A NumPy or JAX array (or a JAX tracer); a function takes its namespace from it.
Array: TypeAlias = Any
#: A nested NamedTuple of arrays.
Tree: TypeAlias = Any

Rows: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]
Times: TypeAlias = NDArray[np.int64]
