"""The charts of the page, as SVG of matplotlib (the extra `plot`) whose colours are those of the page."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

#: Colours that matplotlib writes -> the variable of the page that takes their place, light and dark.
INK, SOFT, LINE = "#0000e1", "#0000e2", "#0000e3"
SERIES = tuple(f"#0000f{number}" for number in range(1, 7))
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line"} | {
    colour: f"--s{place}" for place, colour in enumerate(SERIES, start=1)
}
_MARKERS, _LINES = "osD^vP", ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
_WIDTH = 4.4


def colour(place: int) -> str:
    """Return the colour of the model at a place."""
    return SERIES[place % len(SERIES)]


def _drawn(name: str, height: float, draw: Any) -> str:
    """Return the SVG of a chart; `draw` fills its axes."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has the font, not matplotlib
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(linewidth=0.8)
        axes.set_axisbelow(True)
        draw(axes)
        written = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    text = written.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    text = f'<svg {box[0]} role="img" aria-label="{escape(name)}"' + text[text.index(">") :]
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    for colour_of_file, variable in _VARIABLES.items():
        text = text.replace(colour_of_file, f"var({variable})")
    return re.sub(r"\n\s*", "\n", text)


def intervals(rows: Sequence[tuple[str, Mapping[str, float], int | None]], title: str) -> str:
    """Return means with intervals, a row each, best on top: name, values, and the place of a model or None."""

    def draw(axes: Axes) -> None:
        for at, (_, value, place) in enumerate(reversed(rows)):
            paint = SOFT if place is None else colour(place)
            axes.plot([value["low"], value["high"]], [at, at], color=paint, linewidth=2.2, solid_capstyle="round")
            axes.plot([value["mean"]], [at], marker="o" if place is None else _MARKERS[place % 6], color=paint)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(title)

    return _drawn(title, 0.55 + 0.27 * len(rows), draw)


def curves(ks: Sequence[int], lines: Mapping[str, Sequence[float]], bold: Sequence[str], title: str) -> str:
    """Return a metric by the length of the list; the models in `bold` have colours, the others are grey."""

    def draw(axes: Axes) -> None:
        for name, line in lines.items():
            if name not in bold:
                axes.plot(ks, line, color=SOFT, linewidth=0.8, alpha=0.6)
        for place, name in enumerate(bold):
            axes.plot(ks, lines[name], **_line(place), label=_short(name))
        axes.set(xlabel="k, length of the list", ylabel=f"{title}@k", ylim=(0, None), xlim=(0, None))
        axes.legend()

    return _drawn(f"{title} by length of the list", 2.9, draw)


def slices(way: Mapping[str, Any], metric: str, title: str) -> str:
    """Return the metric of each slice with intervals, models beside each other."""
    rows, names = way["rows"], list(way["rows"][0]["models"])

    def draw(axes: Axes) -> None:
        for place, name in enumerate(names):
            shift = (place - (len(names) - 1) / 2) * 0.6 / len(names)
            for at, row in enumerate(rows):
                value = row["models"][name]
                axes.plot([value["low"], value["high"]], [at + shift] * 2, color=colour(place), linewidth=1.6)
            means = [row["models"][name]["mean"] for row in rows]
            axes.plot(
                means,
                np.arange(len(rows)) + shift,
                _MARKERS[place % 6],
                color=colour(place),
                markersize=4.5,
                label=_short(name),
            )
        axes.set_yticks(range(len(rows)), [f"{row['slice'][:28]} ({row['queries']:,})" for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, None)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(metric)
        axes.figure.legend(loc="outside lower center", ncols=3)

    return _drawn(title, 0.9 + 0.3 * len(rows), draw)


def calibration(of: Mapping[str, Sequence[Mapping[str, float]]], x: str, y: str, title: str) -> str:
    """Return what was predicted beside what came, a line for each model, and the line where both are equal."""

    def draw(axes: Axes) -> None:
        ends = [bins[edge]["predicted"] for bins in of.values() for edge in (0, -1)]
        both = [min(ends), max(ends)]
        axes.plot(both, both, color=SOFT, linewidth=1, label="as predicted")
        for place, (name, bins) in enumerate(of.items()):
            points = [[each[key] for each in bins] for key in ("predicted", "observed")]
            axes.plot(*points, **_line(place), marker=_MARKERS[place % 6], markersize=4, label=_short(name))
        axes.set(xlabel=x, ylabel=y)
        axes.legend()

    return _drawn(title, 2.9, draw)


def learning(curves_of: Mapping[str, Sequence[Mapping[str, float]]], metric: str, title: str) -> str:
    """Return a metric after each epoch, a line for each model."""

    def draw(axes: Axes) -> None:
        for place, (name, rows) in enumerate(curves_of.items()):
            known = [(row["epoch"], row[metric]) for row in rows if metric in row]
            if known:
                axes.plot(
                    *zip(*known, strict=True), **_line(place), marker=_MARKERS[place % 6], markersize=3, label=name
                )
        axes.set(xlabel="epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return _drawn(f"{title} by epoch", 2.9, draw)


def _line(place: int) -> dict[str, Any]:
    return {"color": colour(place), "linestyle": _LINES[place % len(_LINES)], "linewidth": 1.8}


def _short(name: str) -> str:
    return name.partition(" (")[0]
