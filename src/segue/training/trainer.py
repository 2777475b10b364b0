"""The training run: windows in, averaged weights out.

    for epoch in epochs:
        for batch in windows of the epoch:
            loss, gradient = cross-entropy of the next item at every position
            params = AdamW(params, clipped gradient);  average = running average of params
            memory = memory after the window
        score the validation targets with `average`; keep the best

This is truncated backpropagation through time (BPTT): a gradient ends where its window begins.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import TypeAdapter

from segue.config import Config
from segue.data.sequences.batches import Batch, Batches
from segue.data.sequences.sequences import Sequences
from segue.data.values.plain import one_line
from segue.errors import TrainingError
from segue.model.network import Network, NetworkParams
from segue.shapes import Times
from segue.training.budget import FORWARD, LEAST, VALIDATION, Budget
from segue.training.checkpoint import load_checkpoint, save_checkpoint
from segue.training.update.negatives import Sampled, Sampler, cuts
from segue.training.update.optimiser import learning_rate
from segue.training.update.seen_mask import Histories
from segue.training.update.update import ItemData, Run, Update, add_attributes, begin, settled, update_many
from segue.training.validation import Answers, Validation

#: Updates in one call of the device: touching the fresh memory of a call costs a third of an update.
UPDATES_PER_CALL = 16
#: Seconds between two checkpoints within an epoch.
CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Args:
        epoch: from 0.
        done: updates so far, over all epochs.
        total: updates in all, as far as is known.
        loss: mean cross-entropy in nats: of the latest updates, and at the end of an epoch of all
            its updates.
        events_per_second: targets learnt per second of training, without validation.
        seconds: of training so far.
        validation: metrics after the latest epoch, such as `{"ndcg@10": .18}`.
        epoch_ended: this report closes an epoch.
    """

    epoch: int
    done: int
    total: int
    loss: float
    events_per_second: float
    seconds: float
    validation: dict[str, float]
    epoch_ended: bool = False


@dataclass(frozen=True)
class Trained:
    """The result of a run: averaged weights, a report for each epoch, the best epoch from 0."""

    params: NetworkParams
    curve: tuple[Progress, ...]
    best: int


class Interrupted(NamedTuple):
    """The facts in a checkpoint: the next update, the curve so far, the sums of this epoch."""

    epoch: int
    window: int
    seconds: float
    curve: list[dict[str, Any]]
    best: int
    losses: float = 0.0
    targets: float = 0.0


@dataclass
class Trainer:
    """One run over one set of sequences; `epochs` advances the run and reports.

    Args:
        network: static settings.
        config: with no setting left to derive.
        sequences: what to learn.
        validation: targets to score after each epoch; with None only epochs and time end the run.
        checkpoint: the file of the run; None writes none.
        attributes: [V, m], item attributes, kept as float16; None for ids alone.
        ratings: the rating tables of the items, where the network has a rating head.
        budget: of the whole run, begun already; None gives `train.minutes` to the training alone.
    """

    network: Network
    config: Config
    sequences: Sequences
    validation: Validation | None = None
    checkpoint: Path | None = None
    attributes: Any = None
    ratings: Any = ()
    budget: Any = None

    def __post_init__(self) -> None:
        train = self.config.train
        self.items = self._item_data()
        assert train.batch_size is not None and train.epochs is not None
        self.batches = Batches(
            self.sequences, train.batch_size, train.bptt_steps, train.seed, self.network.rating is not None
        )
        self.targets = float(np.count_nonzero(self.sequences.items))
        self.positions = self.batches.lanes * train.bptt_steps  # of an update
        self.sampler = self._sampler() if train.negatives else None
        self.histories = Histories(self.sequences, self.network.items) if train.hides_seen else None
        self.run = self._begun()
        self.best_params = self._copied(self.run.learnt.average)
        self.at = Interrupted(0, 0, 0.0, [], 0)
        self.loss = float("nan")
        self.budget: Budget = self.budget or Budget(60.0 * train.minutes if train.minutes else None)
        self.pace, self.rate, self.under_way, self.compiled = 0.0, 0.0, 0, False
        self.best_answers: Answers | None = None
        if self.validation and self.budget.seconds is not None:
            self.budget.validation = VALIDATION * self.budget.seconds
        self.total = train.epochs * self.batches.updates

    def _item_data(self) -> ItemData:
        attributes = None if self.attributes is None else jnp.asarray(self.attributes, jnp.float16)
        return ItemData(attributes, jax.tree.map(jnp.asarray, self.ratings))

    def _sampler(self) -> Sampler:
        train = self.config.train
        cut = cuts(self.network.items, train)
        return Sampler.of(np.bincount(self.sequences.items), self.network.items, train.negatives or 0, cuts=cut)

    def _begun(self) -> Run:
        return begin(self.network, self.config)

    @cached_property
    def identity(self) -> str:
        """The settings, without the length of the run, and the log, which a checkpoint shares."""
        train = replace(self.config.train, epochs=None, minutes=None, patience=1)
        offsets: Any = self.sequences.offsets  # read as bytes
        items: Any = self.sequences.items
        log = zlib.crc32(items, zlib.crc32(offsets))
        cell = f" {self.network.cell}" if self.config.model.cell == "keras" else ""
        return f"{replace(self.config, train=train)}{cell} {log:08x}"

    def resume(self) -> bool:
        """Continue from the checkpoint, if there is one; return whether there was."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return False
        tree, facts = load_checkpoint(self.checkpoint, (self.run, self.best_params), self.identity)
        self.run, self.best_params = jax.tree.map(jnp.asarray, tree)
        self.at = self._interrupted(facts)
        self.budget.earlier = self.at.seconds
        return True

    def _interrupted(self, facts: dict[str, Any]) -> Interrupted:
        """Return where a checkpoint stands, checked against this log."""
        try:
            at = TypeAdapter(Interrupted).validate_python(facts)
            curve = [Progress(**row) for row in at.curve]
        except (TypeError, ValueError) as error:
            raise TrainingError(
                f"{self.checkpoint}: damaged ({one_line(error)}). Remove the file to begin anew."
            ) from None
        stands = at.epoch == len(curve) and 0 <= at.best < max(len(curve), 1) and 0 <= at.window <= self.batches.updates
        if not (stands and 0 <= at.seconds < np.inf):
            raise TrainingError(f"{self.checkpoint}: damaged, such a run cannot exist. Remove the file to begin anew.")
        return at

    def keep(self) -> None:
        """Write the checkpoint."""
        if self.checkpoint is not None:
            save_checkpoint(self.checkpoint, (self.run, self.best_params), self.identity, self.at._asdict())

    def progress_share(self) -> float:
        """Return the share of the run that is done, by updates or by the time budget."""
        done = self.at.epoch * self.batches.updates + self.at.window
        share, left = done / self.total, self.budget.for_training() - self.pace / 2
        if done and left < float("inf"):
            share = max(share, self.at.seconds / (self.at.seconds + left) if left > 0 else 1.0)
        return share

    def finished(self) -> bool:
        """Say whether epochs, time or patience have run out."""
        scores = [row["validation"].get("ndcg@10", n) for n, row in enumerate(self.at.curve)]
        waited = len(scores) - 1 - scores.index(max(scores)) if scores else 0
        return self.progress_share() >= 1.0 or (self.validation is not None and waited >= self.config.train.patience)

    def epochs(self) -> Iterator[Progress]:
        """Train to the end, yielding a report every few updates and after each epoch.

        Raises:
            TrainingError: the loss is not a number; the checkpoint before it is kept and named.
        """
        while not self.finished() or self.at.window:  # a resumed epoch is closed, too
            yield from self._one_epoch()
            yield self._close_epoch()
            self.keep()

    def averaged(self) -> NetworkParams:
        """Return the averaged weights as they are now; the next update takes their memory."""
        if self.run.touched is not None:
            self.run = settled(self.run)
        return self.run.learnt.average

    def _copied(self, average: NetworkParams) -> NetworkParams:
        """Return averaged weights that no update changes."""
        copy: NetworkParams = jax.tree.map(jnp.copy, average)
        return copy

    def _one_epoch(self) -> Iterator[Progress]:
        clock = self.budget.clock
        kept = latest = clock()
        coming = self._updates()
        ready = next(coming, None)
        while ready is not None:
            many, count, targets = ready
            losses = self._learn(many, count)
            self.at, self.under_way = self.at._replace(window=self.at.window + count), count
            ready = next(coming, None)  # prepared while the device works
            self.loss, targets = self._checked(losses[:count]), self._in_all(targets)
            summed = self.at.losses + count * self.loss, self.at.targets + targets
            self.at = self.at._replace(losses=summed[0], targets=summed[1])
            took = clock() - latest
            self.at = self.at._replace(seconds=self.at.seconds + took)
            self._note_pace(took, count, targets)
            yield self._report(self.loss, targets / max(took, 1e-9))
            latest = clock()
            if self._checkpoint_due(latest - kept):
                self.keep()
                kept = latest = clock()
            if self.progress_share() >= 1.0:
                return

    def _learn(self, many: Any, count: int) -> Array:
        """Learn from the first `count` windows of many, and return their losses."""
        losses: Array
        self.run, losses = update_many(self.network, self.config, self.run, many, np.int32(count), self.items)
        return losses

    def _in_all(self, targets: float) -> float:
        """Return the targets of a call."""
        return targets

    def _checkpoint_due(self, seconds: float) -> bool:
        return self.checkpoint is not None and seconds > CHECKPOINT_SECONDS

    def _note_pace(self, took: float, count: int, targets: float) -> None:
        """Note how long some updates took; the first call of a run compiles."""
        self.budget.add("updates" if self.compiled else "compiling", took)
        if self.compiled:
            self.pace, self.rate = took / count, targets / max(took, 1e-9)
        self.compiled = True
        if self.rate and self.validation and self.budget.seconds is not None and "validation" not in self.budget.parts:
            estimate = len(self.validation.sequences.items) / (FORWARD * self.rate)
            self.budget.validation = min(estimate, VALIDATION * self.budget.seconds)

    def _how_many(self) -> int:
        """Return how many updates go into the next call: those for which there is time."""
        left = self.budget.for_training()
        if left == float("inf"):
            return UPDATES_PER_CALL
        fit = left / self.pace - self.under_way if self.pace else 1
        return int(np.clip(fit, 1, UPDATES_PER_CALL))

    def _updates(self) -> Iterator[tuple[Update, int, float]]:
        """Yield the rest of an epoch by `UPDATES_PER_CALL` windows, with number and targets."""
        windows = self.batches.placed_windows(self.at.epoch, begin=self.at.window)
        step = self.at.epoch * self.batches.updates + self.at.window
        while batches := list(islice(windows, self._how_many())):
            steps = step + np.arange(len(batches))
            share = self.progress_share() + np.arange(len(batches)) / self.total
            many = [
                self._update(batch, places[0], int(at), float(part))
                for (batch, places), at, part in zip(batches, steps, share, strict=True)
            ]
            targets = sum(float(batch.weights.sum()) for batch, _ in batches)
            yield self._packed(many), len(many), targets
            step += len(many)

    def _packed(self, many: list[Update]) -> Any:
        """Return updates as one argument of `_learn`, filled up to one shape, compiled once."""
        return jax.tree.map(lambda *rows: np.stack(rows), *many, *many[:1] * (UPDATES_PER_CALL - len(many)))

    def _update(self, batch: Batch, targets: Times, step: int, share: float) -> Update:
        """Return the inputs of update `step`; `targets` are the places of its first targets."""
        train, sampled = self.config.train, self._sampled(batch, step) if self.sampler else None
        return Update(
            window=sampled or batch,
            seed=np.uint32((train.seed * 0x9E3779B1 + step * 0x85EBCA77 + 1) & 0xFFFFFFFF),
            rate=np.float32(learning_rate(train, share)),
            before=self.histories and self.histories.before(targets, sampled and sampled.drawn),
        )

    def _sampled(self, batch: Batch, step: int) -> Sampled:
        assert self.sampler is not None
        return self.sampler.sample(batch, self.sampler.draw((self.config.train.seed, step), self.sampler.count))

    def _checked(self, losses: Array) -> float:
        mean = float(np.mean(np.asarray(losses)))
        if not np.isfinite(mean):
            kept = self.checkpoint if self.checkpoint and self.checkpoint.exists() else None
            raise TrainingError(
                f"epoch {self.at.epoch + 1}, update {self.at.window}: expected a finite loss, came {mean}. "
                + (f"The last good checkpoint is {kept}. " if kept else "No checkpoint was kept. ")
                + "Lower train.learning_rate or train.clip and run again."
            )
        return mean

    def _report(
        self, loss: float, rate: float, *, validation: dict[str, float] | None = None, epoch_ended: bool = False
    ) -> Progress:
        done = self.at.epoch * self.batches.updates + self.at.window
        share = self.progress_share()
        total = round(done / share) if share else self.total
        if validation is None:
            validation = self.at.curve[-1]["validation"] if self.at.curve else {}
        return Progress(self.at.epoch, done, total, loss, rate, self.at.seconds, validation, epoch_ended)

    def _asked(self) -> Validation | None:
        """Return the validation; where time is short, with fewer users, chosen once."""
        budget = self.budget
        if self.validation and budget.seconds is not None and "validation" not in budget.parts:
            seconds = max(budget.left() - budget.kept, VALIDATION / 2 * budget.seconds)
            self.validation = self.validation.subset(max(LEAST, int(FORWARD * self.rate * seconds)))
        return self.validation

    def _validated(self) -> tuple[NetworkParams, dict[str, float], Answers | None]:
        """Return the averaged weights and their metrics; none where no time is left for a first."""
        begin = self.budget.clock()
        params = average = self.averaged()
        validation = self._asked()
        if validation is None or (self.budget.left() <= 0 and not any(row["validation"] for row in self.at.curve)):
            return average, {}, None
        metrics, answers = validation.answered(self.network, self._whole(params))
        self.budget.validation = self.budget.clock() - begin
        self.budget.add("validation", self.budget.validation)
        return average, metrics, answers

    def _whole(self, params: NetworkParams) -> NetworkParams:
        """Return weights with rating tables, and with attributes added to the item vectors."""
        if self.network.rating:
            params = params._replace(rating=params.rating._replace(tables=self.items.ratings))
        return params if self.items.attributes is None else add_attributes(self.network, params, self.items.attributes)

    def answers(self) -> Answers | None:
        """Return the answers of the best epoch on validation data; None without validation."""
        validation = self._asked()
        if validation is None or self.best_answers is not None:
            return self.best_answers
        with self.budget.measured("validation"):
            return validation.answers(self.network, self._whole(self.best_params))

    def _close_epoch(self) -> Progress:
        average, metrics, answers = self._validated()
        targets = self.targets * self.at.window / self.batches.updates
        before = self.at.curve[-1]["seconds"] if self.at.curve else 0.0
        mean_rate = targets / max(self.at.seconds - before, 1e-9)
        report = self._report(self._mean_loss(), mean_rate, validation=metrics, epoch_ended=True)
        curve = [*self.at.curve, vars(report)]
        # Of equals the last is best, as without ranks: one rating a user is too noisy to choose by.
        best = max(range(len(curve)), key=lambda i: (curve[i]["validation"].get("ndcg@10", i), i))
        if best == len(curve) - 1:
            self.best_params, self.best_answers = self._copied(average), answers
        self.at = Interrupted(self.at.epoch + 1, 0, self.at.seconds, curve, best)
        return report

    def _mean_loss(self) -> float:
        """Return the mean loss of the epoch's targets; an update averages over all positions."""
        return self.at.losses * self.positions / max(self.at.targets, 1.0)

    def result(self) -> Trained:
        """Return the weights of the best epoch and the curve."""
        curve = tuple(Progress(**row) for row in self.at.curve)
        params = jax.tree.map(np.asarray, self.best_params)
        if self.network.rating:
            params = params._replace(rating=params.rating._replace(tables=self.ratings))
        return Trained(params, curve, self.at.best)


def fit(trainer: Trainer, *, report: Callable[[Progress], None] | None = None) -> Trained:
    """Run a trainer to its end and return its result; `report` is called with each report."""
    for progress in trainer.epochs():
        if report:
            report(progress)
    return trainer.result()
