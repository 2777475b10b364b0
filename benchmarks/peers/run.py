"""Train recommenders on the same data, one after the other, and measure them by the same rule.

    python benchmarks/peers/run.py --data DIR --set ml-1m --peer gru4rec:7 --peer segue:1.4 --out FOLDER [--json]

`--data` is a folder with `ml-1m`, `amazon-beauty-5core`, `yoochoose1_64`. A peer is a name and how many minutes it may
train. `segue` is what is installed here; any other gets an environment of its own in `--work`, with what it needs from
the package index, and its code by `git clone`; both are kept there for the next run. `--source` takes the code from
another place, `--require` fixes a version (`--require torch==2.13.0`). Each record, `peer-NAME-SET.json` in FOLDER,
holds the curve: seconds of training (measuring not counted), targets learnt, HR@10 and NDCG@10 in validation and test;
`peer-NAME-SET.ranks.npy` beside it the ranks of the test where validation was best (`compare.py` reads them), and
`peer-NAME-SET.lists.npy` the twenty best items of each question then.
"""

import argparse
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from common import SETS, write_failure

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Peer:
    """Another's work.

    Attributes:
        needs: what pip installs.
        width: the size of its state or embedding, unless asked otherwise; 0 leaves it to the peer.
        source: the repository of what is on no index.
        env: whose environment it shares, if not its own.
    """

    needs: tuple[str, ...]
    width: int
    source: str | None = None
    env: str | None = None


PEERS = {
    # Its first weights are float64 under NumPy 2, which its model refuses: run it under Python 3.11 or 3.12.
    "gru4rec": Peer(
        ("torch", "numpy<2", "pandas<3"), 256, source="https://github.com/hidasib/GRU4Rec_PyTorch_Official.git"
    ),
    "rectools": Peer(("rectools[torch]", "torch"), 64),
    "hstu": Peer(("rectools[torch]", "torch"), 64, env="rectools"),
    # The version that it was seen to run with.
    "recbole": Peer(("recbole", "torch==2.13.0", "numpy<2", "pandas<3"), 64),
    "segue": Peer((), 0),
}


def environment(name: str, work: Path, needs: list[str]) -> Path:
    """Return the Python of a peer's environment, made where it is missing or was made for other needs."""
    folder = work / f"{name}-env"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    made_for = folder / "needs.txt"
    wanted = "\n".join(needs) + "\n"
    if not made_for.exists() or made_for.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *needs], check=True, stdout=sys.stderr)
        made_for.write_text(wanted)
    return python


def clone(name: str, work: Path, source: str) -> Path:
    """Return the folder of a peer's code, cloned where it is missing."""
    folder = work / f"{name}-code"
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", source, folder], check=True, stdout=sys.stderr)
    return folder


def default_work() -> Path:
    """Return a folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segue-peers"


def run(name: str, minutes: float, asked: argparse.Namespace) -> bool:
    """Train and measure one of them; return whether its record is whole."""
    peer, work = PEERS[name], asked.work.resolve()
    out = asked.out.resolve() / f"peer-{name}-{asked.set}.json"
    python = Path(sys.executable)
    if peer.needs:
        needs = [*peer.needs, *asked.require]
        try:
            python = environment(peer.env or name, work, needs)
        except subprocess.CalledProcessError:
            write_failure(out, f"pip could not install {', '.join(needs)}")
            return False
    command = [python, HERE / f"peer_{name}.py", "--data", asked.data.resolve(), "--set", asked.set, "--out", out]
    command += ["--minutes", minutes, "--every", asked.every, "--seed", asked.seed]
    command += ["--width", asked.width or peer.width]
    if asked.speed:
        command += ["--speed", *asked.speed]
    if peer.source:
        command += ["--source", clone(name, work, asked.source or peer.source)]
    out.unlink(missing_ok=True)
    print(f"== {name}, {minutes:g} minutes of training", file=sys.stderr, flush=True)
    done = subprocess.run([str(word) for word in command], cwd=work, stdout=sys.stderr)
    if done.returncode and not out.exists():
        write_failure(out, f"{name} ended with code {done.returncode} before its first measurement")
    if done.returncode == 0 and asked.json:
        print(out.read_text().strip())
    return done.returncode == 0


def peer_and_minutes(text: str) -> tuple[str, float]:
    """Return what `name:minutes` says; seven minutes where it says none."""
    name, _, minutes = text.partition(":")
    if name not in PEERS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(sorted(PEERS))}, came {name}")
    return name, float(minutes or 7)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", type=peer_and_minutes, action="append", required=True, help="name:minutes")
    parser.add_argument("--set", default="ml-1m", choices=SETS)
    parser.add_argument("--out", type=Path, required=True, help="keep the records in this folder")
    parser.add_argument("--json", action="store_true", help="print them too")
    parser.add_argument("--work", type=Path, default=default_work())
    parser.add_argument("--source", help="folder or address to clone the peer from")
    parser.add_argument("--require", action="append", default=[], help="a further requirement of pip")
    parser.add_argument("--width", type=int, help="size of the state or embedding")
    parser.add_argument("--speed", type=int, nargs="*", default=[], help="widths to time for 30 seconds each")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between measurements within a pass")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for folder in (asked.work, asked.out):
        folder.mkdir(parents=True, exist_ok=True)
    done = [run(name, minutes, asked) for name, minutes in asked.peer]  # one that fails keeps no other from running
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
