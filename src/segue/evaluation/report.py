"""The result of a measurement, for people and for machines."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from segue.errors import EvaluationError
from segue.evaluation.comparison_report.report import ComparisonReport
from segue.metrics.bootstrap import Interval

SHOWN = ("hr@10", "ndcg@10", "mrr@10", "precision@10", "coverage@10")


@dataclass(frozen=True)
class Report:
    """A table of metrics, a row per model, and how they were measured.

    Args:
        rows: name of the model -> metric -> value. The first row is the model that is measured.
        protocol: what was measured, in words.
        queries: the number of queries.
        unknown_targets: how many queries have a target that the model never met; these count as misses.
        improvement: the model's NDCG@10 minus that of the best baseline, with its interval over users.
        best_baseline: the name of that baseline.
        notes: anything that a reader must know before believing the numbers.
        details: gives the report with intervals, slices and cases; None for a table made by hand.
    """

    rows: dict[str, dict[str, float]]
    protocol: str
    queries: int
    unknown_targets: int
    improvement: Interval | None = None
    best_baseline: str | None = None
    notes: tuple[str, ...] = ()
    details: Callable[[], ComparisonReport] | None = field(default=None, repr=False, compare=False)

    def to_frame(self) -> pl.DataFrame:
        """Return a row per model: its name and its metrics."""
        return pl.DataFrame([{"model": name, **row} for name, row in self.rows.items()])

    def to_html(self) -> str:
        """Return one page with intervals, slices and users, that needs no other file and no network.

        Raises:
            ArgumentError: matplotlib, the extra `plot`, is not installed.
            EvaluationError: the report was not made by `segue.evaluate`.
        """
        if self.details is None:
            raise EvaluationError(
                "report: expected a report of segue.evaluate, came a table without ranks. Measure the model again."
            )
        return self.details().to_html()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "protocol": self.protocol,
            "queries": self.queries,
            "unknown_targets": self.unknown_targets,
            "models": self.rows,
            "improvement": self.improvement and self.improvement.over(self.best_baseline),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        short = short_names(self.rows)
        width = max(len(name) for name in short.values())
        lines = [self.protocol, " " * width + "".join(f"{name:>13}" for name in SHOWN)]
        for name, row in self.rows.items():
            lines.append(short[name].ljust(width) + "".join(f"{row.get(metric, 0.0):13.4f}" for metric in SHOWN))
        lines += tuned_line(self.rows, "on the last training event of each user")
        if self.improvement:
            lines.append(improvement_line(self.improvement, short[self.best_baseline or ""], "NDCG@10"))
        return "\n".join([*lines, *self.notes])


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return the names of models without their settings.

    Example:
        >>> short_names(["segue", "item-kNN (norm 0.5)"])
        {'segue': 'segue', 'item-kNN (norm 0.5)': 'item-kNN'}
    """
    return {name: name.partition(" (")[0] for name in names}


def tuned_line(names: Iterable[str], how: str) -> list[str]:
    """Return the sentence with the settings of the baselines, if any has settings."""
    settings = [name for name, short in short_names(names).items() if short != name]
    return [f"Tuned {how}: {'; '.join(settings)}."] if settings else []


def improvement_line(improvement: Interval, baseline: str, metric: str, *, over: str = "the best baseline, ") -> str:
    """Return the sentence about the improvement over the best baseline.

    Example:
        >>> improvement_line(Interval(0.02, 0.01, 0.03, 1.0), "EASE", "NDCG@10")
        'Improvement over the best baseline, EASE, in NDCG@10: +0.0200 (+0.0100 to +0.0300), 95 % confidence interval. \
The model is better.'
    """
    verdict = "The difference may be noise."
    if improvement.low > 0 or improvement.high < 0:
        verdict = f"The model is {'better' if improvement.low > 0 else 'worse'}."
    words = f"Improvement over {over}{baseline}, in {metric}"
    return f"{words}: {improvement}, 95 % confidence interval. {verdict}"
