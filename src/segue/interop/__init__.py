"""Segue and Keras: weights in both directions, and any Keras cell inside Segue's network.

Knows: Keras layers and cells, their weights (`weights`), a Keras cell behind the contract of cells
(`keras_cell`).
Does not know: networks, training, model files. Needs the extra `keras`; Keras and JAX are imported
at the first call.
"""

from segue.interop.keras_cell import KerasCell
from segue.interop.library import keras_on_jax
from segue.interop.weights import from_keras, keras_weights, to_keras

__all__ = ["KerasCell", "from_keras", "keras_on_jax", "keras_weights", "to_keras"]
