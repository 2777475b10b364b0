"""Requests that arrive together become one commit, and their lists one product.

Knows: two queues and a thread for each. Does not know: what is told, how it is kept.

Nothing waits for company: the first request goes at once, and what comes while it is being written goes
together in the next batch. While lists are made, the next batch is written already; what has been written
meanwhile is answered together. Who only asks for a list goes to the second queue at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from segue.serve.answers import Ask, Outcome, Tell, Told
from segue.serve.problems import Problem
from segue.serve.telling import Entry

WriteAll: TypeAlias = Callable[[Sequence[Tell]], list[Entry]]
AnswerAll: TypeAlias = Callable[[Sequence[Entry | Ask]], Sequence[Outcome]]
#: What is told of a request in the end, in the event loop.
Done: TypeAlias = Callable[[Outcome | BaseException], None]
_B = TypeVar("_B")
#: Requests, and events, of one batch.
REQUESTS, EVENTS = 256, 4096


class Teller:
    """Gathers what is told and tells it in batches. To be used from one event loop.

    Args:
        write: puts a batch on disk.
        answer: returns an outcome for each request that was written.
        seen: is told the size of each batch that is written.
    """

    def __init__(self, write: WriteAll, answer: AnswerAll, seen: Callable[[int], None] = lambda size: None) -> None:
        self._write, self._answer, self._seen = write, answer, seen
        self._waiting: deque[tuple[Tell, Done]] = deque()
        self._written: list[tuple[Entry | Ask, Done]] = []
        self._writing = self._answering = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="segue-write")
        self._answerer = ThreadPoolExecutor(1, thread_name_prefix="segue-answer")
        self._closed = False

    async def tell(self, request: Tell) -> Told:
        """Return once the events of a request are on disk.

        Raises:
            SegueError: why nothing of it was done.
            Problem: 503: the server is being stopped.
        """
        outcome: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self.take(request, lambda found: _deliver(outcome, found))
        return await outcome

    def take(self, request: Tell | Ask, done: Done) -> None:
        """Begin to work on a request; `done` is told later, in the event loop, what came of it.

        Raises:
            Problem: 503: the server is being stopped.
        """
        if self._closed:
            raise Problem(503, "The server is being stopped. Send it again in a moment.", {"Retry-After": "1"})
        self._idle.clear()
        if isinstance(request, Tell):
            self._waiting.append((request, done))
            self._next_write()
        else:
            self._written.append((request, done))
            self._next_answer()

    async def close(self) -> None:
        """Take nothing more, write and answer what has come, and let the threads go."""
        self._closed = True
        await self._idle.wait()
        self._writer.shutdown()
        self._answerer.shutdown()

    def _next_write(self) -> None:
        """Send what waits to be written, if nothing is being written."""
        if self._writing or not self._waiting:
            return
        batch: list[tuple[Tell, Done]] = []
        events = 0
        while self._waiting and len(batch) < REQUESTS:
            events += len(self._waiting[0][0].events)
            if batch and events > EVENTS:
                break
            batch.append(self._waiting.popleft())
        self._writing = True
        self._seen(len(batch))
        requests, waiting = zip(*batch, strict=True)
        run_in(self._writer, lambda: self._write(requests), lambda found: self._on_written(waiting, found))

    def _on_written(self, waiting: Sequence[Done], found: Sequence[Entry] | BaseException) -> None:
        self._writing = False
        self._next_write()  # first, so that the thread works meanwhile
        if isinstance(found, BaseException):
            for done in waiting:
                done(found)
        else:
            self._written.extend(zip(found, waiting, strict=True))
        self._next_answer()

    def _next_answer(self) -> None:
        """Send all that is to be answered, if nothing is being answered."""
        if self._answering:
            return
        if not self._written:
            if not self._writing:
                self._idle.set()
            return
        self._answering = True
        entries, waiting = zip(*self._written, strict=True)
        self._written.clear()
        run_in(self._answerer, lambda: self._answer(entries), lambda found: self._on_answered(waiting, found))

    def _on_answered(self, waiting: Sequence[Done], found: Sequence[Outcome] | BaseException) -> None:
        self._answering = False
        self._next_answer()
        outcomes = [found] * len(waiting) if isinstance(found, BaseException) else found
        for done, outcome in zip(waiting, outcomes, strict=True):
            done(outcome)


def run_in(thread: ThreadPoolExecutor, work: Callable[[], _B], then: Callable[[_B | BaseException], None]) -> None:
    """Work in a thread, then go on with what was found, or with the error, in the event loop."""
    loop = asyncio.get_running_loop()

    def run() -> None:
        found: _B | BaseException
        try:
            found = work()
        except BaseException as error:
            found = error
        loop.call_soon_threadsafe(then, found)

    thread.submit(run)


def _deliver(waiting: "asyncio.Future[Told]", outcome: Outcome | BaseException) -> None:
    if waiting.done():  # its client has gone
        return
    if isinstance(outcome, Told):
        waiting.set_result(outcome)
    elif isinstance(outcome, BaseException):
        waiting.set_exception(outcome)
