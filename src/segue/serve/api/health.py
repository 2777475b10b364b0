"""Health, numbers and the description of all routes.

Knows: text. Does not know: users or items.
"""

import asyncio
import contextlib
import functools
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse, Response

from segue.serve.api import admin, events, items, pages, recommend, reference, scenarios, users
from segue.serve.api.answers import HealthOut, ReadinessOut
from segue.serve.http import openapi
from segue.serve.http.routing import Call, Router
from segue.store.base import Readiness

router = Router("server")

#: Seconds until a store that does not answer counts as one that is not ready.
PATIENCE = 8.0


@router.route("GET", "/healthz")
async def get_health(call: Call) -> HealthOut:
    """Say that the process answers."""
    return HealthOut(status="ok")


@router.route("GET", "/readyz", also={503: "It would not, and why."})
async def get_readiness(call: Call) -> ReadinessOut:
    """Say whether what is ingested now would survive a loss of power; 503 and the reason if not."""
    found = Readiness(False, f"store: expected to take a word within {PATIENCE:g} seconds, it has not. Look at it.")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):  # in a thread of its own: those that answer may all be busy
            found = (await asyncio.to_thread(call.context.service.status)).ready
    call.status = 200 if found.ready else 503
    return ReadinessOut(ready=found.ready, reason=found.reason)


@router.route("GET", "/metrics", "read")
async def get_metrics(call: Call) -> PlainTextResponse:
    """Return numbers for Prometheus."""
    text = await call.context.run(call.context.metrics.text)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


@functools.cache
def described() -> dict[str, Any]:
    """Return the description of all routes, as OpenAPI 3.1 says it."""
    return openapi.describe(OPERATIONS)


@router.route("GET", "/openapi.json", hidden=True)
async def api(call: Call) -> Response:
    """Return the description of all routes."""
    return Response(msgspec.json.encode(described()), media_type="application/json")


@functools.cache
def _reference() -> str:
    return reference.page(described())


@router.route("GET", "/docs", hidden=True)
async def docs(call: Call) -> Response:
    """Return the description of all routes for people, without a script and without requests elsewhere."""
    return Response(_reference(), media_type="text/html")


#: All routes of the server; those that come most often first.
OPERATIONS = [
    operation for part in (events, recommend, users, items, scenarios, admin) for operation in part.router.operations
] + [*router.operations, *pages.router.operations]
