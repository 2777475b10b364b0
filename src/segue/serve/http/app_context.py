"""What routes work with: the service and the threads in which it is called.

Knows: threads. Does not know: what a single route does.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from segue.recommend.lists.options import ListOptions
from segue.serve.http.batching import Batcher
from segue.serve.http.metrics import Metrics
from segue.serve.http.middleware import Access
from segue.serve.live.service import Service
from segue.serve.live.state_tokens import Sealer
from segue.serve.ranking.types import Answer, IngestRequest, IngestResult, RecommendRequest

P = ParamSpec("P")
T = TypeVar("T")

#: Threads that answer; NumPy lets several work side by side.
THREADS = 4
#: Threads in which erasures wait until no file holds what was erased; those who wait together wait for the same.
ERASURES = 32


@dataclass(frozen=True, eq=False)
class AppContext:
    """What routes work with.

    Args:
        service: that does the work.
        access: who is let in.
        sealer: of the tokens.
        metrics: of this server.
        ingests: gathers requests with events.
        recommends: gathers requests for a list alone.
        pool: of threads that answer.
        rollouts: whether models may be rolled out by HTTP.
        erasures: of threads that erase, so that nobody else waits for them.
    """

    service: Service
    access: Access
    sealer: Sealer
    metrics: Metrics
    ingests: Batcher[IngestRequest, IngestResult]
    recommends: Batcher[RecommendRequest, Answer | None]
    rollouts: bool = False
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="segue-answer")
    )
    erasures: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(ERASURES, thread_name_prefix="segue-erase")
    )

    def now(self) -> int:
        """Return microseconds since 1970."""
        return int(self.service.clock() * 1e6)

    async def recommend(self, user: str, options: ListOptions) -> Answer:
        """Return the list of a user, made with others that are wanted at the same moment."""
        answer = await self.recommends.send(RecommendRequest(user, options))
        if answer is None:  # events are replayed first, and nobody else is to wait for it
            answer = await self.run(self.service.recommend, user, options)
        return answer

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something of the service in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, lambda: _done(work, *args, **kwargs))

    async def erase(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an erasure in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self.erasures, lambda: _done(work, *args, **kwargs))

    async def close(self) -> None:
        """Write what has come, and let the threads go."""
        await self.ingests.close()
        await self.recommends.close()
        self.pool.shutdown(cancel_futures=True)
        self.erasures.shutdown(wait=False, cancel_futures=True)  # an erasure that is not done was not acknowledged


def _done(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do some work; what would end a process ends this work alone."""
    try:
        return work(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(type(error).__name__) from None
