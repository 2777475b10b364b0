"""What an answer means, and when a request is sent again.

Knows: statuses, problem documents, pauses. Does not know: sockets; the clients send and wait.

All requests may be sent again: those that only read, those that say how something shall be, and events, which have
an id each before the first attempt.
"""

import random
from collections.abc import Generator
from email.utils import parsedate_to_datetime
from time import time
from typing import NamedTuple, TypeVar

import httpx2
import msgspec

from segue.client.calls import Request
from segue.errors import ArgumentError, ConflictError, ErasedError, NotFoundError, SegueError, ServerError
from segue.serve.http.problems import Problem

T = TypeVar("T")

#: Statuses that may be others in a moment.
PASSING = frozenset((408, 425, 429, 502, 503, 504))
#: What other statuses mean; those that are not here are a `ServerError`.
_ERRORS: dict[int, type[SegueError]] = {
    400: ArgumentError, 404: NotFoundError, 409: ConflictError, 410: ErasedError, 413: ArgumentError,
    422: ArgumentError,
}  # fmt: skip
#: Seconds after the first attempt, doubled after each, and at most.
FIRST, LONGEST = 0.1, 10.0
#: Seconds that a server may ask to wait for.
PATIENCE = 60.0


class Pause(NamedTuple):
    """Seconds to wait for."""

    seconds: float


def exchange(request: Request[T], retries: int) -> Generator[Request[T] | Pause, httpx2.Response | None, T]:
    """Give what is to be done next, a request to send or a pause to make; return the value of the answer.

    Send the response to a request, or throw the `httpx2.TransportError`.

    Args:
        request: to be sent.
        retries: how often it is sent again.

    Raises:
        SegueError: the server refused it, or gave no answer.
    """
    attempt = -1
    while True:
        attempt += 1
        asked: float = 0.0
        error: SegueError | None
        try:
            response = yield request
        except httpx2.TransportError as failed:
            error = _no_answer(request, attempt + 1, failed)
        else:
            assert response is not None
            error = error_of(request, response)
            if error is None:
                return _value(request, response)
            asked = _retry_after(response)
            if response.status_code not in PASSING or asked > PATIENCE:
                raise error
        if attempt >= retries:
            raise error from None
        yield Pause(max(asked, min(LONGEST, FIRST * 2.0 ** min(attempt, 20)) * random.uniform(0.5, 1.0)))


def error_of(request: Request[T], response: httpx2.Response) -> SegueError | None:
    """Return what a response means where it is no answer: a problem, or not of a server of Segue."""
    status, media = response.status_code, response.headers.get("content-type", "").partition(";")[0]
    if media == "application/problem+json":
        try:
            detail = msgspec.json.decode(response.content, type=Problem).detail
        except msgspec.DecodeError:
            detail = "the server says no more."
        return _ERRORS.get(status, ServerError)(f"{detail} ({request.method} {request.route}: {status})")
    if status < 300 or media == "application/json":  # not ready is an answer too, with 503
        return None
    return ServerError(
        f"{request.method} {request.route}: expected an answer of Segue, came {status} {media}. "
        "Check the address, and what stands between."
    )


def _value(request: Request[T], response: httpx2.Response) -> T:
    try:
        return request.read(response.content)
    except (msgspec.DecodeError, UnicodeError):
        raise ServerError(
            f"{request.method} {request.route}: expected an answer as this version of Segue gives it, came another. "
            "Check the address, and that client and server are of one version."
        ) from None


def _no_answer(request: Request[T], attempts: int, error: httpx2.TransportError) -> ServerError:
    """Say that nothing came, without the words of the error, which may quote headers."""
    return ServerError(
        f"{request.method} {request.route}: expected an answer, came none in {attempts} attempts "
        f"({type(error).__name__}). Check the address and that the server runs; it is safe to send it again."
    )


def _retry_after(response: httpx2.Response) -> float:
    """Return the seconds that a server asks to wait for."""
    text = response.headers.get("retry-after", "")
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return 0.0
