"""Where routes find what they need, and what all of them have in common.

Knows: the service and its threads, roles, how an error of a route becomes a document.
Does not know: what a single route does.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from segue.serve.http.auth import Role
from segue.serve.http.batching import Batcher, run_in
from segue.serve.http.bodies import parse_json
from segue.serve.http.metrics import Metrics
from segue.serve.http.middleware import Access, allow
from segue.serve.http.problems import Problem, refusal, unknown_name
from segue.serve.http.state_tokens import Sealer
from segue.serve.live.service import Service
from segue.serve.ranking.types import Answer, Ask, Tell, Told

P = ParamSpec("P")
T = TypeVar("T")

#: Threads that answer questions; NumPy lets several work side by side.
THREADS = 4
#: Threads in which erasures wait until no file holds what was erased; those who wait together wait for the same.
ERASURES = 32
#: In the OpenAPI page, the name under which a route says its role.
ROLE = "x-role"
#: The name of problem documents in the OpenAPI page.
PROBLEM = "Problem"
_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}}}}
#: What any route may answer beside what it is for.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "What was expected, what came, what to do (RFC 9457).", **_PROBLEM},
    "5XX": {"description": "It cannot be done just now; nothing of it was done.", **_PROBLEM},
}


@dataclass(frozen=True, eq=False)
class Desk:
    """What routes work with.

    Args:
        service: that does the work.
        access: who is let in.
        sealer: of the tokens.
        metrics: of this server.
        tells: gathers events.
        asks: gathers those who want a list alone.
        pool: of threads that answer.
        swaps: whether models may be swapped by HTTP.
        erasures: of threads that erase, so that nobody else waits for them.
    """

    service: Service
    access: Access
    sealer: Sealer
    metrics: Metrics
    tells: Batcher[Tell, Told]
    asks: Batcher[Ask, Answer | None]
    swaps: bool = False
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="segue-ask")
    )
    erasures: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(ERASURES, thread_name_prefix="segue-erase")
    )

    async def ask(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something of the service in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, lambda: _done(work, *args, **kwargs))

    async def erase(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an erasure in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self.erasures, lambda: _done(work, *args, **kwargs))

    def later(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run something of the service in a thread, and tell what came of it, in the event loop."""
        run_in(self.pool, work, done)

    async def close(self) -> None:
        """Write what has come, and let the threads go."""
        await self.tells.close()
        await self.asks.close()
        self.pool.shutdown(cancel_futures=True)
        self.erasures.shutdown(wait=False, cancel_futures=True)  # who asked for what is not done was not told it is


def _done(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do some work; what would end a process ends this work alone."""
    try:
        return work(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(type(error).__name__) from None


def desk_of(request: Request) -> Desk:
    """Return the desk of the server that a request came to."""
    desk: Desk = request.app.state.desk
    return desk


class StrictRequest(Request):
    """A request whose JSON says one thing."""

    async def json(self) -> Any:
        """Return what the body says; see `parse_json`."""
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body(), desk_of(self).access.limits.depth)
        return self._json


class Route(APIRoute):
    """A route that asks for its role before it reads anything, and answers every error with a document.

    Parameters that it does not know are refused, so that a misspelt one is not lost without a word.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        inner = super().get_route_handler()
        role: Role = (self.openapi_extra or {}).get(ROLE, "read")
        named = {field.alias for field in self.dependant.query_params}

        async def handle(request: Request) -> Response:
            request.scope["segue.route"] = self.path
            try:
                allow(request.scope, role)
                for name in request.query_params:
                    if name not in named:
                        raise Problem(422, f"query.{name[:100]}: {unknown_name(name, named)}. See /docs.")
                strict = StrictRequest(request.scope, request.receive)
                return await inner(strict)
            except Exception as error:
                return refusal(error, request.url.path)

        return handle


def new_router() -> APIRouter:
    """Return a router of such routes."""
    return APIRouter(route_class=Route, responses=PROBLEMS)


def needs(role: Role) -> dict[str, Any]:
    """Return what a route says of its role."""
    return {ROLE: role}
