"""Learning the weights. The only part that needs JAX."""
