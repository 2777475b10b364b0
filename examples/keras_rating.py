"""The example that recurrent recommenders begin with, in Keras: windows of ratings in, the next rating out.

    pip install "segue[keras]"
    python examples/keras_rating.py                        # SimpleRNN(64) and Dense(1), three seeds
    python examples/keras_rating.py --variant gru lstm --json keras-rating.json
    python examples/keras_rating.py --quick                # a few seconds, on a made-up log

Two networks read the same windows of ten ratings (`segue.windows`):

- `codes`: the code of the user and of the film of each step, as they are, as numbers;
- `embedded`: a learnt vector for each code, and the ratings given before the moment that is asked about.

Both are `SimpleRNN(64)` and `Dense(1)`, Adam, mean squared error, 10 epochs, batches of 32. They learn the
first nine tenths of the log and are asked for every rating of the last tenth, of new users too: empty steps
on the left are masked. What a user rated in the last tenth is read once it lies before the moment asked about.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when Keras is imported

import keras
import numpy as np
import polars as pl

import segue
from segue.data.log.datasets import get
from segue.data.sequences.windows import FEATURES, Windows

UNITS, BATCH, TEST = 64, 32, 0.1
#: Share of the windows whose user, and of the steps whose film, is hidden in training: so a new one has a vector.
HIDDEN = 0.1
LAYERS = {
    "simple_rnn": lambda: keras.layers.SimpleRNN(UNITS),
    "relu": lambda: keras.layers.SimpleRNN(UNITS, activation="relu"),
    "leaky_relu": lambda: keras.layers.SimpleRNN(UNITS, activation=keras.layers.LeakyReLU(negative_slope=0.01)),
    "clipped": lambda: keras.layers.SimpleRNN(UNITS),  # and its gradient cut to a norm of 1
    "gru": lambda: keras.layers.GRU(UNITS),
    "lstm": lambda: keras.layers.LSTM(UNITS),
}
INPUTS = ("codes", "embedded")


def rated_log(quick: bool) -> segue.Events:
    """Return ml-100k, or a small made-up log in which some users like odd films and some even ones."""
    if not quick:
        return segue.read_events(get("ml-100k").events)
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 30, 1500), rng.integers(0, 20, 1500)
    rating = np.where((user + item) % 2, 4.0, 2.0) + rng.integers(0, 2, 1500)
    return segue.read_events(pl.DataFrame({"user": user, "item": item, "rating": rating, "time": np.arange(1500)}))


def codes(length: int, layer: keras.Layer, train: Windows) -> keras.Model:
    """Return the network of the original: two numbers a step."""
    steps = keras.Input((length, len(FEATURES)))
    user_and_film = steps[..., :2]
    memory = layer(user_and_film, mask=keras.ops.not_equal(steps[..., 1], 0))
    return keras.Model(steps, keras.layers.Dense(1)(memory))


def embedded(length: int, layer: keras.Layer, train: Windows) -> keras.Model:
    """Return the network that reads a vector for each code, and the ratings that are shown, less their mean."""
    steps = keras.Input((length, len(FEATURES)))
    users, films = (int(train.features(name).max()) + 2 for name in ("user", "item"))
    user = keras.layers.Embedding(users, 16)(steps[..., 0])
    film = keras.layers.Embedding(films, 32)(steps[..., 1])
    rated = steps[..., 4:]
    rating = (steps[..., 3:4] - float(train.y.mean())) * rated
    read = keras.layers.Concatenate()([user, film, rating, rated])
    memory = layer(read, mask=keras.ops.not_equal(steps[..., 1], 0))
    return keras.Model(steps, keras.layers.Dense(1)(memory))


def read(inputs: str, windows: Windows, train: Windows, hidden: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return what a network reads: for `embedded` with one more code, for every user or film not in the training.

    Codes count up in the order of first appearance, so those that are new after a moment are the highest.
    """
    if inputs == "codes":
        return windows.X
    x, rng = windows.X.copy(), np.random.default_rng(seed)
    for column, places in enumerate(((len(x), 1), x.shape[:2])):  # a user in the whole window, a film in a step
        new = train.X[..., column].max() + 1
        some = (x[..., column] > new) | ((rng.random(places) < hidden) & windows.mask)
        x[..., column] = np.where(some, new, x[..., column])
    return x


def measure(
    train: Windows, test: Windows, inputs: str, variant: str, seed: int, epochs: int, stop: bool = False
) -> dict[str, float | str | int]:
    """Train one network and return its errors on the held-out ratings."""
    keras.utils.set_random_seed(seed)
    watch = {}
    if stop:  # the last tenth of the training, in time, says which epoch to keep
        cut = round(len(train) * (1 - TEST))
        train, watched = train.select(slice(cut)), train.select(slice(cut, None))
        best = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
        watch = {"validation_data": (read(inputs, watched, train), watched.y), "callbacks": [best]}
    model = {"codes": codes, "embedded": embedded}[inputs](train.X.shape[1], LAYERS[variant](), train)
    adam = keras.optimizers.Adam(clipnorm=1.0 if variant == "clipped" else None)
    model.compile(adam, loss="mean_squared_error", steps_per_execution=64)
    begin = time.perf_counter()
    x = read(inputs, train, train, HIDDEN, seed)
    history = model.fit(x, train.y, batch_size=BATCH, epochs=epochs, verbose=0, **watch)
    seconds = time.perf_counter() - begin
    error = model.predict(read(inputs, test, train), batch_size=1000, verbose=0)[:, 0] - test.y
    return {
        "inputs": inputs,
        "variant": variant,
        "seed": seed,
        "rmse": rmse(error),
        "rmse_full": rmse(error[test.full]),
        "epochs": int(np.argmin(history.history["val_loss"])) + 1 if stop else epochs,
        "loss": float(history.history["loss"][-1]),
        "seconds": round(seconds, 1),
    }


def rmse(error: np.ndarray) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))


def table(runs: list[dict], constant: dict[str, float]) -> str:
    """Return the means and standard deviations over seeds, a line for each network."""
    lines = [f"{'':<24}{'every row':>15}{'full windows':>15}{'seconds':>9}"]
    lines.append(f"{'mean of the training':<24}{constant['rmse']:>9.3f}{'':6}{constant['rmse_full']:>9.3f}")
    for key in dict.fromkeys((run["inputs"], run["variant"]) for run in runs):
        own = [run for run in runs if (run["inputs"], run["variant"]) == key]
        cells = []
        for name in ("rmse", "rmse_full"):
            values = [run[name] for run in own]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):>9.3f} ±{spread:.3f}")
        lines.append(f"{', '.join(key):<24}{''.join(cells)}{statistics.mean(run['seconds'] for run in own):>9.0f}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict:
    """Run what the command line asks for, print a table and return all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", nargs="+", choices=list(LAYERS), default=["simple_rnn"])
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=list(INPUTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--length", type=int, default=10)
    parser.add_argument("--stop", action="store_true", help="keep the epoch that predicts the last tenth learnt best")
    parser.add_argument("--json", metavar="FILE", help="keep all numbers")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, a made-up log")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.seeds, asked.epochs = asked.seeds[:1], 1

    log = rated_log(asked.quick)
    windows = segue.windows(log, length=asked.length)
    later = segue.split_by_time(log, test=TEST)[1].table["time"][0]
    train, test = windows.select(windows.times < later), windows.select(windows.times >= later)
    print(f"{log}: {len(train):,} windows to learn, {len(test):,} to predict, {test.full.sum():,} of them full.")

    error = train.y.mean(dtype=np.float64) - test.y
    constant = {"rmse": rmse(error), "rmse_full": rmse(error[test.full])}
    runs = []
    for inputs in asked.inputs:
        for variant in asked.variant:
            for seed in asked.seeds:
                runs.append(measure(train, test, inputs, variant, seed, asked.epochs, asked.stop))
                print(json.dumps(runs[-1]), flush=True)
    print(table(runs, constant))
    result = {
        "settings": {k: v for k, v in vars(asked).items() if k != "json"}
        | {"units": UNITS, "batch": BATCH, "test": TEST, "hidden": HIDDEN},
        "rows": {"train": len(train), "test": len(test), "test_full": int(test.full.sum())},
        "keras": keras.version(),
        "mean_of_the_training": constant,
        "runs": runs,
    }
    if asked.json:
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    return result


if __name__ == "__main__":
    main()
