"""The result of reading a stream, for people and for machines: by model, by age of the item, by hour.

Knows: ranks of every model on the same events, how they are summed up. Does not know: how the ranks
came about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.evaluation.online.stream_log import HOUR, StreamLog
from segue.evaluation.report import improvement_line, short_names, tuned_line
from segue.metrics.bootstrap import Interval, bootstrap_means
from segue.metrics.metrics import hit_rate, mrr, ndcg
from segue.shapes import Bools

METRICS = {"hr@10": hit_rate, "ndcg@10": ndcg, "mrr@10": mrr}
#: Hours since the first event of anybody with an item that came after the cut -> what that age is called.
AGES = {"new, < 1 h": 1.0, "new, 1-6 h": 6.0, "new, 6-24 h": 24.0, "new, older": np.inf}
#: Rows of the table by hour at most; a longer stream has longer rows.
MOST_ROWS = 48

#: The row of the model without trends, beside the model with trends.
FROZEN = "segue_frozen"

Values = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Slice:
    """The metrics of every model on some of the events.

    Args:
        name: which events.
        queries: how many.
        models: name of the model -> metric -> value.
    """

    name: str
    queries: int
    models: Values

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"name": self.name, "queries": self.queries, "models": self.models}


@dataclass(frozen=True)
class StreamReport:
    """A table of metrics, a row per model, of a stream that every model read on.

    Args:
        rows: name of the model -> metric -> mean with its interval over users. The first is the
            model.
        ages: the events by the age of their item: known from training, or new and how old.
        hours: the events by hour of the stream.
        protocol: what was measured, in words.
        queries: the number of events.
        unknown_targets: how many events have an item that the model does not know; misses for the
            model.
        improvement: the model's NDCG@10 minus that of the best online baseline, with its interval
            over users.
        best_baseline: the name of that baseline.
        gain: the model's NDCG@10 minus that of the model without trends, with its interval.
        notes: anything that a reader must know before believing the numbers.
    """

    rows: dict[str, dict[str, Interval]]
    ages: tuple[Slice, ...]
    hours: tuple[Slice, ...]
    protocol: str
    queries: int
    unknown_targets: int
    improvement: Interval | None = None
    best_baseline: str | None = None
    gain: Interval | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        means = {model: {metric: one.mean for metric, one in row.items()} for model, row in self.rows.items()}
        ends = {model: {name: [one.low, one.high] for name, one in row.items()} for model, row in self.rows.items()}
        return {
            "protocol": self.protocol,
            "queries": self.queries,
            "unknown_targets": self.unknown_targets,
            "models": means,
            "intervals": ends,
            "improvement": self.improvement and self.improvement.over(self.best_baseline),
            "gain": self.gain and self.gain.over(FROZEN),
            "by_age": [one.to_dict() for one in self.ages],
            "by_hour": [one.to_dict() for one in self.hours],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        short = short_names(self.rows)
        width = max(len(name) for name in short.values())
        lines = [self.protocol, " " * width + "".join(f"{name:>26}" for name in METRICS)]
        for name, row in self.rows.items():
            cells = [f"{one.mean:.4f} ({one.low:.4f} to {one.high:.4f})" for one in row.values()]
            lines.append(short[name].ljust(width) + "".join(f"{cell:>26}" for cell in cells))
        lines += ["", "NDCG@10 by the age of the item:"]
        lines.append(" " * width + "".join(f"{one.name:>15}" for one in self.ages))
        lines.append("events".ljust(width) + "".join(f"{one.queries:>15,}" for one in self.ages))
        for name in self.rows:
            cells = [f"{one.models[name]['ndcg@10']:15.4f}" for one in self.ages]
            lines.append(short[name].ljust(width) + "".join(cells))
        lines += ["", *self._by_hour(short), ""]
        lines += tuned_line(self.rows, "on the last part of the training events, read on alike")
        if self.improvement:
            lines.append(improvement_line(self.improvement, short[self.best_baseline or ""], "NDCG@10"))
        if self.gain:
            lines.append(improvement_line(self.gain, "the frozen model", "NDCG@10", over=""))
        return "\n".join([*lines, *self.notes])

    def _by_hour(self, short: Mapping[str, str]) -> list[str]:
        """Return the table by hour, of the model and the best baseline."""
        shown = [name for name in self.rows if name in ("segue", FROZEN, self.best_baseline)]
        widths = [max(len(short[name]), 7) + 2 for name in shown]
        heads = "".join(short[name].rjust(width) for name, width in zip(shown, widths, strict=True))
        lines = ["NDCG@10 by hour of the stream:", f"{'hours':>13}{'events':>9}{heads}"]
        for one in self.hours:
            cells = [f"{one.models[name]['ndcg@10']:{width}.4f}" for name, width in zip(shown, widths, strict=True)]
            lines.append(f"{one.name:>13}{one.queries:>9,}{''.join(cells)}")
        return lines


def stream_report(
    ranks: Mapping[str, NDArray[np.float64]],
    log: StreamLog,
    begin: int,
    *,
    protocol: str,
    unknown: int,
    notes: Sequence[str] = (),
) -> StreamReport:
    """Return the report of a stream.

    Args:
        ranks: name of the model -> float64[event], the ranks from `begin` on; the first is the
            model.
        log: the stream.
        begin: its first event that was ranked.
        protocol: what was measured, in words.
        unknown: how many items the model does not know.
        notes: sentences for the reader.

    Cost: O(draws x users).
    """
    names = list(ranks)
    values = np.stack([metric(each, k=10) for each in ranks.values() for metric in METRICS.values()], axis=1)
    of_ndcg = {name: values[:, len(METRICS) * n + 1] for n, name in enumerate(names)}
    baselines = [name for name in names[1:] if name != FROZEN]
    best = max(baselines, key=lambda name: of_ndcg[name].mean(), default=None)
    beside = [name for name in (best, FROZEN) if name in names]
    differences = [of_ndcg[names[0]] - of_ndcg[name] for name in beside]
    intervals = bootstrap_means(np.column_stack([values, *differences]), groups=log.users[begin:])
    found = dict(zip(beside, intervals[values.shape[1] :], strict=True))
    table = iter(intervals)
    rows = {name: {metric: next(table) for metric in METRICS} for name in names}

    def part(name: str, chosen: Bools) -> Slice:
        count = int(np.count_nonzero(chosen))
        means = iter((values[chosen].mean(axis=0) if count else np.zeros(values.shape[1])).tolist())
        return Slice(name, count, {model: {metric: next(means) for metric in METRICS} for model in names})

    ages = tuple(part(name, chosen) for name, chosen in _by_age(log, begin).items())
    hours = tuple(one for one in (part(*each) for each in _by_hour(log, begin).items()) if one.queries)
    improvement = None if best is None else found[best]
    return StreamReport(
        rows, ages, hours, protocol, len(values), unknown, improvement, best, found.get(FROZEN), tuple(notes)
    )


def _by_age(log: StreamLog, begin: int) -> dict[str, Bools]:
    """Return which events are about an item of each age."""
    times, firsts = log.times[begin:], log.first_times[log.items[begin:]]
    trained = np.isin(log.items[begin:], log.items[:begin])
    hours = (times - firsts) / HOUR
    slices, least = {"trained": trained}, 0.0
    for name, most in AGES.items():
        slices[name] = ~trained & (hours >= least) & (hours < most)
        least = most
    return slices | {"new, all": ~trained}


def _by_hour(log: StreamLog, begin: int) -> dict[str, Bools]:
    """Return which events lie in each hour since the first, or in each of so many longer parts."""
    hours = (log.times[begin:] - log.times[begin]) / HOUR
    step = max(1, -(-int(hours[-1] + 1) // MOST_ROWS))
    part = (hours // step).astype(np.int64)
    return {f"{step * n} to {step * (n + 1)}": part == n for n in range(int(part[-1]) + 1)}
