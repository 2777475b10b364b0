"""Train another recommender on the same data, and measure it by the same rule as ours.

    python benchmarks/peers/run.py --data DIR --set ml-1m --peer gru4rec --minutes 7 --out FILE.json [--json]

`--data` is a folder with `ml-1m`, `amazon-beauty-5core`, `yoochoose1_64`. The peer gets an environment of its own in
`--work`, with what it needs from the package index, and its code by `git clone`; both are kept there for the next run.
`--source` takes the code from another place, `--require` fixes a version (`--require torch==2.13.0`). The record holds
the curve: seconds of training (measuring not counted), targets learnt, HR@10 and NDCG@10 in validation and test.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from common import write_failure

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Peer:
    """Another's work.

    Attributes:
        needs: what pip installs.
        source: the repository of what is on no index.
        width: the size of its state or embedding, unless asked otherwise.
    """

    needs: tuple[str, ...]
    width: int
    source: str | None = None


PEERS = {
    # Its first weights are float64 under NumPy 2, which its model refuses: run it under Python 3.11 or 3.12.
    "gru4rec": Peer(
        ("torch", "numpy<2", "pandas<3"), 256, source="https://github.com/hidasib/GRU4Rec_PyTorch_Official.git"
    ),
    "rectools": Peer(("rectools[torch]", "torch"), 64),
    "recbole": Peer(("recbole", "torch", "numpy<2", "pandas<3"), 64),
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", required=True, choices=sorted(PEERS))
    parser.add_argument("--set", default="ml-1m", choices=["ml-1m", "beauty", "yoochoose"])
    parser.add_argument("--minutes", type=float, default=7.0, help="of training")
    parser.add_argument("--out", type=Path, required=True, help="keep the JSON here")
    parser.add_argument("--json", action="store_true", help="print it too")
    parser.add_argument("--work", type=Path, default=default_work())
    parser.add_argument("--source", help="folder or address to clone the peer from")
    parser.add_argument("--require", action="append", default=[], help="a further requirement of pip")
    parser.add_argument("--width", type=int, help="size of the state or embedding")
    parser.add_argument("--speed", type=int, nargs="*", default=[], help="widths to time for 30 seconds each")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between measurements within a pass")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    peer, work, out = PEERS[asked.peer], asked.work.resolve(), asked.out.resolve()
    work.mkdir(parents=True, exist_ok=True)
    try:
        python = environment(asked.peer, work, [*peer.needs, *asked.require])
    except subprocess.CalledProcessError:
        write_failure(out, f"pip could not install {', '.join([*peer.needs, *asked.require])}")
        return 1
    command = [python, HERE / f"peer_{asked.peer}.py", "--data", asked.data.resolve(), "--set", asked.set, "--out", out]
    command += ["--minutes", asked.minutes, "--every", asked.every, "--seed", asked.seed]
    command += ["--width", asked.width or peer.width]
    if asked.speed:
        command += ["--speed", *asked.speed]
    if peer.source:
        command += ["--source", clone(asked.peer, work, asked.source or peer.source)]
    out.unlink(missing_ok=True)
    done = subprocess.run([str(word) for word in command], cwd=work, stdout=sys.stderr)
    if done.returncode and not out.exists():
        write_failure(out, f"{asked.peer} ended with code {done.returncode} before its first measurement")
    if done.returncode == 0 and asked.json:
        print(json.dumps(json.loads(out.read_text())))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
