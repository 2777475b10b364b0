"""Segue as it is installed here, the small network of its size: the network alone, and at the end with counts.

Its clock runs from the first update on: what is compiled is compiled within it, unless an earlier run left it.
"""

from dataclasses import replace
from importlib.metadata import version

import numpy as np
import polars as pl
from common import Run, Split, blocks, facts, guarded, measure, read_split

import segue
from segue.api import data_size
from segue.config import configure, derive
from segue.data.sequences.sequences import Sequences, encode, item_vocabulary
from segue.model.network import Network, NetworkParams
from segue.model.transitions import TransitionCounts, blend_scores
from segue.model_file import build_network
from segue.training.blend import tune_blend
from segue.training.jit_cache import keep_compiled
from segue.training.trainer import Trainer
from segue.training.validation import Validation, validation_users


class Questions:
    """What is asked in validation and test, in rows of Segue's table."""

    def __init__(self, split: Split, rows: np.ndarray) -> None:
        self.split, self.rows, self.parts = split, rows, {}
        for part, asked in split.asked.items():
            histories = [rows[split.history(n, part)] for n in range(len(asked))]
            # An answer that is unknown is a question all the same; every known item is asked of, whatever it is.
            ends = [np.append(history, row) for history, row in zip(histories, rows[split.answers(part)], strict=True)]
            offsets = np.concatenate([[0], np.cumsum([len(end) for end in ends])])
            users = pl.Series(np.arange(len(ends)).astype(str))
            sequences = Sequences(users, offsets, np.concatenate(ends).astype(np.int32))
            self.parts[part] = Validation(sequences, exclude_seen=False)

    def scorer(self, network: Network, params: NetworkParams, counts: TransitionCounts | None = None):
        """Return the function of a part that yields the scores of all questions, in blocks."""

        def score(part: str):
            answers = self.parts[part].answers(network, params)
            for some in blocks(len(answers.targets)):
                block = answers.of(slice(some[0], some[-1] + 1))
                own = block.scores()
                own = own if counts is None else blend_scores(counts, own, block.recent)
                scores = np.full((len(some), self.split.n_items), -np.inf, np.float32)
                known = np.flatnonzero(self.rows)
                scores[:, known] = own[:, self.rows[known]]
                yield some, scores

        return score


def main(asked) -> None:
    split = read_split(asked.data, asked.set)
    learnt = pl.DataFrame({"user": split.owner[split.learnt], "item": split.items[split.learnt]})
    log = segue.read_events(learnt, time="none")
    vocabulary = item_vocabulary(log)
    sequences = encode(log, vocabulary)
    rows = np.zeros(split.n_items, np.int64)
    known = np.unique(split.items[split.learnt])
    rows[known] = [vocabulary.row(str(item)) for item in known]
    settings = {"model.size": "small", "train.minutes": asked.minutes, "train.seed": asked.seed}
    settings |= {"model.width": asked.width} if asked.width else {}
    size = data_size(sequences, vocabulary.size, share_of_repeats=float(split.repeats))
    config = derive(configure(settings), size)
    network = build_network(config, items=vocabulary.size, longest_gap=1.0)
    questions = Questions(split, rows)
    record = facts(
        peer="Segue",
        set=asked.set,
        segue=version("segue"),
        seed=asked.seed,
        settings={"width": config.model.width, "dropout": config.model.dropout, **settings},
        targets_in_a_pass=split.targets,
    )
    run = Run(asked.out, asked.minutes * 60, asked.every, record)
    keep_compiled()
    trainer = Trainer(network, config, sequences)

    def look(counts: TransitionCounts | None = None) -> None:
        run.pause()
        run.note(run.targets / split.targets, measure(split, questions.scorer(network, trainer.averaged(), counts)))

    run.go()
    for progress in trainer.epochs():
        run.targets = round(progress.done / trainer.batches.updates * split.targets)
        if (run.due or progress.epoch_ended) and not (run.curve and run.curve[-1]["targets"] == run.targets):
            look()
            run.go()
    held_out = questions.parts["validation"]
    sample = held_out.sequences.select(validation_users(held_out.sequences, asked.seed))
    tuned_on = replace(held_out, sequences=sample, exclude_seen=not split.repeats)
    blended = tune_blend(sequences, tuned_on.answers(network, trainer.averaged()), vocabulary.size)
    run.record["with_counts"] = str(blended)
    look(blended.counts)
    run.write(finished=True)


if __name__ == "__main__":
    guarded(main)
