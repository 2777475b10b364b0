"""The best items for a query vector: exact and approximate."""
