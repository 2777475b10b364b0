"""The server as an ASGI application.

Knows: how the middleware, the routes and the service are put together.
Does not know: addresses, ports and processes (`server`).
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from segue.errors import nearest
from segue.serve.api.health import OPERATIONS
from segue.serve.http.app_context import AppContext
from segue.serve.http.batching import Batcher
from segue.serve.http.metrics import Metrics
from segue.serve.http.middleware import Access, Middleware
from segue.serve.http.problems import Refusal
from segue.serve.http.routing import Routes
from segue.serve.live.service import Service
from segue.serve.live.state_tokens import sealer_of

#: The words of addresses, and those they are often taken for.
_WORDS = {"bundle": "model", "bundles": "model"}


def make_app(
    service: Service, *, access: Access | None = None, metrics: Metrics | None = None, rollouts: bool = False
) -> Starlette:
    """Return the application of a service.

    Args:
        service: that does the work; it is not closed with the application.
        access: who is let in; left out, anybody on this machine.
        metrics: to be shared with what else measures.
        rollouts: whether models may be rolled out by HTTP.
    """
    access = access or Access()
    metrics = metrics or Metrics(service.online_metrics, service.index_recall, service.faults, service.trends)
    sealer = sealer_of(service.store)

    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        ingests = Batcher(service.ingest, weight=lambda ingest: len(ingest.events), seen=metrics.batch)
        context = AppContext(service, access, sealer, metrics, ingests, Batcher(service.recommend_each), rollouts)
        app.state.context = context
        yield
        await context.close()

    app = Starlette(lifespan=living)
    routes = Routes(OPERATIONS, _no_route)
    # In place of Starlette's own, which handle errors that the middleware and the routes have answered.
    app.middleware_stack = Middleware(routes, access=access, metrics=metrics, lifespan=app.router)
    return app


def _no_route(method: str, path: str, taken: Collection[str]) -> Refusal:
    """Say why no route takes a request: its path has none (404), or takes other methods (405)."""
    if taken:
        allow = {"Allow": ", ".join(sorted(taken))}
        takes = " or ".join(sorted(set(taken) - {"HEAD"}))
        return Refusal(405, f"{method[:10]}: the route takes {takes}. See /docs.", allow)
    words = "/".join(_WORDS.get(word, word) for word in path[:200].split("/"))
    near = nearest(words, [one.path for one in OPERATIONS])
    meant = f"Did you mean `{near}`?" if near else "See /docs."
    return Refusal(404, f"Not found: no route `{path[:100]}`. {meant}")
