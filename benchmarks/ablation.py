"""What each part is worth: the default without it, or with another in its place.

    python benchmarks/ablation.py --data DIR --set ml-1m-a --passes 4 --setting model.width=128 --out FILE.json \
        [--only "no norm"]

Every variant sees the log the same number of times and is measured on the last event of each user but the test (papers'
rule), of all users: the network alone on validation and test, its mean log loss on validation too; with `--counts` the
mixture as well. Each result is kept at once, and what the file holds already is not run again.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import jax
import numpy as np
from sets import halves, load

from segue.api import data_size, without_last
from segue.config import configure, derive
from segue.data.log.events import Events
from segue.data.sequences.sequences import Sequences, encode, gaps, item_vocabulary
from segue.data.sequences.vocabulary import Vocabulary
from segue.metrics.metrics import ndcg
from segue.metrics.ranks import target_ranks
from segue.model import blocks, network
from segue.model.backend import namespace, parts
from segue.model.cells import GRU, Linear
from segue.model.network import Network
from segue.model.transitions import TransitionCounts, blend_scores
from segue.model_file import build_network
from segue.shapes import Array
from segue.training.blend import tune_blend
from segue.training.trainer import Progress, Trainer, fit
from segue.training.update import update
from segue.training.update.dropout import dropout_mask
from segue.training.update.losses import softmax_cross_entropy
from segue.training.validation import Answers, Validation


def scaled(x: Array, scale: Array, norm: bool) -> Array:
    """Return what stands for a norm that is left out."""
    return x * scale


def one_mask_a_window(seed: Array, stream: int, shape: tuple[int, ...], rate: float) -> Array:
    """Return a dropout mask that drops the same numbers at every step of a window."""
    return dropout_mask(seed, stream, (1, *shape[1:]), rate)


def smoothed(share: float) -> Callable[..., Array]:
    """Return a cross-entropy whose targets are spread over the catalogue by a share."""

    def loss(query, items, bias, targets, weights, candidates=None, hidden=None, chunk=None, rounded=False):
        own = (query * (items[targets] - items[1:].mean(axis=0))).sum(axis=1) + bias[targets] - bias[1:].mean()
        return (
            softmax_cross_entropy(query, items, bias, targets, weights, candidates, hidden, chunk, rounded)
            + share * (weights * own).sum()
        )

    return loss


class Beside:
    """A linear recurrence over one half of the numbers, a GRU over the other."""

    def __init__(self) -> None:
        self.cells = (Linear(), GRU())

    def __hash__(self) -> int:
        return hash(self.cells)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Beside)

    def init(self, rng, width):
        return tuple(cell.init(rng, width // 2) for cell in self.cells)

    def start(self, params, batch):
        return tuple(cell.start(own, batch) for cell, own in zip(self.cells, params, strict=True))

    def lift(self, params, x):
        return tuple(
            cell.lift(*pair) for cell, pair in zip(self.cells, zip(params, parts(x, 2), strict=True), strict=True)
        )

    def scan(self, params, state, inputs, reset, start):
        done = [
            cell.scan(p, s, x, reset, b)
            for cell, p, s, x, b in zip(self.cells, params, state, inputs, start, strict=True)
        ]
        return tuple(s for s, _ in done), namespace(done[0][1]).concat([y for _, y in done], axis=-1)


class WithoutInput(Network):
    """A network whose output does not hold the vector of the last item itself."""

    def scan_inputs(self, params, memory, x, window, masks=None):
        cells, read = [], x
        for i, (block, state) in enumerate(zip(params.blocks, memory.cells, strict=True)):
            state, x = blocks.scan_block(self.cell, block, state, x, window.reset, masks and masks.blocks[i], self.norm)
            cells.append(state)
        output = network.normed(x - read, params.norm, self.norm)
        return network.Memory(tuple(cells), output[-1]), blocks.dropped(output, masks and masks.output)


#: What is changed: settings, and functions of the block replaced by what does nothing.
VARIANTS: dict[str, dict] = {
    "the default": {},
    "no short convolution": {"cell": Linear(taps=1)},
    "no feed-forward": {"patch": {"feed_forward": lambda params, x, norm: namespace(x).zeros_like(x)}},
    "no gate beside the cell": {"patch": {"geglu": lambda gate, y: y}},
    "with norms": {"experiment.norm": True},
    "norms in blocks alone": {"experiment.norm": True, "patch": {"network.normed": scaled}},
    "a norm at the output alone": {"experiment.norm": True, "patch": {"blocks.normed": scaled}},
    "one block": {"model.depth": 1},
    "no dropout": {"model.dropout": 0.0},
    "no averaged weights": {"experiment.weight_average": 0.0},
    "no weight decay": {"train.weight_decay": 0.0},
    "gru": {"model.cell": "gru"},
    "lstm": {"model.cell": "lstm"},
    "simple_rnn (tanh)": {"model.cell": "simple_rnn"},
    "2,048 drawn negatives": {"train.negatives": 2048},
    "gradient through one step": {"train.bptt_steps": 1, "lanes": 8},
    "gradient through 32 steps": {"train.bptt_steps": 32, "lanes": 1 / 4},
    "what was had is compared with, too": {"train.seen_as_negatives": True},
    "no hidden items": {"experiment.item_dropout": 0.0},
    "no clipping": {"train.clip": 1e9},
    "three blocks": {"model.depth": 3},
    "one mask a window": {"patch": {"update.dropout_mask": one_mask_a_window}},
    "a tenth of the items hidden": {"experiment.item_dropout": 0.1},
    "smoothed targets, .1": {"patch": {"update.softmax_cross_entropy": smoothed(0.1)}},
    "linear and gru side by side": {"cell": Beside()},
    "output without the last item": {"network": WithoutInput},
    "weight decay .1": {"train.weight_decay": 0.1},
    "average .9995": {"experiment.weight_average": 0.9995},
    "learning rate .001": {"train.learning_rate": 1e-3},
    "learning rate .004": {"train.learning_rate": 4e-3},
}


def asked_after(later: Events, vocabulary: Vocabulary) -> Sequences:
    """Return the histories of held-out events, each with its event at the end, where this is a known item."""
    sequences = encode(later.joined_with_history(), vocabulary)
    return sequences.select(np.flatnonzero(sequences.items[sequences.offsets[1:] - 1] > 0))


def gains(answers: Answers, counts: TransitionCounts | None = None) -> float:
    """Return the mean NDCG@10 of a network, with counts or alone."""
    found = []
    for block in answers.blocks():
        scores = block.scores()
        scores = scores if counts is None else blend_scores(counts, scores, block.recent)
        found.append(ndcg(target_ranks(block.hidden(scores), block.targets), k=10))
    return round(float(np.concatenate(found).mean()), 4)


def log_loss(answers: Answers) -> float:
    """Return the mean of minus the log probability of the target among what a list may hold."""
    found = []
    for block in answers.blocks():
        scores = block.hidden(block.scores())
        top = scores.max(axis=1)
        total = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
        found.append(total - scores[np.arange(len(scores)), block.targets])
    return round(float(np.concatenate(found).mean()), 4)


def show(progress: Progress) -> None:
    """Print what validation says after each pass."""
    if progress.epoch_ended:
        print(progress.epoch + 1, round(progress.seconds), round(progress.validation["ndcg@10"], 4), flush=True)


class Asked(NamedTuple):
    """Who is asked: after each pass, and at the end all for validation, and all for the test."""

    after_a_pass: Validation
    validation: Validation
    test: Validation


def measure(variant: dict, settings: dict, learnt: Sequences, asked_of: Asked, size: int, counts: bool = False) -> dict:
    """Train a variant and return what it reaches."""
    validation, all_users, test = asked_of
    jax.clear_caches()  # what is replaced below is no argument of what was compiled
    own = {name: value for name, value in variant.items() if "." in name}
    config = derive(configure(settings | own), data_size(learnt, size))
    if "lanes" in variant:  # as many targets an update as the default
        lanes = max(1, int(config.train.batch_size * variant["lanes"]))
        config = replace(config, train=replace(config.train, batch_size=lanes))
    longest = float(np.nan_to_num(gaps(learnt)).max(initial=1.0))
    model = build_network(config, items=size, longest_gap=longest)
    if "cell" in variant:
        model = replace(model, cell=variant["cell"])
    if "network" in variant:
        model = variant["network"](**vars(model))
    with ExitStack() as stack:
        for path, function in variant.get("patch", {}).items():
            of, _, name = path.rpartition(".")
            for module in (blocks, network, update):
                if hasattr(module, name) and module.__name__.endswith(of):
                    stack.enter_context(patch.object(module, name, function))
        trained = fit(Trainer(model, config, learnt, validation), report=show)
        answers, asked, everybody = (part.answers(model, trained.params) for part in (validation, test, all_users))
    mixed_in = {}
    if counts:
        blended = tune_blend(learnt, answers, size)  # tuned on the sample, as in training
        mixed_in = {
            "validation_with_counts": round(blended.blended, 4),
            "test_with_counts": gains(asked, blended.counts),
        }
    return {
        "validation": gains(everybody),
        "validation_log_loss": log_loss(everybody),
        "test": gains(asked),
        **mixed_in,
        "seconds": round(trained.curve[-1].seconds, 1),
        "events_per_second": round(float(np.median([row.events_per_second for row in trained.curve]))),
        "parameters": int(sum(np.size(leaf) for leaf in jax.tree.leaves(trained.params))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", required=True)
    parser.add_argument("--passes", type=int, required=True)
    parser.add_argument("--setting", action="append", default=[], help="path=value")
    parser.add_argument("--only", action="append", choices=list(VARIANTS), help="a variant; all without")
    parser.add_argument("--counts", action="store_true", help="also with the counts that fit a variant best")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    settings = dict(text.split("=", 1) for text in asked.setting) | {"train.epochs": asked.passes}
    kept = json.loads(asked.out.read_text()) if asked.out.exists() else {"rows": {}}
    kept |= {"set": asked.set, "settings": settings, "seed": 0, "date": time.strftime("%Y-%m-%d")}
    kept["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    log, later = halves(load(asked.set, asked.data), "last")
    vocabulary = item_vocabulary(log)
    sequences = encode(log, vocabulary)
    learnt = without_last(sequences)
    validation = Validation.sample(sequences, exclude_seen=True, seed=0)
    able = sequences.select(np.flatnonzero((sequences.lengths >= 2) & (sequences.items[sequences.offsets[1:] - 1] > 0)))
    test = Validation(asked_after(later, vocabulary), exclude_seen=True)
    asked_of = Asked(validation, Validation(able, exclude_seen=True), test)
    for name in asked.only or VARIANTS:
        if name not in kept["rows"]:
            kept["rows"][name] = measure(VARIANTS[name], settings, learnt, asked_of, vocabulary.size, asked.counts)
            asked.out.write_text(json.dumps(kept, indent=1) + "\n")
            print(name, kept["rows"][name], flush=True)


if __name__ == "__main__":
    main()
