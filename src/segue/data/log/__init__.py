"""The event log: what users did, read from a file or table, checked, and split.

Knows: users, items, times, ratings and event types of a log; splits; known data sets.
Does not know: rows of a vocabulary, sequences, networks.

A log goes this way: `sources` opens a file (`text_format` detects its encoding and separator);
`columns` chooses the column of each role; `event_table` reads, checks and sorts the rows; the
result is `events.Events`, which all of Segue takes. `findings` counts what a log holds;
`rating_columns` and `rating_scale` say what its ratings can be; `split` holds a part out.
`datasets` fetches known logs; `synthetic` makes logs whose best score is known, and large logs.
"""
