"""The filter language: which items a list may hold, by what they are.

The path: a filter comes as a text, as Python objects or as names and values. `parser` reads a text,
`fields` builds the same from Python, and both give a tree of `expressions`. `binding` checks the
tree against the columns of a catalogue and puts in what the request knows: the profile of the user,
the item being looked at, parameters, the time. `masks` finds the items, and keeps the last masks.
Does not know: scores, states, HTTP.
"""
