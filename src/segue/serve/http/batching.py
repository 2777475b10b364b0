"""Requests that arrive together are worked on together, in a thread.

Knows: a queue and its thread. Does not know: what is asked, what is done.

Nothing waits for company: what has arrived goes at once, and what comes while it is being worked on goes together
in the next batch. So events that came together are one commit, and their lists one product.

The event loop stands still while a batch is worked on, for a moment at most: what it could read meanwhile would wait
all the same, and two threads that both want the interpreter wake each other up for every step.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from segue.serve.http.problems import Problem, raised_at

logger = logging.getLogger("segue.serve")

R = TypeVar("R")
T = TypeVar("T")
#: Requests of one batch, and what they may weigh together.
REQUESTS, WEIGHT = 256, 4096
#: Seconds that the event loop stands still for a batch.
PATIENCE = 0.02


class Batcher(Generic[R, T]):
    """Gathers requests and works on them in batches. To be used from one event loop.

    Args:
        work: returns for each request of a batch what came of it, or the error that is its own.
        weight: of a request, such as its events.
        seen: is told the size of each batch.
    """

    def __init__(
        self,
        work: Callable[[Sequence[R]], Sequence[T | Exception]],
        *,
        weight: Callable[[R], int] = lambda request: 1,
        seen: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work, self._weight, self._seen = work, weight, seen
        self._waiting: deque[tuple[R, Callable[[T | BaseException], None]]] = deque()
        self._working = self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segue-batch")

    async def send(self, request: R) -> T:
        """Return what came of a request.

        Raises:
            Exception: of the request, or of its batch.
            Problem: 503: the server is being stopped.
        """
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(found: T | BaseException) -> None:
            if outcome.done():  # its client has gone
                return
            if isinstance(found, BaseException):
                outcome.set_exception(found)
            else:
                outcome.set_result(found)

        self.take(request, done)
        return await outcome

    def take(self, request: R, done: Callable[[T | BaseException], None]) -> None:
        """Begin to work on a request; `done` is told later, in the event loop, what came of it.

        Raises:
            Problem: 503: the server is being stopped.
        """
        if self._closed:
            raise Problem(503, "The server is being stopped. Send it again in a moment.", {"Retry-After": "1"})
        self._waiting.append((request, done))
        if not self._working:
            self._working = True
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._next)  # when all that has arrived is read

    async def close(self) -> None:
        """Take nothing more, work on what has come, and let the thread go."""
        self._closed = True
        await self._idle.wait()
        self._thread.shutdown()

    def _next(self) -> None:
        """Send what waits to the thread, which is free."""
        if not self._waiting:
            self._working = False
            self._idle.set()
            return
        batch = [self._waiting.popleft()]
        left = WEIGHT - self._weight(batch[0][0])
        while self._waiting and len(batch) < REQUESTS and (left := left - self._weight(self._waiting[0][0])) >= 0:
            batch.append(self._waiting.popleft())
        requests, waiting = zip(*batch, strict=True)

        def finish(found: Sequence[T | Exception] | BaseException) -> None:
            asyncio.get_running_loop().call_soon(self._next)
            outcomes = [found] * len(waiting) if isinstance(found, BaseException) else found
            for done, outcome in zip(waiting, outcomes, strict=True):
                try:
                    done(outcome)
                except Exception as error:  # the others get their answers all the same
                    logger.error("unforeseen %s at %s", type(error).__name__, raised_at(error))

        try:
            self._seen(len(batch))
            run_in(self._thread, lambda: self._worked(requests), finish, patience=PATIENCE)
        except Exception as error:  # such as no room for a thread: nobody waits for ever, and the next batch comes
            finish(error)

    def _worked(self, requests: Sequence[R]) -> Sequence[T | Exception]:
        found = self._work(requests)
        if len(found) != len(requests):
            raise ValueError(f"expected an outcome for each of {len(requests)} requests, came {len(found)}")
        return found


def run_in(
    thread: ThreadPoolExecutor,
    work: Callable[[], T],
    then: Callable[[T | BaseException], None],
    *,
    patience: float = 0.0,
) -> None:
    """Work in a thread, then go on with what was found, or with the error, in the event loop.

    Args:
        thread: where to.
        work: to be done.
        then: is told what came of it: before this returns, if it is done within the patience.
        patience: seconds that the event loop stands still for it.
    """
    loop, working = asyncio.get_running_loop(), thread.submit(work)

    def found() -> T | BaseException:
        error = working.exception()
        if error is None:
            return working.result()
        return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)  # the loop goes on

    with suppress(TimeoutError):
        working.exception(patience)
    if working.done():
        then(found())
    else:
        working.add_done_callback(lambda _: loop.call_soon_threadsafe(then, found()))
