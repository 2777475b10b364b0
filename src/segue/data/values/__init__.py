"""Values: ids, times, words and numbers, one at a time or a column at a time.

Knows: how people, shops and files write them, and how they are read, compared and searched.
Does not know: logs, items, users, or what a value is for.

`parsing` reads a word, a number, a vector or a text; `times` reads every time; `ids` has the one
rule for ids; `lookup` has indexes over a column; `plain` and `arrow_file` read values out of a file
that may be damaged or forged.
"""
