"""State in, list out: a trained model answers, for one user or many, on NumPy alone.

The path: callers hold a `Recommender` (recommender). It is a `Scorer` (scorer: scores and best items) over a `Model`
(segue.model.model: what a file holds). `observe` moves a `State` (state) by one step of the network; `batch` does so
for many users or long histories, with the constants of `fused_inference`. `recommend` scores all items, or those that
an `index` finds, leaves out seen items and takes the best. `plan` repeats both. `ratings`, `similar`, `new_items` and
`changed_items` answer the other questions.
Does not know: training, stores, HTTP.
"""
