"""Baselines for ratings: means, biases, running biases, and matrix factorisation.

Each is fitted on the training ratings and predicts each test rating; running biases are updated by all earlier ratings,
test ratings included. Settings are chosen on the last tenth of the training ratings.
"""

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.data.log.rating_scale import shrunken_biases
from segue.errors import ArgumentError
from segue.evaluation.baselines.separate_process import Failure, call_each

Numbers = NDArray[np.float64]
#: Ratings at the end of the training that settings are chosen with, at most, and before them, at most.
CHOSEN_ON, CHOSEN_AFTER = 20_000, 200_000


class Ratings(NamedTuple):
    """Ratings in the order of time."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: Numbers
    moment: NDArray[np.int64]  # ratings of equal moments do not influence each other

    def rows(self, which: Any) -> "Ratings":
        """Return some of them."""
        return Ratings(*(column[which] for column in self))

    def then(self, later: "Ratings") -> "Ratings":
        """Return these ratings, then later ones."""
        return Ratings(*(np.concatenate(pair) for pair in zip(self, later, strict=True)))


class Size(NamedTuple):
    """The number of users and items, in training and test together."""

    users: int
    items: int


Predict = Callable[[Ratings, Ratings, Size], Numbers]


def global_mean(train: Ratings, test: Ratings, size: Size) -> Numbers:
    """Return the mean of the training ratings for each test rating."""
    return np.full(len(test.user), train.rating.mean())


def biases(train: Ratings, test: Ratings, size: Size, *, user: float = 5.0, item: float = 10.0) -> Numbers:
    """Return mean + bias of the user + bias of the item, both shrunken, fitted in turn on the training ratings."""
    mean = train.rating.mean()
    by_user, by_item = shrunken_biases(train.user, train.item, train.rating - mean, size, (user, item))
    return mean + by_user[test.user] + by_item[test.item]


def running_biases(
    train: Ratings, test: Ratings, size: Size, *, user: float = 3.0, item: float = 5.0, kept: float = 1.0
) -> Numbers:
    """Return predictions by biases that each rating updates, test ratings too; each is predicted from earlier ratings.

    A user's bias is a shrunken mean of how far their ratings lie above mean and item bias; each further rating keeps
    the share `kept` of it. An item's bias is the same over users, without decay.

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
        of_user, of_item = sums[u] / (counts[u] + user), item_sums[i] / (item_counts[i] + item)
        if place >= cut:
            out[place - cut] = mean + of_user + of_item
        waiting.append((u, i, rating, mean + of_user, mean + of_item))
    return out


def biased_factors(
    train: Ratings, test: Ratings, size: Size, *, rank: int = 10, ridge: float = 5.0, rounds: int = 12
) -> Numbers:
    """Return mean + biases + product of factors, by alternating least squares (Koren et al., 2009).

    The residuals of the biases are factorised. Each user's vector is solved exactly with the items' vectors fixed, and
    the other way round, with shrinkage `ridge`. Unknown users and items have a bias of 0 and no factors.

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
        factors = others[partner[rows]]
        out[name] = np.linalg.solve(factors.T @ factors + eye, factors.T @ left[rows])
    return out


#: Each baseline with the settings that are tried.
GRIDS: dict[str, tuple[Predict, dict[str, tuple[float, ...]]]] = {
    "global mean": (global_mean, {}),
    "biases": (biases, {"user": (3.0, 5.0, 10.0), "item": (3.0, 10.0)}),
    "running biases": (running_biases, {"user": (3.0, 6.0), "item": (5.0,), "kept": (1.0, 0.97, 0.93, 0.88)}),
    "biased factors": (biased_factors, {"rank": (5, 15), "ridge": (5.0, 10.0, 20.0)}),
}


class Predictions(NamedTuple):
    """The predictions of baselines.

    Args:
        predicted: float64[rating] by name with the chosen settings.
        left_out: a sentence for each baseline that could not be fitted, with the reason.
    """

    predicted: dict[str, Numbers]
    left_out: tuple[str, ...]


def predict_all(train: Ratings, test: Ratings, size: Size, *, moving: bool = True) -> Predictions:
    """Return the predictions of each baseline; without `moving`, running biases, which read test ratings, are left out.

    Predictions are made in a separate process (`call_each`): the failure of one baseline costs no other.
    """
    names = [name for name, (predict, _) in GRIDS.items() if moving or predict is not running_biases]
    predicted, left_out = {}, []
    for name, result in zip(names, call_each(predict_tuned, (train, test, size), names), strict=True):
        if isinstance(result, Failure):
            left_out.append(f"Left out: {name}: {result.why}")
        else:
            predicted[result[0]] = result[1]
    return Predictions(predicted, tuple(left_out))


def predict_tuned(given: tuple[Ratings, Ratings, Size], name: str) -> tuple[str, Numbers]:
    """Return a name with the chosen settings, and the predictions.

    Settings are chosen by the squared error on the last tenth of the training ratings, learnt from those before.

    Raises:
        ArgumentError: there is no training rating.
    """
    (train, test, size), (predict, grid) = given, GRIDS[name]
    if not len(train.user):
        raise ArgumentError("expected training ratings before the held-out ones, came none. Give a log with both.")
    cut = len(train.user) - max(1, min(len(train.user) // 10, CHOSEN_ON))
    early, late = train.rows(slice(max(0, cut - CHOSEN_AFTER), cut)), train.rows(slice(cut, None))
    trials: list[dict[str, Any]] = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    best = trials[0]
    if len(trials) > 1 and len(early.user):
        errors = [float(np.mean((predict(early, late, size, **trial) - late.rating) ** 2)) for trial in trials]
        best = trials[int(np.argmin(errors))]
    words = ", ".join(f"{key} {value:g}" for key, value in best.items())
    return f"{name} ({words})" if words else name, predict(train, test, size, **best)
