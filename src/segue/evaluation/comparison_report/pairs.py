"""Metrics with intervals, and whether the difference of any two models is noise."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.evaluation.comparison_report.measured import Measured
from segue.metrics.bootstrap import drawn_means
from segue.metrics.comparison import student
from segue.metrics.metrics import hit_rate, mrr, ndcg

#: What gets an interval, by name; the other metrics of a report are functions of these.
WITH_INTERVAL = {"hr": hit_rate, "ndcg": ndcg, "mrr": mrr}
#: Two models differ where the corrected p is below this.
LEVEL = 0.05
#: The metric of the verdict.
MAIN = "ndcg@10"
_ENDS = [0.025, 0.975]

Draws = Mapping[tuple[str, str], NDArray[np.float64]]


def draw(measured: Measured, ks: Sequence[int]) -> Draws:
    """Return float64[draw], the drawn means of each model and metric.

    Cost: O(draws x users x models x metrics).
    """
    names = [(model, f"{name}@{k}") for model in measured.models for name in WITH_INTERVAL for k in ks]

    def columns() -> Iterator[NDArray[np.float64]]:
        for model, metric in names:
            yield of_queries(measured, model, metric)

    drawn = drawn_means(columns(), groups=measured.users)
    return {name: drawn[:, place] for place, name in enumerate(names)}


def of_queries(measured: Measured, model: str, metric: str) -> NDArray[np.float64]:
    """Return float64[query]: a metric such as "ndcg@10" of one model."""
    name, _, k = metric.partition("@")
    return WITH_INTERVAL[name](measured.models[model].ranks, k=int(k))


def metrics_of(measured: Measured, draws: Draws) -> dict[str, dict[str, dict[str, float]]]:
    """Return model -> metric -> mean, low, high; the ends of the 95 % interval over users."""
    table: dict[str, dict[str, dict[str, float]]] = {name: {} for name in measured.models}
    for (model, metric), drawn in draws.items():
        low, high = np.quantile(drawn, _ENDS)
        mean = of_queries(measured, model, metric).mean()
        table[model][metric] = {"mean": float(mean), "low": float(low), "high": float(high)}
    return table


def pairs_of(measured: Measured, draws: Draws, metric: str = MAIN) -> list[dict[str, Any]]:
    """Return the difference of every two models, with its interval, p, and p after Holm's correction.

    The interval covers the bootstrap interval over users and Student's, as in `segue.metrics.comparison.compare`; p is
    the larger of the two. Holm: the smallest of m values of p counts m times, the next m - 1 times, and so on.

    Source: Holm 1979.
    """
    names = list(measured.models)
    values = {name: of_queries(measured, name, metric) for name in names}
    pairs: list[dict[str, Any]] = []
    for place, a in enumerate(names):
        for b in names[place + 1 :]:
            drawn = draws[a, metric] - draws[b, metric]
            mean, spread = float((values[a] - values[b]).mean()), student(values[a], values[b], measured.users)
            low, high = np.quantile(drawn, _ENDS)
            if spread.known:
                low, high = min(low, mean - spread.half), max(high, mean + spread.half)
            p = max(spread.p(mean), min(1.0, 2 * min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))))
            pairs.append(
                {"a": a, "b": b, "metric": metric, "mean": mean, "low": float(low), "high": float(high), "p": p}
            )
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


def verdict(metrics: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], kinds: Mapping[str, bool]) -> str:
    """Return in one sentence which model ranks best, and from which others the difference may be noise.

    Args:
        metrics: model -> metric -> mean, low, high.
        pairs: of `pairs_of`.
        kinds: model -> whether it is a model that is measured.
    """
    best = max(metrics, key=lambda name: metrics[name][MAIN]["mean"])
    main, others = metrics[best][MAIN], [name for name in metrics if name != best]
    value = f"NDCG@10 {main['mean']:.4f}, 95 % confidence interval {main['low']:.4f} to {main['high']:.4f}"
    what = f"{short(best)}{'' if kinds[best] else ', a baseline,'}"
    if not others:
        return f"{what} has {value}; nothing stands beside it."
    noise = [short(name) for name in others if between(pairs, best, name)["noise"]]
    if not noise:
        return f"{what} is better than {_all(others)}, by more than noise ({value})."
    if len(noise) == len(others):
        return f"{what} has the highest mean ({value}), and the difference from {_all(others)} may be noise."
    return f"{what} has the highest mean ({value}); the difference from {_listed(noise)} may be noise."


def short(name: str) -> str:
    """Return the name of a model without its settings."""
    return name.partition(" (")[0]


def _all(others: Sequence[str]) -> str:
    return short(others[0]) if len(others) == 1 else f"all {len(others)} others"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
