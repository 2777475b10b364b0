"""What a measurement found, for people and for machines.

Knows: rows of metrics, the words of the protocol, the interval of the lead. Does not know: how they were made.
"""

from dataclasses import dataclass
from typing import Any

from segue.metrics.bootstrap import Interval

SHOWN = ("hr@10", "ndcg@10", "mrr@10", "precision@10", "coverage@10")


@dataclass(frozen=True)
class Report:
    """A table of metrics, a row per model, and how they were measured.

    Args:
        rows: name of the model -> metric -> value. The first row is the model asked about.
        protocol: what was asked, in words.
        queries: how many questions.
        unknown_targets: of them, how many had a target that the model never met; they count as misses.
        lead: the model's NDCG@10 minus that of the best baseline, with its interval over users.
        best_baseline: the name of that baseline.
        marks: anything that a reader must know before believing the numbers.
    """

    rows: dict[str, dict[str, float]]
    protocol: str
    queries: int
    unknown_targets: int
    lead: Interval | None = None
    best_baseline: str | None = None
    marks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "protocol": self.protocol,
            "queries": self.queries,
            "unknown_targets": self.unknown_targets,
            "models": self.rows,
            "lead": self.lead and self.lead.over(self.best_baseline),
            "marks": list(self.marks),
        }

    def __str__(self) -> str:
        short = {name: name.partition(" (")[0] for name in self.rows}
        width = max(len(name) for name in short.values())
        lines = [self.protocol, " " * width + "".join(f"{name:>13}" for name in SHOWN)]
        for name, row in self.rows.items():
            lines.append(short[name].ljust(width) + "".join(f"{row.get(metric, 0.0):13.4f}" for metric in SHOWN))
        settings = [name for name in self.rows if short[name] != name]
        if settings:
            lines.append(f"Tuned on the last training event of each user: {'; '.join(settings)}.")
        if self.lead:
            verdict = (
                "the lead is larger than noise"
                if self.lead.low > 0
                else ("the model is behind" if self.lead.high < 0 else "this may be noise")
            )
            lines.append(f"NDCG@10 against {short[self.best_baseline or '']}: {self.lead}, 95 % interval: {verdict}.")
        return "\n".join([*lines, *self.marks])
