"""What is sent when a request is refused: problem documents (RFC 9457), never a traceback.

Knows: which status each error has, and how a document looks.
Does not know: when an error is raised.
"""

import logging
import traceback
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
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
)
from segue.serve.api.schemas import body_names

logger = logging.getLogger("segue.serve")

#: What a client may find at `type`, by status.
KINDS = {
    400: ("malformed", "The request cannot be read"),
    401: ("key-missing", "A valid API key is needed"),
    403: ("key-too-weak", "The API key may not do this"),
    404: ("not-found", "There is no such thing"),
    405: ("method", "The address does not take this method"),
    408: ("too-slow", "The body came too slowly"),
    409: ("conflict", "It contradicts what is there"),
    410: ("forgotten", "It was erased on request"),
    413: ("too-large", "The body is too large"),
    415: ("media-type", "The body is not application/json"),
    421: ("host", "The Host header names another server"),
    422: ("invalid", "The request says something that cannot be"),
    429: ("too-many", "Too many requests"),
    500: ("internal", "Something went wrong here"),
    503: ("unavailable", "It cannot be done just now"),
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
#: Errors of one request that are told; the rest is left out.
SHOWN = 10
#: What was expected, by what the checking library calls it and by the bounds that it names.
EXPECTED = {
    "missing": "expected, and not there",
    "string_type": "expected a text in quotes",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "list_type": "expected a list",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "greater_than_equal": "expected {ge:g} or more",
    "less_than_equal": "expected {le:g} or less",
    "string_too_short": "expected a text of at least {min_length}",
    "string_too_long": "expected a text of at most {max_length} characters",
    "too_short": "expected at least {min_length}",
    "too_long": "expected at most {max_length}",
    "literal_error": "expected {expected}",
}
#: Parts of a place that name a way of reading it, not where it is.
READINGS = {"one", "many", "int", "float", "str", "bool"}


class Problem(HTTPException):
    """A request is refused; `detail` says what was expected, what came, and what to do."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


def refusal(error: Exception, instance: str) -> Response:
    """Return the document for an error.

    Args:
        error: any; what is not foreseen becomes a 500 that says nothing of its cause, which is logged by its
            place in the code alone, since messages may hold ids.
        instance: the path that was asked for.

    Example:
        >>> refusal(NotFoundError("item: there is none"), "/v1/similar/9").status_code
        404
    """
    if isinstance(error, RequestValidationError):
        # a name that is not known first: it may be why another is missing
        raised = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        told = {one["where"]: one for one in map(_told, raised)}  # of several ways to read a place the last is widest
        errors = list(told.values())[:SHOWN]
        detail = f"{errors[0]['where']}: {errors[0]['what']}. See /docs." if errors else "See /docs."
        return document(422, detail, instance, more={"errors": errors})
    if isinstance(error, HTTPException):
        headers = {name: value for name, value in (error.headers or {}).items() if name.lower() != "content-type"}
        return document(error.status_code, _detail(error), instance, headers=headers)
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
    more: Mapping[str, Any] | None = None,
) -> Response:
    """Return a problem document."""
    kind, title = KINDS.get(status, ("other", HTTPStatus(status).phrase))
    body = {"type": f"urn:segue:problem:{kind}", "title": title, "status": status, "detail": detail}
    whole = msgspec.json.encode({**body, "instance": instance, **(more or {})})
    return Response(whole, status, dict(headers or {}), media_type="application/problem+json")


def unknown_name(name: str, known: Iterable[str]) -> str:
    """Say that a name is not among those known, and which one may have been meant.

    Example:
        >>> unknown_name("exlude", ["exclude", "user"])
        'there is no such name here; the nearest is exclude'
        >>> unknown_name("colour", ["exclude", "user"])
        'there is no such name here'
    """
    near = next(iter(get_close_matches(name[:100], sorted(known), n=1)), None)
    return "there is no such name here" + (f"; the nearest is {near}" if near else "")


def _told(error: Mapping[str, Any]) -> dict[str, str]:
    where = [str(part) for part in error["loc"] if part not in READINGS and "[" not in str(part)]
    if error["type"] == "extra_forbidden":
        what = unknown_name(where[-1], body_names())
    elif error["type"] in EXPECTED:
        what = EXPECTED[error["type"]].format(**error.get("ctx", {}))
        came = error.get("input")
        if error["type"] != "missing" and (came is None or isinstance(came, (str, int, float))):
            what += f", came {msgspec.json.encode(came).decode(errors='replace')[:60]}"
    else:
        what = str(error["msg"]).removeprefix("Value error, ")
    return {"where": ".".join(where)[:200], "what": what[:300]}


def _detail(error: HTTPException) -> str:
    if error.status_code == 404 and error.detail == "Not Found":
        return "Expected an address of this server, came another. See /docs."
    if error.status_code == 405:
        return "Expected another method at this address. See /docs."
    return str(error.detail)


def raised_at(error: BaseException) -> str:
    """Return where an error was raised, innermost last, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
