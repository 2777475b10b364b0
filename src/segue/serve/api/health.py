"""What a server says of itself: health, numbers, the description of all routes, and its pages.

Knows: text and files. Does not know: users or items; a page asks the routes of the API, as any other client.
"""

import asyncio
import contextlib
import functools
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse, Response

from segue.errors import NotFoundError
from segue.serve.api import admin, events, items, recommend, reference, scenarios, users
from segue.serve.api.answers import HealthOut, ReadinessOut
from segue.serve.api.schemas import PathId
from segue.serve.http import openapi
from segue.serve.http.routing import Call, Router
from segue.store.base import Readiness

router = Router("server")

#: Seconds until a store that does not answer counts as one that is not ready.
PATIENCE = 8.0
PAGES = Path(__file__).parents[1] / "static"
_KINDS = {".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml", ".css": "text/css"}


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


def _file(name: str) -> Response:
    path = PAGES / name
    if path.suffix not in _KINDS or path.parent != PAGES or not path.is_file():
        raise NotFoundError("page: expected the name of a file of the page, there is none of this name. See /docs.")
    return Response(path.read_bytes(), media_type=_KINDS[path.suffix])


@router.route("GET", "/", hidden=True)
async def shop_window(call: Call) -> Response:
    """Return the shop window."""
    return _file("shop.html")


@router.route("GET", "/operator", hidden=True)
async def operator_page(call: Call) -> Response:
    """Return the page of the operator."""
    return _file("operator.html")


@router.route("GET", "/page/{name}", hidden=True)
async def page_file(call: Call, name: PathId) -> Response:
    """Return a script, the style or the icon of the pages."""
    return _file(name)


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
] + router.operations
