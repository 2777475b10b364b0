"""Requests that arrive together are worked on together, in a thread.

Knows: a queue and its thread. Does not know: what the requests are.

Nothing waits for company: what has arrived goes at once, and what comes while it is being worked on goes together
in the next batch. So events that came together are one commit, and their lists one product.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from segue.serve.http.problems import Refusal

R = TypeVar("R")
T = TypeVar("T")
#: Requests of one batch, and what they may weigh together.
REQUESTS, WEIGHT = 256, 4096
#: Seconds that the event loop stands still for a batch.
PATIENCE = 0.02


#: Turns of the event loop between two batches: answers are sent, what has arrived is read, and gets here.
TURNS = 3


class Batcher(Generic[R, T]):
    """Gathers requests and works on them in batches. To be used from one event loop.

    Args:
        work: returns for each request of a batch what came of it, or the error that is its own.
        weight: of a request, such as its events.
        seen: is called with the size of each batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[R]], Sequence[T | Exception]],
        *,
        weight: Callable[[R], int] = lambda request: 1,
        seen: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work, self._weight, self._seen = work, weight, seen
        self._waiting: deque[tuple[R, asyncio.Future[T]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segue-batch")

    async def send(self, request: R) -> T:
        """Return what came of a request.

        Raises:
            Exception: of the request, or of its batch.
            Refusal: 503: the server is being stopped.
        """
        if self._closed:
            raise Refusal(503, "The server is being stopped. Send it again in a moment.", {"Retry-After": "1"})
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, outcome))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())  # begins when all that has arrived is read
        return await outcome

    async def close(self) -> None:
        """Take nothing more, work on what has come, and let the thread go."""
        self._closed = True
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _run(self) -> None:
        """Work on what waits, batch by batch, until nothing does."""
        while self._waiting:
            batch = self._next()
            try:
                self._seen(len(batch))
                found = await self._worked([request for request, _ in batch])
            except Exception as error:  # nobody waits for ever, and the next batch comes
                found = [error] * len(batch)
            for (_, outcome), one in zip(batch, found, strict=True):
                if outcome.done():  # its client has gone
                    continue
                if isinstance(one, Exception):
                    outcome.set_exception(one)
                else:
                    outcome.set_result(one)
            for _ in range(TURNS):
                await asyncio.sleep(0)

    def _next(self) -> list[tuple[R, asyncio.Future[T]]]:
        """Return the requests of the next batch."""
        batch = [self._waiting.popleft()]
        left = WEIGHT - self._weight(batch[0][0])
        while self._waiting and len(batch) < REQUESTS and (left := left - self._weight(self._waiting[0][0])) >= 0:
            batch.append(self._waiting.popleft())
        return batch

    async def _worked(self, requests: Sequence[R]) -> Sequence[T | Exception]:
        """Return what came of a batch.

        The event loop stands still for it, for a moment at most: what it could read meanwhile would wait all the
        same, and two threads that both want the interpreter wake each other up for every step.
        """
        working = self._thread.submit(self._work, requests)
        with suppress(TimeoutError):
            working.exception(PATIENCE)
        try:
            found = working.result() if working.done() else await asyncio.wrap_future(working)
        except Exception:
            raise
        except BaseException as error:  # what would end a process ends this batch alone
            raise RuntimeError(type(error).__name__) from None
        if len(found) != len(requests):
            raise ValueError(f"expected an outcome for each of {len(requests)} requests, came {len(found)}")
        return found
