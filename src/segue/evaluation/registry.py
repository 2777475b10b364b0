"""Every baseline there is, and all of them fitted to one log.

Knows: their order in a report. Does not know: how one is made, or what is asked of them.
"""

from collections.abc import Callable
from typing import NamedTuple

from segue.data.sequences import Sequences
from segue.evaluation.als import ALS
from segue.evaluation.baselines import DecayedMarkov, ItemKNN, OwnPopularity, Popularity, RecentPopularity
from segue.evaluation.content import ContentKNN
from segue.evaluation.contract import Baseline, Fitted
from segue.evaluation.ease import EASE
from segue.evaluation.tuning import tuned
from segue.shapes import Floats

#: Every baseline, in the order of a report.
BASELINES: tuple[type[Baseline], ...] = (
    Popularity,
    RecentPopularity,
    OwnPopularity,
    DecayedMarkov,
    ItemKNN,
    EASE,
    ALS,
    ContentKNN,
)


class Beside(NamedTuple):
    """What stands beside a recommender in a report.

    Args:
        fitted: by name with settings.
        left_out: a sentence for each baseline that could not be fitted, with the reason.
    """

    fitted: dict[str, Fitted]
    left_out: tuple[str, ...]


def fit_all(
    sequences: Sequences,
    n_items: int,
    *,
    features: Floats | None = None,
    exclude_seen: bool = False,
    say: Callable[[str], None] | None = None,
) -> Beside:
    """Return every baseline that can be fitted, tuned on the last training event of each user.

    Args:
        sequences: the training events.
        n_items: the length of a score row, row 0 included.
        features: float32[item, m], what is known of each item beside events, or None.
        exclude_seen: whether items of the history are left out of the lists.
        say: called with a line for each baseline before it is tuned.

    Cost: `tuned` for each.

    Example:
        >>> import numpy as np, polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 3]), np.array([1, 2, 1], np.int32))
        >>> fit_all(log, 3).left_out[-1]
        'Left out: content-kNN: expected features of the items, came none. Give a catalogue with attributes.'
    """
    telling = (kind for kind in BASELINES if not (kind.repeats and exclude_seen))
    obstacles = {kind: kind.obstacle(n_items, features) for kind in telling}
    able = [kind for kind, why in obstacles.items() if why is None]
    fitted = []
    for number, kind in enumerate(able, start=1):
        if say:
            say(f"Tuning baseline {number} of {len(able)}: {kind.title}.")
        fitted.append(tuned(kind, sequences, n_items, features=features, exclude_seen=exclude_seen))
    left_out = tuple(f"Left out: {why}" for why in obstacles.values() if why is not None)
    return Beside({one.name: one for one in fitted}, left_out)
