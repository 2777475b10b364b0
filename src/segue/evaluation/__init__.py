"""What a model is worth: protocols, the baselines it must beat, and the report.

Knows: how queries are made from held-out events, how each is ranked as a server ranks, and what
baselines find.
Does not know: how a model is trained.

The path: `held_out` finds the rows that a model did not learn. `protocols.evaluate` makes a query
of each (`queries`), ranks it with the model and with every baseline (`registry`, `baselines/`), and
sums the ranks up in a `Report`. `compare/` does so for several models and hands their ranks to
`comparison_report/`, which finds what is noise and makes a page. `ratings` does the same for
predicted ratings, `cold_start` by how many events of a new user are shown. `stream` ranks the
held-out events one after the other, beside baselines that learn each event (`online/`).
"""
