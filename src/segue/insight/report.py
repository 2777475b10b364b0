"""The insights into cells or into a model: numbers, figures, and a page that shows them."""

import html
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segue.data.sequences.sequences import Sequences
from segue.errors import ArgumentError
from segue.insight.cell_choices import NAMES, cell_of
from segue.insight.clipping import descend
from segue.insight.gates import gate_openings, half_lives, has_gates
from segue.insight.gradients import gradient_by_lag, gradient_in_network
from segue.insight.reach import drawn_histories, reach
from segue.insight.recall import recall_at
from segue.model.cells import Cell, SimpleRNN
from segue.recommend.recommender import Recommender

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Scales of the recurrent matrix at which the plain recurrence is measured.
GAINS = (0.8, 1.0, 1.2, 1.5)
#: What clipping is shown with: a gain at which the gradient of a ReLU explodes, and the clip of the product.
CLIPPED_GAIN, CLIP = 1.5, 1.0
CUES = 4


@dataclass(frozen=True)
class Insight:
    """A figure with its numbers and its explanation.

    Args:
        name: of the files.
        title: in words.
        text: what to see in the figure.
        numbers: what the figure shows, as JSON would hold it.
        figure: the figure.
    """

    name: str
    title: str
    text: str
    numbers: Any
    figure: "Figure"


def cell_insights(
    names: Sequence[str] = NAMES, *, recall: Sequence[int] = (), epochs: int = 25, seed: int = 0
) -> Iterator[Insight]:
    """Yield insights into cells with fresh weights, one after the other.

    Args:
        names: of the cells, see `segue.insight.cell_choices.NAMES`.
        recall: lags of the copy task; each is a training run for each cell.
        epochs: of these runs.
        seed: of all that is drawn.

    Raises:
        ArgumentError: there is no such cell, a lag is below 2, or matplotlib is not installed.

    Cost: some seconds for each cell; with `recall` a training run for each cell and lag.
    """
    draw = _drawing()
    cells: dict[str, Cell | SimpleRNN] = {_full(name): cell_of(name) for name in names}
    if any(lag < 2 for lag in recall):
        raise ArgumentError(f"recall: expected lags from 2, came {min(recall)}. A lag of 20 tells cells apart.")
    by_cell = {name: gradient_by_lag(cell, seed=seed) for name, cell in cells.items()}
    yield Insight(
        "gradient-by-lag",
        "The gradient by lag, before anything is learnt",
        "The gradient of the loss at one step, with respect to inputs ever further back: the median of 64 random "
        "sequences, 80 % of them in the band. A straight line down is a product of Jacobians that shrink. The plain "
        "recurrence and the fresh GRU lose the gradient within tens of steps. A forget bias (LSTM) slows the loss; "
        "decays spread up to hundreds of steps (linear) stop it.",
        {name: asdict(gradient) for name, gradient in by_cell.items()},
        draw.gradients_figure(by_cell),
    )
    plain = {cell.activation: cell for cell in cells.values() if isinstance(cell, SimpleRNN)}
    if plain:
        by_gain = {
            name: {gain: gradient_by_lag(cell, gain=gain, seed=seed) for gain in GAINS} for name, cell in plain.items()
        }
        yield Insight(
            "gradient-by-gain",
            "Vanishing and exploding",
            "The same gradient in the plain recurrence, with its recurrent matrix scaled by a gain. Tanh bounds the "
            "memory, so the gradient vanishes at every gain, only slower. ReLU is unbounded: with a little more gain "
            "the gradient explodes.",
            {name: {str(gain): asdict(line) for gain, line in lines.items()} for name, lines in by_gain.items()},
            draw.gains_figure(by_gain),
        )
        name = "relu" if "relu" in plain else next(iter(plain))
        runs = [descend(plain[name], clip=clip, gain=CLIPPED_GAIN, seed=seed) for clip in (CLIP, None)]
        yield Insight(
            "clipping",
            f"Clipping, plain gradient descent with {name}",
            f"The copy task, gain {CLIPPED_GAIN}, 54 steps back. Clipped to length {CLIP:g}, the gradient keeps its "
            "direction, each step keeps its size, and the network learns. Without clipping, one step ends the run.",
            [asdict(run) for run in runs],
            draw.clipping_figure(runs),
        )
    if recall:
        rows = [recall_at(name, lag, epochs=epochs, seed=seed, cues=CUES) for lag in recall for name in cells]
        yield Insight(
            "recall-by-lag",
            "Recall on the copy task",
            f"How often a trained network recalls the cue. In the copy task one of {CUES} cues comes back after some "
            f"random events. Chance is {1 / CUES:.2f}, the best is 1. Width 32, one block, {epochs} "
            f"epoch{'s' * (epochs > 1)} of 1,000 users; measured on users that training never met.",
            [row | {"recall": row["recall"] if np.isfinite(row["recall"]) else None} for row in rows],
            draw.recall_figure(rows, 1 / CUES),
        )


def model_insights(
    rec: Recommender, sequences: Sequences | None = None, *, user: int = 0, longest: int = 50, seed: int = 0
) -> Iterator[Insight]:
    """Yield insights into a trained network.

    Args:
        rec: what was trained.
        sequences: histories, in its terms; None draws some from the network itself.
        user: whose gates are shown, by their place in `sequences`.
        longest: how many events back to look; less where half of the users do not have so many.
        seed: of all that is drawn.

    Raises:
        ArgumentError: histories are too short, or matplotlib is not installed.

    Cost: some readings of the histories' last events, and one backward pass.
    """
    draw = _drawing()
    whose = "users of the log" if sequences is not None else "histories drawn from the network itself"
    if sequences is None:
        sequences = drawn_histories(rec, events=min(longest + 2, len(rec.items)), seed=seed)
    half = int(np.quantile(sequences.lengths, 0.5)) if len(sequences) else 0
    if half < 3:
        raise ArgumentError(
            f"insight: expected half of the users to have 3 events or more, came a median of {half}. Give a longer log."
        )
    longest = min(longest, half - 2)
    influence = reach(rec, sequences, longest=longest, seed=seed)
    gradient = gradient_in_network(rec, sequences, longest=longest)
    yield Insight(
        "reach",
        "How far back the model remembers",
        f"One event is left out of each history, and the lists are compared ({influence.users:,} {whose}). At the "
        "right: the gradient of the loss at the input of each event, through all blocks. Where the curves fall early, "
        "only the last events count. Where they fall slowly, older events count as well.",
        {"reach": asdict(influence), "gradient": asdict(gradient)},
        draw.reach_figure(influence, gradient),
    )
    if not has_gates(rec):
        return
    shown = sequences.select(np.array([user]))
    last = np.arange(len(shown.items)) >= len(shown.items) - 200
    openings = gate_openings(rec, shown.keep(last))
    kept = [half_lives(gates["keep"]).round(2).tolist() for gates in openings.blocks]
    blocks = [{name: gate.round(3).tolist() for name, gate in gates.items()} for gates in openings.blocks]
    yield Insight(
        "gates",
        "What the gates keep",
        "Each row is a channel of the memory, each column an event of one user. Bright channels are kept, dark ones "
        "are overwritten. At the right: the half-life of each channel in events. Most decay fast, some slowly.",
        {"items": list(openings.items), "half_lives": kept, "gates": blocks},
        draw.gates_figure(openings),
    )


def write_report(insights: Iterable[Insight], folder: Path, *, title: str, say: Callable[[str], None]) -> None:
    """Write a figure and its numbers for each insight, and a page of all of them; `say` gets a line for each file."""
    draw = _drawing()
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for insight in insights:
        draw.save_figure(insight.figure, folder / f"{insight.name}.png")
        (folder / f"{insight.name}.json").write_text(json.dumps(insight.numbers) + "\n", encoding="utf-8")
        say(f"{folder / insight.name}.png: {insight.title}")
        shown.append(insight)
    (folder / "index.html").write_text(_page(title, shown), encoding="utf-8")
    say(f"{folder / 'index.html'}: all figures with explanations")


def _page(title: str, insights: Sequence[Insight]) -> str:
    parts = [
        f'<h2>{html.escape(each.title)}</h2><p>{html.escape(each.text)}</p><img src="{each.name}.png" '
        f'alt="{html.escape(each.title)}"><p><a href="{each.name}.json">the numbers</a></p>'
        for each in insights
    ]
    style = "body{font:16px/1.5 system-ui;max-width:56rem;margin:2rem auto;padding:0 1rem}img{max-width:100%}"
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{style}</style>'
    body = f"<h1>{html.escape(title)}</h1>{''.join(parts)}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _full(name: str) -> str:
    return "simple_rnn:tanh" if name == "simple_rnn" else name


def _drawing() -> Any:
    try:
        return importlib.import_module("segue.insight.figures")
    except ImportError:
        raise ArgumentError(
            'insight: expected the extra for figures, matplotlib is not installed. Run: pip install "segue[plot]"'
        ) from None
