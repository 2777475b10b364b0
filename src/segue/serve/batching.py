"""Requests that arrive together become one commit.

Knows: a queue and one thread. Does not know: what is told, how it is kept.

Nothing waits for company: the first request goes at once, and what comes while it is being written goes
together in the next batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from segue.errors import SegueError
from segue.serve.answers import Tell, Told
from segue.serve.problems import Problem

TellAll: TypeAlias = Callable[[Sequence[Tell]], list[Told | SegueError]]
#: Requests, and events, of one batch.
REQUESTS, EVENTS = 256, 4096


class Teller:
    """Gathers what is told and tells it in batches, one at a time. To be used from one event loop.

    Args:
        tell: takes a batch and returns an outcome for each request.
        seen: is told the size of each batch.
    """

    def __init__(self, tell: TellAll, seen: Callable[[int], None] = lambda size: None) -> None:
        self._tell, self._seen = tell, seen
        self._waiting: deque[tuple[Tell, asyncio.Future[Told]]] = deque()
        self._busy: asyncio.Future[list[Told | SegueError]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segue-tell")
        self._closed = False

    async def tell(self, request: Tell) -> Told:
        """Return once the events of a request are on disk.

        Raises:
            SegueError: why nothing of it was done.
            Problem: 503: the server is being stopped.
        """
        if self._closed:
            raise Problem(503, "The server is being stopped. Send it again in a moment.", {"Retry-After": "1"})
        outcome: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, outcome))
        if self._busy is None:
            self._next()
        return await outcome

    async def close(self) -> None:
        """Take nothing more, write what has come, and let the thread go."""
        self._closed = True
        while self._busy is not None:
            await asyncio.wait([self._busy])
            await asyncio.sleep(0)
        self._thread.shutdown()

    def _next(self) -> None:
        """Send what waits to the thread."""
        batch: list[tuple[Tell, asyncio.Future[Told]]] = []
        events = 0
        while self._waiting and len(batch) < REQUESTS:
            events += len(self._waiting[0][0].events)
            if batch and events > EVENTS:
                break
            batch.append(self._waiting.popleft())
        if not batch:
            self._busy = None
            return
        self._seen(len(batch))
        loop = asyncio.get_running_loop()
        self._busy = loop.run_in_executor(self._thread, self._tell, [request for request, _ in batch])
        self._busy.add_done_callback(lambda done: self._deliver([one for _, one in batch], done))

    def _deliver(self, waiting: list[asyncio.Future[Told]], done: asyncio.Future[list[Told | SegueError]]) -> None:
        self._next()  # first, so that the thread works while answers are sent
        error = done.exception()
        outcomes: Sequence[Told | BaseException] = [error] * len(waiting) if error else done.result()
        for one, outcome in zip(waiting, outcomes, strict=True):
            if one.done():  # its client has gone
                continue
            if isinstance(outcome, Told):
                one.set_result(outcome)
            else:
                one.set_exception(outcome)
