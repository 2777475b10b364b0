"""Training by several workers: each learns from its own users, and all share one network.

Knows: which worker gets which users and which rows of the item table (`parts`), one call of
updates with its exchange as a pure function of one worker (`call`), the arrays of all workers as
global arrays of JAX (`exchange`), a trainer of one worker (`worker`), validation over all workers
(`ranks`), files of a run (`files`), Ray (`cluster`).
Does not know: how a log is read, encoded or blended; `segue.train` does that, as for one process.

The path through it: `cluster.train_on` writes each worker's part and starts the workers with Ray
Train; each runs `worker.WorkerTrainer`, whose every call of updates is `call.learn`; at the end
`files.read_trained` puts the weights together.
"""
