"""Conditions under which a report fails, such as "ndcg@10 < baseline": for CI, and before a model is published."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.errors import ArgumentError

_SHAPE = re.compile(r"\s*([\w@ .-]+?)\s*([<>])\s*(\S.*?)\s*")
_EXAMPLES = 'Write METRIC < VALUE, such as "ndcg@10 < 0.12", "ndcg@10 < baseline" or "ndcg@10 < report.json"'


@dataclass(frozen=True)
class Condition:
    """A condition under which a report fails.

    Args:
        metric: such as "ndcg@10".
        above: whether it fails above the value; otherwise below.
        value: a number; "baseline", the best baseline of the same report; or the path of a reference report.
    """

    metric: str
    above: bool
    value: float | str

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{self.metric} {'>' if self.above else '<'} {value}"

    @property
    def needs_baselines(self) -> bool:
        """Whether the report must hold baselines."""
        return self.value == "baseline"


def condition_of(text: str) -> Condition:
    """Return the condition of a text; a reference report is read at once, so that a wrong path costs no measurement.

    Raises:
        ArgumentError: the text is no condition, or there is no such report.

    Example:
        >>> condition_of("ndcg@10 < 0.12")
        Condition(metric='ndcg@10', above=False, value=0.12)
        >>> str(condition_of("rmse>baseline"))
        'rmse > baseline'
    """
    parts = _SHAPE.fullmatch(text)
    if parts is None:
        raise ArgumentError(f'--fail-if: expected a condition, came "{text}". {_EXAMPLES}.')
    metric, sign, value = parts.groups()
    if value == "baseline":
        return Condition(metric, sign == ">", value)
    try:
        return Condition(metric, sign == ">", float(value))
    except ValueError:
        pass
    condition = Condition(metric, sign == ">", value)
    _reference(condition)
    return condition


def failures(conditions: Sequence[Condition], rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a sentence for each condition that holds, so that the report fails.

    A number is compared as it is, and so is the value of the best baseline. A reference report is compared by the
    nearer end of its 95 % confidence interval: "ndcg@10 < report.json" fails where the model lies below the whole
    interval of the first model of that report.

    Args:
        conditions: to check.
        rows: model -> metric -> value; the first is checked, the others are baselines.

    Raises:
        ArgumentError: the report does not have the metric, or has no baseline to compare with.
    """
    found, model = [], next(iter(rows))
    for condition in conditions:
        value = _metric(rows[model], condition.metric, "this report")
        limit, what = _limit(condition, rows, model)
        if (value > limit) if condition.above else (value < limit):
            side = "above" if condition.above else "below"
            found.append(f"Failed: {condition}: {condition.metric} of {model} is {value:.4f}, {side} {what}.")
    return found


def _limit(condition: Condition, rows: Mapping[str, Mapping[str, float]], model: str) -> tuple[float, str]:
    """Return the number that a metric is compared with, and what that number is."""
    if isinstance(condition.value, float):
        return condition.value, f"{condition.value:g}"
    if condition.needs_baselines:
        others = {name: _metric(row, condition.metric, "this report") for name, row in rows.items() if name != model}
        if not others:
            raise ArgumentError(
                f"--fail-if {condition}: expected baselines in the report, found none. Give train=, or a number."
            )
        best = (min if condition.above else max)(others, key=others.__getitem__)
        return others[best], f"the best baseline, {best.partition(' (')[0]}, {others[best]:.4f}"
    low, high = _reference(condition)
    end = high if condition.above else low
    return end, f"the 95 % confidence interval of {condition.value}, {low:.4f} to {high:.4f}"


def _reference(condition: Condition) -> tuple[float, float]:
    """Return the ends of the interval of a metric in a reference report."""
    first: Mapping[str, Any] = {"intervals": {}}
    try:
        kept: Any = json.loads(Path(str(condition.value)).read_text(encoding="utf-8"))
        first = next(iter(kept["models"].values()))
        interval = first["intervals"][condition.metric]
        return float(interval["low"]), float(interval["high"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        known = ", ".join(first.get("intervals", ()))
        raise ArgumentError(
            f"--fail-if {condition}: expected a number, baseline, or the report.json of an earlier run with an "
            f"interval of {condition.metric}, came {condition.value}{f', which has {known}' if known else ''}. "
            "Make it with --report-json."
        ) from error


def _metric(row: Mapping[str, float], metric: str, where: str) -> float:
    if metric not in row:
        raise ArgumentError(
            f"--fail-if: expected a metric of {where}, {', '.join(row)}, came {metric}. Take one of these."
        )
    return row[metric]
