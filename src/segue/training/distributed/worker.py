"""The trainer of one worker: a `Trainer` whose calls of updates are exchanged with other workers.

All workers run the same loop. What decides how the loop goes on (the share of a time budget that is
spent, when a checkpoint is due) is agreed in each call, so that no worker waits for another.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any, cast

import jax
import numpy as np
from jax import Array

from segue.data.sequences.batches import Batch, windows_per_epoch
from segue.model.network import NetworkParams
from segue.shapes import Rows
from segue.training.distributed import ranks
from segue.training.distributed.call import WorkerCall
from segue.training.distributed.exchange import Exchange, heard_by
from segue.training.distributed.files import load_arrays, load_facts, save_worker
from segue.training.distributed.parts import room, route, rows_of
from segue.training.trainer import CHECKPOINT_SECONDS, UPDATES_PER_CALL, Trainer
from segue.training.update.negatives import Sampled, Sampler, cuts
from segue.training.update.update import ItemData, Run, Update
from segue.training.validation import Answers

#: Rows drawn for a call, from which each update takes its negatives, as a multiple of these.
DRAWN = 2


@dataclass
class WorkerTrainer(Trainer):
    """One worker's part of a run.

    Args:
        sequences: of this worker's users.
        config: with the batch size of one worker.
        attributes: [V, m]; may be memory-mapped.
        exchange: this worker among the others.
        report_checkpoint: called with a function that writes this worker's files into a folder.
    """

    exchange: Any = None
    report_checkpoint: Callable[[Callable[[Path], None]], None] | None = None

    def __post_init__(self) -> None:
        exchange: Exchange = self.exchange
        train, own = self.config.train, self.sequences.items
        assert train.batch_size is not None
        self.owned = cuts(self.network.items, train)
        counts = np.bincount(own, minlength=self.network.items).astype(np.int32)
        self.counts = exchange.sum(counts) if train.negatives else counts
        updates = np.zeros(exchange.workers, np.int32)
        updates[exchange.worker] = windows_per_epoch(len(own), train.batch_size, train.bptt_steps)
        self.agreed, self.kept_at = 0.0, 0.0
        self.heard: Any = None  # what all workers heard in the latest call
        self.best_folder = Path(tempfile.mkdtemp(prefix="segue-best-"))
        weakref.finalize(self, shutil.rmtree, self.best_folder, ignore_errors=True)
        super().__post_init__()
        self.batches = replace(self.batches, least=int(exchange.sum(updates).max()))
        self.total = (train.epochs or 1) * self.batches.updates
        self.targets = float(exchange.sum(np.array([self.targets], np.float32))[0])
        self.positions *= exchange.workers
        self.kept_at = self.budget.clock()

    # What a call needs.

    def _begun(self) -> Run:
        run: Run = self.exchange.begin(self.network, self.config, owned=self.owned)
        return run

    def _item_data(self) -> ItemData:
        return ItemData(self.attributes, self.ratings)

    def _sampler(self) -> Sampler:
        return Sampler.of(
            self.counts.astype(np.int64), self.network.items, self.config.train.negatives or 0, cuts=self.owned
        )

    def _sampled(self, batch: Batch, step: int) -> Sampled:
        """Return the window with candidates; those of a call come from one draw, so that fewer rows travel."""
        assert self.sampler is not None
        seed, worker, count = self.config.train.seed, self.exchange.worker, self.sampler.count
        if not self.owned:
            return self.sampler.sample(batch, self.sampler.draw((seed, step, worker), count))
        drawn = self._drawn(step - (step % self.batches.updates) % UPDATES_PER_CALL)
        chosen = np.random.default_rng((seed, step, worker)).permutation(len(drawn))[:count]
        return self.sampler.sample(batch, drawn[chosen])

    def _drawn(self, first_step: int) -> Rows:
        assert self.sampler is not None
        return self.sampler.draw((self.config.train.seed, first_step, self.exchange.worker), DRAWN * self.sampler.count)

    def _update(self, batch: Batch, targets: Any, step: int, share: float) -> Update:
        new = super()._update(batch, targets, step, share)
        return new._replace(seed=np.uint32((int(new.seed) + self.exchange.worker * 0xC2B2AE3D) & 0xFFFFFFFF))

    def _how_many(self) -> int:
        return UPDATES_PER_CALL

    @cached_property
    def _room(self) -> int:
        train = self.config.train
        assert train.batch_size is not None and train.negatives is not None
        cells = train.batch_size * train.bptt_steps
        return room(UPDATES_PER_CALL, cells, train.batch_size, DRAWN * train.negatives, self.exchange.workers)

    def _packed(self, many: list[Update]) -> WorkerCall:
        windows = [new.window.batch if isinstance(new.window, Sampled) else new.window for new in many]
        summed = np.array([sum(float(window.weights.sum()) for window in windows)], np.float32)
        rows, items = None, self.items
        if self.owned:
            size = self.network.items
            way = route([new.window.rows for new in many], size, self.exchange.workers, self._room)
            placed = zip(many, way.places, strict=True)
            many = [new._replace(window=new.window._replace(rows=places)) for new, places in placed]
            rows, items = way.rows, jax.tree.map(lambda table: rows_of(table, way, size), self.items)
        return WorkerCall(super()._packed(many), rows, items, np.zeros(2, np.float32), summed)

    # What all workers agree on.

    def _learn(self, many: WorkerCall, count: int) -> Array:
        due = self.exchange.worker == 0 and self.budget.clock() - self.kept_at > CHECKPOINT_SECONDS
        many = many._replace(largest=np.array([super().progress_share(), due], np.float32))
        self.run, self.heard = self.exchange.learn(self.network, self.config, self.run, many, count)
        losses: Array = self.heard.losses.addressable_shards[0].data
        return losses

    def _in_all(self, targets: float) -> float:
        heard = heard_by(self.heard)
        self.agreed = float(heard.largest[0])
        return float(heard.summed[0])

    def progress_share(self) -> float:
        """Return the share of the run that is done, the same in all workers."""
        return super().progress_share() if self.budget.seconds is None else self.agreed

    def _checkpoint_due(self, seconds: float) -> bool:
        return self.report_checkpoint is not None and bool(heard_by(self.heard).largest[1] > 0)

    # What is kept.

    def keep(self) -> None:
        """Write this worker's part of the checkpoint."""
        if self.report_checkpoint is not None:
            self.report_checkpoint(self.write)
            self.kept_at = self.budget.clock()

    def _copied(self, average: NetworkParams) -> NetworkParams:
        nothing = cast(NetworkParams, ())
        if self.heard is None:
            return nothing
        if not self.owned:
            return average  # `averaged` makes new arrays
        number = self.exchange.worker  # on disk: memory has no room for one more large table
        save_worker(self.best_folder, number, average, {})
        best: NetworkParams = load_arrays(self.best_folder, number, average, mapped=True)
        return best

    def write(self, folder: Path) -> None:
        """Write this worker's files: the best weights first, then the run."""
        facts = self.at._asdict() | self._facts() | {"memory": getrusage(RUSAGE_SELF).ru_maxrss}
        save_worker(folder, self.exchange.worker, (self.best_params, self.exchange.own(self.run)), facts)

    def _facts(self) -> dict[str, Any]:
        return {"identity": self.identity, "workers": self.exchange.workers, "owned": self.owned}

    def resume_from(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainingError: the checkpoint is damaged or of another run.
        """
        shape_of: Any = jax.ShapeDtypeStruct
        like = jax.tree.map(lambda leaf: shape_of(leaf.shape[1:], leaf.dtype), self.run)
        number, nothing = self.exchange.worker, cast(Any, ())
        self.run = nothing  # frees its memory first
        facts = load_facts(folder, number, self._facts())
        best = like.learnt.average if facts.get("curve") else ()
        self.best_params = load_arrays(folder, number, best) if best else nothing
        self.run = load_arrays(folder, number, like, skip=len(jax.tree.leaves(best)), place=self.exchange.spread)
        self.at = self._interrupted({name: facts[name] for name in self.at._fields if name in facts})
        self.budget.earlier = self.at.seconds

    def averaged(self) -> NetworkParams:
        """Return the averaged weights over all workers; of an owned table the owned rows."""
        average: NetworkParams = self.exchange.averaged(self.run)
        return average

    def _validated(self) -> tuple[NetworkParams, dict[str, float], Answers | None]:
        average = self.averaged()
        if self.validation is None:
            return average, {}, None
        with self.budget.measured("validation"):
            metrics = ranks.measure(
                self.validation, self.network, self._whole(average), self.exchange, owned=self.owned
            )
        return average, metrics, None

    def _whole(self, params: NetworkParams) -> NetworkParams:
        """Return weights with attributes added to the vectors, and with the rating tables of all items."""
        if self.owned and self.attributes is not None:
            own = self.attributes[self.exchange.worker :: self.exchange.workers]
            params = self.network.with_attributes(params, np.asarray(own, np.float32))
        elif self.attributes is not None:
            params = self.network.with_attributes(params, np.asarray(self.attributes, np.float32))
        return params._replace(rating=params.rating._replace(tables=self.ratings)) if self.network.rating else params
