"""The network, as pure functions that run under NumPy and JAX.

Knows: cells, blocks around them, the item table, the clock, the rating head, the blend with
transition counts.
Does not know: ids as text, files, losses, optimisers.

The path through it: `network` embeds events, `blocks` runs each block with a cell of `cells`,
`network.query` gives the query vector, `network.scores` the score of every item, and `transitions`
blends these with transition counts. `heads` predicts ratings from the same output. `backend` holds
what differs between NumPy and JAX.
"""
