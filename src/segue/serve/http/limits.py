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
#: Ids to leave out of a list, and ids to make a list of; the size of a body is a smaller bound for long ids.
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


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that do not depend on what a request says.

    Args:
        body_bytes: of one request.
        body_seconds: for all of it to come.
        header_seconds: for the headers of a request to come, and for the first request of a connection.
        header_bytes: of all headers.
        idle_seconds: for which a connection is kept between requests.
        depth: of JSON.
        in_flight: requests at work; beyond these the answer is 503.
    """

    body_bytes: int = 1 << 20
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
