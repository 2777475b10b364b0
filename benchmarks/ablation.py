"""What each part is worth: the default without it, or with another in its place.

    python benchmarks/ablation.py --data DIR --set ml-1m-a --passes 3 --setting model.width=64 --out FILE.json

Every variant sees the log the same number of times and is measured on the last event of each user but the test (papers'
rule): the network alone on validation and test; the default with the counts that fit it best, too. Each result is kept
at once, and what the file holds already is not run again.
"""

import argparse
import json
import os
import platform
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import jax
import numpy as np
from sets import halves, load

from segue.api import without_last
from segue.bundle import build_network
from segue.config import DataSize, configure, derive
from segue.data.events import Events
from segue.data.sequences import Sequences, encode, gaps, item_vocabulary
from segue.data.vocabulary import Vocabulary
from segue.measure.metrics import ndcg
from segue.measure.ranks import target_ranks
from segue.model import blocks, network
from segue.model.backend import namespace
from segue.model.cells import Linear
from segue.model.counts import Counts, expected, mixed
from segue.training.fusion import learn_fusion
from segue.training.trainer import Trainer, fit
from segue.training.validation import Answers, Validation

#: What is changed: settings, and functions of the block replaced by what does nothing.
VARIANTS: dict[str, dict] = {
    "the default": {},
    "no short convolution": {"cell": Linear(taps=1)},
    "no feed-forward": {"patch": {"feed_forward": lambda params, x: namespace(x).zeros_like(x)}},
    "no gate beside the cell": {"patch": {"gelu": lambda x: namespace(x).ones_like(x)}},
    "no norm": {"patch": {"rms_norm": lambda x, scale: x * scale}},
    "one block": {"model.depth": 1},
    "no dropout": {"model.dropout": 0.0},
    "no averaged weights": {"train.average": 0.0},
    "no weight decay": {"train.weight_decay": 0.0},
    "gru": {"model.cell": "gru"},
    "lstm": {"model.cell": "lstm"},
    "simple_rnn (tanh)": {"model.cell": "simple_rnn"},
    "2,048 drawn negatives": {"train.negatives": 2048},
    "gradient through one step": {"train.steps": 1, "lanes": 8},
    "gradient through 32 steps": {"train.steps": 32, "lanes": 1 / 4},
    "no hidden items": {"train.unknown_items": 0.0},
    "no clipping": {"train.clip": 1e9},
    "three blocks": {"model.depth": 3},
}


def asked_after(later: Events, vocabulary: Vocabulary) -> Sequences:
    """Return the histories of held-out events, each with its event at the end, where this is a known item."""
    sequences = encode(later.joined_with_history(), vocabulary)
    return sequences.select(np.flatnonzero(sequences.items[sequences.offsets[1:] - 1] > 0))


def gains(answers: Answers, counts: Counts | None = None) -> float:
    """Return the mean NDCG@10 of a network, with counts or alone."""
    found = []
    for block in answers.blocks():
        scores = block.scores()
        scores = scores if counts is None else mixed(counts, scores, expected(counts, block.recent))
        found.append(ndcg(target_ranks(block.hidden(scores), block.targets), k=10))
    return round(float(np.concatenate(found).mean()), 4)


def measure(
    variant: dict, settings: dict, learnt: Sequences, validation: Validation, test: Validation, size: int
) -> dict:
    """Train a variant and return what it reaches."""
    jax.clear_caches()  # what is replaced below is no argument of what was compiled
    size_of = DataSize(len(learnt.items), len(learnt), size, learnt.times is not None, 0.0)
    own = {name: value for name, value in variant.items() if "." in name}
    config = derive(configure(settings | own), size_of)
    if "lanes" in variant:  # as many targets an update as the default
        lanes = max(1, int(config.train.lanes * variant["lanes"]))
        config = replace(config, train=replace(config.train, lanes=lanes))
    longest = float(np.nan_to_num(gaps(learnt)).max(initial=1.0))
    model = build_network(config, items=size, longest_gap=longest)
    if "cell" in variant:
        model = replace(model, cell=variant["cell"])
    with ExitStack() as stack:
        for name, function in variant.get("patch", {}).items():
            for module in (blocks, network):
                if hasattr(module, name):
                    stack.enter_context(patch.object(module, name, function))
        trained = fit(Trainer(model, config, learnt, validation))
        answers, asked = validation.answers(model, trained.params), test.answers(model, trained.params)
    mixed_in = {}
    if not variant:
        fusion = learn_fusion(learnt, answers, size)
        mixed_in = {"validation_with_counts": round(fusion.mixture, 4), "test_with_counts": gains(asked, fusion.counts)}
    return {
        "validation": gains(answers),
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
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    settings = dict(text.split("=", 1) for text in asked.setting) | {"train.passes": asked.passes}
    kept = json.loads(asked.out.read_text()) if asked.out.exists() else {"rows": {}}
    kept |= {"set": asked.set, "settings": settings, "seed": 0, "date": time.strftime("%Y-%m-%d")}
    kept["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    log, later = halves(load(asked.set, asked.data), "last")
    vocabulary = item_vocabulary(log)
    sequences = encode(log, vocabulary)
    learnt = without_last(sequences)
    validation = Validation.sample(sequences, exclude_seen=True, seed=0)
    test = Validation(asked_after(later, vocabulary), exclude_seen=True)
    for name, variant in VARIANTS.items():
        if name not in kept["rows"]:
            kept["rows"][name] = measure(variant, settings, learnt, validation, test, vocabulary.size)
            asked.out.write_text(json.dumps(kept, indent=1) + "\n")
            print(name, kept["rows"][name], flush=True)


if __name__ == "__main__":
    main()
