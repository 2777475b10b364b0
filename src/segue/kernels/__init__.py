"""Loops of the training pass in C, called by XLA, where there is a compiler; the same numbers as the pure code."""
