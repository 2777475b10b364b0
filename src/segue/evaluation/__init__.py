"""What a model is worth: protocols, the baselines it must beat, and the report.

Knows: how queries are made from a log, and the way the server answers them.
Does not know: how a model is trained.
"""
