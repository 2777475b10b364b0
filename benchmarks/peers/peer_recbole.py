"""GRU4Rec of RecBole with its own settings: every event is a sample of its own, read from the last 50 before it."""

import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from common import Run, Split, Stop, blocks, facts, guarded, measure, read_split

#: The names are the peer's own.
SETTINGS = {
    "loss_type": "CE",
    "train_neg_sample_args": None,
    "hidden_size": 128,
    "num_layers": 1,
    "dropout_prob": 0.3,
    "MAX_ITEM_LIST_LENGTH": 50,
    "train_batch_size": 2048,
    "learning_rate": 0.001,
}


def write_log(split: Split, folder: Path) -> None:
    """Write the log as the peer reads it; its own leave-one-out then learns the same events."""
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [
        f"{user}\t{item}\t{place}" for place, (user, item) in enumerate(zip(split.owner, split.items, strict=True))
    ]
    (folder / "log").mkdir()
    (folder / "log" / "log.inter").write_text("\n".join(lines) + "\n")


def scorer(split: Split, model, dataset):
    """Return the function of a part that yields the scores of all users, in blocks."""
    known = np.unique(split.items)
    rows = np.zeros(split.n_items, np.int64)
    rows[known] = dataset.token2id("item_id", known.astype(str))
    # What only held-out events name has a row too, but was not learnt.
    known = np.unique(split.items[split.learnt])
    longest = SETTINGS["MAX_ITEM_LIST_LENGTH"]

    def score(part: str):
        for users in blocks(len(split.asked[part])):
            x, lengths = np.zeros((len(users), longest), np.int64), np.zeros(len(users), np.int64)
            for n, user in enumerate(users):
                read = rows[split.history(user, part)][-longest:]
                x[n, : len(read)], lengths[n] = read, len(read)
            asked = {model.ITEM_SEQ: torch.from_numpy(x), model.ITEM_SEQ_LEN: torch.from_numpy(lengths)}
            scores = np.full((len(users), split.n_items), -np.inf, np.float32)
            scores[:, known] = model.full_sort_predict(asked).numpy()[:, rows[known]]
            yield users, scores

    return score


def main(asked) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.sequential_recommender import GRU4Rec
    from recbole.utils import init_seed

    split = read_split(asked.data, asked.set)
    settings = {"embedding_size": asked.width, **SETTINGS}
    record = facts(
        peer="RecBole GRU4Rec",
        set=asked.set,
        recbole=version("recbole"),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        seed=asked.seed,
        settings=settings,
        targets_in_a_pass=split.targets,
    )
    run = Run(asked.out, asked.minutes * 60, asked.every, record)
    with tempfile.TemporaryDirectory() as folder:
        write_log(split, Path(folder))
        reading = {
            "data_path": folder,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
            "seed": asked.seed,
            "use_gpu": False,
            "show_progress": False,
        }
        # It reads the command line for settings of its own: none of ours is one.
        config = Config(model="GRU4Rec", dataset="log", config_dict={**settings, **reading})
        init_seed(asked.seed, True)
        dataset = create_dataset(config)
        batches, _, _ = data_preparation(config, dataset)
    model = GRU4Rec(config, batches.dataset)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])

    @torch.no_grad()
    def look() -> None:
        run.pause()
        model.eval()
        run.note(run.targets / split.targets, measure(split, scorer(split, model, dataset)))
        model.train()
        if run.over:
            raise Stop
        run.go()

    model.train()
    try:
        while True:
            run.go()
            for batch in batches:
                optimiser.zero_grad()
                model.calculate_loss(batch).backward()
                optimiser.step()
                run.targets += len(batch)
                if run.due:
                    look()
            look()
    except Stop:
        pass
    run.write(finished=True)


if __name__ == "__main__":
    guarded(main)
