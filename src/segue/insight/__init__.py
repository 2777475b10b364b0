"""Insights into the method: what gradients, gates and the memory do, as numbers and as figures.

Knows: cells, trained networks, real and drawn histories.
Does not know: the command line. The only part beside training that differentiates, and so needs
JAX; figures need matplotlib.

The path: `report` yields one `Insight` after another from `gradients`, `clipping`, `recall`,
`reach` and `gates`, draws each with `figures`, and writes a page.
"""
