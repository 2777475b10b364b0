"""Requests that arrive together become one commit, and their lists one product.

Knows: two queues and a thread for each. Does not know: what is told, how it is kept.

Nothing waits for company: the first request goes at once, and what comes while it is being written goes
together in the next batch. While lists are made, the next batch is written already; what has been written
meanwhile is answered together.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from segue.errors import SegueError
from segue.serve.answers import Tell, Told
from segue.serve.problems import Problem
from segue.serve.telling import Entry

WriteAll: TypeAlias = Callable[[Sequence[Tell]], list[Entry]]
AnswerAll: TypeAlias = Callable[[Sequence[Entry]], list[Told | SegueError]]
Outcome: TypeAlias = "asyncio.Future[Told]"
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
        self._waiting: deque[tuple[Tell, Outcome]] = deque()
        self._written: deque[tuple[Entry, Outcome]] = deque()
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
        if self._closed:
            raise Problem(503, "The server is being stopped. Send it again in a moment.", {"Retry-After": "1"})
        outcome: Outcome = asyncio.get_running_loop().create_future()
        self._waiting.append((request, outcome))
        self._next_write()
        return await outcome

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
        batch: list[tuple[Tell, Outcome]] = []
        events = 0
        while self._waiting and len(batch) < REQUESTS:
            events += len(self._waiting[0][0].events)
            if batch and events > EVENTS:
                break
            batch.append(self._waiting.popleft())
        self._writing = True
        self._idle.clear()
        self._seen(len(batch))
        work = asyncio.get_running_loop().run_in_executor(self._writer, self._write, [one for one, _ in batch])
        work.add_done_callback(lambda done: self._on_written([outcome for _, outcome in batch], done))

    def _on_written(self, waiting: list[Outcome], done: "asyncio.Future[list[Entry]]") -> None:
        self._writing = False
        self._next_write()  # first, so that the thread works meanwhile
        if error := done.exception():
            for one in waiting:
                _deliver(one, error)
        else:
            self._written.extend(zip(done.result(), waiting, strict=True))
        self._next_answer()

    def _next_answer(self) -> None:
        """Send all that is written to be answered, if nothing is being answered."""
        if self._answering:
            return
        if not self._written:
            if not self._writing:
                self._idle.set()
            return
        batch = list(self._written)
        self._written.clear()
        self._answering = True
        work = asyncio.get_running_loop().run_in_executor(self._answerer, self._answer, [entry for entry, _ in batch])
        work.add_done_callback(lambda done: self._on_answered([outcome for _, outcome in batch], done))

    def _on_answered(self, waiting: list[Outcome], done: "asyncio.Future[list[Told | SegueError]]") -> None:
        self._answering = False
        self._next_answer()
        error = done.exception()
        outcomes: Sequence[Told | BaseException] = [error] * len(waiting) if error else done.result()
        for one, outcome in zip(waiting, outcomes, strict=True):
            _deliver(one, outcome)


def _deliver(waiting: Outcome, outcome: Told | BaseException) -> None:
    if waiting.done():  # its client has gone
        return
    if isinstance(outcome, Told):
        waiting.set_result(outcome)
    else:
        waiting.set_exception(outcome)
