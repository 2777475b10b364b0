"""Training: from sequences to weights. The only part that needs JAX.

Knows: the loop over epochs (`trainer`), the time budget, checkpoints, validation, the cost of a
run, the blend with transition counts, the tables and the fallback of the rating head, where the
numbers of a run are written (`run_log`).
Does not know: files of events, catalogues, model files; `segue.train` brings these together.

The path through it: `Trainer.epochs` takes windows from `segue.data.sequences.batches`, gives them
to `update.update_many`, validates after each epoch and keeps the best averaged weights; then
`blend.tune_blend` tunes the transition counts, and `moving_biases.better_head` chooses the rating
head.
"""
