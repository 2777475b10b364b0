"""`ComparisonReport`: what callers hold of a measurement of several models."""

import json
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from segue.errors import ArgumentError
from segue.files import replacing


@dataclass(frozen=True)
class ComparisonReport:
    """Several models on the same held-out events, beside baselines.

    Args:
        numbers: everything that is known, as plain values; the contents of `report.json`.

    Example:
        >>> report = ComparisonReport({"verdict": "a is better.", "models": {}, "pairs": [], "notes": []})
        >>> print(report)
        a is better.
    """

    numbers: dict[str, Any] = field(repr=False)

    @property
    def verdict(self) -> str:
        """Which model ranks best, and what may be noise, in one sentence."""
        return str(self.numbers["verdict"])

    @property
    def rows(self) -> dict[str, dict[str, float]]:
        """Model -> metric -> value: the first model, and the baselines."""
        models = self.numbers["models"]
        first = next(iter(models))
        return {name: each["metrics"] for name, each in models.items() if name == first or each["kind"] != "model"}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: all numbers of the report."""
        return self.numbers

    def to_frame(self) -> pl.DataFrame:
        """Return a row per model: its metrics, and the ends of the 95 % interval of those that have one."""
        return frame_of(self.numbers)

    def to_html(self) -> str:
        """Return one page that needs no other file and no network.

        Raises:
            ArgumentError: matplotlib, the extra `plot`, is not installed.
        """
        check_figures()
        from segue.evaluation.comparison_report.page import page_of

        return page_of(self.numbers)

    def write(self, path: Path) -> None:
        """Write the page to a file that ends in ".html", or else the numbers as JSON; whole or not at all."""
        text = self.to_html() if path.suffix == ".html" else json.dumps(self.numbers, ensure_ascii=False)
        with replacing(path) as new:
            new.write_text(text + "\n", encoding="utf-8")

    def __str__(self) -> str:
        lines, models = [self.verdict], self.numbers["models"].values()
        width = max((len(each["name"]) for each in models), default=0)
        for each in models:
            values = [f"{metric.upper()} {each['metrics'][metric]:.4f}" for metric in self.numbers["main"]["shown"]]
            ends = each["intervals"][self.numbers["main"]["metric"]]
            values[0] += f" ({ends['low']:.4f} to {ends['high']:.4f})"
            lines.append(f"{each['name']:<{width}}  {'  '.join(values)}")
        return "\n".join([*lines, *self.numbers["notes"]])


def check_figures() -> None:
    """Do nothing if pages can be made.

    Raises:
        ArgumentError: matplotlib, the extra `plot`, is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ArgumentError(
            'report: expected the extra for figures, matplotlib is not installed. Run: pip install "segue[plot]"'
        )


def frame_of(numbers: dict[str, Any]) -> pl.DataFrame:
    """Return a row per model of the numbers of a report."""
    rows = []
    for name, each in numbers["models"].items():
        ends = {f"{metric} {end}": value[end] for metric, value in each["intervals"].items() for end in ("low", "high")}
        rows.append({"model": name, "kind": each["kind"], **each["metrics"], **ends})
    return pl.DataFrame(rows)
