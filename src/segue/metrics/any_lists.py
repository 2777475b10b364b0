"""Lists and targets by id, from any model: numbered for the metrics, and all metrics at once."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.errors import ArgumentError
from segue.metrics import lists as of_lists
from segue.metrics.several_targets import (
    Relevance,
    relevance,
    set_f1,
    set_hit_rate,
    set_mean_average_precision,
    set_mrr,
    set_ndcg,
    set_precision,
    set_recall,
)

#: The rows of a report on lists with any number of targets, in order.
OF_LISTS = {
    "hr": set_hit_rate,
    "precision": set_precision,
    "recall": set_recall,
    "f1": set_f1,
    "ndcg": set_ndcg,
    "mrr": set_mrr,
    "map": set_mean_average_precision,
}


class NumberedLists(NamedTuple):
    """Lists and targets with ids as numbers, as the metrics take them.

    Args:
        top: int64[query, k], best first; 0 fills short lists.
        offsets: int64[query + 1]; the targets of query `q` are `targets[offsets[q]:offsets[q + 1]]`.
        targets: int64[target].
        ids: the id of each number; entry 0 is None.
    """

    top: NDArray[np.int64]
    offsets: NDArray[np.int64]
    targets: NDArray[np.int64]
    ids: tuple[Hashable, ...]

    @property
    def found(self) -> Relevance:
        """Which places hold a target."""
        return relevance(self.top, offsets=self.offsets, targets=self.targets)


def numbered(
    lists: Iterable[Sequence[Hashable]], targets: Iterable[Sequence[Hashable]], *, items: Iterable[Hashable] = ()
) -> NumberedLists:
    """Return the lists of any model with their ids as numbers.

    Args:
        lists: for each query the ids of its list, best first, each at most once; lists may be of different lengths.
        targets: for each query the ids that came.
        items: ids that get the first numbers, in order: the catalogue, where a metric reads its size, counts or
            features. Row 0 of counts and features then stands for no item.

    Raises:
        ArgumentError: there are not as many lists as targets, or a list holds an id twice.

    Example:
        >>> numbered([["x", "y"], ["z"]], [["y"], ["z", "w"]]).top.tolist()
        [[1, 2], [3, 0]]
    """
    shown, wanted = [list(each) for each in lists], [list(each) for each in targets]
    if len(shown) != len(wanted):
        raise ArgumentError(
            f"lists: expected a list for each query, came {len(shown)} lists and targets of {len(wanted)} queries. "
            "Give an empty list where a model answers nothing."
        )
    rows: dict[Hashable, int] = {}
    for each in (items, *shown, *wanted):
        for id in each:
            rows.setdefault(id, len(rows) + 1)
    top = np.zeros((len(shown), max(map(len, shown), default=0)), np.int64)
    for query, each in enumerate(shown):
        if len(set(each)) < len(each):
            raise ArgumentError(f"lists, query {query}: expected each id once, came {each[:20]}. Drop the repeats.")
        top[query, : len(each)] = [rows[id] for id in each]
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in wanted])]).astype(np.int64)
    flat = np.array([rows[id] for each in wanted for id in each], np.int64)
    return NumberedLists(top, offsets, flat, (None, *rows))


def list_metrics(
    lists: Iterable[Sequence[Hashable]],
    targets: Iterable[Sequence[Hashable]],
    *,
    ks: Sequence[int] = (10,),
    events: Mapping[Hashable, int] | None = None,
) -> dict[str, float]:
    """Return the means of all metrics of some model's lists.

    Args:
        lists: for each query the ids of its list, best first.
        targets: for each query the ids that came, at least one.
        ks: the lengths of list to report; the places that a shorter list lacks count as wrong.
        events: id -> number of events of each item of the catalogue in the log that was learnt, 0 where none. With
            it the result has coverage, Gini, novelty and popularity bias of the lists at the largest k.

    Returns:
        A value for `hr@k`, `precision@k`, `recall@k`, `f1@k`, `ndcg@k`, `mrr@k` and `map@k`, for each k in turn, and
        `coverage@k`, `gini@k`, `novelty@k` and `popularity_bias@k`.

    Raises:
        ArgumentError: there is no query, a query has no target, a k is below 1, or a list holds an item that is not in
            `events`.

    Example:
        >>> lists, targets = [["x", "y"], ["z", "x"]], [["y"], ["w"]]
        >>> found = list_metrics(lists, targets, ks=(2,), events={"x": 5, "y": 1, "z": 2, "w": 1})
        >>> {name: round(value, 3) for name, value in found.items() if name in ("hr@2", "ndcg@2", "coverage@2")}
        {'hr@2': 0.5, 'ndcg@2': 0.315, 'coverage@2': 0.75}
    """
    given = numbered(lists, targets, items=events or ())
    longest = max(ks, default=0)
    if not len(given.top) or min(ks, default=0) < 1:
        raise ArgumentError(f"lists: expected a query and ks from 1, came {len(given.top)} queries and ks {ks}.")
    top = np.pad(given.top, ((0, 0), (0, max(0, longest - given.top.shape[1]))))[:, :longest]
    found = given._replace(top=top).found
    values = {f"{name}@{k}": float(metric(found, k=k).mean()) for k in ks for name, metric in OF_LISTS.items()}
    if events is None:
        return values
    if top.max(initial=0) > len(events):
        unknown = given.ids[int(top[top > len(events)][0])]
        raise ArgumentError(
            f"lists: expected items of `events`, came {unknown!r}. Give 0 for an item without an event."
        )
    counts = np.array([0, *events.values()], np.int64)
    return values | {
        f"coverage@{longest}": of_lists.coverage(top, n_items=len(counts)),
        f"gini@{longest}": of_lists.gini(top, n_items=len(counts)),
        f"novelty@{longest}": float(of_lists.novelty(top, counts=counts).mean()),
        f"popularity_bias@{longest}": float(of_lists.popularity_bias(top, counts=counts).mean()),
    }
