"""What is sent when a request is refused: problem documents (RFC 9457), never a traceback.

Knows: which status each error has, and how a document looks.
Does not know: when an error is raised.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from segue.errors import (
    ArgumentError,
    ConflictError,
    DataError,
    ErasedError,
    ModelError,
    NotFoundError,
    SegueError,
    StoreError,
    nearest,
)
from segue.serve.live.background import raised_at

logger = logging.getLogger("segue.serve")

#: What a client may find at `type`, by status, and the title.
KINDS = {
    400: ("malformed", "The request cannot be read"),
    401: ("key-missing", "A valid API key is needed"),
    403: ("key-too-weak", "The API key may not do this"),
    404: ("not-found", "Not found"),
    405: ("method", "Method not allowed"),
    408: ("too-slow", "The body came too slowly"),
    409: ("conflict", "Conflict with what is stored"),
    410: ("erased", "Erased on request"),
    413: ("too-large", "The body is too large"),
    415: ("media-type", "The body is not application/json"),
    421: ("host", "The Host header names another server"),
    422: ("invalid", "Invalid request"),
    429: ("too-many", "Too many requests"),
    431: ("headers-too-large", "The headers are too large"),
    500: ("internal", "Internal error"),
    503: ("unavailable", "Temporarily unavailable"),
}
#: The first that fits decides.
STATUSES: Sequence[tuple[type[SegueError], int]] = (
    (ErasedError, 410),
    (ConflictError, 409),
    (StoreError, 503),
    (NotFoundError, 404),
    (ArgumentError, 422),
    (DataError, 422),
    (ModelError, 422),
)


class Place(msgspec.Struct):
    """What is wrong at one place of a request."""

    where: str
    what: str


class Problem(msgspec.Struct):
    """A problem document (RFC 9457): what was expected, what came, what to do."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[Place] | msgspec.UnsetType = msgspec.UNSET


class Refusal(HTTPException):
    """A request is refused; `detail` says what was expected, what came, and what to do."""

    errors: tuple[Place, ...] = ()

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


class Invalid(Refusal):
    """A request says something that does not fit its description, at one place."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(422, f"{where}: {what}{'' if what.endswith('?') else '.'} See /docs.")
        self.errors = (Place(where, what),)


def problem_of(error: Exception, instance: str) -> Response:
    """Return the document for an error.

    Args:
        error: any; an unforeseen error becomes a 500 that says nothing of its cause, which is logged by its
            place in the code alone, since messages may hold ids.
        instance: the path of the request.

    Example:
        >>> problem_of(NotFoundError("item: there is none"), "/v1/similar/9").status_code
        404
    """
    if isinstance(error, HTTPException):
        headers = {name: value for name, value in (error.headers or {}).items() if name.lower() != "content-type"}
        errors = error.errors if isinstance(error, Refusal) else ()
        return document(error.status_code, str(error.detail), instance, headers=headers, errors=errors)
    if isinstance(error, SegueError):
        status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
        if status < 500:
            return document(status, str(error), instance)
        if status == 503:
            logger.error("store: %s", type(error).__name__)
            return document(503, str(error), instance, headers={"Retry-After": "1"})
    logger.error("unforeseen %s at %s", type(error).__name__, raised_at(error))
    return document(500, "It was logged. Try again, or tell the operator of this server.", instance)


def document(
    status: int,
    detail: str,
    instance: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Place] = (),
) -> Response:
    """Return a problem document."""
    kind, title = KINDS.get(status, ("other", HTTPStatus(status).phrase))
    places = list(errors) or msgspec.UNSET
    body = Problem(f"urn:segue:problem:{kind}", title, status, detail, instance, places)
    return Response(msgspec.json.encode(body), status, dict(headers or {}), media_type="application/problem+json")


def unknown_name(name: str, known: Iterable[str]) -> str:
    """Say that a name is not among those known, and which one may have been meant.

    Example:
        >>> unknown_name("exlude", ["exclude", "user"])
        'unknown name. Did you mean exclude?'
        >>> unknown_name("colour", ["exclude", "user"])
        'unknown name'
    """
    near = nearest(name, sorted(known))
    return "unknown name" + (f". Did you mean {near}?" if near else "")
