"""The command line: one file for each group of verbs.

Knows: how a verb's arguments are read (`options`), and how its result is printed.
Does not know: any algorithm. Each verb calls functions that Python users call as well.

The path: `app` names the verbs and refuses old names. A verb of `training`, `recommend`, `models`,
`store`, `datasets`, `insight`, `serve` or `keys` reads its options, calls the function and prints.
`progress` draws a training run; `demo` is the tour on real films.
"""
