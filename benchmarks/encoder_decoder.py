"""An encoder and a decoder: one recurrence reads, another writes the next n items; against plans of the plain model.

    python benchmarks/encoder_decoder.py --data DIR --set ml-1m-a [--setting train.minutes=3] [--model F] [--out F]

The encoder is Segue's default network. At every position it learns the next item, as always. From some positions of
each window a GRU also learns to write the next n, by teacher forcing: it begins with the encoder's output, reads the
item before (the true one in training, its own choice when it writes) and adds to the encoder's output, and the tied
softmax scores the sum:

    h_0 = tanh(W_h e + b),   h_k = GRU(h_{k-1}, E[item_{k-1}]),   query_k = e + W_o h_k

Settings, data, optimiser, averaging and the number of updates are those of the plain model of benchmarks/plan.py, so
that it reads as many events; an update takes longer, for it also scores `places` x n items.
"""

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from plan import Asked, facts, lists, model
from sets import load

import segue
from segue.api import without_last
from segue.config import Config
from segue.data.sequences.batches import Batches
from segue.data.sequences.sequences import encode
from segue.model.backend import draw_normal, take
from segue.model.cells import GRU
from segue.model.network import Network, Window
from segue.training.update.losses import softmax_cross_entropy
from segue.training.update.optimiser import kept_share, learning_rate, make_optimiser, running_average
from segue.training.update.update import draw_masks, drop_inputs
from segue.training.validation import Validation

GROUP = 16  # updates in one call of the device
WRITER = GRU()


class Decoder(NamedTuple):
    cell: Any
    w_h: Any  # [d, d]
    b: Any  # [d]
    first: Any  # [d]: read in place of an item before the first
    w_o: Any  # [d, d]


class Both(NamedTuple):
    encoder: Any
    decoder: Decoder


class Future(NamedTuple):
    """What the decoder learns of a window."""

    places: Any  # int32[M], positions of the window, flattened
    items: Any  # int32[n, M], what came next
    weights: Any  # float32[n, M], 0 beyond a user's end


def init_decoder(width: int, seed: int) -> Decoder:
    rng = np.random.default_rng([seed, 99])
    return Decoder(
        WRITER.init(rng, width),
        draw_normal(rng, (width, width), width**-0.5),
        np.zeros(width, np.float32),
        draw_normal(rng, (width,), 1.0),
        draw_normal(rng, (width, width), 0.1 * width**-0.5),
    )


def write_step(network: Network, params: Both, memory: Any, outputs: Any, x: Any) -> tuple[Any, Any]:
    """Read one input vector [M, d]; return the decoder's memory and the query."""
    memory, y = WRITER.step(params.decoder.cell, memory, WRITER.lift(params.decoder.cell, x[None])[0])
    return memory, outputs + y @ params.decoder.w_o


def begin_writing(params: Both, outputs: Any) -> Any:
    xp = outputs.__array_namespace__()
    return xp.tanh(outputs @ params.decoder.w_h + params.decoder.b)


def read_back(network: Network, params: Both, items: Any) -> Any:
    return take(params.encoder.items, items) * network.width**0.5


def loss_of(network: Network, config: Config, params: Both, memory: Any, batch: Any, future: Future, seed: Any):
    batch = drop_inputs(config.experiment, batch, seed)
    masks = draw_masks(network, config.model.dropout, seed, batch.items.shape)
    window = Window(batch.items, batch.gaps, batch.first, batch.reset)
    encoder = params.encoder
    memory, output = network.scan(encoder, memory, window, masks)
    query = network.query(encoder, output, batch.query_gaps).reshape(-1, network.width)
    targets, weights = batch.targets.reshape(-1), batch.weights.reshape(-1)
    plain = softmax_cross_entropy(query, encoder.items, encoder.bias, targets, weights) / len(query)
    e = output.reshape(-1, network.width)[future.places]
    first = jnp.broadcast_to(params.decoder.first, e.shape)[None]
    x = jnp.concatenate([first, read_back(network, params, future.items[:-1])])

    def one(state: Any, x: Any) -> Any:
        return write_step(network, params, state, e, x)

    _, queries = lax.scan(one, begin_writing(params, e), x)
    flat = queries.reshape(-1, network.width)
    of_paths = (future.items.reshape(-1), future.weights.reshape(-1))
    path = softmax_cross_entropy(flat, encoder.items, encoder.bias, *of_paths) / len(flat)
    return plain + path, (memory, plain, path)


class Run(NamedTuple):
    params: Both
    average: Both
    optimiser: Any
    memory: Any
    step: Any


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2,))
def update_group(network: Network, config: Config, run: Run, group: Any):
    def one(run: Run, given: Any):
        batch, future, seed, rate = given
        grad = jax.value_and_grad(partial(loss_of, network, config), has_aux=True)
        (_, (memory, plain, path)), gradient = grad(run.params, run.memory, batch, future, seed)
        change, optimiser = make_optimiser(config.train).update(gradient, run.optimiser, run.params)
        params = jax.tree.map(lambda weights, delta: weights - rate * delta, run.params, change)
        average = running_average(run.average, params, kept_share(config.experiment.weight_average, run.step))
        return Run(params, average, optimiser, memory, run.step + 1), jnp.stack([plain, path])

    return lax.scan(one, run, group)


def future_of(sequences, events: np.ndarray, weights: np.ndarray, n: int, count: int, rng) -> Future:
    """Return what came after some positions of a window, drawn at random."""
    places = rng.choice(events.size, count, replace=False).astype(np.int32)
    at = events.ravel()[places] + np.arange(n)[:, None]
    end = sequences.offsets[np.searchsorted(sequences.offsets, events.ravel()[places], side="right")]
    inside = (at < end) & (weights.ravel()[places] > 0)
    items = np.where(inside, sequences.items[np.minimum(at, len(sequences.items) - 1)], 1)
    return Future(places, items.astype(np.int32), inside.astype(np.float32))


def train(asked: Asked, plain: segue.Recommender, n: int, places: int, report) -> tuple[Both, list]:
    config, network = plain.config, plain.network
    whole = encode(asked.train, plain.vocabulary)
    learnt, updates, seed = without_last(whole), plain.facts["curve"][-1]["done"], config.train.seed
    validation = Validation.sample(whole, exclude_seen=config.train.repeats == "exclude", seed=seed)
    params = jax.tree.map(jnp.asarray, Both(network.init(seed), init_decoder(network.width, seed)))
    memory = jax.tree.map(jnp.array, network.empty(params.encoder, config.train.batch_size))
    average = jax.tree.map(jnp.copy, params)
    run = Run(params, average, make_optimiser(config.train).init(params), memory, jnp.zeros(()))
    batcher = Batches(learnt, config.train.batch_size, config.train.bptt_steps, seed)
    rng, spent, number, done, curve = np.random.default_rng(seed), 0.0, 0, 0, []
    while done < updates:
        windows, losses, began = batcher.placed_windows(number), [], time.perf_counter()
        while done < updates and len(some := list(islice(windows, GROUP))) == GROUP:
            rate, done = learning_rate(config.train, done / updates), done + GROUP
            given = [
                (b, future_of(learnt, e, b.weights, n, places, rng), np.uint32(rng.integers(2**32)), np.float32(rate))
                for b, e in some
            ]
            run, found = update_group(network, config, run, jax.tree.map(lambda *rows: np.stack(rows), *given))
            losses.append(np.asarray(found))
            now = time.perf_counter()
            spent, began = spent + now - began, now
        number += 1
        mean = np.concatenate(losses).mean(axis=0)
        ndcg = validation.measure(network, run.average.encoder)["ndcg@10"]
        curve.append([done, round(spent, 1), *(round(float(x), 4) for x in (*mean, ndcg))])
        report(curve[-1])
    return jax.tree.map(np.asarray, run.average), curve


def written(network: Network, params: Both, rec: segue.Recommender, asked: Asked, n: int) -> dict[str, list[str]]:
    """Return what the decoder writes for each user: the best item each time, none twice and none that was had."""
    states = asked.states(rec)
    e = np.concatenate([state.memory.output for state in states.values()])
    hidden = np.zeros((len(states), network.items), bool)
    hidden[:, 0] = True
    if rec.repeats == "exclude":
        for line, state in zip(hidden, states.values(), strict=True):
            line[state.seen.to_rows()] = True
    memory, x = begin_writing(params, e), np.broadcast_to(params.decoder.first, e.shape)
    rows = []
    for _ in range(n):
        memory, query = write_step(network, params, memory, e, x)
        best = np.where(hidden, -np.inf, network.scores(params.encoder, query)).argmax(axis=1)
        hidden[np.arange(len(best)), best] = True
        rows.append(best)
        x = read_back(network, params, best)
    ids = np.array(rows).T
    return {user: [rec.items[row - 1] for row in line] for user, line in zip(states, ids, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", required=True, choices=["ml-100k", "ml-1m-a", "ml-1m", "beauty"])
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--places", type=int, default=128, help="positions of a window that the decoder writes from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--setting", action="append", default=[], help="path=value, such as train.minutes=3")
    parser.add_argument("--model", type=Path, help="of the plain model, kept and taken from there")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    asked = Asked(load(given.set, given.data).events, given.n, given.users)
    plain = model(asked, given)
    params, curve = train(asked, plain, given.n, given.places, lambda row: print(row, flush=True))
    own, network = replace(plain, params=params.encoder, counts=None), plain.network
    found: dict = {"set": given.set, "users": given.users, "seed": given.seed, "plain": facts(plain)}
    found |= {"date": time.strftime("%Y-%m-%d"), "places": given.places, "n": {}}
    found["curve"] = {"columns": ["updates", "seconds", "loss", "loss of paths", "validation ndcg@10"], "rows": curve}
    for n in (5, given.n):
        states = asked.states(plain)
        paths = {
            "list of the state": lists(plain, asked, n),
            "greedy": {user: [line.item for line in plain.plan(s, n).items] for user, s in states.items()},
            "encoder and decoder": written(network, params, own, asked, n),
            "its encoder's list": lists(own, asked, n),
            "its encoder, greedy": {
                user: [line.item for line in own.plan(s, n).items] for user, s in asked.states(own).items()
            },
        }
        found["n"][str(n)] = asked.rows(paths, n, "list of the state")
        for name, row in found["n"][str(n)].items():
            print(n, f"{name:<24}", row, flush=True)
    if given.out:
        given.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
