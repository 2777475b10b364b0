"""Metrics with intervals, and whether the difference of any two models is noise."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segue.evaluation.comparison_report.compared import Compared
from segue.metrics.bootstrap import drawn_means
from segue.metrics.comparison import student
from segue.metrics.metrics import hit_rate, mrr, ndcg
from segue.shapes import Times

#: What gets an interval, by name; the other metrics of a report are functions of these.
WITH_INTERVAL = {"hr": hit_rate, "ndcg": ndcg, "mrr": mrr}
#: Two models differ where the corrected p is below this.
LEVEL = 0.05
_ENDS = [0.025, 0.975]

PerQuery = NDArray[np.float64]
Draws = Mapping[tuple[str, str], NDArray[np.float64]]


class Main(NamedTuple):
    """The metric by which models are compared, and those that the page shows first.

    Args:
        metric: by its name in a row of metrics.
        title: on the page.
        difference: what the difference of two models is called; where it is above 0 the first is better.
        higher: whether a higher value is better.
        shown: the metrics of the table.
    """

    metric: str
    title: str
    difference: str
    higher: bool
    shown: tuple[str, ...]


LISTS = Main("ndcg@10", "NDCG@10", "NDCG@10 higher by", True, ("ndcg@10", "hr@10", "mrr@10"))
RATINGS = Main("rmse", "RMSE", "squared error lower by", False, ("rmse", "mae"))


def draw(measured: Compared, ks: Sequence[int]) -> Draws:
    """Return float64[draw], the drawn means of each model and metric.

    Cost: O(draws x users x models x metrics).
    """
    names = [
        (model, f"{name}@{k}")
        for model, ranked in measured.models.items()
        for name in WITH_INTERVAL
        for k in ks
        if ranked.reaches(k)
    ]

    def columns() -> Iterator[NDArray[np.float64]]:
        for model, metric in names:
            yield of_queries(measured, model, metric)

    drawn = drawn_means(columns(), groups=measured.users)
    return {name: drawn[:, place] for place, name in enumerate(names)}


def of_queries(measured: Compared, model: str, metric: str) -> NDArray[np.float64]:
    """Return float64[query]: a metric such as "ndcg@10" of one model."""
    name, _, k = metric.partition("@")
    return WITH_INTERVAL[name](measured.models[model].ranks, k=int(k))


def metrics_of(measured: Compared, draws: Draws) -> dict[str, dict[str, dict[str, float]]]:
    """Return model -> metric -> mean, low, high; the ends of the 95 % interval over users."""
    table: dict[str, dict[str, dict[str, float]]] = {name: {} for name in measured.models}
    for (model, metric), drawn in draws.items():
        low, high = np.quantile(drawn, _ENDS)
        mean = of_queries(measured, model, metric).mean()
        table[model][metric] = {"mean": float(mean), "low": float(low), "high": float(high)}
    return table


def rating_metrics_of(errors: Mapping[str, PerQuery], users: Times) -> tuple[dict[str, Any], dict[str, PerQuery]]:
    """Return model -> metric -> mean, low, high of RMSE and MAE, and the draws of minus the squared error.

    Args:
        errors: model -> float64[query], predicted less given.
        users: int64[query].
    """
    columns = (column for each in errors.values() for column in (each**2, np.abs(each)))
    drawn = drawn_means(columns, groups=users)
    table: dict[str, Any] = {}
    for place, (name, each) in enumerate(errors.items()):
        squares, sizes = np.quantile(drawn[:, 2 * place : 2 * place + 2], _ENDS, axis=0).T.tolist()
        root = float(np.sqrt(np.mean(each**2)))
        table[name] = {"rmse": {"mean": root, "low": squares[0] ** 0.5, "high": squares[1] ** 0.5}}
        table[name]["mae"] = {"mean": float(np.abs(each).mean()), "low": sizes[0], "high": sizes[1]}
    return table, {name: -drawn[:, 2 * place] for place, name in enumerate(errors)}


def pairs_of(
    values: Mapping[str, PerQuery], draws: Mapping[str, PerQuery], users: Times, difference: str
) -> list[dict[str, Any]]:
    """Return the difference of every two models, with its interval, p, and p after Holm's correction.

    The interval covers the bootstrap interval over users and Student's, as in `segue.metrics.comparison.compare`; p is
    the larger of the two. Holm: the smallest of m values of p counts m times, the next m - 1 times, and so on.

    Args:
        values: model -> float64[query]; higher is better.
        draws: model -> float64[draw], their drawn means.
        users: int64[query].
        difference: its name.

    Source: Holm 1979.
    """
    pairs: list[dict[str, Any]] = []
    for a, b in combinations(values, 2):
        drawn = draws[a] - draws[b]
        mean, spread = float((values[a] - values[b]).mean()), student(values[a], values[b], users)
        low, high = np.quantile(drawn, _ENDS)
        if spread.known:
            low, high = min(low, mean - spread.half), max(high, mean + spread.half)
        p = max(spread.p(mean), min(1.0, 2 * min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))))
        pairs.append({"a": a, "b": b, "of": difference, "mean": mean, "low": float(low), "high": float(high), "p": p})
    for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair |= {"p_holm": p, "noise": p >= LEVEL}
    return pairs


def holm(ps: Sequence[float]) -> list[float]:
    """Return the values of p corrected for their number.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order, worst, corrected = np.argsort(ps, kind="stable"), 0.0, [0.0] * len(ps)
    for place, each in enumerate(order.tolist()):
        worst = max(worst, min(1.0, (len(ps) - place) * ps[each]))
        corrected[each] = worst
    return corrected


def between(pairs: Sequence[Mapping[str, Any]], a: str, b: str) -> dict[str, Any]:
    """Return the pair of two models, as a less b."""
    for pair in pairs:
        if (pair["a"], pair["b"]) == (a, b):
            return dict(pair)
        if (pair["a"], pair["b"]) == (b, a):
            turned = {"mean": -pair["mean"], "low": -pair["high"], "high": -pair["low"]}
            return {**pair, "a": a, "b": b, **turned}
    raise KeyError((a, b))


def verdict(metrics: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], kinds: Mapping[str, bool], of: Main) -> str:
    """Return in one sentence which model is best, and from which others the difference may be noise.

    Args:
        metrics: model -> metric -> mean, low, high.
        pairs: of `pairs_of`.
        kinds: model -> whether it is a model that is measured.
        of: the metric that decides.
    """
    best = best_first(metrics, of)[0]
    main, others = metrics[best][of.metric], [name for name in metrics if name != best]
    value = f"{of.title} {main['mean']:.4f}, 95 % confidence interval {main['low']:.4f} to {main['high']:.4f}"
    what = f"{short(best)}{'' if kinds[best] else ', a baseline,'}"
    if not others:
        return f"{what} has {value}; nothing stands beside it."
    noise = [short(name) for name in others if between(pairs, best, name)["noise"]]
    if not noise:
        return f"{what} is better than {_all(others)}, by more than noise ({value})."
    if len(noise) == len(others):
        return f"{what} has the best mean ({value}), and the difference from {_all(others)} may be noise."
    return f"{what} has the best mean ({value}); the difference from {_listed(noise)} may be noise."


def best_first(metrics: Mapping[str, Any], of: Main) -> list[str]:
    """Return the names of the models, the best first."""
    return sorted(metrics, key=lambda name: metrics[name][of.metric]["mean"], reverse=of.higher)


def short(name: str) -> str:
    """Return the name of a model without its settings."""
    return name.partition(" (")[0]


def _all(others: Sequence[str]) -> str:
    return short(others[0]) if len(others) == 1 else f"all {len(others)} others"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
