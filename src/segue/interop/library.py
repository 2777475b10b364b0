"""The import of Keras, at the first use."""

import os
import sys
from typing import Any

from segue.errors import ArgumentError

_BACKEND = "KERAS_BACKEND"


def keras_on_jax() -> Any:
    """Return the module `keras`, computing with JAX. Cost: seconds at the first call of a process.

    Raises:
        ArgumentError: Keras is not installed, or was imported with another backend.
    """
    unset = "keras" not in sys.modules and _BACKEND not in os.environ
    if unset:
        os.environ[_BACKEND] = "jax"  # read once, while Keras is imported
    try:
        import keras
    except ImportError as error:
        raise ArgumentError(
            f'keras: expected the package Keras, it cannot be imported ({error}). Run: pip install "segue[keras]"'
        ) from None
    finally:
        if unset:
            del os.environ[_BACKEND]
    backend = keras.backend.backend()
    if backend != "jax":
        raise ArgumentError(
            f'keras: expected Keras on JAX, it was imported with the backend "{backend}". '
            "Set KERAS_BACKEND=jax in the environment before Keras is imported."
        )
    return keras
