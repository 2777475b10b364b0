"""What a model of ratings is compared with: means, biases, biases that move, and matrix factorisation.

Knows: each is fitted on the training ratings and predicts each test rating; those that move read what is strictly
earlier, test ratings included. Settings are chosen on the last tenth of the training ratings.
Does not know: networks, files.
"""

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.data.log.rating_scale import shrunken_biases
from segue.errors import ArgumentError
from segue.evaluation.baselines.own_process import Fault, each_apart

Numbers = NDArray[np.float64]
#: Ratings at the end of the training that settings are chosen with, at most, and before them, at most.
CHOSEN_ON, CHOSEN_AFTER = 20_000, 200_000


class Ratings(NamedTuple):
    """Ratings in the order of time."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: Numbers
    moment: NDArray[np.int64]  # equal moments of one user are blind to each other

    def rows(self, which: Any) -> "Ratings":
        """Return some of them."""
        return Ratings(*(column[which] for column in self))

    def then(self, later: "Ratings") -> "Ratings":
        """Return these and others behind them."""
        return Ratings(*(np.concatenate(pair) for pair in zip(self, later, strict=True)))


class Size(NamedTuple):
    """Users and items there are, in training and test together."""

    users: int
    items: int


Predict = Callable[[Ratings, Ratings, Size], Numbers]


def global_mean(train: Ratings, test: Ratings, size: Size) -> Numbers:
    """Return the mean of the training ratings for each test rating."""
    return np.full(len(test.user), train.rating.mean())


def biases(train: Ratings, test: Ratings, size: Size, *, user: float = 5.0, item: float = 10.0) -> Numbers:
    """Return mean + bias of the user + bias of the item, both shrunken, taken in turn on the training ratings."""
    mean = train.rating.mean()
    own, other = shrunken_biases(train.user, train.item, train.rating - mean, size, (user, item))
    return mean + own[test.user] + other[test.item]


def running_biases(
    train: Ratings, test: Ratings, size: Size, *, user: float = 3.0, item: float = 5.0, kept: float = 1.0
) -> Numbers:
    """Return biases that move with each rating, those of the test too: each is predicted from what is strictly earlier.

    A user's bias is a shrunken mean of what their ratings lay above mean and item bias, of which each further
    rating keeps the share `kept`; an item's bias the same of users, without forgetting.

    Cost: O(ratings), one after the other.
    """
    whole, cut = train.then(test), len(train.user)
    sums, counts = [0.0] * size.users, [0.0] * size.users
    item_sums, item_counts = [0.0] * size.items, [0.0] * size.items
    total, number, now, out = 0.0, 0, None, np.zeros(len(test.user))
    waiting: list[tuple[int, int, float, float, float]] = []
    for place, (u, i, rating, moment) in enumerate(zip(*(column.tolist() for column in whole), strict=True)):
        if moment != now:
            for who, what, given, by_user, by_item in waiting:
                sums[who], counts[who] = kept * sums[who] + given - by_item, kept * counts[who] + 1.0
                item_sums[what], item_counts[what] = item_sums[what] + given - by_user, item_counts[what] + 1.0
                total, number = total + given, number + 1
            waiting, now = [], moment
        mean = total / max(number, 1)
        own, other = sums[u] / (counts[u] + user), item_sums[i] / (item_counts[i] + item)
        if place >= cut:
            out[place - cut] = mean + own + other
        waiting.append((u, i, rating, mean + own, mean + other))
    return out


def biased_factors(
    train: Ratings, test: Ratings, size: Size, *, rank: int = 10, ridge: float = 5.0, rounds: int = 12
) -> Numbers:
    """Return mean + biases + product of factors, by alternating least squares (Koren et al., 2009).

    What biases leave is factorised; each user's vector is solved for exactly with the items' held, and the other way
    round, under `ridge` a rating's worth of shrinkage. Unknown users and items have their bias, 0, alone.

    Cost: rounds x (ratings x rank^2 + (users + items) x rank^3).
    """
    left = train.rating - biases(train, train, size)
    rng = np.random.default_rng(0)
    users, items = np.zeros((size.users, rank)), rng.normal(0, 0.1, (size.items, rank))
    by_user, by_item = _groups(train.user), _groups(train.item)
    for _ in range(rounds):
        users = _solved(by_user, train.item, left, items, np.zeros_like(users), ridge)
        items = _solved(by_item, train.user, left, users, np.zeros_like(items), ridge)
    return biases(train, test, size) + np.sum(users[test.user] * items[test.item], axis=1)


def _groups(codes: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    order = np.argsort(codes, kind="stable")
    names, starts = np.unique(codes[order], return_index=True)
    return list(zip(names.tolist(), np.split(order, starts[1:]), strict=True))


def _solved(
    groups: Iterable[tuple[int, NDArray[np.int64]]],
    partner: NDArray[np.int64],
    left: Numbers,
    others: Numbers,
    out: Numbers,
    ridge: float,
) -> Numbers:
    eye = ridge * np.eye(others.shape[1])
    for name, rows in groups:
        some = others[partner[rows]]
        out[name] = np.linalg.solve(some.T @ some + eye, some.T @ left[rows])
    return out


#: Each baseline with the settings that are tried.
GRIDS: dict[str, tuple[Predict, dict[str, tuple[float, ...]]]] = {
    "global mean": (global_mean, {}),
    "biases": (biases, {"user": (3.0, 5.0, 10.0), "item": (3.0, 10.0)}),
    "running biases": (running_biases, {"user": (3.0, 6.0), "item": (5.0,), "kept": (1.0, 0.97, 0.93, 0.88)}),
    "biased factors": (biased_factors, {"rank": (5, 15), "ridge": (5.0, 10.0, 20.0)}),
}


class Predictions(NamedTuple):
    """What baselines predicted.

    Args:
        found: float64[rating] by name with the settings that were chosen.
        left_out: a sentence for each baseline that could not be fitted, with the reason.
    """

    found: dict[str, Numbers]
    left_out: tuple[str, ...]


def predict_all(train: Ratings, test: Ratings, size: Size, *, moving: bool = True) -> Predictions:
    """Return the predictions of each baseline; without `moving` the one that reads test ratings is left out.

    Each is made in a process of its own (`each_apart`): a fault of one costs no other.
    """
    names = [name for name, (predict, _) in GRIDS.items() if moving or predict is not running_biases]
    found, left_out = {}, []
    for name, one in zip(names, each_apart(predict_tuned, (train, test, size), names), strict=True):
        if isinstance(one, Fault):
            left_out.append(f"Left out: {name}: {one.why}")
        else:
            found[one[0]] = one[1]
    return Predictions(found, tuple(left_out))


def predict_tuned(given: tuple[Ratings, Ratings, Size], name: str) -> tuple[str, Numbers]:
    """Return a name with the settings that were chosen, and the predictions.

    Settings are chosen by the squared error on the last tenth of the training ratings, learnt from those before.

    Raises:
        ArgumentError: there is no training rating.
    """
    (train, test, size), (predict, grid) = given, GRIDS[name]
    if not len(train.user):
        raise ArgumentError("expected ratings to learn from before those asked for, came none. Give a log with both.")
    cut = len(train.user) - max(1, min(len(train.user) // 10, CHOSEN_ON))
    early, late = train.rows(slice(max(0, cut - CHOSEN_AFTER), cut)), train.rows(slice(cut, None))
    trials: list[dict[str, Any]] = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    best = trials[0]
    if len(trials) > 1 and len(early.user):
        errors = [float(np.mean((predict(early, late, size, **one) - late.rating) ** 2)) for one in trials]
        best = trials[int(np.argmin(errors))]
    words = ", ".join(f"{key} {value:g}" for key, value in best.items())
    return f"{name} ({words})" if words else name, predict(train, test, size, **best)
