"""Sequences: each user's events in time order, as arrays for the network and the baselines.

Knows: the rows of a vocabulary, gaps, batches, counts of transitions.
Does not know: features, the network, or how a model is trained.

A log goes this way: `vocabulary` gives each item a row; `sequences.encode` puts the events user
after user; `type_weights` says how much each event counts as a target; `batches` cuts the sequences
into windows for training. `transition_counts` counts them for baselines and the blend, and
`windows` exports them to other libraries.
"""
