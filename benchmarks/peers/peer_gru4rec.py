"""GRU4Rec, the official code in PyTorch, its training loop as it stands; each user is one session.

It reads a session an event at a time with no backpropagation through time, all of its lanes side by side. The loop
has no place to measure from, so its iterator over batches is replaced by one that does between two of them.
"""

import subprocess
import sys

import numpy as np
import pandas as pd
import torch
from common import Run, Split, Stop, blocks, facts, guarded, measure, read_split

#: The names are the peer's own.
SETTINGS = {
    "loss": "cross-entropy",
    "constrained_embedding": True,
    "embedding": 0,
    "batch_size": 128,
    "dropout_p_embed": 0.2,
    "dropout_p_hidden": 0.2,
    "learning_rate": 0.07,
    "momentum": 0.0,
    "n_sample": 2048,
    "sample_alpha": 0.5,
    "bpreg": 0.0,
    "elu_param": 0.0,
    "logq": 1.0,
}
SPEED_SECONDS = 30.0


def frame(split: Split) -> pd.DataFrame:
    """Return what is learnt, in the columns the peer reads; the place in the file serves as the time."""
    learnt = split.learnt
    names = split.items[learnt].astype(str)
    return pd.DataFrame({"SessionId": split.owner[learnt], "ItemId": names, "Time": np.flatnonzero(learnt)})


def hidden_states(model: torch.nn.Module, rows: list[np.ndarray]) -> np.ndarray:
    """Read whole histories from an empty state, all users side by side; return the last outputs, [user, width]."""
    lengths = np.array([len(row) for row in rows])
    order = np.argsort(-lengths, kind="stable")
    padded = np.zeros((lengths.max(initial=1), len(rows)), np.int64)
    for column, user in enumerate(order):
        padded[: lengths[user], column] = rows[user]
    inputs, state = torch.from_numpy(padded), torch.zeros(len(rows), model.layers[-1])
    alive = (np.arange(len(padded))[:, None] < lengths[order]).sum(axis=1)
    for batch, n in zip(inputs, alive, strict=True):
        state[:n] = model.hidden_step(model.Wy(batch[:n]), [state[:n]])
    states = np.empty(state.shape, np.float32)
    states[order] = state.numpy()
    return states


def scorer(split: Split, gru):
    """Return the function of a part that yields the scores of all questions, in blocks."""
    row_of = gru.data_iterator.itemidmap
    known, rows = row_of.index.astype(int).to_numpy(), np.full(split.n_items, -1)
    rows[known] = row_of.to_numpy()

    def score(part: str):
        histories = [rows[split.history(question, part)] for question in range(len(split.asked[part]))]
        states = hidden_states(gru.model, [history[history >= 0] for history in histories])
        weights, bias = gru.model.Wy.weight.detach().numpy(), gru.model.By.weight.detach().numpy()[:, 0]
        for some in blocks(len(histories)):
            scores = np.full((len(some), split.n_items), -np.inf, np.float32)
            scores[:, known] = (states[some] @ weights.T + bias)[:, rows[known]]
            yield some, scores

    return score


def train(peer, split: Split, run: Run, width: int, seed: int, measuring: bool = True) -> None:
    """Train until the time is over."""
    torch.manual_seed(seed)
    gru = peer.GRU4Rec(layers=[width], device=torch.device("cpu"), n_epochs=10**6, **SETTINGS)
    passes = [0]

    @torch.no_grad()
    def look() -> None:
        run.pause()
        if measuring:
            gru.model.eval()
            run.note(run.targets / split.targets, measure(split, scorer(split, gru)))
            gru.model.train()
        if run.over:
            raise Stop
        run.go()

    class Measuring(peer.SessionDataIterator):
        def __call__(self, *args, **kwargs):
            run.go()
            for inputs, outputs in super().__call__(*args, **kwargs):
                yield inputs, outputs
                run.targets += len(inputs)  # its update is done: the loop came back for the next
                if run.due:
                    look()
            passes[0] += 1
            look()

    whole, peer.SessionDataIterator = peer.SessionDataIterator, Measuring
    try:
        gru.fit(frame(split))
        raise SystemExit("the loss became NaN")
    except Stop:
        pass
    finally:
        peer.SessionDataIterator = whole


def main(asked) -> None:
    sys.path.insert(0, str(asked.source))
    import gru4rec_pytorch as peer

    commit = subprocess.run(["git", "-C", asked.source, "rev-parse", "HEAD"], capture_output=True, text=True)
    split = read_split(asked.data, asked.set)
    record = facts(
        peer="GRU4Rec_PyTorch_Official",
        set=asked.set,
        commit=commit.stdout.strip(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        seed=asked.seed,
        settings={"layers": [asked.width], **SETTINGS},
        targets_in_a_pass=split.targets,
    )
    run = Run(asked.out, asked.minutes * 60, asked.every, record)
    train(peer, split, run, asked.width, asked.seed)
    speeds = {}
    for width in asked.speed:
        timed = Run(asked.out, SPEED_SECONDS)
        train(peer, split, timed, width, asked.seed, measuring=False)
        speeds[width] = round(timed.targets / timed.seconds)
        run.record["events_per_second_by_width_first_30_seconds"] = speeds
    run.write(finished=True)


if __name__ == "__main__":
    guarded(main)
