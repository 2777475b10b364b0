"""The pages of a server: the shop window and the page of the operator.

Knows: files. Does not know: users or items; a page asks the routes of the API, as any other client.
"""

from pathlib import Path

from starlette.responses import Response

from segue.errors import NotFoundError
from segue.serve.api.schemas import PathId
from segue.serve.http.routing import Call, Router

router = Router(None)

PAGES = Path(__file__).parents[1] / "static"
_KINDS = {".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml", ".css": "text/css"}


def _file(name: str) -> Response:
    path = PAGES / name
    if path.suffix not in _KINDS or path.parent != PAGES or not path.is_file():
        raise NotFoundError("page: expected the name of a file of the page, there is none of this name. See /docs.")
    return Response(path.read_bytes(), media_type=_KINDS[path.suffix])


@router.route("GET", "/")
async def shop_window(call: Call) -> Response:
    """Return the shop window."""
    return _file("shop.html")


@router.route("GET", "/operator")
async def operator_page(call: Call) -> Response:
    """Return the page of the operator."""
    return _file("operator.html")


@router.route("GET", "/page/{name}")
async def page_file(call: Call, name: PathId) -> Response:
    """Return a script, the style or the icon of the pages."""
    return _file(name)
