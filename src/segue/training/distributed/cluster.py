"""Ray: starts the workers with Ray Train, restarts them after a fault, keeps their checkpoints.

Ray Train places the workers, gathers their checkpoints (a checkpoint counts when all workers have
written their part), and starts all of them anew from the last checkpoint when one dies. JAX's own
collectives over gloo exchange the weights.
"""

import contextlib
import logging
import os
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from segue.config import Config
from segue.data.sequences.sequences import Sequences
from segue.data.values.plain import one_line
from segue.errors import ArgumentError, SegueError, TrainingError
from segue.files import remove
from segue.model.network import Network
from segue.ray_cluster import join, ray_for
from segue.training.budget import Budget
from segue.training.distributed.files import read_facts, read_sequences, whole_params, write_sequences
from segue.training.distributed.parts import balanced
from segue.training.trainer import Progress, Trained
from segue.training.update.negatives import cuts
from segue.training.update.update import without_tables
from segue.training.validation import Validation

if TYPE_CHECKING:
    from segue.training.distributed.worker import WorkerTrainer

#: Times that workers are started anew after a fault.
RESTARTS = 2
#: Bytes of Ray's store of objects on this machine; nothing large goes through the store.
OBJECTS = 100 << 20


class Workers(NamedTuple):
    """How many workers to start, and the cluster: "auto", an address, or None for this machine."""

    number: int
    address: str | None = None


@dataclass(frozen=True)
class Job:
    """What each worker needs to begin; the large arrays lie in files that all workers reach."""

    network: Network
    config: Config  # with the batch size of one worker
    folder: Path
    exclude_seen: bool | None  # of the validation; None without one
    ratings: bool
    attributes: bool
    seconds: float | None  # of training


def train_on(
    workers: Workers,
    network: Network,
    config: Config,
    learnt: Sequences,
    validation: Validation | None,
    rest: tuple[Any, Any, Budget],
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Train with several workers and return the weights of the best epoch.

    Each worker learns from its own users, with its share of the batch size, so that an epoch has
    about as many updates as in one process.

    Args:
        workers: how many and where.
        config: of the whole run, with no setting left to derive.
        rest: item attributes, rating tables and the budget, as for `Trainer`.
        folder: the checkpoint; on a cluster all nodes must reach it.
        resume: go on from the checkpoint.
        report: called with the progress.
        say: called with lines to show.

    Raises:
        ArgumentError: Ray is missing, the cluster does not answer or has too few cores.
        TrainingError: a worker failed more often than it is started anew, or memory ran out.
    """
    attributes, ratings, budget = rest
    if len(learnt) < workers.number:
        raise ArgumentError(
            f"--workers {workers.number}: expected a user for each worker at least, came {len(learnt):,} users. "
            "Give fewer workers."
        )
    if resume and not (folder / "run").is_dir():
        say(f"{folder}: no checkpoint of workers there.")
    if not resume:
        remove(folder)
    with connected(workers, say) as cores:
        parts = balanced(learnt.lengths, workers.number)
        job = Job(
            network,
            of_one_worker(config, workers.number),
            folder.absolute(),
            None if validation is None else validation.exclude_seen,
            bool(ratings),
            attributes is not None,
            None if budget.seconds is None else max(1.0, budget.for_training()),
        )
        _write_inputs(job, [learnt.select(part) for part in parts], validation, attributes, ratings)
        sums = [int(learnt.lengths[part].sum()) for part in parts]
        say(
            f"{workers.number} workers with {cores} core{'s' * (cores > 1)} each learn from "
            f"{min(sums):,} to {max(sums):,} events; updates of {job.config.train.batch_size} x "
            f"{config.train.bptt_steps} targets each."
        )
        kept = _fitted(job, workers.number, cores, report or (lambda at: None))
        with kept.as_directory() as finished:
            peaks = [read_facts(Path(finished), worker)["memory"] / (1 << 20) for worker in range(workers.number)]
            say(f"Largest memory of a worker: {max(peaks):.2f} GiB.")
            return _trained(Path(finished), job, workers.number, ratings)


def of_one_worker(config: Config, workers: int) -> Config:
    """Return the settings of one of N workers: 1 / N of the batch size, sqrt(N) times the learning rate.

    The gradient of a smaller batch is noisier, by sqrt(N), and AdamW divides its steps by the noise.

    Example:
        >>> from segue.config import configure
        >>> one = of_one_worker(configure({"train.batch_size": 128, "train.learning_rate": 0.004}), 4)
        >>> one.train.batch_size, one.train.learning_rate
        (32, 0.008)
    """
    train = config.train
    assert train.batch_size is not None and train.learning_rate is not None
    share, rate = -(-train.batch_size // workers), train.learning_rate * workers**0.5
    return replace(config, train=replace(train, batch_size=share, learning_rate=rate, minutes=None))


@contextlib.contextmanager
def connected(workers: Workers, say: Callable[[str], None]) -> Iterator[int]:
    """Join the cluster, or start Ray on this machine, and yield the cores of a worker; leave at the end.

    Raises:
        ArgumentError: Ray is missing, the cluster does not answer, or has fewer cores than workers.
    """
    ray = ray_for("--workers")
    own = not ray.is_initialized()
    if own:
        _start(ray, workers, say)
    try:
        nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        if sum(map(int, nodes)) < workers.number:
            raise ArgumentError(
                f"--workers {workers.number}: expected a cluster with a core for each, came {int(sum(nodes))} "
                f"core{'s' * (sum(nodes) != 1)}. Give fewer workers, or start more nodes."
            )
        yield cores_of_worker(nodes, workers.number)
    finally:
        if own:
            ray.shutdown()


def cores_of_worker(nodes: list[float], workers: int) -> int:
    """Return how many cores each worker can have, where a worker lies on one node.

    Example:
        >>> cores_of_worker([8, 8], 2), cores_of_worker([8, 8], 3), cores_of_worker([2], 2)
        (8, 4, 1)
    """
    return max((c for c in range(1, int(max(nodes)) + 1) if sum(n // c for n in nodes) >= workers), default=1)


def _start(ray: Any, workers: Workers, say: Callable[[str], None]) -> None:
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)  # Ray forks to begin another program
    os.environ.setdefault("RAY_worker_niceness", "0")  # workers run as one process would
    cores = len(os.sched_getaffinity(0))
    if workers.address is None and cores < workers.number:
        say(f"{workers.number} workers share {cores} core{'s' * (cores > 1)} of this machine: this saves no time.")
    join(ray, workers.address, num_cpus=max(workers.number, cores), object_store_memory=OBJECTS)


def _write_inputs(
    job: Job, parts: list[Sequences], validation: Validation | None, attributes: Any, ratings: Any
) -> None:
    """Write what the workers read."""
    inputs = job.folder / "inputs"
    remove(inputs)
    for worker, part in enumerate(parts):
        write_sequences(part, inputs / f"part-{worker}")
    if validation is not None:
        write_sequences(validation.sequences, inputs / "validation")
    if attributes is not None:
        np.save(inputs / "attributes.npy", np.asarray(attributes, np.float16))
    for name, table in ratings._asdict().items() if ratings else ():
        np.save(inputs / f"ratings-{name}.npy", table)


def _fitted(job: Job, workers: int, cores: int, report: Callable[[Progress], None]) -> Any:
    """Run Ray Train to its end and return its last checkpoint."""
    ray: Any = ray_for("--workers")
    train: Any = ray.train
    from ray.train.v2.jax import JaxTrainer
    from ray.util.queue import Queue

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    progress = Queue(actor_options={"num_cpus": 0})
    environment = {"JAX_PLATFORMS": "cpu", "NPROC": str(cores), "MALLOC_ARENA_MAX": "2"}
    trainer = JaxTrainer(
        run_worker,
        train_loop_config={"job": job, "progress": progress},
        scaling_config=train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": cores}),
        run_config=train.RunConfig(
            name="run",
            storage_path=str(job.folder),
            failure_config=train.FailureConfig(max_failures=RESTARTS),
            checkpoint_config=train.CheckpointConfig(num_to_keep=1),
            worker_runtime_env={"env_vars": environment},
        ),
    )
    reader = threading.Thread(target=_read_progress, args=(progress, report), daemon=True)
    reader.start()
    try:
        result = trainer.fit()
    except Exception as error:
        raise _explained(error, job, ray) from error
    finally:
        with contextlib.suppress(Exception):
            progress.put(None)
            reader.join(5.0)
            progress.shutdown()
    return result.checkpoint


def _read_progress(progress: Any, report: Callable[[Progress], None]) -> None:
    """Show what worker 0 reports, until None comes or the queue is gone."""
    with contextlib.suppress(Exception):
        while (values := progress.get()) is not None:
            report(Progress(**values))


def _explained(error: Exception, job: Job, ray: Any) -> Exception:
    """Return the error that a user gets: Segue's own, or what to do about a worker that died."""
    failures = getattr(error, "worker_failures", {})
    causes = [error, *failures.values()]
    for cause in causes:
        for deeper in (cause, getattr(cause, "cause", None), cause.__cause__):
            if isinstance(deeper, SegueError):
                return deeper
    if any(isinstance(cause, ray.exceptions.OutOfMemoryError) for cause in causes) or "OutOfMemory" in str(error):
        return TrainingError(
            f"a worker ran out of memory, {RESTARTS + 1} times. Give more workers or nodes with more memory, a smaller "
            f"model.width or train.batch_size; {job.folder} keeps the last checkpoint (--resume)."
        )
    worker, last = next(iter(failures.items()), ("?", error))
    return TrainingError(
        f"worker {worker} failed {RESTARTS + 1} times: {one_line(last)[-300:]}. {job.folder} keeps the last "
        "checkpoint: go on from it with --resume."
    )


def _trained(folder: Path, job: Job, workers: int, ratings: Any) -> Trained:
    """Return the result of a finished run."""
    facts = read_facts(folder, 0)
    like = without_tables(replace(job.network, items=1).init(0))
    owned = cuts(job.network.items, job.config.train)
    params = whole_params(folder, workers, job.network.items, like, owned=owned)
    if job.network.rating:
        params = params._replace(rating=params.rating._replace(tables=ratings))
    return Trained(params, tuple(Progress(**row) for row in facts["curve"]), facts["best"])


# What runs in a worker.


def run_worker(given: dict[str, Any]) -> None:
    """Train in a worker that Ray Train has started."""
    import jax
    from ray.train.collective import broadcast_from_rank_zero

    ray: Any = ray_for("--workers")
    joined: Any = jax.distributed
    context = ray.train.get_context()
    address = None
    if context.get_world_rank() == 0:
        with socket.socket() as free:
            free.bind(("", 0))
            address = f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"
    address = broadcast_from_rank_zero(address)
    joined.initialize(address, context.get_world_size(), context.get_world_rank())
    trainer = _worker_trainer(given["job"])
    for at in trainer.epochs():
        if trainer.exchange.worker == 0:
            given["progress"].put(vars(at))
    joined.shutdown()  # after a fault it would wait for workers that are gone


def _worker_trainer(job: Job) -> "WorkerTrainer":
    from segue.model.heads import RatingTables
    from segue.training.distributed.exchange import Exchange
    from segue.training.distributed.worker import WorkerTrainer
    from segue.training.jit_cache import keep_compiled

    keep_compiled()
    ray: Any = ray_for("--workers")
    exchange, inputs = Exchange.of_processes(), job.folder / "inputs"
    validation = None
    if job.exclude_seen is not None:
        validation = Validation(read_sequences(inputs / "validation"), job.exclude_seen)

    def read(name: str) -> Any:
        return np.load(inputs / f"{name}.npy", mmap_mode="r")

    def report_checkpoint(write: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder))

    trainer = WorkerTrainer(
        job.network,
        job.config,
        read_sequences(inputs / f"part-{exchange.worker}"),
        validation,
        attributes=read("attributes") if job.attributes else None,
        ratings=RatingTables(*(read(f"ratings-{name}") for name in RatingTables._fields)) if job.ratings else (),
        budget=Budget(job.seconds),
        exchange=exchange,
        report_checkpoint=report_checkpoint,
    )
    if (kept := ray.train.get_checkpoint()) is not None:
        with kept.as_directory() as folder:
            trainer.resume_from(Path(folder))
    return trainer
