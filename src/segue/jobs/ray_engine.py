"""The engine of a Ray cluster: tasks of Ray Data, and its hash shuffle between them."""

import inspect
import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from segue.data.values.plain import one_line
from segue.errors import ArgumentError, DataError, SegueError
from segue.jobs.engines import Engine, LocalEngine, Reduce, Split
from segue.ray_cluster import join, ray_for

_Task = TypeVar("_Task")
#: Parts in a block of Ray.
_PARTS = 64
#: Tasks of `map` for each core: the work is made once in each.
_CHUNKS = 4


#: Times that a task whose worker died is tried again; Ray Data itself would try for ever.
_RETRIES = {"max_retries": 2}


class RayEngine:
    """Runs tasks on the Ray that the program has joined, on the cluster at an address, or on this machine's cores.

    Every node reads the files of a log and writes the folder, so both lie where all nodes reach them.

    Args:
        address: HOST:PORT of a cluster, or auto for the one that this machine is a node of; None
            starts Ray on this machine.

    Raises:
        ArgumentError: Ray is not installed, or the cluster does not answer or has no cores.
    """

    def __init__(self, address: str | None = None) -> None:
        ray: Any = ray_for("--engine ray")
        self.ray, self.data = ray, ray.data
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised, without Ray's stack
        if not ray.is_initialized():
            join(ray, address, num_cpus=len(os.sched_getaffinity(0)))
        self.cores = int(ray.cluster_resources().get("CPU", 0))
        if self.cores < 1:
            raise ArgumentError(
                "--engine ray: expected a cluster with cores, found none. Start a node: ray start --num-cpus 4."
            )

    def map(self, work: Callable[[], Callable[[int], bytes]], numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield each number with the result of its work as it is done; `work` is made once in each task."""
        chunks = [numbers[start :: _CHUNKS * self.cores] for start in range(_CHUNKS * self.cores)]
        tasks = self._of([{"numbers": pickle.dumps(chunk)} for chunk in chunks if chunk])
        if numbers:
            for row in self._rows(_with(tasks.map_batches, _mapped, work, batch_size=1)):
                yield row["number"], row["result"]

    def map_reduce(self, split: Split[_Task], tasks: Sequence[_Task], reduce: Reduce, keys: int) -> Iterator[bytes]:
        """Split each task, shuffle the parts by key, and yield the result of each key as it is done."""
        pickled = self._of([{"task": pickle.dumps(task)} for task in tasks])
        parts = _with(pickled.map_batches, _split, split, batch_size=1)
        done = _with(parts.groupby("key", num_partitions=keys).map_groups, _reduced, reduce)
        return (row["result"] for row in self._rows(done))

    def _of(self, rows: list[dict[str, Any]]) -> Any:
        made = self.data.from_items(rows, override_num_blocks=max(1, len(rows)))
        made.context.enable_progress_bars = False
        return made

    def _rows(self, made: Any) -> Iterator[dict[str, Any]]:
        with _explained(self.ray.exceptions):
            yield from made.iter_rows()


def engine_of(name: str | None, address: str | None = None) -> Engine:
    """Return the engine of `--engine`: None is this process, "ray" a Ray cluster.

    Args:
        name: of the engine.
        address: of the cluster; None starts Ray on this machine.

    Raises:
        ArgumentError: there is no such engine, Ray is not installed, or the cluster does not
            answer or has no cores.
    """
    if address is not None and name is None:
        raise ArgumentError("--address: expected --engine ray with the address of its cluster. Give both.")
    if name is None:
        return LocalEngine()
    if name != "ray":
        raise ArgumentError(f'--engine: expected ray, came "{name}". Leave it out to work on this machine alone.')
    return RayEngine(address)


def _with(apply: Callable[..., Any], function: Callable[..., Any], argument: object, **how: Any) -> Any:
    """Return what a method of Ray Data makes of a function of tables and an argument, with few retries."""
    known = inspect.signature(apply).parameters
    if "max_retries" in known:
        how |= _RETRIES
    elif "ray_remote_args_fn" in known:  # deprecated, and up to now the only way
        how["ray_remote_args_fn"] = _RETRIES.copy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return apply(function, fn_args=(argument,), batch_format="pyarrow", **how)


def _mapped(batch: Any, work: Callable[[], Callable[[int], bytes]]) -> Iterator[Any]:
    run = work()
    for number in pickle.loads(batch["numbers"][0].as_py()):
        yield _table(number=[number], result=[run(number)])


def _split(batch: Any, split: Split[Any]) -> Iterator[Any]:
    all_parts = iter(split(pickle.loads(batch["task"][0].as_py())))
    while parts := list(islice(all_parts, _PARTS)):
        keys, pieces = zip(*parts, strict=True)
        yield _table(key=keys, part=pieces)


def _reduced(group: Any, reduce: Reduce) -> Any:
    return _table(result=[reduce(group["key"][0].as_py(), group["part"].to_pylist())])


def _table(**columns: Sequence[Any]) -> Any:
    import pyarrow as pa

    kinds = {"key": pa.int64(), "number": pa.int64()}
    return pa.table({name: pa.array(values, kinds.get(name, pa.large_binary())) for name, values in columns.items()})


@contextmanager
def _explained(faults: Any) -> Iterator[None]:
    """Raise Segue's own errors as they were raised in a worker, and say what a dead worker means."""
    try:
        yield
    except (faults.RayError, RuntimeError) as error:
        known: BaseException | None = error
        while known is not None and not isinstance(known, SegueError):
            known = known.__cause__ or getattr(known, "cause", None)
        if known is not None:
            raise known from None
        raise DataError(
            f"--engine ray: expected every worker to end its work, one did not: {one_line(error).rstrip('.')[-300:]}. "
            "A worker without memory is killed: give more --buckets of a new folder, or nodes with more memory."
        ) from error
