"""One page of axis letters and array names.

Axis letters, used in docstrings and comments everywhere:

    T  time, in steps          B  lanes or users at once     d  width of the network
    V  rows of the catalogue, row 0 (*unknown*) included     N  positions = T x B
    e  width inside the feed-forward                         K  knots of the clock

Arrays are time-major inside the network: `float32[T, B, d]`.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: A NumPy or JAX array (or a JAX tracer): code that takes one asks it for its namespace.
Array: TypeAlias = Any
#: A nested NamedTuple of arrays.
Tree: TypeAlias = Any

Rows: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]
Times: TypeAlias = NDArray[np.int64]
