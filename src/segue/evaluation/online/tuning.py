"""The tuning of online baselines: settings are tried on the last part of the training events, read on as the test is.

Knows: the search, and how long it takes. Does not know: any test event.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np

from segue.evaluation.online.contract import OnlineBaseline, Say, read_on
from segue.evaluation.online.decayed_counts import OnlinePopularity, OnlineSum, OnlineTransitions
from segue.evaluation.online.neighbours import OnlineItemKNN, OnlineSessionKNN
from segue.evaluation.online.stream_log import StreamLog
from segue.metrics.coordinate_search import coordinate_search
from segue.metrics.metrics import ndcg

#: The share of the training events that are read on for each trial, and at most so many.
SHARE, MOST = 0.1, 50_000
#: Of these at most so many are ranked, spread evenly.
QUERIES = 5_000
#: Settings that are tried of each baseline.
TRIALS = 16


def validation_begin(log: StreamLog, end: int) -> int:
    """Return the first event of the part that settings are tried on; its moment is whole.

    Args:
        log: the events.
        end: one past the last training event.
    """
    return int(log.begins[end - max(1, min(MOST, round(SHARE * end)))]) if end else 0


def tuned_baselines(
    log: StreamLog, end: int, *, exclude_seen: bool, say: Say | None = None
) -> tuple[OnlineBaseline, ...]:
    """Return every online baseline with the settings that had the highest NDCG@10 on validation.

    Args:
        log: the events.
        end: one past the last training event; later events are not read.
        exclude_seen: whether lists exclude the items that a user met strictly earlier.
        say: called with lines on what is being done, and how long it takes.

    Cost: at most 16 trials for each of five baselines; a trial reads at most 50,000 events on and
    ranks 5,000.
    """
    tune = _Tuner(log, end, exclude_seen, say)
    popularity = tune(OnlinePopularity())
    transitions = tune(OnlineTransitions())
    assert isinstance(popularity, OnlinePopularity) and isinstance(transitions, OnlineTransitions)
    begin = OnlineSum(popularity.half_life, transitions.half_life)
    near = {
        "weight": OnlineSum.grid["weight"],
        "popularity_half_life": _near(OnlineSum.grid["popularity_half_life"], popularity.half_life),
        "transition_half_life": _near(OnlineSum.grid["transition_half_life"], transitions.half_life),
    }
    return popularity, transitions, tune(begin, near), tune(OnlineItemKNN()), tune(OnlineSessionKNN())


class _Tuner:
    """Tries settings of one baseline after the other on the same events."""

    def __init__(self, log: StreamLog, end: int, exclude_seen: bool, say: Say | None) -> None:
        self.log, self.end, self.exclude_seen, self.say = log, end, exclude_seen, say
        self.begin = validation_begin(log, end)
        places = np.arange(self.begin, end)
        if len(places) > QUERIES:
            places = places[np.linspace(0, len(places) - 1, QUERIES).astype(np.int64)]
        self.wanted = np.zeros(len(log), bool)
        self.wanted[places] = True
        self.number = 0

    def __call__(self, start: OnlineBaseline, grid: Mapping[str, Sequence[Any]] | None = None) -> OnlineBaseline:
        """Return a baseline with its best settings."""
        grid = start.grid if grid is None else grid
        self.number += 1
        began, first = monotonic(), True

        def trial(settings: OnlineBaseline) -> float:
            nonlocal first
            reader = settings.start(self.log, self.begin, exclude_seen=self.exclude_seen)
            ranks = read_on(self.log, reader, self.begin, self.end, wanted=self.wanted)
            if first and self.say:
                trials = min(TRIALS, 1 + sum(len(values) - 1 for values in grid.values()))
                left = (monotonic() - began) * (trials - 1)
                self.say(f"Tuning online baseline {self.number} of 5: {start.title}, about {left:,.0f} s.")
            first = False
            return float(ndcg(ranks[~np.isnan(ranks)], k=10).mean())

        return coordinate_search(start, grid, trial, replace, trials=TRIALS) if self.begin < self.end else start


def _near(values: Sequence[float], value: float) -> tuple[float, ...]:
    """Return a value of a row and those beside it."""
    place = list(values).index(value)
    return tuple(values[max(0, place - 1) : place + 2])
