"""SASRec of RecTools, softmax over the whole catalogue; it learns and reads the last 200 events of each user.

`peer_hstu.py` trains its HSTU in the same way, which reads times too, that of the question among them.
"""

from contextlib import suppress
from functools import partial
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from common import Run, Split, Stop, blocks, facts, guarded, measure, read_split
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import HSTUModel, SASRecModel

Model = SASRecModel | HSTUModel

#: The names are the peer's own.
SETTINGS = {
    "n_blocks": 2,
    "n_heads": 2,
    "dropout_rate": 0.2,
    "session_max_len": 200,
    "loss": "softmax",
    "lr": 0.001,
    "batch_size": 32,
}


class Measuring(Callback):
    """Measures at the end of each pass and between two batches, and ends the training."""

    def begin(self, split: Split, run: Run, model: Model) -> None:
        self.split, self.run, self.model, self.passes, self.within = split, run, model, 0, 0

    def __deepcopy__(self, memo: dict) -> "Measuring":
        return self  # the model trains with a copy of the trainer it was given

    def on_train_epoch_start(self, trainer, module) -> None:
        self.within = 0
        self.run.go()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.run.targets += int((batch["y"] != 0).sum())
        self.within += 1
        if self.run.due:
            self.look(self.passes + self.within / trainer.num_training_batches)

    def on_train_epoch_end(self, trainer, module) -> None:
        self.passes += 1
        self.look(self.passes)

    def look(self, passes: float) -> None:
        self.run.pause()
        network = self.model.torch_model
        network.eval()
        with torch.no_grad():
            self.run.note(passes, measure(self.split, scorer(self.split, self.model)))
        network.train()
        if self.run.over:
            raise Stop
        self.run.go()


MEASURING = Measuring()


def trainer() -> Trainer:
    """Return what the model is to train with."""
    return Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[MEASURING],
    )


def scorer(split: Split, model: Model):
    """Return the function of a part that yields the scores of all users, in blocks."""
    known = np.asarray(model.data_preparator.get_known_item_ids(), np.int64)
    columns = np.asarray(model.data_preparator.get_known_items_sorted_internal_ids(), np.int64)
    rows = np.zeros(split.n_items, np.int64)  # 0 is its padding
    rows[known] = columns
    longest, network = model.data_preparator.session_max_len, model.torch_model

    def score(part: str):
        table = network.item_model.get_all_embeddings()
        for users in blocks(len(split.asked[part])):
            x = np.zeros((len(users), longest), np.int64)
            seconds = np.zeros((len(users), longest + 1), np.int64)
            for row, second, user in zip(x, seconds, users, strict=True):
                before = split.before(user, part)
                read = rows[split.items[before]]
                some = np.flatnonzero(read)[-longest:]
                row[longest - len(some) :] = read[some]
                if split.times is not None:  # of its events, and at the end of the question; the first fills the rest
                    when = np.append(split.times[before][some], split.times[split.asked[part][user]])
                    second[:] = when[0]
                    second[-len(when) :] = when
            batch = {"x": torch.from_numpy(x), "unix_ts": torch.from_numpy(seconds)}
            last = network.encode_sessions(batch, table)[:, -1:]
            scores = np.full((len(users), split.n_items), -np.inf, np.float32)
            scores[:, known] = network.similarity_module(last, table)[:, 0].numpy()[:, columns]
            yield users, scores

    return score


def train(asked, kind: type[Model], **settings) -> None:
    """Train a model of a kind and keep its record."""
    seed_everything(asked.seed)
    split, settings = read_split(asked.data, asked.set), SETTINGS | settings
    learnt = split.learnt
    table = pd.DataFrame({Columns.User: split.owner[learnt], Columns.Item: split.items[learnt], Columns.Weight: 1.0})
    # Where no times are known the place in the file serves.
    seconds = np.flatnonzero(learnt) if split.times is None else split.times[learnt]
    table[Columns.Datetime] = pd.to_datetime(seconds, unit="s")
    record = facts(
        peer=f"RecTools {kind.__name__.removesuffix('Model')}",
        set=asked.set,
        rectools=version("rectools"),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        seed=asked.seed,
        settings={"n_factors": asked.width, **settings},
        targets_in_a_pass=int(np.minimum(split.lengths - 1, settings["session_max_len"]).sum()),
    )
    run = Run(asked.out, asked.minutes * 60, asked.every, record)
    model = kind(n_factors=asked.width, get_trainer_func=trainer, verbose=0, **settings)
    MEASURING.begin(split, run, model)
    with suppress(Stop):
        model.fit(Dataset.construct(table))
    run.write(finished=True)


if __name__ == "__main__":
    guarded(partial(train, kind=SASRecModel))
