"""Numbers as figures of matplotlib (the extra `plot`), made without global state or a screen."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from segue.insight.clipping import Descent
from segue.insight.gates import Openings, half_lives
from segue.insight.reach import Reach
from segue.insight.spread import Spread

#: Colours that the colour-blind can tell apart (Okabe and Ito, 2008), the same for a cell in every figure.
COLOURS = {
    "simple_rnn:tanh": "#D55E00",
    "simple_rnn:relu": "#E69F00",
    "simple_rnn:leaky_relu": "#CC79A7",
    "linear": "#0072B2",
    "gru": "#009E73",
    "lstm": "#56B4E9",
}
_LINES = {"simple_rnn:leaky_relu": "--"}
_GAINS = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00")
_GREY = "#555555"


def _axes(rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (7.4, 4.2), **shared: Any) -> list[Axes]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False, **shared)))
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    return axes


def _plain_ticks(axes: Axes, places: Sequence[int]) -> None:
    low, high = axes.get_xlim()
    axes.set_xticks([at for at in places if low <= at <= high], [str(at) for at in places if low <= at <= high])
    axes.minorticks_off()


def _figure(axes: Axes, title: str = "") -> Figure:
    figure = axes.figure
    assert isinstance(figure, Figure)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _fading(axes: Axes, gradient: Spread, **style: Any) -> None:
    """Draw a gradient relative to that at lag 0, on a scale of powers of ten."""
    tiny = np.finfo(np.float64).tiny
    whole = max(gradient.median[0], tiny)
    middle, low, high = (np.maximum(line, tiny) / whole for line in (gradient.median, gradient.low, gradient.high))
    axes.fill_between(gradient.at, low, high, alpha=0.15, color=style["color"], linewidth=0)
    axes.plot(gradient.at, middle, linewidth=1.8, **style)


def gradients_figure(by_cell: Mapping[str, Spread]) -> Figure:
    """Return the gradient by lag of some cells."""
    (axes,) = _axes()
    for name, gradient in sorted(by_cell.items(), key=lambda pair: -pair[1].median[-1]):
        _fading(axes, gradient, color=COLOURS[name], linestyle=_LINES.get(name, "-"), label=name)
    axes.set(yscale="log", ylim=(1e-16, 10), xlabel="lag: steps between an input and the loss")
    axes.set_ylabel("length of the gradient, lag 0 = 1")
    axes.set_title("How much of the gradient arrives at an input, by its age", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return _figure(axes)


def gains_figure(by_activation: Mapping[str, Mapping[float, Spread]]) -> Figure:
    """Return the gradient by lag of the plain recurrence, a panel for each activation, a line for each gain."""
    panels = _axes(1, len(by_activation), size=(8.6, 3.6), sharey=True)
    for axes, (activation, by_gain) in zip(panels, by_activation.items(), strict=True):
        for (gain, gradient), colour in zip(by_gain.items(), _GAINS, strict=False):
            _fading(axes, gradient, color=colour, label=f"gain {gain:g}")
        axes.axhline(1.0, color=_GREY, linewidth=0.8)
        axes.set(yscale="log", ylim=(1e-16, 1e12), xlabel="lag: steps back")
        axes.set_title(activation, fontsize=10)
    panels[0].set_ylabel("length of the gradient, lag 0 = 1")
    panels[0].legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
    return _figure(panels[0], "The plain recurrence: a product of Jacobians vanishes or explodes")


def clipping_figure(runs: Sequence[Descent]) -> Figure:
    """Return the gradient's length and the loss of runs with and without clipping."""
    left, right = _axes(1, 2, size=(8.6, 3.7))
    for run, colour in zip(runs, ("#0072B2", "#D55E00"), strict=False):
        name = "not clipped" if run.clip is None else f"clipped to {run.clip:g}"
        updates = np.arange(1, len(run.loss) + 1)
        mark = "o" if len(updates) < 5 else None
        left.plot(updates, run.before, color=colour, marker=mark, linewidth=1.2, label=f"{name}: as it came")
        right.plot(updates, run.loss, color=colour, marker=mark, linewidth=1.5, label=name)
        if run.clip is not None:
            left.plot(updates, run.after, color=_GREY, linewidth=1.2, label=f"{name}: as it was used")
        if len(updates) < max(len(other.loss) for other in runs):
            note = f"not clipped: after {len(updates)} update{'s' * (len(updates) != 1)}\nthe loss is no number"
            place = (updates[-1], run.loss[-1]) if len(updates) else (1, 1)
            right.annotate(note, place, (25, -25), textcoords="offset points", fontsize=9, color=colour)
    left.set(title="length of the gradient of all weights")
    right.set(title="loss, nats")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="update")
        _plain_ticks(axes, (1, 2, 5, 10, 20, 50, 100, 200))
        axes.title.set_fontsize(10)
        axes.legend(frameon=False, fontsize=9, loc="upper right")
    return _figure(left)


def gates_figure(openings: Openings) -> Figure:
    """Return how far each block keeps its channels, event by event, and for how long."""
    blocks = len(openings.blocks)
    panels = _axes(blocks, 2, size=(8.8, 2.5 * blocks + 0.6), width_ratios=[3, 1])
    for block, gates in enumerate(openings.blocks):
        keep = gates["keep"]
        order = np.argsort(np.median(keep, axis=0))
        axes, beside = panels[2 * block : 2 * block + 2]
        image = axes.imshow(keep[:, order].T, aspect="auto", vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
        axes.set_ylabel(f"block {block + 1}: channels")
        axes.set_yticks([])
        axes.grid(visible=False)
        _figure(axes).colorbar(image, ax=axes, label="kept", pad=0.01)
        beside.plot(np.arange(keep.shape[1]), np.sort(half_lives(keep)), color="#0072B2")
        beside.set(yscale="log", ylim=(0.1, 2000), ylabel="half-life, events")
    panels[-2].set_xlabel("events of one user, oldest first")
    panels[-1].set_xlabel("channels, sorted")
    return _figure(panels[0], "The keep gate: what each channel carries through each event")


def reach_figure(influence: Reach, gradient: Spread | None) -> Figure:
    """Return the influence of an earlier event on the list, by lag."""
    left, middle, right = _axes(1, 3, size=(9.6, 3.4))
    lags = np.array(influence.change.at) + 1
    left.fill_between(lags, influence.change.low, influence.change.high, alpha=0.2, color="#0072B2", linewidth=0)
    left.plot(lags, influence.change.median, color="#0072B2", label="median, and 10 to 90 %")
    left.plot(lags, influence.mean, color="#D55E00", linestyle="--", label="mean")
    left.set(ylabel="change, nats", title="log-probability of what came next")
    left.legend(frameon=False, fontsize=8)
    middle.plot(lags, 100 * np.array(influence.new_in_list), color="#0072B2")
    middle.set(ylabel="%", ylim=(0, None), title="of the first ten that are new")
    if gradient is not None:
        right.fill_between(
            np.array(gradient.at) + 1, gradient.low, gradient.high, alpha=0.2, color="#009E73", linewidth=0
        )
        right.plot(np.array(gradient.at) + 1, gradient.median, color="#009E73")
    right.set(yscale="log", title="gradient at the input")
    for axes in (left, middle, right):
        axes.set(xscale="log", xlabel="events ago")
        _plain_ticks(axes, (1, 2, 5, 10, 20, 50, 100, 200))
        axes.title.set_fontsize(10)
    return _figure(left, "What leaving one event out changes, by how long ago it was")


def recall_figure(rows: Sequence[Mapping[str, Any]], chance: float) -> Figure:
    """Return recall on the copy task by lag, a line for each cell."""
    (axes,) = _axes()
    for name in dict.fromkeys(row["cell"] for row in rows):
        points = sorted((row["lag"], row["recall"]) for row in rows if row["cell"] == name)
        lags, recall = zip(*points, strict=True)
        axes.plot(lags, recall, color=COLOURS[name], linestyle=_LINES.get(name, "-"), marker="o", label=name)
    places = sorted({row["lag"] for row in rows})
    axes.axhline(chance, color=_GREY, linewidth=1, linestyle=":")
    axes.annotate("chance", (places[0], chance), (0, -12), textcoords="offset points", fontsize=9, color=_GREY)
    axes.set(ylim=(0, 1.05), xscale="log", xlabel="lag: events from a cue to its return", ylabel="recall")
    _plain_ticks(axes, places)
    axes.set_title("Copy task: how often the cue is recalled over noise", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    return _figure(axes)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG of 256 colours, a third of the size of all of them."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(256).save(path, optimize=True)
