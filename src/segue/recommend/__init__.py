"""State in, list out: what users of a trained model call."""
