"""Write the model that every later version must read, and beside it what it holds and answers.

    PYTHONPATH=src python tests/golden/make_model.py

It is run once for each format, by the version that wrote that format. A model that is there already is not replaced,
or it would prove nothing. The shop is a ring: after `i3` comes `i4`, and after the last the first.
"""

import json
from pathlib import Path

import polars as pl

import segue
from segue.data.log import synthetic
from segue.files import read_arrays
from segue.model_file import FORMAT
from segue.recommend.recommender import Recommender

HERE = Path(__file__).parent
#: The model that this version writes: its format, and which names of settings it holds.
WRITTEN = HERE / f"model-v{FORMAT}-trends.segue"
ITEMS = 6
SETTINGS = {
    "model.width": 8,
    "model.depth": 1,
    "model.dropout": 0.0,
    "train.epochs": 4,
    "train.batch_size": 8,
    "train.learning_rate": 0.03,
    "experiment.weight_average": 0.9,
    "train.repeats": "allow",
}
#: Histories to be asked for a list: (item, time) of each event, then the time of the question; None is unknown.
ASKED: list[dict] = [
    {"events": [], "at": None},
    {"events": [["i3", None], ["i4", None]], "at": None},
    {"events": [["i4", 1_700_000_000], ["nobody has seen this", 1_700_000_200], ["i5", 1_700_000_300]], "at": None},
    {"events": [["i0", 1_700_000_000], ["i1", 1_700_000_200]], "at": 1_700_003_800},
]


def trained() -> Recommender:
    events = segue.read_events(synthetic.ring(items=ITEMS, users=200, length=10).events)
    titles = pl.DataFrame({"item": [f"i{i}" for i in range(ITEMS)], "title": [f"Stop {i}" for i in range(ITEMS)]})
    return segue.train(events, catalogue=titles, config=SETTINGS)


def answer(rec: Recommender, asked: dict) -> list[list]:
    """Return the whole list for a history: id, score and title of each line, best first."""
    state = rec.start()
    for item, time in asked["events"]:
        state = rec.observe(state, item, time=time)
    return [[line.item, round(line.score, 6), line.title] for line in rec.recommend(state, ITEMS, at=asked["at"])]


def held(path: Path) -> dict:
    """Return what is in a model and what it answers."""
    arrays, _ = read_arrays(path)
    rec = segue.load(path)
    return {
        "fingerprint": rec.fingerprint,
        "items": rec.items,
        "repeats": rec.repeats,
        "weights": {name: list(array.shape) for name, array in sorted(arrays.items()) if name.startswith("weights.")},
        "other parts": sorted(name for name in arrays if not name.startswith("weights.")),
        "answers": [{**asked, "list": answer(rec, asked)} for asked in ASKED],
    }


def main() -> None:
    path = WRITTEN
    if path.exists():
        raise SystemExit(f"{path} is there already and is kept: it stands for the version that wrote it.")
    trained().save(path)
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in held(path).items()]
    path.with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
