"""How far Segue is ahead of a peer, user by user, and how sure that is.

    python benchmarks/peers/compare.py --data DIR --set ml-1m --model FILE.segue --ranks peer-gru4rec-ml-1m.ranks.npy

The model was trained by `benchmarks/quality.py` on the same split, the ranks are what `run.py` kept of the peer where
its validation was best. Prints the mean NDCG@10 of both and the difference with its 95 % interval over users.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
from common import SETS, read_split

import segue
from segue.evaluation.protocols import queries_of, rank_targets
from segue.metrics.bootstrap import paired_bootstrap
from segue.metrics.metrics import ndcg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sets import halves, load

#: The name of a peer's set among ours.
OURS = {"ml-1m": "ml-1m-a", "beauty": "beauty-order"}


def own_ranks(model: Path, data: Path, name: str, timed: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by question, in the order of the peers: Segue's rank of the answer, whose it is, the answer's name."""
    rec = segue.load(model)
    _, test = halves(load(OURS.get(name, name), data), "last")
    asked = queries_of(rec, test)
    ranks = np.concatenate(rank_targets(rec, asked, {}, at_event=timed)["segue"].ranks)
    numbers = [int(re.sub("[^0-9]", "", user)) for user in asked.sequences.users.to_list()]
    users = np.array(numbers)[asked.users]
    order = np.argsort(users, kind="stable")
    names = np.array(["", *rec.items])[asked.targets]
    return ranks[order], users[order], names[order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", required=True, choices=SETS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--ranks", type=Path, required=True)
    parser.add_argument("--timed", action="store_true", help="ask Segue at the time of the event, too")
    asked = parser.parse_args()
    own, users, names = own_ranks(asked.model, asked.data, asked.set, asked.timed)
    other, split = np.load(asked.ranks), read_split(asked.data, asked.set)
    if asked.set != "yoochoose":  # whose rows were counted anew
        wrong = (names != split.answers("test").astype(str)) & (names != "")
        assert not wrong.any(), f"expected the same questions, {wrong.sum()} differ"
    own, other = ndcg(own, k=10), ndcg(other, k=10)
    improvement = paired_bootstrap(own, other, groups=users)
    print(json.dumps({"set": asked.set, "segue": own.mean(), "peer": other.mean(), "improvement": vars(improvement)}))


if __name__ == "__main__":
    main()
