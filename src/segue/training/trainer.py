"""The training run: windows in, averaged weights out.

Knows: truncated backpropagation through time with the memory carried from window to window, validation
after each pass, early stopping, checkpoints, time budgets.
Does not know: files of events, catalogues, how results are shown. It reports; others draw.

In words, and tested to give the same numbers:

    for number in passes:
        for batch in windows of the pass:
            loss, gradient = cross-entropy of the next item at every position
            params = AdamW(params, clipped gradient);  average = running average of params
            memory = memory after the window
        score the validation targets with `average`; keep the best
"""

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from segue.config import Config, TrainConfig
from segue.data.batches import Batch, Batcher
from segue.data.sequences import Sequences
from segue.errors import TrainingError
from segue.model.backend import is_leaf
from segue.model.blocks import BlockMasks
from segue.model.network import Masks, Memory, Network, NetworkParams, Window
from segue.shapes import Times
from segue.training.checkpoint import load_checkpoint, save_checkpoint
from segue.training.losses import Candidates, rating_loss, softmax_cross_entropy, strictly_earlier
from segue.training.negatives import Sampled, Sampler, cuts
from segue.training.noise import chance, dropout_mask
from segue.training.optimiser import kept_share, learning_rate, make_optimiser, running_average
from segue.training.rows import Learnt, Moment, after_update, beginning, put_rows, settle, take_rows
from segue.training.seen import Histories, hidden_classes
from segue.training.validation import Validation

#: Updates in one call of the device. It asks the system for fresh memory once a call, and touching fresh
#: memory for the first time costs a third of an update.
UPDATES_PER_CALL = 16
#: Seconds between two checkpoints within a pass.
CHECKPOINT_SECONDS = 30.0


#: Of what dropout leaves elsewhere, the share that it leaves of a user's liking by sums, which fits fastest.
KINDRED_KEPT = 0.4


class Run(NamedTuple):
    """Everything that changes while training. Where every update sees the whole table, no row's touch is noted."""

    learnt: Learnt
    memory: Memory
    touched: Any  # Moment of every row, or None
    now: Moment
    carried: Any = ()  # [B, read_width], what the last ratings of the window before were asked of


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Args:
        number: the pass, from 0.
        done: updates so far, over all passes.
        total: updates in all, as far as is known.
        loss: mean cross-entropy in nats of the latest updates.
        events_per_second: true targets learnt per second of training, validation not counted.
        seconds: of training so far.
        validation: metrics after the latest pass, such as `{"ndcg@10": .18}`.
        pass_ended: this report closes a pass.
    """

    number: int
    done: int
    total: int
    loss: float
    events_per_second: float
    seconds: float
    validation: dict[str, float]
    pass_ended: bool = False


@dataclass(frozen=True)
class Trained:
    """What a run leaves: averaged weights as NumPy arrays, and its curve, a report per pass."""

    params: NetworkParams
    curve: tuple[Progress, ...]
    best: int


class Known(NamedTuple):
    """What is known of the items and is not learnt by gradient."""

    attributes: Any = None  # float16[V, m]; None for ids alone
    ratings: Any = ()  # RatingTables; () without a rating head


#: Of ids alone.
NOTHING = Known()


def draw_masks(network: Network, rate: float, seed: Array, shape: tuple[int, int]) -> Masks | None:
    """Return dropout masks for a window `[T, B]`, or None where nothing is dropped."""
    if rate == 0.0:
        return None
    full = (*shape, network.width)
    streams = iter(range(10, 10 + 2 + 2 * network.depth))

    def draw() -> Any:
        return dropout_mask(seed, next(streams), full, rate)

    masks = Masks(draw(), tuple(BlockMasks(draw(), draw()) for _ in range(network.depth)), draw())
    if network.rating:
        masks = masks._replace(kindred=dropout_mask(seed, 9, full, 1.0 - KINDRED_KEPT * (1.0 - rate)))
    return masks


def rounded_weights(tree: Any) -> Any:
    """Return weights of which those that multiply vectors, by name `w_...`, are rounded to bfloat16."""
    if is_leaf(tree):
        return tree
    names = getattr(tree, "_fields", ("",) * len(tree))
    parts = [
        part.astype(jnp.bfloat16) if name.startswith("w_") else rounded_weights(part)
        for name, part in zip(names, tree, strict=True)
    ]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def rounded_factors(params: NetworkParams) -> NetworkParams:
    """Return the weights with what multiplies attributes and what blocks multiply by rounded to bfloat16."""
    said = params.attributes and params.attributes._replace(vector=params.attributes.vector.astype(jnp.bfloat16))
    return params._replace(attributes=said, blocks=rounded_weights(params.blocks))


def hide_some(train: TrainConfig, batch: Any, seed: Array) -> Any:
    """Return a batch in which some of everything is unknown, so that the unknown is learnt too."""
    shape = batch.items.shape

    def without(values: Any, stream: int, rate: float) -> Any:
        return None if values is None else jnp.where(chance(seed, stream, shape, rate)[..., None], 0.0, values)

    return batch._replace(
        items=jnp.where(chance(seed, 0, shape, train.unknown_items), 0, batch.items),
        gaps=jnp.where(chance(seed, 1, shape, train.unknown_gaps), jnp.nan, batch.gaps),
        question_gaps=jnp.where(chance(seed, 2, shape, train.unknown_question), jnp.nan, batch.question_gaps),
        details=without(batch.details, 3, train.unknown_details),
        question_details=without(batch.question_details, 4, train.unknown_question),
        profiles=without(batch.profiles, 5, train.unknown_profiles),
    )


class Carried(NamedTuple):
    """What goes on from window to window."""

    memory: Memory
    earlier: Any


def loss_of(
    network: Network,
    config: Config,
    params: NetworkParams,
    carried: Carried,
    batch: Batch,
    candidates: Candidates | None,
    known: Known,
    seed: Array,
    before: Any = None,
) -> tuple[Array, Carried]:
    """Return the mean loss of a window, in nats or squared ratings, and what is carried after it.

    With `before`, what each user had before the window (`Histories.before`), a target is compared with what a list
    may hold and nothing else.
    """
    hidden = None
    if before is not None:
        classes = candidates.rows if candidates else jnp.arange(network.items)
        hidden = hidden_classes(before, batch, classes).reshape(-1, len(classes))
    batch = hide_some(config.train, batch, seed)
    if network.rating:
        params = params._replace(rating=params.rating._replace(tables=known.ratings))
    rounded = config.train.precision == "bfloat16"
    if rounded:
        params = rounded_factors(params)
    if known.attributes is not None:
        # An item without its own row is like one that came after the training.
        own = 1.0 - chance(seed, 6, params.bias.shape, config.train.unknown_ids).astype(jnp.float32)
        with jax.named_scope("attributes"):
            params = network.with_attributes(params, known.attributes.astype(jnp.float32), own)
    masks = draw_masks(network, config.model.dropout or 0.0, seed, batch.items.shape)
    window = Window(batch.items, batch.gaps, batch.first, batch.reset, batch.details, batch.profiles)
    with jax.named_scope("network"):
        memory, output = network.scan(params, carried.memory, window, masks)
    total, earlier = jnp.zeros(()), carried.earlier
    if config.train.task != "rating":
        query = network.query(params, output, batch.question_gaps, batch.question_details).reshape(-1, network.width)
        targets: Any = batch.targets.reshape(-1)
        weights: Any = batch.weights.reshape(-1) / len(query)  # so that no gradient of a table has to be divided
        with jax.named_scope("loss"):
            total = softmax_cross_entropy(
                query, params.items, params.bias, targets, weights, candidates, hidden, rounded=rounded
            )
    if network.rating:
        asked = strictly_earlier(output, batch.apart | batch.reset, carried.earlier)
        earlier = asked[-1]
        total = total + rating_loss(network, params, asked, batch, masks and masks.kindred)
    return total, Carried(memory, earlier)


class Update(NamedTuple):
    """What one update needs: a window, sampled or not, and its dials. Many of them have a leading axis."""

    window: Any  # Batch | Sampled
    seed: Any  # uint32
    rate: Any  # float32
    before: Any = None  # bool[B, C]: of the classes, what each user had before; None where lists may repeat it


def update(network: Network, config: Config, run: Run, new: Update, known: Known = NOTHING) -> tuple[Run, Array]:
    """Learn from one window: return the run after it and the window's mean loss.

    Of a sampled window that names rows only these are read, differentiated and changed.
    """
    learnt, touched, after = run.learnt, run.touched, after_update(run.now, config.train, new.rate)
    batch, candidates, sampled = new.window, None, None
    if isinstance(new.window, Sampled):
        sampled = jax.tree.map(jnp.asarray, new.window)
        batch = sampled.batch
        candidates = Candidates(sampled.candidates, sampled.log_expected, sampled.target_log_expected.reshape(-1))
        if sampled.rows is not None:
            learnt = take_rows(learnt, touched, run.now, sampled.rows)
            known = jax.tree.map(lambda table: table.at[sampled.rows].get(mode="clip"), known)
    grad = jax.value_and_grad(partial(loss_of, network, config), has_aux=True)
    carried = Carried(run.memory, run.carried)
    (loss, carried), gradient = grad(learnt.params, carried, batch, candidates, known, new.seed, new.before)
    with jax.named_scope("optimiser"):
        change, optimiser = make_optimiser(config.train).update(gradient, learnt.optimiser, learnt.params)
        params = jax.tree.map(lambda weights, delta: weights - new.rate * delta, learnt.params, change)
        kept = kept_share(config.train.average, run.now.step.astype(jnp.float32))
        learnt = Learnt(params, running_average(learnt.average, params, kept), optimiser)
    if sampled and sampled.rows is not None:
        learnt, touched = put_rows(run.learnt, touched, learnt, after, sampled.rows)
    return Run(learnt, carried.memory, touched, after, carried.earlier), loss


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2,))
def update_many(
    network: Network, config: Config, run: Run, many: Update, count: Array, known: Known = NOTHING
) -> tuple[Run, Array]:
    """Learn from the first `count` windows of many: return the run after them, and their losses."""

    def one(i: Array, carried: tuple[Run, Array]) -> tuple[Run, Array]:
        run, losses = carried
        run, loss = update(network, config, run, jax.tree.map(lambda rows: rows[i], many), known)
        return run, losses.at[i].set(loss)

    result: tuple[Run, Array] = lax.fori_loop(0, count, one, (run, jnp.zeros(many.rate.shape)))
    return result


@partial(jax.jit, donate_argnums=(0,))
def settled(run: Run) -> Run:
    """Return the run with every row of the item table up to date."""
    learnt, touched = settle(run.learnt, run.touched, run.now)
    return run._replace(learnt=learnt, touched=touched)


@partial(jax.jit, static_argnums=0)
def _described(network: Network, params: NetworkParams, attributes: Array) -> NetworkParams:
    return network.with_attributes(params, attributes.astype(jnp.float32))


def begin(network: Network, config: Config) -> Run:
    """Return a run that has learnt nothing yet."""
    params = jax.tree.map(jnp.asarray, without_tables(network.init(config.train.seed)))
    assert config.train.lanes is not None
    memory = jax.tree.map(jnp.array, network.empty(params, config.train.lanes))
    learnt = Learnt(params, jax.tree.map(jnp.copy, params), make_optimiser(config.train).init(params))
    carried = jnp.zeros((config.train.lanes, network.read_width)) if network.rating else ()
    touched = beginning(network.items) if cuts(network.items, config.train) else None
    return Run(learnt, memory, touched, beginning(), carried)


def without_tables(params: NetworkParams) -> NetworkParams:
    """Return the weights without the tables of ratings, which no gradient changes."""
    return params._replace(rating=params.rating._replace(tables=())) if params.rating else params


class Interrupted(NamedTuple):
    """The facts kept with a checkpoint: where the next update is, and what was seen so far."""

    number: int
    window: int
    seconds: float
    curve: list[dict[str, Any]]
    best: int


@dataclass
class Trainer:
    """One run over one set of sequences; `passes` advances it and reports.

    Args:
        network: static settings.
        config: with no setting left to derive.
        sequences: what to learn.
        validation: targets to score after each pass; None stops by passes or time alone.
        checkpoint: a file to keep the run in; None keeps nothing.
        attributes: [V, m], what the items are, kept as float16; None for ids alone.
        ratings: what is expected of each item's ratings, where the network has a rating head.
    """

    network: Network
    config: Config
    sequences: Sequences
    validation: Validation | None = None
    checkpoint: Path | None = None
    attributes: Any = None
    ratings: Any = ()

    def __post_init__(self) -> None:
        train = self.config.train
        attributes = None if self.attributes is None else jnp.asarray(self.attributes, jnp.float16)
        self.known = Known(attributes, jax.tree.map(jnp.asarray, self.ratings))
        assert train.lanes is not None and train.passes is not None
        self.batcher = Batcher(self.sequences, train.lanes, train.steps, train.seed, self.network.rating is not None)
        self.sampler = None
        if train.negatives:
            cut = cuts(self.network.items, train)
            self.sampler = Sampler.of(self.sequences.items, self.network.items, train.negatives, cuts=cut)
        self.histories = Histories(self.sequences, self.network.items) if train.hides_had else None
        self.run = begin(self.network, self.config)
        self.best_params = self._averaged()
        self.at = Interrupted(0, 0, 0.0, [], 0)
        self.loss = float("nan")
        self.total = train.passes * self.batcher.updates

    @cached_property
    def identity(self) -> str:
        """What a checkpoint must be of to go on: the settings but for the length of the run, and the log."""
        train = replace(self.config.train, passes=None, minutes=None, patience=1)
        offsets: Any = self.sequences.offsets  # read as bytes
        items: Any = self.sequences.items
        log = zlib.crc32(items, zlib.crc32(offsets))
        cell = f" {self.network.cell}" if self.config.model.cell == "keras" else ""
        return f"{replace(self.config, train=train)}{cell} {log:08x}"

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one; return whether there was."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return False
        tree, facts = load_checkpoint(self.checkpoint, (self.run, self.best_params), self.identity)
        self.run, self.best_params = jax.tree.map(jnp.asarray, tree)
        self.at = Interrupted(**facts)
        return True

    def keep(self) -> None:
        """Write the checkpoint."""
        if self.checkpoint is not None:
            save_checkpoint(self.checkpoint, (self.run, self.best_params), self.identity, self.at._asdict())

    def progress_share(self) -> float:
        """Return the share of the run that is done, by updates or by the time budget."""
        done = self.at.number * self.batcher.updates + self.at.window
        share = done / self.total
        if self.config.train.minutes:
            share = max(share, self.at.seconds / (60.0 * self.config.train.minutes))
        return share

    def finished(self) -> bool:
        """Say whether passes, time or patience have run out."""
        waited = len(self.at.curve) - 1 - self.at.best
        return self.progress_share() >= 1.0 or (self.validation is not None and waited >= self.config.train.patience)

    def passes(self) -> Iterator[Progress]:
        """Train to the end, yielding a report every few updates and after each pass.

        Raises:
            TrainingError: the loss is not a number; the checkpoint before it is kept and named.
        """
        while not self.finished():
            yield from self._one_pass()
            yield self._close_pass()
            self.keep()

    def _averaged(self) -> NetworkParams:
        """Return a copy of the averaged weights: a run's own arrays are given away at each update."""
        copy: NetworkParams = jax.tree.map(jnp.copy, self.run.learnt.average)
        return copy

    def _one_pass(self) -> Iterator[Progress]:
        kept = latest = time.perf_counter()
        coming = self._updates()
        ready = next(coming, None)
        while ready is not None:
            many, count, targets = ready
            self.run, losses = update_many(self.network, self.config, self.run, many, np.int32(count), self.known)
            self.at = self.at._replace(window=self.at.window + count)
            ready = next(coming, None)  # made while the device works
            self.loss = self._checked(losses[:count])
            now = time.perf_counter()
            self.at = self.at._replace(seconds=self.at.seconds + now - latest)
            yield self._report(self.loss, targets / (now - latest))
            latest = time.perf_counter()
            if self.checkpoint is not None and latest - kept > CHECKPOINT_SECONDS:
                self.keep()
                kept = latest = time.perf_counter()
            if self.progress_share() >= 1.0:
                return

    def _updates(self) -> Iterator[tuple[Update, int, float]]:
        """Yield the rest of a pass, `UPDATES_PER_CALL` windows at a time, with their number and their targets."""
        windows = self.batcher.placed_windows(self.at.number, begin=self.at.window)
        step = self.at.number * self.batcher.updates + self.at.window
        while batches := list(islice(windows, UPDATES_PER_CALL)):
            steps = step + np.arange(len(batches))
            share = self.progress_share() + np.arange(len(batches)) / self.total
            many = [
                self._update(batch, places[0], int(at), float(part))
                for (batch, places), at, part in zip(batches, steps, share, strict=True)
            ]
            targets = sum(float(batch.weights.sum()) for batch, _ in batches)
            filled = many + many[:1] * (UPDATES_PER_CALL - len(many))  # one shape, compiled once
            yield jax.tree.map(lambda *rows: np.stack(rows), *filled), len(many), targets
            step += len(many)

    def _update(self, batch: Batch, targets: Times, step: int, share: float) -> Update:
        """Return what update `step` of a run needs, of whose first targets the places are given."""
        train, sampled = self.config.train, None
        if self.sampler:
            sampled = self.sampler.sample(batch, (train.seed, step))
        return Update(
            window=sampled or batch,
            seed=np.uint32((train.seed * 0x9E3779B1 + step * 0x85EBCA77 + 1) & 0xFFFFFFFF),
            rate=np.float32(learning_rate(train, share)),
            before=self.histories and self.histories.before(targets, sampled and sampled.drawn),
        )

    def _checked(self, losses: Array) -> float:
        mean = float(np.mean(np.asarray(losses)))
        if not np.isfinite(mean):
            kept = self.checkpoint if self.checkpoint and self.checkpoint.exists() else None
            raise TrainingError(
                f"pass {self.at.number + 1}, update {self.at.window}: expected a finite loss, came {mean}. "
                + (f"The last good checkpoint is {kept}. " if kept else "No checkpoint was kept. ")
                + "Lower train.learning_rate or train.clip and run again."
            )
        return mean

    def _report(
        self, loss: float, rate: float, *, validation: dict[str, float] | None = None, pass_ended: bool = False
    ) -> Progress:
        done = self.at.number * self.batcher.updates + self.at.window
        share = self.progress_share()
        total = round(done / share) if share else self.total
        if validation is None:
            validation = self.at.curve[-1]["validation"] if self.at.curve else {}
        return Progress(self.at.number, done, total, loss, rate, self.at.seconds, validation, pass_ended)

    def _close_pass(self) -> Progress:
        if self.run.touched is not None:
            self.run = settled(self.run)
        params = self.run.learnt.average
        if self.network.rating:
            params = params._replace(rating=params.rating._replace(tables=self.known.ratings))
        if self.validation and self.known.attributes is not None:
            params = _described(self.network, params, self.known.attributes)
        metrics = self.validation.measure(self.network, params) if self.validation else {}
        targets = float(np.count_nonzero(self.sequences.items)) * self.at.window / self.batcher.updates
        before = self.at.curve[-1]["seconds"] if self.at.curve else 0.0
        mean_rate = targets / max(self.at.seconds - before, 1e-9)
        report = self._report(self.loss, mean_rate, validation=metrics, pass_ended=True)
        curve = [*self.at.curve, vars(report)]
        # Without ranks the last pass is best: one rating a user says too little of the difference between passes.
        best = max(range(len(curve)), key=lambda i: curve[i]["validation"].get("ndcg@10", i))
        if best == len(curve) - 1:
            self.best_params = self._averaged()
        self.at = Interrupted(self.at.number + 1, 0, self.at.seconds, curve, best)
        return report

    def result(self) -> Trained:
        """Return the weights of the best pass and the curve."""
        curve = tuple(Progress(**row) for row in self.at.curve)
        params = jax.tree.map(np.asarray, self.best_params)
        if self.network.rating:
            params = params._replace(rating=params.rating._replace(tables=self.ratings))
        return Trained(params, curve, self.at.best)


def fit(trainer: Trainer, *, report: Callable[[Progress], None] | None = None) -> Trained:
    """Run a trainer to its end and return what it learnt; `report` is called with each report."""
    for progress in trainer.passes():
        if report:
            report(progress)
    return trainer.result()
