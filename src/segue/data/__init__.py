"""Data: logs and tables become arrays.

Knows: files, ids, times, columns. Does not know: networks, models, stores or servers.

A log goes this way: `values` reads single values; `log` reads what happened; `sequences` puts each
user's events in order, as rows of a vocabulary; `features` encodes their attributes.
"""
