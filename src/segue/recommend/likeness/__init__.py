"""How much items are alike: by what people do with them, by their vectors, by their attributes and titles.

Each file has one likeness, up to 1: `co_counts` from the transition counts, `vectors` from the network's items, and
`attributes` from the catalogue. `recommend.similar` adds them up and makes the list.
Does not know: lists, filters, users.
"""
