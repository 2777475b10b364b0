"""The network, as pure functions that run under NumPy and under JAX alike."""
