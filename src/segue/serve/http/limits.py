"""Bounds of one request, and of the requests of one client.

Knows: sizes, times, token buckets. Does not know: HTTP.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

#: Items in a list.
K = 1000
#: Events in one request, to ingest or as a history.
EVENTS = 1000
#: Ids to leave out of a list, and ids to make a list of; for ids of over 30 bytes the body's size is a smaller bound.
EXCLUDE = CANDIDATES = 1_000_000
#: Attributes in one filter, values of each, and characters of a filter.
WHERE, VALUES, FILTER = 20, 100, 10_000
#: Scenarios of a shop.
SCENARIOS = 200
#: Lists in one request.
LISTS = 1000
#: Events of a user that are looked at for the items to leave out.
SEEN = 10_000
#: Characters of an id.
ID = 512
#: Entries of a context, a profile or the attributes of an item.
FIELDS = 64
#: Events that an explanation leaves out one by one.
LAST = 100
#: Characters of a token.
TOKEN = 600_000
#: Bytes from which on a body is large: of large ones few are at work at once, and each such part has its own time.
LARGE = 1 << 20
#: Lines of NDJSON that are worked on together, and their bytes.
LINES, LINES_BYTES = 128, 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that do not depend on what a request says.

    Args:
        body_bytes: of one request; of NDJSON, of one line.
        lines_bytes: of one request of NDJSON, which lies on disk until it is answered.
        large: requests at work whose bodies are large (`LARGE`) or NDJSON; beyond these the answer is 503.
        body_seconds: for each MiB of a body to come.
        header_seconds: for the headers of a request to come, and for the first request of a connection.
        header_bytes: of all headers.
        idle_seconds: for which a connection is kept between requests.
        depth: of JSON.
        in_flight: requests at work; beyond these the answer is 503.
    """

    body_bytes: int = 1 << 25
    lines_bytes: int = 1 << 28
    large: int = 8
    body_seconds: float = 10.0
    header_seconds: float = 10.0
    header_bytes: int = 1 << 15
    idle_seconds: int = 30
    depth: int = 32
    in_flight: int = 512


@dataclass
class Rates:
    """A token bucket for each client: `rate` requests a second, and twice as many at once.

    Args:
        rate: 0 lets everything pass.
        most: clients that are remembered, the most recent ones.
        clock: seconds.

    Example:
        >>> rates = Rates(1, clock=lambda: 0.0)
        >>> [rates.wait("web") for _ in range(3)]
        [0.0, 0.0, 1.0]
    """

    rate: float
    most: int = 10_000
    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict, repr=False)

    def wait(self, client: str) -> float:
        """Count a request, and return 0, or the seconds after which it may come again."""
        if not self.rate:
            return 0.0
        now, full = self.clock(), max(2 * self.rate, 1.0)
        left, then = self._buckets.pop(client, (full, now))
        left = min(full, left + (now - then) * self.rate)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > self.most:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self.rate
