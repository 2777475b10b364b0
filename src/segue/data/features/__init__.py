"""Features: the attributes of items, users and events as arrays.

Knows: the tables of items and users, the columns of a log beside its ids, and their encoders.
Does not know: the network, or what a feature is worth.

A table goes this way: `catalogue` reads it and puts its rows in the order of a vocabulary; `kinds`
guesses the kind of each column; `table_encoder` fits an encoder per column (`column_encoders`,
`numeric`, `calendar`, `text`), which a model file keeps; `feature_encoders` holds the encoders of
items, users and events together, and encodes a log. `column_types` checks the values of later
items.
"""
