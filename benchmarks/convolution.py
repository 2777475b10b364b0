"""Convolution and recurrence: what each is worth inside the default network, under one time budget.

    python benchmarks/convolution.py --data DIR --set ml-1m-a --minutes 2 --out FILE.json

Variants of the cell alone; everything else is the default. `caser` is the convolutional front of Tang and Wang (2018)
over the last five events, in place of a recurrence; `caser, then linear` lets the recurrence read it.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sets import load

import segue
from segue.api import data_size, without_last
from segue.config import configure, derive
from segue.data.sequences.sequences import encode, gaps, item_vocabulary
from segue.model.backend import draw_normal, namespace, product
from segue.model.cells import Linear, LinearState
from segue.model_file import build_network
from segue.training.trainer import Trainer
from segue.training.validation import Validation


class CaserParams(NamedTuple):
    """Filters over the last events and what joins them."""

    horizontal: tuple[Any, ...]  # for each height h: [h d, f]
    vertical: Any  # [L, v]
    w_out: Any  # [heights f + v d, d]
    bias: Any  # [d]


class CaserState(NamedTuple):
    """The last L - 1 inputs, the latest first."""

    tail: tuple[Any, ...]


@dataclass(frozen=True)
class Caser:
    """Horizontal filters of heights 2 to 4 with a maximum over places, vertical filters, over the last L inputs."""

    window: int = 5
    heights: tuple[int, ...] = (2, 3, 4)
    filters: int = 32
    vertical: int = 4

    def init(self, rng: np.random.Generator, width: int) -> CaserParams:
        joined = len(self.heights) * self.filters + self.vertical * width
        return CaserParams(
            tuple(draw_normal(rng, (h * width, self.filters), (h * width) ** -0.5) for h in self.heights),
            draw_normal(rng, (self.window, self.vertical), self.window**-0.5),
            draw_normal(rng, (joined, width), joined**-0.5),
            np.zeros(width, np.float32),
        )

    def start(self, params: CaserParams, batch: int) -> CaserState:
        zeros = namespace(params.bias).zeros((batch, params.bias.shape[0]), dtype=np.float32)
        return CaserState((zeros,) * (self.window - 1))

    def lift(self, params: CaserParams, x: Any) -> Any:
        return x

    def read(self, params: CaserParams, last: list[Any]) -> Any:
        xp = namespace(params.bias)
        parts = []
        for h, weights in zip(self.heights, params.horizontal, strict=True):
            places = [product(xp.concat(last[i : i + h], axis=-1), weights) for i in range(self.window - h + 1)]
            top = places[0]
            for other in places[1:]:
                top = xp.maximum(top, other)
            parts.append(xp.maximum(top, 0.0))
        for v in range(self.vertical):
            parts.append(sum(params.vertical[k, v] * x for k, x in enumerate(last)))
        return product(xp.concat(parts, axis=-1), params.w_out) + params.bias

    def step(self, params: CaserParams, state: CaserState, inputs: Any) -> tuple[CaserState, Any]:
        return CaserState((inputs, *state.tail)[: self.window - 1]), self.read(params, [inputs, *state.tail])

    def scan(self, params: CaserParams, state: CaserState, inputs: Any, reset: Any, start: CaserState):
        past = Linear(self.window).look_back(state.tail, inputs, reset, start.tail)
        y = self.read(params, [inputs, *(x[:-1] for x in past)])
        return CaserState(tuple(x[-1] for x in past)), y


class BothParams(NamedTuple):
    caser: CaserParams
    linear: Any


@dataclass(frozen=True)
class CaserThenLinear:
    """The recurrence reads the sum of the input and the convolutional front."""

    caser: Caser = field(default_factory=Caser)
    linear: Linear = field(default_factory=lambda: Linear(taps=1))

    def init(self, rng: np.random.Generator, width: int) -> BothParams:
        return BothParams(self.caser.init(rng, width), self.linear.init(rng, width))

    def start(self, params: BothParams, batch: int) -> tuple[CaserState, LinearState]:
        return self.caser.start(params.caser, batch), self.linear.start(params.linear, batch)

    def lift(self, params: BothParams, x: Any) -> Any:
        return x

    def step(self, params: BothParams, state, inputs: Any):
        front, y = self.caser.step(params.caser, state[0], inputs)
        back, y = self.linear.step(params.linear, state[1], inputs + y)
        return (front, back), y

    def scan(self, params: BothParams, state, inputs: Any, reset: Any, start):
        front, y = self.caser.scan(params.caser, state[0], inputs, reset, start[0])
        back, y = self.linear.scan(params.linear, state[1], inputs + y, reset, start[1])
        return (front, back), y


CELLS = {
    "linear, convolution of 4 (default)": Linear(),
    "linear, no convolution": Linear(taps=1),
    "linear, convolution of 2": Linear(taps=2),
    "linear, convolution of 8": Linear(taps=8),
    "caser": Caser(),
    "caser, then linear": CaserThenLinear(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", required=True)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    kept = json.loads(asked.out.read_text()) if asked.out.exists() else {"cells": {}}
    kept |= {"set": asked.set, "minutes": asked.minutes, "date": time.strftime("%Y-%m-%d")}
    kept["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    train, _ = segue.split_last(load(asked.set, asked.data).events)
    vocabulary = item_vocabulary(train)
    sequences = encode(train, vocabulary)
    learnt = without_last(sequences)
    size = data_size(learnt, vocabulary.size)
    config = derive(configure({"train.minutes": asked.minutes}), size)
    validation = Validation.sample(sequences, exclude_seen=True, seed=0)
    longest = float(np.nan_to_num(gaps(learnt)).max(initial=1.0))
    for name, cell in CELLS.items():
        if name in kept["cells"]:
            continue
        network = replace(build_network(config, items=vocabulary.size, longest_gap=longest), cell=cell)
        trainer = Trainer(network, config, learnt, validation)
        ends = [row for row in trainer.epochs() if row.epoch_ended]
        kept["cells"][name] = {
            "ndcg@10": round(max(row.validation["ndcg@10"] for row in ends), 4),
            "curve": [[round(row.seconds, 1), round(row.validation["ndcg@10"], 4)] for row in ends],
            "events_per_second": round(float(np.median([row.events_per_second for row in ends[1:] or ends]))),
        }
        asked.out.write_text(json.dumps(kept) + "\n")
        print(name, kept["cells"][name], flush=True)


if __name__ == "__main__":
    main()
