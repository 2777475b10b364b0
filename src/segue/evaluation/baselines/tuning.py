"""The tuning of baselines: settings are tried on the last training event of each user."""

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.data.sequences.sequences import Sequences
from segue.data.sequences.transition_counts import PAIRS, known_events
from segue.errors import ArgumentError
from segue.evaluation.baselines.contract import Baseline, Fitted, Grid
from segue.kernels.serving_loops import leave_out
from segue.metrics.coordinate_search import coordinate_search
from segue.metrics.metrics import ndcg
from segue.metrics.ranks import target_ranks
from segue.shapes import Floats, Rows

#: Operations that all trials of a baseline may take together.
_SECONDS_WORTH = 2e9


def tuned(
    kind: type[Baseline],
    sequences: Sequences,
    n_items: int,
    *,
    features: Floats | None = None,
    exclude_seen: bool = False,
    grid: Grid | None = None,
    trials: int | None = None,
    max_queries: int = 2000,
    tell: Callable[[tuple[int, int]], None] | None = None,
) -> Fitted:
    """Return a baseline fitted with the settings that rank the last training event of each user best.

    Each user's last event is held out; the rest is learnt, and the settings with the highest NDCG@10
    of the held-out events win. The search is `coordinate_search`, from the defaults on. The winner is
    fitted on all of `sequences`. No test event is read.

    Args:
        kind: the class of the baseline.
        sequences: the training events.
        n_items: the length of a score row, row 0 included.
        features: float32[item, m], what is known of each item beside events, or None.
        exclude_seen: whether lists exclude seen items; take what the report uses.
        grid: the values to try for each setting; None for the class's own.
        trials: at most so many settings are tried, a number and not a time, so that every machine finds
            the same; None takes `trials_worth(...)`, fewer the more a fit costs.
        max_queries: at most so many users, spread evenly over the log, are ranked in a trial.
        tell: called after each trial with how many are done, and how many there are at most.

    Returns:
        The fitted winner; its `settings` and `name` hold the chosen settings.

    Raises:
        ArgumentError: the grid names a setting that is not there, or a row is not below `n_items`.

    Cost: a fit and a scoring per trial, and one fit more.

    Example:
        >>> import polars as pl
        >>> from segue.evaluation.baselines.counting import RecentPopularity
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 6]), np.array([1, 1, 1, 2, 2, 1], np.int32))
        >>> tuned(RecentPopularity, log, 3, grid={"half_life": (0.1, 10.0)}).settings
        {'half_life': 10.0}
    """
    grid = kind.grid if grid is None else grid
    best = kind()
    names = {field.name for field in fields(best)}
    if not set(grid) <= names:
        raise ArgumentError(
            f"{kind.title}, grid: expected settings among {sorted(names)}, came {sorted(grid)}. Leave the others out."
        )
    train, histories, targets = _held_out(known_events(sequences, n_items), max_queries)
    if trials is None:
        trials = trials_worth(kind.operations(len(train.items), n_items), len(targets) * n_items)
    if grid and len(targets) and trials > 1:
        fit = _fitter(train, n_items, features)
        trial = _counted(_trial(fit, histories, targets, exclude_seen), trials, tell)
        best = coordinate_search(best, grid, trial, replace, trials=trials)
    return best.fit(sequences, n_items, features)


def _fitter(train: Sequences, n_items: int, features: Floats | None) -> Callable[[Baseline], Fitted]:
    """Return a function that fits; the last fit and the last counts are reused where settings allow."""
    last: list[Fitted] = []
    counted: dict[tuple[Any, ...], Any] = {}

    def counts(baseline: Baseline) -> Any:
        key = baseline.counting
        if key not in counted:
            counted.clear()  # before the next is made: it may be as large as memory allows
            counted[key] = baseline.count(train, n_items, features)
        return counted[key]

    def fit(baseline: Baseline) -> Fitted:
        if last and baseline.learns_like(last[0].baseline):
            last[:] = [last[0].read_by(baseline)]
        else:
            last.clear()  # before the next is made: it may be as large as memory allows
            last.append(baseline.of_counts(counts(baseline)))
        return last[0]

    return fit


def _trial(
    fit: Callable[[Baseline], Fitted], histories: list[Rows], targets: Rows, exclude_seen: bool
) -> Callable[[Baseline], float]:
    """Return the function that gives the NDCG@10 of settings on held-out events."""

    def block_ndcg(fitted: Fitted, block: slice) -> NDArray[np.float64]:
        scores = fitted.score(histories[block])
        if exclude_seen:
            leave_out(scores, histories[block])
        return ndcg(target_ranks(scores, targets[block]), k=10)

    def trial(baseline: Baseline) -> float:
        fitted = fit(baseline)
        step = max(1, PAIRS // fitted.score([]).shape[1])
        blocks = [slice(begin, begin + step) for begin in range(0, len(targets), step)]
        return float(np.concatenate([block_ndcg(fitted, block) for block in blocks]).mean())

    return trial


def _counted(
    trial: Callable[[Baseline], float], trials: int, tell: Callable[[tuple[int, int]], None] | None
) -> Callable[[Baseline], float]:
    """Return the same function, which tells how often it was called."""
    done = count(1)

    def counted(baseline: Baseline) -> float:
        value = trial(baseline)
        if tell:
            tell((next(done), trials))
        return value

    return counted


def trials_worth(operations: float, scores: int) -> int:
    """Return how many settings are tried: some seconds' worth, from 8 to 60; 1 where one trial alone is more.

    Args:
        operations: of a fit, see `Baseline.operations`.
        scores: given in a trial, questions times items.

    Example:
        >>> trials_worth(20 * 99_000, 943 * 1683), trials_worth(20 * 10**7, 2 * 10**8), trials_worth(1e10, 10**7)
        (60, 8, 1)
    """
    worth = _SECONDS_WORTH / max(operations + scores, 1)
    return min(max(round(worth), 8), 60) if worth >= 1 else 1


def _held_out(known: Sequences, max_queries: int) -> tuple[Sequences, list[Rows], Rows]:
    """Return all but each user's last event, and some users' histories and last items."""
    ends = known.offsets[1:]
    keep = np.ones(len(known.items), bool)
    keep[ends[known.lengths > 0] - 1] = False
    train = known.keep(keep)
    users = np.flatnonzero(known.lengths > 1)
    if len(users) > max_queries:
        users = users[np.linspace(0, len(users) - 1, max_queries).astype(np.int64)]
    histories = [known.items[known.offsets[user] : ends[user] - 1] for user in users]
    return train, histories, known.items[ends[users] - 1]
