"""What the server says of itself to Prometheus.

Knows: names and labels, all from fixed sets: no id of a user or item is ever a label.
Does not know: when something happens.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from segue.serve.ranking.types import TrendStatus

_TIMES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_METHODS = frozenset(("GET", "POST", "PATCH", "DELETE", "PUT", "HEAD"))
#: Groups of the online metrics that are shown. Types of events are words of clients, so they are at /v1/quality only.
_GROUPS = ("all", "model", "hour", "shadow")


class Metrics:
    """The numbers of one server, in a registry of its own.

    Args:
        quality: returns the online metrics, whenever Prometheus reads.
        recall: returns the recall of the index that finds the lists.
        faults: returns the errors of each thread in the background.
        trends: returns where the trends stand that lists follow; None where they follow none.
    """

    def __init__(
        self,
        quality: Callable[[], Mapping[str, Any]],
        recall: Callable[[], float] = lambda: 1.0,
        faults: Callable[[], Mapping[str, int]] = dict,
        trends: Callable[[], TrendStatus | None] = lambda: None,
    ) -> None:
        self.registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self._requests = Counter("segue_requests", "Requests by route.", labels, registry=self.registry)
        self._seconds = Histogram(
            "segue_request_seconds", "From the headers to the last byte.", ["route"], buckets=_TIMES,
            registry=self.registry,
        )  # fmt: skip
        self._batch = Histogram(
            "segue_batch_requests", "Requests in one commit.", buckets=_BATCHES, registry=self.registry
        )
        self._commit = Histogram(
            "segue_commit_seconds",
            "From the begin of a commit of the store until it is on disk.",
            buckets=_TIMES,
            registry=self.registry,
        )
        self.in_flight = Gauge("segue_requests_in_flight", "Requests at work.", registry=self.registry)
        Gauge(
            "segue_index_recall", "Share of the exact best that lists hold, measured when the index was built; "
            "1 where all items are scored.", registry=self.registry,
        ).set_function(recall)  # fmt: skip
        self.registry.register(_Quality(quality))
        self.registry.register(_Faults(faults))
        self.registry.register(_Trends(trends))
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request, by the template of its route."""
        kind = method if method in _METHODS else "other"
        name = (kind, route, status // 100)
        known = self._known.get(name)
        if known is None:  # looked up once: labels are from fixed sets
            counter = self._requests.labels(kind, route, f"{status // 100}xx")
            known = self._known[name] = counter, self._seconds.labels(route)
        known[0].inc()
        known[1].observe(seconds)

    def batch(self, size: int) -> None:
        """Count one batch of requests that ingest events."""
        self._batch.observe(size)

    def commit(self, seconds: float) -> None:
        """Count one commit of the store."""
        self._commit.observe(seconds)

    def text(self) -> bytes:
        """Return all numbers as Prometheus reads them."""
        return generate_latest(self.registry)


class _Quality(Collector):
    def __init__(self, quality: Callable[[], Mapping[str, Any]]) -> None:
        self._quality = quality

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """Return one family for each measure; its labels are those of `_GROUPS`."""
        found = self._quality()
        names = {
            "n": ("segue_live_events", "Events ranked before they were applied."),
            "recall@10": ("segue_live_recall_at_10", "Share of events that were in the list before."),
            "mrr@10": ("segue_live_mrr_at_10", "Mean reciprocal rank within 10."),
            "log_loss": ("segue_live_log_loss", "In nats; from a sample above 50,000 items."),
        }
        for measure, (name, words) in names.items():
            family = GaugeMetricFamily(name, words, labels=["group", "value"])
            for group in _GROUPS:
                for value, sums in found.get(group, {}).items():
                    family.add_metric([group, value], sums[measure])
            yield family


class _Faults(Collector):
    def __init__(self, faults: Callable[[], Mapping[str, int]]) -> None:
        self._faults = faults

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        words = "Errors that a thread in the background met, and went on."
        family = CounterMetricFamily("segue_background_errors", words, labels=["thread"])
        for thread, count in self._faults().items():
            family.add_metric([thread], count)
        yield family


class _Trends(Collector):
    def __init__(self, trends: Callable[[], TrendStatus | None]) -> None:
        self._trends = trends

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the size and the age of the counts that lists follow."""
        found = self._trends()
        if found is None:
            return
        yield CounterMetricFamily("segue_trends_events", "Events of the log counted since the start.", found.events)
        words = "Seconds since the log was read to its end."
        yield GaugeMetricFamily("segue_trends_behind_seconds", words, found.behind)
        yield GaugeMetricFamily("segue_trends_items", "Items that are counted.", found.items)
        yield GaugeMetricFamily("segue_trends_pairs", "Pairs of items that are counted.", found.pairs)
        yield GaugeMetricFamily("segue_trends_bytes", "Memory of the counts.", found.bytes)
