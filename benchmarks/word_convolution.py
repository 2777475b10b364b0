"""Titles by a learnt convolution over their word vectors, beside their mean as it is read today.

    python benchmarks/word_convolution.py --set ml-100k --passes 12 --seed 0 --out FILE.json [--variant "the mean"]

Every variant sees the log the same number of times from the same first weights, without counts, and reads no column
but the title (and the abstract, where there is one). Warm: the last event of each user, papers' rule. New items: a
tenth of the items held out of training entirely and ranked among all by their text alone. Each result is kept at once,
and what the file holds already is not run again.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from beyond_ids import TEXTS
from sets import Set, halves, load

import segue
from segue.api import data_size, without_last
from segue.config import Config, configure, derive
from segue.data.features.catalogue import read_items
from segue.data.features.feature_encoders import as_float16
from segue.data.features.text import TextEncoder, _wordllama, text_encoder
from segue.data.sequences.sequences import encode, gaps, item_vocabulary
from segue.data.sequences.vocabulary import Vocabulary
from segue.metrics.metrics import ndcg
from segue.metrics.ranks import target_ranks
from segue.model.activations import relu
from segue.model.backend import draw_normal, namespace, product, take
from segue.model.network import Network, NetworkParams
from segue.model_file import build_network
from segue.recommend.recommender import Recommender
from segue.shapes import Array, Floats
from segue.training.trainer import Trained, Trainer, fit
from segue.training.update.update import ItemData
from segue.training.validation import Validation

#: Word pieces read of a text, at most, and the numbers that stand for each.
LENGTH, WORD = 16, 64
#: Filters of a convolution.
FILTERS = 64


class ConvolutionParams(NamedTuple):
    """What a convolution over word vectors says of an item; `vector` and `bias` read its filters, then `beside`."""

    filters: Array  # [span * WORD, FILTERS]
    shift: Array  # [FILTERS]
    vector: Array  # [2 FILTERS + b, d]
    bias: Array  # [2 FILTERS + b]


class Windows(NamedTuple):
    """The words of texts, each with its neighbours: texts of one length lie together, so that nothing is padded.

    The trainer takes it for an array of attributes.
    """

    words: Array  # [N, span * WORD]
    places: Array  # int32[V], where each text came to lie; the last place is that of a text without words
    beside: Array  # [V, b], what else is read of each text

    def astype(self, kind: Any) -> "Windows":
        return Windows(self.words.astype(kind), self.places, self.beside.astype(kind))


@dataclass(frozen=True)
class WordNetwork(Network):
    """A network whose attributes are `Windows`, of which there are so many texts of each length.

    h_t = relu(filters [w_{t - span // 2} ... w_{t + span // 2}] + shift) at each word t of the text, then the largest
    and the mean of each filter over the words, projected to the item's vector and bias.

    Source: Kim (2014), Convolutional neural networks for sentence classification.
    """

    span: int = 3
    beside: int = 0
    lengths: tuple[tuple[int, int], ...] = ()  # (words, texts), in the order of the windows

    def init(self, seed: int) -> NetworkParams:
        """Return the weights of a network of ids alone, and fresh filters."""
        rng, read = np.random.default_rng([seed, self.span, FILTERS]), 2 * FILTERS + self.beside
        own = ConvolutionParams(
            draw_normal(rng, (self.span * WORD, FILTERS), FILTERS**-0.5),
            np.zeros(FILTERS, np.float32),
            draw_normal(rng, (read, self.width), 0.02),
            draw_normal(rng, (read,), 0.02),
        )
        return super().init(seed)._replace(attributes=own)

    def with_attributes(self, params: NetworkParams, attributes: Windows, known: Array | None = None) -> NetworkParams:
        """Return the weights with item vectors that are an item's own row plus what its words say."""
        vectors, bias, own = params.items, params.bias, params.attributes
        if known is not None:
            vectors, bias = vectors * known[:, None], bias * known
        read = self.features(own, attributes)
        return params._replace(items=vectors + product(read, own.vector), bias=bias + read @ own.bias)

    def features(self, own: ConvolutionParams, attributes: Windows) -> Array:
        """Return what is read of each item, [V, 2 FILTERS + b]; zeros for one without words."""
        xp = namespace(attributes.words)
        found = relu(product(attributes.words, own.filters) + own.shift)
        pooled, at = [], 0
        for words, texts in self.lengths:
            group = xp.reshape(found[at : at + words * texts], (texts, words, FILTERS))
            pooled.append(xp.concat([xp.max(group, axis=1), xp.mean(group, axis=1)], axis=-1))
            at += words * texts
        pooled.append(xp.zeros((1, 2 * FILTERS), dtype=xp.float32))
        return xp.concat([take(xp.concat(pooled), attributes.places), attributes.beside], axis=-1)


class Words(NamedTuple):
    """How texts become vectors of their words: learnt from the texts of training alone."""

    mean: Floats  # [256], of their pieces
    basis: Floats  # [256, WORD], their first principal axes, scaled to vectors of length 1 on average

    @classmethod
    def learnt(cls, texts: list[str]) -> "Words":
        vectors = np.concatenate([pieces(text) for text in texts])
        mean = vectors.mean(axis=0)
        axes = np.linalg.svd(vectors - mean, full_matrices=False)[2][:WORD].T
        length = np.linalg.norm((vectors - mean) @ axes, axis=1).mean()
        return cls(mean, axes / length)

    def encode(self, text: str) -> Floats:
        """Return float32[n, WORD], n at most LENGTH."""
        return ((pieces(text)[:LENGTH] - self.mean) @ self.basis).astype(np.float32)


def pieces(text: str) -> Floats:
    """Return float32[word piece, 256], the static embeddings of a text."""
    model = _wordllama()
    return model.embedding[model.tokenize(text)[0].ids] if text.strip() else np.zeros((0, 256), np.float32)


def windows_of(
    words: Words, texts: list[str], span: int, beside: Floats
) -> tuple[Windows, tuple[tuple[int, int], ...]]:
    """Return the windows of texts, zeros around each, and how many texts of each length there are."""
    each = [words.encode(text) for text in texts]
    lengths = np.array([len(vectors) for vectors in each])
    order = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]
    places = np.full(len(texts), len(order), np.int32)
    places[order] = np.arange(len(order))
    around = ((span // 2, span // 2), (0, 0))
    slid = [np.lib.stride_tricks.sliding_window_view(np.pad(each[row], around), span, axis=0) for row in order]
    rows = np.concatenate([np.swapaxes(view, 1, 2).reshape(len(view), -1) for view in slid])
    counts = np.unique(lengths[order], return_counts=True)
    return Windows(rows, places, beside), tuple(zip(counts[0].tolist(), counts[1].tolist(), strict=True))


class Texts(NamedTuple):
    """Today's encoder and word vectors, both learnt from the same texts."""

    encoder: TextEncoder
    words: Words

    @classmethod
    def learnt(cls, texts: list[str]) -> "Texts":
        texts = [text for text in texts if text.strip()]
        return cls(text_encoder("wordllama", texts), Words.learnt(texts))


class Variant(NamedTuple):
    """What is read of an item's text: nothing, its mean, its words with `span - 1` neighbours, or both."""

    mean: bool = False
    span: int = 0

    def reader(self, plain: Network, texts: Texts, own: list[str]) -> tuple[Network, Any]:
        """Return a network that reads texts, and what it reads of each."""
        mean = as_float16(texts.encoder.encode(own)) if self.mean else np.zeros((len(own), 0), np.float32)
        if not self.span:
            return replace(plain, attributes=mean.shape[1]), mean
        windows, lengths = windows_of(texts.words, own, self.span, mean)
        more = {"span": self.span, "beside": mean.shape[1], "lengths": lengths}
        return WordNetwork(**(vars(plain) | more)), windows


VARIANTS = {
    "ids alone": Variant(),
    "the mean": Variant(mean=True),
    "a convolution of 3": Variant(span=3),
    "a convolution of 3 beside the mean": Variant(mean=True, span=3),
    "a convolution of 1": Variant(span=1),
}


def texts_by_item(known: Set) -> dict[str, str]:
    """Return the title, and the abstract where there is one, of each item."""
    table, _, _ = read_items(known.items)
    columns = [name for name in table.columns if name in TEXTS]
    joined = table.select(pl.concat_str([pl.col(name).fill_null("") for name in columns], separator=" "))
    return dict(zip(table["item"].to_list(), joined.to_series().to_list(), strict=True))


class Learnt(NamedTuple):
    """A variant trained on a log."""

    plain: Network  # of ids alone, which reads the described weights
    trained: Trained
    described: NetworkParams  # the weights with item vectors that say all
    config: Config
    vocabulary: Vocabulary
    texts: Texts
    validation: Validation

    def facts(self) -> dict:
        curve = self.trained.curve
        rates = [row.events_per_second for row in curve[1:]] or [curve[0].events_per_second]
        return {
            "validation": gain(self.validation, self.plain, self.described)[0],
            "best_epoch": self.trained.best + 1,
            "seconds": round(curve[-1].seconds, 1),
            "events_per_second": round(float(np.median(rates))),
            "events_per_second_of_the_fastest_pass": round(max(rates)),
            "parameters": int(sum(np.size(leaf) for leaf in jax.tree.leaves(self.trained.params))),
        }


def learn(variant: Variant, log: segue.Events, titles: dict[str, str], settings: dict) -> Learnt:
    """Train a variant on a log; of texts it sees those of the log's own items."""
    vocabulary = item_vocabulary(log)
    sequences = encode(log, vocabulary)
    learnt = without_last(sequences)
    size = data_size(learnt, vocabulary.size)
    config = derive(configure(settings), size)
    validation = Validation.sample(sequences, exclude_seen=True, seed=config.train.seed)
    longest = float(np.nan_to_num(gaps(learnt)).max(initial=1.0))
    plain = build_network(config, items=vocabulary.size, longest_gap=longest)
    own = ["", *(titles[id] for id in vocabulary.ids)]
    texts = Texts.learnt(own)
    network, attributes = variant.reader(plain, texts, own) if any(variant) else (plain, None)
    trainer = Trainer(network, config, learnt, validation)
    if attributes is not None:
        trainer.known = ItemData(jax.tree.map(jnp.asarray, attributes))
    trained = fit(trainer)
    described = trained.params if attributes is None else network.with_attributes(trained.params, attributes)
    return Learnt(plain, trained, described._replace(attributes=()), config, vocabulary, texts, validation)


def gain(asked: Validation, network: Network, params: NetworkParams) -> tuple[float, float]:
    """Return the mean NDCG@10 and its standard error over users."""
    blocks = asked.answers(network, params).blocks()
    found = np.concatenate([ndcg(target_ranks(each.hidden(each.scores()), each.targets), k=10) for each in blocks])
    return round(float(found.mean()), 4), round(float(found.std() / len(found) ** 0.5), 4)


def warm(known: Set, variant: Variant, settings: dict) -> dict:
    log, later = halves(known, "last")
    found = learn(variant, log, texts_by_item(known), settings)
    asked = encode(later.joined_with_history(), found.vocabulary)
    answerable = np.flatnonzero(asked.items[asked.offsets[1:] - 1] > 0)  # the item held out is known
    test = Validation(asked.select(answerable), exclude_seen=True)
    mean, error = gain(test, found.plain, found.described)
    return found.facts() | {"test": mean, "standard_error": error, "users": len(test.sequences)}


def new_items(known: Set, variant: Variant, settings: dict) -> dict:
    """Rank items that training never met among all items, by the path of the server."""
    log, test = segue.split_items(known.events, share=0.1, seed=1)
    titles = texts_by_item(known)
    found = learn(variant, log, titles, settings)
    held = sorted(set(test.table["item"].cast(pl.String)))
    network, attributes = variant.reader(found.plain, found.texts, [titles[id] for id in held])
    nothing = found.trained.params._replace(
        items=np.zeros((len(held), network.width), np.float32), bias=np.zeros(len(held), np.float32)
    )
    new = network.with_attributes(nothing, attributes)
    params = found.described._replace(
        items=np.concatenate([found.described.items, new.items]), bias=np.concatenate([found.described.bias, new.bias])
    )
    rec = Recommender(
        replace(found.plain, items=len(params.items)),
        params,
        Vocabulary(pl.concat([found.vocabulary.ids, pl.Series(held)])),
        replace(found.config, train=replace(found.config.train, repeats="exclude")),
        learnt=found.vocabulary.size,
    )
    report = segue.evaluate(rec, test).to_dict()
    return found.facts() | {
        "ndcg@10": round(report["models"]["segue"]["ndcg@10"], 4),
        "recall@10": round(report["models"]["segue"]["recall@10"], 4),
        "chance_recall@10": round(10 / len(rec.items), 4),
        "new_items": len(held),
        "protocol": report["protocol"],
    }


PARTS: dict[str, Callable[[Set, Variant, dict], dict]] = {"warm": warm, "new items": new_items}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", default="ml-100k", choices=["ml-100k", "ml-1m", "beauty"])
    parser.add_argument("--passes", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--variant", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--setting", action="append", default=[], help="path=value")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    settings = dict(text.split("=", 1) for text in asked.setting)
    settings |= {"train.epochs": asked.passes, "train.seed": asked.seed, "train.negatives": 0}
    kept = json.loads(asked.out.read_text()) if asked.out.exists() else {"rows": {}}
    kept["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    kept["words"] = {"length": LENGTH, "word": WORD, "filters": FILTERS}
    known = load(asked.set, asked.data)
    for part in asked.part:
        for name in asked.variant:
            row = ", ".join([asked.set, part, name, f"{asked.passes} passes", f"seed {asked.seed}", *asked.setting])
            if row in kept["rows"] or (part == "new items" and not any(VARIANTS[name])):
                continue
            found = PARTS[part](known, VARIANTS[name], settings)
            kept["rows"][row] = {"date": time.strftime("%Y-%m-%d")} | found
            asked.out.write_text(json.dumps(kept, indent=1) + "\n")
            print(row, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
