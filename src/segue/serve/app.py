"""The server as an ASGI application.

Knows: how the gate, the routes and the service are put together.
Does not know: addresses, ports and processes (`running`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from segue.serve.api import health, items, recommend, users
from segue.serve.api.answer_schemas import ProblemOut
from segue.serve.http.app_context import PROBLEM, Desk
from segue.serve.http.batching import Batcher
from segue.serve.http.bodies import Receive
from segue.serve.http.metrics import Metrics
from segue.serve.http.middleware import Access, Gate, Scope, Send
from segue.serve.http.problems import refusal
from segue.serve.http.state_tokens import sealer_of
from segue.serve.live.service import Service

DESCRIPTION = (
    "Events in, lists out. Ids are texts; in a path they are percent-encoded, the slash too. Times are seconds "
    "since 1970 or ISO 8601. Errors are problem documents (RFC 9457). Where the server asks for keys, each route "
    "needs a role (read, write or admin; each may do what those before it may): Authorization: Bearer KEY."
)


class Gated(FastAPI):
    """Routes behind a gate. What the framework wraps around every request stands behind it, too."""

    gate: Gate

    def openapi(self) -> dict[str, Any]:
        """Return the description of all routes, with all shapes under `components`."""
        if self.openapi_schema is None:
            api = super().openapi()
            shapes = models_json_schema([(ProblemOut, "serialization")], ref_template="#/components/schemas/{model}")[1]
            found = {name.replace(ProblemOut.__name__, PROBLEM): shape for name, shape in shapes["$defs"].items()}
            api["components"]["schemas"] = dict(sorted((api["components"]["schemas"] | found).items()))
        return self.openapi_schema or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the gate answer or let through what comes."""
        await self.gate(scope, receive, send)

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what the gate has let through."""
        await super().__call__(scope, receive, send)


def make_app(
    service: Service, *, access: Access | None = None, metrics: Metrics | None = None, swaps: bool = False
) -> Gated:
    """Return the application of a service.

    Args:
        service: that does the work; it is not closed with the application.
        access: who is let in; left out, anybody on this machine.
        metrics: to be shared with what else measures.
        swaps: whether models may be swapped by HTTP.
    """
    access = access or Access()
    metrics = metrics or Metrics(service.live_quality, service.index_recall, service.faults)
    sealer = sealer_of(service.store)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        tells = Batcher(service.tell, weight=lambda tell: len(tell.events), seen=metrics.batch)
        app.state.desk = Desk(service, access, sealer, metrics, tells, Batcher(service.ask_each), swaps)
        yield
        await app.state.desk.close()

    app = Gated(
        title="Segue", version="1", description=DESCRIPTION, lifespan=living,
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    for part in (users, recommend, items, health):
        app.include_router(part.router)
    app.add_exception_handler(HTTPException, _framework)
    app.gate = Gate(app.behind, access=access, metrics=metrics, desk=lambda: app.state.desk)
    return app


async def _framework(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses itself (404, 405) with a document, too."""
    return refusal(error, request.url.path)
