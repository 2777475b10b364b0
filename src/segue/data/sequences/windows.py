"""A log of ratings as windows of a fixed length: plain arrays for other libraries."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.log.events import Events, as_events
from segue.data.sequences.sequences import coded
from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import ArgumentError, ColumnError
from segue.shapes import Bools, Floats, Times

#: The last axis of `X`.
FEATURES = ("user", "item", "gap", "rating", "rated")
#: The highest code that float32 holds exactly.
MOST_CODES = 1 << 24


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of consecutive ratings, one for each rating of a log; `windows` makes them.

    Args:
        X: float32[sample, step, feature], the features in the order of `FEATURES`; 0 everywhere
            before a user's first rating.
        y: float32[sample], the rating of the last step.
        rows: int64[sample], the row of `y` in the log.
        times: int64[sample], the time of `y`, microseconds since 1970; None without times.
        users: the user with code `c` is `users.id(c)`.
        items: the item with code `c` is `items.id(c)`.
    """

    X: Floats
    y: Floats
    rows: Times
    times: Times | None
    users: Vocabulary
    items: Vocabulary

    def __len__(self) -> int:
        return len(self.y)

    @property
    def mask(self) -> Bools:
        """bool[sample, step]: true where there is a rating, false for padding."""
        real: Bools = self.X[..., FEATURES.index("item")] > 0
        return real

    @property
    def full(self) -> Bools:
        """bool[sample]: which windows have no padding."""
        return self.mask[:, 0]

    def features(self, *names: str) -> Floats:
        """Return float32[sample, step, len(names)]: these of `FEATURES`, in the order given.

        Raises:
            ArgumentError: there is no feature of a name.
        """
        for name in names:
            if name not in FEATURES:
                raise ArgumentError(f'features: expected names among {", ".join(FEATURES)}, came "{name}".')
        chosen: Floats = self.X[..., [FEATURES.index(name) for name in names]]
        return chosen

    def select(self, samples: NDArray[Any]) -> "Windows":
        """Return the windows of a mask or of positions, such as `w.select(w.times < moment)`."""
        times = None if self.times is None else self.times[samples]
        return replace(self, X=self.X[samples], y=self.y[samples], rows=self.rows[samples], times=times)

    def decode(self) -> pl.DataFrame:
        """Return the target of each window as in the log: user, item, time, rating."""
        codes = self.features("user", "item")[:, -1].astype(np.int64) - 1
        columns = {"user": self.users.ids.gather(codes[:, 0]), "item": self.items.ids.gather(codes[:, 1])}
        time = {} if self.times is None else {"time": self.times}
        return pl.DataFrame(columns | time | {"rating": self.y})


def windows(events: Events, *, length: int = 10) -> Windows:
    """Return a log of ratings as windows of `length` consecutive ratings of a user.

    Each rating is the target `y` of one window, which ends with it; the steps before are the
    previous ratings of the same user. Where a user has fewer ratings, the first steps are padding
    (0). Windows are in the order of the log, so that a split by time is a split of the samples.

        the log                            windows(events, length=3)

        row  time  user  item  rating      sample   item        rating        y
        0     10   ann   a       5         0        .  .  a     .  .  ?       5
        1     20   bob   b       1         1        .  .  b     .  .  ?       1
        2     30   ann   c       3         2        .  a  c     .  5  ?       3
        3     40   ann   b       4         3        a  c  b     5  3  ?       4
        4     40   ann   d       2         4        c  b  d     3  ?  ?       2

    A window shows a rating (`rated` is 1) only where it is earlier than the target. The target's
    rating is never shown, and neither are other ratings at the same time: b and d were rated at
    once, and neither may help to predict the other. User, item and gap of a step are always shown.

    Features, float32, in this order:

    - `user`, `item`: codes from 1 in the order of first appearance, so that a code says nothing of
      later events, and the events before a moment have the codes up to some number;
    - `gap`: seconds since the same user's rating before; 0 at the first and in a log without times;
    - `rating`: the rating, 0 where it is not shown;
    - `rated`: 1 where the rating is shown.

    Args:
        events: with ratings; rows without a rating are left out. `history` is not used: give the
            whole log and split the windows.
        length: steps in a window, from 1; a window of 1 shows the target's user and item alone.

    Raises:
        ArgumentError: `length` is not a whole number from 1, or float32 cannot hold all codes.
        ColumnError: the log has no ratings.

    Cost: O(events x length) time; memory 40 bytes an event and step while it runs.

    Source: the windows of tutorials on recurrent layers, here without leaks between equal times.

    Example:
        >>> log = Events(pl.DataFrame({"time": [10, 20, 30, 40, 40], "user": ["ann", "bob", "ann", "ann", "ann"],
        ...                            "item": list("abcbd"), "rating": [5.0, 1.0, 3.0, 4.0, 2.0]}))
        >>> w = windows(log, length=3)
        >>> w.features("rating")[3, :, 0].tolist(), w.y[3].item()
        ([5.0, 3.0, 0.0], 4.0)
        >>> w.items.ids_of(w.features("item")[3, :, 0])
        ['a', 'c', 'b']
        >>> w.features("rated")[4, :, 0].tolist()
        [1.0, 0.0, 0.0]
    """
    as_events(events, "windows")
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ArgumentError(f"windows: expected length from 1, a whole number, came {length!r}. 10 is usual.")
    if "rating" not in events.table.columns or events.table["rating"].is_null().all():
        raise ColumnError(
            f"{events.source}: expected ratings to make windows of, the log has none. "
            "Name their column: read_events(..., rating=NAME)."
        )
    table = events.table.with_row_index("row").filter(pl.col("rating").is_not_null())
    user, users = coded(table["user"])
    item, items = coded(table["item"])
    if max(len(users), len(items)) >= MOST_CODES:
        raise ArgumentError(
            f"{events.source}: expected fewer than {MOST_CODES:,} users and items, which float32 can tell apart, "
            f"came {len(users):,} and {len(items):,}. Take fewer."
        )
    order = np.argsort(user, kind="stable")  # user after user, each in the order of the log
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    first = np.searchsorted(user[order], user)  # the first place of each sample's user
    steps = place[:, None] + np.arange(1 - length, 1)
    real = steps >= first[:, None]
    at = order[np.where(real, steps, place[:, None])]  # [sample, step], rows of the table
    times = table["time"].to_numpy() if events.has_times else None
    moment = np.arange(len(order)) if times is None else times
    rated = real & (moment[at] < moment[:, None])
    y = table["rating"].to_numpy().astype(np.float32)
    columns = (user[at] + 1, item[at] + 1, _gaps(times, user, order)[at], np.where(rated, y[at], 0), rated)
    X = np.stack(columns, axis=-1, dtype=np.float32, casting="unsafe")
    X[~real] = 0
    return Windows(X, y, table["row"].to_numpy().astype(np.int64), times, Vocabulary(users), Vocabulary(items))


def _gaps(times: Times | None, user: NDArray[np.int32], order: NDArray[np.int64]) -> Floats:
    """Return float32[row]: seconds since the same user's row before; 0 at the first."""
    gaps = np.zeros(len(user), np.float32)
    if times is not None and len(user):
        same = np.diff(user[order]) == 0
        gaps[order[1:]] = np.where(same, np.diff(times[order]) / 1e6, 0)
    return gaps
