"""The live server: what it keeps, and where."""
