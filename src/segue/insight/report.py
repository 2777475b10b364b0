"""Looking at cells or at a model: numbers, figures, and a page that shows them.

Knows: which looks there are, in what order, and what to see in each. Does not know: how they are computed or drawn.
"""

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

#: Scales of the recurrent matrix at which the plain recurrence is looked at.
GAINS = (0.8, 1.0, 1.2, 1.5)
#: What clipping is shown with: a gain at which the gradient of a ReLU explodes, and the clip of the product.
CLIPPED_GAIN, CLIP = 1.5, 1.0
CUES = 4


@dataclass(frozen=True)
class Look:
    """One thing looked at.

    Args:
        name: of the files.
        title: in words.
        seen: what to see in it.
        numbers: what the figure shows, as JSON would hold it.
        figure: the figure.
    """

    name: str
    title: str
    seen: str
    numbers: Any
    figure: "Figure"


def look_at_cells(
    names: Sequence[str] = NAMES, *, recall: Sequence[int] = (), passes: int = 25, seed: int = 0
) -> Iterator[Look]:
    """Yield what there is to see of cells with fresh weights, one after the other.

    Args:
        names: of the cells, see `segue.insight.cell_choices.NAMES`.
        recall: lags of the copy task; each is a training run for each cell.
        passes: of these runs.
        seed: of all that is drawn.

    Raises:
        ArgumentError: there is no such cell, a lag is below 2, or matplotlib is not installed.

    Cost: some seconds for each cell; with `recall` a training run for each cell and lag.
    """
    draw = _drawing()
    cells: dict[str, Cell | SimpleRNN] = {_full(name): cell_of(name) for name in names}
    if any(lag < 2 for lag in recall):
        raise ArgumentError(f"recall: expected lags from 2, came {min(recall)}. 20 is one that tells cells apart.")
    by_cell = {name: gradient_by_lag(cell, seed=seed) for name, cell in cells.items()}
    yield Look(
        "gradient-by-lag",
        "The gradient by lag, before anything is learnt",
        "The gradient of the loss at one step, at inputs ever further back (median of 64 random sequences, eight in "
        "ten in the band). A straight line down is a product of Jacobians that shrink: the plain recurrence and the "
        "fresh GRU lose in tens of steps what they could have learnt from. A forget bias (LSTM) slows that; decays "
        "spread up to hundreds of steps (linear) stop it.",
        {name: asdict(found) for name, found in by_cell.items()},
        draw.gradients_figure(by_cell),
    )
    plain = {cell.activation: cell for cell in cells.values() if isinstance(cell, SimpleRNN)}
    if plain:
        by_gain = {
            name: {gain: gradient_by_lag(cell, gain=gain, seed=seed) for gain in GAINS} for name, cell in plain.items()
        }
        yield Look(
            "gradient-by-gain",
            "Vanishing and exploding",
            "The same of the plain recurrence, its recurrent matrix scaled by a gain. Tanh bounds the memory, so its "
            "gradient vanishes at every gain, only slower. ReLU is unbounded: a little more gain, and it explodes.",
            {name: {str(gain): asdict(one) for gain, one in found.items()} for name, found in by_gain.items()},
            draw.gains_figure(by_gain),
        )
        name = "relu" if "relu" in plain else next(iter(plain))
        runs = [descend(plain[name], clip=clip, gain=CLIPPED_GAIN, seed=seed) for clip in (CLIP, None)]
        yield Look(
            "clipping",
            f"Clipping, plain gradient descent with {name}",
            f"The copy task, gain {CLIPPED_GAIN}, 54 steps back. Clipped to length {CLIP:g}, a gradient keeps its "
            "direction and the step its size, and the run goes on to learn. As it came, one step ends it.",
            [asdict(run) for run in runs],
            draw.clipping_figure(runs),
        )
    if recall:
        rows = [recall_at(name, lag, passes=passes, seed=seed, cues=CUES) for lag in recall for name in cells]
        yield Look(
            "recall-by-lag",
            "Recall on the copy task",
            f"Whether training brings it off: one of {CUES} cues comes back after a number of random events. Chance is "
            f"{1 / CUES:.2f}, best is 1. Width 32, one block, {passes} pass{'es' * (passes > 1)} over 1,000 users; "
            "users never met asked.",
            [row | {"recall": row["recall"] if np.isfinite(row["recall"]) else None} for row in rows],
            draw.recall_figure(rows, 1 / CUES),
        )


def look_at_model(
    rec: Recommender, sequences: Sequences | None = None, *, user: int = 0, longest: int = 50, seed: int = 0
) -> Iterator[Look]:
    """Yield what there is to see of a trained network.

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
            f"look: expected half of the users to have 3 events or more, came a median of {half}. Give a longer log."
        )
    longest = min(longest, half - 2)
    found = reach(rec, sequences, longest=longest, seed=seed)
    gradient = gradient_in_network(rec, sequences, longest=longest)
    yield Look(
        "reach",
        "How far back it looks",
        f"One event is left out of a history, and the answer is compared ({found.users:,} {whose}). Beside it the "
        "gradient of the loss at the input of each event, through all blocks. Where the curves level off at the left, "
        "only the last events count; where they fall slowly, a long past does.",
        {"reach": asdict(found), "gradient": asdict(gradient)},
        draw.reach_figure(found, gradient),
    )
    if not has_gates(rec):
        return
    shown = sequences.select(np.array([user]))
    last = np.arange(len(shown.items)) >= len(shown.items) - 200
    openings = gate_openings(rec, shown.keep(last))
    kept = [half_lives(gates["keep"]).round(2).tolist() for gates in openings.blocks]
    blocks = [{name: gate.round(3).tolist() for name, gate in gates.items()} for gates in openings.blocks]
    yield Look(
        "gates",
        "What the gates keep",
        "Each row is a channel of the memory, each column an event of one user; bright is kept, dark is overwritten. "
        "To the right, after how many events half of what a channel holds is left: few for most, many for some.",
        {"items": list(openings.items), "half_lives": kept, "gates": blocks},
        draw.gates_figure(openings),
    )


def write_looks(looks: Iterable[Look], folder: Path, *, title: str, say: Callable[[str], None]) -> None:
    """Write a figure and its numbers for each look, and a page of all of them; each is told when it is there."""
    draw = _drawing()
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for look in looks:
        draw.save_figure(look.figure, folder / f"{look.name}.png")
        (folder / f"{look.name}.json").write_text(json.dumps(look.numbers) + "\n", encoding="utf-8")
        say(f"{folder / look.name}.png: {look.title}")
        shown.append(look)
    (folder / "index.html").write_text(_page(title, shown), encoding="utf-8")
    say(f"{folder / 'index.html'}: all of them, with what to see")


def _page(title: str, looks: Sequence[Look]) -> str:
    parts = [
        f'<h2>{html.escape(look.title)}</h2><p>{html.escape(look.seen)}</p><img src="{look.name}.png" '
        f'alt="{html.escape(look.title)}"><p><a href="{look.name}.json">the numbers</a></p>'
        for look in looks
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
            'look: expected the extra for figures, matplotlib is not installed. Run: pip install "segue[plot]"'
        ) from None
