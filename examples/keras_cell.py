"""A recurrent cell of your own, written with Keras, trained and served by Segue.

    pip install "segue[keras]"
    python examples/keras_cell.py            # ml-100k, two minutes
    python examples/keras_cell.py --quick    # a few seconds, on a made-up log

The cell is the minimal gated unit (Zhou et al., 2016), which has one gate where a GRU has two:

    f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)
    n_t = tanh(W_n x_t + U_n (f_t h_{t-1}) + b_n)
    h_t = (1 - f_t) h_{t-1} + f_t n_t

Segue gives it the rest: item vectors, the clock, blocks, training window by window, the softmax over the
catalogue, and a model that names the class. Whoever loads the model imports this file first.
"""

import argparse
import tempfile
from pathlib import Path

import segue
from segue.data.log import synthetic
from segue.data.log.datasets import get
from segue.interop import KerasCell, keras_on_jax

keras = keras_on_jax()


@keras.saving.register_keras_serializable(package="examples")
class MinimalGatedCell(keras.layers.Layer):
    """The minimal gated unit."""

    def __init__(self, units: int, **settings: object) -> None:
        super().__init__(**settings)
        self.units = self.state_size = units

    def build(self, input_shape: tuple) -> None:
        """Make the weights."""
        gates = 2 * self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], gates), initializer="glorot_uniform", name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, gates), initializer="orthogonal", name="recurrent")
        self.bias = self.add_weight(shape=(gates,), initializer="zeros", name="bias")
        self.built = True

    def call(self, inputs: object, states: list) -> tuple:
        """Return the output and the new states."""
        h = states[0]
        x_forget, x_new = keras.ops.split(inputs @ self.kernel + self.bias, 2, axis=-1)
        u_forget, u_new = keras.ops.split(self.recurrent, 2, axis=-1)
        forget = keras.ops.sigmoid(x_forget + h @ u_forget)
        new = keras.ops.tanh(x_new + (forget * h) @ u_new)
        h = (1 - forget) * h + forget * new
        return h, [h]

    def get_config(self) -> dict:
        """Return what `__init__` takes."""
        return super().get_config() | {"units": self.units}


def main(arguments: list[str] | None = None) -> list[segue.Item]:
    """Train, keep, load and ask; print each step and return the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a made-up log: after item i comes item i + 1")
    quick = parser.parse_args(arguments).quick

    files = None if quick else get("ml-100k")
    log = segue.read_events(synthetic.ring().events if files is None else files.events)
    train, _ = segue.split_last(log)
    cell = KerasCell(MinimalGatedCell(16 if quick else 64))
    settings = {"train.epochs": 20} if quick else {"train.minutes": 2}
    rec = segue.train(train, cell=cell, catalogue=files and files.items, config=settings, say=print)
    best = rec.facts["curve"][rec.facts["best_epoch"] - 1]
    print(f"validation NDCG@10 {best['validation']['ndcg@10']:.3f}, {best['events_per_second']:,.0f} events a second")

    with tempfile.TemporaryDirectory() as folder:
        rec.save(Path(folder) / "own.segue")
        rec = segue.load(Path(folder) / "own.segue")
    state = rec.start()
    for item in rec.items[:3]:
        state = rec.observe(state, item)
    found = rec.recommend(state, k=5)
    print(f"after {', '.join(rec.items[:3])}:")
    for line in found:
        print(f"{line.score:7.2f}  {line.item:<5} {line.title or ''}".rstrip())
    return found


if __name__ == "__main__":
    main()
