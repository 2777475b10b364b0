"""Health, numbers, the page and the description of all routes.

Knows: files of the page, text. Does not know: users or items.
"""

import asyncio
import contextlib
from html import escape
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from segue.errors import NotFoundError
from segue.serve.api.answer_schemas import HealthOut, ReadinessOut
from segue.serve.api.serializers import reply
from segue.serve.http.app_context import ROLE, desk_of, needs, new_router
from segue.store.base import Readiness

router = new_router()

#: Seconds until a store that does not answer counts as one that is not ready.
PATIENCE = 8.0
PAGE = Path(__file__).parents[1] / "static"
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".css": "text/css",
}


@router.get("/healthz", response_model=HealthOut, tags=["server"])
async def get_health() -> Response:
    """Say that the process answers."""
    return reply({"status": "ok"})


@router.get(
    "/readyz",
    response_model=ReadinessOut,
    responses={503: {"model": ReadinessOut, "description": "It would not, and why."}},
    tags=["server"],
)
async def get_readiness(request: Request) -> Response:
    """Say whether what is told now would survive a loss of power; 503 and the reason if not."""
    desk = desk_of(request)
    found = Readiness(False, f"store: expected to take a word within {PATIENCE:g} seconds, it has not. Look at it.")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):  # in a thread of its own: those that answer may all be busy
            found = (await asyncio.to_thread(desk.service.status)).ready
    return reply(found, 200 if found.ready else 503)


@router.get("/metrics", openapi_extra=needs("read"), tags=["server"], response_class=PlainTextResponse)
async def get_metrics(request: Request) -> Response:
    """Return numbers for Prometheus."""
    text = await desk_of(request).ask(desk_of(request).metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _file(name: str) -> Response:
    path = PAGE / name
    if not path.is_file():
        raise NotFoundError("page: expected its files in the package, found none. See /docs.")
    return Response(path.read_bytes(), media_type=_KINDS[path.suffix])


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """Return the page."""
    return _file("index.html")


@router.get("/page.js", include_in_schema=False)
async def script() -> Response:
    """Return the script of the page."""
    return _file("page.js")


@router.get("/page.css", include_in_schema=False)
async def style() -> Response:
    """Return the style of the page."""
    return _file("page.css")


@router.get("/page.svg", include_in_schema=False)
async def icon() -> Response:
    """Return the icon of the page."""
    return _file("page.svg")


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Return the description of all routes."""
    app: FastAPI = request.app
    return reply(app.openapi())


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Return the description of all routes for people, without a script and without requests elsewhere."""
    app: FastAPI = request.app
    return Response(_described(app.openapi()), media_type="text/html")


def _described(api: dict[str, Any]) -> str:
    """Return a page of all routes, with an example of each body."""
    schemas = api["components"]["schemas"]
    parts = [f"<h1>{escape(api['info']['title'])}</h1>", f"<p>{escape(api['info']['description'])}</p>"]
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            parts.append(f"<h2>{method.upper()} {escape(path)}</h2>")
            parts.append(f"<p>{escape(route['description'])} Role: {route.get(ROLE, 'none')}.</p>")
            asked = [f"<li>{escape(one['name'])} {escape(one.get('description', ''))}</li>"
                     for one in route.get("parameters", [])]  # fmt: skip
            parts.append(f"<ul>{''.join(asked)}</ul>" if asked else "")
            body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            for one in body.get("oneOf", [body]):
                for example in schemas.get(one.get("$ref", "").rpartition("/")[2], {}).get("examples", []):
                    parts.append(f"<pre>{escape(msgspec.json.encode(example).decode())}</pre>")
    parts.append('<p><a href="/openapi.json">openapi.json</a></p>')
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Segue: routes</title>'
    return f"{head}<body>{''.join(parts)}</body></html>"
