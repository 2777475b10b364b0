"""State in, list out."""
