"""Segue and Keras: weights of the classical cells both ways, and any cell of Keras inside Segue's network.

Needs the extra `keras`. Keras and JAX are imported when something here is called, not before.
"""

from segue.interop.keras_cell import KerasCell
from segue.interop.library import keras_on_jax
from segue.interop.weights import from_keras, keras_weights, to_keras

__all__ = ["KerasCell", "from_keras", "keras_on_jax", "keras_weights", "to_keras"]
