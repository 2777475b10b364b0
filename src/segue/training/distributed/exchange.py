"""The arrays of all workers as global arrays of JAX: one process a worker, joined by `jax.distributed`."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segue.config import Config
from segue.model.network import Network, NetworkParams
from segue.training.distributed import call as calls
from segue.training.distributed.call import AXIS, Heard, WorkerCall, stacked, unstacked
from segue.training.update.update import Run, begin_with, without_tables

_jax: Any = jax
_parts: Any = PartitionSpec
_EACH, _ALL = _parts(AXIS), _parts()


@dataclass(frozen=True)
class Exchange:
    """One worker among all workers.

    Args:
        mesh: one device for each worker.
        worker: its number, from 0.
    """

    mesh: Mesh
    worker: int

    @classmethod
    def of_processes(cls) -> "Exchange":
        """Return the exchange of the processes that `jax.distributed.initialize` has joined."""
        return cls(jax.make_mesh((jax.process_count(),), (AXIS,)), jax.process_index())

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return int(self.mesh.devices.size)

    def spread(self, tree: Any) -> Any:
        """Return global arrays of which each worker gives its part."""
        sharding, placed = NamedSharding(self.mesh, _EACH), _jax.make_array_from_process_local_data
        return jax.tree.map(lambda leaf: placed(sharding, np.asarray(leaf)[None]), tree)

    def own(self, tree: Any) -> Any:
        """Return this worker's part of global arrays, as NumPy arrays that share their memory.

        While they are held, an update needs new memory for the global arrays.
        """
        return jax.tree.map(lambda leaf: np.from_dlpack(leaf.addressable_shards[0].data)[0], tree)

    def begin(self, network: Network, config: Config, *, owned: bool) -> Run:
        """Return a run that has learnt nothing yet; an owned item table holds the rows of this worker alone."""
        first, step = (self.worker, self.workers) if owned else (0, 1)
        params = self.spread(without_tables(network.init(config.train.seed, first, step)))
        run: Run = _begin(self.mesh, network, config, params)
        return run

    def learn(self, network: Network, config: Config, run: Run, call: WorkerCall, count: int) -> Any:
        """Return the run after a call (see `call.learn`) and what all workers heard."""
        spread, updates = self.spread(call), np.int32(count)
        if call.rows is None:
            return _learn(self.mesh, network, config, run, spread, updates)
        local, asked, heard = _learn_rows(self.mesh, network, config, run, spread, updates)
        return _put(self.mesh, calls.own_tables(run), local, asked), heard

    def averaged(self, run: Run) -> NetworkParams:
        """Return this worker's averaged weights, of an owned table the owned rows (see `call.averaged`)."""
        average: NetworkParams = self.own(_averaged(self.mesh, run))
        return average

    def rows_for_all(self, params: NetworkParams, rows: Any) -> tuple[Any, Any]:
        """Return rows of the item table and bias; all workers ask for the same rows."""
        both: tuple[Any, Any] = self.own(_rows(self.mesh, self.spread(params), rows))
        return both

    def sum(self, values: Any) -> Any:
        """Return the sum over all workers of an array of one shape."""
        return np.asarray(_sum(self.mesh, self.spread(np.asarray(values))).addressable_shards[0].data)


def heard_by(heard: Heard) -> Heard:
    """Return what this worker heard, as NumPy arrays; waits for the call."""
    known: Heard = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data), heard)
    return known


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3,))
def _learn(mesh: Mesh, network: Network, config: Config, run: Any, call: Any, count: Any) -> Any:
    def of_worker(run: Any, call: Any, count: Array) -> tuple[Any, Heard]:
        run, heard = calls.learn(network, config, unstacked(run), unstacked(call), count)
        return stacked(run), heard

    parts = (_EACH, _EACH, _ALL)
    sharded: Any = jax.shard_map(of_worker, mesh=mesh, in_specs=parts, out_specs=(_EACH, _ALL), check_vma=False)
    return sharded(run, call, count)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _learn_rows(mesh: Mesh, network: Network, config: Config, run: Any, call: Any, count: Any) -> Any:
    def of_worker(run: Any, call: Any, count: Array) -> tuple[Any, Any, Heard]:
        local, asked, heard = calls.learn_rows(network, config, unstacked(run), unstacked(call), count)
        return stacked(local), stacked(asked), heard

    parts, out = (_EACH, _EACH, _ALL), (_EACH, _EACH, _ALL)
    sharded: Any = jax.shard_map(of_worker, mesh=mesh, in_specs=parts, out_specs=out, check_vma=False)
    return sharded(run, call, count)


@partial(jax.jit, static_argnums=0, donate_argnums=(1,))
def _put(mesh: Mesh, own: Any, local: Any, rows: Any) -> Any:
    def of_worker(own: Any, local: Any, rows: Any) -> Any:
        return stacked(calls.put_means(unstacked(own), unstacked(local), unstacked(rows)))

    sharded: Any = jax.shard_map(of_worker, mesh=mesh, in_specs=(_EACH,) * 3, out_specs=_EACH, check_vma=False)
    return sharded(own, local, rows)


def _of_workers(mesh: Mesh, function: Any, *inputs: Any, out: Any) -> Any:
    def of_worker(first: Any, *others: Any) -> Any:
        return function(unstacked(first), *others)

    parts = (_EACH, *[_ALL] * (len(inputs) - 1))
    return jax.shard_map(of_worker, mesh=mesh, in_specs=parts, out_specs=out, check_vma=False)(*inputs)


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3,))
def _begin(mesh: Mesh, network: Network, config: Config, params: Any) -> Any:
    return _of_workers(mesh, lambda params: stacked(begin_with(network, config, params)), params, out=_EACH)


@partial(jax.jit, static_argnums=0)
def _averaged(mesh: Mesh, run: Any) -> Any:
    return _of_workers(mesh, lambda run: stacked(calls.averaged(run)), run, out=_EACH)


@partial(jax.jit, static_argnums=0)
def _rows(mesh: Mesh, params: Any, rows: Any) -> Any:
    return _of_workers(mesh, lambda params, rows: stacked(calls.rows_for_all(params, rows)), params, rows, out=_EACH)


@partial(jax.jit, static_argnums=0)
def _sum(mesh: Mesh, values: Any) -> Any:
    return _of_workers(mesh, lambda values: _jax.lax.psum(values, AXIS), values, out=_ALL)
