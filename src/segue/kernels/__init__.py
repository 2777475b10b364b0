"""Loops in C where there is a compiler: of the training, called by XLA, and of the server; pure code says the same."""
